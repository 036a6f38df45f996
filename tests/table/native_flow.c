// SPDX-License-Identifier: Apache-2.0
#include "tests/table/native_flow.h"

#include "bpf/repair.h"

// What maps and helpers flow.h uses.
struct native_map {
  struct native_table* table;
};
struct native_map flows4, flows6, retired_flows4, retired_flows6, node_state, flow_bits, vip_bits, frontends, frontend_values;

static struct flow_bits bits_of_flows;

// What map "retired_flows4" holds.
static struct native_map retired;

static __u32 slot_now;

void* native_map_lookup_elem(void* map, const void* key) {
  static struct node_state state = {.epoch = 1};
  const struct native_table* table = ((struct native_map*)map)->table;
  const __u32 index = *(const __u32*)key;
  if (map == &node_state) return &state;
  if (map == &flow_bits) return &bits_of_flows;
  if (map == &retired_flows4) return retired.table ? &retired : NULL;
  if (!table || index >= table->count) return NULL;
  return (char*)table->buckets + (size_t)index * native_layout_of(table->shape).bucket_size;
}

__u64 native_jiffies64(void) { return (__u64)slot_now << config.slot_shift; }

void native_flows(struct native_table* table) { flows4.table = table; }
void native_retired_flows(struct native_table* table) { retired.table = table; }
void native_set_slot(__u32 slot) { slot_now = slot; }
struct flow_bits* native_flow_bits(void) { return &bits_of_flows; }

_Static_assert(sizeof(struct native_found) == sizeof(struct flow), "native_found is struct flow");

static union any_tuple key_of(const struct tuple4* key) { return (union any_tuple){.t4 = *key}; }
static union any_flow flow_of(const struct flow4* flow) { return (union any_flow){.f4 = *flow}; }

int native_flow_insert(const struct tuple4* tuple, const struct flow4* of, __u8 seen) {
  const union any_tuple key = key_of(tuple);
  const union any_flow flow = flow_of(of);
  return flow_insert(&key, &flow, seen, FAMILY_IPV4);
}

int native_flow_find(const struct tuple4* tuple, struct native_found* found) {
  const union any_tuple key = key_of(tuple);
  return flow_find(&key, (struct flow*)found, FAMILY_IPV4);
}

int native_flow_is_there(const struct tuple4* tuple) {
  const union any_tuple key = key_of(tuple);
  return flow_is_there(&key, FAMILY_IPV4);
}

void native_flow_remove_pair(const struct tuple4* tuple, struct native_found* found) {
  const union any_tuple key = key_of(tuple);
  flow_remove_pair(&key, (struct flow*)found, FAMILY_IPV4);
}

void native_flow_note_seen(const struct tuple4* tuple, struct native_found* found, __u8 seen) {
  const union any_tuple key = key_of(tuple);
  flow_note_seen(&key, (struct flow*)found, seen, FAMILY_IPV4);
}

void native_flow_store_hop(const struct tuple4* tuple, struct native_found* found) {
  const union any_tuple key = key_of(tuple);
  flow_store_hop(&key, (struct flow*)found, FAMILY_IPV4);
}

void native_flow_repair_twin(const struct tuple4* tuple, struct native_found* found) {
  const union any_tuple key = key_of(tuple);
  struct flow room;
  union any_tuple key_room;
  flow_repair_twin(&key, (struct flow*)found, &room, &key_room, FAMILY_IPV4);
}

void native_flow_twin(const struct tuple4* tuple, struct flow4* of, struct tuple4* twin_tuple, struct flow4* twin) {
  const union any_tuple key = key_of(tuple);
  union any_flow flow = flow_of(of), made;
  union any_tuple twin_key;
  flow_twin_key(&twin_key, &key, &flow, FAMILY_IPV4);
  flow_make_twin(&made, &twin_key, &key, &flow, FAMILY_IPV4);
  *twin_tuple = twin_key.t4;
  *twin = made.f4;
}

__u32 native_flow_rank(const struct tuple4* tuple, const struct flow4* flow, __u8 seen, __u32 now) {
  struct flow_entry4 entry = {.tuple = *tuple, .flow = *flow};
  entry.tuple.pad[0] = seen;
  return flow_rank((const __u64*)&entry, now, FAMILY_IPV4);
}
