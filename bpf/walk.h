/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs have in common that walk through the table of flows for user space, a run
 * of buckets at a time (expiry.h, forget.h).
 */
#ifndef MAGLANE_WALK_H
#define MAGLANE_WALK_H

#include "bpf/scratch.h"

/*
 * A call holds its CPU, with bottom halves off, for about so long: it ends when that has passed,
 * however many buckets it was asked for. Nanoseconds.
 */
enum { WALK_BUDGET = 300000 };

/* So many buckets, one after the other, may go without a look at the clock; but after one that
 * flows were removed from there is one, since that takes far longer than the walk. */
enum { WALK_CLOCK_BUCKETS = 16 };

/* A run of buckets. */
struct flow_walk {
	__u64 end; /* of the budget, in the kernel's monotonic time */
	__u32 first_bucket;
	__u32 walked; /* buckets */
	__u32 slot_now;
	__u32 examined; /* flows */
	__u32 removed;
	__u32 removed_then; /* at the last look at the clock */
};

static __always_inline struct flow_walk flow_walk_from(__u32 first_bucket)
{
	return (struct flow_walk){
		.end = bpf_ktime_get_ns() + WALK_BUDGET,
		.first_bucket = first_bucket,
		.slot_now = clock_slot(),
	};
}

/* The bucket whose turn it is, NULL past the end of the table. */
static __always_inline void *walk_bucket(const struct flow_walk *walk, __u32 n, int family)
{
	__u32 index = walk->first_bucket + n;

	return table_bucket(FLOW_MAP(family), &index);
}

static __always_inline int bucket_is_empty(const struct table_header *header)
{
	return !(header->tags[0] | header->tags[1] | header->tags[2] | header->tags[3]);
}

/* After each bucket. 1: the time is up. */
static __always_inline long walk_on(struct flow_walk *walk)
{
	if (++walk->walked % WALK_CLOCK_BUCKETS && walk->removed == walk->removed_then)
		return 0;
	walk->removed_then = walk->removed;
	return bpf_ktime_get_ns() > walk->end;
}

/* A whole copy of an entry, with its key. 0: it is free, or could not be had. */
static __always_inline int walk_copy(const __u64 *entry, union any_tuple *key, struct flow *flow,
				     int family)
{
	const struct table_shape shape = FLOW_SHAPE(family);

	for (__u32 i = 0; i < shape.key_words; i++)
		key->words[i] = table_load64(&entry[i]);
	key->words[shape.key_words - 1] &= shape.tail_mask;
	return table_copy((void *)entry, key->words, &flow->meta, flow->answer.words, shape) ==
	       TABLE_DONE;
}

#endif
