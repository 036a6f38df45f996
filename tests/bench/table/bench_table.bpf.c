/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow table beside the kernel's hash and LRU hash, with the same keys and values. */
#include "bpf/maps.h"
#include "bpf/ctx_tc.h"
#include "bpf/flow.h"
#include "tests/bench/table/bench_table.h"

MAGLANE_MAP(kernel_hash, BPF_MAP_TYPE_HASH, struct tuple4, struct flow4, 1, 0);
MAGLANE_MAP(kernel_lru, BPF_MAP_TYPE_LRU_HASH, struct tuple4, struct flow4, 1, 0);

struct walk {
	__u32 at;
	__u32 range;
	__u32 stride;
	__u32 first;
	__u32 stamp;
	__u32 pad;
	__u64 done;
};

static __always_inline void next_key(struct walk *walk, union any_tuple *key)
{
	__u32 number = walk->first + walk->at;

	walk->at += walk->stride;
	if (walk->at >= walk->range)
		walk->at -= walk->range;
	__builtin_memset(key, 0, sizeof(*key));
	key->t4.src_be = 0x0a + (number << 8);
	key->t4.dst_be = 0x0100a8c0;
	key->t4.src_port_be = number >> 24 | 0x4000;
	key->t4.dst_port_be = 0x5000;
	key->t4.protocol = IPPROTO_TCP;
	/* In memory, as parsing leaves it: also in the empty loop. */
	asm volatile("" : : "r"(key) : "memory");
}

/* As of an established connection: nothing that a full bucket would give up. */
static __always_inline void make_flow(union any_flow *flow, const struct walk *walk)
{
	__builtin_memset(flow, 0, sizeof(*flow));
	flow->f4.body.stamp = walk->stamp;
}

enum {
	ESTABLISHED = SEEN_ACK | SEEN_ACK << SEEN_TWIN_SHIFT,
	REMOVE_TRIES = 1024,
};

static long empty_step(__u32 n, struct walk *walk)
{
	union any_tuple key;

	next_key(walk, &key);
	walk->done += key.t4.protocol == IPPROTO_TCP;
	return 0;
}

static long maglane_find_step(__u32 n, struct walk *walk)
{
	union any_tuple key;
	struct flow flow;

	next_key(walk, &key);
	if (flow_find(&key, &flow, FAMILY_IPV4) == TABLE_DONE)
		walk->done += flow.answer.f4.body.backend_id == 0;
	return 0;
}

static long maglane_insert_step(__u32 n, struct walk *walk)
{
	union any_tuple key;
	union any_flow flow;

	next_key(walk, &key);
	make_flow(&flow, walk);
	walk->done += flow_insert(&key, &flow, ESTABLISHED, FAMILY_IPV4) == TABLE_DONE;
	return 0;
}

static long maglane_remove_step(__u32 n, struct walk *walk)
{
	union any_tuple key;

	next_key(walk, &key);
	walk->done += flow_remove(&key, FAMILY_IPV4) == TABLE_DONE;
	return 0;
}

static long maglane_pair_step(__u32 n, struct walk *walk)
{
	union any_tuple key;
	union any_flow flow;

	next_key(walk, &key);
	make_flow(&flow, walk);
	if (flow_insert(&key, &flow, ESTABLISHED, FAMILY_IPV4) != TABLE_DONE)
		return 0;
	/* A CPU that holds the lock may be held up by a hypervisor. */
	for (__u32 i = 0; i < REMOVE_TRIES; i++) {
		enum table_result result = flow_remove(&key, FAMILY_IPV4);

		if (result == TABLE_BUSY)
			continue;
		walk->done += result == TABLE_DONE;
		break;
	}
	return 0;
}

static __always_inline long kernel_find(struct walk *walk, void *map)
{
	union any_tuple key;
	struct flow4 *flow;

	next_key(walk, &key);
	flow = bpf_map_lookup_elem(map, &key.t4);
	if (flow)
		walk->done += *(volatile __u32 *)&flow->body.backend_id == 0;
	return 0;
}

static __always_inline long kernel_insert(struct walk *walk, void *map)
{
	union any_tuple key;
	union any_flow flow;

	next_key(walk, &key);
	make_flow(&flow, walk);
	walk->done += bpf_map_update_elem(map, &key.t4, &flow.f4, BPF_NOEXIST) == 0;
	return 0;
}

static __always_inline long kernel_remove(struct walk *walk, void *map)
{
	union any_tuple key;

	next_key(walk, &key);
	walk->done += bpf_map_delete_elem(map, &key.t4) == 0;
	return 0;
}

static __always_inline long kernel_pair(struct walk *walk, void *map)
{
	union any_tuple key;
	union any_flow flow;

	next_key(walk, &key);
	make_flow(&flow, walk);
	if (bpf_map_update_elem(map, &key.t4, &flow.f4, BPF_NOEXIST) == 0)
		walk->done += bpf_map_delete_elem(map, &key.t4) == 0;
	return 0;
}

#define PROGRAM(name)                                                                              \
	SEC("tc")                                                                                  \
	int name(struct __sk_buff *ctx)                                                            \
	{                                                                                          \
		struct bench_call *call = ctx_at(ctx, 0, sizeof(*call));                           \
		struct walk walk = {};                                                             \
                                                                                                   \
		if (!call)                                                                         \
			return CTX_DROP;                                                           \
		walk.range = call->range;                                                          \
		walk.stride = call->stride;                                                        \
		walk.first = call->first;                                                          \
		walk.stamp = clock_slot();                                                         \
		bpf_loop(call->count, name##_step, &walk, 0);                                      \
		call = ctx_at(ctx, 0, sizeof(*call));                                              \
		if (call)                                                                          \
			call->done = walk.done;                                                    \
		return 0;                                                                          \
	}

#define KERNEL(map, operation)                                                                     \
	static long map##_##operation##_step(__u32 n, struct walk *walk)                           \
	{                                                                                          \
		return kernel_##operation(walk, &kernel_##map);                                    \
	}                                                                                          \
	PROGRAM(map##_##operation)

PROGRAM(empty)
PROGRAM(maglane_find)
PROGRAM(maglane_insert)
PROGRAM(maglane_remove)
PROGRAM(maglane_pair)
KERNEL(hash, find)
KERNEL(hash, insert)
KERNEL(hash, remove)
KERNEL(hash, pair)
KERNEL(lru, find)
KERNEL(lru, insert)
KERNEL(lru, remove)
KERNEL(lru, pair)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
