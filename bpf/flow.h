/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows: find, insert unless present, remove, and what their fields mean. This header
 * alone knows what kind of table flows live in. A flow is a struct flow4 or flow6 by the
 * constant `family`; pointers to it come from flow_find.
 */
#ifndef MAGLANE_FLOW_H
#define MAGLANE_FLOW_H

#include "bpf/maps.h"
#include "bpf/packet.h"

enum flow_inserted {
	FLOW_INSERTED = 0,
	FLOW_PRESENT,
	FLOW_NO_ROOM,
};

struct flow_address {
	__be32 src_be[4];
	__be32 dst_be[4];
};

static __always_inline struct flow_body *flow_body(void *flow, int family)
{
	return family == FAMILY_IPV4 ? &((struct flow4 *)flow)->body :
				       &((struct flow6 *)flow)->body;
}

static __always_inline __be32 *flow_src(void *flow, int family)
{
	return family == FAMILY_IPV4 ? &((struct flow4 *)flow)->src_be :
				       ((struct flow6 *)flow)->src_be;
}

static __always_inline __be32 *flow_dst(void *flow, int family)
{
	return family == FAMILY_IPV4 ? &((struct flow4 *)flow)->dst_be :
				       ((struct flow6 *)flow)->dst_be;
}

static __always_inline __be16 *flow_src_port(void *flow, int family)
{
	return family == FAMILY_IPV4 ? &((struct flow4 *)flow)->src_port_be :
				       &((struct flow6 *)flow)->src_port_be;
}

static __always_inline __be16 *flow_dst_port(void *flow, int family)
{
	return family == FAMILY_IPV4 ? &((struct flow4 *)flow)->dst_port_be :
				       &((struct flow6 *)flow)->dst_port_be;
}

/* ---- the table ------------------------------------------------------------- */

static __always_inline void *flow_find(const void *tuple, int family)
{
	return family == FAMILY_IPV4 ? bpf_map_lookup_elem(&flows4, tuple) :
				       bpf_map_lookup_elem(&flows6, tuple);
}

static __always_inline enum flow_inserted flow_insert(const void *tuple, const void *flow,
						      int family)
{
	long error = family == FAMILY_IPV4 ?
			     bpf_map_update_elem(&flows4, tuple, flow, BPF_NOEXIST) :
			     bpf_map_update_elem(&flows6, tuple, flow, BPF_NOEXIST);

	if (!error)
		return FLOW_INSERTED;
	return error == -EEXIST ? FLOW_PRESENT : FLOW_NO_ROOM;
}

static __always_inline void flow_delete(const void *tuple, int family)
{
	if (family == FAMILY_IPV4)
		bpf_map_delete_elem(&flows4, tuple);
	else
		bpf_map_delete_elem(&flows6, tuple);
}

/* ---- pairs --------------------------------------------------------------------- */

/* The key of the other direction: the translated tuple with its ends exchanged. */
static __always_inline void flow_twin_key(void *twin, const void *tuple, void *flow, int family)
{
	__builtin_memset(twin, 0, family == FAMILY_IPV4 ? sizeof(struct tuple4) :
							  sizeof(struct tuple6));
	addr_copy(tuple_src(twin, family), flow_dst(flow, family), family);
	addr_copy(tuple_dst(twin, family), flow_src(flow, family), family);
	*tuple_src_port(twin, family) = *flow_dst_port(flow, family);
	*tuple_dst_port(twin, family) = *flow_src_port(flow, family);
	*tuple_protocol(twin, family) = *tuple_protocol((void *)tuple, family);
}

/* Both directions are needed to tell: FIN in each, or RST in either. */
static __always_inline int seen_closed(__u8 seen, __u8 twin_seen)
{
	return ((seen | twin_seen) & SEEN_RST) || (seen & twin_seen & SEEN_FIN);
}

static __always_inline int flow_closed(const void *tuple, void *flow, int family)
{
	union {
		struct tuple4 t4;
		struct tuple6 t6;
	} key;
	__u8 seen = flow_body(flow, family)->seen;
	void *twin;

	if (!(seen & (SEEN_FIN | SEEN_RST)) && !(flow_body(flow, family)->flags & FLOW_REPLY))
		return 0;
	flow_twin_key(&key, tuple, flow, family);
	twin = flow_find(&key, family);
	return seen_closed(seen, twin ? flow_body(twin, family)->seen : 0);
}

/* Removes both directions. `flow` is not to be used afterwards. */
static __always_inline void flow_remove(const void *tuple, void *flow, int family)
{
	union {
		struct tuple4 t4;
		struct tuple6 t6;
	} key;

	flow_twin_key(&key, tuple, flow, family);
	flow_delete(&key, family);
	flow_delete(tuple, family);
}

/* ---- time and state ------------------------------------------------------------- */

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

static __always_inline __u8 seen_in(const struct packet *packet, __u8 protocol)
{
	__u8 seen;

	if (protocol != IPPROTO_TCP)
		return SEEN_ACK;
	seen = packet->tcp_flags & TCP_SYN ? SEEN_SYN : SEEN_ACK;
	if (packet->tcp_flags & TCP_FIN)
		seen |= SEEN_FIN;
	if (packet->tcp_flags & TCP_RST)
		seen |= SEEN_RST;
	return seen;
}

/* Adds bits to body->seen, which another CPU may be doing too: an atomic or on the word
 * that holds flags, seen and mtu (both supported machines are little-endian). */
static __always_inline void flow_note_seen(struct flow_body *body, __u8 seen)
{
	if ((body->seen & seen) != seen)
		__sync_fetch_and_or((__u32 *)&body->flags, (__u32)seen << 8);
}

#endif
