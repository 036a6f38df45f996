/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table benchmark: what a program is told, in the packet of BPF_PROG_TEST_RUN, and what it
 * answers. One run does `count` operations in a loop; the same loop without the operation is
 * the empty program, whose time is taken off. C and C++.
 */
#ifndef MAGLANE_BENCH_TABLE_H
#define MAGLANE_BENCH_TABLE_H

#include <linux/types.h>

struct bench_call {
	__u8 ethernet[16];
	__u32 count;
	/* Operation i is on key first + (i * stride) % range: every one of the range comes up,
	 * in no order that a cache likes. */
	__u32 first;
	__u32 range;
	__u32 stride;
	__u64 done; /* result: operations that did what their name says */
};

#endif
