/* SPDX-License-Identifier: Apache-2.0 */
/* The programs of bpf/agent.bpf.c as functions. */
#define MAGLANE_NATIVE_HOOK HOOK_TC
#include "bpf/maps.h"
#include "bpf/ctx_native.h"
#include "bpf/expiry.h"
#include "bpf/forget.h"
#include "bpf/remove.h"

void native_expire(struct expire_call *call)
{
	expiry_run(call);
}

void native_forget(struct forget_call *call)
{
	forget_run(call);
}

void native_remove_flow(struct remove_call *call)
{
	union any_tuple key = {};

	if (call->family == FAMILY_IPV4) {
		key.t4 = call->tuple.t4;
		call->result = remove_result_of(remove_run(&key, FAMILY_IPV4));
	} else {
		key.t6 = call->tuple.t6;
		call->result = remove_result_of(remove_run(&key, FAMILY_IPV6));
	}
}

__u32 native_scratch_size(void)
{
	return sizeof(struct scratch);
}
