/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The hooks at sockets, of the root of cgroup2. */
#include "bpf/maps.h"
#include "bpf/ctx_sock.h"
#include "bpf/sock.h"

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return socket_connect(ctx, 0);
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return socket_connect(ctx, 1);
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return socket_sendmsg(ctx, 0);
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return socket_sendmsg(ctx, 1);
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return socket_name(ctx, is_connected(ctx), 0);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return socket_name(ctx, is_connected(ctx), 1);
}

SEC("cgroup/getpeername4")
int sock_getpeername4(struct bpf_sock_addr *ctx)
{
	return socket_name(ctx, 1, 0);
}

SEC("cgroup/getpeername6")
int sock_getpeername6(struct bpf_sock_addr *ctx)
{
	return socket_name(ctx, 1, 1);
}

SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *ctx)
{
	return socket_close(ctx);
}

char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
