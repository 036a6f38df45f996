// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/network_model.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <cstring>

namespace maglane {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// A message under construction.
class Message {
 public:
  Message(uint16_t type, uint16_t flags = 0) : header_(mnl_nlmsg_put_header(buffer_)) {
    header_->nlmsg_type = type;
    header_->nlmsg_flags = flags;
  }
  template <typename T>
  Message& fixed(const T& value) {
    std::memcpy(mnl_nlmsg_put_extra_header(header_, sizeof value), &value, sizeof value);
    return *this;
  }
  Message& text(uint16_t type, const char* value) {
    mnl_attr_put_strz(header_, type, value);
    return *this;
  }
  Message& number(uint16_t type, uint32_t value) {
    mnl_attr_put_u32(header_, type, value);
    return *this;
  }
  Message& bytes(uint16_t type, const std::string& value) {
    mnl_attr_put(header_, type, value.size(), value.data());
    return *this;
  }
  Message& address(uint16_t type, const char* value) {
    IpAddress parsed = *IpAddress::parse(value);
    mnl_attr_put(header_, type, parsed.family() == Family::ipv4 ? 4 : 16, parsed.bytes().data());
    return *this;
  }
  nlmsghdr* get() { return header_; }

 private:
  alignas(nlmsghdr) char buffer_[4096] = {};
  nlmsghdr* header_;
};

unsigned char family_byte(const char* address) {
  return std::strchr(address, ':') ? AF_INET6 : AF_INET;
}

unsigned link(NetworkModel& model, int ifindex, const char* name, unsigned flags = IFF_UP | IFF_RUNNING,
              const std::string& mac = "aaaaaa", uint16_t type = RTM_NEWLINK,
              unsigned char family = AF_UNSPEC) {
  ifinfomsg info{};
  info.ifi_family = family;
  info.ifi_index = ifindex;
  info.ifi_flags = flags;
  Message m(type);
  m.fixed(info).text(IFLA_IFNAME, name).number(IFLA_MTU, 1500).bytes(IFLA_ADDRESS, mac);
  return model.apply(m.get());
}

unsigned address(NetworkModel& model, uint32_t ifindex, const char* value, uint32_t flags = IFA_F_PERMANENT,
                 unsigned char scope = RT_SCOPE_UNIVERSE, uint16_t type = RTM_NEWADDR) {
  ifaddrmsg info{};
  info.ifa_family = family_byte(value);
  info.ifa_index = ifindex;
  info.ifa_scope = scope;
  Message m(type);
  m.fixed(info).address(IFA_ADDRESS, value).number(IFA_FLAGS, flags);
  return model.apply(m.get());
}

unsigned default_route(NetworkModel& model, uint32_t ifindex, uint32_t metric = 0,
                       unsigned char family = AF_INET, uint16_t type = RTM_NEWROUTE,
                       uint32_t table = RT_TABLE_MAIN) {
  rtmsg info{};
  info.rtm_family = family;
  info.rtm_table = RT_TABLE_MAIN;
  info.rtm_type = RTN_UNICAST;
  Message m(type);
  m.fixed(info).number(RTA_TABLE, table).number(RTA_OIF, ifindex).number(RTA_PRIORITY, metric);
  return model.apply(m.get());
}

unsigned neighbour(NetworkModel& model, const char* value, uint16_t state, const std::string& mac,
                   uint16_t type = RTM_NEWNEIGH, unsigned char flags = 0) {
  ndmsg info{};
  info.ndm_family = family_byte(value);
  info.ndm_ifindex = 2;
  info.ndm_state = state;
  info.ndm_flags = flags;
  Message m(type);
  m.fixed(info).address(NDA_DST, value);
  if (!mac.empty()) m.bytes(NDA_LLADDR, mac);
  return model.apply(m.get());
}

std::vector<std::string> names(const std::vector<Link>& links) {
  std::vector<std::string> result;
  for (const Link& l : links) result.push_back(l.name);
  return result;
}

TEST(NetworkModel, LinksComeChangeAndGo) {
  NetworkModel model;
  EXPECT_EQ(link(model, 2, "eth0"), CHANGED_LINKS | CHANGED_NEXT_HOPS);
  EXPECT_EQ(link(model, 2, "eth0"), 0U) << "statistics alone are no change";
  EXPECT_NE(link(model, 2, "eth0", IFF_UP), 0U) << "carrier lost";
  EXPECT_NE(link(model, 2, "eth0", IFF_UP, "bbbbbb"), 0U) << "MAC address";
  EXPECT_NE(link(model, 2, "lan0", IFF_UP, "bbbbbb"), 0U) << "renamed";
  EXPECT_EQ(link(model, 2, "lan0", IFF_UP, "bbbbbb", RTM_DELLINK, AF_BRIDGE), 0U) << "left a bridge";
  ASSERT_NE(model.find(2), nullptr);
  EXPECT_EQ(model.find(2)->name, "lan0");
  EXPECT_NE(link(model, 2, "lan0", 0, "", RTM_DELLINK), 0U);
  EXPECT_EQ(model.find(2), nullptr);
}

TEST(NetworkModel, DevicesByPattern) {
  NetworkModel model;
  link(model, 2, "eth0");
  link(model, 3, "veth-a");
  link(model, 4, "veth-b");
  link(model, 5, "cali123");
  EXPECT_THAT(names(model.matching({"veth*", "cali???"})), ElementsAre("veth-a", "veth-b", "cali123"));
  EXPECT_THAT(names(model.matching({"veth"})), IsEmpty());
}

TEST(NetworkModel, DefaultRoutesByMetric) {
  NetworkModel model;
  link(model, 2, "eth0");
  link(model, 3, "eth1");
  EXPECT_NE(default_route(model, 3, 200) & CHANGED_DEFAULT_ROUTES, 0U);
  default_route(model, 2, 100);
  default_route(model, 2, 1024, AF_INET6);
  EXPECT_THAT(names(model.default_route_devices()), ElementsAre("eth0", "eth1"));
  EXPECT_EQ(default_route(model, 3, 0, AF_INET, RTM_NEWROUTE, 99), unsigned{CHANGED_NEXT_HOPS})
      << "another table";
  default_route(model, 2, 100, AF_INET, RTM_DELROUTE);
  default_route(model, 2, 1024, AF_INET6, RTM_DELROUTE);
  EXPECT_THAT(names(model.default_route_devices()), ElementsAre("eth1"));
  EXPECT_NE(link(model, 3, "eth1", 0) & CHANGED_DEFAULT_ROUTES, 0U) << "the kernel drops its routes silently";
}

TEST(NetworkModel, MultipathDefaultRoute) {
  NetworkModel model;
  link(model, 2, "eth0");
  link(model, 3, "eth1");
  rtnexthop hops[2] = {};
  for (int i = 0; i < 2; ++i) {
    hops[i].rtnh_len = sizeof hops[i];
    hops[i].rtnh_ifindex = i + 2;
  }
  rtmsg info{};
  info.rtm_family = AF_INET;
  info.rtm_table = RT_TABLE_MAIN;
  info.rtm_type = RTN_UNICAST;
  Message m(RTM_NEWROUTE);
  m.fixed(info).bytes(RTA_MULTIPATH, std::string(reinterpret_cast<char*>(hops), sizeof hops));
  model.apply(m.get());
  EXPECT_THAT(names(model.default_route_devices()), ElementsAre("eth0", "eth1"));
}

TEST(NetworkModel, CachedRoutesAreNoRoutes) {
  NetworkModel model;
  rtmsg info{};
  info.rtm_family = AF_INET6;
  info.rtm_flags = RTM_F_CLONED;
  Message m(RTM_NEWROUTE);
  m.fixed(info);
  EXPECT_EQ(model.apply(m.get()), 0U);
}

TEST(NetworkModel, PrimaryAddressIsTheFirstUsableGlobalOne) {
  NetworkModel model;
  address(model, 2, "fe80::1", IFA_F_PERMANENT, RT_SCOPE_LINK);
  address(model, 2, "fd00::9", IFA_F_TENTATIVE);
  address(model, 2, "fd00::5", IFA_F_TEMPORARY);
  address(model, 2, "fd00::2");
  address(model, 2, "10.0.0.2");
  address(model, 2, "10.0.0.3", IFA_F_SECONDARY);
  EXPECT_EQ(model.global_address(2, Family::ipv4), *IpAddress::parse("10.0.0.2"));
  EXPECT_EQ(model.global_address(2, Family::ipv6), *IpAddress::parse("fd00::2"));
  EXPECT_EQ(model.global_address(3, Family::ipv4), std::nullopt);
  EXPECT_NE(address(model, 2, "10.0.0.2", 0, RT_SCOPE_UNIVERSE, RTM_DELADDR), 0U);
  EXPECT_NE(address(model, 2, "10.0.0.3", IFA_F_PERMANENT), 0U) << "promoted";
  EXPECT_EQ(model.global_address(2, Family::ipv4), *IpAddress::parse("10.0.0.3"));
}

TEST(NetworkModel, AnAddressAgainIsNoChange) {
  NetworkModel model;
  EXPECT_EQ(address(model, 2, "10.0.0.2"), CHANGED_ADDRESSES | CHANGED_NEXT_HOPS);
  EXPECT_EQ(address(model, 2, "10.0.0.2"), 0U);
  address(model, 1, "127.0.0.1", IFA_F_PERMANENT, RT_SCOPE_HOST);
  EXPECT_THAT(model.local_addresses(), ElementsAre(*IpAddress::parse("10.0.0.2")));
}

TEST(NetworkModel, NeighbourChangesThatMatter) {
  for (const char* peer : {"10.0.0.9", "fd00::9"}) {
    NetworkModel model;
    EXPECT_EQ(neighbour(model, peer, NUD_INCOMPLETE, ""), 0U);
    EXPECT_EQ(neighbour(model, peer, NUD_REACHABLE, "aaaaaa"), 0U) << "no flow can have cached it before";
    EXPECT_EQ(neighbour(model, peer, NUD_STALE, "aaaaaa"), 0U);
    EXPECT_EQ(neighbour(model, peer, NUD_DELAY, "aaaaaa"), 0U);
    EXPECT_EQ(neighbour(model, peer, NUD_PROBE, "aaaaaa"), 0U);
    EXPECT_EQ(neighbour(model, peer, NUD_REACHABLE, "bbbbbb"), unsigned{CHANGED_NEXT_HOPS});
    EXPECT_EQ(neighbour(model, peer, NUD_FAILED, ""), unsigned{CHANGED_NEXT_HOPS});
    EXPECT_EQ(neighbour(model, peer, NUD_FAILED, ""), 0U);
    neighbour(model, peer, NUD_REACHABLE, "aaaaaa");
    EXPECT_EQ(neighbour(model, peer, NUD_STALE, "aaaaaa", RTM_DELNEIGH), unsigned{CHANGED_NEXT_HOPS});
    EXPECT_EQ(neighbour(model, peer, NUD_PERMANENT, "cccccc", RTM_NEWNEIGH, NTF_PROXY), 0U);
  }
}

TEST(NetworkModel, MalformedMessagesChangeNothing) {
  NetworkModel model;
  for (uint16_t type : {RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_NEWNEIGH}) {
    Message empty(type);
    EXPECT_EQ(model.apply(empty.get()), 0U) << type;
  }
  ndmsg info{};
  info.ndm_family = AF_INET;
  info.ndm_state = NUD_REACHABLE;
  Message short_address(RTM_NEWNEIGH);
  short_address.fixed(info).bytes(NDA_DST, "xy");
  EXPECT_EQ(model.apply(short_address.get()), 0U);
}

}  // namespace
}  // namespace maglane
