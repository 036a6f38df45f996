/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Taking up flows of a table that is being replaced: the agent reads them there, a run at a time
 * (struct adopt_call). A flow that is here already is the newer one, but what was seen of it at
 * hooks with the table before, only that one tells. The new table may be too small for all: an
 * expired flow stays behind, and a closed one takes nobody's place. Those that are being opened
 * now would be the first to go.
 */
#ifndef MAGLANE_ADOPT_H
#define MAGLANE_ADOPT_H

#include "bpf/filter.h"
#include "bpf/scratch.h"

static __always_inline int adopt_closed_of(const union any_tuple *key, const union any_flow *flow,
					   __u8 seen, int family)
{
	struct table_shape shape = FLOW_SHAPE(family);

	shape.victim = flow_no_victim;
	return flow_insert_shaped(key, flow, seen, shape, family);
}

__weak int adopt_closed4(const union any_tuple *key, const union any_flow *flow, __u8 seen)
{
	return adopt_closed_of(key, flow, seen, FAMILY_IPV4);
}

__weak int adopt_closed6(const union any_tuple *key, const union any_flow *flow, __u8 seen)
{
	return adopt_closed_of(key, flow, seen, FAMILY_IPV6);
}

static __always_inline int adopt_insert(enum flow_class class, const union any_tuple *key,
					const union any_flow *flow, __u8 seen, int family)
{
	if (class == CLASS_EXPIRED)
		return TABLE_ABSENT;
	if (class != CLASS_CLOSED)
		return flow_insert_here(key, flow, seen, family);
	return family == FAMILY_IPV4 ? adopt_closed4(key, flow, seen) :
				       adopt_closed6(key, flow, seen);
}

/* What becomes of one flow: enum table_result. TABLE_ABSENT: it stays behind. */
static __always_inline int adopt_flow(ctx_t *ctx, __u32 offset, int family)
{
	const __u32 size = family == FAMILY_IPV4 ? sizeof(struct flow_entry4) :
						   sizeof(struct flow_entry6);
	const struct table_shape shape = FLOW_SHAPE(family);
	struct scratch *scratch = scratch_of(SCRATCH_CALL);
	const __u64 *entry = ctx_at(ctx, offset, size);
	union any_tuple *key;
	union any_flow *flow;
	union any_tuple twin;
	enum flow_class class;
	int result;
	__u8 seen;

	if (!entry || !scratch)
		return TABLE_ABSENT;
	class = rank_class(family == FAMILY_IPV4 ? flow_rank4((const void *)entry, clock_slot()) :
						   flow_rank6((const void *)entry, clock_slot()));
	key = &scratch->reservation.reverse;
	flow = &scratch->other.answer;
	for (__u32 i = 0; i < shape.key_words; i++)
		key->words[i] = entry[i];
	for (__u32 i = shape.key_words; i < size / 8; i++)
		flow->words[i - shape.key_words] = entry[i];
	seen = entry[shape.key_words - 1] >> (32 + FLOW_META_SEEN_SHIFT);
	key->words[shape.key_words - 1] &= shape.tail_mask;
	if (!*tuple_protocol(key, family))
		return TABLE_ABSENT;
	result = adopt_insert(class, key, flow, seen, family);
	if (result == TABLE_MADE_ROOM)
		return TABLE_DONE;
	if (result == TABLE_PRESENT) {
		flow_twin_key(&twin, key, flow, family);
		flow_add_seen(key, seen, &twin, family);
	}
	return result;
}

static __always_inline void adopt_run(ctx_t *ctx, struct adopt_call *call, int family)
{
	const __u32 size = family == FAMILY_IPV4 ? sizeof(struct flow_entry4) :
						   sizeof(struct flow_entry6);

	for (__u32 i = 0; i < ADOPT_BYTES / size && i < call->count; i++) {
		int result = adopt_flow(ctx, sizeof(*call) + i * size, family);

		call->adopted += result == TABLE_DONE;
		call->refused += result == TABLE_FULL || result == TABLE_BUSY;
	}
}

#endif
