/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Frontends: is this destination one of ours? This header alone knows their table. */
#ifndef MAGLANE_FRONTEND_H
#define MAGLANE_FRONTEND_H

#include "bpf/maps.h"
#include "bpf/packet.h"
#include "bpf/table.h"

/* False: no frontend has this address. One bit, no look-up. */
static __always_inline int frontend_may_have(const __be32 addr_be[4])
{
	__u32 zero = 0;
	__u32 bit = vip_hash(addr_be);
	struct vip_bits *bits = bpf_map_lookup_elem(&vip_bits, &zero);

	return bits && (bits->word[(bit / 64) & (VIP_WORDS - 1)] >> (bit % 64)) & 1;
}

union frontend_words {
	struct frontend_key key;
	__u64 words[3];
};

static __always_inline __u32 frontend_scan_at(void *bucket, const __u64 *key, __u8 tag);

static const struct table_shape frontend_shape = {
	TABLE_SHAPE_FRONTEND,
	.scan = frontend_scan_at,
};

/* Global and weak: see flow.h. */
__weak int frontend_scan(struct frontend_bucket *bucket, const union frontend_words *key, __u8 tag)
{
	return bucket && key ? table_scan(bucket, key->words, tag, frontend_shape) : TABLE_SLOTS;
}

static __always_inline __u32 frontend_scan_at(void *bucket, const __u64 *key, __u8 tag)
{
	return frontend_scan(bucket, (const union frontend_words *)key, tag);
}

static __always_inline struct table_place frontend_place(const union frontend_words *key)
{
	return table_place(table_hash(&config.seed, key->words, frontend_shape),
			   config.frontend_buckets);
}

static __always_inline table_location frontend_search_of(const union frontend_words *key)
{
	const struct table_place place = frontend_place(key);

	return table_search(&frontends, key->words, &place, frontend_shape);
}

/* Global and weak: see flow.h. */
__weak int frontend_search(const union frontend_words *key)
{
	return key ? frontend_search_of(key) : TABLE_NOWHERE;
}

/* Of struct packet: the index of its frontend's value, or one of these. */
enum {
	FRONTEND_NONE = 0xffffffff,
	FRONTEND_NOT_ASKED = 0xfffffffe,
	FRONTEND_CHOSEN = 0xfffffffd, /* there is one, and all of scratch->connection */
};

static __always_inline __u32 frontend_index_at(table_location location)
{
	const struct frontend_entry *entry = table_at(&frontends, location, frontend_shape);

	return entry ? table_load32(&entry->value) : (__u32)FRONTEND_NONE;
}

/* For new connections, without a call where it is in its home slot, as most are. */
static __always_inline __u32 frontend_index(const union frontend_words *key)
{
	const struct table_place place = frontend_place(key);

	return frontend_index_at(
		table_search_from_home(&frontends, key->words, &place, frontend_shape));
}

/* The agent gives no slot and no value away again before every program that may have found
 * it has ended (an RCU grace period), so what is returned may be read without more ado. */
static __always_inline const struct frontend *frontend_value(__u32 index)
{
	return bpf_map_lookup_elem(&frontend_values, &index);
}

static __always_inline const struct frontend *frontend_find(const union frontend_words *key)
{
	return frontend_value(frontend_index_at(frontend_search(key)));
}

/* True: a service has this address, whatever the port. Node addresses are not among them.
 * Leaves the key without port and protocol. */
static __always_inline int frontend_is_service_address(union frontend_words *key)
{
	key->key.port_be = 0;
	key->key.protocol = 0;
	return frontend_find(key) != NULL;
}

static __always_inline int in_service_cidr(const __be32 *address, int family)
{
	for (int i = 0; i < MAX_SERVICE_CIDRS && config.service_cidrs[i].family; i++)
		if (prefix_contains(&config.service_cidrs[i], address, family))
			return 1;
	return 0;
}

#endif
