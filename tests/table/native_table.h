/* SPDX-License-Identifier: Apache-2.0 */
/* bpf/table.h over plain memory, as functions. C and C++. */
#ifndef MAGLANE_TESTS_NATIVE_TABLE_H
#define MAGLANE_TESTS_NATIVE_TABLE_H

#include <linux/types.h>

#include "bpf/abi.h"

#ifdef __cplusplus
extern "C" {
using maglane::abi::table_seed;
#endif

enum native_shape { SHAPE_FLOW4, SHAPE_FLOW6, SHAPE_FRONTEND, SHAPES };

/* As enum table_result. */
enum native_result { NATIVE_DONE, NATIVE_PRESENT, NATIVE_ABSENT, NATIVE_FULL, NATIVE_BUSY };

enum { NATIVE_KEY_WORDS_MAX = 5, NATIVE_ANSWER_WORDS_MAX = 11 };

struct native_layout {
	__u32 key_words;
	__u32 answer_words;
	__u32 bucket_size;
	__u32 first; /* offset of the first entry */
	__u32 entry_size;
	__u64 tail_mask;
};

struct native_place {
	__u32 first;
	__u32 second;
	__u32 home;
	__u8 tag;
};

/* `buckets` is the caller's: count * bucket_size bytes, zero, aligned to 64. */
struct native_table {
	enum native_shape shape;
	void *buckets;
	__u32 count;
	struct table_seed seed;
};

/* 1: accesses to the table are held up at random. Set before there are threads. */
extern int native_stretched;

struct native_layout native_layout_of(enum native_shape shape);
struct native_place native_place_of(const struct native_table *table, const __u64 *key);
__u64 native_hash(const struct table_seed *seed, const __u64 *key, enum native_shape shape);

/*
 * An entry's state is the low 16 bits of its meta. In these tables the second byte of the
 * state is also its rank: how gladly it is given up (0: never), less what is given as `now`.
 */
int native_insert(struct native_table *table, const __u64 *key, const __u64 *answer, __u32 state,
		  __u32 now);
/* NATIVE_DONE: *meta and the answer are the key's. */
int native_find(struct native_table *table, const __u64 *key, __u32 *meta, __u64 *answer);
int native_remove(struct native_table *table, const __u64 *key);
/* Where the key is, as table_location; negative: nowhere. */
int native_locate(struct native_table *table, const __u64 *key);
/* Removes the entry only if it is still the one that was found there, with this meta. */
int native_remove_found(struct native_table *table, const __u64 *key, int location, __u32 meta);
/* Replaces the answer in place. */
int native_change(struct native_table *table, const __u64 *key, const __u64 *answer);
/* Adds bits to the state without a lock; as flow_add_seen. */
int native_add_state(struct native_table *table, const __u64 *key, __u32 bits);
/* Empties one slot as expiry does, if `due` (bits of the state) are all set. 1: it did. */
int native_expire(struct native_table *table, __u32 bucket, __u32 slot, __u32 due);
/* Holds a bucket's lock, as a writer that is slow. */
void native_hold(struct native_table *table, __u32 bucket);
void native_release(struct native_table *table, __u32 bucket);

#ifdef __cplusplus
}
#endif

#endif
