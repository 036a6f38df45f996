// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/data_plane_config.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

namespace maglane {
namespace {

constexpr abi::table_seed kSeed = {.multiplier = 3, .nh = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}};

TEST(DataPlaneConfig, SlotIsAboutASecond) {
  EXPECT_EQ(slot_shift_for(100), 7U);
  EXPECT_EQ(slot_shift_for(250), 8U);
  EXPECT_EQ(slot_shift_for(300), 8U);
  EXPECT_EQ(slot_shift_for(1000), 10U);
  for (uint32_t hz = 50; hz <= 2000; ++hz) {
    double seconds = static_cast<double>(1U << slot_shift_for(hz)) / hz;
    EXPECT_GT(seconds, 0.66) << hz;
    EXPECT_LT(seconds, 1.5) << hz;
  }
}

TEST(DataPlaneConfig, Constants) {
  DataPlaneOptions options;
  options.ipv6 = false;
  options.masquerade_all = true;
  options.pod_cidrs = {*Cidr::parse("10.1.0.0/16"), *Cidr::parse("fd00:1::/64")};
  options.service_cidrs = {*Cidr::parse("10.96.0.0/12")};
  options.timeout_seconds.tcp_close_wait = 7200;
  auto config = make_node_config(options, 250, kSeed, 4711);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->ipv4, 1);
  EXPECT_EQ(config->ipv6, 0);
  EXPECT_EQ(config->masquerade_all, 1);
  EXPECT_EQ(config->snat_port_min[0], 1024);
  EXPECT_EQ(config->snat_port_count[0], 29999 - 1024 + 1);
  EXPECT_EQ(config->snat_port_min[1], 61000);
  EXPECT_EQ(config->snat_port_count[1], 65535 - 61000 + 1);
  EXPECT_EQ(config->pod_cidrs[0].family, 4U);
  EXPECT_EQ(config->pod_cidrs[0].addr_be[0], htonl(0x0a010000));
  EXPECT_EQ(config->pod_cidrs[0].mask_be[0], htonl(0xffff0000));
  EXPECT_EQ(config->pod_cidrs[1].family, 6U);
  EXPECT_EQ(config->pod_cidrs[2].family, 0U);
  EXPECT_EQ(config->service_cidrs[0].mask_be[0], htonl(0xfff00000));
  EXPECT_EQ(config->timeouts.tcp_syn_sent, 120U * 250 / 256);
  EXPECT_EQ(config->timeouts.tcp_established, 86400U * 250 / 256);
  EXPECT_EQ(config->timeouts.tcp_close_wait, 7200U * 250 / 256);
  EXPECT_EQ(config->seed.multiplier, 3U);
  EXPECT_EQ(config->socket_translation, 1);
  EXPECT_EQ(config->netns_cookie, 4711U);
  EXPECT_EQ(config->seed.nh[9], 10U);
}

TEST(DataPlaneConfig, TablesAreWholeBucketsWithRoomToSpare) {
  DataPlaneOptions options;
  for (const uint32_t entries : {1U, 31U, 62U, 63U, 1024U, 524288U, 1U << 26}) {
    options.flow_entries = entries;
    const uint32_t buckets = options.flow_buckets();
    EXPECT_GE(uint64_t{buckets} * abi::TABLE_SLOTS, entries);
    EXPECT_TRUE(buckets == 2 || (uint64_t{buckets} - 1) * abi::TABLE_SLOTS < entries) << entries;
    auto config = make_node_config(options, 250, kSeed, 4711);
    EXPECT_EQ(config->flow_buckets4, buckets);
    EXPECT_EQ(config->flow_buckets6, buckets);
  }
  for (const uint32_t frontends : {1U, 1000U, 131072U}) {
    options.frontends = frontends;
    EXPECT_LE(frontends, 0.85 * options.frontend_buckets() * int{abi::TABLE_SLOTS});
    EXPECT_GT(options.frontend_values(), frontends) << "and value 0 is never used";
  }
}

TEST(DataPlaneConfig, SeedsDiffer) {
  const abi::table_seed a = random_seed();
  const abi::table_seed b = random_seed();
  EXPECT_NE(a.multiplier, b.multiplier);
  EXPECT_EQ(a.multiplier % 2, 1U);
}

TEST(DataPlaneConfig, RefusesMoreThanTheAbiHolds) {
  DataPlaneOptions options;
  options.pod_cidrs.assign(abi::MAX_POD_CIDRS + 1, *Cidr::parse("10.0.0.0/8"));
  auto config = make_node_config(options, 250, kSeed, 4711);
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().message, "--pod-cidr: 17 CIDRs given, at most 16 are supported");
  options = {};
  options.snat_ports.clear();
  EXPECT_FALSE(make_node_config(options, 250, kSeed, 4711).ok());
}

}  // namespace
}  // namespace maglane
