/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Removing the UDP flows of endpoints that are gone, or serve no more, so that the next
 * datagram finds another: a connection would notice and come again, a datagram never does.
 * The agent tells which in map "gone_endpoints" and walks the buckets, a run at a time.
 */
#ifndef MAGLANE_FORGET_H
#define MAGLANE_FORGET_H

#include "bpf/walk.h"

static __always_inline int forget_slot(void *bucket, __u32 slot, table_location location,
				       int family)
{
	const struct table_shape shape = FLOW_SHAPE(family);
	__u64 *entry = table_entry(bucket, slot, shape);
	struct scratch *scratch = scratch_of(SCRATCH_CALL);
	struct service_endpoint endpoint = {};
	union any_tuple key = {};
	struct flow *flow;

	if ((table_load32(table_meta(entry, shape)) & FLOW_META_PROTOCOL) != IPPROTO_UDP || !scratch)
		return 0;
	flow = &scratch->other;
	if (!walk_copy(entry, &key, flow, family))
		return 0;
	flow->location = location;
	endpoint.service_id = flow_body(&flow->answer, family)->service_id;
	endpoint.protocol = IPPROTO_UDP;
	endpoint.family = family;
	if (flow_body(&flow->answer, family)->flags & FLOW_REPLY) {
		addr_widen(endpoint.addr_be, tuple_src(&key, family), family);
		endpoint.port_be = *tuple_src_port(&key, family);
	} else {
		addr_widen(endpoint.addr_be, flow_dst(&flow->answer, family), family);
		endpoint.port_be = *flow_dst_port(&flow->answer, family);
	}
	if (!bpf_map_lookup_elem(&gone_endpoints, &endpoint))
		return 0;
	flow_remove_pair(&key, flow, family);
	return 1;
}

__weak int forget_slot4(struct flow_bucket4 *bucket, __u32 slot, __u32 location)
{
	return bucket && slot < TABLE_SLOTS ? forget_slot(bucket, slot, location, FAMILY_IPV4) : 0;
}

__weak int forget_slot6(struct flow_bucket6 *bucket, __u32 slot, __u32 location)
{
	return bucket && slot < TABLE_SLOTS ? forget_slot(bucket, slot, location, FAMILY_IPV6) : 0;
}

static __always_inline long forget_bucket(__u32 n, struct flow_walk *walk, int family)
{
	void *bucket = walk_bucket(walk, n, family);
	struct table_header *header = bucket;

	if (!header)
		return 1;
	if (bucket_is_empty(header))
		return walk_on(walk);
	for (__u32 slot = 0; slot < TABLE_SLOTS; slot++) {
		__u32 location = table_locate(walk->first_bucket + n, slot);

		if (!table_tag(header, slot))
			continue;
		walk->removed += family == FAMILY_IPV4 ? forget_slot4(bucket, slot, location) :
							 forget_slot6(bucket, slot, location);
	}
	return walk_on(walk);
}

static long forget_bucket4(__u32 n, struct flow_walk *walk)
{
	return forget_bucket(n, walk, FAMILY_IPV4);
}

static long forget_bucket6(__u32 n, struct flow_walk *walk)
{
	return forget_bucket(n, walk, FAMILY_IPV6);
}

static __always_inline void forget_run(struct forget_call *call)
{
	struct flow_walk walk = flow_walk_from(call->first_bucket);

	if (call->family == FAMILY_IPV4)
		bpf_loop(call->buckets, forget_bucket4, &walk, 0);
	else
		bpf_loop(call->buckets, forget_bucket6, &walk, 0);
	call->walked = walk.walked;
	call->removed = walk.removed;
}

#endif
