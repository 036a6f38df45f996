/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * From the frame's first byte to the ports. What is not TCP or UDP, or cannot be, is told
 * by name; the addresses are filled in whenever the IP header is there, so that the caller
 * can tell whether it is any business of ours.
 */
#ifndef MAGLANE_PARSE_H
#define MAGLANE_PARSE_H

#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "bpf/packet.h"

enum parsed {
	PARSED_OK = 0,
	PARSED_NO_ADDRESS, /* not even a whole IP header */
	PARSED_MALFORMED,
	PARSED_FRAGMENT,
	PARSED_OTHER_PROTOCOL,
	PARSED_EXTENSION_HEADERS,
};

enum {
	MAX_EXTENSION_HEADERS = 6,
	IP_FRAGMENT_BITS = 0x3fff, /* more-fragments and the offset, host order */
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_AUTHENTICATION = 51,
	NEXT_DESTINATION = 60,
	MAX_HEADERS = 128, /* pulled at once: covers Ethernet, IPv4 with options, TCP */
};

/* The part of a layer 4 header that is read: all of UDP, TCP up to its flags. */
struct ports_header {
	__be16 src_port_be;
	__be16 dst_port_be;
	__be16 length_be; /* of UDP; the sequence number of TCP begins here */
	__be16 sequence_rest_be;
	__be32 acknowledgment_be;
	__u8 data_offset;
	__u8 flags;
};

/* Where layer 4 begins in a plain packet. */
#define PLAIN_L4(family) (L3_OFFSET + ((family) == FAMILY_IPV4 ? 20 : 40))

/* `first`: of several fragments, so that what is missing may follow. */
static __always_inline enum parsed parse_ports(ctx_t *ctx, struct packet *packet, int first,
					       int family)
{
	__u8 protocol = *tuple_protocol(&packet->tuple, family);
	__u32 offset = packet->l4_offset;
	__u32 header = protocol == IPPROTO_TCP ? 20 : 8;
	struct ports_header *l4;
	__u32 room, needed;

	if (offset > MAX_HEADERS * 4)
		return PARSED_MALFORMED;
	if (packet->ip_len < offset - L3_OFFSET + header)
		return PARSED_MALFORMED;
	room = packet->ip_len - (offset - L3_OFFSET);
	if (protocol == IPPROTO_TCP) {
		l4 = ctx_at(ctx, offset, 20);
		if (!l4)
			return PARSED_MALFORMED;
		packet->tcp_flags = l4->flags;
		needed = (l4->data_offset >> 4) * 4;
	} else {
		l4 = ctx_at(ctx, offset, 8);
		if (!l4)
			return PARSED_MALFORMED;
		packet->tcp_flags = 0;
		needed = __builtin_bswap16(l4->length_be);
	}
	if (needed < header || (needed > room && !(first && protocol != IPPROTO_TCP)))
		return PARSED_MALFORMED;
	tuple_set_tail(&packet->tuple, *(__u32 *)l4, protocol, family);
	if (offset != PLAIN_L4(family))
		packet_mark(packet, PACKET_OPTIONS, family);
	return PARSED_OK;
}

/* A length field of 0 with a frame that a device will segment: longer than the field can say
 * (BIG TCP). */
static __always_inline __u32 ip_length(const ctx_t *ctx, __u32 field, __u32 header)
{
	if (!field && ctx_is_gso(ctx))
		return ctx_len(ctx) - L3_OFFSET;
	return field + header;
}

static __always_inline enum parsed parse_ipv4(ctx_t *ctx, struct packet *packet)
{
	const struct iphdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));
	__u32 header;

	if (!ip)
		return PARSED_NO_ADDRESS;
	packet->tuple.words[0] = ip->saddr | (__u64)ip->daddr << 32;
	packet->tuple.t4.protocol = ip->protocol;
	packet->ttl = ip->ttl;
	packet->tos = ip->tos;
	packet->ip_len = ip_length(ctx, __builtin_bswap16(ip->tot_len), 0);
	header = ip->ihl * 4;
	if (ip->version != 4 || header < sizeof(*ip) || packet->ip_len < header ||
	    packet->ip_len > ctx_len(ctx) - L3_OFFSET)
		return PARSED_MALFORMED;
	packet->l4_offset = L3_OFFSET + header;
	if (ip->frag_off & __builtin_bswap16(IP_FRAGMENT_BITS))
		return PARSED_FRAGMENT;
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return PARSED_OTHER_PROTOCOL;
	return parse_ports(ctx, packet, 0, FAMILY_IPV4);
}

/* Of an IPv6 header's kind (RFC 8200 section 4, RFC 4302 section 2). */
struct extension_header {
	__u8 next;
	__u8 length; /* in 8 bytes, without the first 8; authentication: in 4, without the first 8 */
	__u8 rest[6]; /* fragment: its offset is in the upper 13 bits */
};

static __always_inline int is_extension(__u8 next)
{
	return next == NEXT_HOP_BY_HOP || next == NEXT_ROUTING || next == NEXT_FRAGMENT ||
	       next == NEXT_AUTHENTICATION || next == NEXT_DESTINATION;
}

/* Bytes of an extension header of this kind. */
static __always_inline __u32 extension_length(const struct extension_header *header, __u8 kind)
{
	if (kind == NEXT_FRAGMENT)
		return sizeof(*header);
	if (kind == NEXT_AUTHENTICATION)
		return (header->length + 2) * 4;
	return (header->length + 1) * 8;
}

static __always_inline int is_later_fragment(const struct extension_header *fragment)
{
	return fragment->rest[0] || fragment->rest[1] & 0xf8;
}

/* Protocols that frontends serve: they have ports in their first four bytes. */
static __always_inline int has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static __always_inline enum parsed parse_ipv6(ctx_t *ctx, struct packet *packet)
{
	const struct ipv6hdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));
	__u32 offset = L3_OFFSET + sizeof(*ip);
	__u8 next;

	if (!ip)
		return PARSED_NO_ADDRESS;
	__builtin_memcpy(packet->tuple.t6.src_be, &ip->saddr, 32);
	packet->ttl = ip->hop_limit;
	packet->tos = (ip->priority << 4) | (ip->flow_lbl[0] >> 4);
	packet->ip_len = ip_length(ctx, __builtin_bswap16(ip->payload_len), sizeof(*ip));
	next = ip->nexthdr;
	if (ip->version != 6 || packet->ip_len > ctx_len(ctx) - L3_OFFSET)
		return PARSED_MALFORMED;
	for (int i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		const struct extension_header *header;

		packet->tuple.t6.protocol = next;
		packet->l4_offset = offset;
		if (next == IPPROTO_TCP || next == IPPROTO_UDP)
			return parse_ports(ctx, packet, 0, FAMILY_IPV6);
		if (next == NEXT_FRAGMENT)
			return PARSED_FRAGMENT;
		if (!is_extension(next))
			return PARSED_OTHER_PROTOCOL;
		header = ctx_at(ctx, offset, sizeof(*header));
		if (!header)
			return PARSED_MALFORMED;
		offset += extension_length(header, next);
		next = header->next;
		if (offset > MAX_HEADERS * 4)
			return PARSED_EXTENSION_HEADERS;
	}
	return PARSED_EXTENSION_HEADERS;
}

/* RFC 9260 section 3.1. */
struct sctp_header {
	__be16 src_port_be;
	__be16 dst_port_be;
	__be32 verification_tag;
	__u32 checksum; /* least significant byte first; 0: none (RFC 9653) */
};

/* Of chunks, RFC 9260 section 3.2. */
enum sctp_chunk {
	SCTP_INIT = 1,
	SCTP_INIT_ACK = 2,
	SCTP_ABORT = 6,
	SCTP_SHUTDOWN = 7,
	SCTP_SHUTDOWN_ACK = 8,
	SCTP_SHUTDOWN_COMPLETE = 14,
};

/*
 * The TCP flags whose part the first chunk of a packet plays. INIT and INIT ACK are alone in
 * theirs (section 4), the SHUTDOWN family nearly always; an ABORT behind other chunks is not
 * seen, and its association's flows stay until they have been idle for long enough.
 */
static __always_inline __u8 sctp_flags(__u8 chunk)
{
	switch (chunk) {
	case SCTP_INIT:
		return TCP_SYN;
	case SCTP_INIT_ACK:
		return TCP_SYN | TCP_ACK;
	case SCTP_ABORT:
		return TCP_RST;
	case SCTP_SHUTDOWN:
	case SCTP_SHUTDOWN_ACK:
	case SCTP_SHUTDOWN_COMPLETE:
		return TCP_FIN | TCP_ACK;
	default:
		return 0;
	}
}

/* What parse has left: packet->l4_offset is that of an SCTP header. */
static __always_inline enum parsed parse_sctp(ctx_t *ctx, struct packet *packet, int family)
{
	struct sctp_header sctp;
	__u32 ports;
	__u32 offset = packet->l4_offset;
	__u8 chunk;

	if (offset > MAX_HEADERS * 4 || packet->ip_len < offset - L3_OFFSET + sizeof(sctp) ||
	    ctx_load(ctx, offset, &sctp, sizeof(sctp)))
		return PARSED_MALFORMED;
	__builtin_memcpy(&ports, &sctp, sizeof(ports));
	tuple_set_tail(&packet->tuple, ports, IPPROTO_SCTP, family);
	packet->tcp_flags = 0;
	if (packet->ip_len > offset - L3_OFFSET + sizeof(sctp) &&
	    !ctx_load(ctx, offset + sizeof(sctp), &chunk, sizeof(chunk)))
		packet->tcp_flags = sctp_flags(chunk);
	packet_mark(packet, PACKET_SCTP, family);
	return PARSED_OK;
}

/* RFC 792, RFC 4443 section 4. */
struct echo_header {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be16 id_be;
	__be16 sequence_be;
};

static __always_inline __u8 icmp_protocol(int family)
{
	return family == FAMILY_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
}

static __always_inline int is_echo_request(__u8 type, int family)
{
	return type == (family == FAMILY_IPV4 ? 8 : 128);
}

static __always_inline int is_echo_reply(__u8 type, int family)
{
	return type == (family == FAMILY_IPV4 ? 0 : 129);
}

/* An echo's identifier stands for its sender's port, in a request for the source, in a reply for
 * the destination; the other port is 0. False: it is none. A reply with the identifier 0, which is
 * nobody's, would look like a request. */
static __always_inline int echo_ports(const struct echo_header *echo, __be16 ports_be[2], int family)
{
	ports_be[0] = ports_be[1] = 0;
	if (is_echo_request(echo->type, family)) {
		ports_be[0] = echo->id_be;
		return 1;
	}
	ports_be[1] = echo->id_be;
	return is_echo_reply(echo->type, family) && echo->id_be;
}

/* What parse has left: packet->l4_offset is that of an ICMP header. */
static __always_inline enum parsed parse_echo(ctx_t *ctx, struct packet *packet, int family)
{
	struct echo_header echo;
	__be16 ports_be[2];
	__u32 ports;
	__u32 offset = packet->l4_offset;

	if (offset > MAX_HEADERS * 4 || packet->ip_len < offset - L3_OFFSET + sizeof(echo) ||
	    ctx_load(ctx, offset, &echo, sizeof(echo)) || !echo_ports(&echo, ports_be, family))
		return PARSED_OTHER_PROTOCOL;
	__builtin_memcpy(&ports, ports_be, sizeof(ports));
	tuple_set_tail(&packet->tuple, ports, icmp_protocol(family), family);
	packet->tcp_flags = 0;
	packet_mark(packet, PACKET_ECHO, family);
	return PARSED_OK;
}

static __always_inline enum parsed parse(ctx_t *ctx, struct packet *packet, int family)
{
	return family == FAMILY_IPV4 ? parse_ipv4(ctx, packet) : parse_ipv6(ctx, packet);
}

/* What parse_ports does, where the offset is known. `length`: as packet->ip_len. */
static __always_inline int parse_plain_ports(ctx_t *ctx, struct packet *packet, __u8 protocol,
					     __u32 length, int family)
{
	const struct ports_header *l4;
	__u32 needed, least;

	if (protocol == IPPROTO_TCP) {
		l4 = ctx_at(ctx, PLAIN_L4(family), 20);
		if (!l4)
			return 0;
		packet->tcp_flags = l4->flags;
		needed = (l4->data_offset >> 4) * 4;
		least = 20;
	} else if (protocol == IPPROTO_UDP) {
		l4 = ctx_at(ctx, PLAIN_L4(family), 8);
		if (!l4)
			return 0;
		packet->tcp_flags = 0;
		needed = __builtin_bswap16(l4->length_be);
		least = 8;
	} else {
		return 0;
	}
	if (needed < least || PLAIN_L4(family) - L3_OFFSET + needed > length ||
	    length > ctx_len(ctx) - L3_OFFSET)
		return 0;
	packet->ip_len = length;
	packet->l4_offset = PLAIN_L4(family);
	tuple_set_tail(&packet->tuple, *(__u32 *)l4, protocol, family);
	return 1;
}

/* 1: it is TCP or UDP, whole, nothing stands between IP header and layer 4, and *packet is what
 * parse would make of it. Most packets, in few instructions; for all others 0, and parse says
 * what they are. `ip`: the IP header without options. */
static __always_inline int parse_plain(ctx_t *ctx, const void *ip, struct packet *packet,
				       int family)
{
	if (family == FAMILY_IPV4) {
		const struct iphdr *v4 = ip;

		if (*(const __u8 *)ip != 0x45 ||
		    v4->frag_off & __builtin_bswap16(IP_FRAGMENT_BITS))
			return 0;
		packet->tuple.words[0] = v4->saddr | (__u64)v4->daddr << 32;
		packet->ttl = v4->ttl;
		packet->tos = v4->tos;
		return parse_plain_ports(ctx, packet, v4->protocol,
					 __builtin_bswap16(v4->tot_len), family);
	} else {
		const struct ipv6hdr *v6 = ip;

		if (v6->version != 6)
			return 0;
		__builtin_memcpy(packet->tuple.t6.src_be, &v6->saddr, 32);
		packet->ttl = v6->hop_limit;
		packet->tos = (v6->priority << 4) | (v6->flow_lbl[0] >> 4);
		return parse_plain_ports(ctx, packet, v6->nexthdr,
					 __builtin_bswap16(v6->payload_len) + 40, family);
	}
}

#endif
