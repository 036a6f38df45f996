// SPDX-License-Identifier: Apache-2.0
#include "agent/node_network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

namespace maglane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class NodeNetworkTest : public testing::Test {
 protected:
  void add_link(int ifindex, const char* name, unsigned flags = IFF_UP | IFF_RUNNING) {
    nlmsghdr* m = begin(RTM_NEWLINK);
    auto* info = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(m, sizeof(ifinfomsg)));
    info->ifi_index = ifindex;
    info->ifi_flags = flags;
    mnl_attr_put_strz(m, IFLA_IFNAME, name);
    network_.apply(m);
  }
  void add_address(uint32_t ifindex, const char* text) {
    IpAddress address = *IpAddress::parse(text);
    bool ipv4 = address.family() == Family::ipv4;
    nlmsghdr* m = begin(RTM_NEWADDR);
    auto* info = static_cast<ifaddrmsg*>(mnl_nlmsg_put_extra_header(m, sizeof(ifaddrmsg)));
    info->ifa_family = ipv4 ? AF_INET : AF_INET6;
    info->ifa_index = ifindex;
    mnl_attr_put(m, IFA_ADDRESS, ipv4 ? 4 : 16, address.bytes().data());
    network_.apply(m);
  }
  void add_default_route(uint32_t ifindex) {
    nlmsghdr* m = begin(RTM_NEWROUTE);
    auto* info = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(m, sizeof(rtmsg)));
    info->rtm_family = AF_INET;
    info->rtm_table = RT_TABLE_MAIN;
    info->rtm_type = RTN_UNICAST;
    mnl_attr_put_u32(m, RTA_OIF, ifindex);
    network_.apply(m);
  }

  NetworkModel network_;
  Config config_;

 private:
  nlmsghdr* begin(uint16_t type) {
    nlmsghdr* m = mnl_nlmsg_put_header(buffer_);
    m->nlmsg_type = type;
    return m;
  }
  alignas(nlmsghdr) char buffer_[4096];
};

TEST_F(NodeNetworkTest, UplinksAreTheDevicesOfDefaultRoutes) {
  add_link(1, "lo", IFF_UP | IFF_RUNNING | IFF_LOOPBACK);
  add_link(2, "eth0");
  add_link(3, "pod1");
  add_default_route(2);
  add_address(2, "192.0.2.5");
  config_.pod_devices = {"*"};
  NodeNetwork view = view_network(network_, config_, nullptr);
  EXPECT_THAT(view.devices,
              ElementsAre(WantedDevice{2, "eth0", Role::uplink}, WantedDevice{3, "pod1", Role::pod}));
  EXPECT_EQ(view.primary_ipv4, *IpAddress::parse("192.0.2.5"));
  EXPECT_EQ(view.primary_ipv6, std::nullopt);
  EXPECT_THAT(view.complaints, IsEmpty());
}

TEST_F(NodeNetworkTest, NamedUplinksThatAreMissing) {
  add_link(2, "eth0");
  add_address(2, "192.0.2.5");
  config_.uplinks = {"eth0", "eth1"};
  NodeNetwork view = view_network(network_, config_, nullptr);
  EXPECT_EQ(view.devices.size(), 1U);
  ASSERT_EQ(view.complaints.size(), 1U);
  EXPECT_EQ(view.complaints[0].where, "uplink eth1");
}

TEST_F(NodeNetworkTest, NoUplinkAtAll) {
  NodeNetwork view = view_network(network_, config_, nullptr);
  ASSERT_EQ(view.complaints.size(), 2U);
  EXPECT_THAT(view.complaints[0].message, HasSubstr("--uplink"));
  EXPECT_THAT(view.complaints[1].message, HasSubstr("node ports are not served"));
}

TEST_F(NodeNetworkTest, UplinksOutliveTheirDefaultRoute) {
  add_link(2, "eth0");
  add_address(2, "192.0.2.5");
  add_default_route(2);
  NodeNetwork before = view_network(network_, config_, nullptr);
  network_.forget_routes();
  NodeNetwork view = view_network(network_, config_, nullptr, before);
  EXPECT_EQ(view.devices, before.devices);
  EXPECT_EQ(view.primary_ipv4, before.primary_ipv4);
  EXPECT_EQ(view.complaints.size(), 1U);
  add_link(3, "eth1");
  add_default_route(3);
  EXPECT_THAT(view_network(network_, config_, nullptr, view).devices,
              ElementsAre(WantedDevice{3, "eth1", Role::uplink}));
}

TEST_F(NodeNetworkTest, AsWhomPodsLeave) {
  for (int n : {2, 3, 4}) add_link(n, ("eth" + std::to_string(n)).c_str());
  add_address(2, "192.0.2.4");
  add_address(2, "192.0.2.5");
  add_address(3, "198.51.100.5");
  v1::Node node;
  auto* internal = node.mutable_status()->add_addresses();
  internal->set_type("InternalIP");
  internal->set_address("192.0.2.5");
  config_.uplinks = {"eth2", "eth3", "eth4"};
  const auto address = [](const char* text) { return *IpAddress::parse(text); };
  EXPECT_THAT(view_network(network_, config_, &node).egress_addresses,
              ElementsAre(EgressAddress{2, address("192.0.2.5"), std::nullopt},
                          EgressAddress{3, address("198.51.100.5"), std::nullopt},
                          EgressAddress{4, address("192.0.2.5"), std::nullopt}));
}

TEST_F(NodeNetworkTest, TheNodesInternalAddressWinsIfItIsHere) {
  add_link(2, "eth0");
  add_link(4, "eth1");
  add_default_route(2);
  add_address(2, "192.0.2.5");
  add_address(4, "198.51.100.7");
  add_address(4, "2001:db8::7");
  v1::Node node;
  auto add = [&](const char* type, const char* address) {
    auto* a = node.mutable_status()->add_addresses();
    a->set_type(type);
    a->set_address(address);
  };
  add("ExternalIP", "198.51.100.7");
  add("InternalIP", "203.0.113.1");
  EXPECT_EQ(view_network(network_, config_, &node).primary_ipv4, *IpAddress::parse("192.0.2.5"))
      << "not here";
  add("InternalIP", "198.51.100.7");
  add("InternalIP", "2001:db8::7");
  NodeNetwork view = view_network(network_, config_, &node);
  EXPECT_EQ(view.primary_ipv4, *IpAddress::parse("198.51.100.7"));
  EXPECT_EQ(view.primary_ipv6, *IpAddress::parse("2001:db8::7"));
}

TEST_F(NodeNetworkTest, Point18_ThePodCidrsAreTheNodeObjects) {
  add_link(2, "eth0");
  add_address(2, "192.0.2.5");
  config_.uplinks = {"eth0"};
  config_.pods_by = abi::PODS_BY_NODE_CIDR;
  EXPECT_EQ(view_network(network_, config_, nullptr).complaints.size(), 1U);
  v1::Node node;
  node.mutable_spec()->set_pod_cidr("10.244.1.0/24");
  EXPECT_THAT(view_network(network_, config_, &node).pod_cidrs, ElementsAre(*Cidr::parse("10.244.1.0/24")));
  for (const char* cidr : {"fd00:1::/64", "10.244.2.0/24", "10.244.3.0/24"})
    node.mutable_spec()->add_pod_cidrs(cidr);
  NodeNetwork view = view_network(network_, config_, &node);
  EXPECT_THAT(view.pod_cidrs, ElementsAre(*Cidr::parse("fd00:1::/64"), *Cidr::parse("10.244.2.0/24")));
  EXPECT_THAT(view.complaints, IsEmpty());
}

TEST_F(NodeNetworkTest, AnUplinkThatMatchesAPodPattern) {
  add_link(2, "veth0");
  add_address(2, "192.0.2.5");
  config_.uplinks = {"veth0"};
  config_.pod_devices = {"veth*"};
  NodeNetwork view = view_network(network_, config_, nullptr);
  EXPECT_THAT(view.devices, ElementsAre(WantedDevice{2, "veth0", Role::uplink}));
  ASSERT_EQ(view.complaints.size(), 1U);
  EXPECT_EQ(view.complaints[0].where, "device veth0");
}

}  // namespace
}  // namespace maglane
