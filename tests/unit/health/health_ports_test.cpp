// SPDX-License-Identifier: Apache-2.0
#include "agent/health/health_ports.h"

#include <gmock/gmock.h>

#include "tests/unit/health/model.h"

namespace maglane {
namespace {

using test::checked;
using test::service;
using test::Update;
using testing::HasSubstr;
using testing::IsEmpty;

class Ports : public testing::Test {
 protected:
  void update(const Update& update) { ports_.update(update.cluster, update.changes.resolved); }
  std::string at(uint16_t port) {
    const auto found = ports_.by_port().find(port);
    return found == ports_.by_port().end() ? "nobody" : found->second.service.name;
  }
  HealthPorts ports_;
};

TEST_F(Ports, Point28_ServicesWithAPortAlone) {
  update(Update({checked("a", 30001, 1), service("b"), checked("c", 30003, 0)}));
  EXPECT_EQ(ports_.by_port().size(), 2U);
  EXPECT_EQ(at(30001), "a");
  EXPECT_EQ(at(30003), "c");
  EXPECT_EQ(ports_.by_port().at(30001).check.local_endpoints.at(Family::ipv4), 1U);
  EXPECT_THAT(ports_.complaints(), IsEmpty());
}

TEST_F(Ports, Point28_FollowsChanges) {
  Update first({checked("a", 30001, 1), checked("b", 30002, 1)});
  update(first);
  // b moves, c comes, a loses its port.
  Update second({service("a"), checked("b", 30004, 5), checked("c", 30002, 1)});
  update(second);
  EXPECT_EQ(at(30001), "nobody");
  EXPECT_EQ(at(30002), "c");
  EXPECT_EQ(at(30004), "b");
  ports_.update({}, {{"default", "a"}, {"default", "b"}, {"default", "c"}});
  EXPECT_THAT(ports_.by_port(), IsEmpty());
}

TEST_F(Ports, Point28_WhatDidNotChangeStays) {
  Update first({checked("a", 30001, 1), checked("b", 30002, 1)});
  update(first);
  auto cluster = first.cluster;
  cluster[{"default", "b"}] = checked("b", 30002, 7);
  ports_.update(cluster, {{"default", "b"}});
  EXPECT_EQ(at(30001), "a");
  EXPECT_EQ(ports_.by_port().at(30002).check.local_endpoints.at(Family::ipv4), 7U);
}

TEST_F(Ports, Point28_TheOlderOfTwoKeepsAPort) {
  update(Update({checked("a", 30001, 1, "2026-02-01T00:00:00Z"), checked("b", 30001, 1, "2026-01-01T00:00:00Z"),
                 checked("c", 30001, 1)}));
  EXPECT_EQ(at(30001), "b");
  ASSERT_EQ(ports_.complaints().size(), 2U);
  EXPECT_EQ(ports_.complaints()[0].where, "Service default/a");
  EXPECT_THAT(ports_.complaints()[0].message, HasSubstr("30001 is that of Service default/b"));
  EXPECT_EQ(ports_.complaints()[1].where, "Service default/c");
}

}  // namespace
}  // namespace maglane
