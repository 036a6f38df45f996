/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Removing one direction of a flow for user space. */
#ifndef MAGLANE_REMOVE_H
#define MAGLANE_REMOVE_H

#include "bpf/scratch.h"

/*
 * enum table_result. Of a connection that lives, the other direction's next packet makes it again (repair.h), not
 * only the first one of the next slot: until then packets of this one would go on as they are.
 */
static __always_inline enum table_result remove_run(const union any_tuple *key, int family)
{
	struct scratch *scratch = scratch_of(SCRATCH_CALL);
	enum table_result removed;
	union any_tuple twin;
	struct flow_body *body;
	struct flow *flow;

	if (!scratch)
		return TABLE_BUSY;
	flow = &scratch->other;
	if (flow_find_elsewhere(key, flow, family) != TABLE_DONE)
		return flow_remove(key, family);
	flow_twin_key(&twin, key, &flow->answer, family);
	removed = flow_remove(key, family);
	if (removed != TABLE_DONE)
		return removed;
	if (flow_find_elsewhere(&twin, flow, family) != TABLE_DONE ||
	    !flow_is_twin(flow->answer.words, key, family))
		return TABLE_DONE;
	body = flow_body(&flow->answer, family);
	body->stamp = (body->stamp - 1) & STAMP_SLOT_MASK;
	flow_store_hop(&twin, flow, family);
	return TABLE_DONE;
}

#endif
