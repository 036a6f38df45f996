/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Masquerade: what a pod opens to the outside of the cluster's network leaves with the node's
 * address on the device that the route chose, so that the answers find the way back. It is a
 * new connection like any other: its two flows are made once, where the packet comes in, and
 * then each packet costs one look-up.
 *
 * What is not followed stays as it is: packets that leave by no uplink, and those of
 * connections that were opened from outside, to the pod's own address. Of TCP the second is
 * told by the pod's SYN and ACK, which makes flows that change nothing, for what comes after;
 * and what comes in the middle of a connection that nobody knows is none that began here.
 */
#ifndef MAGLANE_MASQUERADE_H
#define MAGLANE_MASQUERADE_H

#include "bpf/forward.h"
#include "bpf/scratch.h"
#include "bpf/select.h"

/* Multicast is never forwarded as if it were for one host, nor is a broadcast. */
static __always_inline int is_for_many(const __be32 *address, int family)
{
	const __be32 first = family == FAMILY_IPV4 ? __builtin_bswap32(0xe0000000) :
						     __builtin_bswap32(0xff000000);

	return (address[0] & first) == first;
}

static __always_inline int in_pod_cidr(const __be32 *address, int family)
{
	for (int i = 0; i < MAX_POD_CIDRS; i++)
		if (prefix_contains(&config.pod_cidrs[i], address, family))
			return 1;
	return 0;
}

/* Whether pods show this destination the node's address. */
static __always_inline int is_outside(const __be32 *destination, struct masquerade_range_key *range,
				      int family)
{
	if (is_for_many(destination, family))
		return 0;
	/* The agent's list has these as well. Most of what pods send goes to pods. */
	if (config.network_model != NETWORK_CUSTOM && in_pod_cidr(destination, family))
		return 0;
	range->prefix_bits = MASQUERADE_RANGE_BITS + (family == FAMILY_IPV4 ? 32 : 128);
	range->family = family;
	addr_widen(range->addr_be, destination, family);
	return !bpf_map_lookup_elem(&masquerade_ranges, range);
}

/* What a packet that no flow has means for masquerade, on its way to `destination`. */
static __always_inline enum masquerade masquerade_of(ctx_t *ctx, struct packet *packet,
						     const __be32 *destination,
						     struct scratch *scratch, int family)
{
	const __u8 protocol = *tuple_protocol(&packet->tuple, family);
	enum masquerade result = MASQUERADE_SOURCE;

	if (!config.network_model || !packet->from_pod)
		return MASQUERADE_NOT;
	if (protocol == IPPROTO_TCP && packet->tcp_flags & TCP_SYN)
		result = packet->tcp_flags & TCP_ACK ? MASQUERADE_INBOUND : MASQUERADE_SOURCE;
	else if (protocol == IPPROTO_TCP)
		result = MASQUERADE_KNOWN;
	/* An echo reply: whoever asked knows the pod's address. */
	if (*packet_kind(packet, family) & PACKET_ECHO && *tuple_dst_port(&packet->tuple, family))
		return MASQUERADE_NOT;
	/* The stack tells the pod that it was too far. */
	if (packet->ttl <= 1 && rewrite_ttl(ctx, family) <= 1)
		return MASQUERADE_NOT;
	return is_outside(destination, &scratch->masquerade_range, family) ? result : MASQUERADE_NOT;
}

/* Later fragments whose first one nobody knows must not leave with the pod's address. */
static __always_inline int fragment_would_leak_of(ctx_t *ctx, struct packet *packet, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	union any_flow *as_it_is;
	__u32 ifindex;
	long error;

	if (!scratch ||
	    !is_outside(tuple_dst(&packet->tuple, family), &scratch->masquerade_range, family))
		return 0;
	as_it_is = &scratch->other.answer;
	flow_body(as_it_is, family)->flags = 0;
	addr_copy(flow_src(as_it_is, family), tuple_src(&packet->tuple, family), family);
	addr_copy(flow_dst(as_it_is, family), tuple_dst(&packet->tuple, family), family);
	error = route_lookup(ctx, packet, as_it_is, &scratch->route, family);
	if (error && error != BPF_FIB_LKUP_RET_NO_NEIGH)
		return 0;
	ifindex = scratch->route.ifindex;
	return bpf_map_lookup_elem(&egress_addresses, &ifindex) != NULL;
}

__weak int CTX_GLOBAL(fragment_would_leak4)(ctx_t *ctx, struct packet *packet)
{
	return packet && fragment_would_leak_of(ctx, packet, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(fragment_would_leak6)(ctx_t *ctx, struct packet *packet)
{
	return packet && fragment_would_leak_of(ctx, packet, FAMILY_IPV6);
}

static __always_inline int fragment_would_leak(ctx_t *ctx, struct packet *packet, int family)
{
	if (!config.network_model || !packet->from_pod)
		return 0;
	return family == FAMILY_IPV4 ? CTX_GLOBAL(fragment_would_leak4)(ctx, packet)
				     : CTX_GLOBAL(fragment_would_leak6)(ctx, packet);
}

/*
 * Once the route of a new connection is known (`found` and `reason`, of hop_find): as whom it leaves.
 * REASON_COUNT: it is settled; REASON_NOT_OURS: the packet is left alone.
 */
static __always_inline enum reason masquerade_source(struct scratch *scratch,
						     const struct flow_body *found,
						     enum reason reason, int family)
{
	struct connection *connection = &scratch->connection;
	const int of_service = connection->service_id != 0;
	const struct egress_address *address;
	/* A next hop without a neighbour is in the route alone. */
	__u32 ifindex = found->stamp & ~STAMP_SLOT_MASK ? found->next_hop.device & ~NEXT_HOP_XDP :
							  scratch->route.ifindex;

	if (reason != REASON_COUNT)
		return of_service ? reason : REASON_NOT_OURS;
	address = bpf_map_lookup_elem(&egress_addresses, &ifindex);
	if (!address && !of_service)
		return REASON_NOT_OURS;
	if (!address || connection->masquerade == MASQUERADE_INBOUND)
		return REASON_COUNT;
	if (family == FAMILY_IPV4) {
		connection->src_be[0] = address->addr4_be;
		if (!address->addr4_be)
			return REASON_NO_SOURCE_ADDRESS;
	} else {
		addr_copy(connection->src_be, address->addr6_be, FAMILY_IPV6);
		if (!(address->addr6_be[0] | address->addr6_be[1] | address->addr6_be[2] |
		      address->addr6_be[3]))
			return REASON_NO_SOURCE_ADDRESS;
	}
	connection->source_translated = 1;
	connection->flags |= FLOW_MASQUERADE;
	return REASON_COUNT;
}

#endif
