/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where a translated packet goes. The next hop is cached in the flow under a stamp (abi.h);
 * a packet whose stamp is still right costs no route look-up and writes nothing.
 */
#ifndef MAGLANE_FORWARD_H
#define MAGLANE_FORWARD_H

#include <linux/if_ether.h>
#include "bpf/count.h"
#include "bpf/flow.h"
#include "bpf/rewrite.h"

enum { ADDRESS_FAMILY_INET = 2, ADDRESS_FAMILY_INET6 = 10 };

/* How to send one packet: a copy, since another CPU may renew the flow's meanwhile. */
struct hop {
	struct next_hop next;
	__u16 mtu;
	__u8 unresolved; /* a route, but no neighbour yet: `route` is for ctx_resolve */
	__u8 pad;
	struct bpf_fib_lookup route;
};

static __always_inline enum reason route_failure(long error)
{
	return error == BPF_FIB_LKUP_RET_FWD_DISABLED ? REASON_FORWARDING_DISABLED :
							REASON_NO_ROUTE;
}

/* Asks the kernel for the way to the flow's translated destination. */
static __always_inline long route_lookup(ctx_t *ctx, const struct packet *packet, void *flow,
					 struct bpf_fib_lookup *route, int family)
{
	__builtin_memset(route, 0, sizeof(*route));
	route->ifindex = ctx_ifindex(ctx);
	route->l4_protocol = *tuple_protocol((void *)packet, family);
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
 * Once a slot and flow, and after each change of the epoch: finds the next hop again and
 * keeps it. Of several CPUs only the one whose compare-and-swap takes the stamp away stores;
 * while it does, the stamp is not right and the others look the route up for themselves. The
 * closing exchange is a full barrier (a BPF atomic that fetches), so that on arm64 too the
 * next hop is there before the stamp that vouches for it.
 */
static __always_inline enum reason hop_refresh(ctx_t *ctx, const struct packet *packet, void *flow,
					       __u32 stamp, struct hop *hop, int family)
{
	struct flow_body *body = flow_body(flow, family);
	__u32 found = body->stamp;
	__u32 without_hop = stamp & STAMP_SLOT_MASK;
	struct device *device;
	long error;

	error = route_lookup(ctx, packet, flow, &hop->route, family);
	if (error == BPF_FIB_LKUP_RET_NO_NEIGH) {
		hop->unresolved = 1;
		hop->mtu = 0;
		if (found != without_hop)
			__sync_val_compare_and_swap(&body->stamp, found, without_hop);
		return REASON_COUNT;
	}
	if (error)
		return route_failure(error);
	hop->unresolved = 0;
	hop->next.device = hop->route.ifindex;
	device = bpf_map_lookup_elem(&devices, &hop->next.device);
	if (device && device->flags & DEVICE_XDP)
		hop->next.device |= NEXT_HOP_XDP;
	__builtin_memcpy(hop->next.dst_mac, hop->route.dmac, ETH_ALEN);
	__builtin_memcpy(hop->next.src_mac, hop->route.smac, ETH_ALEN);
	hop->mtu = hop->route.mtu_result;
	if (__sync_val_compare_and_swap(&body->stamp, found, without_hop) != found)
		return REASON_COUNT;
	body->next_hop = hop->next;
	body->mtu = hop->mtu;
	__sync_lock_test_and_set(&body->stamp, stamp);
	return REASON_COUNT;
}

/*
 * Copies the cached next hop, unless its stamp is old. The stamp is read on both sides of the
 * copy: hop_refresh stores only after it has taken a stamp away that was old, so whoever
 * sees a right one twice has copied nothing half-written.
 */
static __always_inline int hop_cached(const struct flow_body *body, __u32 stamp, struct hop *hop)
{
	const volatile __u32 *current = &body->stamp;

	if (*current != stamp)
		return 0;
	barrier();
	hop->next = body->next_hop;
	hop->mtu = body->mtu;
	hop->unresolved = 0;
	barrier();
	return *current == stamp;
}

static __always_inline int send(ctx_t *ctx, const struct hop *hop)
{
	struct ethhdr *ethernet = ctx_at(ctx, 0, sizeof(*ethernet));

	if (!ethernet)
		return drop(ctx, REASON_REWRITE_FAILED);
	__builtin_memcpy(ethernet->h_dest, hop->next.dst_mac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, hop->next.src_mac, ETH_ALEN);
	count(ctx, (hop->next.device & ~NEXT_HOP_XDP) == ctx_ifindex(ctx) ? REASON_TRANSMITTED :
									     REASON_REDIRECTED);
	return ctx_send(ctx, hop->next.device);
}

/* A packet of a flow, from state to the wire. */
static __always_inline int forward(ctx_t *ctx, struct packet *packet, void *flow, int family)
{
	struct flow_body *body = flow_body(flow, family);
	__u32 stamp = clock_stamp();
	struct hop hop;

	flow_note_seen(body, seen_in(packet, *tuple_protocol(packet, family)));
	if (packet->ttl <= 1)
		return drop(ctx, REASON_TTL_EXCEEDED);
	if (!hop_cached(body, stamp, &hop)) {
		enum reason reason = hop_refresh(ctx, packet, flow, stamp, &hop, family);

		if (reason != REASON_COUNT)
			return drop(ctx, reason);
	}
	if (hop.unresolved ? !CTX_CAN_RESOLVE : !ctx_can_send(ctx, hop.next.device))
		return pass(ctx, REASON_TO_TC);
	if (hop.mtu && packet->ip_len > hop.mtu && !ctx_is_gso(ctx))
		return drop(ctx, REASON_TOO_BIG);
	if (rewrite(ctx, packet, flow, family))
		return drop(ctx, REASON_REWRITE_FAILED);
	if (hop.unresolved) {
		count(ctx, REASON_RESOLVING);
		return ctx_resolve(ctx, &hop.route);
	}
	return send(ctx, &hop);
}

#endif
