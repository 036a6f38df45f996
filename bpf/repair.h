/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Pairs: of a connection whose other direction was lost (given up by a full table, removed by
 * hand), each packet's own flow knows enough to make that again.
 */
#ifndef MAGLANE_REPAIR_H
#define MAGLANE_REPAIR_H

#include "bpf/filter.h"
#include "bpf/flow.h"

/*
 * As filter_note_flow for a connection of which one flow is there, by its key, and the other's
 * key. The agent may have looked through the table before this packet's flow was found and have
 * missed it, if it has been lost since: then its bits are about to be cleared.
 */
static __always_inline void filter_note_pair(union any_tuple *twin_key,
					     const union any_tuple *key, __u8 flags, int family)
{
	void *forward = flags & FLOW_REPLY ? (void *)twin_key : (void *)key;
	void *reply = flags & FLOW_REPLY ? (void *)key : (void *)twin_key;

	filter_note_flow(tuple_dst(forward, family), tuple_src(reply, family), family);
}

static __always_inline void flow_remake_twin(union any_tuple *twin_key, const union any_tuple *key,
					     struct flow *flow, struct flow *twin, int family)
{
	filter_note_pair(twin_key, key, flow_body(&flow->answer, family)->flags, family);
	flow_make_twin(&twin->answer, twin_key, key, &flow->answer, family);
	flow_insert_here(twin_key, &twin->answer, seen_by_twin(meta_seen(flow->meta)), family);
}

static __always_inline int flow_repair_twin_of(const union any_tuple *key, struct flow *flow,
					       struct flow *twin, union any_tuple *twin_key,
					       int family)
{
	const __u8 seen = meta_seen(flow ? flow->meta : 0);

	/* What is closed needs no twin any more; in a full table it would make way for it. */
	if (!key || !flow || !twin || !twin_key || seen_closed(seen))
		return 0;
	flow_twin_key(twin_key, key, &flow->answer, family);
	/* Where only the table before has it, its own next packet takes it up. */
	switch (flow_find_here(twin_key, twin, family)) {
	case TABLE_ABSENT:
		flow_remake_twin(twin_key, key, flow, twin, family);
		break;
	case TABLE_DONE:
		if (flow_is_twin(twin->answer.words, key, family)) {
			flow_touch(twin_key, twin, family);
			break;
		}
		/* A reply of an endpoint, whose own flow was lost, was taken for something that it
		 * opens to the outside. That one's other direction is left to age. Where it was
		 * answered it is what it seems, and established. */
		if (config.network_model &&
		    flow_body(&twin->answer, family)->flags & FLOW_MASQUERADE &&
		    !(flow_body(&flow->answer, family)->flags & FLOW_MASQUERADE) &&
		    !seen_established(meta_seen(twin->meta), flow_body(&twin->answer, family)->flags,
				      *tuple_protocol((void *)key, family))) {
			flow_remove_found(twin_key, twin->location, twin->meta, family);
			flow_remake_twin(twin_key, key, flow, twin, family);
			break;
		}
		flow_remove_found(key, flow->location, flow->meta, family);
		break;
	default:
		break;
	}
	return 0;
}

__weak int flow_repair_twin4(const union any_tuple *key, struct flow *flow, struct flow *twin,
			     union any_tuple *twin_key)
{
	return flow_repair_twin_of(key, flow, twin, twin_key, FAMILY_IPV4);
}

__weak int flow_repair_twin6(const union any_tuple *key, struct flow *flow, struct flow *twin,
			     union any_tuple *twin_key)
{
	return flow_repair_twin_of(key, flow, twin, twin_key, FAMILY_IPV6);
}

/*
 * Once in a while for a flow that has packets, before its own stamp is stored. Makes the other
 * direction again if it has been lost. Keeps its stamp from lagging so far behind that it
 * would count as expired. And if its tuple has become another connection's, the flow goes:
 * the next packet makes it anew, with a source port that is free. `twin`, `twin_key`: room to do
 * it in, which the stack does not have.
 */
static __always_inline void flow_repair_twin(const union any_tuple *key, struct flow *flow,
					     struct flow *twin, union any_tuple *twin_key,
					     int family)
{
	if (family == FAMILY_IPV4)
		flow_repair_twin4(key, flow, twin, twin_key);
	else
		flow_repair_twin6(key, flow, twin, twin_key);
}

#endif
