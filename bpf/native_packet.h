/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A packet as native builds of the packet path see it, and their entry points. C and C++. */
#ifndef MAGLANE_NATIVE_PACKET_H
#define MAGLANE_NATIVE_PACKET_H

#include <linux/bpf.h>
#include <linux/types.h>
#include "bpf/abi.h"

#ifdef __cplusplus
using maglane::abi::expire_call;
using maglane::abi::remove_call;
extern "C" {
#endif

struct native_packet {
	/* The frame, in an allocation that ends where it does: a read beyond is caught by the
	 * address sanitizer. Placed so that the IP header is aligned to 4, as in the kernel. */
	__u8 *data;
	__u32 len;
	__u32 linear; /* the first bytes, which ctx_at reaches; below len only at tc */
	__u32 ifindex;
	__u16 gso_segs;
	__u16 gso_size; /* bytes of payload in each */
	__u8 vlan_present;

	/* Out: the device that the frame was sent to, 0: none; and the route, where the frame
	 * was handed to neighbour resolution (ifindex != 0). */
	__u32 sent_to;
	struct bpf_fib_lookup resolved;
};

/* Implemented by the test runtime. Each moves the bytes, so that a stale pointer is caught. */
void native_packet_pull(struct native_packet *packet, __u32 len);
int native_packet_resize(struct native_packet *packet, __u32 len);

/* The programs of the same names in *.bpf.c; result: XDP_* or TC_ACT_*. */
int native_xdp_uplink(struct native_packet *packet);
int native_tc_uplink(struct native_packet *packet);
int native_tc_pod(struct native_packet *packet);
void native_expire(struct expire_call *call);
void native_remove_flow(struct remove_call *call);

#ifdef __cplusplus
}
#endif

#endif
