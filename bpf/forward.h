/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a translated packet goes. The next hop is cached in the flow under a stamp (abi.h);
 * a packet whose stamp is still right costs no route look-up and writes nothing to it.
 */
#ifndef MAGLANE_FORWARD_H
#define MAGLANE_FORWARD_H

#include <linux/if_ether.h>
#include "bpf/count.h"
#include "bpf/flow.h"
#include "bpf/rewrite.h"
#include "bpf/scratch.h"

enum { ADDRESS_FAMILY_INET = 2, ADDRESS_FAMILY_INET6 = 10 };

static __always_inline enum reason route_failure(long error)
{
	switch (error) {
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return REASON_FORWARDING_DISABLED;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		return REASON_TOO_BIG;
	default:
		return REASON_NO_ROUTE;
	}
}

/* Asks the kernel for the way to the flow's translated destination. */
static __always_inline long route_lookup(ctx_t *ctx, struct packet *packet,
					 union any_flow *flow, struct bpf_fib_lookup *route,
					 int family)
{
	__builtin_memset(route, 0, sizeof(*route));
	route->ifindex = ctx_ifindex(ctx);
	route->l4_protocol = *tuple_protocol(&packet->tuple, family);
	if (family == FAMILY_IPV4) {
		route->family = ADDRESS_FAMILY_INET;
		route->tos = packet->tos;
		route->ipv4_src = *flow_src(flow, family);
		route->ipv4_dst = *flow_dst(flow, family);
	} else {
		route->family = ADDRESS_FAMILY_INET6;
		addr_copy(route->ipv6_src, flow_src(flow, family), family);
		addr_copy(route->ipv6_dst, flow_dst(flow, family), family);
	}
	return bpf_fib_lookup(ctx, route, sizeof(*route), 0);
}

/*
 * Finds the next hop of a flow's translated destination and puts it into the copy. With a
 * stamp of no epoch afterwards there is a route but no neighbour yet: `route` is for
 * ctx_resolve. REASON_COUNT: found.
 */
static __always_inline enum reason hop_find(ctx_t *ctx, struct packet *packet,
					    union any_flow *flow, __u32 stamp,
					    struct bpf_fib_lookup *route, int family)
{
	struct flow_body *body = flow_body(flow, family);
	struct device *device;
	__u32 ifindex;
	long error = route_lookup(ctx, packet, flow, route, family);

	body->stamp = stamp & STAMP_SLOT_MASK;
	if (error == BPF_FIB_LKUP_RET_NO_NEIGH)
		return REASON_COUNT;
	if (error)
		return route_failure(error);
	ifindex = route->ifindex;
	device = bpf_map_lookup_elem(&devices, &ifindex);
	if (device && device->flags & DEVICE_XDP)
		ifindex |= NEXT_HOP_XDP;
	body->next_hop.device = ifindex;
	__builtin_memcpy(body->next_hop.dst_mac, route->dmac, ETH_ALEN);
	__builtin_memcpy(body->next_hop.src_mac, route->smac, ETH_ALEN);
	body->mtu = route->mtu_result;
	body->stamp = stamp;
	return REASON_COUNT;
}

static __always_inline int send(ctx_t *ctx, const struct next_hop *hop)
{
	const __u32 *macs = (const __u32 *)hop->dst_mac;
	__u32 *ethernet = ctx_at(ctx, 0, 2 * ETH_ALEN);

	if (!ethernet)
		return drop(ctx, REASON_REWRITE_FAILED);
	/* Destination, then source, as in the packet. */
	for (int i = 0; i < 3; i++)
		ethernet[i] = macs[i];
	count(ctx, (hop->device & ~NEXT_HOP_XDP) == ctx_ifindex(ctx) ? REASON_TRANSMITTED :
								       REASON_REDIRECTED);
	return ctx_send(ctx, hop->device);
}

/* Once a slot and flow, and after each change of the epoch: finds the next hop again, notes
 * the time, and sees to it that the other direction is still there. */
static __always_inline enum reason renew(ctx_t *ctx, struct packet *packet, struct flow *flow,
					 __u32 stamp, struct scratch *scratch, int family)
{
	__u32 before = flow_body(&flow->answer, family)->stamp;
	enum reason reason = hop_find(ctx, packet, &flow->answer, stamp, &scratch->route, family);

	if (flow_body(&flow->answer, family)->stamp == before)
		return reason;
	flow_repair_twin(&packet->tuple, flow, &scratch->other, family);
	flow_store_hop(&packet->tuple, flow, family);
	return reason;
}

/* A packet of a flow, from state to the wire. */
static __always_inline int forward(ctx_t *ctx, struct packet *packet, struct flow *flow, int family)
{
	struct flow_body *body = flow_body(&flow->answer, family);
	__u8 protocol = *tuple_protocol(&packet->tuple, family);
	__u32 stamp = clock_stamp();
	struct scratch *scratch = NULL;
	int unresolved;

	flow_note_seen(&packet->tuple, flow, seen_in(packet, protocol), family);
	if (packet->ttl <= 1)
		return drop(ctx, REASON_TTL_EXCEEDED);
	if (body->stamp != stamp) {
		enum reason reason = REASON_TABLE_BUSY;

		scratch = scratch_of(CTX_HOOK);
		if (scratch)
			reason = renew(ctx, packet, flow, stamp, scratch, family);
		if (reason != REASON_COUNT)
			return drop(ctx, reason);
	}
	unresolved = body->stamp != stamp;
	if (unresolved ? !CTX_CAN_RESOLVE : !ctx_can_send(ctx, body->next_hop.device))
		return pass(ctx, REASON_TO_TC);
	if (!unresolved && body->mtu && packet->ip_len > body->mtu && !ctx_is_gso(ctx))
		return drop(ctx, REASON_TOO_BIG);
	if (rewrite(ctx, packet, &flow->answer, family))
		return drop(ctx, REASON_REWRITE_FAILED);
	if (unresolved && scratch) {
		count(ctx, REASON_RESOLVING);
		return ctx_resolve(ctx, &scratch->route);
	}
	return send(ctx, &body->next_hop);
}

#endif
