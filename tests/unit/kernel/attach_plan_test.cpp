// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/attach_plan.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace maglane {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

struct Print {
  std::string operator()(const RenamePin& s) { return fmt::format("rename {} {}", s.from, s.to); }
  std::string operator()(const SwapProgram& s) { return fmt::format("swap {}", s.pin); }
  std::string operator()(const CreateLink& s) {
    return fmt::format("create {} on {}", s.pin, s.device.ifindex);
  }
  std::string operator()(const EnsureFilter& s) {
    return fmt::format("filter {} on {}", s.pin, s.device.ifindex);
  }
  std::string operator()(const RemoveAttachment& s) {
    return fmt::format("remove {}{}", s.pin, s.filter ? " (filter)" : "");
  }
};

std::vector<std::string> plan(const std::vector<ExistingAttachment>& existing,
                              const std::vector<WantedDevice>& wanted,
                              XdpPolicy policy = XdpPolicy::automatic, TcKind tc = TcKind::tcx) {
  std::vector<std::string> lines;
  for (const AttachStep& step : plan_attachments(existing, wanted, policy, tc))
    lines.push_back(std::visit(Print{}, step));
  return lines;
}

ExistingAttachment xdp(const std::string& pin, uint32_t ifindex, XdpMode mode) {
  return {pin, Hook::xdp, ifindex, 1, mode, false};
}
ExistingAttachment tcx(const std::string& pin, uint32_t ifindex) {
  return {pin, Hook::tc_ingress, ifindex, 1, XdpMode::none, false};
}
ExistingAttachment filter(const std::string& pin, uint32_t ifindex) {
  return {pin, Hook::tc_ingress, ifindex, 0, XdpMode::none, true};
}

const WantedDevice kUplink{2, "eth0", Role::uplink};
const WantedDevice kPod{7, "pod1", Role::pod};

TEST(AttachPlan, NothingWantedNothingThere) {
  EXPECT_THAT(plan({}, {}), IsEmpty());
}

TEST(AttachPlan, FirstStartAttachesTcBeforeXdp) {
  EXPECT_THAT(plan({}, {kUplink, kPod}), ElementsAre("create eth0:tc-ingress on 2", "create eth0:xdp on 2",
                                                     "create pod1:tc-ingress on 7"));
}

TEST(AttachPlan, EgressComesFirstAndWhereItIsWanted) {
  WantedDevice uplink = kUplink, pod = kPod;
  EXPECT_THAT(plan({{"eth0:tc-egress", Hook::tc_egress, 2, 1, XdpMode::none, false}}, {kUplink}, XdpPolicy::off),
              ElementsAre("remove eth0:tc-egress", "create eth0:tc-ingress on 2"));
  uplink.egress = pod.egress = true;
  EXPECT_THAT(plan({}, {uplink, pod}, XdpPolicy::off),
              ElementsAre("create eth0:tc-egress on 2", "create pod1:tc-egress on 7",
                          "create eth0:tc-ingress on 2", "create pod1:tc-ingress on 7"));
}

TEST(AttachPlan, RestartSwapsInPlace) {
  EXPECT_THAT(
      plan({tcx("eth0:tc-ingress", 2), xdp("eth0:xdp", 2, XdpMode::native), tcx("pod1:tc-ingress", 7)},
           {kUplink, kPod}),
      ElementsAre("swap eth0:tc-ingress", "swap eth0:xdp", "swap pod1:tc-ingress"));
}

TEST(AttachPlan, XdpOffRemovesIt) {
  EXPECT_THAT(
      plan({tcx("eth0:tc-ingress", 2), xdp("eth0:xdp", 2, XdpMode::native)}, {kUplink}, XdpPolicy::off),
      ElementsAre("remove eth0:xdp", "swap eth0:tc-ingress"));
}

TEST(AttachPlan, AnotherModeNeedsAnotherLink) {
  EXPECT_THAT(
      plan({tcx("eth0:tc-ingress", 2), xdp("eth0:xdp", 2, XdpMode::generic)}, {kUplink}, XdpPolicy::native),
      ElementsAre("remove eth0:xdp", "swap eth0:tc-ingress", "create eth0:xdp on 2"));
}

TEST(AttachPlan, AutomaticKeepsEitherMode) {
  EXPECT_THAT(plan({tcx("eth0:tc-ingress", 2), xdp("eth0:xdp", 2, XdpMode::generic)}, {kUplink}),
              ElementsAre("swap eth0:tc-ingress", "swap eth0:xdp"));
}

TEST(AttachPlan, DeviceMadeAnewUnderTheSameName) {
  EXPECT_THAT(plan({tcx("pod1:tc-ingress", 0)}, {kPod}),
              ElementsAre("remove pod1:tc-ingress", "create pod1:tc-ingress on 7"));
}

TEST(AttachPlan, DeviceRenamed) {
  EXPECT_THAT(plan({tcx("veth9:tc-ingress", 7)}, {kPod}),
              ElementsAre("rename veth9:tc-ingress pod1:tc-ingress", "swap pod1:tc-ingress"));
}

TEST(AttachPlan, TwoDevicesThatExchangedNames) {
  WantedDevice other{8, "pod2", Role::pod};
  EXPECT_THAT(plan({tcx("pod1:tc-ingress", 8), tcx("pod2:tc-ingress", 7)}, {kPod, other}),
              ElementsAre("remove pod1:tc-ingress", "remove pod2:tc-ingress", "create pod1:tc-ingress on 7",
                          "create pod2:tc-ingress on 8"));
}

TEST(AttachPlan, DeviceNoLongerWanted) {
  EXPECT_THAT(plan({tcx("pod1:tc-ingress", 7)}, {}), ElementsAre("remove pod1:tc-ingress"));
}

TEST(AttachPlan, WithoutTcxFilters) {
  EXPECT_THAT(plan({filter("pod1:tc-ingress", 7), filter("pod2:tc-ingress", 8)}, {kUplink, kPod},
                   XdpPolicy::generic, TcKind::clsact),
              ElementsAre("remove pod2:tc-ingress (filter)", "filter eth0:tc-ingress on 2",
                          "create eth0:xdp on 2", "filter pod1:tc-ingress on 7"));
}

TEST(AttachPlan, FiltersGiveWayToLinks) {
  EXPECT_THAT(plan({filter("pod1:tc-ingress", 7)}, {kPod}),
              ElementsAre("remove pod1:tc-ingress (filter)", "create pod1:tc-ingress on 7"));
}

TEST(PinName, RoundTrip) {
  for (const char* device : {"eth0", "eth0.100", "a%b", "%2e"}) {
    for (Hook hook : {Hook::xdp, Hook::tc_ingress, Hook::tc_egress}) {
      std::string pin = pin_name(device, hook);
      EXPECT_EQ(pin.find('.'), std::string::npos) << pin;
      auto parts = parse_pin(pin);
      ASSERT_TRUE(parts) << pin;
      EXPECT_EQ(parts->device, device);
      EXPECT_EQ(parts->hook, hook);
    }
  }
  EXPECT_FALSE(parse_pin("eth0:clsact"));
  EXPECT_FALSE(parse_pin("eth0"));
  EXPECT_FALSE(parse_pin(":xdp"));
}

}  // namespace
}  // namespace maglane
