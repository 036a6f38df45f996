/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which endpoint a new connection goes to. */
#ifndef MAGLANE_SELECT_H
#define MAGLANE_SELECT_H

#include "bpf/maps.h"
#include "bpf/packet.h"

/*
 * The finaliser of splitmix64 (Steele, Lea, Flood 2014): every input bit reaches every
 * output bit.
 */
static __always_inline __u64 mix(__u64 value)
{
	value ^= value >> 30;
	value *= 0xbf58476d1ce4e5b9ULL;
	value ^= value >> 27;
	value *= 0x94d049bb133111ebULL;
	return value ^ (value >> 31);
}

/*
 * A hash of the connection as its client sees it. The same on every node and in every
 * release, so that a connection that comes to another node finds the same endpoint: no
 * seed, and never changed.
 */
static __always_inline __u64 connection_hash(void *tuple, int family)
{
	__u64 hash = ((__u64)*tuple_src_port(tuple, family) << 24) |
		     ((__u64)*tuple_dst_port(tuple, family) << 8) | *tuple_protocol(tuple, family);

	for (int i = 0; i < ADDR_WORDS(family); i++)
		hash = mix(hash + (((__u64)tuple_src(tuple, family)[i] << 32) |
				   tuple_dst(tuple, family)[i]));
	return hash;
}

/* Whether the source counts as a pod of the cluster (enum source_class). */
static __always_inline enum source_class source_class(struct packet *packet, int family)
{
	if (packet->from_pod)
		return SOURCE_POD;
	for (int i = 0; i < MAX_POD_CIDRS; i++)
		if (prefix_contains(&config.pod_cidrs[i], tuple_src(&packet->tuple, family), family))
			return SOURCE_POD;
	return SOURCE_OUTSIDE;
}

/* REQUIRES: table->size > 0. The id's backend, or NULL if the table is wrong. */
static __always_inline const struct backend *select_backend(const struct table_ref *table,
							    __u64 hash, int family, __u32 *id)
{
	__u32 entry = table->offset + (__u32)(((hash >> 32) * table->size) >> 32);
	__u32 line = entry / MAGLEV_LINE_ENTRIES;
	const struct maglev_line *ids = bpf_map_lookup_elem(&maglev, &line);
	const struct backend *backend;

	if (!ids)
		return NULL;
	*id = ids->backend_id[entry % MAGLEV_LINE_ENTRIES];
	backend = bpf_map_lookup_elem(&backends, id);
	return backend && backend->family == family ? backend : NULL;
}

#endif
