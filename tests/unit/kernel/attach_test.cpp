// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <linux/if_link.h>

#include <cstdio>
#include <utility>

#include "agent/kernel/tc_filter.h"
#include "tests/support/conformance.h"
#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Attach : public Sandbox {
 protected:
  void expect_ok(const Status& status) { EXPECT_TRUE(status.ok()) << status.error().message; }
  std::vector<std::string> lines(const Attacher& attacher) {
    std::vector<std::string> result;
    for (const Attachment& a : attacher.attachments()) {
      result.push_back(fmt::format("{} {} {} {}", a.device, to_string(a.role), to_string(a.hook), a.mode));
    }
    return result;
  }
  uint32_t device_flags(uint32_t ifindex) {
    abi::device device{};
    bpf_map_lookup_elem(data_plane_->map("devices"), &ifindex, &device);
    return device.flags;
  }
};

TEST_F(Attach, ProbeFindsTcxWhereTheKernelHasIt) {
  auto attacher = start();
  add_veth("up0");
  WantedDevice up0{add_veth("probe"), "probe", Role::pod};
  Fd link(bpf_link_create(data_plane_->program("tc_pod"), static_cast<int>(up0.ifindex),
                          static_cast<bpf_attach_type>(46), nullptr));
  EXPECT_EQ(has_tcx(), link.ok());
  // So that no test is skipped where it could run.
  int major = 0, minor = 0;
  ASSERT_EQ(std::sscanf(output("uname -r").c_str(), "%d.%d", &major, &minor), 2);
  EXPECT_EQ(has_tcx(), std::pair(major, minor) >= std::pair(6, 6));
}

TEST_F(Attach, UplinkAndPod) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink}, pod0{add_veth("pod0"), "pod0", Role::pod};
  auto attacher = start();
  expect_ok(attacher->attach({up0, pod0}, true));
  EXPECT_THAT(lines(*attacher), ElementsAre("pod0 pod tc-ingress " + tc_mode(), "up0 uplink xdp native",
                                            "up0 uplink tc-ingress " + tc_mode()));
  EXPECT_EQ(xdp_on(up0.ifindex), "native");
  EXPECT_EQ(xdp_on(pod0.ifindex), "none");
  EXPECT_EQ(device_flags(up0.ifindex), unsigned{abi::DEVICE_UPLINK | abi::DEVICE_XDP});
  EXPECT_EQ(device_flags(pod0.ifindex), unsigned{abi::DEVICE_POD});
}

// Connections to such endpoints may outlive the last of them, and the agent.
TEST_F(Attach, EgressFromTheFirstNodeEndpointOn) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink}, pod0{add_veth("pod0"), "pod0", Role::pod};
  auto attacher = start(XdpPolicy::off);
  const std::string up_in = "up0 uplink tc-ingress " + tc_mode(), up_out = "up0 uplink tc-egress " + tc_mode();
  expect_ok(attacher->attach({up0}, true));
  EXPECT_THAT(lines(*attacher), ElementsAre(up_in));
  expect_ok(attacher->attach({up0}, false, true));
  EXPECT_THAT(lines(*attacher), ElementsAre(up_in, up_out));
  expect_ok(attacher->attach({up0, pod0}, false, false));
  EXPECT_THAT(lines(*attacher), ElementsAre("pod0 pod tc-ingress " + tc_mode(),
                                            "pod0 pod tc-egress " + tc_mode(), up_in, up_out));
}

TEST_F(Attach, EgressOfUplinksAloneWherePodsAreMasqueraded) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink}, pod0{add_veth("pod0"), "pod0", Role::pod};
  auto attacher = start(XdpPolicy::off);
  for (int i = 0; i < 2; ++i) {
    expect_ok(attacher->attach({up0, pod0}, false, false, true));
    EXPECT_THAT(lines(*attacher),
                ElementsAre("pod0 pod tc-ingress " + tc_mode(), "up0 uplink tc-ingress " + tc_mode(),
                            "up0 uplink tc-egress " + tc_mode()));
  }
}

TEST_F(Attach, Generic) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink};
  auto attacher = start(XdpPolicy::generic);
  expect_ok(attacher->attach({up0}, true));
  EXPECT_EQ(xdp_on(up0.ifindex), "generic");
  EXPECT_EQ(device_flags(up0.ifindex), unsigned{abi::DEVICE_UPLINK});
}

TEST_F(Attach, AutomaticFallsBackToGeneric) {
  WantedDevice lo{1, "lo", Role::uplink};  // has no native XDP
  auto attacher = start();
  expect_ok(attacher->attach({lo}, true));
  EXPECT_EQ(xdp_on(1), "generic");
  EXPECT_THAT(attacher->attachments()[0].note, HasSubstr("native: Operation not supported"));
}

TEST_F(Attach, ForcedNativeFallsToTcAlone) {
  WantedDevice lo{1, "lo", Role::uplink};
  auto attacher = start(XdpPolicy::native);
  expect_ok(attacher->attach({lo}, true));
  EXPECT_THAT(lines(*attacher), ElementsAre("lo uplink xdp none", "lo uplink tc-ingress " + tc_mode()));
  EXPECT_THAT(attacher->attachments()[0].note, HasSubstr("tc alone"));
}

TEST_F(Attach, Off) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink};
  expect_ok(start()->attach({up0}, true));
  EXPECT_EQ(xdp_on(up0.ifindex), "native");
  auto attacher = start(XdpPolicy::off);
  expect_ok(attacher->attach({up0}, true));
  EXPECT_EQ(xdp_on(up0.ifindex), "none");
  EXPECT_THAT(lines(*attacher), ElementsAre("up0 uplink tc-ingress " + tc_mode()));
}

TEST_F(Attach, RestartSwapsProgramsInPlace) {
  test::proves({31});
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink}, pod0{add_veth("pod0"), "pod0", Role::pod};
  expect_ok(start()->attach({up0, pod0}, true));
  std::vector<std::string> pins = {"up0:xdp"};
  if (has_tcx()) pins.insert(pins.end(), {"up0:tc-ingress", "pod0:tc-ingress"});
  std::vector<uint32_t> links, programs;
  for (const std::string& pin : pins) {
    links.push_back(link_id(pin));
    programs.push_back(link_program(pin));
    EXPECT_NE(links.back(), 0U) << pin;
  }
  expect_ok(start()->attach({up0, pod0}, true));
  for (size_t i = 0; i < pins.size(); ++i) {
    EXPECT_EQ(link_id(pins[i]), links[i]) << pins[i];
    EXPECT_NE(link_program(pins[i]), programs[i]) << pins[i];
  }
}

TEST_F(Attach, DeviceMadeAnew) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink};
  auto attacher = start();
  expect_ok(attacher->attach({up0}, true));
  uint32_t before = link_id("up0:xdp");
  run("ip link del up0");
  WantedDevice again{add_veth("up0"), "up0", Role::uplink};
  ASSERT_NE(again.ifindex, up0.ifindex);
  expect_ok(attacher->attach({again}, false));
  EXPECT_EQ(xdp_on(again.ifindex), "native");
  EXPECT_NE(link_id("up0:xdp"), before);
  EXPECT_EQ(device_flags(up0.ifindex), 0U);
}

TEST_F(Attach, DeviceRenamedKeepsItsLinks) {
  WantedDevice pod{add_veth("pod0"), "pod0", Role::pod};
  auto attacher = start();
  MAGLANE_NEED_TCX();
  expect_ok(attacher->attach({pod}, true));
  uint32_t before = link_id("pod0:tc-ingress");
  run("ip link set pod0 down && ip link set pod0 name eth0.5 && ip link set eth0.5 up");
  pod.name = "eth0.5";
  expect_ok(attacher->attach({pod}, false));
  EXPECT_EQ(link_id("eth0%2e5:tc-ingress"), before);
  EXPECT_EQ(link_id("pod0:tc-ingress"), 0U);
}

TEST_F(Attach, DeviceGoneWhileAttaching) {
  WantedDevice pod0{add_veth("pod0"), "pod0", Role::pod}, gone{4711, "gone", Role::pod};
  auto attacher = start();
  expect_ok(attacher->attach({gone, pod0}, true));
  EXPECT_THAT(lines(*attacher), ElementsAre("pod0 pod tc-ingress " + tc_mode()));
  EXPECT_FALSE(tc_is_empty(pod0.ifindex)) << "the others are served";
}

TEST_F(Attach, ForeignXdpIsRespected) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink};
  Fd foreign = load_foreign_xdp();
  for (uint32_t mode : {XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE}) {
    ASSERT_EQ(bpf_xdp_attach(static_cast<int>(up0.ifindex), foreign.get(), mode, nullptr), 0);
    uint32_t before = 0, after = 0;
    bpf_xdp_query_id(static_cast<int>(up0.ifindex), 0, &before);
    auto attacher = start();
    expect_ok(attacher->attach({up0}, true));
    EXPECT_THAT(lines(*attacher), ElementsAre("up0 uplink xdp none", "up0 uplink tc-ingress " + tc_mode()));
    EXPECT_THAT(attacher->attachments()[0].note, HasSubstr("another XDP program, \"foreign\""));
    bpf_xdp_query_id(static_cast<int>(up0.ifindex), 0, &after);
    EXPECT_EQ(before, after);
    expect_ok(attacher->attach({}, true));
    bpf_xdp_query_id(static_cast<int>(up0.ifindex), 0, &after);
    EXPECT_EQ(before, after);
    bpf_xdp_detach(static_cast<int>(up0.ifindex), mode, nullptr);
    expect_ok(attacher->attach({up0}, true));
    EXPECT_EQ(xdp_on(up0.ifindex), "native") << "its turn when the other is gone";
    expect_ok(attacher->attach({}, true));
  }
}

TEST_F(Attach, FiltersWithoutTcx) {
  WantedDevice pod0{add_veth("pod0"), "pod0", Role::pod};
  tc_ = TcKind::clsact;
  expect_ok(start()->attach({pod0}, true));
  uint32_t first = *query_filter(pod0.ifindex, Hook::tc_ingress);
  EXPECT_NE(first, 0U);
  auto attacher = start();
  expect_ok(attacher->attach({pod0}, true));
  uint32_t second = *query_filter(pod0.ifindex, Hook::tc_ingress);
  EXPECT_NE(second, 0U);
  EXPECT_NE(second, first);
  EXPECT_THAT(lines(*attacher), ElementsAre("pod0 pod tc-ingress clsact"));
  expect_ok(attacher->attach({}, false));
  EXPECT_EQ(*query_filter(pod0.ifindex, Hook::tc_ingress), 0U);
  EXPECT_THAT(output("tc qdisc show dev pod0 | grep clsact || true"), IsEmpty());
}

TEST_F(Attach, FiltersOfOthersStay) {
  WantedDevice pod0{add_veth("pod0"), "pod0", Role::pod};
  run("tc qdisc add dev pod0 clsact");
  tc_ = TcKind::clsact;
  auto attacher = start();
  run("tc filter add dev pod0 ingress pref 7 bpf da pinned " + bpffs_->program("clock"));
  expect_ok(attacher->attach({pod0}, true));
  expect_ok(attacher->attach({}, false));
  EXPECT_THAT(output("tc filter show dev pod0 ingress"), HasSubstr("pref 7"));
}

TEST_F(Attach, FiltersThatOthersPutIntoOurQueueingDisciplineStay) {
  WantedDevice pod0{add_veth("pod0"), "pod0", Role::pod};
  tc_ = TcKind::clsact;
  auto attacher = start();
  expect_ok(attacher->attach({pod0}, true));
  run("tc filter add dev pod0 egress pref 7 bpf da pinned " + bpffs_->program("clock"));
  expect_ok(attacher->attach({}, false));
  EXPECT_EQ(*query_filter(pod0.ifindex, Hook::tc_ingress), 0U);
  EXPECT_THAT(output("tc filter show dev pod0 egress"), HasSubstr("pref 7"));
}

TEST_F(Attach, TwoAgentsOnOneDirectory) {
  auto first = start();
  Bpffs second(root_);
  Status prepared = second.prepare();
  ASSERT_FALSE(prepared.ok());
  EXPECT_THAT(prepared.error().message, HasSubstr("another agent is using"));
  Status removed = remove_everything(root_);
  ASSERT_FALSE(removed.ok());
}

}  // namespace
}  // namespace maglane
