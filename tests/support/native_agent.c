/* SPDX-License-Identifier: Apache-2.0 */
/* The program "expire" of bpf/agent.bpf.c as a function. */
#define MAGLANE_NATIVE_HOOK HOOK_TC
#include "bpf/maps.h"
#include "bpf/ctx_native.h"
#include "bpf/expiry.h"

void native_expire(void)
{
	expiry_run();
}
