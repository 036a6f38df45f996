// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/pod_namespaces.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <future>
#include <thread>

#include "agent/kernel/netns.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A pod that has no file in /run/netns: a thread of this process keeps its namespace.
class NamelessPod {
 public:
  NamelessPod()
      : thread_([this] {
          const bool made = ::unshare(CLONE_NEWNET) == 0;
          ready_.set_value(made ? static_cast<int>(::syscall(SYS_gettid)) : -1);
          done_.get_future().wait();
        }),
        thread_id_(ready_.get_future().get()) {}
  ~NamelessPod() {
    done_.set_value();
    thread_.join();
  }
  std::string file() const { return fmt::format("/proc/{}/task/{}/ns/net", ::getpid(), thread_id_); }

 private:
  std::promise<int> ready_;
  std::promise<void> done_;
  std::thread thread_;
  int thread_id_;
};

class PodNamespacesTest : public Sandbox {
 protected:
  static constexpr const char* kPrefix = "maglane-test-";

  void SetUp() override {
    Sandbox::SetUp();
    // Of test runs that were killed.
    for (const std::string& name : Bpffs::list("/run/netns")) {
      if (!name.starts_with(kPrefix)) continue;
      const pid_t pid = std::atoi(name.c_str() + std::string_view(kPrefix).size());
      if (pid > 0 && ::kill(pid, 0) != 0) run("ip netns del " + name);
    }
  }
  void TearDown() override {
    for (const std::string& name : named_) run("ip netns del " + name);
    Sandbox::TearDown();
  }

  // A network namespace with a file, as container runtimes make them.
  std::string add_named() {
    named_.push_back(fmt::format("{}{}-{}", kPrefix, ::getpid(), named_.size()));
    run("ip netns add " + named_.back());
    return named_.back();
  }
  uint64_t cookie_of(const std::string& path) {
    uint64_t cookie = 0;
    Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::thread([&] {
      if (::setns(fd.get(), CLONE_NEWNET) == 0) cookie = *netns_cookie();
    }).join();
    return cookie;
  }
  WantedDevice add_pod(const std::string& device, const std::string& name) {
    run(fmt::format("ip link add {0} type veth peer name {0} netns {1} && ip link set {0} up", device, name));
    return {::if_nametoindex(device.c_str()), device, Role::pod};
  }
  std::vector<uint64_t> in_map() {
    std::vector<uint64_t> cookies;
    uint64_t key = 0;
    const int map = data_plane_->map("pod_namespaces");
    for (int more = bpf_map_get_next_key(map, nullptr, &key); more == 0; more = bpf_map_get_next_key(map, &key, &key))
      cookies.push_back(key);
    return cookies;
  }

  std::vector<std::string> named_;
};

TEST_F(PodNamespacesTest, LearnsTheOtherEndsOfPodDevicesAlone) {
  start();
  const std::string pod = add_named(), other = add_named();
  WantedDevice pod0 = add_pod("pod0", pod), up0 = add_pod("up0", other);
  up0.role = Role::uplink;
  PodNamespaces namespaces(data_plane_);
  EXPECT_THAT(namespaces.update({pod0, up0}), IsEmpty());
  EXPECT_THAT(in_map(), ElementsAre(cookie_of("/run/netns/" + pod)));
  EXPECT_THAT(namespaces.update({}), IsEmpty());
  EXPECT_THAT(in_map(), IsEmpty());
}

TEST_F(PodNamespacesTest, NamesTheDevicesWhosePodsAreServedPerPacket) {
  start();
  NamelessPod pod;
  run("ip link add pod0 type veth peer name eth0 && ip link set pod0 up");
  WantedDevice pod0{::if_nametoindex("pod0"), "pod0", Role::pod};
  PodNamespaces namespaces(data_plane_);
  auto complaints = namespaces.update({pod0});
  ASSERT_EQ(complaints.size(), 1U);
  EXPECT_THAT(complaints[0].where, HasSubstr("pod0"));
  EXPECT_THAT(complaints[0].message, HasSubstr("no network namespace of its own"));
  run(fmt::format("nsenter --net={} ip link set lo up && ip link set eth0 netns {}", pod.file(), pod.file()));
  complaints = namespaces.update({pod0});
  ASSERT_EQ(complaints.size(), 1U);
  EXPECT_THAT(complaints[0].message, HasSubstr("cannot be opened"));
  EXPECT_THAT(in_map(), IsEmpty());
}

TEST_F(PodNamespacesTest, VisitsEachOnce) {
  start();
  const std::string first = add_named(), second = add_named();
  WantedDevice pod0 = add_pod("pod0", first), pod1 = add_pod("pod1", first), pod2 = add_pod("pod2", second);
  std::set<int32_t> numbers;
  for (const WantedDevice& device : {pod0, pod1, pod2}) numbers.insert(*peer_namespace(device.ifindex));
  EXPECT_EQ(numbers.size(), 2U);
  std::multiset<uint64_t> visited;
  visit_namespaces(numbers, [&](int32_t) { visited.insert(*netns_cookie()); });
  EXPECT_EQ(visited, (std::multiset<uint64_t>{cookie_of("/run/netns/" + first), cookie_of("/run/netns/" + second)}));
  visited.clear();
  visit_namespaces(numbers, [&](int32_t) { visited.insert(*netns_cookie()); },
                   {.directories = {"/no/such/directory"}, .proc = "/dev/null"});
  EXPECT_THAT(visited, IsEmpty());
}

}  // namespace
}  // namespace maglane
