/* SPDX-License-Identifier: Apache-2.0 */
/* The program of bpf/xdp.bpf.c as a function. */
#define MAGLANE_NATIVE_HOOK HOOK_XDP
#include "bpf/maps.h"
#include "bpf/ctx_native.h"
#include "bpf/pipeline.h"

int native_xdp_uplink(struct native_packet *packet)
{
	return pipeline(packet, 0);
}
