/* SPDX-License-Identifier: Apache-2.0 */
/* The programs of bpf/tc.bpf.c as functions. */
#define MAGLANE_NATIVE_HOOK HOOK_TC
#include "bpf/maps.h"
#include "bpf/ctx_native.h"
#include "bpf/pipeline.h"

int native_tc_uplink(struct native_packet *packet)
{
	return pipeline(packet, 0);
}

int native_tc_pod(struct native_packet *packet)
{
	return pipeline(packet, 1);
}
