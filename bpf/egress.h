/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What leaves a device: replies of endpoints in the node's own network, which come out of its
 * stack with the endpoint's address and must leave with the one that the client asked, and
 * its ICMP errors about what the client sent. All other packets of flows were translated where
 * they came in.
 *
 * And on uplinks, where pods are masqueraded: what the node itself opens to where a pod's
 * connection has the node's address and that very port. The stack knows nothing of those; so
 * that each gets its own answers, the node's connection leaves by another port.
 */
#ifndef MAGLANE_EGRESS_H
#define MAGLANE_EGRESS_H

#include "bpf/count.h"
#include "bpf/filter.h"
#include "bpf/forward.h"
#include "bpf/fragment.h"
#include "bpf/icmp.h"
#include "bpf/nat.h"
#include "bpf/parse.h"

static __always_inline int is_node_reply(union any_flow *flow, int family)
{
	const __u8 wanted = FLOW_REPLY | FLOW_NODE;

	return (flow_body(flow, family)->flags & wanted) == wanted;
}

static __always_inline int is_node_masquerade(union any_flow *flow, int family)
{
	const __u8 mask = FLOW_REPLY | FLOW_NODE | FLOW_MASQUERADE;

	return (flow_body(flow, family)->flags & mask) == (FLOW_NODE | FLOW_MASQUERADE);
}

/* Whether a packet of the node's own opens something whose replies would be taken for those of a
 * connection that is translated. */
static __always_inline int node_shares_replies(struct packet *packet, union any_tuple *reverse,
					       int family)
{
	if (*packet_kind(packet, family) & PACKET_ECHO && *tuple_dst_port(&packet->tuple, family))
		return 0; /* a reply */
	return replies_are_taken(packet, reverse, family);
}

/* REASON_COUNT: *flow is what the packet belongs to now. REASON_NOT_OURS: it needs nothing. */
static __always_inline int node_open_of(ctx_t *ctx, struct packet *packet, struct flow *flow,
					int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	struct connection *connection;

	if (!packet || !flow || !scratch ||
	    !node_shares_replies(packet, &scratch->reservation.reverse, family))
		return REASON_NOT_OURS;
	connection = &scratch->connection;
	__builtin_memset(connection, 0, sizeof(*connection));
	connection->hash = connection_hash(&packet->tuple, family);
	connection->flags = FLOW_NODE | FLOW_MASQUERADE;
	connection->source_translated = 1;
	addr_copy(connection->src_be, tuple_src(&packet->tuple, family), family);
	addr_copy(connection->dst_be, tuple_dst(&packet->tuple, family), family);
	connection->dst_port_be = *tuple_dst_port(&packet->tuple, family);
	__builtin_memset(&flow->answer, 0, sizeof(flow->answer));
	addr_copy(flow_src(&flow->answer, family), connection->src_be, family);
	addr_copy(flow_dst(&flow->answer, family), connection->dst_be, family);
	flow_body(&flow->answer, family)->stamp = clock_slot();
	return nat_make_flows(ctx, packet, scratch, flow, family);
}

__weak int CTX_GLOBAL(node_open4)(ctx_t *ctx, struct packet *packet, struct flow *flow)
{
	return node_open_of(ctx, packet, flow, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(node_open6)(ctx_t *ctx, struct packet *packet, struct flow *flow)
{
	return node_open_of(ctx, packet, flow, FAMILY_IPV6);
}

/* A packet of the node's own that is no reply of an endpoint: what becomes of it. */
static __always_inline int egress_node(ctx_t *ctx, struct packet *packet, struct flow *flow,
				       enum table_result found, int family)
{
	const int opens = is_opening(packet);
	int reason;

	if (found == TABLE_DONE && !is_node_masquerade(&flow->answer, family))
		return pass(ctx, REASON_NOT_OURS);
	if (found == TABLE_DONE && opens && seen_closed(meta_seen(flow->meta))) {
		flow_remove_pair(&packet->tuple, flow, family);
		found = TABLE_ABSENT;
	}
	if (found == TABLE_ABSENT) {
		reason = family == FAMILY_IPV4 ? CTX_GLOBAL(node_open4)(ctx, packet, flow)
					       : CTX_GLOBAL(node_open6)(ctx, packet, flow);
		if (reason == REASON_NOT_OURS)
			return pass(ctx, REASON_NOT_OURS);
		if (reason != REASON_COUNT)
			return drop(ctx, reason);
	}
	note(ctx, packet, flow, family);
	return translate_in_place(ctx, packet, flow, REASON_NODE_PORT_CHANGED, family);
}

/* UNUSUAL: the packet goes on as those do that parse knows; or the program's return value. */
static __always_inline int egress_unparsed_of(ctx_t *ctx, struct packet *packet,
					      enum parsed parsed, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);

	if (parsed == PARSED_NO_ADDRESS || !packet || !scratch)
		return pass(ctx, REASON_NOT_OURS);
	parsed = parse_unusual(ctx, packet, parsed, &scratch->fragment_key, family);
	if (parsed == PARSED_OK)
		return UNUSUAL;
	if (parsed != PARSED_OTHER_PROTOCOL || !is_icmp(packet, family))
		return pass(ctx, REASON_NOT_OURS);
	switch (icmp_find_flow(ctx, packet, scratch, family)) {
	case TABLE_DONE:
		if (is_node_reply(&scratch->other.answer, family) ||
		    is_node_masquerade(&scratch->other.answer, family))
			return icmp_translate_in_place(ctx, packet, scratch, REASON_NODE_REPLY,
						       family);
		return pass(ctx, REASON_NOT_OURS);
	case TABLE_BUSY:
		return drop(ctx, REASON_TABLE_BUSY);
	default:
		if (config.network_model && parse_echo(ctx, packet, family) == PARSED_OK)
			return UNUSUAL;
		return pass(ctx, REASON_NOT_OURS);
	}
}

__weak int CTX_GLOBAL(egress_unparsed4)(ctx_t *ctx, struct packet *packet, __u32 parsed)
{
	return egress_unparsed_of(ctx, packet, parsed, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(egress_unparsed6)(ctx_t *ctx, struct packet *packet, __u32 parsed)
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
		int verdict = family == FAMILY_IPV4
				      ? CTX_GLOBAL(egress_unparsed4)(ctx, &packet, parsed)
				      : CTX_GLOBAL(egress_unparsed6)(ctx, &packet, parsed);

		if (verdict != UNUSUAL)
			return verdict;
	}
	if (!filter_may_be_ours(tuple_src(&packet.tuple, family), tuple_dst(&packet.tuple, family),
				family))
		return pass(ctx, REASON_NOT_OURS);
	found = flow_find(&packet.tuple, &flow, family);
	if (found == TABLE_BUSY)
		return drop(ctx, REASON_TABLE_BUSY);
	if (config.network_model && ctx_is_own(ctx) &&
	    (found != TABLE_DONE || !is_node_reply(&flow.answer, family)))
		return egress_node(ctx, &packet, &flow, found, family);
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
