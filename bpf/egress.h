/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What leaves a device: replies of endpoints in the node's own network, which come out of its
 * stack with the endpoint's address and must leave with the one that the client asked, and
 * its ICMP errors about what the client sent. All other packets of flows were translated where
 * they came in.
 */
#ifndef MAGLANE_EGRESS_H
#define MAGLANE_EGRESS_H

#include "bpf/count.h"
#include "bpf/filter.h"
#include "bpf/forward.h"
#include "bpf/fragment.h"
#include "bpf/icmp.h"
#include "bpf/parse.h"

static __always_inline int is_node_reply(union any_flow *flow, int family)
{
	const __u8 wanted = FLOW_REPLY | FLOW_NODE;

	return (flow_body(flow, family)->flags & wanted) == wanted;
}

/* UNUSUAL: the packet goes on as those do that parse knows; or the program's return value. */
static __always_inline int egress_unparsed_of(ctx_t *ctx, struct packet *packet,
					      enum parsed parsed, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);

	if (parsed == PARSED_NO_ADDRESS || !scratch)
		return pass(ctx, REASON_NOT_OURS);
	parsed = parse_unusual(ctx, packet, parsed, &scratch->fragment_key, family);
	if (parsed == PARSED_OK)
		return UNUSUAL;
	if (parsed != PARSED_OTHER_PROTOCOL || !is_icmp(packet, family))
		return pass(ctx, REASON_NOT_OURS);
	switch (icmp_find_flow(ctx, packet, scratch, family)) {
	case TABLE_DONE:
		if (is_node_reply(&scratch->other.answer, family))
			return icmp_translate_in_place(ctx, packet, scratch, REASON_NODE_REPLY,
						       family);
		return pass(ctx, REASON_NOT_OURS);
	case TABLE_BUSY:
		return drop(ctx, REASON_TABLE_BUSY);
	default:
		return pass(ctx, REASON_NOT_OURS);
	}
}

static __noinline int egress_unparsed4(ctx_t *ctx, struct packet *packet, enum parsed parsed)
{
	return egress_unparsed_of(ctx, packet, parsed, FAMILY_IPV4);
}

static __noinline int egress_unparsed6(ctx_t *ctx, struct packet *packet, enum parsed parsed)
{
	return egress_unparsed_of(ctx, packet, parsed, FAMILY_IPV6);
}

static __always_inline int egress_family(ctx_t *ctx, int family)
{
	struct packet packet;
	enum table_result found;
	enum parsed parsed;
	struct flow flow;

	packet.from_pod = 0;
	parsed = parse(ctx, &packet, family);
	if (parsed != PARSED_OK) {
		int verdict = family == FAMILY_IPV4 ? egress_unparsed4(ctx, &packet, parsed) :
						      egress_unparsed6(ctx, &packet, parsed);

		if (verdict != UNUSUAL)
			return verdict;
	}
	if (!filter_may_be_ours(tuple_src(&packet.tuple, family), tuple_dst(&packet.tuple, family),
				family))
		return pass(ctx, REASON_NOT_OURS);
	found = flow_find(&packet.tuple, &flow, family);
	if (found == TABLE_BUSY)
		return drop(ctx, REASON_TABLE_BUSY);
	if (found != TABLE_DONE || !is_node_reply(&flow.answer, family))
		return pass(ctx, REASON_NOT_OURS);
	note(ctx, &packet, &flow, family);
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
