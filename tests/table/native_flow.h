/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/flow.h for one IPv4 table, as functions. C and C++. Whoever links it defines `config`. */
#ifndef MAGLANE_TESTS_NATIVE_FLOW_H
#define MAGLANE_TESTS_NATIVE_FLOW_H

#include "tests/table/native_table.h"

#ifdef __cplusplus
extern "C" {
using maglane::abi::flow4;
using maglane::abi::flow_bits;
using maglane::abi::tuple4;
#endif

/* As struct flow of bpf/flow.h. */
struct native_found {
	union {
		struct flow4 flow;
		__u64 words[NATIVE_ANSWER_WORDS_MAX];
	};
	__u32 meta;
	__s32 location;
};

/* The flows and the time that all of these work with. */
void native_flows(struct native_table *table);
/* The table that hooks still use which have programs of before; NULL: none. */
void native_retired_flows(struct native_table *table);
void native_set_slot(__u32 slot);
/* Map "flow_bits". */
struct flow_bits *native_flow_bits(void);

int native_flow_insert(const struct tuple4 *key, const struct flow4 *flow, __u8 seen);
int native_flow_find(const struct tuple4 *key, struct native_found *found);
int native_flow_is_there(const struct tuple4 *key);
void native_flow_remove_pair(const struct tuple4 *key, struct native_found *found);
void native_flow_note_seen(const struct tuple4 *key, struct native_found *found, __u8 seen);
void native_flow_store_hop(const struct tuple4 *key, struct native_found *found);
void native_flow_repair_twin(const struct tuple4 *key, struct native_found *found);
/* The other direction of a flow, its key and what it is. */
void native_flow_twin(const struct tuple4 *key, struct flow4 *flow, struct tuple4 *twin_key,
		      struct flow4 *twin);
__u32 native_flow_rank(const struct tuple4 *key, const struct flow4 *flow, __u8 seen, __u32 now);

#ifdef __cplusplus
}
#endif

#endif
