/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verbs of the packet path over bytes in memory; ctx_xdp.h says what each promises.
 * MAGLANE_NATIVE_HOOK (enum hook) says which hook is played: results and the limits of each
 * verb are that hook's own.
 */
#ifndef MAGLANE_CTX_NATIVE_H
#define MAGLANE_CTX_NATIVE_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include "bpf/native.h"
#include "bpf/checksum.h"
#include "bpf/native_packet.h"

typedef struct native_packet ctx_t;

/* One a hook: `name` and the hook's, as ctx_xdp.h has it. */
#define CTX_GLOBAL_AT(name, hook) name##_at_##hook
#define CTX_GLOBAL_OF(name, hook) CTX_GLOBAL_AT(name, hook)
#define CTX_GLOBAL(name)	  CTX_GLOBAL_OF(name, MAGLANE_NATIVE_HOOK)

enum {
	CTX_HOOK = MAGLANE_NATIVE_HOOK,
	NATIVE_AT_TC = (int)MAGLANE_NATIVE_HOOK != (int)HOOK_XDP,
	CTX_PASS = NATIVE_AT_TC ? TC_ACT_UNSPEC : (int)XDP_PASS,
	CTX_DROP = NATIVE_AT_TC ? TC_ACT_SHOT : (int)XDP_DROP,
	CTX_CAN_RESOLVE = NATIVE_AT_TC,
};

static __always_inline void *ctx_at(const ctx_t *ctx, __u32 offset, __u32 len)
{
	if (offset + len > ctx->linear)
		return NULL;
	return ctx->data + offset;
}

static __always_inline void ctx_pull(ctx_t *ctx, __u32 len)
{
	if (NATIVE_AT_TC && len > ctx->linear && len <= ctx->len)
		native_packet_pull(ctx, len);
}

static __always_inline __u32 ctx_len(const ctx_t *ctx)
{
	return ctx->len;
}

static __always_inline int ctx_is_gso(const ctx_t *ctx)
{
	return NATIVE_AT_TC && ctx->gso_segs > 1;
}

static __always_inline __u32 ctx_gso_size(const ctx_t *ctx)
{
	return ctx->gso_size;
}

static __always_inline int ctx_has_vlan(const ctx_t *ctx)
{
	return NATIVE_AT_TC && ctx->vlan_present;
}

static __always_inline int ctx_is_own(const ctx_t *ctx)
{
	return (int)CTX_HOOK == (int)HOOK_TC_EGRESS;
}

static __always_inline __u32 ctx_ifindex(const ctx_t *ctx)
{
	return ctx->ifindex;
}

static __always_inline int ctx_edit_l4(ctx_t *ctx, int family, __u8 protocol, __u32 l4, __u32 sum,
				       __u32 ports, __u16 addr_csum, __u16 port_csum, __u64 pseudo)
{
	__u8 *header;

	if (NATIVE_AT_TC)
		native_packet_pull(ctx, l4 + sum + sizeof(__u16));
	header = ctx_at(ctx, l4, sum + sizeof(__u16));
	if (!header)
		return -1;
	__builtin_memcpy(header, &ports, sizeof(ports));
	/* BPF_F_MARK_MANGLED_0 makes no difference between the families. */
	if (NATIVE_AT_TC && protocol == IPPROTO_UDP && !*(__u16 *)(header + sum))
		return 0;
	checksum_update_l4((__u16 *)(header + sum), family, protocol,
			   (__u32)addr_csum + port_csum);
	return 0;
}

static __always_inline void ctx_sum_changed(ctx_t *ctx, __u16 difference)
{
}

static __always_inline int ctx_load(ctx_t *ctx, __u32 offset, void *to, __u32 len)
{
	if (len == 0 || offset > ctx->len || len > ctx->len - offset)
		return -1;
	__builtin_memcpy(to, ctx->data + offset, len);
	return 0;
}

static __always_inline int ctx_store(ctx_t *ctx, __u32 offset, const void *from, __u32 len)
{
	if (len == 0 || offset > ctx->len || len > ctx->len - offset)
		return -1;
	if (NATIVE_AT_TC)
		native_packet_pull(ctx, offset + len);
	__builtin_memcpy(ctx->data + offset, from, len);
	return 0;
}

static __always_inline int ctx_remake(ctx_t *ctx, __u32 l4, __u32 len)
{
	if (native_packet_resize(ctx, len))
		return -1;
	__builtin_memset(ctx->data, 0xaa, len);
	return 0;
}

static __always_inline int ctx_can_send(const ctx_t *ctx, __u32 device)
{
	return NATIVE_AT_TC || (device & NEXT_HOP_XDP) || device == ctx->ifindex;
}

static __always_inline int ctx_send(ctx_t *ctx, __u32 device)
{
	device &= ~NEXT_HOP_XDP;
	ctx->sent_to = device;
	if (NATIVE_AT_TC)
		return TC_ACT_REDIRECT;
	return device == ctx->ifindex ? XDP_TX : XDP_REDIRECT;
}

static __always_inline int ctx_resolve(ctx_t *ctx, struct bpf_fib_lookup *route)
{
	ctx->sent_to = route->ifindex;
	ctx->resolved = *route;
	return NATIVE_AT_TC ? TC_ACT_REDIRECT : (int)XDP_ABORTED;
}

#endif
