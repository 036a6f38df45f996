/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Every exit of the pipeline is counted under its name, here. */
#ifndef MAGLANE_COUNT_H
#define MAGLANE_COUNT_H

#include "bpf/maps.h"

static __always_inline void count_bytes(enum reason reason, __u32 bytes)
{
	__u32 index = reason + CTX_HOOK * REASON_COUNT;
	struct counter *counter = bpf_map_lookup_elem(&counters, &index);

	if (!counter)
		return;
	counter->packets++;
	counter->bytes += bytes;
}

static __always_inline void count(const ctx_t *ctx, enum reason reason)
{
	count_bytes(reason, ctx_len(ctx));
}

/* A new connection of a service; id 0: of none. */
static __always_inline void count_connection(__u32 service_id)
{
	__u32 part = bpf_get_smp_processor_id() % SERVICE_COUNTER_PARTS;
	__u32 index = service_id + part * SERVICE_IDS;
	struct service_counter *counter;

	if (!service_id || service_id >= SERVICE_IDS)
		return;
	counter = bpf_map_lookup_elem(&service_counters, &index);
	if (counter)
		__sync_fetch_and_add(&counter->connections, 1);
}

static __always_inline int pass(const ctx_t *ctx, enum reason reason)
{
	count(ctx, reason);
	return CTX_PASS;
}

static __always_inline int drop(const ctx_t *ctx, enum reason reason)
{
	count(ctx, reason);
	return CTX_DROP;
}

#endif
