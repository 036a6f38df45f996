// SPDX-License-Identifier: Apache-2.0
//
// The reconciler against the kernel, in a network namespace of its own.
#include "agent/reconcile.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/conformance.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr const char* kWeb = R"(
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  ports: [{{port: 80, nodePort: 30080}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{{addresses: [{}]}}]
)";

class Reconcile : public Sandbox {
 protected:
  void SetUp() override {
    Sandbox::SetUp();
    if (IsSkipped()) return;
    char pattern[] = "/tmp/maglane-reconcile-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    add_veth("eth0");
    run("ip addr add 10.9.0.1/24 dev eth0 && ip route add default via 10.9.0.254");
    config_.node_name = "node-a";
    config_.manifests = directory_;
    config_.bpffs = root_;
    config_.flow_table_size = 1024;
    config_.maglev_entries = 65536;
    config_.snat_ports = {{2000, 2999}};
    config_.pod_devices = {"pod*"};
    write("web.yaml", fmt::format(kWeb, "10.244.0.5"));
  }
  void TearDown() override {
    reconciler_.reset();
    std::filesystem::remove_all(directory_);
    Sandbox::TearDown();
  }

  void write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name + "~") << text;
    std::filesystem::rename(directory_ + "/" + name + "~", directory_ + "/" + name);
  }
  void start_agent() {
    reconciler_.reset();
    board_ = std::make_unique<StatusBoard>();
    auto started = Reconciler::start(config_, *board_);
    ASSERT_TRUE(started.ok()) << started.error().message;
    reconciler_ = std::move(*started);
    run_until([&] { return reconciler_->synced(); });
  }
  // Runs the event loop until `done`, 10 s at most.
  void run_until(const std::function<bool()>& done) {
    auto deadline = Reconciler::Clock::now() + 10s;
    while (!done() && Reconciler::Clock::now() < deadline) {
      pollfd fds[] = {{reconciler_->source_fd(), POLLIN, 0}, {reconciler_->network_fd(), POLLIN, 0}};
      ::poll(fds, 2, 10);
      if (fds[0].revents) reconciler_->on_source();
      if (fds[1].revents) reconciler_->on_network();
      reconciler_->run_due();
    }
    EXPECT_TRUE(done());
  }
  PinnedMaps maps() {
    auto maps = PinnedMaps::open(root_);
    EXPECT_TRUE(maps.ok()) << maps.error().message;
    return std::move(*maps);
  }
  bool has_backend(const char* address) {
    uint32_t be[4] = {};
    IpAddress::parse(address)->to_be(be);
    auto contents = maps().read_contents();
    for (const auto& [id, backend] : contents->backends) {
      if (backend.addr_be[0] == be[0]) return true;
    }
    return false;
  }
  uint32_t epoch() { return maps().read_node_state()->epoch; }
  std::string problems() {
    std::string text;
    const v1::Status status = board_->read();
    for (const auto& p : status.problems()) text += p.where() + ": " + p.message() + "\n";
    return text;
  }

  std::string directory_;
  Config config_;
  std::unique_ptr<StatusBoard> board_;
  std::unique_ptr<Reconciler> reconciler_;
};

TEST_F(Reconcile, NothingIsAttachedBeforeTheFirstUpdate) {
  test::proves({30});
  board_ = std::make_unique<StatusBoard>();
  auto started = Reconciler::start(config_, *board_);
  ASSERT_TRUE(started.ok()) << started.error().message;
  reconciler_ = std::move(*started);
  EXPECT_EQ(link_id("eth0:tc-ingress"), 0U);
  EXPECT_TRUE(maps().read_contents()->frontends.empty());
  EXPECT_FALSE(board_->read().synced());
  run_until([&] { return reconciler_->synced(); });
  EXPECT_NE(link_id("eth0:tc-ingress"), 0U);
  EXPECT_TRUE(board_->read().synced());
  EXPECT_EQ(board_->read().node_address_ipv4(), "10.9.0.1");
  EXPECT_TRUE(has_backend("10.244.0.5"));
}

TEST_F(Reconcile, ARestartChangesNothing) {
  test::proves({30, 31});
  start_agent();
  auto before = maps().read_contents();
  uint32_t link = link_id("eth0:xdp"), epoch_before = epoch();
  start_agent();
  auto after = maps().read_contents();
  EXPECT_EQ(before->frontends.size(), after->frontends.size());
  EXPECT_EQ(before->maglev, after->maglev);
  EXPECT_EQ(link_id("eth0:xdp"), link);
  EXPECT_NE(epoch(), epoch_before) << "routes may have changed meanwhile";
}

TEST_F(Reconcile, FollowsTheManifests) {
  start_agent();
  write("web.yaml", fmt::format(kWeb, "10.244.0.6"));
  run_until([&] { return has_backend("10.244.0.6"); });
  EXPECT_FALSE(has_backend("10.244.0.5"));
}

TEST_F(Reconcile, ABadManifestIsAProblemAndItsLastGoodStateStays) {
  start_agent();
  write("web.yaml", "a: [");
  run_until([&] { return problems().find("web.yaml") != std::string::npos; });
  EXPECT_TRUE(has_backend("10.244.0.5"));
  write("web.yaml", fmt::format(kWeb, "10.244.0.7"));
  run_until([&] { return has_backend("10.244.0.7"); });
  EXPECT_EQ(problems().find("web.yaml"), std::string::npos);
}

TEST_F(Reconcile, ResyncRepairsTheMaps) {
  start_agent();
  auto nothing = reconciler_->resync();
  ASSERT_TRUE(nothing.ok());
  EXPECT_EQ(*nothing, 0U);
  auto contents = maps().read_contents();
  std::vector<Operation> damage = {DeleteFrontend{contents->frontends.begin()->first}};
  ASSERT_TRUE(maps().apply(damage).ok());
  auto repaired = reconciler_->resync();
  ASSERT_TRUE(repaired.ok());
  EXPECT_EQ(*repaired, 1U);
  EXPECT_EQ(maps().read_contents()->frontends.size(), contents->frontends.size());
}

TEST_F(Reconcile, PodDevicesComeAndGo) {
  start_agent();
  run("ip link add pod1 type veth peer name peer1");
  run_until([&] { return link_id("pod1:tc-ingress") != 0; });
  run("ip link del pod1");
  run_until([&] { return link_id("pod1:tc-ingress") == 0; });
  EXPECT_EQ(problems().find("attaching"), std::string::npos);
}

TEST_F(Reconcile, TheEpochRisesWithWhatNextHopsDependOn) {
  // An address whose duplicate detection ends meanwhile is a change as well.
  run("while ip -6 addr show tentative | grep -q inet6; do sleep 0.05; done");
  run("ip neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud reachable");
  start_agent();
  // Duplicate address detection raises it too, a second or two after the devices were made.
  uint32_t before = 0;
  auto settled = Reconciler::Clock::now();
  run_until([&] {
    if (epoch() != before) settled = Reconciler::Clock::now() + 2500ms;
    before = epoch();
    return Reconciler::Clock::now() > settled;
  });
  run("ip neigh change 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud stale");
  run_until([settled = Reconciler::Clock::now() + 300ms] { return Reconciler::Clock::now() > settled; });
  EXPECT_EQ(epoch(), before);
  run("ip neigh change 10.9.0.7 lladdr 02:00:00:00:00:08 dev eth0 nud reachable");
  run_until([&] { return epoch() != before; });
  before = epoch();
  run("ip route add 10.77.0.0/16 via 10.9.0.7");
  run_until([&] { return epoch() != before; });
}

// The programs are told as long as it is so, again and again.
TEST_F(Reconcile, NextHopsAreSharedUnlessTheSourceDecides) {
  start_agent();
  const auto shared = [&] { return maps().read_node_state()->shared_hops & ~abi::STAMP_SLOT_MASK; };
  run_until([&] { return shared() == (abi::SHARED_HOPS_IPV4 | abi::SHARED_HOPS_IPV6); });
  const uint32_t first = maps().read_node_state()->shared_hops;
  run_until([&] { return maps().read_node_state()->shared_hops != first; });
  const uint32_t before = epoch();
  run("ip rule add from 10.9.0.0/24 table 77");
  run_until([&] { return shared() == abi::SHARED_HOPS_IPV6; });
  EXPECT_NE(epoch(), before);
  run("ip rule del from 10.9.0.0/24 table 77");
  run_until([&] { return shared() == (abi::SHARED_HOPS_IPV4 | abi::SHARED_HOPS_IPV6); });
}

TEST_F(Reconcile, TheEpochWraps) {
  start_agent();
  abi::node_state state = *maps().read_node_state();
  state.epoch = abi::EPOCH_MAX;
  ASSERT_TRUE(maps().write_node_state(state).ok());
  run("ip route add 10.77.0.0/16 via 10.9.0.7");
  run_until([&] { return epoch() == 1; });
}

TEST_F(Reconcile, NodePortsFollowTheNodesAddress) {
  test::proves({20});
  start_agent();
  size_t before = maps().read_contents()->frontends.size();
  run("ip addr del 10.9.0.1/24 dev eth0");
  run_until([&] { return maps().read_contents()->frontends.size() < before; });
  EXPECT_THAT(problems(), HasSubstr("node ports are not served"));
  run("ip addr add 10.9.0.2/24 dev eth0 && ip route add default via 10.9.0.254");
  run_until([&] { return maps().read_contents()->frontends.size() == before; });
  EXPECT_EQ(board_->read().node_address_ipv4(), "10.9.0.2");
  uint32_t be[4] = {};
  IpAddress::parse("10.9.0.2")->to_be(be);
  EXPECT_EQ(maps().read_node_state()->addr4_be, be[0]);
}

}  // namespace
}  // namespace maglane
