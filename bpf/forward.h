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
#include "bpf/fragment.h"
#include "bpf/hop.h"
#include "bpf/reject.h"
#include "bpf/repair.h"
#include "bpf/rewrite.h"
#include "bpf/scratch.h"

enum { ADDRESS_FAMILY_INET = 2, ADDRESS_FAMILY_INET6 = 10 };

static __always_inline enum reason route_failure(long error)
{
	switch (error) {
	case BPF_FIB_LKUP_RET_FWD_DISABLED:
		return REASON_FORWARDING_DISABLED;
	default:
		return REASON_NO_ROUTE;
	}
}

/* Asks the kernel for the way to the flow's translated destination. What is masqueraded is
 * routed as the kernel would before it masquerades: by the pod's address. */
static __always_inline long route_lookup(ctx_t *ctx, struct packet *packet,
					 union any_flow *flow, struct bpf_fib_lookup *route,
					 int family)
{
	const __be32 *source = flow_src(flow, family);

	if (config.network_model &&
	    (flow_body(flow, family)->flags & (FLOW_MASQUERADE | FLOW_REPLY)) == FLOW_MASQUERADE)
		source = tuple_src(&packet->tuple, family);
	__builtin_memset(route, 0, sizeof(*route));
	route->ifindex = ctx_ifindex(ctx);
	route->l4_protocol = *tuple_protocol(&packet->tuple, family);
	/* Any length makes tc tell the route's MTU, as XDP does, and not the device's; the
	 * packet's own is held against it in one place, forward. */
	route->tot_len = 1;
	if (family == FAMILY_IPV4) {
		route->family = ADDRESS_FAMILY_INET;
		route->tos = packet->tos;
		route->ipv4_src = *source;
		route->ipv4_dst = *flow_dst(flow, family);
	} else {
		route->family = ADDRESS_FAMILY_INET6;
		addr_copy(route->ipv6_src, source, family);
		addr_copy(route->ipv6_dst, flow_dst(flow, family), family);
	}
	return bpf_fib_lookup(ctx, route, sizeof(*route), 0);
}

/*
 * Finds the next hop of a flow's translated destination and puts it into the copy. With a
 * stamp of no epoch afterwards there is a route but no neighbour yet: scratch->route is for
 * ctx_resolve. REASON_COUNT: found.
 */
static __always_inline int hop_find_of(ctx_t *ctx, struct packet *packet, union any_flow *flow,
				       __u32 stamp, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	const int shared = hops_are_shared(stamp, family);
	struct bpf_fib_lookup *route;
	struct flow_body *body;
	struct device *device;
	__u32 ifindex;
	long error;

	if (!packet || !flow || !scratch)
		return REASON_TABLE_BUSY;
	if (shared && hop_recall(ctx, packet, flow, stamp, scratch, family))
		return REASON_COUNT;
	route = &scratch->route;
	body = flow_body(flow, family);
	error = route_lookup(ctx, packet, flow, route, family);
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
	if (shared)
		hop_remember(ctx, packet, flow, scratch, family);
	return REASON_COUNT;
}

__weak int CTX_GLOBAL(hop_find4)(ctx_t *ctx, struct packet *packet, union any_flow *flow,
				 __u32 stamp)
{
	return hop_find_of(ctx, packet, flow, stamp, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(hop_find6)(ctx_t *ctx, struct packet *packet, union any_flow *flow,
				 __u32 stamp)
{
	return hop_find_of(ctx, packet, flow, stamp, FAMILY_IPV6);
}

static __always_inline enum reason hop_find(ctx_t *ctx, struct packet *packet, union any_flow *flow,
					    __u32 stamp, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(hop_find4)(ctx, packet, flow, stamp)
				     : CTX_GLOBAL(hop_find6)(ctx, packet, flow, stamp);
}

/* The route is known, in scratch->route, its neighbour is not. */
__weak int CTX_GLOBAL(resolve)(ctx_t *ctx)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);

	if (!scratch)
		return drop(ctx, REASON_REWRITE_FAILED);
	count(ctx, REASON_RESOLVING);
	return ctx_resolve(ctx, &scratch->route);
}

static __always_inline int send(ctx_t *ctx, const struct next_hop *hop)
{
	const __u32 *macs = (const __u32 *)hop->dst_mac;
	__u32 *ethernet = ctx_at(ctx, 0, 2 * ETH_ALEN);

	if (!ethernet)
		return drop(ctx, REASON_REWRITE_FAILED);
	/* Destination, then source, as in the packet. */
	for (int i = 0; i < 3; i++)
		store_word(&ethernet[i], macs[i]);
	count(ctx, (hop->device & ~NEXT_HOP_XDP) == ctx_ifindex(ctx) ? REASON_TRANSMITTED :
								       REASON_REDIRECTED);
	return ctx_send(ctx, hop->device);
}

/*
 * Whether a RST is beyond doubt. Its sequence number would tell, but the flow does not know
 * what numbers there may be, and to keep them would cost every packet. From outside anybody
 * may send one, and the receiver ignores it if the number is wrong (RFC 5961). On the device
 * that leads to its source it is its own; and of a connection that is not established there
 * is nothing to protect.
 */
static __always_inline int reset_is_sure(ctx_t *ctx, struct packet *packet, struct flow *flow,
					 int family)
{
	const __u8 flags = flow_body(&flow->answer, family)->flags;
	struct scratch *scratch = scratch_of(CTX_HOOK);
	union any_flow *back;
	long error;

	if (!seen_established(meta_seen(flow->meta), flags, IPPROTO_TCP))
		return 1;
	if (!packet->from_pod || !scratch)
		return 0;
	back = &scratch->other.answer;
	flow_body(back, family)->flags = 0;
	addr_copy(flow_src(back, family), tuple_dst(&packet->tuple, family), family);
	addr_copy(flow_dst(back, family), tuple_src(&packet->tuple, family), family);
	error = route_lookup(ctx, packet, back, &scratch->route, family);
	return (!error || error == BPF_FIB_LKUP_RET_NO_NEIGH) &&
	       scratch->route.ifindex == ctx_ifindex(ctx);
}

/* What a packet shows that was not seen before. */
static __always_inline int note_of(ctx_t *ctx, struct packet *packet, struct flow *flow, int family)
{
	__u8 seen = seen_in(packet);

	if (seen & SEEN_RST && reset_is_sure(ctx, packet, flow, family))
		seen |= SEEN_FIN | SEEN_FIN << SEEN_TWIN_SHIFT;
	flow_note_seen(&packet->tuple, flow, seen, family);
	return 0;
}

__weak int CTX_GLOBAL(note4)(ctx_t *ctx, struct packet *packet, struct flow *flow)
{
	return packet && flow ? note_of(ctx, packet, flow, FAMILY_IPV4) : 0;
}

__weak int CTX_GLOBAL(note6)(ctx_t *ctx, struct packet *packet, struct flow *flow)
{
	return packet && flow ? note_of(ctx, packet, flow, FAMILY_IPV6) : 0;
}

static __always_inline void note(ctx_t *ctx, struct packet *packet, struct flow *flow, int family)
{
	__u8 seen;

	/* Most packets, in few instructions. */
	if (!(packet->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST)) &&
	    flow->meta & SEEN_ACK << FLOW_META_SEEN_SHIFT)
		return;
	seen = seen_in(packet);
	if ((meta_seen(flow->meta) & seen) == seen)
		return;
	if (family == FAMILY_IPV4)
		CTX_GLOBAL(note4)(ctx, packet, flow);
	else
		CTX_GLOBAL(note6)(ctx, packet, flow);
}

/* Once a slot and flow, and after each change of the epoch: finds the next hop again, notes
 * the time, and sees to it that the other direction is still there. */
static __always_inline int renew_of(ctx_t *ctx, struct packet *packet, struct flow *flow,
				    __u32 stamp, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	enum reason reason;
	__u32 before;

	if (!packet || !flow || !scratch)
		return REASON_TABLE_BUSY;
	before = flow_body(&flow->answer, family)->stamp;
	reason = hop_find(ctx, packet, &flow->answer, stamp, family);
	if (flow_body(&flow->answer, family)->stamp == before)
		return reason;
	if (seen_reset(meta_seen(flow->meta)) && !(packet->tcp_flags & TCP_RST))
		flow_revive(&packet->tuple, flow, family);
	flow_repair_twin(&packet->tuple, flow, &scratch->other, &scratch->reservation.reverse,
			 family);
	flow_store_hop(&packet->tuple, flow, family);
	return reason;
}

__weak int CTX_GLOBAL(renew4)(ctx_t *ctx, struct packet *packet, struct flow *flow, __u32 stamp)
{
	return renew_of(ctx, packet, flow, stamp, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(renew6)(ctx_t *ctx, struct packet *packet, struct flow *flow, __u32 stamp)
{
	return renew_of(ctx, packet, flow, stamp, FAMILY_IPV6);
}

static __always_inline enum reason renew(ctx_t *ctx, struct packet *packet, struct flow *flow,
					 __u32 stamp, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(renew4)(ctx, packet, flow, stamp)
				     : CTX_GLOBAL(renew6)(ctx, packet, flow, stamp);
}

enum {
	FITS = 100, /* no program's return value */
	GSO_BY_FRAGMENTS = 0xffff,
};

/* A packet that is longer than the MTU: FITS, if a device will cut it into segments that are
 * not, or the program's return value. */
static __always_inline int oversize_of(ctx_t *ctx, struct packet *packet, __u32 mtu, int family)
{
	const __u8 *data_offset;
	__u32 header = 8;
	__u32 l4;

	if (!packet)
		return CTX_DROP;
	l4 = packet->l4_offset;
	if (ctx_is_gso(ctx) && l4 <= MAX_HEADERS * 4) {
		if (*tuple_protocol(&packet->tuple, family) == IPPROTO_TCP) {
			data_offset = ctx_at(ctx, l4 + 12, 1);
			header = data_offset ? (*data_offset >> 4) * 4 : 20;
		}
		/* Of SCTP the sender has sized every chunk itself. */
		if (ctx_gso_size(ctx) == GSO_BY_FRAGMENTS ||
		    l4 - L3_OFFSET + header + ctx_gso_size(ctx) <= mtu)
			return FITS;
	}
	return too_big(ctx, packet, mtu, family);
}

__weak int CTX_GLOBAL(oversize4)(ctx_t *ctx, struct packet *packet, __u32 mtu)
{
	return oversize_of(ctx, packet, mtu, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(oversize6)(ctx_t *ctx, struct packet *packet, __u32 mtu)
{
	return oversize_of(ctx, packet, mtu, FAMILY_IPV6);
}

static __always_inline int oversize(ctx_t *ctx, struct packet *packet, __u32 mtu, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(oversize4)(ctx, packet, mtu)
				     : CTX_GLOBAL(oversize6)(ctx, packet, mtu);
}

static __always_inline int rewrite_unusual(ctx_t *ctx, struct packet *packet,
					   union any_flow *flow, __u8 kind, int hop,
					   int family)
{
	__u32 l4;

	if (kind & PACKET_LATER_FRAGMENT)
		return rewrite_addresses(ctx, flow, hop, family);
	if (kind & PACKET_SCTP)
		return rewrite_sctp(ctx, packet, flow, hop, family);
	if (config.network_model && kind & PACKET_ECHO)
		return rewrite_echo(ctx, packet, flow, hop, family);
	/* One value, which rewrite compares with its bound and uses: see ctx_edit_l4 at tc. */
	l4 = packet->l4_offset;
	barrier_var(l4);
	return rewrite(ctx, packet, flow, l4, hop, family);
}

/* What is more to some packets, once their flow is known and its next hop has been looked up
 * if need be; and the end of those that have gone far enough. */
static __always_inline int forward_unusual_of(ctx_t *ctx, struct packet *packet,
					      union any_flow *flow, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	struct flow_body *body;
	int unresolved;
	__u8 kind;

	if (!packet || !flow)
		return CTX_DROP;
	body = flow_body(flow, family);
	unresolved = !(body->stamp & ~STAMP_SLOT_MASK);
	kind = *packet_kind(packet, family);
	if (kind == PACKET_PLAIN || rewrite_ttl(ctx, family) <= 1) {
		/* The stack tells the pod, and sends it no further. */
		if (config.network_model && packet->from_pod && body->flags & FLOW_MASQUERADE)
			return pass(ctx, REASON_NOT_OURS);
		return drop(ctx, REASON_TTL_EXCEEDED);
	}
	if (!scratch)
		return drop(ctx, REASON_REWRITE_FAILED);
	if (unresolved ? !CTX_CAN_RESOLVE : !ctx_can_send(ctx, body->next_hop.device))
		return pass(ctx, REASON_TO_TC);
	if (!unresolved && body->mtu && packet->ip_len > body->mtu) {
		int verdict = oversize(ctx, packet, body->mtu, family);

		if (verdict != FITS)
			return verdict;
	}
	if (kind == (PACKET_FIRST_FRAGMENT | PACKET_SCTP) &&
	    tuple_ports(&packet->tuple, family) != flow_ports(flow, family))
		return drop(ctx, REASON_SCTP_FRAGMENT);
	if (rewrite_unusual(ctx, packet, flow, kind, 1, family))
		return drop(ctx, REASON_REWRITE_FAILED);
	if (kind & PACKET_FIRST_FRAGMENT)
		fragment_remember(packet, &scratch->fragment_key, family);
	if (unresolved)
		return CTX_GLOBAL(resolve)(ctx);
	return send(ctx, &body->next_hop);
}

__weak int CTX_GLOBAL(forward_unusual4)(ctx_t *ctx, struct packet *packet, union any_flow *flow)
{
	return forward_unusual_of(ctx, packet, flow, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(forward_unusual6)(ctx_t *ctx, struct packet *packet, union any_flow *flow)
{
	return forward_unusual_of(ctx, packet, flow, FAMILY_IPV6);
}

static __always_inline int forward_unusual(ctx_t *ctx, struct packet *packet, union any_flow *flow,
					   int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(forward_unusual4)(ctx, packet, flow)
				     : CTX_GLOBAL(forward_unusual6)(ctx, packet, flow);
}

/* An unusual packet to the node's own stack. REASON_COUNT: done. */
static __always_inline int rewrite_for_stack_of(ctx_t *ctx, struct packet *packet,
						union any_flow *flow, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	__u8 kind;

	if (!packet || !flow || !scratch)
		return REASON_REWRITE_FAILED;
	kind = *packet_kind(packet, family);
	if (kind == (PACKET_FIRST_FRAGMENT | PACKET_SCTP) &&
	    tuple_ports(&packet->tuple, family) != flow_ports(flow, family))
		return REASON_SCTP_FRAGMENT;
	if (rewrite_unusual(ctx, packet, flow, kind, 0, family))
		return REASON_REWRITE_FAILED;
	if (kind & PACKET_FIRST_FRAGMENT)
		fragment_remember(packet, &scratch->fragment_key, family);
	return REASON_COUNT;
}

__weak int CTX_GLOBAL(rewrite_for_stack4)(ctx_t *ctx, struct packet *packet, union any_flow *flow)
{
	return rewrite_for_stack_of(ctx, packet, flow, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(rewrite_for_stack6)(ctx_t *ctx, struct packet *packet, union any_flow *flow)
{
	return rewrite_for_stack_of(ctx, packet, flow, FAMILY_IPV6);
}

static __always_inline enum reason rewrite_for_stack(ctx_t *ctx, struct packet *packet,
						     union any_flow *flow, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(rewrite_for_stack4)(ctx, packet, flow)
				     : CTX_GLOBAL(rewrite_for_stack6)(ctx, packet, flow);
}

/*
 * A packet that the node's own stack is an end of: translated where it is, without a next hop
 * and without a hop. Towards the stack at ingress, and at tc, which knows of checksums that a
 * device has verified; from it at egress. The stamp of such a flow has no epoch.
 */
static __always_inline int translate_in_place(ctx_t *ctx, struct packet *packet, struct flow *flow,
					      enum reason reason, int family)
{
	struct flow_body *body = flow_body(&flow->answer, family);
	struct scratch *scratch;
	__u32 now = clock_slot();
	enum reason failed;

	if (body->stamp != now) {
		scratch = scratch_of(CTX_HOOK);
		if (!scratch)
			return drop(ctx, REASON_TABLE_BUSY);
		body->stamp = now;
		flow_repair_twin(&packet->tuple, flow, &scratch->other,
				 &scratch->reservation.reverse, family);
		flow_store_hop(&packet->tuple, flow, family);
	}
	failed = rewrite_for_stack(ctx, packet, &flow->answer, family);
	return failed == REASON_COUNT ? pass(ctx, reason) : drop(ctx, failed);
}

static __always_inline int deliver_of(ctx_t *ctx, struct packet *packet, struct flow *flow,
				      int family)
{
	if (!packet || !flow)
		return CTX_DROP;
	/* The reply of an endpoint here does not come in from anywhere. */
	if ((flow_body(&flow->answer, family)->flags & (FLOW_REPLY | FLOW_MASQUERADE)) ==
	    FLOW_REPLY)
		return pass(ctx, REASON_NOT_OURS);
	if ((int)CTX_HOOK == (int)HOOK_XDP)
		return pass(ctx, REASON_TO_TC);
	return translate_in_place(ctx, packet, flow, REASON_DELIVERED, family);
}

__weak int CTX_GLOBAL(deliver4)(ctx_t *ctx, struct packet *packet, struct flow *flow)
{
	return deliver_of(ctx, packet, flow, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(deliver6)(ctx_t *ctx, struct packet *packet, struct flow *flow)
{
	return deliver_of(ctx, packet, flow, FAMILY_IPV6);
}

static __always_inline int deliver(ctx_t *ctx, struct packet *packet, struct flow *flow, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(deliver4)(ctx, packet, flow)
				     : CTX_GLOBAL(deliver6)(ctx, packet, flow);
}

/* A packet of a flow, from state to the wire. */
static __always_inline int forward(ctx_t *ctx, struct packet *packet, struct flow *flow, int family)
{
	struct flow_body *body = flow_body(&flow->answer, family);
	__u32 stamp = clock_stamp();
	int unresolved;

	note(ctx, packet, flow, family);
	if (body->stamp != stamp) {
		enum reason reason;

		if (body->flags & FLOW_NODE)
			return deliver(ctx, packet, flow, family);
		reason = renew(ctx, packet, flow, stamp, family);
		if (reason != REASON_COUNT)
			return drop(ctx, reason);
	}
	if (packet->ttl <= 1)
		return forward_unusual(ctx, packet, &flow->answer, family);
	unresolved = body->stamp != stamp;
	if (unresolved ? !CTX_CAN_RESOLVE : !ctx_can_send(ctx, body->next_hop.device))
		return pass(ctx, REASON_TO_TC);
	if (!unresolved && body->mtu && packet->ip_len > body->mtu) {
		int verdict = oversize(ctx, packet, body->mtu, family);

		if (verdict != FITS)
			return verdict;
	}
	if (rewrite(ctx, packet, &flow->answer, PLAIN_L4(family), 1, family))
		return drop(ctx, REASON_REWRITE_FAILED);
	if (unresolved)
		return CTX_GLOBAL(resolve)(ctx);
	return send(ctx, &body->next_hop);
}

#endif
