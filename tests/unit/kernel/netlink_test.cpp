// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/netlink.h"

#include <gmock/gmock.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class Netlink : public Sandbox {
 protected:
  void SetUp() override {
    Sandbox::SetUp();
    if (IsSkipped()) return;
    run("sysctl -qw net.ipv6.conf.default.accept_dad=0");
    add_veth("eth0");
    run("ip addr add 10.9.0.1/24 dev eth0 && ip -6 addr add fd00:9::1/64 dev eth0 nodad");
    run("ip route add default via 10.9.0.254 dev eth0");
  }
  NetlinkWatch open() {
    auto watch = NetlinkWatch::open();
    EXPECT_TRUE(watch.ok()) << watch.error().message;
    return std::move(*watch);
  }
  // All changes until nothing has come for a while.
  unsigned changes(NetlinkWatch& watch) {
    unsigned all = 0;
    pollfd waiting{watch.fd(), POLLIN, 0};
    while (::poll(&waiting, 1, 200) > 0) {
      auto some = watch.process();
      EXPECT_TRUE(some.ok()) << some.error().message;
      all |= *some;
    }
    return all;
  }
  static std::vector<std::string> names(const std::vector<Link>& links) {
    std::vector<std::string> result;
    for (const Link& link : links) result.push_back(link.name);
    return result;
  }
};

TEST_F(Netlink, ReadsWhatIsThere) {
  NetlinkWatch watch = open();
  EXPECT_THAT(names(watch.model().default_route_devices()), ElementsAre("eth0"));
  uint32_t eth0 = ::if_nametoindex("eth0");
  EXPECT_EQ(watch.model().global_address(eth0, Family::ipv4), *IpAddress::parse("10.9.0.1"));
  EXPECT_EQ(watch.model().global_address(eth0, Family::ipv6), *IpAddress::parse("fd00:9::1"));
  EXPECT_TRUE(watch.model().local_addresses().contains(*IpAddress::parse("10.9.0.1")));
}

TEST_F(Netlink, DevicesComeAndGo) {
  NetlinkWatch watch = open();
  changes(watch);
  add_veth("pod7");
  EXPECT_NE(changes(watch) & CHANGED_LINKS, 0U);
  EXPECT_THAT(names(watch.model().matching({"pod?"})), ElementsAre("pod7"));
  run("ip link del pod7");
  EXPECT_NE(changes(watch) & CHANGED_LINKS, 0U);
  EXPECT_THAT(names(watch.model().matching({"pod?"})), IsEmpty());
}

TEST_F(Netlink, RoutesThatGoSilentlyAreNoticed) {
  NetlinkWatch watch = open();
  changes(watch);
  run("ip link set eth0 down");
  EXPECT_NE(changes(watch) & CHANGED_DEFAULT_ROUTES, 0U);
  EXPECT_THAT(names(watch.model().default_route_devices()), IsEmpty());
}

TEST_F(Netlink, AddressesAndRoutes) {
  NetlinkWatch watch = open();
  changes(watch);
  run("ip addr add 10.9.1.1/24 dev eth0");
  EXPECT_NE(changes(watch) & CHANGED_ADDRESSES, 0U);
  run("ip route add 10.77.0.0/16 via 10.9.0.7");
  EXPECT_EQ(changes(watch), unsigned{CHANGED_NEXT_HOPS});
  run("ip rule add to 10.78.0.0/16 table 77");
  EXPECT_EQ(changes(watch), CHANGED_NEXT_HOPS | CHANGED_RULES);
}

TEST_F(Netlink, WhatTheSourceDecidesIsNoticed) {
  NetlinkWatch watch = open();
  const auto shared = [&](Family family) {
    changes(watch);
    return watch.model().next_hops_are_shared(family);
  };
  EXPECT_TRUE(shared(Family::ipv4)) << "a node with the kernel's own rules";
  EXPECT_TRUE(shared(Family::ipv6));
  run("ip rule add to 10.78.0.0/16 table 77 && ip rule add fwmark 4 table 78 && ip rule add iif eth0 table 79");
  EXPECT_TRUE(shared(Family::ipv4));
  run("ip rule add from 10.9.0.0/24 table 77");
  EXPECT_FALSE(shared(Family::ipv4));
  EXPECT_TRUE(shared(Family::ipv6));
  EXPECT_FALSE(open().model().next_hops_are_shared(Family::ipv4)) << "when the agent starts";
  run("ip rule del from 10.9.0.0/24 table 77 && ip -6 rule add ipproto udp table 77");
  EXPECT_TRUE(shared(Family::ipv4));
  EXPECT_FALSE(shared(Family::ipv6));
  run("ip -6 rule del ipproto udp table 77");
  EXPECT_TRUE(shared(Family::ipv6));
  run("ip route add 10.77.0.0/16 nexthop via 10.9.0.7 nexthop via 10.9.0.8");
  EXPECT_FALSE(shared(Family::ipv4));
  run("ip -6 route add fd77::/64 via fd00:9::7 && ip -6 route append fd77::/64 via fd00:9::8");
  EXPECT_FALSE(shared(Family::ipv6));
  run("ip route del 10.77.0.0/16 && ip -6 route flush fd77::/64");
  EXPECT_TRUE(open().model().next_hops_are_shared(Family::ipv4));
  EXPECT_TRUE(open().model().next_hops_are_shared(Family::ipv6));
}

// Sysctl nexthop_compat_mode decides whether such a route names its next hops.
TEST_F(Netlink, GroupsOfNextHopsAreNoticed) {
  for (const char* told : {"1", "0"}) {
    run(std::string("sysctl -qw net.ipv4.nexthop_compat_mode=") + told);
    run("ip nexthop add id 1 via 10.9.0.7 dev eth0 && ip nexthop add id 2 via 10.9.0.8 dev eth0");
    run("ip nexthop add id 3 group 1/2 && ip route add 10.77.0.0/16 nhid 3");
    EXPECT_FALSE(open().model().next_hops_are_shared(Family::ipv4)) << "compat mode " << told;
    run("ip route del 10.77.0.0/16 && ip nexthop flush");
  }
}

TEST_F(Netlink, NeighboursThatMatter) {
  NetlinkWatch watch = open();
  run("ip neigh add 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud reachable");
  changes(watch);
  run("ip neigh change 10.9.0.7 lladdr 02:00:00:00:00:07 dev eth0 nud stale");
  EXPECT_EQ(changes(watch), 0U);
  run("ip neigh change 10.9.0.7 lladdr 02:00:00:00:00:08 dev eth0 nud reachable");
  EXPECT_EQ(changes(watch), unsigned{CHANGED_NEXT_HOPS});
}

TEST_F(Netlink, LostMessagesAreReadAgain) {
  NetlinkWatch watch = open();
  int small = 2048;
  ::setsockopt(watch.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  std::string commands;
  for (int i = 1; i < 200; ++i) commands += "addr add 10.9.2." + std::to_string(i) + "/32 dev eth0\n";
  run("printf '" + commands + "' | ip -batch -");
  EXPECT_EQ(changes(watch) & CHANGED_ADDRESSES, unsigned{CHANGED_ADDRESSES});
  EXPECT_TRUE(watch.model().local_addresses().contains(*IpAddress::parse("10.9.2.199")));
}

}  // namespace
}  // namespace maglane
