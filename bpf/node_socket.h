/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Whether a socket of this node would get what we want to have for a translated connection. */
#ifndef MAGLANE_NODE_SOCKET_H
#define MAGLANE_NODE_SOCKET_H

#include "bpf/packet.h"
#include "bpf/scratch.h"

#ifdef __bpf__

/* True: a connection has exactly these ends, or a socket takes all that comes to the port.
 * `replies`: a packet as the endpoint would send it. */
static __always_inline int node_socket_has(ctx_t *ctx, union any_tuple *replies,
					   struct bpf_sock_tuple *room, int family)
{
	const __u8 protocol = *tuple_protocol(replies, family);
	struct bpf_sock *found = NULL;
	__u32 size;

	if (family == FAMILY_IPV4) {
		size = sizeof(room->ipv4);
		room->ipv4.saddr = *tuple_src(replies, family);
		room->ipv4.daddr = *tuple_dst(replies, family);
		room->ipv4.sport = *tuple_src_port(replies, family);
		room->ipv4.dport = *tuple_dst_port(replies, family);
	} else {
		size = sizeof(room->ipv6);
		__builtin_memcpy(room->ipv6.saddr, tuple_src(replies, family), 32);
		room->ipv6.sport = *tuple_src_port(replies, family);
		room->ipv6.dport = *tuple_dst_port(replies, family);
	}
	if (protocol == IPPROTO_TCP)
		found = bpf_sk_lookup_tcp(ctx, room, size, BPF_F_CURRENT_NETNS, 0);
	else if (protocol == IPPROTO_UDP)
		found = bpf_sk_lookup_udp(ctx, room, size, BPF_F_CURRENT_NETNS, 0);
	if (!found)
		return 0;
	bpf_sk_release(found);
	return 1;
}

#else

static __always_inline int node_socket_has(ctx_t *ctx, union any_tuple *replies,
					   struct bpf_sock_tuple *room, int family)
{
	return native_node_socket_has(replies, family);
}

#endif
#endif
