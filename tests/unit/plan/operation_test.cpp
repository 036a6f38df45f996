// SPDX-License-Identifier: Apache-2.0
#include "agent/plan/operation.h"

#include <gtest/gtest.h>

#include "agent/plan/diff.h"
#include "agent/plan/planner.h"
#include "tests/unit/plan/cluster.h"

namespace maglane {
namespace {

using namespace test;

TEST(Operation, ReadsLikeASentence) {
  ResolvedCluster cluster;
  put(cluster, service("web", {frontend(FrontendType::cluster_ip, "10.96.0.1", 80,
                                        endpoints({endpoint(1), endpoint(2, 1, true)}),
                                        endpoints({}, EmptyVerdict::drop))}));
  Planner planner({});
  const Plan plan = planner.update(cluster).plan;
  std::vector<std::string> lines;
  for (const Operation& operation : diff(Plan{}, plan)) lines.push_back(to_string(operation));
  for (const Operation& operation : diff(plan, planner.update({}).plan))
    lines.push_back(to_string(operation));
  const auto bit = std::to_string(abi::vip_hash(make_key(ip("10.96.0.1"), 0, 0).addr_be));
  EXPECT_EQ(lines, (std::vector<std::string>{
                       "put service 1: default/web port 80 TCP IPv4",
                       "put backend 1: 10.1.0.1:8080 TCP",
                       "put backend 2: 10.1.0.2:8080 TCP local",
                       "write table 0+1616",
                       "set VIP bit " + bit,
                       "put frontend 10.96.0.1:80 TCP: cluster-ip of service 1, outside 0+1601, pods drop",
                       "put frontend address 10.96.0.1",
                       "delete frontend address 10.96.0.1",
                       "delete frontend 10.96.0.1:80 TCP",
                       "clear VIP bit " + bit,
                       "delete backend 1",
                       "delete backend 2",
                       "delete service 1",
                   }));
}

TEST(Operation, Ipv6AndPortNames) {
  abi::service_info info{};
  std::strcpy(info.namespace_name, "kube-system");
  std::strcpy(info.name, "dns");
  std::strcpy(info.port_name, "dns-tcp");
  info.port = 53;
  info.protocol = 17;
  info.family = 6;
  EXPECT_EQ(to_string(PutService{7, info}), "put service 7: kube-system/dns:dns-tcp port 53 UDP IPv6");
  EXPECT_EQ(to_string(DeleteFrontend{make_key(ip("fd00::1"), 53, 17)}), "delete frontend [fd00::1]:53 UDP");
}

}  // namespace
}  // namespace maglane
