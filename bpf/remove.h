/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Removing one direction of a flow for user space. */
#ifndef MAGLANE_REMOVE_H
#define MAGLANE_REMOVE_H

#include "bpf/scratch.h"

/*
 * Of a connection that lives, the other direction's next packet makes it again (repair.h), not
 * only the first one of the next slot: until then packets of this one would go on as they are.
 */
static __always_inline int remove_run(const union any_tuple *key, int family)
{
	struct scratch *scratch = scratch_of(SCRATCH_CALL);
	union any_tuple twin;
	struct flow_body *body;
	struct flow *flow;

	if (!scratch)
		return 0;
	flow = &scratch->other;
	if (flow_find_elsewhere(key, flow, family) != TABLE_DONE)
		return flow_remove(key, family) == TABLE_DONE;
	flow_twin_key(&twin, key, &flow->answer, family);
	if (flow_remove(key, family) != TABLE_DONE)
		return 0;
	if (flow_find_elsewhere(&twin, flow, family) != TABLE_DONE ||
	    !flow_is_twin(flow->answer.words, key, family))
		return 1;
	body = flow_body(&flow->answer, family);
	body->stamp = (body->stamp - 1) & STAMP_SLOT_MASK;
	flow_store_hop(&twin, flow, family);
	return 1;
}

#endif
