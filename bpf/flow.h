/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows: find, make unless present, change, remove, and what their fields mean. This header
 * alone knows that they live in the tables of table.h. What the other steps see of a flow is
 * a copy, taken whole; changes go through the functions here.
 */
#ifndef MAGLANE_FLOW_H
#define MAGLANE_FLOW_H

#include "bpf/checksum.h"
#include "bpf/maps.h"
#include "bpf/packet.h"
#include "bpf/table.h"

static __always_inline __u32 flow_scan4_at(void *bucket, const __u64 *key, __u8 tag);
static __always_inline __u32 flow_scan6_at(void *bucket, const __u64 *key, __u8 tag);
static __always_inline __u32 flow_victim4_at(void *bucket, __u32 now, __u32 whim);
static __always_inline __u32 flow_victim6_at(void *bucket, __u32 now, __u32 whim);

static const struct table_shape flow_shape4 = {
	TABLE_SHAPE_FLOW4,
	.scan = flow_scan4_at,
	.victim = flow_victim4_at,
};

static const struct table_shape flow_shape6 = {
	TABLE_SHAPE_FLOW6,
	.scan = flow_scan6_at,
	.victim = flow_victim6_at,
};

#define FLOW_SHAPE(family)   ((family) == FAMILY_IPV4 ? flow_shape4 : flow_shape6)
#define FLOW_MAP(family)     ((family) == FAMILY_IPV4 ? (void *)&flows4 : (void *)&flows6)
#define FLOW_BUCKETS(family) ((family) == FAMILY_IPV4 ? config.flow_buckets4 : config.flow_buckets6)
#define RETIRED_BUCKETS(family)                                                                    \
	((family) == FAMILY_IPV4 ? config.retired_buckets4 : config.retired_buckets6)

union any_flow {
	struct flow4 f4;
	struct flow6 f6;
	__u64 words[sizeof(struct flow6) / 8];
};

/* A flow as it was found: a whole copy. */
struct flow {
	union any_flow answer;
	__u32 meta;		 /* as in the entry */
	table_location location; /* where it was; with meta it tells whether it still is */
};

static __always_inline struct flow_body *flow_body(union any_flow *flow, int family)
{
	return family == FAMILY_IPV4 ? &flow->f4.body : &flow->f6.body;
}

static __always_inline __be32 *flow_src(union any_flow *flow, int family)
{
	return family == FAMILY_IPV4 ? &flow->f4.src_be : flow->f6.src_be;
}

static __always_inline __be32 *flow_dst(union any_flow *flow, int family)
{
	return family == FAMILY_IPV4 ? &flow->f4.dst_be : flow->f6.dst_be;
}

static __always_inline __be16 *flow_src_port(union any_flow *flow, int family)
{
	return family == FAMILY_IPV4 ? &flow->f4.src_port_be : &flow->f6.src_port_be;
}

static __always_inline __be16 *flow_dst_port(union any_flow *flow, int family)
{
	return family == FAMILY_IPV4 ? &flow->f4.dst_port_be : &flow->f6.dst_port_be;
}

/* Both ports, as they stand in the packet. */
static __always_inline __u32 flow_ports(const union any_flow *flow, int family)
{
	return family == FAMILY_IPV4 ? (__u32)flow->words[1] : (__u32)flow->words[4];
}

/* ---- the clock ------------------------------------------------------------------ */

static __always_inline __u32 clock_slot(void)
{
	return (bpf_jiffies64() >> config.slot_shift) & STAMP_SLOT_MASK;
}

/* What a flow's stamp is now if its next hop is fresh and its last packet was in this slot. */
static __always_inline __u32 clock_stamp(void)
{
	__u32 zero = 0;
	struct node_state *state = bpf_map_lookup_elem(&node_state, &zero);

	return (state ? state->epoch << STAMP_SLOT_BITS : 0) | clock_slot();
}

/* Slots between a stamp and now; a stamp of a slot that has just begun elsewhere is 0. */
static __always_inline __u32 idle_slots(__u32 now, __u32 stamp)
{
	__u32 idle = (now - (stamp & STAMP_SLOT_MASK)) & STAMP_SLOT_MASK;

	return idle > STAMP_SLOT_MASK / 2 ? 0 : idle;
}

/* ---- state ------------------------------------------------------------------------ */

static __always_inline __u8 meta_seen(__u32 meta)
{
	return meta >> FLOW_META_SEEN_SHIFT;
}

/* What this packet adds to its direction (enum flow_seen). */
static __always_inline __u8 seen_in(const struct packet *packet)
{
	__u8 seen;

	if (!packet->tcp_flags)
		return SEEN_ACK;
	seen = packet->tcp_flags & TCP_SYN ? SEEN_SYN : SEEN_ACK;
	if (packet->tcp_flags & TCP_FIN)
		seen |= SEEN_FIN;
	if (packet->tcp_flags & TCP_RST)
		seen |= SEEN_RST;
	return seen;
}

/* What the other direction's flow has to hold. */
static __always_inline __u8 seen_by_twin(__u8 seen)
{
	return seen >> SEEN_TWIN_SHIFT | seen << SEEN_TWIN_SHIFT;
}

/* FIN in each direction; a RST that is beyond doubt counts as both. */
static __always_inline int seen_closed(__u8 seen)
{
	return seen & seen >> SEEN_TWIN_SHIFT & SEEN_FIN;
}

/* A RST, but the other end may have found that it is none of the connection's and go on. */
static __always_inline int seen_reset(__u8 seen)
{
	return (seen | seen >> SEEN_TWIN_SHIFT) & SEEN_RST;
}

/*
 * What `seen` takes back: of the direction that a FIN goes to its ACK, so that what comes from
 * there next is noted, and tells that the FIN has arrived. Not where both ends are known to be
 * through, and not where its ACK alone tells that this direction was there at all.
 */
static __always_inline __u8 seen_undone(__u32 meta, __u8 seen)
{
	const __u8 fresh = seen & ~meta_seen(meta);
	__u8 undone = 0;

	if (seen_closed(seen))
		return 0;
	if (fresh & SEEN_FIN && meta_seen(meta) & SEEN_SYN << SEEN_TWIN_SHIFT)
		undone |= SEEN_ACK << SEEN_TWIN_SHIFT;
	if (fresh & SEEN_FIN << SEEN_TWIN_SHIFT && meta_seen(meta) & SEEN_SYN)
		undone |= SEEN_ACK;
	return undone & ~seen;
}

/* The meta of a flow of which more was seen. */
static __always_inline __u32 meta_with(__u32 meta, __u8 seen)
{
	return (meta & ~((__u32)seen_undone(meta, seen) << FLOW_META_SEEN_SHIFT)) |
	       (__u32)seen << FLOW_META_SEEN_SHIFT;
}

static __always_inline int has_handshake(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_SCTP;
}

/* The client has confirmed the reply (TCP, SCTP), or there was one (UDP). */
static __always_inline int seen_established(__u8 seen, __u8 flags, __u8 protocol)
{
	__u8 twin = seen >> SEEN_TWIN_SHIFT;
	__u8 forward = flags & FLOW_REPLY ? twin : seen;
	__u8 reply = flags & FLOW_REPLY ? seen : twin;

	if (!(reply & 0xf))
		return 0;
	/* The client's ACK may have been taken back by the endpoint's FIN. */
	return !has_handshake(protocol) || forward & (SEEN_ACK | SEEN_FIN) || reply & SEEN_FIN;
}

/* How far a flow's stamp may lag behind its twin's, which has had packets since: see
 * flow_repair_twin. */
static __always_inline __u32 flow_stamp_lag(__u32 limit)
{
	return limit / 2 + 1;
}

/* A FIN of one direction has not been followed by anything of the other. */
static __always_inline int seen_fin_unanswered(__u8 seen)
{
	const __u8 twin = seen >> SEEN_TWIN_SHIFT;

	return (seen & SEEN_FIN && !(twin & SEEN_ACK)) || (twin & SEEN_FIN && !(seen & SEEN_ACK));
}

static __always_inline __u32 idle_limit_tcp(__u8 seen, __u8 flags)
{
	const __u8 either = seen | seen >> SEEN_TWIN_SHIFT;
	const __u8 forward = flags & FLOW_REPLY ? seen >> SEEN_TWIN_SHIFT : seen;
	const __u8 reply = flags & FLOW_REPLY ? seen : seen >> SEEN_TWIN_SHIFT;

	if (seen_closed(seen) && either & SEEN_RST)
		return config.timeouts.tcp_close;
	if (seen_closed(seen))
		return seen_fin_unanswered(seen) ? config.timeouts.tcp_last_ack :
						   config.timeouts.tcp_time_wait;
	if (either & SEEN_RST)
		return config.timeouts.tcp_unacknowledged;
	if (either & SEEN_FIN)
		return seen_fin_unanswered(seen) ? config.timeouts.tcp_fin_wait :
						   config.timeouts.tcp_close_wait;
	if (seen_established(seen, flags, IPPROTO_TCP))
		return config.timeouts.tcp_established;
	if (reply & 0xf)
		return config.timeouts.tcp_syn_recv;
	return forward & SEEN_SYN ? config.timeouts.tcp_syn_sent :
				    config.timeouts.tcp_unacknowledged;
}

static __always_inline __u32 idle_limit_sctp(__u8 seen, __u8 flags)
{
	const __u8 either = seen | seen >> SEEN_TWIN_SHIFT;

	if (seen_closed(seen))
		return config.timeouts.sctp_closed;
	if (either & SEEN_FIN)
		return config.timeouts.sctp_shutdown;
	if (seen_established(seen, flags, IPPROTO_SCTP))
		return config.timeouts.sctp_established;
	return either & SEEN_SYN ? config.timeouts.sctp_cookie_wait :
				   config.timeouts.sctp_heartbeat_sent;
}

/* Slots that a flow may be idle for. */
static __always_inline __u32 idle_limit(__u8 seen, __u8 flags, __u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return idle_limit_tcp(seen, flags);
	case IPPROTO_SCTP:
		return idle_limit_sctp(seen, flags);
	case IPPROTO_UDP:
		return seen_established(seen, flags, protocol) ? config.timeouts.udp_stream :
								 config.timeouts.udp;
	default:
		return config.timeouts.icmp;
	}
}

/* ---- the table ---------------------------------------------------------------------- */

static __always_inline struct table_place flow_place(const __u64 *key, int family)
{
	return table_place(table_hash(&config.seed, key, FLOW_SHAPE(family)), FLOW_BUCKETS(family));
}

enum flow_class {
	CLASS_ESTABLISHED = 0,
	CLASS_EMBRYONIC,
	CLASS_EXPIRED,
	CLASS_CLOSED,
	RANK_CLASS_SHIFT = STAMP_SLOT_BITS - 1,
};

/* How gladly a full bucket gives an entry up: closed before expired before embryonic, the
 * longest idle first, an established flow never: nor does a RST make it so that may be
 * anybody's. */
static __always_inline __u32 flow_rank(const __u64 *entry, __u32 now, int family)
{
	const struct flow_body *body = family == FAMILY_IPV4 ?
					       &((const struct flow_entry4 *)entry)->flow.body :
					       &((const struct flow_entry6 *)entry)->flow.body;
	__u32 meta = table_load32(table_meta((void *)entry, FLOW_SHAPE(family)));
	__u32 idle = idle_slots(now, body->stamp);
	__u8 seen = meta_seen(meta);
	__u8 protocol = meta & FLOW_META_PROTOCOL;
	__u32 limit = idle_limit(seen, body->flags, protocol);
	enum flow_class class = CLASS_ESTABLISHED;

	if (has_handshake(protocol) && seen_closed(seen))
		class = CLASS_CLOSED;
	else if (idle >= limit + flow_stamp_lag(limit))
		class = CLASS_EXPIRED;
	else if (!seen_established(seen, body->flags, protocol))
		class = CLASS_EMBRYONIC;
	return class ? (__u32)class << RANK_CLASS_SHIFT | idle : 0;
}

static __always_inline enum flow_class rank_class(__u32 rank) { return rank >> RANK_CLASS_SHIFT; }

/*
 * What is rare or large is a function of its own, once for each family. Global and weak: the
 * verifier looks at each once, not at every call, and XDP and tc share one copy.
 */
__weak int flow_scan4(struct flow_bucket4 *bucket, const struct tuple4 *key, __u8 tag)
{
	return bucket && key ? table_scan(bucket, (const __u64 *)key, tag, flow_shape4) :
			       TABLE_SLOTS;
}

__weak int flow_scan6(struct flow_bucket6 *bucket, const struct tuple6 *key, __u8 tag)
{
	return bucket && key ? table_scan(bucket, (const __u64 *)key, tag, flow_shape6) :
			       TABLE_SLOTS;
}

__weak int flow_rank4(const struct flow_entry4 *entry, __u32 now)
{
	return entry ? flow_rank((const __u64 *)entry, now, FAMILY_IPV4) : 0;
}

__weak int flow_rank6(const struct flow_entry6 *entry, __u32 now)
{
	return entry ? flow_rank((const __u64 *)entry, now, FAMILY_IPV6) : 0;
}

static __always_inline __u32 flow_rank4_at(const __u64 *entry, __u32 now)
{
	return flow_rank4((const struct flow_entry4 *)entry, now);
}

static __always_inline __u32 flow_rank6_at(const __u64 *entry, __u32 now)
{
	return flow_rank6((const struct flow_entry6 *)entry, now);
}

__weak int flow_victim4(struct flow_bucket4 *bucket, __u32 now, __u32 whim)
{
	return bucket ? table_victim(bucket, flow_rank4_at, now, whim, flow_shape4) :
			TABLE_NO_VICTIM;
}

__weak int flow_victim6(struct flow_bucket6 *bucket, __u32 now, __u32 whim)
{
	return bucket ? table_victim(bucket, flow_rank6_at, now, whim, flow_shape6) :
			TABLE_NO_VICTIM;
}

static __always_inline __u32 flow_scan4_at(void *bucket, const __u64 *key, __u8 tag)
{
	return flow_scan4(bucket, (const struct tuple4 *)key, tag);
}

static __always_inline __u32 flow_scan6_at(void *bucket, const __u64 *key, __u8 tag)
{
	return flow_scan6(bucket, (const struct tuple6 *)key, tag);
}

static __always_inline __u32 flow_victim4_at(void *bucket, __u32 now, __u32 whim)
{
	return flow_victim4(bucket, now, whim);
}

static __always_inline __u32 flow_victim6_at(void *bucket, __u32 now, __u32 whim)
{
	return flow_victim6(bucket, now, whim);
}

static __always_inline int flow_search_of(const union any_tuple *key, int family)
{
	struct table_place place;

	if (!key)
		return TABLE_NOWHERE;
	place = flow_place(key->words, family);
	return table_search(FLOW_MAP(family), key->words, &place, FLOW_SHAPE(family));
}

__weak int flow_search4(const union any_tuple *key)
{
	return flow_search_of(key, FAMILY_IPV4);
}

__weak int flow_search6(const union any_tuple *key)
{
	return flow_search_of(key, FAMILY_IPV6);
}

static __always_inline table_location flow_search(const union any_tuple *key, int family)
{
	return family == FAMILY_IPV4 ? flow_search4(key) : flow_search6(key);
}

/* The victim of a table_shape that gives nothing up. */
static __always_inline __u32 flow_no_victim(void *bucket, __u32 now, __u32 whim)
{
	return TABLE_NO_VICTIM;
}

static __always_inline int flow_insert_shaped(const union any_tuple *key,
					      const union any_flow *flow, __u8 seen,
					      const struct table_shape shape, int family)
{
	struct table_place place;
	__u32 state;

	if (!key || !flow)
		return TABLE_BUSY;
	place = flow_place(key->words, family);
	state = (__u32)seen << FLOW_META_SEEN_SHIFT | *tuple_protocol((void *)key, family);
	return table_insert(FLOW_MAP(family), key->words, flow->words, state, &place,
			    clock_slot(), &config.seed, FLOW_BUCKETS(family), shape);
}

static __always_inline int flow_insert_of(const union any_tuple *key, const union any_flow *flow,
					  __u8 seen, int family)
{
	return flow_insert_shaped(key, flow, seen, FLOW_SHAPE(family), family);
}

__weak int flow_insert4(const union any_tuple *key, const union any_flow *flow, __u8 seen)
{
	return flow_insert_of(key, flow, seen, FAMILY_IPV4);
}

__weak int flow_insert6(const union any_tuple *key, const union any_flow *flow, __u8 seen)
{
	return flow_insert_of(key, flow, seen, FAMILY_IPV6);
}

/* Into this table alone. */
static __always_inline enum table_result flow_insert_here(const union any_tuple *key,
							  const union any_flow *flow, __u8 seen,
							  int family)
{
	return family == FAMILY_IPV4 ? flow_insert4(key, flow, seen) :
				       flow_insert6(key, flow, seen);
}

/* ---- the table before --------------------------------------------------------------------
 *
 * Where the table has got another size, hooks change from programs with the old table to these
 * one after the other, and a connection meets both on its way. Until no hook uses the old table
 * any more, which is when the agent takes it out of its map, these programs keep to it as well:
 * what is not in the new one is taken up from there, what is made or removed is so in both. So
 * whichever hook sees a connection first, the others know its flows and nobody takes its source
 * port. All of that is where no flow was found, and nothing where no table is replaced.
 */

static __always_inline void *retired_map(int family)
{
	__u32 zero = 0;

	return family == FAMILY_IPV4 ? bpf_map_lookup_elem(&retired_flows4, &zero) :
				       bpf_map_lookup_elem(&retired_flows6, &zero);
}

/* Its map, and where the key would be in it. NULL: there is none. */
static __always_inline void *retired_table(const union any_tuple *key, struct table_place *place,
					   int family)
{
	void *map;

	if (!key || !RETIRED_BUCKETS(family))
		return NULL;
	map = retired_map(family);
	if (map)
		*place = table_place(table_hash(&config.seed, key->words, FLOW_SHAPE(family)),
				     RETIRED_BUCKETS(family));
	return map;
}

static __always_inline int retired_find_of(const union any_tuple *key, struct flow *flow, int family)
{
	struct table_place place;
	void *entry;
	void *map;

	map = retired_table(key, &place, family);
	if (!map || !flow)
		return TABLE_ABSENT;
	entry = table_at(map, table_search(map, key->words, &place, FLOW_SHAPE(family)),
			 FLOW_SHAPE(family));
	return entry ? table_copy(entry, key->words, &flow->meta, flow->answer.words,
				  FLOW_SHAPE(family)) :
		       TABLE_ABSENT;
}

__weak int retired_find4(const union any_tuple *key, struct flow *flow)
{
	return retired_find_of(key, flow, FAMILY_IPV4);
}

__weak int retired_find6(const union any_tuple *key, struct flow *flow)
{
	return retired_find_of(key, flow, FAMILY_IPV6);
}

static __always_inline enum table_result retired_find(const union any_tuple *key, struct flow *flow,
						      int family)
{
	return family == FAMILY_IPV4 ? retired_find4(key, flow) : retired_find6(key, flow);
}

static __always_inline int retired_has_of(const union any_tuple *key, int family)
{
	struct table_place place;
	void *map;

	map = retired_table(key, &place, family);
	if (!map)
		return 0;
	return table_search(map, key->words, &place, FLOW_SHAPE(family)) != TABLE_NOWHERE;
}

__weak int retired_has4(const union any_tuple *key)
{
	return retired_has_of(key, FAMILY_IPV4);
}

__weak int retired_has6(const union any_tuple *key)
{
	return retired_has_of(key, FAMILY_IPV6);
}

/* Room is made by a function of its own, retired_make_room: the stack is short. */
static __always_inline int retired_insert_of(const union any_tuple *key, const union any_flow *flow,
					     __u8 seen, int family)
{
	struct table_shape shape = FLOW_SHAPE(family);
	struct table_place place;
	__u32 state;
	void *map;

	map = retired_table(key, &place, family);
	if (!map || !flow)
		return TABLE_ABSENT;
	shape.victim = flow_no_victim;
	state = (__u32)seen << FLOW_META_SEEN_SHIFT | *tuple_protocol((void *)key, family);
	return table_insert(map, key->words, flow->words, state, &place, clock_slot(), &config.seed,
			    RETIRED_BUCKETS(family), shape);
}

__weak int retired_insert4(const union any_tuple *key, const union any_flow *flow, __u8 seen)
{
	return retired_insert_of(key, flow, seen, FAMILY_IPV4);
}

__weak int retired_insert6(const union any_tuple *key, const union any_flow *flow, __u8 seen)
{
	return retired_insert_of(key, flow, seen, FAMILY_IPV6);
}

static __always_inline int retired_make_room_in(void *map, const __u32 *index, __u32 whim,
						int family)
{
	void *bucket = table_bucket(map, index);
	__u32 victim;

	if (!bucket || !table_lock(table_header(bucket)))
		return 0;
	victim = FLOW_SHAPE(family).victim(bucket, clock_slot(), whim);
	if (victim != TABLE_NO_VICTIM && table_slot(victim) < TABLE_SLOTS)
		table_evict(map, bucket, table_slot(victim), NULL, &config.seed,
			    RETIRED_BUCKETS(family), FLOW_SHAPE(family));
	table_unlock(table_header(bucket));
	return victim != TABLE_NO_VICTIM;
}

/* Gives up one flow of the old table that stands in the key's way. 0: none is to be given up. */
static __always_inline int retired_make_room_of(const union any_tuple *key, int family)
{
	struct table_place place;
	void *map;

	map = retired_table(key, &place, family);
	if (!map)
		return 0;
	return retired_make_room_in(map, &place.first, place.home, family) ||
	       retired_make_room_in(map, &place.second, place.home, family);
}

__weak int retired_make_room4(const union any_tuple *key)
{
	return retired_make_room_of(key, FAMILY_IPV4);
}

__weak int retired_make_room6(const union any_tuple *key)
{
	return retired_make_room_of(key, FAMILY_IPV6);
}

static __always_inline enum table_result retired_insert_once(const union any_tuple *key,
							     const union any_flow *flow, __u8 seen,
							     int family)
{
	return family == FAMILY_IPV4 ? retired_insert4(key, flow, seen) :
				       retired_insert6(key, flow, seen);
}

static __always_inline enum table_result retired_insert(const union any_tuple *key,
							const union any_flow *flow, __u8 seen,
							int family)
{
	enum table_result result = retired_insert_once(key, flow, seen, family);

	if (result != TABLE_FULL)
		return result;
	if (!(family == FAMILY_IPV4 ? retired_make_room4(key) : retired_make_room6(key)))
		return TABLE_FULL;
	return retired_insert_once(key, flow, seen, family);
}

static __always_inline int retired_remove_of(const union any_tuple *key, int family)
{
	struct table_place place;
	void *map;

	map = retired_table(key, &place, family);
	if (!map)
		return TABLE_ABSENT;
	return table_remove(map, key->words, &place, &config.seed, RETIRED_BUCKETS(family),
			    FLOW_SHAPE(family));
}

__weak int retired_remove4(const union any_tuple *key)
{
	return retired_remove_of(key, FAMILY_IPV4);
}

__weak int retired_remove6(const union any_tuple *key)
{
	return retired_remove_of(key, FAMILY_IPV6);
}

static __always_inline void retired_remove(const union any_tuple *key, int family)
{
	if (!RETIRED_BUCKETS(family))
		return;
	if (family == FAMILY_IPV4)
		retired_remove4(key);
	else
		retired_remove6(key);
}

static __always_inline void flow_twin_key(union any_tuple *twin, const void *key,
					  union any_flow *flow, int family);

/* What is not in this table, from the one before: *flow is then as flow_find gives it. Both
 * directions, since what is seen of one is noted in the other. */
static __always_inline int retired_take_up_of(const union any_tuple *key, struct flow *flow,
					      int family)
{
	union any_tuple twin;
	void *entry;

	if (!key || !flow || retired_find(key, flow, family) != TABLE_DONE)
		return TABLE_ABSENT;
	flow_twin_key(&twin, key, &flow->answer, family);
	if (retired_find(&twin, flow, family) == TABLE_DONE)
		flow_insert_here(&twin, &flow->answer, meta_seen(flow->meta), family);
	if (retired_find(key, flow, family) != TABLE_DONE)
		return TABLE_ABSENT;
	flow_insert_here(key, &flow->answer, meta_seen(flow->meta), family);
	flow->location = flow_search(key, family);
	entry = table_at(FLOW_MAP(family), flow->location, FLOW_SHAPE(family));
	if (!entry) /* no room: for this packet it will do */
		return TABLE_DONE;
	return table_copy(entry, key->words, &flow->meta, flow->answer.words, FLOW_SHAPE(family));
}

__weak int retired_take_up4(const union any_tuple *key, struct flow *flow)
{
	return RETIRED_BUCKETS(FAMILY_IPV4) ? retired_take_up_of(key, flow, FAMILY_IPV4) :
					      TABLE_ABSENT;
}

__weak int retired_take_up6(const union any_tuple *key, struct flow *flow)
{
	return RETIRED_BUCKETS(FAMILY_IPV6) ? retired_take_up_of(key, flow, FAMILY_IPV6) :
					      TABLE_ABSENT;
}

static __always_inline enum table_result retired_take_up(const union any_tuple *key,
							 struct flow *flow, int family)
{
	if (!RETIRED_BUCKETS(family))
		return TABLE_ABSENT;
	return family == FAMILY_IPV4 ? retired_take_up4(key, flow) : retired_take_up6(key, flow);
}

/* ---- finding, making, removing ------------------------------------------------------------- */

static __always_inline int flow_is_there(const union any_tuple *key, int family)
{
	if (flow_search(key, family) != TABLE_NOWHERE)
		return 1;
	if (!RETIRED_BUCKETS(family))
		return 0;
	return family == FAMILY_IPV4 ? retired_has4(key) : retired_has6(key);
}

/* TABLE_NOWHERE, or the location of the key if it is in this slot of its first bucket. */
static __always_inline table_location flow_at_home(const union any_tuple *key,
						   const struct table_place *place, __u32 slot,
						   int family)
{
	table_location location = table_locate(place->first, slot);
	void *entry = table_at(FLOW_MAP(family), location, FLOW_SHAPE(family));
	__u32 meta;

	return entry && table_matches(entry, key->words, &meta, FLOW_SHAPE(family)) ? location :
										    TABLE_NOWHERE;
}

static __always_inline enum table_result flow_find_elsewhere_of(const union any_tuple *key,
								struct flow *flow, int family)
{
	struct table_place place;
	void *entry;

	if (!key || !flow)
		return TABLE_BUSY;
	place = flow_place(key->words, family);
	flow->location = flow_at_home(key, &place, place.home, family);
	if (flow->location == TABLE_NOWHERE)
		flow->location = flow_at_home(key, &place, table_next_to(place.home), family);
	if (flow->location == TABLE_NOWHERE)
		flow->location = table_search(FLOW_MAP(family), key->words, &place,
					      FLOW_SHAPE(family));
	entry = table_at(FLOW_MAP(family), flow->location, FLOW_SHAPE(family));
	if (!entry)
		return TABLE_ABSENT;
	return table_copy(entry, key->words, &flow->meta, flow->answer.words, FLOW_SHAPE(family));
}

__weak int flow_find_elsewhere4(const union any_tuple *key, struct flow *flow)
{
	return flow_find_elsewhere_of(key, flow, FAMILY_IPV4);
}

__weak int flow_find_elsewhere6(const union any_tuple *key, struct flow *flow)
{
	return flow_find_elsewhere_of(key, flow, FAMILY_IPV6);
}

/* In this table alone. */
static __always_inline enum table_result flow_find_here(const union any_tuple *key,
							struct flow *flow, int family)
{
	return family == FAMILY_IPV4 ? flow_find_elsewhere4(key, flow) :
				       flow_find_elsewhere6(key, flow);
}

/* TABLE_DONE: *flow is the flow of `key`. TABLE_ABSENT, or TABLE_BUSY. Looks everywhere. */
static __always_inline enum table_result flow_find_elsewhere(const union any_tuple *key,
							     struct flow *flow, int family)
{
	enum table_result result = flow_find_here(key, flow, family);

	return result == TABLE_ABSENT && RETIRED_BUCKETS(family) ?
		       retired_take_up(key, flow, family) :
		       result;
}

/* In its home slot, which is one line. */
static __always_inline enum table_result flow_find_home(const union any_tuple *key,
							struct flow *flow,
							int family)
{
	const struct table_shape shape = FLOW_SHAPE(family);
	__u64 hash = table_hash(&config.seed, key->words, shape);
	__u32 index = table_first(hash, FLOW_BUCKETS(family));
	__u32 home = table_home(hash);
	void *bucket = table_bucket(FLOW_MAP(family), &index);
	enum table_result result = TABLE_ABSENT;

	if (bucket && home < TABLE_SLOTS) {
		flow->location = table_locate(index, home);
		result = table_copy_once(table_entry(bucket, home, shape), key->words, &flow->meta,
					 flow->answer.words, shape);
	}
	return result;
}

/* The same as flow_find_elsewhere where every nanosecond counts: the home slot comes first, then
 * the one next to it. Most flows are there. */
static __always_inline enum table_result flow_find(const union any_tuple *key, struct flow *flow,
						   int family)
{
	enum table_result result = flow_find_home(key, flow, family);

	return result == TABLE_DONE ? result : flow_find_elsewhere(key, flow, family);
}

/* The same in passing: one of the table before stays there, and has no location here. */
static __always_inline enum table_result flow_peek(const union any_tuple *key, struct flow *flow,
						   int family)
{
	enum table_result result = flow_find_home(key, flow, family);

	if (result != TABLE_DONE)
		result = flow_find_here(key, flow, family);
	if (result != TABLE_ABSENT || !RETIRED_BUCKETS(family))
		return result;
	flow->location = TABLE_NOWHERE;
	return retired_find(key, flow, family);
}

/* Has the lines brought in that an insert of the key is going to need, and waits for none. */
static __always_inline void flow_fetch(const struct table_place *place, int family)
{
	void *bucket = table_bucket(FLOW_MAP(family), &place->first);

	if (!bucket)
		return;
	table_fetch(table_header(bucket));
	table_fetch_slot(bucket, place->home, FLOW_SHAPE(family));
}

/* True: nothing has the key, as the header of its first bucket tells alone. False says nothing. */
static __always_inline int flow_is_nowhere(const struct table_place *place, int family)
{
	struct table_header *header = table_bucket(FLOW_MAP(family), &place->first);

	return header && !table_has_tag(header, place->tag) && !table_load32(&header->overflow) &&
	       !RETIRED_BUCKETS(family);
}

/* TABLE_DONE: it is in. TABLE_MADE_ROOM: it is, and another flow, which may be any, was given up
 * for it. TABLE_PRESENT: another has the key. TABLE_FULL: no room, nothing to give up.
 * TABLE_BUSY. */
static __always_inline enum table_result flow_insert_telling(const union any_tuple *key,
							     const union any_flow *flow,
							     __u8 seen, int family)
{
	enum table_result before = TABLE_ABSENT;
	enum table_result result;

	if (RETIRED_BUCKETS(family))
		before = retired_insert(key, flow, seen, family);
	/* A hook that still uses the old table would take its packets for a stranger's. */
	if (before == TABLE_PRESENT || before == TABLE_FULL || before == TABLE_BUSY)
		return before;
	result = flow_insert_here(key, flow, seen, family);
	if (before != TABLE_ABSENT && result != TABLE_DONE && result != TABLE_MADE_ROOM)
		retired_remove(key, family);
	return result;
}

/* The same where what was given up is no matter. */
static __always_inline enum table_result flow_insert(const union any_tuple *key,
						     const union any_flow *flow, __u8 seen,
						     int family)
{
	enum table_result result = flow_insert_telling(key, flow, seen, family);

	return result == TABLE_MADE_ROOM ? TABLE_DONE : result;
}

static __always_inline int flow_remove_of(const union any_tuple *key, int family)
{
	struct table_place place;

	if (!key)
		return TABLE_ABSENT;
	retired_remove(key, family);
	place = flow_place(key->words, family);
	return table_remove(FLOW_MAP(family), key->words, &place, &config.seed,
			    FLOW_BUCKETS(family), FLOW_SHAPE(family));
}

static __always_inline enum remove_result remove_result_of(int table_result)
{
	return table_result == TABLE_DONE   ? REMOVE_DONE :
	       table_result == TABLE_ABSENT ? REMOVE_ABSENT :
					      REMOVE_BUSY;
}

__weak int flow_remove4(const union any_tuple *key)
{
	return flow_remove_of(key, FAMILY_IPV4);
}

__weak int flow_remove6(const union any_tuple *key)
{
	return flow_remove_of(key, FAMILY_IPV6);
}

static __always_inline enum table_result flow_remove(const union any_tuple *key, int family)
{
	return family == FAMILY_IPV4 ? flow_remove4(key) : flow_remove6(key);
}

/* ---- pairs --------------------------------------------------------------------------- */

/* The key of the other direction: the translated tuple with its ends exchanged. */
static __always_inline void flow_twin_key(union any_tuple *twin, const void *key,
					  union any_flow *flow, int family)
{
	__builtin_memset(twin, 0, sizeof(*twin));
	addr_copy(tuple_src(twin, family), flow_dst(flow, family), family);
	addr_copy(tuple_dst(twin, family), flow_src(flow, family), family);
	*tuple_src_port(twin, family) = *flow_dst_port(flow, family);
	*tuple_dst_port(twin, family) = *flow_src_port(flow, family);
	*tuple_protocol(twin, family) = *tuple_protocol((void *)key, family);
}

/* The same in the place of the answer itself, which is no more: the stack is short. */
static __always_inline union any_tuple *flow_answer_to_twin_key(const void *key,
								union any_flow *flow, int family)
{
	union any_tuple *twin = (union any_tuple *)flow;
	__u32 ports = flow_ports(flow, family);

	if (family == FAMILY_IPV4) {
		flow->words[0] = flow->words[0] << 32 | flow->words[0] >> 32;
	} else {
		for (int i = 0; i < 2; i++) {
			__u64 word = flow->words[i];

			flow->words[i] = flow->words[2 + i];
			flow->words[2 + i] = word;
		}
	}
	tuple_set_tail(twin, ports << 16 | ports >> 16, *tuple_protocol((void *)key, family),
		       family);
	return twin;
}

/*
 * Whether the entry is the other direction of `of`: it leads back where that comes from. The
 * key alone does not tell. Where one direction was lost, its tuple may be another connection's.
 * `words`: the translated tuple, in an entry or in a copy.
 */
static __always_inline int flow_is_twin(const __u64 *words, const union any_tuple *of, int family)
{
	const __u32 addresses = ADDR_WORDS(family) == 1 ? 1 : 4;
	const __u64 *key = of->words;
	__u32 ports = key[addresses];
	__u64 difference;

	if (family == FAMILY_IPV4)
		difference = table_load64(&words[0]) ^ (key[0] << 32 | key[0] >> 32);
	else
		difference = (table_load64(&words[0]) ^ key[2]) |
			     (table_load64(&words[1]) ^ key[3]) |
			     (table_load64(&words[2]) ^ key[0]) |
			     (table_load64(&words[3]) ^ key[1]);
	return !difference && (__u32)table_load64(&words[addresses]) == (ports << 16 | ports >> 16);
}

__weak int flow_remove_found4(const union any_tuple *key, table_location location, __u32 meta)
{
	return key ? table_remove_found(&flows4, key->words, location, meta, &config.seed,
					config.flow_buckets4, flow_shape4) :
		     TABLE_ABSENT;
}

__weak int flow_remove_found6(const union any_tuple *key, table_location location, __u32 meta)
{
	return key ? table_remove_found(&flows6, key->words, location, meta, &config.seed,
					config.flow_buckets6, flow_shape6) :
		     TABLE_ABSENT;
}

/* Removes what was found, unless it has been changed or replaced meanwhile. */
static __always_inline enum table_result flow_remove_found(const union any_tuple *key,
							   table_location location, __u32 meta,
							   int family)
{
	enum table_result result = family == FAMILY_IPV4 ?
					   flow_remove_found4(key, location, meta) :
					   flow_remove_found6(key, location, meta);

	if (result == TABLE_DONE)
		retired_remove(key, family);
	return result;
}

static __always_inline int flow_remove_twin_of(const union any_tuple *twin,
					       const union any_tuple *key, int family)
{
	const struct table_shape shape = FLOW_SHAPE(family);
	enum table_result result = TABLE_ABSENT;
	table_location location;
	__u64 *entry;
	void *bucket;
	__u32 index;
	__u32 slot;
	__u32 meta;

	if (!twin || !key)
		return TABLE_ABSENT;
	location = flow_search(twin, family);
	index = location >> TABLE_SLOT_BITS;
	slot = table_slot(location);
	if (location < 0 || slot >= TABLE_SLOTS)
		return TABLE_ABSENT;
	bucket = table_bucket(FLOW_MAP(family), &index);
	if (!bucket || !table_lock(bucket))
		return TABLE_ABSENT;
	entry = table_entry(bucket, slot, shape);
	if (table_matches(entry, twin->words, &meta, shape) &&
	    flow_is_twin(entry + shape.key_words, key, family)) {
		table_evict(FLOW_MAP(family), bucket, slot, NULL, &config.seed,
			    FLOW_BUCKETS(family), shape);
		result = TABLE_DONE;
	}
	table_unlock(bucket);
	return result;
}

__weak int flow_remove_twin4(const union any_tuple *twin, const union any_tuple *key)
{
	return flow_remove_twin_of(twin, key, FAMILY_IPV4);
}

__weak int flow_remove_twin6(const union any_tuple *twin, const union any_tuple *key)
{
	return flow_remove_twin_of(twin, key, FAMILY_IPV6);
}

/* Removes the flow of `twin` if it is the other direction of `key`. */
static __always_inline void flow_remove_twin(const union any_tuple *twin,
					     const union any_tuple *key, int family)
{
	enum table_result result = family == FAMILY_IPV4 ? flow_remove_twin4(twin, key) :
							   flow_remove_twin6(twin, key);

	if (result == TABLE_DONE)
		retired_remove(twin, family);
}

/*
 * Removes both directions of what was found, whose copy is used up; nothing, if another CPU was
 * faster: a flow that was made meanwhile is not the one that the caller wants to be rid of. Two
 * CPUs that find the same closed flow must not both come to own its tuple.
 */
static __always_inline void flow_remove_pair(const union any_tuple *key, struct flow *flow,
					     int family)
{
	if (flow_remove_found(key, flow->location, flow->meta, family) == TABLE_DONE)
		flow_remove_twin(flow_answer_to_twin_key(key, &flow->answer, family), key, family);
}

/* What the translation adds to checksums: new words less old ones. */
static __always_inline void flow_set_checksums(union any_flow *flow, void *tuple, int family)
{
	struct flow_body *body = flow_body(flow, family);
	__u64 sum;

	sum = checksum_replace_words(0, tuple_src(tuple, family), flow_src(flow, family),
				     ADDR_WORDS(family));
	sum = checksum_replace_words(sum, tuple_dst(tuple, family), flow_dst(flow, family),
				     ADDR_WORDS(family));
	body->addr_csum = checksum_fold(sum);
	body->port_csum = checksum_fold((__u64)(__u16)~*tuple_src_port(tuple, family) +
					(__u16)~*tuple_dst_port(tuple, family) +
					*flow_src_port(flow, family) + *flow_dst_port(flow, family));
}

/* The other direction of `flow`, made from it: its key is flow_twin_key's. */
static __always_inline void flow_make_twin(union any_flow *made, union any_tuple *twin_key,
					   const void *key, union any_flow *flow, int family)
{
	const struct flow_body *body = flow_body(flow, family);
	struct flow_body *twin = flow_body(made, family);

	__builtin_memset(made, 0, sizeof(*made));
	addr_copy(flow_src(made, family), tuple_dst((void *)key, family), family);
	addr_copy(flow_dst(made, family), tuple_src((void *)key, family), family);
	*flow_src_port(made, family) = *tuple_dst_port((void *)key, family);
	*flow_dst_port(made, family) = *tuple_src_port((void *)key, family);
	flow_set_checksums(made, twin_key, family);
	twin->backend_id = body->backend_id;
	twin->service_id = body->service_id;
	twin->stamp = clock_slot();
	twin->flags = body->flags ^ FLOW_REPLY;
}

/* ---- changes ---------------------------------------------------------------------------- */

/*
 * Adds bits to what was seen of the flow of `key`; with `twin_of`, only if it is that flow's
 * other direction. Another CPU may be changing the entry, or giving its slot to another flow:
 * a bit goes in only while the meta is what it was beside the right key and answer. 0: it
 * could not be done.
 */
static __always_inline int flow_add_seen(const union any_tuple *key, __u8 seen,
					 const union any_tuple *twin_of, int family)
{
	const struct table_shape shape = FLOW_SHAPE(family);
	const __u32 bits = (__u32)seen << FLOW_META_SEEN_SHIFT;
	table_location location = flow_search(key, family);
	__u64 *entry = table_at(FLOW_MAP(family), location, shape);

	for (int tries = 0; entry && tries < 4; tries++) {
		const __u64 *answer = entry + shape.key_words;
		__u32 meta;

		if (!table_matches(entry, key->words, &meta, shape) || (meta & bits) == bits)
			return 1;
		table_after(answer, meta);
		if (twin_of && !flow_is_twin(answer, twin_of, family))
			return 1;
		if (table_swap32(table_meta(entry, shape), meta, meta_with(meta, seen)) == meta)
			return 1;
	}
	return !entry;
}

/* The twin first: as long as it has not got the bits, the flow itself goes without them, and
 * the next packet tries again. */
static __always_inline int flow_note_seen_of(const union any_tuple *key, union any_flow *flow,
					     __u8 seen, int family)
{
	union any_tuple twin;

	if (!key || !flow)
		return 0;
	flow_twin_key(&twin, key, flow, family);
	if (flow_add_seen(&twin, seen_by_twin(seen), key, family))
		flow_add_seen(key, seen, NULL, family);
	return 0;
}

__weak int flow_note_seen4(const union any_tuple *key, union any_flow *flow, __u8 seen)
{
	return flow_note_seen_of(key, flow, seen, FAMILY_IPV4);
}

__weak int flow_note_seen6(const union any_tuple *key, union any_flow *flow, __u8 seen)
{
	return flow_note_seen_of(key, flow, seen, FAMILY_IPV6);
}

/* Notes in both directions what a packet shows of the connection's state (`seen`: its own
 * direction's bits, and the other's above them), so that each entry alone tells what becomes
 * of it: a few times in a connection's life. */
static __always_inline void flow_note_seen(const union any_tuple *key, struct flow *flow,
					   __u8 seen, int family)
{
	if ((meta_seen(flow->meta) & seen) == seen)
		return;
	if (family == FAMILY_IPV4)
		flow_note_seen4(key, &flow->answer, seen);
	else
		flow_note_seen6(key, &flow->answer, seen);
	/* In the copy too: a lost twin is made again from it. */
	flow->meta = meta_with(flow->meta, seen);
}

/* Takes RSTs back, in the flow of `key`; with `twin_of`, only if it is that flow's other
 * direction. */
static __always_inline void flow_take_back(const union any_tuple *key,
					   const union any_tuple *twin_of, int family)
{
	const __u32 bits = (__u32)(SEEN_RST | SEEN_RST << SEEN_TWIN_SHIFT) << FLOW_META_SEEN_SHIFT;
	const struct table_shape shape = FLOW_SHAPE(family);
	__u64 *entry = table_at(FLOW_MAP(family), flow_search(key, family), shape);

	for (int tries = 0; entry && tries < 4; tries++) {
		const __u64 *answer = entry + shape.key_words;
		__u32 meta;

		if (!table_matches(entry, key->words, &meta, shape) || !(meta & bits))
			return;
		table_after(answer, meta);
		if (twin_of && !flow_is_twin(answer, twin_of, family))
			return;
		if (table_swap32(table_meta(entry, shape), meta, meta & ~bits) == meta)
			return;
	}
}

static __always_inline int flow_revive_of(const union any_tuple *key, struct flow *flow, int family)
{
	union any_tuple twin;

	if (!key || !flow)
		return 0;
	flow_twin_key(&twin, key, &flow->answer, family);
	flow_take_back(&twin, key, family);
	flow_take_back(key, NULL, family);
	return 0;
}

__weak int flow_revive4(const union any_tuple *key, struct flow *flow)
{
	return flow_revive_of(key, flow, FAMILY_IPV4);
}

__weak int flow_revive6(const union any_tuple *key, struct flow *flow)
{
	return flow_revive_of(key, flow, FAMILY_IPV6);
}

/* The connection goes on after a RST: it was none. */
static __always_inline void flow_revive(const union any_tuple *key, struct flow *flow, int family)
{
	if (family == FAMILY_IPV4)
		flow_revive4(key, flow);
	else
		flow_revive6(key, flow);
	flow->meta &= ~((__u32)(SEEN_RST | SEEN_RST << SEEN_TWIN_SHIFT) << FLOW_META_SEEN_SHIFT);
}

/* The words of a flow from its stamp on: stamp, next hop, flags and MTU. */
enum { FLOW_HOP_WORDS = 3 };
#define FLOW_HOP_WORD(family)                                                                      \
	(((family) == FAMILY_IPV4 ? __builtin_offsetof(struct flow4, body.stamp) :                 \
				    __builtin_offsetof(struct flow6, body.stamp)) /                \
	 8)

static __always_inline int flow_store_hop_of(const union any_tuple *key, const struct flow *flow,
					     int family)
{
	const struct table_shape shape = FLOW_SHAPE(family);
	const __u32 first = FLOW_HOP_WORD(family);
	struct table_header *header;
	__u64 *entry;
	__u32 index;

	if (!key || !flow)
		return 0;
	index = flow->location >> TABLE_SLOT_BITS;
	entry = table_at(FLOW_MAP(family), flow->location, shape);
	header = table_bucket(FLOW_MAP(family), &index);
	if (!entry || !header || !table_lock(header))
		return 0;
	if (table_still(entry, key->words, flow->meta, shape)) {
		table_begin_change(entry, shape);
		for (int i = 0; i < FLOW_HOP_WORDS; i++)
			table_store64(&entry[shape.key_words + first + i],
				      flow->answer.words[first + i]);
		table_end_change(entry, shape);
	}
	table_unlock(header);
	return 0;
}

__weak int flow_store_hop4(const union any_tuple *key, const struct flow *flow)
{
	return flow_store_hop_of(key, flow, FAMILY_IPV4);
}

__weak int flow_store_hop6(const union any_tuple *key, const struct flow *flow)
{
	return flow_store_hop_of(key, flow, FAMILY_IPV6);
}

/* Writes the copy's stamp, next hop and MTU back, if the lock can be had and the flow is
 * still the one that was copied; else the next packet will. */
static __always_inline void flow_store_hop(const union any_tuple *key, struct flow *flow,
					   int family)
{
	if (family == FAMILY_IPV4)
		flow_store_hop4(key, flow);
	else
		flow_store_hop6(key, flow);
}

/* A stamp alone: that the connection lives shows in the other direction. */
static __always_inline void flow_touch(const union any_tuple *key, struct flow *flow, int family)
{
	const __u32 limit = idle_limit(meta_seen(flow->meta), flow_body(&flow->answer, family)->flags,
				       flow->meta & FLOW_META_PROTOCOL);
	__u32 now = clock_slot();

	if (idle_slots(now, flow_body(&flow->answer, family)->stamp) < flow_stamp_lag(limit))
		return;
	flow_body(&flow->answer, family)->stamp = now;
	flow_store_hop(key, flow, family);
}

#endif
