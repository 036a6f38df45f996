/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * generate: run by BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES, which sends what it
 * returns with XDP_TX. The frames come back with whatever was done to them, so each is written
 * whole. sink_xdp, sink_tc: count and drop what reaches the backend, pass all else (ARP, TCP).
 * redirect: the least that a program at the node can do to get a frame there.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include "tests/bench/forward/traffic.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct generator_state);
} generator SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sink_count);
} sunk SEC(".maps");

const volatile struct sink_target target;
const volatile struct redirect_target beyond;

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct generator_state *state;
	struct udphdr *udp;
	__u32 zero = 0, flow;
	__u16 checksum;

	state = bpf_map_lookup_elem(&generator, &zero);
	if (!state || data + FRAME_BYTES > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	flow = state->next;
	state->next = flow + 1 < state->flows ? flow + 1 : 0;
	__builtin_memcpy(data, state->frame, FRAME_BYTES);
	udp = data + sizeof(struct ethhdr) + sizeof(struct iphdr);
	udp->source = __builtin_bswap16(FIRST_PORT + flow);
	checksum = ~fold(state->udp_sum + udp->source);
	udp->check = checksum ? checksum : 0xffff;
	return XDP_TX;
}

/* Of a frame of FRAME_BYTES: the IPv4 header's checksum and UDP's (RFC 768). */
static __always_inline int checksums_right(const void *data)
{
	const struct iphdr *ip = data + sizeof(struct ethhdr);
	const __u16 *words = (const void *)ip;
	__u32 header = 0, sum = 0;
	int i;

	for (i = 0; i < 10; i++)
		header += words[i];
	for (i = 6; i < (FRAME_BYTES - (int)sizeof(struct ethhdr)) / 2; i++)
		sum += words[i];
	sum += __builtin_bswap16(IPPROTO_UDP);
	sum += words[12]; /* UDP's length once more, for the pseudo header */
	return fold(header) == 0xffff && fold(sum) == 0xffff;
}

static __always_inline int is_for_endpoints(const void *data, const void *end)
{
	const struct ethhdr *ethernet = data;
	const struct iphdr *ip = data + sizeof(*ethernet);
	const struct udphdr *udp = (const void *)(ip + 1);

	return data + FRAME_BYTES <= end && ethernet->h_proto == __builtin_bswap16(ETH_P_IP) &&
	       ip->protocol == IPPROTO_UDP &&
	       (ip->daddr & 0x00ffffff) == (target.network_be & 0x00ffffff) &&
	       udp->dest == target.port_be;
}

/* 1 if the frame was for the endpoints. */
static __always_inline int sink(const void *data, const void *end)
{
	struct sink_count *count;
	__u32 zero = 0;

	if (data + FRAME_BYTES > end || !is_for_endpoints(data, end))
		return 0;
	count = bpf_map_lookup_elem(&sunk, &zero);
	if (!count)
		return 0;
	if (count->frames++ % 256 == 0) {
		count->looked_at++;
		count->wrong += !checksums_right(data);
	}
	return 1;
}

SEC("xdp")
int sink_xdp(struct xdp_md *ctx)
{
	return sink((void *)(long)ctx->data, (void *)(long)ctx->data_end) ? XDP_DROP : XDP_PASS;
}

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;

	if (data + FRAME_BYTES > end || !is_for_endpoints(data, end))
		return XDP_PASS;
	for (int i = 0; i < ETH_ALEN; i++)
		ethernet->h_dest[i] = beyond.mac[i];
	return bpf_redirect(beyond.device, 0);
}

SEC("tc")
int sink_tc(struct __sk_buff *ctx)
{
	bpf_skb_pull_data(ctx, FRAME_BYTES);
	return sink((void *)(long)ctx->data, (void *)(long)ctx->data_end) ? TC_ACT_SHOT : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
