// SPDX-License-Identifier: Apache-2.0
#include "agent/masquerade.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

namespace maglane {
namespace {

using testing::HasSubstr;
using std::chrono_literals::operator""s;

std::set<std::string> texts(const std::set<Cidr>& ranges) {
  std::set<std::string> result;
  for (const Cidr& range : ranges) result.insert(range.to_string());
  return result;
}

class Ranges : public testing::Test {
 protected:
  Ranges() {
    config_.pod_cidrs = {*Cidr::parse("10.244.0.0/16")};
    config_.service_cidrs = {*Cidr::parse("10.96.0.0/16")};
    auto node = std::make_shared<v1::Node>();
    auto* address = node->mutable_status()->add_addresses();
    address->set_type("InternalIP");
    address->set_address("192.168.1.2");
    address = node->mutable_status()->add_addresses();
    address->set_type("Hostname");
    address->set_address("192.168.1.99");
    node->mutable_spec()->add_pod_cidrs("10.245.1.0/24");
    model_.nodes["b"] = node;
    node = std::make_shared<v1::Node>();
    address = node->mutable_status()->add_addresses();
    address->set_type("ExternalIP");
    address->set_address("203.0.113.9");
    node->mutable_spec()->set_pod_cidr("10.245.2.0/24");
    model_.nodes["c"] = node;
  }
  std::set<std::string> ranges(MasqueradeModel model, const MasqConfig* custom = nullptr) {
    config_.network_model = model;
    return texts(masquerade_ranges(config_, &model_, custom));
  }

  Config config_;
  ClusterModel model_;
};

TEST_F(Ranges, ByModel) {
  const std::set<std::string> kubenet = {"10.244.0.0/16", "10.96.0.0/16", "fe80::/10", "192.168.1.2/32", "10.245.1.0/24",
                                         "203.0.113.9/32", "10.245.2.0/24"};
  EXPECT_EQ(ranges(MasqueradeModel::kubenet), kubenet);
  config_.vnet_cidrs = {*Cidr::parse("192.168.0.0/16")};
  auto azure = kubenet;
  azure.insert("192.168.0.0/16");
  EXPECT_EQ(ranges(MasqueradeModel::azure_cni), azure);
  EXPECT_TRUE(ranges(MasqueradeModel::none).empty());
  EXPECT_TRUE(ranges(MasqueradeModel::custom).empty()) << "no list was read yet";
  MasqConfig custom{{*Cidr::parse("10.0.0.0/8")}, false, false};
  EXPECT_EQ(ranges(MasqueradeModel::custom, &custom), (std::set<std::string>{"10.0.0.0/8", "169.254.0.0/16", "fe80::/10"}));
  custom.link_local = true;
  EXPECT_EQ(ranges(MasqueradeModel::custom, &custom), (std::set<std::string>{"10.0.0.0/8", "fe80::/10"}));
  custom.link_local_ipv6 = true;
  EXPECT_EQ(ranges(MasqueradeModel::custom, &custom), (std::set<std::string>{"10.0.0.0/8"}));
}

PortShortage shortage(const char* remote, uint64_t packets) {
  return {*IpAddress::parse(remote), *IpAddress::parse("192.168.1.1"), 443, IPPROTO_TCP, packets};
}

TEST(PortShortages, OneLineAMinuteNamesTheWorst) {
  PortShortageLog log;
  const PortShortageLog::Clock::time_point start{};
  EXPECT_FALSE(log.look({shortage("203.0.113.1", 7)}, start)) << "it was there before";
  const auto first = log.look({shortage("203.0.113.1", 8), shortage("203.0.113.2", 5)}, start + 1s);
  ASSERT_TRUE(first);
  EXPECT_THAT(*first, HasSubstr("TCP 203.0.113.2:443 from 192.168.1.1: 5 packets dropped, and 1 towards 1 others"));
  EXPECT_FALSE(log.look({shortage("203.0.113.1", 9), shortage("203.0.113.2", 5)}, start + 30s)) << "the second in a minute";
  const auto second = log.look({shortage("203.0.113.1", 9), shortage("203.0.113.2", 5)}, start + 61s);
  ASSERT_TRUE(second);
  EXPECT_THAT(*second, HasSubstr("203.0.113.1:443 from 192.168.1.1: 1 packets dropped;"));
  EXPECT_FALSE(log.look({shortage("203.0.113.1", 9), shortage("203.0.113.2", 5)}, start + 200s)) << "nothing is new";
}

}  // namespace
}  // namespace maglane
