/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP port unreachable (RFC 792, RFC 4443 section 3.1) in place of a refused packet, from
 * the address that was asked, back out of the device that it came from. It quotes the
 * packet's headers and the first bytes of what follows.
 */
#ifndef MAGLANE_REJECT_H
#define MAGLANE_REJECT_H

#include <linux/if_ether.h>
#include "bpf/count.h"
#include "bpf/packet.h"
#include "bpf/parse.h"
#include "bpf/scratch.h"

enum {
	QUOTE_MIN = 28, /* an IPv4 header and 64 bits: RFC 792 */
	REPLY_TTL = 64,
	/* type and code of port unreachable, as they stand in the header's first two bytes */
	UNREACHABLE_IPV4 = 3 | 3 << 8,
	UNREACHABLE_IPV6 = 1 | 4 << 8,
};

struct icmp_header {
	__u16 type_and_code;
	__u16 checksum;
	__be32 unused;
};

static __always_inline __u64 sum_words(const __u32 *words, int count)
{
	__u64 sum = 0;

	for (int i = 0; i < count; i++)
		sum += words[i];
	return sum;
}

/* `sum`: of all but the quote. */
static __always_inline __u16 icmp_checksum(__u64 sum, const __u32 *quote)
{
	return ~checksum_fold(sum + sum_words(quote, QUOTE_MAX / 4));
}

static __always_inline void unreachable_ipv4(void *at, struct packet *packet, __u32 quoted,
					     const __u32 *quote)
{
	struct iphdr *ip = at;
	struct icmp_header *icmp = at + sizeof(*ip);

	__builtin_memset(ip, 0, sizeof(*ip) + sizeof(*icmp));
	ip->version = 4;
	ip->ihl = 5;
	ip->tot_len = __builtin_bswap16(sizeof(*ip) + sizeof(struct icmp_header) + quoted);
	ip->ttl = REPLY_TTL;
	ip->protocol = IPPROTO_ICMP;
	ip->saddr = packet->tuple.t4.dst_be;
	ip->daddr = packet->tuple.t4.src_be;
	ip->check = ~checksum_fold(sum_words((const __u32 *)ip, sizeof(*ip) / 4));
	icmp->type_and_code = UNREACHABLE_IPV4;
	icmp->checksum = icmp_checksum(UNREACHABLE_IPV4, quote);
}

static __always_inline void unreachable_ipv6(void *at, struct packet *packet, __u32 quoted,
					     const __u32 *quote)
{
	struct ipv6hdr *ip = at;
	struct icmp_header *icmp = at + sizeof(*ip);
	__u16 length = __builtin_bswap16(sizeof(struct icmp_header) + quoted);

	__builtin_memset(ip, 0, sizeof(*ip) + sizeof(*icmp));
	ip->version = 6;
	ip->payload_len = length;
	ip->nexthdr = IPPROTO_ICMPV6;
	ip->hop_limit = REPLY_TTL;
	__builtin_memcpy(&ip->saddr, packet->tuple.t6.dst_be, 16);
	__builtin_memcpy(&ip->daddr, packet->tuple.t6.src_be, 16);
	icmp->type_and_code = UNREACHABLE_IPV6;
	icmp->checksum = icmp_checksum(UNREACHABLE_IPV6 +
					       sum_words((const __u32 *)packet->tuple.t6.src_be, 8) +
					       length + __builtin_bswap16(IPPROTO_ICMPV6),
				       quote);
}

static __always_inline int reject(ctx_t *ctx, struct packet *packet, enum reason reason, int family)
{
	const __u32 header = family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 room = header + sizeof(struct icmp_header);
	struct scratch *scratch = scratch_of(CTX_HOOK);
	const __u32 refused = ctx_len(ctx);
	__u32 quoted = packet->ip_len;
	struct ethhdr ethernet;
	__u32 *quote;
	void *at;

	if (!scratch)
		return drop(ctx, REASON_REWRITE_FAILED);
	quote = scratch->quote;
	__builtin_memset(quote, 0, QUOTE_MAX);
	if (quoted > QUOTE_MAX)
		quoted = QUOTE_MAX;
	if (quoted < QUOTE_MIN || ctx_load(ctx, L3_OFFSET, quote, quoted) ||
	    ctx_load(ctx, 0, &ethernet, sizeof(ethernet)))
		return drop(ctx, REASON_REWRITE_FAILED);
	/* The packet stays where it is and becomes the quote. */
	if (ctx_push(ctx, room) || ctx_trim(ctx, L3_OFFSET + room + quoted))
		return drop(ctx, REASON_REWRITE_FAILED);
	at = ctx_at(ctx, 0, L3_OFFSET + room);
	if (!at)
		return drop(ctx, REASON_REWRITE_FAILED);
	__builtin_memcpy(at, ethernet.h_source, ETH_ALEN);
	__builtin_memcpy(at + ETH_ALEN, ethernet.h_dest, ETH_ALEN);
	__builtin_memcpy(at + 2 * ETH_ALEN, &ethernet.h_proto, sizeof(ethernet.h_proto));
	if (family == FAMILY_IPV4)
		unreachable_ipv4(at + L3_OFFSET, packet, quoted, quote);
	else
		unreachable_ipv6(at + L3_OFFSET, packet, quoted, quote);
	count_bytes(reason, refused);
	return ctx_send(ctx, ctx_ifindex(ctx));
}

#endif
