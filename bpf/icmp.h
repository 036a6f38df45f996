/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP errors about packets that were translated here (RFC 792, RFC 4443, RFC 5508). Such an
 * error quotes the packet as it left; whoever sent it knows it by other addresses and ports.
 * The flow that would carry an answer to it leads back to the sender: the error takes the
 * same way, its quote is turned back into what was sent, and so is its own source wherever the
 * sender knows the other end by another address. Checksums follow by the differences, so that
 * what was wrong stays wrong. The quote need not have more than the 64 bits of RFC 792.
 */
#ifndef MAGLANE_ICMP_H
#define MAGLANE_ICMP_H

#include "bpf/forward.h"
#include "bpf/fragment.h"

enum {
	ICMP_UNRELATED = 100, /* no program's return value: not an error about a flow */
	ICMP_QUOTED_L4 = 8,   /* bytes of layer 4 that every quote has */
};

/* Errors that are about one packet and for its sender. Redirects are for neighbours alone,
 * source quench has been taken back (RFC 6633). */
static __always_inline int icmp_is_error(__u8 type, int family)
{
	if (family == FAMILY_IPV4)
		return type == 3 || type == 11 || type == 12;
	return type >= 1 && type <= 4;
}

/* Where in the quoted layer 4 header its checksum is. */
static __always_inline __u32 l4_checksum_offset(__u8 protocol, int family)
{
	if (protocol == icmp_protocol(family))
		return __builtin_offsetof(struct echo_header, checksum);
	return protocol == IPPROTO_TCP ? 16 : 6;
}

/* From the quoted IP header to its layer 4: the protocol; 0, if it has no ports to know a flow
 * by. */
static __always_inline __u8 icmp_find_l4(ctx_t *ctx, struct icmp_error *error, int family)
{
	const union ip_header *ip = &error->inner;
	__u32 offset = error->inner_offset;
	struct extension_header header;
	__u8 next;

	if (family == FAMILY_IPV4) {
		if (ip->v4.version != 4 || ip->v4.ihl < 5 ||
		    ip->v4.frag_off & __builtin_bswap16(IP_OFFSET_BITS))
			return 0;
		error->l4_offset = offset + ip->v4.ihl * 4;
		return ip->v4.protocol;
	}
	if (ip->v6.version != 6)
		return 0;
	next = ip->v6.nexthdr;
	offset += sizeof(ip->v6);
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		if (!is_extension(next))
			break;
		if (offset > MAX_HEADERS * 8 || ctx_load(ctx, offset, &header, sizeof(header)))
			return 0;
		if (next == NEXT_FRAGMENT && is_later_fragment(&header))
			return 0;
		offset += extension_length(&header, next);
		next = header.next;
	}
	error->l4_offset = offset;
	return next;
}

/* The ports of a packet that the flow's would answer, as they stand in a header. */
static __always_inline __u32 flow_sender_ports(union any_flow *flow, int family)
{
	__u32 ports = flow_ports(flow, family);

	return ports << 16 | ports >> 16;
}

/* The ports of the quoted packet, or what an echo has for them. 0: it has none. */
static __always_inline int icmp_read_ports(ctx_t *ctx, struct icmp_error *error, __u8 protocol,
					   int family)
{
	struct echo_header echo;

	if (!config.network_model || protocol != icmp_protocol(family))
		return !ctx_load(ctx, error->l4_offset, error->ports_be, sizeof(error->ports_be));
	return !ctx_load(ctx, error->l4_offset, &echo, sizeof(echo)) &&
	       echo_ports(&echo, error->ports_be, family);
}

/* The same ports back into the quote. */
static __always_inline int icmp_store_ports(ctx_t *ctx, struct icmp_error *error, __u8 protocol,
					    int family)
{
	const __u32 id_offset = __builtin_offsetof(struct echo_header, id_be);
	__be16 id_be;

	if (!config.network_model || protocol != icmp_protocol(family))
		return ctx_store(ctx, error->l4_offset, error->ports_be, sizeof(error->ports_be));
	id_be = error->ports_be[0] | error->ports_be[1]; /* one of them is 0 */
	return ctx_store(ctx, error->l4_offset + id_offset, &id_be, sizeof(id_be));
}

/* Takes the packet apart. 0: it is not an error about a packet that a flow may have. */
static __always_inline int icmp_read(ctx_t *ctx, struct packet *packet, struct icmp_error *error,
				     int family)
{
	const __u32 header = family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	union any_tuple *answer = &error->answer;
	union ip_header *ip = &error->inner;
	__u32 offset = packet->l4_offset;
	struct icmp_header icmp;
	__u8 protocol;

	if (offset > MAX_HEADERS * 4)
		return 0;
	error->end = L3_OFFSET + packet->ip_len;
	error->inner_offset = offset + sizeof(icmp);
	if (error->inner_offset + header + ICMP_QUOTED_L4 > error->end ||
	    ctx_load(ctx, offset, &icmp, sizeof(icmp)) ||
	    !icmp_is_error(icmp.type_and_code & 0xff, family) ||
	    ctx_load(ctx, error->inner_offset, ip, header))
		return 0;
	protocol = icmp_find_l4(ctx, error, family);
	if ((!has_ports(protocol) &&
	     !(config.network_model && protocol == icmp_protocol(family))) ||
	    error->l4_offset > MAX_HEADERS * 16 ||
	    error->l4_offset + ICMP_QUOTED_L4 > error->end ||
	    !icmp_read_ports(ctx, error, protocol, family))
		return 0;
	__builtin_memset(answer, 0, sizeof(*answer));
	if (family == FAMILY_IPV4) {
		answer->t4.src_be = ip->v4.daddr;
		answer->t4.dst_be = ip->v4.saddr;
	} else {
		__builtin_memcpy(answer->t6.src_be, &ip->v6.daddr, 16);
		__builtin_memcpy(answer->t6.dst_be, &ip->v6.saddr, 16);
	}
	*tuple_src_port(answer, family) = error->ports_be[1];
	*tuple_dst_port(answer, family) = error->ports_be[0];
	*tuple_protocol(answer, family) = protocol;
	return 1;
}

/* The same of SCTP: its checksum is over the whole packet, whose length the quote tells. */
static __always_inline int icmp_rewrite_sctp_checksum(ctx_t *ctx, const struct icmp_error *error,
						      union any_flow *flow, __u32 *difference,
						      int family)
{
	const union ip_header *ip = &error->inner;
	const __u32 at = error->l4_offset + __builtin_offsetof(struct sctp_header, checksum);
	__u32 length = error->inner_offset - error->l4_offset;
	__u32 before, after, was;

	if (at + sizeof(before) > error->end)
		return 0;
	if (ctx_load(ctx, at, &before, sizeof(before)))
		return -1;
	if (!before)
		return 0;
	length += family == FAMILY_IPV4 ? __builtin_bswap16(ip->v4.tot_len)
					: __builtin_bswap16(ip->v6.payload_len) + sizeof(ip->v6);
	__builtin_memcpy(&was, error->ports_be, sizeof(was));
	after = before ^ crc32c_difference(was ^ flow_sender_ports(flow, family), length & 0xffff);
	*difference += checksum_fold((__u64)(__u32)~before + after);
	return ctx_store(ctx, at, &after, sizeof(after));
}

/* The checksum in the quoted layer 4 header, where the quote has so much of it. *difference:
 * what that adds to the sum over the quote. */
static __always_inline int icmp_rewrite_l4_checksum(ctx_t *ctx, const struct icmp_error *error,
						    const struct flow_body *body, __u8 protocol,
						    __u32 *difference, int family)
{
	const __u32 at = error->l4_offset + l4_checksum_offset(protocol, family);
	__u32 change = body->port_csum;
	__u16 before, after;

	if (at + sizeof(before) > error->end)
		return 0;
	if (ctx_load(ctx, at, &before, sizeof(before)))
		return -1;
	after = before;
	if (protocol != IPPROTO_ICMP) /* it has no pseudo header */
		change += body->addr_csum;
	checksum_update_l4(&after, family, protocol, change);
	*difference += checksum_difference(before, after);
	return ctx_store(ctx, at, &after, sizeof(after));
}

/* The quote: 0, or -1 if the kernel refuses an edit. */
static __always_inline int icmp_rewrite_quote(ctx_t *ctx, struct icmp_error *error,
					      union any_flow *flow, __u32 *difference, int family)
{
	const __u32 header = family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const struct flow_body *body = flow_body(flow, family);
	__u8 protocol = *tuple_protocol(&error->answer, family);
	union ip_header *ip = &error->inner;

	if (protocol == IPPROTO_SCTP
		    ? icmp_rewrite_sctp_checksum(ctx, error, flow, difference, family)
		    : icmp_rewrite_l4_checksum(ctx, error, body, protocol, difference, family))
		return -1;
	*difference += body->addr_csum + body->port_csum;
	if (family == FAMILY_IPV4) {
		__u16 before = ip->v4.check;
		__u16 after = before;

		checksum_update(&after, body->addr_csum);
		*difference += checksum_difference(before, after);
		ip->v4.check = after;
		ip->v4.saddr = *flow_dst(flow, family);
		ip->v4.daddr = *flow_src(flow, family);
	} else {
		__builtin_memcpy(&ip->v6.saddr, flow_dst(flow, family), 16);
		__builtin_memcpy(&ip->v6.daddr, flow_src(flow, family), 16);
	}
	error->ports_be[0] = *flow_dst_port(flow, family);
	error->ports_be[1] = *flow_src_port(flow, family);
	if (icmp_store_ports(ctx, error, protocol, family))
		return -1;
	return ctx_store(ctx, error->inner_offset, ip, header);
}

/* The error's own IP header: to whoever sent the packet, from the end that they know. hop: it is
 * sent on, and so loses one. */
static __always_inline void icmp_rewrite_outer(struct icmp_error *error, union any_flow *flow,
					       __u32 *difference, int hop, int family)
{
	union ip_header *ip = &error->outer;
	__be32 *src = family == FAMILY_IPV4 ? (__be32 *)&ip->v4.saddr : (__be32 *)&ip->v6.saddr;
	__be32 *dst = family == FAMILY_IPV4 ? (__be32 *)&ip->v4.daddr : (__be32 *)&ip->v6.daddr;
	__u64 sum = checksum_replace_words(0, dst, flow_dst(flow, family), ADDR_WORDS(family));

	addr_copy(dst, flow_dst(flow, family), family);
	/* A router on the way may keep its name only if the sender knows what is behind it. */
	if (!addr_equal(flow_src(flow, family), tuple_src(&error->answer, family), family)) {
		sum = checksum_replace_words(sum, src, flow_src(flow, family), ADDR_WORDS(family));
		addr_copy(src, flow_src(flow, family), family);
	}
	if (family == FAMILY_IPV4) {
		ip->v4.ttl -= hop;
		checksum_update(&ip->v4.check,
				(__u32)checksum_fold(sum) +
					(hop ? (__u16)~__builtin_bswap16(0x0100) : 0));
	} else {
		ip->v6.hop_limit -= hop;
		*difference += checksum_fold(sum); /* in ICMPv6's pseudo header */
	}
}

static __always_inline int icmp_rewrite(ctx_t *ctx, struct packet *packet, struct icmp_error *error,
					union any_flow *flow, int hop, int family)
{
	const __u32 header = family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 at = packet->l4_offset + 2;
	__u32 difference = 0;
	__u16 checksum;

	if (packet->l4_offset > MAX_HEADERS * 4 ||
	    ctx_load(ctx, L3_OFFSET, &error->outer, header) ||
	    icmp_rewrite_quote(ctx, error, flow, &difference, family))
		return -1;
	icmp_rewrite_outer(error, flow, &difference, hop, family);
	if (ctx_load(ctx, at, &checksum, sizeof(checksum)))
		return -1;
	checksum_update(&checksum, checksum_fold(difference));
	if (ctx_store(ctx, at, &checksum, sizeof(checksum)))
		return -1;
	return ctx_store(ctx, L3_OFFSET, &error->outer, header);
}

/*
 * Finds the flow that leads to who sent the packet that an error is about, and copies it to
 * scratch->other. TABLE_ABSENT: there is none, or this is no such error.
 */
static __always_inline enum table_result icmp_find_flow(ctx_t *ctx, struct packet *packet,
							struct scratch *scratch, int family)
{
	if (!icmp_read(ctx, packet, &scratch->icmp, family))
		return TABLE_ABSENT;
	return flow_find_elsewhere_of(&scratch->icmp.answer, &scratch->other, family);
}

/* To or from the node's own stack, as translate_in_place does it. */
static __always_inline int icmp_translate_in_place(ctx_t *ctx, struct packet *packet,
						   struct scratch *scratch, enum reason reason,
						   int family)
{
	if (icmp_rewrite(ctx, packet, &scratch->icmp, &scratch->other.answer, 0, family))
		return drop(ctx, REASON_REWRITE_FAILED);
	return pass(ctx, reason);
}

static __always_inline int icmp_deliver(ctx_t *ctx, struct packet *packet, struct scratch *scratch,
					int family)
{
	/* About what the endpoint here was sent: that does not come in from anywhere. */
	if ((flow_body(&scratch->other.answer, family)->flags & (FLOW_REPLY | FLOW_MASQUERADE)) ==
	    FLOW_REPLY)
		return pass(ctx, REASON_NOT_OURS);
	if ((int)CTX_HOOK == (int)HOOK_XDP)
		return pass(ctx, REASON_TO_TC);
	return icmp_translate_in_place(ctx, packet, scratch, REASON_DELIVERED, family);
}

/* Sends an error about a packet of a flow to who sent that packet: the program's return value;
 * ICMP_UNRELATED if the packet is no such error. It says nothing about how the connection
 * fares, so the flow stays as it is. */
static __always_inline int icmp_error_of(ctx_t *ctx, struct packet *packet, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	__u32 stamp = clock_stamp();
	struct flow_body *body;
	struct flow *flow;

	if (!packet || !scratch)
		return ICMP_UNRELATED;
	flow = &scratch->other;
	body = flow_body(&flow->answer, family);
	switch (icmp_find_flow(ctx, packet, scratch, family)) {
	case TABLE_DONE:
		break;
	case TABLE_BUSY:
		return drop(ctx, REASON_TABLE_BUSY);
	default:
		return ICMP_UNRELATED;
	}
	if (body->flags & FLOW_NODE)
		return icmp_deliver(ctx, packet, scratch, family);
	if (packet->ttl <= 1)
		return drop(ctx, REASON_TTL_EXCEEDED);
	if (body->stamp != stamp) {
		enum reason reason = hop_find(ctx, packet, &flow->answer, stamp, family);

		if (reason != REASON_COUNT)
			return drop(ctx, reason);
	}
	if (body->stamp != stamp ? !CTX_CAN_RESOLVE : !ctx_can_send(ctx, body->next_hop.device))
		return pass(ctx, REASON_TO_TC);
	if (icmp_rewrite(ctx, packet, &scratch->icmp, &flow->answer, 1, family))
		return drop(ctx, REASON_REWRITE_FAILED);
	if (body->stamp != stamp)
		return CTX_GLOBAL(resolve)(ctx);
	return send(ctx, &body->next_hop);
}

__weak int CTX_GLOBAL(icmp_error4)(ctx_t *ctx, struct packet *packet)
{
	return icmp_error_of(ctx, packet, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(icmp_error6)(ctx_t *ctx, struct packet *packet)
{
	return icmp_error_of(ctx, packet, FAMILY_IPV6);
}

static __always_inline int icmp_error(ctx_t *ctx, struct packet *packet, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(icmp_error4)(ctx, packet)
				     : CTX_GLOBAL(icmp_error6)(ctx, packet);
}

#endif
