/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tc ingress: on uplinks what XDP left, or all of it; on pod devices what pods send. */
#include "bpf/maps.h"
#include "bpf/ctx_tc.h"
#include "bpf/pipeline.h"

SEC("tc")
int tc_uplink(struct __sk_buff *ctx)
{
	return pipeline(ctx, 0);
}

SEC("tc")
int tc_pod(struct __sk_buff *ctx)
{
	return pipeline(ctx, 1);
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
