/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Putting a flow's answer into the packet: addresses, ports, checksums, TTL. */
#ifndef MAGLANE_REWRITE_H
#define MAGLANE_REWRITE_H

#include "bpf/checksum.h"
#include "bpf/crc32c.h"
#include "bpf/flow.h"
#include "bpf/parse.h"

/* TTL or hop limit as the packet came. */
static __always_inline __u8 rewrite_ttl(ctx_t *ctx, int family)
{
	const __u8 *ttl = ctx_at(ctx, L3_OFFSET + (family == FAMILY_IPV4 ? 8 : 7), 1);

	return ttl ? *ttl : 0;
}

/* The IP header: addresses, TTL, its checksum. */
static __always_inline int rewrite_ip(ctx_t *ctx, union any_flow *flow, int hop, int family)
{
	const struct flow_body *body = flow_body(flow, family);

	if (family == FAMILY_IPV4) {
		struct iphdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));

		if (!ip)
			return -1;
		ip->saddr = *flow_src(flow, family);
		ip->daddr = *flow_dst(flow, family);
		if (hop)
			ip->ttl--;
		/* The TTL is the high byte of its word: one less of it is 0x0100 less. */
		checksum_update(&ip->check,
				(__u32)body->addr_csum +
					(hop ? (__u16)~__builtin_bswap16(0x0100) : 0));
	} else {
		struct ipv6hdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));

		if (!ip)
			return -1;
		__builtin_memcpy(&ip->saddr, flow_src(flow, family), 32);
		if (hop)
			ip->hop_limit--;
	}
	return 0;
}

/* A fragment that has no layer 4 header. */
static __always_inline int rewrite_addresses(ctx_t *ctx, union any_flow *flow, int hop, int family)
{
	if (rewrite_ip(ctx, flow, hop, family))
		return -1;
	if (family == FAMILY_IPV6)
		ctx_sum_changed(ctx, flow_body(flow, family)->addr_csum);
	return 0;
}

/*
 * SCTP: its checksum is over the packet alone, without addresses. Whoever leaves it to a device
 * to make the checksum has left a 0 there, which must stay.
 */
static __always_inline int rewrite_sctp(ctx_t *ctx, struct packet *packet, union any_flow *flow,
					int hop, int family)
{
	__u32 l4 = packet->l4_offset;
	struct sctp_header sctp;
	__u32 ports;

	if (l4 > MAX_HEADERS * 4 || ctx_load(ctx, l4, &sctp, sizeof(sctp)))
		return -1;
	__builtin_memcpy(&ports, &sctp, sizeof(ports));
	if (sctp.checksum)
		sctp.checksum ^= crc32c_difference(ports ^ flow_ports(flow, family),
						   packet->ip_len - (l4 - L3_OFFSET));
	sctp.src_port_be = *flow_src_port(flow, family);
	sctp.dst_port_be = *flow_dst_port(flow, family);
	if (ctx_store(ctx, l4, &sctp, sizeof(sctp)))
		return -1;
	return rewrite_addresses(ctx, flow, hop, family);
}

/* An echo: its identifier, and what that and the addresses change in its checksum, which has a
 * pseudo header with ICMPv6 alone. */
static __always_inline int rewrite_echo(ctx_t *ctx, struct packet *packet, union any_flow *flow,
					int hop, int family)
{
	const struct flow_body *body = flow_body(flow, family);
	const int reply = *tuple_dst_port(&packet->tuple, family) != 0;
	__u32 l4 = packet->l4_offset;
	struct echo_header echo;

	if (l4 > MAX_HEADERS * 4 || ctx_load(ctx, l4, &echo, sizeof(echo)))
		return -1;
	echo.id_be = reply ? *flow_dst_port(flow, family) : *flow_src_port(flow, family);
	checksum_update(&echo.checksum,
			(__u32)body->port_csum + (family == FAMILY_IPV6 ? body->addr_csum : 0));
	if (ctx_store(ctx, l4, &echo, sizeof(echo)))
		return -1;
	return rewrite_addresses(ctx, flow, hop, family);
}

/* The sum of the pseudo header, not folded (RFC 9293, 3.1; RFC 8200, 8.1). */
static __always_inline __u64 pseudo_sum(struct packet *packet, int family)
{
	__u8 protocol = *tuple_protocol(&packet->tuple, family);
	__u32 len = packet->ip_len - (packet->l4_offset - L3_OFFSET);
	__u64 sum = (__u64)__builtin_bswap32(len) + __builtin_bswap32(protocol);

	for (int i = 0; i < ADDR_WORDS(family); i++)
		sum += (__u64)tuple_src(&packet->tuple, family)[i] +
		       tuple_dst(&packet->tuple, family)[i];
	return sum;
}

/* TCP and UDP. `hop`, a constant: the packet is forwarded, which takes one off its TTL. `l4`:
 * packet->l4_offset, or PLAIN_L4. 0, or -1 if the kernel refuses an edit. Only bytes that parse
 * has seen are written. */
static __always_inline int rewrite(ctx_t *ctx, struct packet *packet, union any_flow *flow,
				   __u32 l4, int hop, int family)
{
	const struct flow_body *body = flow_body(flow, family);
	__u8 protocol = *tuple_protocol(&packet->tuple, family);

	if (l4 > MAX_HEADERS * 4)
		return -1;
	if (ctx_edit_l4(ctx, family, protocol, l4, protocol == IPPROTO_TCP ? 16 : 6,
			flow_ports(flow, family), body->addr_csum, body->port_csum,
			pseudo_sum(packet, family)))
		return -1;
	return rewrite_ip(ctx, flow, hop, family);
}

#endif
