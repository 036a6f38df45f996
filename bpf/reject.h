/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * An ICMP error (RFC 792, RFC 1191, RFC 4443) in place of a packet, from the address that
 * was asked, back out of the device that the packet came from. It quotes the packet's headers
 * and the first bytes of what follows. No more of them are sent than config allows.
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
	/* type and code as they stand in the header's first two bytes */
	PORT_UNREACHABLE_IPV4 = 3 | 3 << 8,
	PORT_UNREACHABLE_IPV6 = 1 | 4 << 8,
	FRAGMENTATION_NEEDED = 3 | 4 << 8,
	PACKET_TOO_BIG = 2,
};

struct icmp_header {
	__u16 type_and_code;
	__u16 checksum;
	__be32 rest_be;
};

static __always_inline __u64 sum_words(const __u32 *words, int count)
{
	__u64 sum = 0;

	for (int i = 0; i < count; i++)
		sum += words[i];
	return sum;
}

/* `sum`: of all but the ICMP header and the quote. */
static __always_inline void icmp_fill(struct icmp_header *icmp, __u16 type_and_code, __be32 rest_be,
				      __u64 sum, const __u32 *quote)
{
	icmp->type_and_code = type_and_code;
	icmp->rest_be = rest_be;
	icmp->checksum =
		~checksum_fold(sum + type_and_code + rest_be + sum_words(quote, QUOTE_MAX / 4));
}

static __always_inline void refusal_ipv4(void *at, struct packet *packet, __u16 type_and_code,
					 __be32 rest_be, __u32 quoted, const __u32 *quote)
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
	icmp_fill(icmp, type_and_code, rest_be, 0, quote);
}

static __always_inline void refusal_ipv6(void *at, struct packet *packet, __u16 type_and_code,
					 __be32 rest_be, __u32 quoted, const __u32 *quote)
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
	icmp_fill(icmp, type_and_code, rest_be,
		  sum_words((const __u32 *)packet->tuple.t6.src_be, 8) + length +
			  __builtin_bswap16(IPPROTO_ICMPV6),
		  quote);
}

/* Whether this CPU may send an error now: a bucket that takes a second to fill. */
static __always_inline int refusal_allowed(struct refusal_budget *budget)
{
	const __u32 limit = config.refusals_per_second;
	__u64 now, ticks, earned;

	if (!limit)
		return 1;
	now = bpf_jiffies64();
	ticks = now - budget->refilled;
	earned = ticks < config.hz ? ticks * limit / (config.hz ? config.hz : 1) : limit;
	if (earned) {
		budget->left = budget->left + earned < limit ? budget->left + earned : limit;
		budget->refilled = now;
	}
	if (!budget->left)
		return 0;
	budget->left--;
	return 1;
}

static __always_inline int refuse_of(ctx_t *ctx, struct packet *packet, __u16 type_and_code,
				     __be32 rest_be, enum reason reason, int family)
{
	const __u32 header = family == FAMILY_IPV4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 room = header + sizeof(struct icmp_header);
	struct scratch *scratch = scratch_of(CTX_HOOK);
	const __u32 refused = ctx_len(ctx);
	__u32 quoted;
	struct ethhdr *ethernet;
	__u32 *quote;
	void *at;

	if (!packet || !scratch)
		return drop(ctx, REASON_REWRITE_FAILED);
	quoted = packet->ip_len;
	if (!refusal_allowed(&scratch->refusals))
		return drop(ctx, REASON_REFUSAL_RATE_LIMITED);
	quote = scratch->quote;
	ethernet = &scratch->ethernet;
	__builtin_memset(quote, 0, QUOTE_MAX);
	if (quoted > QUOTE_MAX)
		quoted = QUOTE_MAX;
	if (quoted < QUOTE_MIN || packet->l4_offset > MAX_HEADERS * 4 ||
	    ctx_load(ctx, L3_OFFSET, quote, quoted) || ctx_load(ctx, 0, ethernet, sizeof(*ethernet)))
		return drop(ctx, REASON_REWRITE_FAILED);
	if (family == FAMILY_IPV4)
		refusal_ipv4(scratch->refusal, packet, type_and_code, rest_be, quoted, quote);
	else
		refusal_ipv6(scratch->refusal, packet, type_and_code, rest_be, quoted, quote);
	if (ctx_remake(ctx, packet->l4_offset, L3_OFFSET + room + quoted) ||
	    ctx_store(ctx, L3_OFFSET, scratch->refusal, room) ||
	    ctx_store(ctx, L3_OFFSET + room, quote, quoted))
		return drop(ctx, REASON_REWRITE_FAILED);
	at = ctx_at(ctx, 0, L3_OFFSET);
	if (!at)
		return drop(ctx, REASON_REWRITE_FAILED);
	__builtin_memcpy(at, ethernet->h_source, ETH_ALEN);
	__builtin_memcpy(at + ETH_ALEN, ethernet->h_dest, ETH_ALEN);
	__builtin_memcpy(at + 2 * ETH_ALEN, &ethernet->h_proto, sizeof(ethernet->h_proto));
	count_bytes(reason, refused);
	return ctx_send(ctx, ctx_ifindex(ctx));
}

/* Several steps end with them. `what`: type and code. */
__weak int CTX_GLOBAL(refuse4)(ctx_t *ctx, struct packet *packet, __u32 what, __be32 rest_be,
			       __u32 reason)
{
	return refuse_of(ctx, packet, what, rest_be, reason, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(refuse6)(ctx_t *ctx, struct packet *packet, __u32 what, __be32 rest_be,
			       __u32 reason)
{
	return refuse_of(ctx, packet, what, rest_be, reason, FAMILY_IPV6);
}

static __always_inline int refuse(ctx_t *ctx, struct packet *packet, __u16 what, __be32 rest_be,
				  enum reason reason, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(refuse4)(ctx, packet, what, rest_be, reason)
				     : CTX_GLOBAL(refuse6)(ctx, packet, what, rest_be, reason);
}

/* Nobody is there: the sender is told so at once. */
static __always_inline int reject(ctx_t *ctx, struct packet *packet, enum reason reason, int family)
{
	return refuse(ctx, packet,
		      family == FAMILY_IPV4 ? PORT_UNREACHABLE_IPV4 : PORT_UNREACHABLE_IPV6, 0,
		      reason, family);
}

/*
 * Too long for the next hop: the sender is told what fits, also one that would have allowed
 * fragments, which the translated packet can not be made into here. Of IPv6 no link is
 * narrower than 1280 (RFC 8200 section 5).
 */
static __always_inline int too_big(ctx_t *ctx, struct packet *packet, __u32 mtu, int family)
{
	/* Not about later fragments (RFC 1122 section 3.2.2): their first one was told of. */
	if (*packet_kind(packet, family) & PACKET_LATER_FRAGMENT)
		return drop(ctx, REASON_FRAGMENT);
	if (family == FAMILY_IPV4)
		return refuse(ctx, packet, FRAGMENTATION_NEEDED, __builtin_bswap32(mtu),
			      REASON_TOO_BIG, family);
	if (mtu < IPV6_MIN_MTU)
		mtu = IPV6_MIN_MTU;
	return refuse(ctx, packet, PACKET_TOO_BIG, __builtin_bswap32(mtu), REASON_TOO_BIG, family);
}

#endif
