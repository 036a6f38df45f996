/* SPDX-License-Identifier: Apache-2.0 */
/* The program of bpf/egress.bpf.c as a function. */
#define MAGLANE_NATIVE_HOOK HOOK_TC_EGRESS
#include "bpf/maps.h"
#include "bpf/ctx_native.h"
#include "bpf/egress.h"

int native_tc_egress(struct native_packet *packet)
{
	return egress(packet);
}
