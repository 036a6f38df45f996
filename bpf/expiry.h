/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Removing flows that have been idle for too long, inside the kernel, a run of buckets at a
 * time so that no call holds its CPU for long.
 */
#ifndef MAGLANE_EXPIRY_H
#define MAGLANE_EXPIRY_H

#include "bpf/walk.h"

/* The other direction may have had a packet since; state is the same in both. */
static __always_inline int twin_is_fresh(const __u64 *entry, __u32 now, __u32 limit, int family)
{
	struct scratch *scratch = scratch_of(SCRATCH_CALL);
	union any_tuple key = {};
	union any_tuple twin;
	struct flow *flow;

	if (!scratch)
		return 1;
	flow = &scratch->other;
	if (!walk_copy(entry, &key, flow, family))
		return 1;
	flow_twin_key(&twin, &key, &flow->answer, family);
	switch (flow_peek(&twin, flow, family)) {
	case TABLE_DONE:
		return idle_slots(now, flow_body(&flow->answer, family)->stamp) < limit;
	case TABLE_ABSENT:
		return 0;
	default:
		return 1;
	}
}

enum { SLOT_USED = 1 << 0, SLOT_EXPIRED = 1 << 1 };

/* What there was in the slot. */
static __always_inline int expire_slot(void *bucket, __u32 slot, __u32 now, int family)
{
	const struct table_shape shape = FLOW_SHAPE(family);
	struct table_header *header = table_header(bucket);
	__u64 *entry = table_entry(bucket, slot, shape);
	const __u64 *hop = entry + shape.key_words + FLOW_HOP_WORD(family);
	__u32 meta = table_load32(table_meta(entry, shape));
	__u32 stamp = table_load64(&hop[0]);
	__u32 idle = idle_slots(now, stamp);
	int result = SLOT_USED;
	__u32 limit;
	__u8 flags;

	if (!(meta & FLOW_META_PROTOCOL))
		return 0;
	/* No limit is shorter than a slot, which spares most flows of a busy node. */
	if (!idle)
		return SLOT_USED;
	flags = table_load64(&hop[FLOW_HOP_WORDS - 1]) >> 32;
	limit = idle_limit(meta_seen(meta), flags, meta & FLOW_META_PROTOCOL);
	if (idle < limit || twin_is_fresh(entry, now, limit, family))
		return SLOT_USED;
	if (!table_lock(header))
		return SLOT_USED;
	if (table_load32(table_meta(entry, shape)) == meta && (__u32)table_load64(&hop[0]) == stamp) {
		table_evict(FLOW_MAP(family), bucket, slot, NULL, &config.seed, FLOW_BUCKETS(family),
			    shape);
		result = SLOT_USED | SLOT_EXPIRED;
	}
	table_unlock(header);
	return result;
}

__weak int expire_slot4(struct flow_bucket4 *bucket, __u32 slot, __u32 now)
{
	return bucket && slot < TABLE_SLOTS ? expire_slot(bucket, slot, now, FAMILY_IPV4) : 0;
}

__weak int expire_slot6(struct flow_bucket6 *bucket, __u32 slot, __u32 now)
{
	return bucket && slot < TABLE_SLOTS ? expire_slot(bucket, slot, now, FAMILY_IPV6) : 0;
}

static __always_inline long expire_bucket(__u32 n, struct flow_walk *walk, int family)
{
	void *bucket = walk_bucket(walk, n, family);
	struct table_header *header = bucket;

	if (!header)
		return 1;
	if (bucket_is_empty(header))
		return walk_on(walk);
	for (__u32 slot = 0; slot < TABLE_SLOTS; slot++) {
		int was;

		if (!table_tag(header, slot))
			continue;
		was = family == FAMILY_IPV4 ? expire_slot4(bucket, slot, walk->slot_now) :
					      expire_slot6(bucket, slot, walk->slot_now);

		walk->examined += was & SLOT_USED;
		walk->removed += (was & SLOT_EXPIRED) / SLOT_EXPIRED;
	}
	return walk_on(walk);
}

static long expire_bucket4(__u32 n, struct flow_walk *walk)
{
	return expire_bucket(n, walk, FAMILY_IPV4);
}

static long expire_bucket6(__u32 n, struct flow_walk *walk)
{
	return expire_bucket(n, walk, FAMILY_IPV6);
}

/* The agent is there, and says what it knows of the ways of packets: see node_state. */
static __always_inline void expiry_note_hops(__u32 shared_hops, __u32 now)
{
	__u32 zero = 0;
	struct node_state *state = bpf_map_lookup_elem(&node_state, &zero);

	if (state)
		*(volatile __u32 *)&state->shared_hops = (shared_hops & ~STAMP_SLOT_MASK) | now;
}

static __always_inline void expiry_run(struct expire_call *call)
{
	struct flow_walk walk = flow_walk_from(call->first_bucket);

	expiry_note_hops(call->shared_hops, walk.slot_now);
	if (call->family == FAMILY_IPV4)
		bpf_loop(call->buckets, expire_bucket4, &walk, 0);
	else
		bpf_loop(call->buckets, expire_bucket6, &walk, 0);
	call->walked = walk.walked;
	call->examined = walk.examined;
	call->removed = walk.removed;
}

/* The packet is the call: struct expire_call. */
static __always_inline int expiry_answer(const ctx_t *ctx)
{
	struct expire_call *at = ctx_at(ctx, 0, sizeof(*at));
	struct expire_call call;

	if (!at)
		return CTX_DROP;
	call = *at;
	expiry_run(&call);
	at = ctx_at(ctx, 0, sizeof(*at));
	if (at)
		*at = call;
	return 0;
}

#endif
