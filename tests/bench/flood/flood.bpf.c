/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * generate: run by BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES, which sends what it
 * returns with XDP_TX. The frames come back with whatever was done to them, so each is written
 * whole. sink: counts and drops what of it reaches the endpoints, passes all else.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include "tests/bench/flood/flood.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood_state);
} flood SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sunk SEC(".maps");

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct iphdr *ip = data + sizeof(struct ethhdr);
	__u32 zero = 0, source, words;
	__be16 *ports = (void *)(ip + 1);
	struct flood_state *state;
	__be16 port, to;
	__u16 sum;

	state = bpf_map_lookup_elem(&flood, &zero);
	if (!state || data + FLOOD_BYTES > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	state->next = state->next + 1 < state->ports ? state->next + 1 : 0;
	__builtin_memcpy(data, state->frame, FLOOD_BYTES);
	/* 32.0.0.0/3: nobody's in the network of the benchmark. */
	source = bpf_get_prandom_u32() & __builtin_bswap32(0x1fffffff);
	source |= __builtin_bswap32(0x20000000);
	port = bpf_get_prandom_u32() | __builtin_bswap16(1024);
	to = state->port_be[state->next % FLOOD_PORTS];
	words = (source & 0xffff) + (source >> 16);
	ip->saddr = source;
	ip->check = ~fold(state->ip_sum + words);
	ports[0] = port;
	ports[1] = to;
	sum = ~fold(state->l4_sum + words + port + to);
	if (state->udp)
		((struct udphdr *)ports)->check = sum ? sum : 0xffff;
	else
		((struct tcphdr *)ports)->check = sum;
	return XDP_TX;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	const void *data = (void *)(long)ctx->data;
	const struct ethhdr *ethernet = data;
	const struct iphdr *ip = data + sizeof(*ethernet);
	__u32 zero = 0;
	__u64 *count;

	if ((void *)(ip + 1) > (void *)(long)ctx->data_end ||
	    ethernet->h_proto != __builtin_bswap16(ETH_P_IP) || ip->id != FLOOD_MARK)
		return XDP_PASS;
	count = bpf_map_lookup_elem(&sunk, &zero);
	if (count)
		(*count)++;
	return XDP_DROP;
}

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
