/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which endpoint a new connection goes to, and whether it may. */
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

/* Whether an address is one that pods of the cluster have, by the CIDRs that count. */
static __always_inline int is_pod_address(const __be32 *address, int family)
{
	if (config.pods_by & PODS_BY_CLUSTER_CIDR)
		for (int i = 0; i < MAX_POD_CIDRS && config.pod_cidrs[i].family; i++)
			if (prefix_contains(&config.pod_cidrs[i], address, family))
				return 1;
	if (config.pods_by & PODS_BY_NODE_CIDR) {
		__u32 zero = 0;
		const struct node_state *state = bpf_map_lookup_elem(&node_state, &zero);

		for (int i = 0; state && i < NODE_POD_CIDRS; i++)
			if (prefix_contains(&state->pod_cidrs[i], address, family))
				return 1;
	}
	return 0;
}

/* Whether the source counts as a pod of the cluster (enum source_class). */
static __always_inline enum source_class source_class(struct packet *packet, int family)
{
	if (packet->from_pod && config.pods_by & PODS_BY_DEVICE)
		return SOURCE_POD;
	return is_pod_address(tuple_src(&packet->tuple, family), family) ? SOURCE_POD :
									   SOURCE_OUTSIDE;
}

/* The node's primary address, by which others know it. 0: it has none of the family. */
static __always_inline int node_address(__be32 *address, int family)
{
	__u32 zero = 0;
	struct node_state *state = bpf_map_lookup_elem(&node_state, &zero);

	if (!state)
		return 0;
	addr_copy(address, family == FAMILY_IPV4 ? &state->addr4_be : state->addr6_be, family);
	if (family == FAMILY_IPV4)
		return address[0] != 0;
	return (address[0] | address[1] | address[2] | address[3]) != 0;
}

/* Whether the source may open connections to a frontend with FRONTEND_SOURCE_RANGES. */
static __always_inline int source_allowed(const struct frontend *frontend, const __be32 *source,
					  struct source_range_key *key, int family)
{
	key->prefix_bits = SOURCE_RANGE_BITS + (family == FAMILY_IPV4 ? 32 : 128);
	key->service_id = frontend->service_id;
	key->family = family;
	addr_widen(key->addr_be, source, family);
	return bpf_map_lookup_elem(&source_ranges, key) != NULL;
}

static __always_inline const __u32 *maglev_entry(__u32 entry)
{
	__u32 line = entry / MAGLEV_LINE_ENTRIES;
	const struct maglev_line *ids = bpf_map_lookup_elem(&maglev, &line);

	return ids ? &ids->backend_id[entry % MAGLEV_LINE_ENTRIES] : NULL;
}

/* Where in a table of this size a connection belongs. */
static __always_inline __u32 maglev_position(__u64 hash, __u32 size)
{
	return ((hash >> 32) * size) >> 32;
}

static __always_inline const struct backend *backend_of(const __u32 *id, int family)
{
	const struct backend *backend = bpf_map_lookup_elem(&backends, id);

	return backend && backend->family == family ? backend : NULL;
}

/* REQUIRES: table->size > 0. A backend's id, or 0 if the table is wrong. */
static __always_inline __u32 maglev_select(const struct table_ref *table, __u64 hash)
{
	const __u32 *entry = maglev_entry(table->offset + maglev_position(hash, table->size));

	return entry ? *entry : 0;
}

#endif
