/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The packet benchmark, BPF side. BPF_PROG_TEST_RUN runs a program again and again on the same
 * frame, which the program changes: so each run first writes the headers of the next flow over
 * it. That costs the same in the empty program, whose figure is taken off.
 *
 * The flows differ in the low 32 bits of the client's address, which are written, with the
 * checksums, into a template. Shared with user space.
 */
#ifndef MAGLANE_BENCH_H
#define MAGLANE_BENCH_H

#include <linux/types.h>

enum { BENCH_HEADER_MAX = 80 };

struct bench_state {
	__u64 header[BENCH_HEADER_MAX / 8]; /* of client number 0, whose low 16 bits are 0 */
	__u32 header_size;                  /* 54 (IPv4) or 74 (IPv6) bytes, to the end of TCP's */
	__u32 address_at; /* where the low 32 bits of the client's address are */
	__u32 flows;
	__u32 stride; /* from one flow to the next: all come up, in no order that a cache likes */
	__u32 flow;   /* the next one */
	__u32 pad;
	__u64 done; /* by the kernel's map: found, or inserted */
};

/* 16 bytes, as a tuple of IPv4 is. */
struct bench_key {
	__u32 words[4];
};

/* 40, as one of IPv6 is. */
struct bench_key6 {
	__u32 words[10];
};

#endif
