/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The verbs of the packet path at XDP. ctx_tc.h and ctx_native.h offer the same; the steps
 * in the other headers use these and never name a kernel context type.
 *
 * A pointer from ctx_at is valid until the next verb that is marked "moves".
 */
#ifndef MAGLANE_CTX_XDP_H
#define MAGLANE_CTX_XDP_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "bpf/maps.h"
#include "bpf/checksum.h"

typedef struct xdp_md ctx_t;

/*
 * The name of a global function of the packet path at this hook. Of what is rare or large, each
 * family's is one: the verifier goes through it once and by itself, not again for all that its
 * callers may know. Weak, so that no compiler takes anything for granted across the call. The
 * hooks' own become one object.
 */
#define CTX_GLOBAL(name) name##_xdp

enum {
	CTX_HOOK = HOOK_XDP,
	CTX_PASS = XDP_PASS,
	CTX_DROP = XDP_DROP,
	/* Whether ctx_resolve exists; XDP leaves what needs it to tc. */
	CTX_CAN_RESOLVE = 0,
};

/* The `len` bytes at `offset`, or NULL where the packet is shorter. */
static __always_inline void *ctx_at(const ctx_t *ctx, __u32 offset, __u32 len)
{
	void *data = (void *)(long)ctx->data;

	if (data + offset + len > (void *)(long)ctx->data_end)
		return NULL;
	return data + offset;
}

/* Makes the first `len` bytes reachable by ctx_at where the packet has them. Moves. */
static __always_inline void ctx_pull(ctx_t *ctx, __u32 len)
{
}

/* Bytes of the frame. */
static __always_inline __u32 ctx_len(const ctx_t *ctx)
{
	void *data, *end;
	long len;

	/* Keeps the subtraction and what goes into it 64 bits wide: the verifier allows no other
	 * on pointers, and the compiler would widen the fields where it pleases. */
	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(data)
		     : "r"(ctx), "i"(__builtin_offsetof(struct xdp_md, data)));
	asm volatile("%0 = *(u32 *)(%1 + %2)"
		     : "=r"(end)
		     : "r"(ctx), "i"(__builtin_offsetof(struct xdp_md, data_end)));
	len = end - data;
	asm volatile("" : "+r"(len));
	return len;
}

/* True for a frame that the device will cut into segments itself. */
static __always_inline int ctx_is_gso(const ctx_t *ctx)
{
	return 0;
}

/* Bytes of layer 4 payload that each segment of such a frame gets. */
static __always_inline __u32 ctx_gso_size(const ctx_t *ctx)
{
	return 0;
}

/* True for a frame with a VLAN tag that the device has taken out of the bytes. */
static __always_inline int ctx_has_vlan(const ctx_t *ctx)
{
	return 0;
}

/* True at egress for what no device brought: a packet of the node's own sockets. */
static __always_inline int ctx_is_own(const ctx_t *ctx)
{
	return 0;
}

static __always_inline __u32 ctx_ifindex(const ctx_t *ctx)
{
	return ctx->ingress_ifindex;
}

/* Replaces the ports, at offset `l4`, and adds the differences that they and the addresses make
 * to the checksum, `sum` bytes further on. pseudo: the sum, not folded, of the pseudo header
 * that the packet came with. -1: the packet is too short. May move. */
static __always_inline int ctx_edit_l4(ctx_t *ctx, int family, __u8 protocol, __u32 l4, __u32 sum,
				       __u32 ports, __u16 addr_csum, __u16 port_csum, __u64 pseudo)
{
	void *header = ctx_at(ctx, l4, sum + sizeof(__u16));

	if (!header)
		return -1;
	*(__u32 *)header = ports;
	checksum_update_l4(header + sum, family, protocol, (__u32)addr_csum + port_csum);
	return 0;
}

/* The bytes have changed by this difference: for a device's sum over the whole packet, which
 * XDP knows nothing of. */
static __always_inline void ctx_sum_changed(ctx_t *ctx, __u16 difference)
{
}

static __always_inline int ctx_load(ctx_t *ctx, __u32 offset, void *to, __u32 len)
{
	return bpf_xdp_load_bytes(ctx, offset, to, len);
}

/* The layer 4 checksums in the bytes are the caller's business. Moves. */
static __always_inline int ctx_store(ctx_t *ctx, __u32 offset, const void *from, __u32 len)
{
	return bpf_xdp_store_bytes(ctx, offset, (void *)from, len);
}

/* Makes another packet of the frame: `len` bytes of no particular content, and nothing left of
 * what a device has to do to the old one, whose layer 4 header is at `l4`. Moves. */
static __always_inline int ctx_remake(ctx_t *ctx, __u32 l4, __u32 len)
{
	int more = (int)len - (int)ctx_len(ctx);

	if (more > 0)
		return bpf_xdp_adjust_head(ctx, -more);
	return more ? bpf_xdp_adjust_tail(ctx, more) : 0;
}

/* Whether this hook can send to `device` (struct next_hop). */
static __always_inline int ctx_can_send(const ctx_t *ctx, __u32 device)
{
	return (device & NEXT_HOP_XDP) || device == ctx->ingress_ifindex;
}

/* Sends the frame out of `device`: the program's return value. */
static __always_inline int ctx_send(ctx_t *ctx, __u32 device)
{
	device &= ~NEXT_HOP_XDP;
	if (device == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect(device, 0);
}

/* Hands the frame to the kernel's neighbour resolution: not at XDP (CTX_CAN_RESOLVE). */
static __always_inline int ctx_resolve(ctx_t *ctx, struct bpf_fib_lookup *route)
{
	return XDP_ABORTED;
}

#endif
