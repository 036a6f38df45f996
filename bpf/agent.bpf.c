/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the agent and the inspector run with BPF_PROG_TEST_RUN. The packet is the call: a
 * structure of abi.h that the program reads its arguments from and writes its results to.
 */
#include "bpf/maps.h"
#include "bpf/ctx_tc.h"
#include "bpf/adopt.h"
#include "bpf/expiry.h"
#include "bpf/forget.h"
#include "bpf/remove.h"

/* Expires flows of some buckets: struct expire_call. */
SEC("tc")
int expire(struct __sk_buff *ctx)
{
	return expiry_answer(ctx);
}

/* Forgets flows of endpoints that are gone, in some buckets: struct forget_call. */
SEC("tc")
int forget(struct __sk_buff *ctx)
{
	struct forget_call *at = ctx_at(ctx, 0, sizeof(*at));
	struct forget_call call;

	if (!at)
		return CTX_DROP;
	call = *at;
	forget_run(&call);
	at = ctx_at(ctx, 0, sizeof(*at));
	if (at)
		*at = call;
	return 0;
}

/* Makes flows of a table that is being replaced: struct adopt_call. */
SEC("tc")
int adopt(struct __sk_buff *ctx)
{
	struct adopt_call *at = ctx_at(ctx, 0, sizeof(*at));
	struct adopt_call call;

	if (!at)
		return CTX_DROP;
	call = *at;
	if (call.family == FAMILY_IPV4)
		adopt_run(ctx, &call, FAMILY_IPV4);
	else
		adopt_run(ctx, &call, FAMILY_IPV6);
	at = ctx_at(ctx, 0, sizeof(*at));
	if (at)
		*at = call;
	return 0;
}

/* Tells the flow clock: struct clock_call. */
SEC("tc")
int clock(struct __sk_buff *ctx)
{
	struct clock_call *call = ctx_at(ctx, 0, sizeof(*call));

	if (!call)
		return CTX_DROP;
	call->jiffies = bpf_jiffies64();
	call->slot_shift = config.slot_shift;
	call->hz = config.hz;
	return 0;
}

/* Removes one direction of a flow: struct remove_call. */
SEC("tc")
int remove_flow(struct __sk_buff *ctx)
{
	struct remove_call *call = ctx_at(ctx, 0, sizeof(*call));
	union any_tuple key = {};
	int result;

	if (!call)
		return CTX_DROP;
	if (call->family == FAMILY_IPV4) {
		key.t4 = call->tuple.t4;
		result = remove_run(&key, FAMILY_IPV4);
	} else {
		key.t6 = call->tuple.t6;
		result = remove_run(&key, FAMILY_IPV6);
	}
	call = ctx_at(ctx, 0, sizeof(*call));
	if (call)
		call->result = remove_result_of(result);
	return 0;
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
