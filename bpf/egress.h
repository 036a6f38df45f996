/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What leaves a device: replies of endpoints in the node's own network, which come out of its
 * stack with the endpoint's address and must leave with the one that the client asked. All
 * other packets of flows were translated where they came in.
 */
#ifndef MAGLANE_EGRESS_H
#define MAGLANE_EGRESS_H

#include "bpf/count.h"
#include "bpf/filter.h"
#include "bpf/forward.h"
#include "bpf/parse.h"

static __always_inline int egress_family(ctx_t *ctx, int family)
{
	const __u8 wanted = FLOW_REPLY | FLOW_NODE;
	struct packet packet;
	enum table_result found;
	struct flow flow;

	packet.from_pod = 0;
	if (parse(ctx, &packet, family) != PARSED_OK)
		return pass(ctx, REASON_NOT_OURS);
	if (!filter_may_be_ours(tuple_src(&packet.tuple, family), tuple_dst(&packet.tuple, family),
				family))
		return pass(ctx, REASON_NOT_OURS);
	found = flow_find(&packet.tuple, &flow, family);
	if (found == TABLE_BUSY)
		return drop(ctx, REASON_TABLE_BUSY);
	if (found != TABLE_DONE || (flow_body(&flow.answer, family)->flags & wanted) != wanted)
		return pass(ctx, REASON_NOT_OURS);
	flow_note_seen(&packet.tuple, &flow,
		       seen_in(&packet, *tuple_protocol(&packet.tuple, family)), family);
	return translate_in_place(ctx, &packet, &flow, REASON_NODE_REPLY, family);
}

static __always_inline int egress(ctx_t *ctx)
{
	const struct ethhdr *ethernet;

	ctx_pull(ctx, MAX_HEADERS);
	ethernet = ctx_at(ctx, 0, sizeof(*ethernet));
	if (!ethernet || ctx_has_vlan(ctx))
		return pass(ctx, REASON_NOT_IP);
	if (config.ipv4 && ethernet->h_proto == __builtin_bswap16(ETH_P_IP))
		return egress_family(ctx, FAMILY_IPV4);
	if (config.ipv6 && ethernet->h_proto == __builtin_bswap16(ETH_P_IPV6))
		return egress_family(ctx, FAMILY_IPV6);
	return pass(ctx, REASON_NOT_IP);
}

#endif
