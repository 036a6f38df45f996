/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What every measured program has in common; include after pipeline.h. */
#ifndef MAGLANE_BENCH_PROGRAM_H
#define MAGLANE_BENCH_PROGRAM_H

#include "tests/bench/packet/bench.h"

MAGLANE_MAP(bench_state, BPF_MAP_TYPE_ARRAY, __u32, struct bench_state, 1, 0);
MAGLANE_MAP(kernel_hash, BPF_MAP_TYPE_HASH, struct bench_key, __u64, 524288, 0);
MAGLANE_MAP(kernel_lru4, BPF_MAP_TYPE_LRU_HASH, struct bench_key, struct flow4, 524288, 0);
MAGLANE_MAP(kernel_lru6, BPF_MAP_TYPE_LRU_HASH, struct bench_key6, struct flow6, 524288, 0);

/* RFC 1624: the words that change are 0 in the template. */
static __always_inline void bench_add_to_checksum(__u8 *frame, __u32 at, __u32 client)
{
	__u16 *field = (__u16 *)(frame + at);
	__u32 sum = (__u16)~__builtin_bswap16(*field) + (client >> 16) + (client & 0xffff);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*field = __builtin_bswap16(~sum);
}

static __always_inline void bench_copy(__u8 *frame, const struct bench_state *state, __u32 at,
				       __u32 bytes)
{
	const __u8 *header = (const __u8 *)state->header + at;

	if (bytes == 8)
		*(__u64 *)(frame + at) = *(const __u64 *)header;
	else if (bytes == 4)
		*(__u32 *)(frame + at) = *(const __u32 *)header;
	else
		*(__u16 *)(frame + at) = *(const __u16 *)header;
}

static __always_inline long bench_restore_headers(ctx_t *ctx, const struct bench_state *state,
						  __u32 client, int family)
{
	const __u32 end = family == FAMILY_IPV4 ? 54 : 74;
	const __u32 words = family == FAMILY_IPV4 ? 26 : 22; /* up to TCP's flags */
	const __u32 source = family == FAMILY_IPV4 ? 26 : 34;
	const __u32 destination = family == FAMILY_IPV4 ? 30 : 50;
	__u8 *frame = ctx_at(ctx, 0, end);

	if (!frame)
		return -1;
	bench_copy(frame, state, 0, 8);
	bench_copy(frame, state, 8, 4);
	for (__u32 at = 12; at < words; at += 2)
		bench_copy(frame, state, at, 2);
	for (__u32 at = words; at < end - 8; at += 4)
		bench_copy(frame, state, at, 4);
	for (__u32 at = end - 8; at < end; at += 2)
		bench_copy(frame, state, at, 2);
	/* Constants where they can be: the verifier need not follow what is variable. */
	*(__u32 *)(frame + (state->address_at == source ? source : destination)) |=
		__builtin_bswap32(client);
	if (family == FAMILY_IPV4)
		bench_add_to_checksum(frame, 24, client);
	bench_add_to_checksum(frame, end - 4, client);
	return client;
}

/*
 * Writes the headers of the next flow; its number, or -1 if the frame is too short. In pieces
 * that no field straddles: a load of bytes that two stores have just written waits until both
 * are in the cache, which a frame that a device has written does not know.
 */
static __always_inline long bench_restore(ctx_t *ctx, struct bench_state *state)
{
	__u32 client = state->flow;
	__u32 next = client + state->stride;

	state->flow = next >= state->flows ? next - state->flows : next;
	return state->header_size == 54 ? bench_restore_headers(ctx, state, client, FAMILY_IPV4) :
					  bench_restore_headers(ctx, state, client, FAMILY_IPV6);
}

static __always_inline struct bench_state *bench_current(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&bench_state, &zero);
}

/* The empty program: everything but the work. */
static __always_inline int bench_empty(ctx_t *ctx)
{
	struct bench_state *state = bench_current();

	if (!state || bench_restore(ctx, state) < 0)
		return CTX_DROP;
	return CTX_PASS;
}

/* One look-up in a hash map. */
static __always_inline int bench_kernel_hash(ctx_t *ctx)
{
	struct bench_state *state = bench_current();
	struct bench_key key = {};
	long flow;

	if (!state)
		return CTX_DROP;
	flow = bench_restore(ctx, state);
	if (flow < 0)
		return CTX_DROP;
	key.words[0] = flow;
	if (bpf_map_lookup_elem(&kernel_hash, &key))
		state->done++;
	return CTX_PASS;
}

static __always_inline long bench_insert(long flow, int family)
{
	struct bench_key6 key = {};

	key.words[0] = flow;
	if (family == FAMILY_IPV4) {
		struct flow4 value = {};

		return bpf_map_update_elem(&kernel_lru4, &key, &value, BPF_NOEXIST);
	} else {
		struct flow6 value = {};

		return bpf_map_update_elem(&kernel_lru6, &key, &value, BPF_NOEXIST);
	}
}

/* One insert into an LRU hash map, of as much as a flow of that family is. */
static __always_inline int bench_kernel_lru(ctx_t *ctx)
{
	struct bench_state *state = bench_current();
	long flow;

	if (!state)
		return CTX_DROP;
	flow = bench_restore(ctx, state);
	if (flow < 0)
		return CTX_DROP;
	if (!bench_insert(flow, state->header_size == 54 ? FAMILY_IPV4 : FAMILY_IPV6))
		state->done++;
	return CTX_PASS;
}

static __always_inline int bench_pipeline(ctx_t *ctx)
{
	struct bench_state *state = bench_current();

	if (!state || bench_restore(ctx, state) < 0)
		return CTX_DROP;
	return pipeline(ctx, 0);
}

/* The first steps of the pipeline alone, up to one of these, for the price of each. */
enum bench_stage { BENCH_FILTER, BENCH_PARSE, BENCH_FIND };

static __always_inline int bench_steps(ctx_t *ctx, enum bench_stage last, int family)
{
	const void *ip = ctx_at(ctx, L3_OFFSET, PLAIN_L4(family) - L3_OFFSET);
	struct packet packet;
	struct flow flow;
	int verdict;

	if (!ip || is_stranger(ctx, ip, &verdict, family))
		return CTX_DROP;
	if (last == BENCH_FILTER)
		return CTX_PASS;
	if (!parse_plain(ctx, ip, &packet, family))
		return CTX_DROP;
	asm volatile("" : : "r"(&packet) : "memory");
	if (last == BENCH_PARSE)
		return CTX_PASS;
	if (flow_find(&packet.tuple, &flow, family) != TABLE_DONE)
		return CTX_DROP;
	asm volatile("" : : "r"(&flow) : "memory");
	return CTX_PASS;
}

static __always_inline int bench_until(ctx_t *ctx, enum bench_stage last)
{
	struct bench_state *state = bench_current();

	if (!state || bench_restore(ctx, state) < 0)
		return CTX_DROP;
	return state->header_size == 54 ? bench_steps(ctx, last, FAMILY_IPV4) :
					  bench_steps(ctx, last, FAMILY_IPV6);
}

#endif
