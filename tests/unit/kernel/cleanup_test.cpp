// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <tuple>

#include "agent/kernel/tc_filter.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class Cleanup : public Sandbox {
 protected:
  void end_agent() {
    data_plane_.reset();
    bpffs_.reset();
  }
  void clean() {
    end_agent();
    Status removed = remove_everything(root_);
    EXPECT_TRUE(removed.ok()) << removed.error().message;
    EXPECT_FALSE(std::filesystem::exists(root_));
  }
};

TEST_F(Cleanup, NothingThere) {
  clean();
}

TEST_F(Cleanup, LeavesNothing) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink}, pod0{add_veth("pod0"), "pod0", Role::pod};
  ASSERT_TRUE(start()->attach({up0, pod0}, true).ok());
  // As an inspector may; without tcx there is no second one.
  Fd held(bpf_obj_get(bpffs_->link("up0:xdp").c_str()));
  Fd held_tc(bpf_obj_get(bpffs_->link("pod0:tc-ingress").c_str()));
  EXPECT_FALSE(tc_is_empty(pod0.ifindex));
  clean();
  EXPECT_EQ(xdp_on(up0.ifindex), "none");
  EXPECT_TRUE(tc_is_empty(up0.ifindex));
  EXPECT_TRUE(tc_is_empty(pod0.ifindex));
  clean();
}

TEST_F(Cleanup, FiltersAndTheirQueueingDiscipline) {
  WantedDevice pod0{add_veth("pod0"), "pod0", Role::pod}, pod1{add_veth("pod1"), "pod1", Role::pod};
  run("tc qdisc add dev pod1 clsact");
  tc_ = TcKind::clsact;
  ASSERT_TRUE(start()->attach({pod0, pod1}, true).ok());
  run("tc filter add dev pod1 egress pref 7 bpf da pinned " + bpffs_->program("clock"));
  clean();
  EXPECT_THAT(output("tc qdisc show dev pod0 | grep clsact || true"), IsEmpty());
  EXPECT_THAT(output("tc qdisc show dev pod1"), HasSubstr("clsact"));
  EXPECT_THAT(output("tc filter show dev pod1 egress"), HasSubstr("pref 7"));
  EXPECT_THAT(output("tc filter show dev pod1 ingress"), IsEmpty());
}

TEST_F(Cleanup, FiltersWhoseMarksWereLost) {
  WantedDevice pod0{add_veth("pod0"), "pod0", Role::pod};
  tc_ = TcKind::clsact;
  ASSERT_TRUE(start()->attach({pod0}, true).ok());
  ASSERT_TRUE(bpffs_->remove_all().ok());
  EXPECT_NE(*query_filter(pod0.ifindex, Hook::tc_ingress), 0U);
  clean();
  EXPECT_EQ(*query_filter(pod0.ifindex, Hook::tc_ingress), 0U);
}

TEST_F(Cleanup, AfterAnAgentKilledAtAnyPoint) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink};
  ASSERT_TRUE(start()->attach({up0}, true).ok());
  // Half-made pins, and a part of the maps.
  ASSERT_TRUE(Bpffs::pin(data_plane_->map("flows4"), bpffs_->map("flows4~")).ok());
  ::unlink(bpffs_->map("maglev").c_str());
  ::unlink(bpffs_->program("clock").c_str());
  EXPECT_TRUE(start()->attach({up0}, true).ok());
  EXPECT_FALSE(std::filesystem::exists(bpffs_->map("flows4~")));
  clean();
  EXPECT_EQ(xdp_on(up0.ifindex), "none");
}

// The program itself, on whatever an agent in any XDP mode has attached, on kernels with tcx and
// on those without.
class CleanupByTheAgent : public Cleanup, public testing::WithParamInterface<std::tuple<XdpPolicy, TcKind>> {
 protected:
  void SetUp() override {
    Cleanup::SetUp();
    std::tie(policy_, tc_) = GetParam();
  }
  // All that is attached to a device, by whomever.
  std::string attached(const WantedDevice& device) {
    return output("ip -d link show dev " + device.name + " | grep -o 'prog/xdp.*' || true; tc qdisc show dev " +
                  device.name + " | grep clsact || true") +
           (tc_is_empty(device.ifindex) ? "" : "tc ingress");
  }
  XdpPolicy policy_ = XdpPolicy::off;
};

TEST_P(CleanupByTheAgent, LeavesNothing) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink}, up1{add_veth("up1"), "up1", Role::uplink},
      pod0{add_veth("pod0"), "pod0", Role::pod};
  auto attacher = start(policy_);
  if (tc_ == TcKind::tcx) {
    MAGLANE_NEED_TCX();
  }
  ASSERT_TRUE(attacher->attach({up0, up1, pod0}, true).ok());
  attacher.reset();
  const char* expected = policy_ == XdpPolicy::native ? "native" : policy_ == XdpPolicy::generic ? "generic" : "none";
  EXPECT_EQ(xdp_on(up0.ifindex), expected);
  const std::vector<WantedDevice> devices = {up0, up1, pod0};
  for (const WantedDevice& device : devices) EXPECT_FALSE(attached(device).empty()) << device.name;
  EXPECT_EQ(tcx_count(pod0.ifindex) == 0, tc_ == TcKind::clsact);
  EXPECT_EQ(*query_filter(pod0.ifindex, Hook::tc_ingress) != 0, tc_ == TcKind::clsact);
  end_agent();
  run(std::string(MAGLANE_AGENT) + " --cleanup --bpffs " + root_ + " --socket " + root_ + ".sock");
  EXPECT_FALSE(std::filesystem::exists(root_));
  for (const WantedDevice& device : devices) {
    EXPECT_THAT(attached(device), IsEmpty()) << device.name;
    EXPECT_EQ(xdp_on(device.ifindex), "none");
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, CleanupByTheAgent,
                         testing::Combine(testing::Values(XdpPolicy::native, XdpPolicy::generic, XdpPolicy::off),
                                          testing::Values(TcKind::tcx, TcKind::clsact)));

}  // namespace
}  // namespace maglane
