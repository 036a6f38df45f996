/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Making a connection's two flows. The reverse one is made first and only if its tuple is
 * free, so that no two connections ever share a reply; where it is not free, or the source
 * address changes, the source port is translated. The order in which ports are tried is a
 * function of the connection: a flow that was lost finds its own port again.
 */
#ifndef MAGLANE_NAT_H
#define MAGLANE_NAT_H

#include "bpf/checksum.h"
#include "bpf/flow.h"
#include "bpf/select.h"

enum { SOURCE_PORT_TRIES = 1024 };

/* A connection to be made. Wide enough for both families. */
struct connection {
	__be32 src_be[4]; /* after translation */
	__be32 dst_be[4];
	__be16 dst_port_be;
	__be16 pad;
	__u32 backend_id;
	__u32 service_id;
	__u8 source_translated;
	__u8 pad2[3];
	__u64 hash;
};

union any_tuple {
	struct tuple4 t4;
	struct tuple6 t6;
};

union any_flow {
	struct flow4 f4;
	struct flow6 f6;
};

static __always_inline __u16 port_difference(void *flow, void *tuple, int family)
{
	return checksum_fold((__u64)(__u16)~*tuple_src_port(tuple, family) +
			     (__u16)~*tuple_dst_port(tuple, family) + *flow_src_port(flow, family) +
			     *flow_dst_port(flow, family));
}

/* What the translation adds to checksums: new words less old ones. */
static __always_inline void flow_set_checksums(void *flow, void *tuple, int family)
{
	struct flow_body *body = flow_body(flow, family);
	__u64 sum;

	sum = checksum_replace_words(0, tuple_src(tuple, family), flow_src(flow, family),
				     ADDR_WORDS(family));
	sum = checksum_replace_words(sum, tuple_dst(tuple, family), flow_dst(flow, family),
				     ADDR_WORDS(family));
	body->addr_csum = checksum_fold(sum);
	body->port_csum = port_difference(flow, tuple, family);
}

static __always_inline void flow_fill(void *flow, void *tuple, const struct connection *connection,
				      int family)
{
	struct flow_body *body = flow_body(flow, family);

	flow_set_checksums(flow, tuple, family);
	body->backend_id = connection->backend_id;
	body->service_id = connection->service_id;
	body->stamp = clock_slot();
}

/* Host order. The n-th port to try: starts where the hash says, then every port once. */
static __always_inline __u16 source_port(__u64 hash, __u32 n)
{
	__u32 first = config.snat_port_count[0];
	__u32 total = first + config.snat_port_count[1];
	__u32 index;

	if (!total)
		return 0;
	index = ((__u32)hash % total + n) % total;
	return index < first ? config.snat_port_min[0] + index :
			       config.snat_port_min[1] + (index - first);
}

/* The search for a free reverse tuple, passed through bpf_loop. */
struct reservation {
	union any_tuple reverse; /* the tuple to reserve; its destination port is what varies */
	union any_flow flow;	 /* what goes there */
	__u32 hash;
	__be16 own_port_be;
	__u8 source_translated;
	__u8 reason; /* enum reason: why it failed; REASON_COUNT: reserved */
};

static __always_inline int flow_same_answer(void *a, void *b, int family)
{
	return addr_equal(flow_src(a, family), flow_src(b, family), family) &&
	       addr_equal(flow_dst(a, family), flow_dst(b, family), family) &&
	       *flow_src_port(a, family) == *flow_src_port(b, family) &&
	       *flow_dst_port(a, family) == *flow_dst_port(b, family);
}

/* Tries the n-th port. 1: the search is over, reservation->reason says how. */
static __always_inline long reserve_port(__u32 n, struct reservation *reservation, int family)
{
	void *reverse = &reservation->reverse;
	void *flow = &reservation->flow;
	struct flow_body *body = flow_body(flow, family);
	__be16 own = reservation->own_port_be;
	__be16 port = own;
	enum flow_inserted inserted;
	void *other;

	if (reservation->source_translated || n)
		port = __builtin_bswap16(source_port(reservation->hash, n));
	if (!port)
		return 1;
	*tuple_dst_port(reverse, family) = port;
	body->port_csum = port_difference(flow, reverse, family);
	body->flags = FLOW_REPLY;
	if (reservation->source_translated || port != own)
		body->flags |= FLOW_SNAT;
	inserted = flow_insert(reverse, flow, family);
	if (inserted == FLOW_PRESENT) {
		other = flow_find(reverse, family);
		if (!other)
			return 0;
		if (flow_same_answer(other, flow, family)) {
			/* This very connection's: its forward flow was lost. */
			reservation->reason = REASON_COUNT;
			return 1;
		}
		if (!flow_closed(reverse, other, family))
			return 0;
		flow_remove(reverse, other, family);
		inserted = flow_insert(reverse, flow, family);
		if (inserted == FLOW_PRESENT)
			return 0;
	}
	reservation->reason = inserted == FLOW_INSERTED ? REASON_COUNT : REASON_FLOW_TABLE_FULL;
	return 1;
}

static long reserve_port4(__u32 n, struct reservation *reservation)
{
	return reserve_port(n, reservation, FAMILY_IPV4);
}

static long reserve_port6(__u32 n, struct reservation *reservation)
{
	return reserve_port(n, reservation, FAMILY_IPV6);
}

/* Makes the reverse flow with the first source port that is free. REASON_COUNT: done. */
static __always_inline enum reason nat_reserve(struct packet *packet,
					       const struct connection *connection,
					       struct reservation *reservation, int family)
{
	void *reverse = &reservation->reverse;
	void *flow = &reservation->flow;

	reservation->hash = connection->hash;
	reservation->own_port_be = *tuple_src_port(packet, family);
	reservation->source_translated = connection->source_translated;
	reservation->reason = REASON_NO_SOURCE_PORT;

	addr_copy(flow_src(flow, family), tuple_dst(packet, family), family);
	addr_copy(flow_dst(flow, family), tuple_src(packet, family), family);
	*flow_src_port(flow, family) = *tuple_dst_port(packet, family);
	*flow_dst_port(flow, family) = *tuple_src_port(packet, family);

	addr_copy(tuple_src(reverse, family), connection->dst_be, family);
	addr_copy(tuple_dst(reverse, family), connection->src_be, family);
	*tuple_src_port(reverse, family) = connection->dst_port_be;
	*tuple_protocol(reverse, family) = *tuple_protocol(packet, family);
	flow_fill(flow, reverse, connection, family);

	if (family == FAMILY_IPV4)
		bpf_loop(SOURCE_PORT_TRIES, reserve_port4, reservation, 0);
	else
		bpf_loop(SOURCE_PORT_TRIES, reserve_port6, reservation, 0);
	return reservation->reason;
}

/* Makes both flows of a new connection. REASON_COUNT: done, flow_find finds it. */
static __always_inline enum reason nat_make_flows(struct packet *packet,
						  const struct connection *connection, int family)
{
	struct reservation reservation = {};
	void *flow = &reservation.flow;
	enum reason reason;
	__be16 port;

	reason = nat_reserve(packet, connection, &reservation, family);
	if (reason != REASON_COUNT)
		return reason;
	port = *tuple_dst_port(&reservation.reverse, family);
	__builtin_memset(flow, 0, sizeof(reservation.flow));
	addr_copy(flow_src(flow, family), connection->src_be, family);
	addr_copy(flow_dst(flow, family), connection->dst_be, family);
	*flow_src_port(flow, family) = port;
	*flow_dst_port(flow, family) = connection->dst_port_be;
	flow_fill(flow, packet, connection, family);
	if (connection->source_translated || port != *tuple_src_port(packet, family))
		flow_body(flow, family)->flags |= FLOW_SNAT;
	switch (flow_insert(packet, flow, family)) {
	case FLOW_INSERTED:
		return REASON_COUNT;
	case FLOW_PRESENT: {
		/* Another CPU made it meanwhile; a reverse flow of ours that it does not use
		 * would hold a port for nothing. */
		void *theirs = flow_find(packet, family);

		if (theirs && *flow_src_port(theirs, family) != port)
			flow_delete(&reservation.reverse, family);
		return REASON_COUNT;
	}
	default:
		flow_delete(&reservation.reverse, family);
		return REASON_FLOW_TABLE_FULL;
	}
}

#endif
