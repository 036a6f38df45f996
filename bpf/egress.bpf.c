/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tc egress: on uplinks and pod devices of a node that has endpoints in its own network; on the
 * uplinks of one that masquerades its pods. */
#define MAGLANE_TC_EGRESS
#include "bpf/maps.h"
#include "bpf/ctx_tc.h"
#include "bpf/egress.h"

SEC("tc")
int tc_egress(struct __sk_buff *ctx)
{
	return egress(ctx);
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
