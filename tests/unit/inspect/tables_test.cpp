// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/inspect/selector.h"
#include "tests/unit/inspect/contents.h"

namespace maglane::inspect {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> names(const v1::ServiceList& list) {
  std::vector<std::string> result;
  for (const auto& s : list.services())
    result.push_back(s.namespace_() + "/" + s.name() + ":" + s.port_name());
  return result;
}

TEST(Services, AreListedByNameWithTheirFrontends) {
  const auto list = list_services(test::cluster());
  EXPECT_THAT(names(list), ElementsAre("default/empty:", "default/web:http", "prod/web:"));
  const v1::ServiceInfo& web = list.services(1);
  EXPECT_EQ(web.id(), 7U);
  EXPECT_EQ(web.port(), 80U);
  EXPECT_EQ(web.protocol(), "TCP");
  EXPECT_EQ(web.family(), "IPv4");
  EXPECT_TRUE(web.endpoints().empty());
  ASSERT_EQ(web.frontends_size(), 2);
  EXPECT_EQ(web.frontends(0).type(), "cluster-ip");
  EXPECT_EQ(web.frontends(0).address(), "10.96.0.1");
  EXPECT_EQ(web.frontends(0).endpoints(), 3U);
  EXPECT_EQ(web.frontends(0).when_empty(), "");
  EXPECT_EQ(web.frontends(1).type(), "node-port");
  EXPECT_EQ(web.frontends(1).port(), 30080U);
  EXPECT_EQ(web.frontends(1).endpoints(), 1U);
  EXPECT_EQ(web.frontends(1).pod_endpoints(), 3U);
}

TEST(Services, EmptyFrontendsSayWhatHappens) {
  const auto list = list_services(test::cluster());
  EXPECT_EQ(list.services(0).frontends(0).when_empty(), "reject");
  EXPECT_EQ(list.services(2).frontends(0).when_empty(), "drop");
  EXPECT_EQ(list.services(2).frontends(0).endpoints(), 0U);
  EXPECT_EQ(list.services(2).frontends(0).pod_endpoints(), 3U);
}

TEST(Services, SharesCountEachTableOnce) {
  const auto list = show_services(test::cluster(), {7});
  ASSERT_EQ(list.services_size(), 1);
  const auto& endpoints = list.services(0).endpoints();
  ASSERT_EQ(endpoints.size(), 3);
  // By number, not by text: .2 before .10.
  EXPECT_EQ(endpoints[0].address(), "10.244.0.10");
  EXPECT_EQ(endpoints[1].address(), "10.244.1.2");
  EXPECT_EQ(endpoints[2].address(), "10.244.1.10");
  EXPECT_EQ(endpoints[0].entries(), 5U);  // 4 of the shared table, 1 of the local one
  EXPECT_DOUBLE_EQ(endpoints[0].share(), 5.0 / 11);
  EXPECT_TRUE(endpoints[0].local());
  EXPECT_FALSE(endpoints[1].local());
}

std::vector<std::string> ranges(const v1::FrontendInfo& frontend) {
  return {frontend.source_ranges().begin(), frontend.source_ranges().end()};
}

TEST(Services, FrontendsTellTheirSourceRanges) {
  MapContents contents = test::cluster();
  test::add_limited(contents, "203.0.113.7", 80, 7);
  // Of its own service and family, by number.
  test::add_source_range(contents, 7, "10.0.0.0", 24);
  test::add_source_range(contents, 7, "198.51.100.0", 24);
  test::add_source_range(contents, 7, "10.0.0.0", 8);
  test::add_source_range(contents, 7, "9.9.9.9", 32);
  test::add_source_range(contents, 8, "192.0.2.0", 24);
  for (const auto& list : {list_services(contents), show_services(contents, {7})}) {
    const auto web = std::find_if(list.services().begin(), list.services().end(),
                                  [](const v1::ServiceInfo& s) { return s.id() == 7; });
    ASSERT_EQ(web->frontends_size(), 3);
    for (const int open : {0, 1}) {  // cluster address and node port
      EXPECT_FALSE(web->frontends(open).limited());
      EXPECT_THAT(ranges(web->frontends(open)), IsEmpty());
    }
    EXPECT_TRUE(web->frontends(2).limited());
    EXPECT_THAT(ranges(web->frontends(2)),
                ElementsAre("9.9.9.9/32", "10.0.0.0/8", "10.0.0.0/24", "198.51.100.0/24"));
  }
}

TEST(Services, RangesOfTheOtherFamilyAloneLetNobodyIn) {
  MapContents contents = test::cluster();
  contents.services[20] = test::service("default", "web", "http", 80, 6, 6);
  test::add_limited(contents, "203.0.113.7", 80, 7);
  test::add_limited(contents, "2001:db8::7", 80, 20);
  test::add_source_range(contents, 20, "2001:db8:c::", 48);
  const auto list = show_services(contents, {7, 20});
  ASSERT_EQ(list.services_size(), 2);
  EXPECT_TRUE(list.services(0).frontends(2).limited());
  EXPECT_THAT(ranges(list.services(0).frontends(2)), IsEmpty());
  EXPECT_THAT(ranges(list.services(1).frontends(0)), ElementsAre("2001:db8:c::/48"));
}

TEST(Services, FrontendsTellTheirAffinity) {
  MapContents contents = test::cluster();
  for (auto& [key, frontend] : contents.frontends)
    if (frontend.service_id == 7) frontend.affinity_seconds = 10800;
  for (const auto& list : {list_services(contents), show_services(contents, {7, 8})}) {
    EXPECT_EQ(list.services(0).frontends(0).affinity_seconds(), 0U);  // default/empty
    ASSERT_EQ(list.services(1).frontends_size(), 2);
    for (const auto& frontend : list.services(1).frontends()) EXPECT_EQ(frontend.affinity_seconds(), 10800U);
  }
}

TEST(Backends, AreListedByAddress) {
  const auto list = list_backends(test::cluster());
  ASSERT_EQ(list.backends_size(), 3);
  EXPECT_EQ(list.backends(0).address(), "10.244.0.10");
  EXPECT_EQ(list.backends(0).id(), 3U);
  EXPECT_TRUE(list.backends(0).local());
  EXPECT_EQ(list.backends(1).address(), "10.244.1.2");
  EXPECT_EQ(list.backends(1).port(), 8080U);
  EXPECT_EQ(list.backends(1).protocol(), "TCP");
}

TEST(Maglev, TablesNameTheirFrontendsAndShares) {
  const auto info = show_maglev(test::cluster(), {7}, "default/web");
  EXPECT_EQ(info.service(), "default/web");
  ASSERT_EQ(info.tables_size(), 2);
  EXPECT_EQ(info.tables(0).offset(), 0U);
  EXPECT_EQ(info.tables(0).size(), 10U);
  EXPECT_THAT(info.tables(0).frontends(),
              ElementsAre("cluster-ip 10.96.0.1:80 TCP", "node-port 192.168.1.1:30080 TCP (pods)"));
  ASSERT_EQ(info.tables(0).endpoints_size(), 3);
  EXPECT_EQ(info.tables(0).endpoints(0).entries(), 4U);
  EXPECT_DOUBLE_EQ(info.tables(0).endpoints(0).share(), 0.4);
  EXPECT_THAT(info.tables(1).frontends(), ElementsAre("node-port 192.168.1.1:30080 TCP (outside)"));
  ASSERT_EQ(info.tables(1).endpoints_size(), 1);
  EXPECT_DOUBLE_EQ(info.tables(1).endpoints(0).share(), 1);
}

TEST(Maglev, EmptyTableHasNoEndpoints) {
  const auto info = show_maglev(test::cluster(), {8}, "empty");
  ASSERT_EQ(info.tables_size(), 1);
  EXPECT_EQ(info.tables(0).size(), 0U);
  EXPECT_EQ(info.tables(0).endpoints_size(), 0);
}

TEST(Garbage, NeitherHarmsNorHides) {
  MapContents contents = test::cluster();
  std::memset(&contents.services[11], 0xff, sizeof(abi::service_info));
  std::memset(&contents.backends[0xffffff], 0xff, sizeof(abi::backend));
  test::add_frontend(contents, "10.96.0.9", 1, 7, 0xee, {40, 0xffffffff}, {0xfffffff0, 16});
  contents.maglev[41] = 0xffffffff;
  abi::source_range_key range{};
  range.service_id = 7;
  contents.source_ranges.insert(range);
  test::add_limited(contents, "203.0.113.7", 80, 7);
  const auto list = list_services(contents);
  EXPECT_EQ(list.services_size(), 4);
  EXPECT_EQ(list.services(0).namespace_(), std::string(64, '?'));
  EXPECT_EQ(list_backends(contents).backends_size(), 4);
  const auto web = show_services(contents, {7});
  EXPECT_THAT(web.services(0).frontends(2).source_ranges(), ElementsAre("0.0.0.0/-64"));
  const auto info = show_maglev(contents, {7}, "web");
  bool gone = false;
  for (const auto& table : info.tables())
    for (const auto& endpoint : table.endpoints())
      gone |= endpoint.backend_id() == 0xffffffff && endpoint.address().empty();
  EXPECT_TRUE(gone);
}

TEST(Selector, TakesNamespaceNameAndPort) {
  const MapContents contents = test::cluster();
  using Ids = std::set<uint32_t>;
  EXPECT_EQ(*select_services(contents, "default/web"), Ids{7});
  EXPECT_EQ(*select_services(contents, "default/web:http"), Ids{7});
  EXPECT_EQ(*select_services(contents, "default/web:80"), Ids{7});
  EXPECT_EQ(*select_services(contents, "empty"), Ids{8});
  EXPECT_EQ(*select_services(contents, "web:http"), Ids{7});
  EXPECT_FALSE(select_services(contents, "default/web:81"));
  EXPECT_FALSE(select_services(contents, ""));
}

TEST(Selector, AllPortsAndFamiliesOfAService) {
  MapContents contents = test::cluster();
  contents.services[20] = test::service("default", "web", "https", 443);
  contents.services[21] = test::service("default", "web", "http", 80, 6, 6);
  EXPECT_EQ(*select_services(contents, "default/web"), (std::set<uint32_t>{7, 20, 21}));
  EXPECT_EQ(*select_services(contents, "default/web:http"), (std::set<uint32_t>{7, 21}));
}

TEST(Selector, AmbiguousAndUnknownNamesSayWhatToDo) {
  const MapContents contents = test::cluster();
  EXPECT_THAT(select_services(contents, "web").error().message,
              HasSubstr("say which: default/web, prod/web"));
  EXPECT_THAT(select_services(contents, "nope").error().message, HasSubstr("maglane service list"));
}

}  // namespace
}  // namespace maglane::inspect
