/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Is a packet any business of ours? Most packets of most nodes are not; a few bits of its
 * addresses say so before anything else is looked at.
 *
 * A flow's packets come to an address of a frontend, or from an address of an endpoint. The
 * frontends that there are have a VIP bit. What flows have is noted here too, since they
 * outlive frontends and endpoints.
 */
#ifndef MAGLANE_FILTER_H
#define MAGLANE_FILTER_H

#include "bpf/flow.h"
#include "bpf/frontend.h"

static __always_inline __u32 address_bit(const __be32 *address, int family)
{
	__be32 wide[4];

	addr_widen(wide, address, family);
	return vip_hash(wide);
}

/* False: no frontend and no flow has these addresses. */
static __always_inline int filter_may_be_ours(const __be32 *source, const __be32 *destination,
					      int family)
{
	__u32 zero = 0;
	__u32 to = address_bit(destination, family);
	const struct vip_bits *vips = bpf_map_lookup_elem(&vip_bits, &zero);
	const struct flow_bits *flows;
	const struct flow_bits_word *word;
	__u32 from;

	if (!vips || (vips->word[(to / 64) & (VIP_WORDS - 1)] >> (to % 64) & 1))
		return 1;
	flows = bpf_map_lookup_elem(&flow_bits, &zero);
	if (!flows)
		return 1;
	from = address_bit(source, family);
	word = &flows->word[(from / 64) & (VIP_WORDS - 1)];
	if ((word->from[0] | word->from[1]) >> (from % 64) & 1)
		return 1;
	word = &flows->word[(to / 64) & (VIP_WORDS - 1)];
	return (word->to[0] | word->to[1]) >> (to % 64) & 1;
}

/* A shared line is written only where there is something to say. */
static __always_inline void set_bit_once(__u64 *word, __u32 bit)
{
	if (!((table_load64(word) >> (bit % 64)) & 1))
		__sync_fetch_and_or(word, 1ULL << (bit % 64));
}

/* To be called before the two flows of a connection are made, with the address that its
 * packets come to and the one that, translated, they come back from. */
static __always_inline void filter_note_flow(const __be32 *frontend, const __be32 *endpoint,
					     int family)
{
	__u32 zero = 0;
	const struct node_state *state = bpf_map_lookup_elem(&node_state, &zero);
	struct flow_bits *bits = bpf_map_lookup_elem(&flow_bits, &zero);
	__u32 generation, from, to;

	if (!state || !bits)
		return;
	generation = state->flow_bits_generation % FLOW_BITS_GENERATIONS;
	to = address_bit(frontend, family);
	set_bit_once(&bits->word[(to / 64) & (VIP_WORDS - 1)].to[generation], to);
	/* One address after the other: words of both at once would be on the stack. */
	barrier();
	from = address_bit(endpoint, family);
	set_bit_once(&bits->word[(from / 64) & (VIP_WORDS - 1)].from[generation], from);
}

#endif
