/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Putting a flow's answer into the packet: addresses, ports, checksums, TTL. */
#ifndef MAGLANE_REWRITE_H
#define MAGLANE_REWRITE_H

#include "bpf/checksum.h"
#include "bpf/flow.h"
#include "bpf/parse.h"

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

/* 0, or -1 if the kernel refuses an edit. Only bytes that parse has seen are written. */
static __always_inline int rewrite(ctx_t *ctx, struct packet *packet, union any_flow *flow,
				   int family)
{
	const struct flow_body *body = flow_body(flow, family);
	__u8 protocol = *tuple_protocol(&packet->tuple, family);
	__u32 l4 = packet->l4_offset;

	if (l4 > MAX_HEADERS * 4)
		return -1;
	if (ctx_edit_l4(ctx, family, protocol, l4, protocol == IPPROTO_TCP ? 16 : 6,
			flow_ports(flow, family), body->addr_csum, body->port_csum,
			pseudo_sum(packet, family)))
		return -1;
	if (family == FAMILY_IPV4) {
		struct iphdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));

		if (!ip)
			return -1;
		ip->saddr = *flow_src(flow, family);
		ip->daddr = *flow_dst(flow, family);
		ip->ttl--;
		/* The TTL is the high byte of its word: one less of it is 0x0100 less. */
		checksum_update(&ip->check,
				(__u32)body->addr_csum + (__u16)~__builtin_bswap16(0x0100));
	} else {
		struct ipv6hdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));

		if (!ip)
			return -1;
		__builtin_memcpy(&ip->saddr, flow_src(flow, family), 32);
		ip->hop_limit--;
	}
	return 0;
}

#endif
