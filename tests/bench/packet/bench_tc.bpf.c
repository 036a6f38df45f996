/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "bpf/maps.h"
#include "bpf/ctx_tc.h"
#include "bpf/pipeline.h"
#include "tests/bench/packet/bench_program.h"

SEC("tc")
int tc_empty(struct __sk_buff *ctx)
{
	return bench_empty(ctx);
}

SEC("tc")
int tc_kernel_hash(struct __sk_buff *ctx)
{
	return bench_kernel_hash(ctx);
}

SEC("tc")
int tc_kernel_lru(struct __sk_buff *ctx)
{
	return bench_kernel_lru(ctx);
}

SEC("tc")
int tc_pipeline(struct __sk_buff *ctx)
{
	return bench_pipeline(ctx);
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
