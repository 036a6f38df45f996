/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Room for what new connections and other rare work need and the 512 bytes of a BPF stack do
 * not have. One for each CPU and hook: programs of one hook do not interrupt each other, and
 * what user space calls has its own.
 */
#ifndef MAGLANE_SCRATCH_H
#define MAGLANE_SCRATCH_H

#include <linux/bpf.h>
#include "bpf/flow.h"

enum {
	SCRATCHES = HOOKS + 1,
	SCRATCH_CALL = HOOKS, /* programs that user space calls */
	QUOTE_MAX = 128,
};

/* A connection to be made. */
struct connection {
	__be32 src_be[4]; /* after translation */
	__be32 dst_be[4];
	__be16 dst_port_be;
	__u8 source_translated;
	__u8 flags; /* enum flow_flag: what both directions have */
	__u32 backend_id;
	__u32 service_id;
	__u32 pad2;
	__u64 hash;
};

/* The search for a free reverse tuple. */
struct reservation {
	union any_tuple reverse; /* the tuple to reserve; its destination port is what varies */
	union any_flow flow;	 /* what goes there */
	__u32 hash;
	__be16 own_port_be;
	__u8 source_translated;
	__u8 protocol;
	__u8 seen; /* of the connection, as its forward flow has it */
	__u8 reason; /* enum reason: why it failed; REASON_COUNT: reserved */
	__u8 found;  /* the reverse flow was there already */
	__u8 flags;  /* enum flow_flag: what both directions have */
	__u8 pad[4];
};

/* The endpoint that a client is held to, looked for in a Maglev table. */
struct affinity_search {
	struct affinity_key key;
	struct table_ref table;
	__u32 backend_id;
	__u32 position;
	__u32 found;
	struct affinity made;
};

struct scratch {
	struct connection connection;
	struct reservation reservation;
	struct affinity_search affinity_search;
	struct source_range_key source_range;
	struct flow other; /* somebody else's, looked at in passing */
	struct bpf_fib_lookup route;
	__u32 quote[QUOTE_MAX / 4];
};

#ifdef __bpf__
MAGLANE_MAP(scratches, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct scratch, SCRATCHES, 0);
#endif

static __always_inline struct scratch *scratch_of(__u32 which)
{
	return bpf_map_lookup_elem(&scratches, &which);
}

#endif
