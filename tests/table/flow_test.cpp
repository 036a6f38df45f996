// SPDX-License-Identifier: Apache-2.0
//
// What the flow table gives up when it is full, and that whoever acts on a copy of a flow acts
// on that flow alone.
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>
#include <map>

#include "agent/kernel/timeouts.h"
#include "tests/table/native_flow.h"
#include "tests/table/walk.h"

// bpf/maps.h has it constant, for the programs.
extern "C" {
maglane::abi::node_config config;
}

namespace maglane::test {
namespace {

constexpr uint32_t kNow = 1'000'000;
constexpr uint8_t kEstablished = abi::SEEN_SYN | abi::SEEN_ACK | (abi::SEEN_SYN | abi::SEEN_ACK) << abi::SEEN_TWIN_SHIFT;
constexpr uint8_t kClosed = kEstablished | abi::SEEN_FIN | abi::SEEN_FIN << abi::SEEN_TWIN_SHIFT;

class Flows : public testing::Test {
 protected:
  Flows() { start(4); }

  void start(uint32_t buckets) {
    table_ = std::make_unique<Table>(SHAPE_FLOW4, buckets, 3);
    config = {};
    config.slot_shift = 8;
    config.timeouts = default_timeout_seconds();
    config.seed = table_->get()->seed;
    config.flow_buckets4 = buckets;
    native_flows(table_->get());
    native_set_slot(kNow);
  }
  ~Flows() override { EXPECT_EQ(faults_of(table_->get()), ""); }

  static tuple4 key(uint32_t client, uint8_t protocol = IPPROTO_TCP) {
    return {client, 0x0100a8c0, 0x9c40, 0x5000, protocol, {}};
  }
  // To endpoint `endpoint`; through source port `port`.
  static flow4 flow(const tuple4& key, uint32_t endpoint, uint16_t port, uint32_t idle = 0) {
    flow4 flow{key.src_be, endpoint, port, 0x901f, {}};
    flow.body.stamp = kNow - idle;
    return flow;
  }
  static int insert(const tuple4& key, const flow4& flow, uint8_t seen) { return native_flow_insert(&key, &flow, seen); }
  static bool has(const tuple4& key) {
    native_found found;
    return native_flow_find(&key, &found) == NATIVE_DONE;
  }
  // The flow is lost, and its tuple becomes another connection's, which leads to source 33.
  void give_to_another(const tuple4& key) {
    ASSERT_EQ(native_remove(table_->get(), reinterpret_cast<const __u64*>(&key)), NATIVE_DONE);
    flow4 others{};
    others.src_be = 33;
    ASSERT_EQ(insert(key, others, kEstablished), NATIVE_DONE);
  }
  static native_found find(const tuple4& key) {
    native_found found{};
    EXPECT_EQ(native_flow_find(&key, &found), NATIVE_DONE);
    return found;
  }
  // Both directions; returns the key of the second.
  static tuple4 insert_pair(const tuple4& key, flow4 flow, uint8_t seen) {
    tuple4 twin_key;
    flow4 twin;
    native_flow_twin(&key, &flow, &twin_key, &twin);
    twin.body.stamp = flow.body.stamp;
    EXPECT_EQ(insert(twin_key, twin, static_cast<uint8_t>(seen << 4 | seen >> 4)), NATIVE_DONE);
    EXPECT_EQ(insert(key, flow, seen), NATIVE_DONE);
    return twin_key;
  }
  static uint8_t seen(const native_found& found) { return static_cast<uint8_t>(found.meta >> abi::FLOW_META_SEEN_SHIFT); }

  std::unique_ptr<Table> table_;
};

// ---- what is given up ---------------------------------------------------------------------

bool is_closed(uint8_t seen) {
  return seen & seen >> 4 & abi::SEEN_FIN;
}

bool is_established(uint8_t seen, uint8_t flags, uint8_t protocol) {
  const uint8_t own = seen & 0xf, twin = seen >> 4;
  const uint8_t forward = flags & abi::FLOW_REPLY ? twin : own, reply = flags & abi::FLOW_REPLY ? own : twin;
  return reply != 0 && (protocol == IPPROTO_UDP || (forward & (abi::SEEN_ACK | abi::SEEN_FIN)) || (reply & abi::SEEN_FIN));
}

uint32_t limit_of(uint8_t seen, uint8_t flags, uint8_t protocol) {
  const auto& t = config.timeouts;
  const uint8_t own = seen & 0xf, twin = seen >> 4, either = own | twin;
  const uint8_t forward = flags & abi::FLOW_REPLY ? twin : own;
  const bool established = is_established(seen, flags, protocol);
  if (protocol == IPPROTO_UDP) return established ? t.udp_stream : t.udp;
  if (is_closed(seen) && either & abi::SEEN_RST) return t.tcp_close;
  const bool unanswered =
      (own & abi::SEEN_FIN && !(twin & abi::SEEN_ACK)) || (twin & abi::SEEN_FIN && !(own & abi::SEEN_ACK));
  if (is_closed(seen)) return unanswered ? t.tcp_last_ack : t.tcp_time_wait;
  if (either & abi::SEEN_RST) return t.tcp_unacknowledged;
  if (either & abi::SEEN_FIN) return unanswered ? t.tcp_fin_wait : t.tcp_close_wait;
  if (established) return t.tcp_established;
  if (either != forward || (flags & abi::FLOW_REPLY ? own : twin) != 0) return t.tcp_syn_recv;
  return forward & abi::SEEN_SYN ? t.tcp_syn_sent : t.tcp_unacknowledged;
}

// Closed before expired before embryonic, the longest idle first; established never.
TEST_F(Flows, rank_of_every_state) {
  const uint32_t idles[] = {0, 1, 2, 9, 15, 17, 29, 31, 44, 46, 61, 89, 92, 119, 121, 179, 182, 299, 449, 452, 3599, 3601, 5399, 5402, 86401, 129602, 4'000'000};
  std::map<uint32_t, std::map<uint32_t, uint32_t>> ranks;  // class, idle, rank
  for (const int protocol_number : {IPPROTO_TCP, IPPROTO_UDP})
    for (const uint8_t flags : {uint8_t{0}, uint8_t{abi::FLOW_REPLY}})
      for (uint32_t seen = 0; seen < 256; ++seen)
        for (const uint32_t idle : idles) {
          const auto protocol = static_cast<uint8_t>(protocol_number);
          flow4 of = flow(key(1), 2, 3, idle);
          of.body.flags = flags;
          const auto bits = static_cast<uint8_t>(seen);
          const tuple4 tuple = key(1, protocol);
          const uint32_t rank = native_flow_rank(&tuple, &of, bits, kNow);
          const bool closed = protocol == IPPROTO_TCP && is_closed(bits), established = is_established(bits, flags, protocol);
          const uint32_t limit = limit_of(bits, flags, protocol);
          // An established flow that its twin keeps alive lags behind by half its limit.
          const bool expired = idle >= limit + limit / 2 + 1;
          const uint32_t group = closed ? 3 : expired ? 2 : established ? 0 : 1;
          EXPECT_EQ(group == 0, rank == 0) << "seen " << seen << " idle " << idle;
          EXPECT_TRUE(ranks[group].emplace(idle, rank).first->second == rank) << "a group and its idle time decide alone";
        }
  uint32_t last = 0;
  for (const auto& [group, of_group] : ranks) {
    if (group == 0) continue;
    for (const auto& [idle, rank] : of_group) {
      EXPECT_GT(rank, last) << "group " << group << " idle " << idle;
      last = rank;
    }
  }
}

TEST_F(Flows, a_full_table_gives_up_in_order) {
  start(2);
  const uint32_t room = 2 * abi::TABLE_SLOTS;
  std::vector<uint32_t> order;  // clients, as they should go
  std::map<uint32_t, std::pair<uint8_t, uint32_t>> state;  // seen, idle
  for (uint32_t n = 0; n < 10; ++n) state[100 + n] = {kClosed, 1 + n * 7 % 10};
  for (uint32_t n = 0; n < 10; ++n) state[200 + n] = {abi::SEEN_SYN, 100 + n * 3 % 10};  // expired after 91
  for (uint32_t n = 0; n < 10; ++n) state[300 + n] = {abi::SEEN_SYN, n * 9 % 10};
  for (uint32_t n = 0; n < room - 30; ++n) state[400 + n] = {kEstablished, 80000};
  for (const uint32_t group : {100, 200, 300})
    for (uint32_t idle = 200; idle-- > 0;)
      for (const auto& [client, of] : state)
        if (client / 100 * 100 == group && of.second == idle) order.push_back(client);
  ASSERT_EQ(order.size(), 30u);
  for (const auto& [client, of] : state)
    ASSERT_EQ(insert(key(client), flow(key(client), 2, 3, of.second), of.first), NATIVE_DONE);
  for (uint32_t n = 0; n < order.size(); ++n) {
    const uint32_t client = 1000 + n;
    ASSERT_EQ(insert(key(client), flow(key(client), 2, 3, 0), kEstablished), NATIVE_DONE);
    EXPECT_FALSE(has(key(order[n]))) << "not the next to go: " << order[n];
    for (uint32_t later = n + 1; later < order.size(); ++later) EXPECT_TRUE(has(key(order[later])));
  }
  EXPECT_EQ(insert(key(5000), flow(key(5000), 2, 3), abi::SEEN_SYN), NATIVE_FULL);
  for (uint32_t n = 0; n < room - 30; ++n) EXPECT_TRUE(has(key(400 + n))) << "established";
}

TEST_F(Flows, a_flood_of_syns_takes_only_its_own) {
  start(64);
  for (uint32_t client = 0; client < 800; ++client)
    ASSERT_EQ(insert(key(client), flow(key(client), 2, 3, 3000), kEstablished), NATIVE_DONE);
  for (uint32_t n = 0; n < 100'000; ++n) {
    native_set_slot(kNow + n / 1000);
    flow4 of = flow(key(1'000'000 + n), 2, 3);
    of.body.stamp = kNow + n / 1000;
    ASSERT_EQ(insert(key(1'000'000 + n), of, abi::SEEN_SYN), NATIVE_DONE);
  }
  for (uint32_t client = 0; client < 800; ++client) EXPECT_TRUE(has(key(client)));
}

// Within one slot all are equally old: the last one that came must not be the next to go.
TEST_F(Flows, a_flood_within_a_slot_leaves_newcomers_their_time) {
  start(2);
  const uint32_t room = 2 * abi::TABLE_SLOTS;
  uint32_t alive = 0;
  for (uint32_t round = 0; round < 100; ++round) {
    const tuple4 honest = key(10'000'000 + round);
    ASSERT_EQ(insert(honest, flow(honest, 2, 3), abi::SEEN_SYN), NATIVE_DONE);
    for (uint32_t n = 0; n < room / 2; ++n) {
      const tuple4 other = key(round * 1000 + n);
      insert(other, flow(other, 2, 3), abi::SEEN_SYN);
    }
    alive += has(honest);
  }
  EXPECT_GT(alive, 40u);  // 61/62 to the power of 31 of them is 60 %
}

// One direction alone has packets; the connection lives, so a flood must not take the other.
TEST_F(Flows, a_direction_without_packets_outlives_a_flood) {
  start(2);
  const tuple4 forward = key(1, IPPROTO_UDP);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), abi::SEEN_ACK | abi::SEEN_ACK << 4);
  for (uint32_t slot = kNow; slot < kNow + 2000; ++slot) {
    native_set_slot(slot);
    native_found found = find(forward);  // a packet, as renew() does it
    found.flow.body.stamp = slot;
    native_flow_repair_twin(&forward, &found);
    native_flow_store_hop(&forward, &found);
    for (uint32_t n = 0; n < 20; ++n) {
      const tuple4 other = key(slot * 64 + n, IPPROTO_UDP);
      flow4 of = flow(other, 2, 3);
      of.body.stamp = slot;
      insert(other, of, abi::SEEN_ACK);
    }
    ASSERT_TRUE(has(reverse)) << slot - kNow;
  }
}

// ---- copies ---------------------------------------------------------------------------------

TEST_F(Flows, two_cpus_that_find_a_closed_flow_do_not_both_get_its_tuple) {
  const tuple4 forward = key(1);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), kClosed);
  native_found one = find(reverse), two = find(reverse);
  native_flow_remove_pair(&reverse, &one);
  EXPECT_FALSE(has(forward));
  flow4 ones{};
  ones.src_be = 11;
  EXPECT_EQ(insert(reverse, ones, abi::SEEN_SYN), NATIVE_DONE);
  native_flow_remove_pair(&reverse, &two);
  flow4 twos{};
  twos.src_be = 22;
  EXPECT_EQ(insert(reverse, twos, abi::SEEN_SYN), NATIVE_PRESENT);
  EXPECT_EQ(find(reverse).flow.src_be, 11u);
}

TEST_F(Flows, removing_a_pair_spares_anothers_twin) {
  const tuple4 forward = key(1);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), kClosed);
  // The forward flow is lost, and made anew through another port.
  ASSERT_EQ(native_remove(table_->get(), reinterpret_cast<const __u64*>(&forward)), NATIVE_DONE);
  ASSERT_EQ(insert(forward, flow(forward, 2, 99), abi::SEEN_SYN), NATIVE_DONE);
  native_found closed = find(reverse);
  native_flow_remove_pair(&reverse, &closed);
  EXPECT_FALSE(has(reverse));
  EXPECT_TRUE(has(forward));
}

TEST_F(Flows, a_next_hop_is_stored_only_where_it_was_found_missing) {
  const tuple4 forward = key(1);
  ASSERT_EQ(insert(forward, flow(forward, 2, 3), abi::SEEN_SYN), NATIVE_DONE);
  native_found old = find(forward);
  old.flow.body.next_hop.device = 7;
  native_flow_store_hop(&forward, &old);
  EXPECT_EQ(find(forward).flow.body.next_hop.device, 7u);
  native_found stale = find(forward);
  ASSERT_EQ(native_remove(table_->get(), reinterpret_cast<const __u64*>(&forward)), NATIVE_DONE);
  ASSERT_EQ(insert(forward, flow(forward, 22, 3), abi::SEEN_SYN), NATIVE_DONE);
  native_flow_store_hop(&forward, &stale);
  EXPECT_EQ(find(forward).flow.body.next_hop.device, 0u) << "the way to another endpoint";
}

TEST_F(Flows, what_was_seen_is_noted_in_both_directions) {
  const tuple4 forward = key(1);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), kEstablished);
  native_found found = find(forward);
  native_flow_note_seen(&forward, &found, abi::SEEN_FIN);
  EXPECT_EQ(seen(find(forward)), (kEstablished | abi::SEEN_FIN) & ~(abi::SEEN_ACK << abi::SEEN_TWIN_SHIFT));
  EXPECT_EQ(seen(find(reverse)), (kEstablished & ~abi::SEEN_ACK) | abi::SEEN_FIN << abi::SEEN_TWIN_SHIFT);
  // The FIN's acknowledgement.
  found = find(reverse);
  native_flow_note_seen(&reverse, &found, abi::SEEN_ACK);
  EXPECT_EQ(seen(find(forward)), kEstablished | abi::SEEN_FIN);
  EXPECT_EQ(seen(find(reverse)), kEstablished | abi::SEEN_FIN << abi::SEEN_TWIN_SHIFT);
  EXPECT_EQ(native_flow_rank(&forward, &found.flow, seen(find(forward)), kNow), 0u);
}

TEST_F(Flows, what_was_seen_is_not_noted_in_anothers_twin) {
  const tuple4 forward = key(1);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), kEstablished);
  give_to_another(reverse);
  native_found found = find(forward);
  native_flow_note_seen(&forward, &found, abi::SEEN_RST);
  EXPECT_EQ(seen(find(reverse)), kEstablished);
  EXPECT_EQ(seen(find(forward)), kEstablished | abi::SEEN_RST);
}

TEST_F(Flows, a_flow_whose_reply_tuple_is_anothers_goes) {
  const tuple4 forward = key(1);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), kEstablished);
  give_to_another(reverse);
  native_found found = find(forward);
  native_flow_repair_twin(&forward, &found);
  EXPECT_FALSE(has(forward)) << "two connections would share a reply tuple";
  EXPECT_EQ(find(reverse).flow.src_be, 33u);
}

TEST_F(Flows, a_lost_direction_is_made_again) {
  const tuple4 forward = key(1);
  flow4 served = flow(forward, 2, 3);
  served.body.backend_id = 7;
  served.body.service_id = 8;
  const tuple4 reverse = insert_pair(forward, served, kEstablished | abi::SEEN_FIN);
  const flow4 before = find(reverse).flow;
  ASSERT_EQ(native_remove(table_->get(), reinterpret_cast<const __u64*>(&reverse)), NATIVE_DONE);
  native_found found = find(forward);
  native_flow_repair_twin(&forward, &found);
  const native_found again = find(reverse);
  EXPECT_EQ(std::memcmp(&before, &again.flow, sizeof before), 0);
  EXPECT_EQ(seen(again), kEstablished | abi::SEEN_FIN << abi::SEEN_TWIN_SHIFT);
  EXPECT_EQ(again.flow.body.flags, abi::FLOW_REPLY);
  EXPECT_EQ(again.flow.body.backend_id, 7u);
  EXPECT_EQ(again.flow.body.service_id, 8u);
}

// In a full table it would only make way for it.
TEST_F(Flows, a_lost_direction_of_what_is_closed_is_not_made_again) {
  const tuple4 forward = key(1);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), kClosed);
  ASSERT_EQ(native_remove(table_->get(), reinterpret_cast<const __u64*>(&reverse)), NATIVE_DONE);
  native_found found = find(forward);
  native_flow_repair_twin(&forward, &found);
  EXPECT_FALSE(has(reverse));
}

// The agent may be about to clear what was noted of it: see bpf/repair.h.
TEST_F(Flows, a_direction_that_is_made_again_has_its_bits) {
  const tuple4 forward = key(1);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), kEstablished);
  const auto bit = [](uint32_t address) {
    const uint32_t wide[4] = {address, 0, 0, 0};
    return abi::vip_hash(wide);
  };
  const auto has_bits = [&] {
    const auto& words = native_flow_bits()->word;
    const uint32_t to = bit(forward.dst_be), from = bit(2);
    return words[to / 64].to[0] >> (to % 64) & 1 && words[from / 64].from[0] >> (from % 64) & 1;
  };
  for (const tuple4& lost : {reverse, forward}) {
    std::memset(native_flow_bits(), 0, sizeof(flow_bits));
    ASSERT_EQ(native_remove(table_->get(), reinterpret_cast<const __u64*>(&lost)), NATIVE_DONE);
    const tuple4& left = lost.src_be == reverse.src_be ? forward : reverse;
    native_found found = find(left);
    native_flow_repair_twin(&left, &found);
    EXPECT_TRUE(has(lost));
    EXPECT_TRUE(has_bits());
  }
}

// ---- the table before ------------------------------------------------------------------------

// Another size, and so other places; programs of before know nothing of the new one.
class RetiredFlows : public Flows {
 protected:
  RetiredFlows() : retired_(SHAPE_FLOW4, 9, 3) {
    config.retired_buckets4 = 9;
    native_retired_flows(retired_.get());
  }
  ~RetiredFlows() override {
    EXPECT_EQ(faults_of(retired_.get()), "");
    native_retired_flows(nullptr);
  }

  // As a hook whose program is still the one before.
  template <typename What>
  auto at_old_hook(What what) {
    config.retired_buckets4 = 0;
    config.flow_buckets4 = 9;
    native_flows(retired_.get());
    auto result = what();
    native_flows(table_->get());
    config.flow_buckets4 = 4;
    config.retired_buckets4 = 9;
    return result;
  }
  bool old_hook_has(const tuple4& key) {
    return at_old_hook([&] { return has(key); });
  }
  bool in_new_table(const tuple4& key) { return native_locate(table_->get(), reinterpret_cast<const __u64*>(&key)) >= 0; }

  Table retired_;
};

TEST_F(RetiredFlows, what_old_hooks_make_is_taken_up_with_both_directions) {
  const tuple4 forward = key(1);
  const tuple4 reverse = at_old_hook([&] { return insert_pair(forward, flow(forward, 2, 3), kEstablished); });
  EXPECT_TRUE(native_flow_is_there(&reverse));
  EXPECT_FALSE(in_new_table(reverse));
  const native_found found = find(reverse);
  EXPECT_EQ(found.flow.dst_be, forward.src_be);
  EXPECT_EQ(seen(found), kEstablished);
  EXPECT_GE(found.location, 0);
  EXPECT_TRUE(in_new_table(reverse));
  EXPECT_TRUE(in_new_table(forward));
}

TEST_F(RetiredFlows, what_new_hooks_make_old_ones_find) {
  const tuple4 forward = key(1);
  const tuple4 reverse = insert_pair(forward, flow(forward, 2, 3), abi::SEEN_SYN);
  EXPECT_TRUE(old_hook_has(forward));
  EXPECT_TRUE(old_hook_has(reverse));
}

TEST_F(RetiredFlows, a_tuple_that_an_old_hook_has_given_away_is_taken) {
  const tuple4 mine = key(1);
  at_old_hook([&] { return insert(mine, flow(mine, 2, 3), kEstablished); });
  EXPECT_EQ(insert(mine, flow(mine, 4, 5), abi::SEEN_SYN), NATIVE_PRESENT);
  EXPECT_EQ(find(mine).flow.dst_be, 2U);
}

TEST_F(RetiredFlows, what_is_removed_does_not_come_back) {
  const tuple4 forward = key(1);
  const tuple4 reverse = at_old_hook([&] { return insert_pair(forward, flow(forward, 2, 3), kClosed); });
  native_found found = find(forward);
  native_flow_remove_pair(&forward, &found);
  EXPECT_FALSE(has(forward));
  EXPECT_FALSE(has(reverse));
  EXPECT_FALSE(old_hook_has(forward));
  EXPECT_FALSE(old_hook_has(reverse));
}

TEST_F(RetiredFlows, a_full_new_table_keeps_no_tuple_of_the_old_one) {
  for (uint32_t n = 0; n < 4 * abi::TABLE_SLOTS; ++n) {
    const tuple4 other = key(1000 + n);
    insert(other, flow(other, 2, 3), kEstablished);
  }
  const tuple4 late = key(1);
  const int result = insert(late, flow(late, 2, 3), kEstablished);
  EXPECT_EQ(old_hook_has(late), result == NATIVE_DONE);
}

// Else the reply, at a hook that still uses it, would be taken for a stranger's.
TEST_F(RetiredFlows, a_full_old_table_makes_room_for_what_new_hooks_make) {
  for (uint32_t n = 0; n < 20 * 9 * abi::TABLE_SLOTS; ++n)
    at_old_hook([&] { return insert(key(1000 + n), flow(key(1000 + n), 2, 3), kClosed); });
  for (uint32_t n = 0; n < 20; ++n) {
    const tuple4 forward = key(n);
    const tuple4 reverse = insert_pair(forward, flow(forward, 100 + n, 3), abi::SEEN_SYN);
    EXPECT_TRUE(old_hook_has(forward));
    EXPECT_TRUE(old_hook_has(reverse));
  }
}

TEST_F(RetiredFlows, what_an_old_table_of_established_flows_has_no_room_for_is_refused) {
  for (uint32_t n = 0; n < 20 * 9 * abi::TABLE_SLOTS; ++n)
    at_old_hook([&] { return insert(key(1000 + n), flow(key(1000 + n), 2, 3), kEstablished); });
  const tuple4 late = key(1);
  EXPECT_EQ(insert(late, flow(late, 2, 3), abi::SEEN_SYN), NATIVE_FULL);
  EXPECT_FALSE(in_new_table(late));
  EXPECT_FALSE(old_hook_has(late));
}

TEST_F(RetiredFlows, let_go_of_it_is_asked_no_more) {
  const tuple4 mine = key(1), other = key(2);
  at_old_hook([&] { return insert(mine, flow(mine, 2, 3), kEstablished); });
  native_retired_flows(nullptr);
  EXPECT_FALSE(has(mine));
  EXPECT_FALSE(native_flow_is_there(&mine));
  EXPECT_EQ(insert(mine, flow(mine, 4, 5), abi::SEEN_SYN), NATIVE_DONE);
  EXPECT_EQ(insert(other, flow(other, 4, 5), abi::SEEN_SYN), NATIVE_DONE);
  EXPECT_FALSE(old_hook_has(other));
}

}  // namespace
}  // namespace maglane::test
