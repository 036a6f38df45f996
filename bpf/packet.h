/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A parsed packet, and access to what the two families keep in different places. `family`
 * is a constant at every call, so each step is compiled once a family without branches.
 */
#ifndef MAGLANE_PACKET_H
#define MAGLANE_PACKET_H

#include "bpf/abi.h"

enum { L3_OFFSET = 14 }; /* Ethernet */

union any_tuple {
	struct tuple4 t4;
	struct tuple6 t6;
	__u64 words[sizeof(struct tuple6) / 8]; /* as tables compare them */
};

struct packet {
	union any_tuple tuple;
	__u32 ip_len;    /* from the IP header on, as the header says; bytes */
	__u16 l4_offset; /* from the start of the frame */
	__u8 tcp_flags;  /* as in the TCP header, or what is the like of SCTP's first chunk; 0 for UDP */
	__u8 ttl;        /* or hop limit; 0: of a kind that is not plain */
	__u8 tos;        /* or traffic class */
	__u8 from_pod;   /* arrived at a pod device */
	__u32 frontend;  /* where a new connection goes, if that was looked for: see frontend.h */
};

/* What is more to a packet than rewrite() does. */
enum packet_kind {
	PACKET_PLAIN = 0,
	PACKET_FIRST_FRAGMENT = 1 << 0,
	PACKET_LATER_FRAGMENT = 1 << 1, /* without a layer 4 header */
	PACKET_SCTP = 1 << 2,
	PACKET_ECHO = 1 << 3, /* ICMP or ICMPv6 echo, request or reply: see parse_echo */
	PACKET_OPTIONS = 1 << 4, /* IP options or extension headers before layer 4 */
};

enum { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

/* Says that nothing came before it. */
static __always_inline int is_opening(const struct packet *packet)
{
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

#define ADDR_WORDS(family) ((family) == FAMILY_IPV4 ? 1 : 4)

/* `tuple`: a union any_tuple, or the words of one. */
static __always_inline __be32 *tuple_src(void *tuple, int family)
{
	return family == FAMILY_IPV4 ? &((struct tuple4 *)tuple)->src_be :
				       ((struct tuple6 *)tuple)->src_be;
}

static __always_inline __be32 *tuple_dst(void *tuple, int family)
{
	return family == FAMILY_IPV4 ? &((struct tuple4 *)tuple)->dst_be :
				       ((struct tuple6 *)tuple)->dst_be;
}

static __always_inline __be16 *tuple_src_port(void *tuple, int family)
{
	return family == FAMILY_IPV4 ? &((struct tuple4 *)tuple)->src_port_be :
				       &((struct tuple6 *)tuple)->src_port_be;
}

static __always_inline __be16 *tuple_dst_port(void *tuple, int family)
{
	return family == FAMILY_IPV4 ? &((struct tuple4 *)tuple)->dst_port_be :
				       &((struct tuple6 *)tuple)->dst_port_be;
}

static __always_inline __u8 *tuple_protocol(void *tuple, int family)
{
	return family == FAMILY_IPV4 ? &((struct tuple4 *)tuple)->protocol :
				       &((struct tuple6 *)tuple)->protocol;
}

/* Bits of enum packet_kind. They are in the tuple's padding, which tables do not look at and
 * which tuple_set_tail clears in any case, so that plain packets pay nothing for them. */
static __always_inline __u8 *packet_kind(struct packet *packet, int family)
{
	return family == FAMILY_IPV4 ? &packet->tuple.t4.pad[0] : &packet->tuple.t6.pad[0];
}

/* Sends the packet by way of forward_unusual, which knows its kind. */
static __always_inline void packet_mark(struct packet *packet, __u8 kind, int family)
{
	*packet_kind(packet, family) |= kind;
	packet->ttl = 0;
}

/* At any address. BPF programs may, and the compiler would go byte by byte if told so. */
static __always_inline void store_word(__u32 *to, __u32 word)
{
#ifdef __bpf__
	*to = word;
#else
	__builtin_memcpy(to, &word, sizeof(word));
#endif
}

/* Ports (as in the packet), protocol and pad at once: whoever reads them as one word would wait
 * for the parts of it to reach the cache. */
static __always_inline void tuple_set_tail(union any_tuple *tuple, __u32 ports, __u8 protocol,
					   int family)
{
	tuple->words[family == FAMILY_IPV4 ? 1 : 4] = ports | (__u64)protocol << 32;
}

/* Source and destination port, as they stand in the packet. */
static __always_inline __u32 tuple_ports(const union any_tuple *tuple, int family)
{
	return tuple->words[family == FAMILY_IPV4 ? 1 : 4];
}

static __always_inline void addr_copy(__be32 *to, const __be32 *from, int family)
{
	for (int i = 0; i < ADDR_WORDS(family); i++)
		to[i] = from[i];
}

static __always_inline int addr_equal(const __be32 *a, const __be32 *b, int family)
{
	__be32 difference = 0;

	for (int i = 0; i < ADDR_WORDS(family); i++)
		difference |= a[i] ^ b[i];
	return !difference;
}

/* The address as the maps of both families hold it: IPv4 in the first word, then zeros. */
static __always_inline void addr_widen(__be32 to[4], const __be32 *from, int family)
{
	to[0] = from[0];
	for (int i = 1; i < 4; i++)
		to[i] = family == FAMILY_IPV4 ? 0 : from[i];
}

static __always_inline int prefix_contains(const volatile struct prefix *prefix,
					   const __be32 *address, int family)
{
	__be32 difference = 0;

	if (prefix->family != (__u32)family)
		return 0;
	for (int i = 0; i < ADDR_WORDS(family); i++)
		difference |= (address[i] & prefix->mask_be[i]) ^ prefix->addr_be[i];
	return !difference;
}

#endif
