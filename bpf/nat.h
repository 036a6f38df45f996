/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Making a connection's two flows. The reverse one is made first and only if its tuple is
 * free, so that no two connections ever share a reply; where it is not free, or the source
 * address changes, the source port is translated. A masqueraded connection keeps its own port
 * where that is free. The order in which ports are tried is a function of the connection: a
 * flow that was lost finds its own port again.
 */
#ifndef MAGLANE_NAT_H
#define MAGLANE_NAT_H

#include "bpf/checksum.h"
#include "bpf/filter.h"
#include "bpf/flow.h"
#include "bpf/node_socket.h"
#include "bpf/scratch.h"
#include "bpf/select.h"

enum {
	/* Where so many are taken, the search ends with one that nobody answers, if it met one: a
	 * flood holds all ports, and must not make every search a long one. */
	SOURCE_PORT_TRIES_ENOUGH = 64,
	/* Slots for which a connection that was not answered has its port to itself. */
	UNANSWERED_SLOTS = 2,
	/* After so many ports that are taken, it is asked whether somebody has just tried them all. */
	SHORTAGE_CHECK = 64,
	/* Among so many ports a packet's own is looked for. Where it is further on, the answers
	 * that come see to it. */
	KNOWN_TRIES = 16,
};

static __always_inline __u32 source_ports(void)
{
	return (__u32)config.snat_port_count[0] + config.snat_port_count[1];
}

/* A prime above all port numbers, so that steps of this length reach every one of any number of
 * ports: 65536 and one of the bytes. With steps of several lengths, connections whose first ports
 * are close to each other do not follow the same trail of ports that are taken. */
static __always_inline __u32 source_port_step(__u32 hash)
{
	return 65536 + (__u8)(0x2d2b1b150f070301ULL >> (hash >> 29) * 8);
}

/* Host order; 0: there is no n-th. The n-th port to try: starts where the hash says, then every
 * port once. */
static __always_inline __u16 source_port(__u32 hash, __u32 n)
{
	__u32 first = config.snat_port_count[0];
	__u32 total = source_ports();
	__u32 index;

	if (n >= total)
		return 0;
	index = (hash % total + (__u64)n * source_port_step(hash)) % total;
	return index < first ? config.snat_port_min[0] + index :
			       config.snat_port_min[1] + (index - first);
}

static __always_inline int flow_same_answer(union any_flow *a, union any_flow *b, int family)
{
	return addr_equal(flow_src(a, family), flow_src(b, family), family) &&
	       addr_equal(flow_dst(a, family), flow_dst(b, family), family) &&
	       *flow_src_port(a, family) == *flow_src_port(b, family) &&
	       *flow_dst_port(a, family) == *flow_dst_port(b, family);
}

/* Whether a packet opens something whose replies, their tuple in *reverse, would be taken for those
 * of a connection that is translated. */
static __always_inline int replies_are_taken(struct packet *packet, union any_tuple *reverse,
					     int family)
{
	__u8 protocol = *tuple_protocol(&packet->tuple, family);

	if (protocol == IPPROTO_TCP && !is_opening(packet))
		return 0;
	__builtin_memset(reverse, 0, sizeof(*reverse));
	addr_copy(tuple_src(reverse, family), tuple_dst(&packet->tuple, family), family);
	addr_copy(tuple_dst(reverse, family), tuple_src(&packet->tuple, family), family);
	*tuple_src_port(reverse, family) = *tuple_dst_port(&packet->tuple, family);
	*tuple_dst_port(reverse, family) = *tuple_src_port(&packet->tuple, family);
	*tuple_protocol(reverse, family) = protocol;
	return flow_is_there(reverse, family);
}

/* The flow may be a living connection's, but gives way where there is nothing else. */
enum doubt { DOUBT_NONE, DOUBT_RESET, DOUBT_UNANSWERED };

static __always_inline enum doubt doubt_of(struct flow *flow, __u8 protocol, int family)
{
	const struct flow_body *body = flow_body(&flow->answer, family);
	const __u8 seen = meta_seen(flow->meta);

	if (!seen_established(seen, body->flags, protocol) &&
	    idle_slots(clock_slot(), body->stamp) >= UNANSWERED_SLOTS)
		return DOUBT_UNANSWERED;
	return seen_reset(seen) ? DOUBT_RESET : DOUBT_NONE;
}

/* The tuple is another flow's. 1: it is this very connection's, whose forward flow was lost
 * and gets back what the reverse one knows; 0: it is closed and has been removed; -1: it is
 * in use; less: it may be, but there is that doubt (enum doubt). */
static __always_inline int reserve_from(struct reservation *reservation, struct flow *other,
					int family)
{
	enum table_result found = flow_peek(&reservation->reverse, other, family);
	int closed;
	__u8 seen;

	if (found != TABLE_DONE)
		return found == TABLE_ABSENT ? 0 : -1;
	seen = meta_seen(other->meta);
	closed = seen_closed(seen);
	if (flow_same_answer(&other->answer, &reservation->flow, family) &&
	    !(closed && reservation->seen & SEEN_SYN)) {
		reservation->seen = seen_by_twin(seen);
		reservation->found = 1;
		return 1;
	}
	if (!closed) {
		enum doubt doubt = doubt_of(other, reservation->protocol, family);

		if (doubt == DOUBT_NONE || !reservation->last_resort)
			return -1 - (int)doubt;
	}
	flow_remove_pair(&reservation->reverse, other, family);
	return 0;
}

static __always_inline struct port_shortage *shortage_find(struct scratch *scratch, int family)
{
	union any_tuple *reverse = &scratch->reservation.reverse;
	struct port_shortage_key *key = &scratch->shortage_key;

	addr_widen(key->addr_be, tuple_src(reverse, family), family);
	addr_widen(key->source_be, tuple_dst(reverse, family), family);
	key->port_be = *tuple_src_port(reverse, family);
	key->protocol = *tuple_protocol(reverse, family);
	key->family = family;
	return bpf_map_lookup_elem(&port_shortages, key);
}

/* In this slot all ports towards there have been tried: to do so for every packet would make
 * one remote that is used up a burden on all others. */
static __always_inline int shortage_is_known(struct scratch *scratch, int family)
{
	struct port_shortage *known = shortage_find(scratch, family);

	scratch->reservation.gave_up = known && known->slot == clock_slot();
	return scratch->reservation.gave_up;
}

/* For the next packet, and for the agent, which tells people. */
static __always_inline void shortage_note(struct scratch *scratch, int family)
{
	struct port_shortage *known = shortage_find(scratch, family);

	if (known) {
		__sync_fetch_and_add(&known->packets, 1);
		if (!scratch->reservation.gave_up)
			known->slot = clock_slot();
		return;
	}
	scratch->shortage.slot = clock_slot();
	scratch->shortage.packets = 1;
	bpf_map_update_elem(&port_shortages, &scratch->shortage_key, &scratch->shortage, 0);
}

/* Whether the tuple is the connection's own, whose forward flow was lost. */
static __always_inline int reserve_known(struct reservation *reservation, struct flow *other,
					 int family)
{
	if (flow_peek(&reservation->reverse, other, family) != TABLE_DONE ||
	    !flow_same_answer(&other->answer, &reservation->flow, family))
		return 0;
	reservation->seen = seen_by_twin(meta_seen(other->meta));
	reservation->found = 1;
	reservation->reason = REASON_COUNT;
	return 1;
}

/* What the search needs of its caller. */
struct port_search {
	ctx_t *ctx;
};

/* Tries the n-th port. 1: the search is over, reservation->reason says how. */
static __always_inline long reserve_port(__u32 n, struct port_search *search, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	struct reservation *reservation;
	union any_tuple *reverse;
	union any_flow *flow;
	enum table_result result;
	__be16 port;

	if (!scratch)
		return 1;
	reservation = &scratch->reservation;
	reverse = &reservation->reverse;
	flow = &reservation->flow;
	if (n >= SOURCE_PORT_TRIES_ENOUGH && reservation->doubt == DOUBT_UNANSWERED)
		return 1;
	if (n == SHORTAGE_CHECK && shortage_is_known(scratch, family))
		return 1;
	n += reservation->first;
	if (n < reservation->tries_own) {
		port = reservation->own_port_be;
		if (!port && reservation->source_translated)
			return 0;
	} else {
		port = __builtin_bswap16(
			source_port(reservation->hash, n - reservation->tries_own));
	}
	if (!port)
		return 1;
	*tuple_dst_port(reverse, family) = port;
	if (reservation->only_known)
		return reserve_known(reservation, &scratch->other, family);
	if (reservation->source_translated &&
	    node_socket_has(search->ctx, reverse, &scratch->socket, family))
		return 0;
	flow_set_checksums(flow, reverse, family);
	flow_body(flow, family)->flags = FLOW_REPLY | reservation->flags;
	if (reservation->source_translated || port != reservation->own_port_be)
		flow_body(flow, family)->flags |= FLOW_SNAT;
	result = flow_insert(reverse, flow, seen_by_twin(reservation->seen), family);
	if (result == TABLE_PRESENT) {
		int whose = reserve_from(reservation, &scratch->other, family);

		if (whose > 0) {
			reservation->reason = REASON_COUNT;
			return 1;
		}
		if (-1 - whose > reservation->doubt) {
			reservation->doubt = -1 - whose;
			reservation->doubtful_n = n;
		}
		if (whose < 0)
			return 0;
		result = flow_insert(reverse, flow, seen_by_twin(reservation->seen), family);
		if (result == TABLE_PRESENT)
			return 0;
	}
	reservation->reason = result == TABLE_DONE ? REASON_COUNT :
			      result == TABLE_FULL ? REASON_FLOW_TABLE_FULL :
						     REASON_TABLE_BUSY;
	return 1;
}

static long reserve_port4(__u32 n, struct port_search *search)
{
	return reserve_port(n, search, FAMILY_IPV4);
}

static long reserve_port6(__u32 n, struct port_search *search)
{
	return reserve_port(n, search, FAMILY_IPV6);
}

static __always_inline void reserve(ctx_t *ctx, __u32 tries, int family)
{
	struct port_search search = {.ctx = ctx};

	if (family == FAMILY_IPV4)
		bpf_loop(tries, reserve_port4, &search, 0);
	else
		bpf_loop(tries, reserve_port6, &search, 0);
}

/* Most connections keep their port, and nobody has it: then no more is asked. 0: it has to be. */
static __always_inline int reserve_own_port(struct reservation *reservation, int family)
{
	union any_tuple *reverse = &reservation->reverse;
	union any_flow *flow = &reservation->flow;

	if (reservation->only_known || !reservation->own_port_be)
		return 0;
	*tuple_dst_port(reverse, family) = reservation->own_port_be;
	flow_set_checksums(flow, reverse, family);
	flow_body(flow, family)->flags = FLOW_REPLY | reservation->flags;
	return flow_insert(reverse, flow, seen_by_twin(reservation->seen), family) == TABLE_DONE;
}

/* Makes the reverse flow with the first source port that is free; where none is, with one of a
 * connection that was reset, as it seems, or that nobody answers. REASON_COUNT: done. */
static __always_inline enum reason nat_reserve(ctx_t *ctx, struct packet *packet,
					       const struct connection *connection,
					       struct scratch *scratch, int family)
{
	struct reservation *reservation = &scratch->reservation;
	union any_tuple *reverse = &reservation->reverse;
	union any_flow *flow = &reservation->flow;
	__u8 protocol = *tuple_protocol(&packet->tuple, family);

	reservation->hash = connection->hash;
	reservation->own_port_be = *tuple_src_port(&packet->tuple, family);
	reservation->source_translated = connection->source_translated;
	reservation->tries_own =
		!connection->source_translated || connection->flags & FLOW_MASQUERADE;
	reservation->flags = connection->flags;
	reservation->protocol = protocol;
	reservation->seen = seen_in(packet);
	if (reservation->seen & SEEN_RST) /* of a connection that nobody knows: it is over */
		reservation->seen |= SEEN_FIN | SEEN_FIN << SEEN_TWIN_SHIFT;
	reservation->reason = REASON_NO_SOURCE_PORT;

	addr_copy(flow_src(flow, family), tuple_dst(&packet->tuple, family), family);
	addr_copy(flow_dst(flow, family), tuple_src(&packet->tuple, family), family);
	*flow_src_port(flow, family) = *tuple_dst_port(&packet->tuple, family);
	*flow_dst_port(flow, family) = *tuple_src_port(&packet->tuple, family);
	flow_body(flow, family)->backend_id = connection->backend_id;
	flow_body(flow, family)->service_id = connection->service_id;
	flow_body(flow, family)->stamp = clock_slot();

	addr_copy(tuple_src(reverse, family), connection->dst_be, family);
	addr_copy(tuple_dst(reverse, family), connection->src_be, family);
	*tuple_src_port(reverse, family) = connection->dst_port_be;
	*tuple_protocol(reverse, family) = protocol;

	reservation->only_known = connection->masquerade == MASQUERADE_KNOWN;
	if (!reservation->source_translated && reserve_own_port(reservation, family))
		return REASON_COUNT;
	reserve(ctx, reservation->only_known ? KNOWN_TRIES :
					       source_ports() + reservation->tries_own,
		family);
	if (reservation->only_known)
		return reservation->reason == REASON_COUNT ? REASON_COUNT : REASON_NOT_OURS;
	if (reservation->reason == REASON_NO_SOURCE_PORT && reservation->doubt) {
		reservation->first = reservation->doubtful_n;
		reservation->last_resort = 1;
		reserve(ctx, 1, family);
	}
	if (reservation->reason == REASON_NO_SOURCE_PORT)
		shortage_note(scratch, family);
	return reservation->reason;
}

/* The forward flow could not be made: the reverse one would hold a port for nothing. */
static __always_inline void nat_release(struct packet *packet, struct reservation *reservation,
					int family)
{
	if (!reservation->found)
		flow_remove_twin(&reservation->reverse, &packet->tuple, family);
}

/*
 * Makes both flows of a new connection. `flow->answer` holds the next hop already; the rest
 * of it is filled in here. REASON_COUNT: done, *flow is the forward flow.
 */
static __always_inline enum reason nat_make_flows(ctx_t *ctx, struct packet *packet,
						  struct scratch *scratch, struct flow *flow,
						  int family)
{
	const struct connection *connection = &scratch->connection;
	struct reservation *reservation = &scratch->reservation;
	union any_flow *answer = &flow->answer;
	struct flow_body *body = flow_body(answer, family);
	enum table_result result;
	enum reason reason;
	__be16 port;

	filter_note_flow(tuple_dst(&packet->tuple, family), connection->dst_be, family);
	__builtin_memset(reservation, 0, sizeof(*reservation));
	reason = nat_reserve(ctx, packet, connection, scratch, family);
	if (reason != REASON_COUNT)
		return reason;
	port = *tuple_dst_port(&reservation->reverse, family);
	*flow_src_port(answer, family) = port;
	*flow_dst_port(answer, family) = connection->dst_port_be;
	flow_set_checksums(answer, &packet->tuple, family);
	body->backend_id = connection->backend_id;
	body->service_id = connection->service_id;
	body->flags = connection->flags;
	if (connection->source_translated || port != *tuple_src_port(&packet->tuple, family))
		body->flags |= FLOW_SNAT;
	result = flow_insert_telling(&packet->tuple, answer, reservation->seen, family);
	if (result == TABLE_MADE_ROOM) {
		/* Of the reverse flow? */
		if (flow_search(&reservation->reverse, family) == TABLE_NOWHERE) {
			flow_remove(&packet->tuple, family);
			return REASON_FLOW_TABLE_FULL;
		}
		result = TABLE_DONE;
	}
	if (result == TABLE_DONE) {
		flow->meta = (__u32)reservation->seen << FLOW_META_SEEN_SHIFT | reservation->protocol;
		flow->location = TABLE_NOWHERE;
		return REASON_COUNT;
	}
	if (result == TABLE_PRESENT) {
		/* Another CPU made it meanwhile. */
		result = flow_find(&packet->tuple, flow, family);
		if (result != TABLE_DONE || *flow_src_port(answer, family) != port)
			nat_release(packet, reservation, family);
		return result == TABLE_DONE ? REASON_COUNT : REASON_TABLE_BUSY;
	}
	nat_release(packet, reservation, family);
	return result == TABLE_FULL ? REASON_FLOW_TABLE_FULL : REASON_TABLE_BUSY;
}

#endif
