/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The Internet checksum and its incremental update (RFC 1071, RFC 1624 equation 3). A
 * difference is the folded one's complement sum of new words and complemented old words.
 */
#ifndef MAGLANE_CHECKSUM_H
#define MAGLANE_CHECKSUM_H

#include <linux/in.h>
#include "bpf/maps.h"

static __always_inline __u16 checksum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Adds the words of `to` and takes out those of `from`; sum with checksum_fold. */
static __always_inline __u64 checksum_replace_words(__u64 sum, const __be32 *from, const __be32 *to,
						    int words)
{
	for (int i = 0; i < words; i++)
		sum += (__u64)(__u32)~from[i] + to[i];
	return sum;
}

/* What replacing one word by another adds to a sum over both. */
static __always_inline __u32 checksum_difference(__u16 from, __u16 to)
{
	return (__u32)(__u16)~from + to;
}

/* *sum is a checksum as it stands in a header; difference: below 2^18. */
static __always_inline void checksum_update(__u16 *sum, __u32 difference)
{
	__u32 updated = (__u16)~*sum + difference;

	updated = (updated & 0xffff) + (updated >> 16);
	updated = (updated & 0xffff) + (updated >> 16);
	*sum = ~updated;
}

/* The same for TCP and UDP: with UDP over IPv4 a checksum of 0 means none and stays, and a
 * sum that comes out as 0 is written as 0xffff (RFC 768). */
static __always_inline void checksum_update_l4(__u16 *sum, int family, __u8 protocol,
					       __u32 difference)
{
	if (protocol == IPPROTO_UDP && family == FAMILY_IPV4 && !*sum)
		return;
	checksum_update(sum, difference);
	if (protocol == IPPROTO_UDP && !*sum)
		*sum = 0xffff;
}

#endif
