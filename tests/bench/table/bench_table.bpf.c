/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow table beside the kernel's hash and LRU hash, with the same keys and values. */
#include "bpf/maps.h"
#include "bpf/ctx_tc.h"
#include "bpf/expiry.h"
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

/* Which table; a constant at every call. */
enum table { MAGLANE, HASH, LRU };
#define KERNEL_MAP(table) ((table) == HASH ? (void *)&kernel_hash : (void *)&kernel_lru)

static __always_inline int find(enum table table, union any_tuple *key)
{
	const struct flow4 *known;
	struct flow flow;

	if (table == MAGLANE)
		return flow_find(key, &flow, FAMILY_IPV4) == TABLE_DONE &&
		       flow.answer.f4.body.backend_id == 0;
	known = bpf_map_lookup_elem(KERNEL_MAP(table), &key->t4);
	return known && *(volatile __u32 *)&known->body.backend_id == 0;
}

static __always_inline int insert(enum table table, union any_tuple *key, const struct walk *walk)
{
	union any_flow flow;

	make_flow(&flow, walk);
	return table == MAGLANE ?
		       flow_insert(key, &flow, ESTABLISHED, FAMILY_IPV4) == TABLE_DONE :
		       !bpf_map_update_elem(KERNEL_MAP(table), &key->t4, &flow.f4, BPF_NOEXIST);
}

static __always_inline int remove(enum table table, union any_tuple *key)
{
	if (table != MAGLANE)
		return !bpf_map_delete_elem(KERNEL_MAP(table), &key->t4);
	/* A CPU that holds the lock may be held up by a hypervisor. */
	for (__u32 i = 0; i < REMOVE_TRIES; i++) {
		enum table_result result = flow_remove(key, FAMILY_IPV4);

		if (result != TABLE_BUSY)
			return result == TABLE_DONE;
	}
	return 0;
}

static __always_inline int pair(enum table table, union any_tuple *key, const struct walk *walk)
{
	return insert(table, key, walk) && remove(table, key);
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

#define OPERATION(name, operation)                                                                 \
	static long name##_step(__u32 n, struct walk *walk)                                        \
	{                                                                                          \
		union any_tuple key;                                                               \
                                                                                                   \
		next_key(walk, &key);                                                              \
		walk->done += operation;                                                           \
		return 0;                                                                          \
	}                                                                                          \
	PROGRAM(name)

#define TABLE(name, table)                                                                         \
	OPERATION(name##_find, find(table, &key))                                                  \
	OPERATION(name##_insert, insert(table, &key, walk))                                        \
	OPERATION(name##_remove, remove(table, &key))                                              \
	OPERATION(name##_pair, pair(table, &key, walk))

/* What the agent has done every second: struct expire_call. */
SEC("tc")
int sweep(struct __sk_buff *ctx)
{
	return expiry_answer(ctx);
}

OPERATION(empty, key.t4.protocol == IPPROTO_TCP)
TABLE(maglane, MAGLANE)
TABLE(hash, HASH)
TABLE(lru, LRU)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
