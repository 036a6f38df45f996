/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "bpf/maps.h"
#include "bpf/ctx_xdp.h"
#include "bpf/pipeline.h"
#include "tests/bench/packet/bench_program.h"

SEC("xdp")
int xdp_empty(struct xdp_md *ctx)
{
	return bench_empty(ctx);
}

SEC("xdp")
int xdp_kernel_hash(struct xdp_md *ctx)
{
	return bench_kernel_hash(ctx);
}

SEC("xdp")
int xdp_kernel_lru(struct xdp_md *ctx)
{
	return bench_kernel_lru(ctx);
}

SEC("xdp")
int xdp_pipeline(struct xdp_md *ctx)
{
	return bench_pipeline(ctx);
}

SEC("xdp")
int xdp_until_filter(struct xdp_md *ctx)
{
	return bench_until(ctx, BENCH_FILTER);
}

SEC("xdp")
int xdp_until_parse(struct xdp_md *ctx)
{
	return bench_until(ctx, BENCH_PARSE);
}

SEC("xdp")
int xdp_until_find(struct xdp_md *ctx)
{
	return bench_until(ctx, BENCH_FIND);
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
