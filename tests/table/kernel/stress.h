/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What stress.bpf.c is told and what it answers. C and C++. */
#ifndef MAGLANE_TESTS_TABLE_STRESS_H
#define MAGLANE_TESTS_TABLE_STRESS_H

#include "bpf/abi.h"

/* What must never happen. */
enum stress_fault {
	STRESS_MIXED,	   /* an answer of two entries, or half of one */
	STRESS_OTHERS_BIT, /* a state bit that was meant for another key */
	STRESS_DOUBLED,	   /* an insert went in although the key was there */
	STRESS_LOST,	   /* a key that nobody removed is not found */
	STRESS_NOT_REMOVED,
	STRESS_FAULTS,
};

enum { STRESS_RESULTS = 5, STRESS_TOKENS = 256, STRESS_PROTOCOL = 17 };

/*
 * Keys below `owned` are of established flows: a token in the map "tokens", taken and given
 * back around each insert and remove, shows at once what is lost or doubled. The `loose` ones
 * after them are embryonic or long expired, and given up for others.
 */
struct stress_call {
#ifdef __cplusplus
	maglane::abi::call_header header;
#else
	struct call_header header;
#endif
	__u32 operations;
	__u32 random; /* other than 0 */
	__u32 owned;
	__u32 loose;
	__u32 buckets;
	__u32 pad;
	/* Results. */
	__u64 faults[STRESS_FAULTS];
	__u64 inserts[STRESS_RESULTS]; /* by enum table_result */
	__u64 finds[STRESS_RESULTS];
	__u64 removes[STRESS_RESULTS];
	__u64 changes;
	__u64 expired;
};

#endif
