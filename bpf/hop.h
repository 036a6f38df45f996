/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The next hops that a CPU has found lately, for other flows to the same destinations: a new
 * connection would pay a fifth of its way for a route look-up, with IPv6 a third.
 *
 * One is kept under a flow's stamp (abi.h), so for a second at most and for one epoch. And only
 * where the agent, which watches rules and routes, says that the next hop does not depend on
 * the source: otherwise each flow asks for itself.
 */
#ifndef MAGLANE_HOP_H
#define MAGLANE_HOP_H

#include "bpf/flow.h"
#include "bpf/scratch.h"

/* Whether packets of different sources have the same way to one destination. */
static __always_inline int hops_are_shared(__u32 now, int family)
{
	__u32 zero = 0;
	const struct node_state *state = bpf_map_lookup_elem(&node_state, &zero);
	__u32 said = state ? state->shared_hops : 0;

	return said & (family == FAMILY_IPV4 ? SHARED_HOPS_IPV4 : SHARED_HOPS_IPV6) &&
	       ((now - said) & STAMP_SLOT_MASK) < SHARED_HOPS_SLOTS;
}

/* Where this CPU keeps the next hop of a destination. */
static __always_inline struct known_hop *hop_of(struct scratch *scratch, const __be32 wide[4])
{
	return &scratch->hops[(vip_hash(wide) >> (VIP_BITS_ORDER - KNOWN_HOPS_ORDER)) %
			      KNOWN_HOPS];
}

/* 1: the next hop was known, and the flow's copy has it, and scratch->route its device. */
static __always_inline int hop_recall(ctx_t *ctx, struct packet *packet, union any_flow *flow,
				      __u32 stamp, struct scratch *scratch, int family)
{
	struct flow_body *body = flow_body(flow, family);
	const struct known_hop *hop;
	__be32 wide[4];

	addr_widen(wide, flow_dst(flow, family), family);
	hop = hop_of(scratch, wide);
	if (hop->stamp != stamp || hop->family != family || hop->ifindex != ctx_ifindex(ctx) ||
	    hop->tos != packet->tos || !addr_equal(hop->dst_be, wide, family))
		return 0;
	body->next_hop = hop->next_hop;
	body->mtu = hop->mtu;
	body->stamp = stamp;
	scratch->route.ifindex = hop->next_hop.device & ~NEXT_HOP_XDP;
	return 1;
}

/* The same without a call: hop_find's first step, for new connections. */
static __always_inline int hop_is_known(ctx_t *ctx, struct packet *packet, union any_flow *flow,
					__u32 stamp, struct scratch *scratch, int family)
{
	return hops_are_shared(stamp, family) &&
	       hop_recall(ctx, packet, flow, stamp, scratch, family);
}

static __always_inline void hop_remember(ctx_t *ctx, struct packet *packet,
					 union any_flow *flow, struct scratch *scratch,
					 int family)
{
	const struct flow_body *body = flow_body(flow, family);
	struct known_hop *hop;
	__be32 wide[4];

	addr_widen(wide, flow_dst(flow, family), family);
	hop = hop_of(scratch, wide);
	addr_copy(hop->dst_be, wide, FAMILY_IPV6);
	hop->family = family;
	hop->ifindex = ctx_ifindex(ctx);
	hop->tos = packet->tos;
	hop->mtu = body->mtu;
	hop->next_hop = body->next_hop;
	hop->stamp = body->stamp;
}

#endif
