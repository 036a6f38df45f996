/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Removing the UDP flows of endpoints that are gone, or serve no more, so that the next
 * datagram finds another: a connection would notice and come again, a datagram never does.
 * The agent tells which in map "gone_endpoints" and walks the buckets, a run at a time.
 */
#ifndef MAGLANE_FORGET_H
#define MAGLANE_FORGET_H

#include "bpf/scratch.h"

struct forget_walk {
	__u32 first_bucket;
	__u32 removed;
};

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
	for (__u32 i = 0; i < shape.key_words; i++)
		key.words[i] = table_load64(&entry[i]);
	key.words[shape.key_words - 1] &= shape.tail_mask;
	if (table_copy(entry, key.words, &flow->meta, flow->answer.words, shape) != TABLE_DONE)
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

static __always_inline long forget_bucket(__u32 n, struct forget_walk *walk, int family)
{
	__u32 index = walk->first_bucket + n;
	struct table_header *header = table_bucket(FLOW_MAP(family), &index);
	void *bucket = header;

	if (!header)
		return 1;
	if (!(header->tags[0] | header->tags[1] | header->tags[2] | header->tags[3]))
		return 0;
	for (__u32 slot = 0; slot < TABLE_SLOTS; slot++) {
		__u32 location = table_locate(index, slot);

		if (!table_tag(header, slot))
			continue;
		walk->removed += family == FAMILY_IPV4 ? forget_slot4(bucket, slot, location) :
							 forget_slot6(bucket, slot, location);
	}
	return 0;
}

static long forget_bucket4(__u32 n, struct forget_walk *walk)
{
	return forget_bucket(n, walk, FAMILY_IPV4);
}

static long forget_bucket6(__u32 n, struct forget_walk *walk)
{
	return forget_bucket(n, walk, FAMILY_IPV6);
}

static __always_inline void forget_run(struct forget_call *call)
{
	struct forget_walk walk = {.first_bucket = call->first_bucket};

	if (call->family == FAMILY_IPV4)
		bpf_loop(call->buckets, forget_bucket4, &walk, 0);
	else
		bpf_loop(call->buckets, forget_bucket6, &walk, 0);
	call->removed = walk.removed;
}

#endif
