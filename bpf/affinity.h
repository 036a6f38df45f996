/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Session affinity by client address: each new connection of a client goes where its last one
 * went, as long as that is not too long ago and the endpoint is in the frontend's table.
 *
 * Whether it is, the table itself tells: first where it was seen last, then by looking
 * through the table, which only a client's first connection after a change of the table
 * comes to, and which ends, on average, after as many entries as there are endpoints.
 */
#ifndef MAGLANE_AFFINITY_H
#define MAGLANE_AFFINITY_H

#include "bpf/flow.h"
#include "bpf/scratch.h"
#include "bpf/select.h"

/* A line of the table in which the endpoint is looked for. */
static long affinity_look_at(__u32 n, struct affinity_search **context)
{
	struct affinity_search *search = *context;
	__u32 line = search->table.offset / MAGLEV_LINE_ENTRIES + n;
	const struct maglev_line *ids = bpf_map_lookup_elem(&maglev, &line);

	if (!ids)
		return 1;
	for (__u32 i = 0; i < MAGLEV_LINE_ENTRIES; i++) {
		__u32 position = n * MAGLEV_LINE_ENTRIES + i;

		if (position >= search->table.size)
			return 1;
		if (ids->backend_id[i] == search->backend_id) {
			search->position = position;
			search->found = 1;
			return 1;
		}
	}
	return 0;
}

/* Whether the table has the endpoint: search->position says where. */
static __always_inline int affinity_find(struct affinity_search *search,
					 const struct table_ref *table,
					 const struct affinity *known)
{
	const __u32 *entry;

	search->table = *table;
	search->backend_id = known->backend_id;
	search->position = known->position;
	search->found = 0;
	if (search->position < table->size) {
		entry = maglev_entry(table->offset + search->position);
		if (entry && *entry == search->backend_id)
			return 1;
	}
	bpf_loop((table->size + MAGLEV_LINE_ENTRIES - 1) / MAGLEV_LINE_ENTRIES, affinity_look_at,
		 &search, 0);
	return search->found;
}

static __always_inline int affinity_is_fresh(const struct frontend *frontend,
					     const struct affinity *known, __u32 now)
{
	__u64 idle = (__u64)idle_slots(now, known->slot) << config.slot_shift;

	return idle < (__u64)frontend->affinity_seconds * config.hz;
}

/* Holds a client that has no endpoint yet, or must leave its own, to the one at `position`. */
static __always_inline __u32 affinity_pick(struct affinity_search *search,
					   const struct table_ref *table, __u32 position, __u32 now,
					   const struct affinity *before)
{
	const __u32 *entry = maglev_entry(table->offset + position);
	const struct affinity *first;

	if (!entry)
		return 0;
	__builtin_memset(&search->made, 0, sizeof(search->made));
	search->made.backend_id = *entry;
	search->made.position = position;
	search->made.slot = now;
	if (!bpf_map_update_elem(&affinity, &search->key, &search->made,
				 before ? BPF_ANY : BPF_NOEXIST))
		return search->made.backend_id;
	/* Another connection of this client, on another CPU, was faster. */
	first = bpf_map_lookup_elem(&affinity, &search->key);
	return first && affinity_find(search, table, first) ? search->backend_id :
							      search->made.backend_id;
}

/* The id of the client's backend, 0 if the table is wrong. REQUIRES: table->size > 0,
 * frontend->affinity_seconds > 0, the client's address in search->key. */
static __always_inline __u32 affinity_select_with(struct affinity_search *search,
						  const struct frontend *frontend,
						  const struct table_ref *table, __u64 hash)
{
	struct affinity *known;
	__u32 now = clock_slot();

	search->key.service_id = frontend->service_id;
	known = bpf_map_lookup_elem(&affinity, &search->key);
	if (!known || !affinity_is_fresh(frontend, known, now) ||
	    !affinity_find(search, table, known))
		return affinity_pick(search, table, maglev_position(hash, table->size), now, known);
	if (known->slot != now || known->position != search->position) {
		known->position = search->position;
		known->slot = now;
	}
	return search->backend_id;
}

/* The same with the scratch's search. A function of its own: its variables are not on the stack
 * where flows are made. */
static __noinline __u32 affinity_select(const struct frontend *frontend,
					const struct table_ref *table, __u64 hash)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);

	return scratch ? affinity_select_with(&scratch->affinity_search, frontend, table, hash) : 0;
}

#endif
