/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The verbs of the packet path at tc; ctx_xdp.h says what each promises. */
#ifndef MAGLANE_CTX_TC_H
#define MAGLANE_CTX_TC_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "bpf/checksum.h"
#include "bpf/maps.h"

typedef struct __sk_buff ctx_t;

#ifdef MAGLANE_TC_EGRESS
#define MAGLANE_TC_HOOK	 HOOK_TC_EGRESS
#define CTX_GLOBAL(name) name##_tc_egress
#else
#define MAGLANE_TC_HOOK HOOK_TC
#define CTX_GLOBAL(name) name##_tc
#endif

enum {
	CTX_HOOK = MAGLANE_TC_HOOK,
	/* At tcx this is TCX_NEXT, at clsact TC_ACT_UNSPEC: the next program has its say. */
	CTX_PASS = TC_ACT_UNSPEC,
	CTX_DROP = TC_ACT_SHOT,
	CTX_CAN_RESOLVE = 1,
};

static __always_inline void *ctx_at(const ctx_t *ctx, __u32 offset, __u32 len)
{
	void *data = (void *)(long)ctx->data;

	if (data + offset + len > (void *)(long)ctx->data_end)
		return NULL;
	return data + offset;
}

static __always_inline void ctx_pull(ctx_t *ctx, __u32 len)
{
	if (ctx->data + len > ctx->data_end && len <= ctx->len)
		bpf_skb_pull_data(ctx, len);
}

static __always_inline __u32 ctx_len(const ctx_t *ctx)
{
	return ctx->len;
}

static __always_inline int ctx_is_gso(const ctx_t *ctx)
{
	return ctx->gso_segs > 1;
}

/* Bytes of layer 4 payload that each segment of such a frame gets. */
static __always_inline __u32 ctx_gso_size(const ctx_t *ctx)
{
	return ctx->gso_size;
}

static __always_inline int ctx_has_vlan(const ctx_t *ctx)
{
	return ctx->vlan_present;
}

static __always_inline int ctx_is_own(const ctx_t *ctx)
{
	return !ctx->ingress_ifindex;
}

static __always_inline __u32 ctx_ifindex(const ctx_t *ctx)
{
	return ctx->ifindex;
}

/*
 * Where a device has still to make the checksum (CHECKSUM_PARTIAL), the field holds the sum of
 * the pseudo header (Linux, Documentation/networking/checksum-offloads.rst). No other frame may
 * be taken for one of these; the reverse does no harm.
 */
static __always_inline int sum_may_be_partial(const ctx_t *ctx, __u16 field, __u64 pseudo)
{
	return ctx_is_gso(ctx) || !field || field == 0xffff || field == checksum_fold(pseudo);
}

/*
 * The helper knows what a frame's checksum is; it costs as much as the rest of the path. With
 * BPF_F_PSEUDO_HDR it also takes the difference out of a checksum over the whole frame
 * (CHECKSUM_COMPLETE), which is right for IPv4, where the header's own checksum makes up for
 * the addresses, and wrong for IPv6: there it is put back.
 */
static __always_inline int edit_sum_by_helper(ctx_t *ctx, int family, __u8 protocol, __u32 offset,
					      __u16 addr_csum, __u16 port_csum)
{
	__u64 flags = protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;

	if (bpf_l4_csum_replace(ctx, offset, 0, addr_csum, flags | BPF_F_PSEUDO_HDR))
		return -1;
	if (family == FAMILY_IPV6)
		bpf_csum_update(ctx, addr_csum);
	if (port_csum && bpf_l4_csum_replace(ctx, offset, 0, port_csum, flags))
		return -1;
	return 0;
}

static __always_inline int ctx_edit_l4(ctx_t *ctx, int family, __u8 protocol, __u32 l4, __u32 sum,
				       __u32 ports, __u16 addr_csum, __u16 port_csum, __u64 pseudo)
{
	void *header;

	/* What is used is what the caller compared with its bound, not a copy put aside before:
	 * the verifier of Linux 6.1 does not take the two for one. */
	barrier_var(l4);
	header = ctx_at(ctx, l4, sum + sizeof(__u16));
	if (!header)
		return -1;
	if (!sum_may_be_partial(ctx, *(__u16 *)(header + sum), pseudo)) {
		*(__u32 *)header = ports;
		checksum_update_l4(header + sum, family, protocol, (__u32)addr_csum + port_csum);
		/* Of the whole frame's sum, as above: no more than a test if there is none. */
		if (family == FAMILY_IPV4)
			bpf_csum_update(ctx, (__u16)~addr_csum);
		return 0;
	}
	if (edit_sum_by_helper(ctx, family, protocol, l4 + sum, addr_csum, port_csum))
		return -1;
	header = ctx_at(ctx, l4, sizeof(ports));
	if (!header)
		return -1;
	*(__u32 *)header = ports;
	return 0;
}

static __always_inline void ctx_sum_changed(ctx_t *ctx, __u16 difference)
{
	bpf_csum_update(ctx, difference);
}

static __always_inline int ctx_load(ctx_t *ctx, __u32 offset, void *to, __u32 len)
{
	return bpf_skb_load_bytes(ctx, offset, to, len);
}

static __always_inline int ctx_store(ctx_t *ctx, __u32 offset, const void *from, __u32 len)
{
	return bpf_skb_store_bytes(ctx, offset, from, len, BPF_F_RECOMPUTE_CSUM);
}

/*
 * Where a checksum is still to be made (a frame of a local socket, or one that the kernel has put
 * together from several), the kernel would make it in the middle of the new packet. It lets go
 * of that as soon as the place where summing starts has been cut off: so that much goes.
 */
static __always_inline int ctx_remake(ctx_t *ctx, __u32 l4, __u32 len)
{
	const __u32 gone = l4 + 2;

	if (bpf_skb_change_tail(ctx, len + gone, 0))
		return -1;
	return bpf_skb_adjust_room(ctx, -(__s32)gone, BPF_ADJ_ROOM_MAC, 0);
}

static __always_inline int ctx_can_send(const ctx_t *ctx, __u32 device)
{
	return 1;
}

static __always_inline int ctx_send(ctx_t *ctx, __u32 device)
{
	return bpf_redirect(device & ~NEXT_HOP_XDP, 0);
}

static __always_inline int ctx_resolve(ctx_t *ctx, struct bpf_fib_lookup *route)
{
	struct bpf_redir_neigh next = {};

	next.nh_family = route->family;
	__builtin_memcpy(next.ipv6_nh, route->ipv6_dst, sizeof(next.ipv6_nh));
	return bpf_redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}

#endif
