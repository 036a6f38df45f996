/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* XDP on each uplink. */
#include "bpf/maps.h"
#include "bpf/ctx_xdp.h"
#include "bpf/pipeline.h"

SEC("xdp")
int xdp_uplink(struct xdp_md *ctx)
{
	return pipeline(ctx, 0);
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
