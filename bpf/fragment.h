/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments (RFC 791 section 3.2, RFC 8200 section 4.5). Only the first one of a datagram has
 * its ports; when it has been forwarded they are remembered by the datagram's identification,
 * for a few seconds, and the later ones follow. What comes before its first one is not known
 * to be anybody's: to a service address it is dropped, elsewhere it is the stack's.
 */
#ifndef MAGLANE_FRAGMENT_H
#define MAGLANE_FRAGMENT_H

#include "bpf/flow.h"
#include "bpf/parse.h"
#include "bpf/scratch.h"

enum {
	IP_OFFSET_BITS = 0x1fff,
	IPV6_OFFSET_BITS = 0xfff8,
	IPV6_MORE_FRAGMENTS = 1,
};

/* What the headers say of a fragment. */
struct piece {
	__be32 id_be;
	__u8 is_first;
	__u8 is_last;
};

static __always_inline void fragment_key_fill(struct fragment_key *key, struct packet *packet,
					      __be32 id_be, int family)
{
	addr_widen(key->src_be, tuple_src(&packet->tuple, family), family);
	addr_widen(key->dst_be, tuple_dst(&packet->tuple, family), family);
	key->id_be = id_be;
	key->protocol = family == FAMILY_IPV4 ? packet->tuple.t4.protocol : 0;
	key->family = family;
	key->pad[0] = key->pad[1] = 0;
}

static __always_inline int fragment_read_ipv4(ctx_t *ctx, struct piece *piece)
{
	const struct iphdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));

	if (!ip)
		return -1;
	piece->id_be = ip->id;
	piece->is_first = !(ip->frag_off & __builtin_bswap16(IP_OFFSET_BITS));
	piece->is_last = 0; /* a whole datagram is none */
	return 0;
}

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset_and_flags_be;
	__be32 id_be;
};

/* packet->l4_offset: of the fragment header. It is left behind, and other extension headers
 * that follow it in a first fragment. */
static __always_inline int fragment_read_ipv6(ctx_t *ctx, struct packet *packet,
					      struct piece *piece)
{
	struct fragment_header header;
	struct extension_header more;
	__u32 offset = packet->l4_offset;
	__u16 field;
	__u8 next;

	if (offset > MAX_HEADERS * 4 || ctx_load(ctx, offset, &header, sizeof(header)))
		return -1;
	field = __builtin_bswap16(header.offset_and_flags_be);
	piece->id_be = header.id_be;
	piece->is_first = !(field & IPV6_OFFSET_BITS);
	piece->is_last = !(field & IPV6_MORE_FRAGMENTS);
	next = header.next;
	offset += sizeof(header);
	for (int i = 0; i < MAX_EXTENSION_HEADERS && piece->is_first; i++) {
		if (!is_extension(next) || next == NEXT_FRAGMENT)
			break;
		if (offset > MAX_HEADERS * 4 || ctx_load(ctx, offset, &more, sizeof(more)))
			return -1;
		offset += extension_length(&more, next);
		next = more.next;
	}
	packet->tuple.t6.protocol = next;
	packet->l4_offset = offset;
	return 0;
}

/* The ports of the datagram's first fragment, if it came lately. */
static __always_inline int fragment_follow(struct packet *packet, const struct fragment_key *key,
					   int family)
{
	const struct fragment *first = bpf_map_lookup_elem(&fragments, key);

	if (!first || idle_slots(clock_slot(), first->slot) > FRAGMENT_SLOTS)
		return 0;
	tuple_set_tail(&packet->tuple, first->ports_be, first->protocol, family);
	packet->tcp_flags = 0;
	return 1;
}

/* Goes on where parse met a fragment: PARSED_OK, the tuple is whole and the packet has been
 * marked as what it is. */
static __always_inline enum parsed fragment_parse(ctx_t *ctx, struct packet *packet,
						  struct fragment_key *key, int family)
{
	struct piece piece;
	enum parsed parsed;

	if (family == FAMILY_IPV4 ? fragment_read_ipv4(ctx, &piece)
				  : fragment_read_ipv6(ctx, packet, &piece))
		return PARSED_MALFORMED;
	fragment_key_fill(key, packet, piece.id_be, family);
	if (!piece.is_first) {
		if (!fragment_follow(packet, key, family))
			return PARSED_FRAGMENT;
		packet_mark(packet, PACKET_LATER_FRAGMENT, family);
		return PARSED_OK;
	}
	if (config.network_model && *tuple_protocol(&packet->tuple, family) == icmp_protocol(family))
		parsed = parse_echo(ctx, packet, family);
	else if (!has_ports(*tuple_protocol(&packet->tuple, family)))
		return PARSED_OTHER_PROTOCOL;
	else if (*tuple_protocol(&packet->tuple, family) == IPPROTO_SCTP)
		parsed = parse_sctp(ctx, packet, family);
	else
		parsed = parse_ports(ctx, packet, !piece.is_last, family);
	/* One that is first and last alike is whole (RFC 6946): nothing follows it. */
	if (parsed == PARSED_OK && !piece.is_last)
		packet_mark(packet, PACKET_FIRST_FRAGMENT, family);
	return parsed;
}

enum { UNUSUAL = 100 }; /* no program's return value: the packet is known by now */

/* Goes on where parse met what is rare: a fragment, or SCTP. */
static __always_inline enum parsed parse_unusual(ctx_t *ctx, struct packet *packet,
						 enum parsed parsed, struct fragment_key *key,
						 int family)
{
	if (parsed == PARSED_FRAGMENT)
		return fragment_parse(ctx, packet, key, family);
	if (parsed == PARSED_OTHER_PROTOCOL &&
	    *tuple_protocol(&packet->tuple, family) == IPPROTO_SCTP)
		return parse_sctp(ctx, packet, family);
	return parsed;
}

static __always_inline int is_icmp(struct packet *packet, int family)
{
	return *tuple_protocol(&packet->tuple, family) ==
	       (family == FAMILY_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

/* The first fragment is on its way. `key`: as fragment_parse left it. */
static __always_inline void fragment_remember(struct packet *packet, const struct fragment_key *key,
					      int family)
{
	struct fragment first = {
		.ports_be = tuple_ports(&packet->tuple, family),
		.protocol = *tuple_protocol(&packet->tuple, family),
		.slot = clock_slot(),
	};

	bpf_map_update_elem(&fragments, key, &first, 0);
}

#endif
