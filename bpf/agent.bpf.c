/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the agent runs with BPF_PROG_TEST_RUN: expiry of flows, and the flow clock. */
#include "bpf/maps.h"
#include "bpf/ctx_tc.h"
#include "bpf/expiry.h"

SEC("tc")
int expire(struct __sk_buff *ctx)
{
	expiry_run();
	return 0;
}

SEC("tc")
int clock(struct __sk_buff *ctx)
{
	expiry_note_clock();
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
