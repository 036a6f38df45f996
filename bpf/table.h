/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table of the packet path: buckets of cache lines inside a BPF array. One source for
 * BPF, for the agent and for tests (native).
 *
 * A bucket is a header line and TABLE_SLOTS entries. A key has two candidate buckets; in its
 * first it has a home slot, which is looked at before anything else, then the slot next to it,
 * so that most look-ups touch one line. The header holds a tag (8 bits of the hash) for each slot, 0 where it is
 * free. An entry is the key, as 64-bit words, then the answer. The upper half of the key's
 * last word is the entry's `meta`, of which the shape's tail_mask says what is key; the rest
 * is state: see table_meta.
 *
 * Rules that make it right:
 *  - To add, remove or change an entry is to hold the lock of the bucket it is in. State
 *    bits alone are added by compare-and-swap, without the lock.
 *  - An insert holds its first bucket's lock, and its second's too unless the first has room
 *    and none of its keys lives in a second bucket (header.overflow). So two inserts of one
 *    key always meet at a lock, and "insert unless present" is exact.
 *  - Two locks are taken in the order of the buckets. A lock is tried a bounded number of
 *    times; then the caller is told TABLE_BUSY.
 *  - A reader takes no lock. It reads meta, copies, reads meta again: a version that is odd
 *    or has changed says that the entry was being written, and it tries again, a bounded
 *    number of times. An entry that is free, or being filled, has protocol 0 and matches no
 *    key.
 *
 * What the orderings rely on: a BPF atomic that returns a value is fully ordered (kernel,
 * Documentation/bpf/standardization/instruction-set.rst and the JITs: LOCK prefix on x86,
 * the "al" forms or a dmb on arm64). x86-64 keeps loads in order and stores in order, so a
 * compiler barrier is enough there. arm64 does not: table_release is an exchange, and
 * table_after makes an address depend on the value that must have been read before it, which
 * orders the two loads (Arm ARM, B2.3, address dependencies, syntactic also where the value
 * is masked to nothing).
 */
#ifndef MAGLANE_TABLE_H
#define MAGLANE_TABLE_H

#include "bpf/abi.h"
#include "bpf/table_memory.h"

/* table_bucket(map, &index): the bucket's address, NULL past the end. Whoever includes this
 * natively without maps defines it before. */
#ifndef table_bucket
#define table_bucket(map, index) bpf_map_lookup_elem(map, index)
#endif

/* What distinguishes the tables; a constant at every call. */
struct table_shape {
	__u32 key_words;  /* 64-bit words of the key, the tail included */
	__u32 entry_size; /* bytes */
	__u32 first;      /* offset of the first entry in the bucket */
	__u64 tail_mask;  /* which bits of the key's last word are key: ports and protocol of a
			   * flow; port, protocol and family of a frontend */
	/* table_scan and table_victim of this shape. In BPF they lead to global functions, which
	 * the verifier looks at once and not at every call. */
	__u32 (*scan)(void *bucket, const __u64 *key, __u8 tag);
	__u32 (*victim)(void *bucket, __u32 argument, __u32 whim);
};

/* The shapes of the tables there are; without the functions, which come from their headers. */
#define TABLE_SHAPE_FLOW4                                                                          \
	.key_words = 2, .entry_size = sizeof(struct flow_entry4),                                  \
	.first = sizeof(struct table_header), .tail_mask = 0x000000ffffffffffULL
#define TABLE_SHAPE_FLOW6                                                                          \
	.key_words = 5, .entry_size = sizeof(struct flow_entry6),                                  \
	.first = 2 * sizeof(struct table_header), .tail_mask = 0x000000ffffffffffULL
#define TABLE_SHAPE_FRONTEND                                                                       \
	.key_words = 3, .entry_size = sizeof(struct frontend_entry),                               \
	.first = sizeof(struct table_header), .tail_mask = 0x00000000ffffffffULL

enum table_result {
	TABLE_DONE = 0,
	TABLE_PRESENT, /* another entry has the key */
	TABLE_ABSENT,  /* no entry has the key */
	TABLE_FULL,    /* both buckets are full of entries worth keeping */
	TABLE_BUSY,    /* a lock or a consistent copy could not be had */
	TABLE_MADE_ROOM, /* done, and another entry was given up for it */
};

enum {
	TABLE_LOCK_TRIES = 512,
	TABLE_READ_TRIES = 16,
	/* From here on a first bucket shares with the second, the emptier one wins. Leaves
	 * room so that at 85 % load (26.4 of 31) no pair of buckets fills up: 1 of 5 million
	 * inserts in steady churn, by simulation. */
	TABLE_CROWDED = 22,
};

/* Where a key belongs. */
struct table_place {
	__u32 first;
	__u32 second;
	__u32 home; /* slot in the first bucket */
	__u8 tag;   /* never 0 */
};

/* Where an entry is: its bucket's index and its slot, or TABLE_NOWHERE. */
typedef __s32 table_location;

enum {
	TABLE_NOWHERE = -1,
	TABLE_SLOT_BITS = 5,
	TABLE_BUCKETS_MAX = 1 << (31 - TABLE_SLOT_BITS),
};

/* ---- hash -------------------------------------------------------------------- */

/*
 * NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC, CRYPTO '99) over the key's 32-bit
 * halves: universal, so that without the seed nobody can make keys that pile up. A final
 * multiplication spreads it over the bits that are used.
 */
static __always_inline __u64 table_hash_word(const volatile struct table_seed *seed, __u64 word,
					     __u32 i, const struct table_shape shape)
{
	if (i + 1 == shape.key_words)
		word &= shape.tail_mask;
	return (__u64)(__u32)(word + seed->nh[2 * i]) *
	       (__u32)((word >> 32) + seed->nh[2 * i + 1]);
}

static __always_inline __u64 table_hash_end(const volatile struct table_seed *seed, __u64 hash)
{
	hash ^= hash >> 32;
	hash *= seed->multiplier;
	return hash ^ (hash >> 29);
}

static __always_inline __u64 table_hash(const volatile struct table_seed *seed, const __u64 *key,
					const struct table_shape shape)
{
	__u64 hash = 0;

	for (__u32 i = 0; i < shape.key_words; i++)
		hash += table_hash_word(seed, key[i], i, shape);
	return table_hash_end(seed, hash);
}

/* The same of an entry, whose state may be changing. */
static __always_inline __u64 table_hash_entry(const volatile struct table_seed *seed,
					      const __u64 *entry, const struct table_shape shape)
{
	__u64 hash = 0;

	for (__u32 i = 0; i < shape.key_words; i++)
		hash += table_hash_word(seed, table_load64(&entry[i]), i, shape);
	return table_hash_end(seed, hash);
}

static __always_inline __u32 table_first(__u64 hash, __u32 buckets)
{
	return ((hash >> 32) * buckets) >> 32;
}

static __always_inline __u32 table_home(__u64 hash)
{
	return (((hash >> 8) & 0xff) * TABLE_SLOTS) >> 8;
}

/* The slot that shares 128 bytes with `home`, which many processors fetch together; TABLE_SLOTS
 * if that is the header. */
static __always_inline __u32 table_next_to(__u32 home)
{
	return home ? ((home + 1) ^ 1) - 1 : TABLE_SLOTS;
}

static __always_inline struct table_place table_place(__u64 hash, __u32 buckets)
{
	struct table_place place;

	place.first = table_first(hash, buckets);
	place.second = ((__u64)(__u32)hash * buckets) >> 32;
	if (place.second == place.first && ++place.second == buckets)
		place.second = 0;
	place.tag = hash;
	if (!place.tag)
		place.tag = 1;
	place.home = table_home(hash);
	return place;
}

/* ---- slots -------------------------------------------------------------------- */

static __always_inline struct table_header *table_header(void *bucket)
{
	return bucket;
}

static __always_inline __u64 *table_entry(void *bucket, __u32 slot, const struct table_shape shape)
{
	return bucket + shape.first + slot * shape.entry_size;
}

static __always_inline __u32 *table_meta(void *entry, const struct table_shape shape)
{
	return (__u32 *)entry + shape.key_words * 2 - 1;
}

/* A load that nobody waits for: its line is there when it is needed. BPF has no other way to say
 * so. Loads that follow one another overlap, but none overtakes a lock. */
static __always_inline void table_fetch(const void *line)
{
	(void)table_load64((const __u64 *)line);
}

static __always_inline void table_fetch_slot(void *bucket, __u32 slot,
					     const struct table_shape shape)
{
	if (slot >= TABLE_SLOTS)
		return;
	for (__u32 at = 0; at < shape.entry_size; at += 64)
		table_fetch((void *)table_entry(bucket, slot, shape) + at);
}

static __always_inline __u64 repeat_byte(__u8 byte)
{
	return byte * 0x0101010101010101ULL;
}

/* The high bit of each byte of `word` that is zero; above a zero byte others may be marked
 * too (Mycroft's test), which the comparison of keys sorts out. */
static __always_inline __u64 zero_bytes(__u64 word)
{
	return (word - repeat_byte(0x01)) & ~word & repeat_byte(0x80);
}

/* The number of the lowest marked byte. There is no BPF instruction for it. */
static __always_inline __u32 lowest_byte(__u64 marks)
{
	return (((marks & -marks) >> 7) * 0x0001020304050607ULL) >> 56;
}

/* The lowest free slot, or TABLE_SLOTS, whose tag byte is always 0. */
static __always_inline __u32 table_free_slot(const struct table_header *header)
{
	for (__u32 i = 0; i < TABLE_TAG_WORDS; i++) {
		__u64 marks = zero_bytes(table_load64(&header->tags[i]));

		if (marks)
			return i * 8 + lowest_byte(marks);
	}
	return TABLE_SLOTS;
}

static __always_inline __u32 table_used_slots(const struct table_header *header)
{
	__u32 used = 0;

	for (__u32 i = 0; i < TABLE_TAG_WORDS; i++) {
		__u64 word = table_load64(&header->tags[i]);

		/* One bit a byte that is not zero, then their sum. */
		word |= word >> 4;
		word |= word >> 2;
		word |= word >> 1;
		used += ((word & repeat_byte(0x01)) * 0x0101010101010101ULL) >> 56;
	}
	return used;
}

static __always_inline __u8 table_tag(const struct table_header *header, __u32 slot)
{
	return table_load64(&header->tags[(slot / 8) % TABLE_TAG_WORDS]) >> (slot % 8 * 8);
}

static __always_inline void table_set_tag(struct table_header *header, __u32 slot, __u8 tag)
{
	table_store8((__u8 *)header->tags + slot, tag);
}

/* Whether the entry has the key; *meta: what was read, before the rest of it. *read: what a
 * load that must follow all of these has to come after (table_after). */
static __always_inline int table_matches_read(void *entry, const __u64 *key, __u32 *meta,
					      __u64 *read, const struct table_shape shape)
{
	const __u64 *words = entry;
	__u64 tail = table_load64(&words[shape.key_words - 1]);
	__u64 difference = (tail ^ key[shape.key_words - 1]) & shape.tail_mask;

	if (difference)
		return 0;
	table_after(words, tail);
	*read = 0;
	for (__u32 i = 0; i + 1 < shape.key_words; i++) {
		__u64 word = table_load64(&words[i]);

		*read |= word;
		difference |= word ^ key[i];
	}
	*meta = tail >> 32;
	return !difference;
}

static __always_inline int table_matches(void *entry, const __u64 *key, __u32 *meta,
					 const struct table_shape shape)
{
	__u64 read;

	return table_matches_read(entry, key, meta, &read, shape);
}

/* False: no slot has this tag. */
static __always_inline int table_has_tag(const struct table_header *header, __u8 tag)
{
	__u64 marks = 0;

	for (__u32 i = 0; i < TABLE_TAG_WORDS; i++)
		marks |= zero_bytes(table_load64(&header->tags[i]) ^ repeat_byte(tag));
	return marks != 0;
}

/* The slot of the key in this bucket, or TABLE_SLOTS. */
static __always_inline __u32 table_scan(void *bucket, const __u64 *key, __u8 tag,
					const struct table_shape shape)
{
	struct table_header *header = table_header(bucket);
	__u32 meta;

	for (__u32 i = 0; i < TABLE_TAG_WORDS; i++) {
		__u64 marks = zero_bytes(table_load64(&header->tags[i]) ^ repeat_byte(tag));

		for (__u32 n = 0; n < 8 && marks; n++) {
			__u32 slot = i * 8 + lowest_byte(marks);

			marks &= marks - 1;
			if (slot >= TABLE_SLOTS)
				break;
			if (table_matches(table_entry(bucket, slot, shape), key, &meta, shape))
				return slot;
		}
	}
	return TABLE_SLOTS;
}

/* The same by the shape's function, where there is anything to look at. */
static __always_inline __u32 table_find_slot(void *bucket, const __u64 *key, __u8 tag,
					     const struct table_shape shape)
{
	return table_has_tag(table_header(bucket), tag) ? shape.scan(bucket, key, tag) :
							  (__u32)TABLE_SLOTS;
}

/* ---- finding --------------------------------------------------------------------- */

static __always_inline table_location table_locate(__u32 bucket, __u32 slot)
{
	return bucket << TABLE_SLOT_BITS | slot;
}

/* The compiler must not know that there is only one number that is no slot: it would compare with
 * that one, from which the verifier of Linux 6.1 learns no bound. */
static __always_inline __u32 table_slot(table_location location)
{
	__u32 slot = location & ((1 << TABLE_SLOT_BITS) - 1);

	barrier_var(slot);
	return slot;
}

/* The entry at a location, NULL if there can be none. */
static __always_inline void *table_at(void *map, table_location location,
				      const struct table_shape shape)
{
	__u32 index = location >> TABLE_SLOT_BITS;
	void *bucket;
	__u32 slot;

	if (location < 0)
		return NULL;
	bucket = table_bucket(map, &index);
	if (!bucket)
		return NULL;
	/* Compared next to its use: of a copy on the stack the verifier of Linux 6.1 learns
	 * nothing. */
	slot = table_slot(location);
	return slot < TABLE_SLOTS ? table_entry(bucket, slot, shape) : NULL;
}

/* Everywhere that the key may be. */
static __always_inline table_location table_search(void *map, const __u64 *key,
						   const struct table_place *place,
						   const struct table_shape shape)
{
	void *bucket = table_bucket(map, &place->first);
	__u32 slot;

	if (!bucket)
		return TABLE_NOWHERE;
	slot = table_find_slot(bucket, key, place->tag, shape);
	if (slot < TABLE_SLOTS)
		return table_locate(place->first, slot);
	if (!table_load32(&table_header(bucket)->overflow))
		return TABLE_NOWHERE;
	bucket = table_bucket(map, &place->second);
	if (!bucket)
		return TABLE_NOWHERE;
	slot = table_find_slot(bucket, key, place->tag, shape);
	return slot < TABLE_SLOTS ? table_locate(place->second, slot) : TABLE_NOWHERE;
}

/* The same where most are in their home slots: mostly without the shape's function. */
static __always_inline table_location table_search_from_home(void *map, const __u64 *key,
							     const struct table_place *place,
							     const struct table_shape shape)
{
	void *bucket = table_bucket(map, &place->first);
	__u32 meta;

	if (bucket && place->home < TABLE_SLOTS &&
	    table_tag(table_header(bucket), place->home) == place->tag &&
	    table_matches(table_entry(bucket, place->home, shape), key, &meta, shape))
		return table_locate(place->first, place->home);
	return table_search(map, key, place, shape);
}

/*
 * Copies an entry's answer. TABLE_DONE: `answer` and *meta are whole and were the key's at
 * one moment. TABLE_ABSENT: the entry is not (or no longer) the key's. TABLE_BUSY: it was being
 * written.
 */
static __always_inline enum table_result table_copy_once(void *entry, const __u64 *key, __u32 *meta,
							 __u64 *answer,
							 const struct table_shape shape)
{
	const __u32 answer_words = shape.entry_size / 8 - shape.key_words;
	const __u64 *words = entry;
	__u32 *again = table_meta(entry, shape);
	__u64 read;

	if (!table_matches_read(entry, key, meta, &read, shape))
		return TABLE_ABSENT;
	if (*meta & TABLE_VERSION_ODD)
		return TABLE_BUSY;
	table_after(words, *meta);
	for (__u32 i = 0; i < answer_words; i++) {
		answer[i] = table_load64(&words[shape.key_words + i]);
		read |= answer[i];
	}
	table_after(again, read);
	return (table_load32(again) ^ *meta) & TABLE_VERSION_MASK ? TABLE_BUSY : TABLE_DONE;
}

/* The same, and not for the first writer it meets TABLE_BUSY. */
static __always_inline enum table_result table_copy(void *entry, const __u64 *key, __u32 *meta,
						    __u64 *answer, const struct table_shape shape)
{
	enum table_result result = TABLE_BUSY;

	for (__u32 tries = 0; tries < TABLE_READ_TRIES && result == TABLE_BUSY; tries++)
		result = table_copy_once(entry, key, meta, answer, shape);
	return result;
}

/* ---- locks ------------------------------------------------------------------------ */

/* Global: the verifier walks its loop once. */
__weak int table_wait_for_lock(struct table_header *header)
{
	if (!header)
		return 0;
	for (__u32 tries = 0; tries < TABLE_LOCK_TRIES; tries++)
		if (!table_load32(&header->lock) && table_swap32(&header->lock, 0, 1) == 0)
			return 1;
	return 0;
}

/* 0: it could not be had. A function's return is dear where processors mispredict it on purpose. */
static __always_inline int table_lock(struct table_header *header)
{
	return table_swap32(&header->lock, 0, 1) == 0 || table_wait_for_lock(header);
}

static __always_inline void table_unlock(struct table_header *header)
{
	table_release32(&header->lock, 0);
}

/* Both of a key's buckets, the lower first. */
static __always_inline int table_lock_both(struct table_header *first, struct table_header *second,
					   const struct table_place *place)
{
	struct table_header *low = place->first < place->second ? first : second;
	struct table_header *high = place->first < place->second ? second : first;

	if (!table_lock(low))
		return 0;
	if (place->first == place->second || table_lock(high))
		return 1;
	table_unlock(low);
	return 0;
}

static __always_inline void table_unlock_both(struct table_header *first,
					      struct table_header *second,
					      const struct table_place *place)
{
	if (place->first != place->second)
		table_unlock(second);
	table_unlock(first);
}

/* ---- writing: REQUIRES the bucket's lock -------------------------------------------- */

/* Fills a free slot; the entry matches no key until its last store. */
static __always_inline void table_fill(void *bucket, __u32 slot, const __u64 *key, __u32 state,
				       const __u64 *answer, __u8 tag, const struct table_shape shape)
{
	const __u32 answer_words = shape.entry_size / 8 - shape.key_words;
	__u64 *words = table_entry(bucket, slot, shape);
	__u32 version = table_load32(table_meta(words, shape)) & TABLE_VERSION_MASK;
	__u64 tail = key[shape.key_words - 1] & shape.tail_mask;

	for (__u32 i = 0; i < answer_words; i++)
		table_store64(&words[shape.key_words + i], answer[i]);
	for (__u32 i = 0; i + 1 < shape.key_words; i++)
		table_store64(&words[i], key[i]);
	table_release64(&words[shape.key_words - 1], tail | (__u64)(state | version) << 32);
	table_set_tag(table_header(bucket), slot, tag);
}

/* Empties a slot. The version moves on, so that a copy that was under way is refused. */
static __always_inline void table_clear(void *bucket, __u32 slot, const struct table_shape shape)
{
	__u64 *words = table_entry(bucket, slot, shape);
	__u32 version = table_load32(table_meta(words, shape)) & TABLE_VERSION_MASK;

	table_set_tag(table_header(bucket), slot, 0);
	/* An exchange, so that no store into the slot's next entry overtakes it. */
	table_swap_release64(&words[shape.key_words - 1],
			     (__u64)((version + TABLE_VERSION_STEP) & TABLE_VERSION_MASK) << 32);
}

/* Around changes to the answer of an entry in place: odd, change, even. State bits that
 * arrive by compare-and-swap meanwhile are kept. */
static __always_inline void table_begin_change(void *entry, const struct table_shape shape)
{
	table_add32(table_meta(entry, shape), TABLE_VERSION_ODD);
}

static __always_inline void table_end_change(void *entry, const struct table_shape shape)
{
	table_add32(table_meta(entry, shape), TABLE_VERSION_ODD);
}

/*
 * Empties a slot of `bucket` and keeps the account of entries that are away from their first
 * bucket; `first` is the entry's own first bucket, or NULL if it is not known. The account is
 * lowered last: as soon as it says 0, an insert of the key no longer looks here.
 */
static __always_inline void table_evict(void *map, void *bucket, __u32 slot, void *first,
					const volatile struct table_seed *seed, __u32 buckets,
					const struct table_shape shape)
{
	struct table_header *header = table_header(bucket);
	__u32 bit = 1U << slot;

	if (!(header->foreign & bit)) {
		table_clear(bucket, slot, shape);
		return;
	}
	if (!first) {
		__u64 hash = table_hash_entry(seed, table_entry(bucket, slot, shape), shape);
		struct table_place place = table_place(hash, buckets);

		first = table_bucket(map, &place.first);
	}
	header->foreign &= ~bit;
	table_clear(bucket, slot, shape);
	if (first)
		table_add32(&table_header(first)->overflow, (__u32)-1);
}

/* ---- insert and remove ------------------------------------------------------------------ */

/* How gladly an entry is given up: 0 never, else the higher the sooner. */
typedef __u32 table_rank_fn(const __u64 *entry, __u32 argument);

enum {
	TABLE_RANK_BITS = 26, /* ranks are below 2^26 */
	TABLE_NO_VICTIM = TABLE_SLOTS,
};

/*
 * The entry of `bucket` that is given up first: its rank above its slot, TABLE_NO_VICTIM if
 * all are worth keeping. Of equals, `whim` decides (its lower bits, the new key's hash): were it
 * the place, each newcomer of a flood would have to go for the next one.
 */
static __always_inline __u32 table_victim(void *bucket, table_rank_fn *rank, __u32 argument,
					  __u32 whim, const struct table_shape shape)
{
	__u32 best = TABLE_NO_VICTIM;

	whim &= (1 << TABLE_SLOT_BITS) - 1;

	for (__u32 slot = 0; slot < TABLE_SLOTS; slot++) {
		__u32 worth = rank(table_entry(bucket, slot, shape), argument)
				      << TABLE_SLOT_BITS |
			      (slot ^ whim);
		__s64 higher = ((__s64)best - worth) >> 63;

		/* Without a branch, whose two ways the verifier of Linux 6.1 would follow again for
		 * each slot. */
		barrier_var(higher);
		best ^= (best ^ worth) & higher;
	}
	return best == TABLE_NO_VICTIM ? TABLE_NO_VICTIM : best ^ whim;
}

/* Where a key goes in its first bucket: home, or next to it, or the lowest free slot; or
 * TABLE_SLOTS. */
static __always_inline __u32 table_slot_for(const struct table_header *header,
					    const struct table_place *place)
{
	__u32 next = table_next_to(place->home);

	if (place->home < TABLE_SLOTS && !table_tag(header, place->home))
		return place->home;
	if (next < TABLE_SLOTS && !table_tag(header, next))
		return next;
	return table_free_slot(header);
}

/* With both locks held: one of the two buckets takes the entry, giving one up if need be. */
static __always_inline enum table_result
table_insert_locked(void *map, void *first, void *second, const __u64 *key, const __u64 *answer,
		    __u32 state, const struct table_place *place, __u32 rank_argument,
		    const volatile struct table_seed *seed, __u32 count,
		    const struct table_shape shape)
{
	__u32 used = table_used_slots(table_header(first));
	__u32 second_used = table_used_slots(table_header(second));
	void *bucket = used >= TABLE_CROWDED && second_used < used ? second : first;
	enum table_result result = TABLE_DONE;
	__u32 slot = TABLE_SLOTS;

	if (used >= TABLE_SLOTS && second_used >= TABLE_SLOTS) {
		__u32 victim = shape.victim(first, rank_argument, place->home);
		__u32 other = shape.victim(second, rank_argument, place->home);

		bucket = other > victim ? second : first;
		slot = table_slot(other > victim ? other : victim);
		if (slot >= TABLE_SLOTS)
			return TABLE_FULL;
		table_evict(map, bucket, slot, NULL, seed, count, shape);
		result = TABLE_MADE_ROOM;
	}
	if (bucket == first)
		slot = table_slot_for(table_header(bucket), place);
	else
		slot = table_free_slot(table_header(bucket));
	if (slot >= TABLE_SLOTS)
		return TABLE_FULL;
	if (bucket != first) {
		table_add32(&table_header(first)->overflow, 1);
		table_header(bucket)->foreign |= 1U << slot;
	}
	table_fill(bucket, slot, key, state, answer, place->tag, shape);
	return result;
}

/* Under both locks: for a key whose first bucket is crowded, or has entries elsewhere. */
static __always_inline enum table_result
table_insert_crowded(void *map, const __u64 *key, const __u64 *answer, __u32 state,
		     const struct table_place *place, __u32 rank_argument,
		     const volatile struct table_seed *seed, __u32 count,
		     const struct table_shape shape)
{
	void *first = table_bucket(map, &place->first);
	void *second = table_bucket(map, &place->second);
	enum table_result result = TABLE_PRESENT;

	if (!first || !second)
		return TABLE_BUSY;
	if (!table_lock_both(table_header(first), table_header(second), place))
		return TABLE_BUSY;
	if (table_find_slot(first, key, place->tag, shape) >= TABLE_SLOTS &&
	    table_find_slot(second, key, place->tag, shape) >= TABLE_SLOTS)
		result = table_insert_locked(map, first, second, key, answer, state, place,
					     rank_argument, seed, count, shape);
	table_unlock_both(table_header(first), table_header(second), place);
	return result;
}

/*
 * Insert unless present; `state` is the new entry's meta below the version. TABLE_DONE,
 * TABLE_MADE_ROOM, TABLE_PRESENT, TABLE_FULL (nothing to give up), TABLE_BUSY. The common case takes one lock.
 */
static __always_inline enum table_result
table_insert(void *map, const __u64 *key, const __u64 *answer, __u32 state,
	     const struct table_place *place, __u32 rank_argument,
	     const volatile struct table_seed *seed, __u32 count, const struct table_shape shape)
{
	void *bucket = table_bucket(map, &place->first);
	struct table_header *header = table_header(bucket);
	enum table_result result = TABLE_FULL;
	__u32 slot;

	if (!bucket)
		return TABLE_BUSY;
	table_fetch_slot(bucket, place->home, shape);
	if (!table_lock(header))
		return TABLE_BUSY;
	if (table_find_slot(bucket, key, place->tag, shape) < TABLE_SLOTS) {
		result = TABLE_PRESENT;
	} else if (!table_load32(&header->overflow) && table_used_slots(header) < TABLE_CROWDED) {
		slot = table_slot_for(header, place);
		if (slot < TABLE_SLOTS) {
			table_fill(bucket, slot, key, state, answer, place->tag, shape);
			result = TABLE_DONE;
		}
	}
	table_unlock(header);
	if (result != TABLE_FULL)
		return result;
	return table_insert_crowded(map, key, answer, state, place, rank_argument, seed, count,
				    shape);
}

/* TABLE_DONE: there was such an entry, it is gone. TABLE_ABSENT, TABLE_BUSY. */
static __always_inline enum table_result table_remove(void *map, const __u64 *key,
						      const struct table_place *place,
						      const volatile struct table_seed *seed,
						      __u32 count, const struct table_shape shape)
{
	table_location location = table_search(map, key, place, shape);
	__u32 index = location >> TABLE_SLOT_BITS;
	enum table_result result = TABLE_ABSENT;
	void *bucket;
	__u32 slot;

	if (location < 0)
		return TABLE_ABSENT;
	bucket = table_bucket(map, &index);
	if (!bucket || !table_lock(table_header(bucket)))
		return TABLE_BUSY;
	slot = table_find_slot(bucket, key, place->tag, shape);
	if (slot < TABLE_SLOTS) {
		table_evict(map, bucket, slot, table_bucket(map, &place->first), seed, count,
			    shape);
		result = TABLE_DONE;
	}
	table_unlock(table_header(bucket));
	return result;
}

/* Whether the entry is still the one that was found to be the key's, with this meta, at this
 * very place. Versions are a slot's own: elsewhere an equal one says nothing. */
static __always_inline int table_still(void *entry, const __u64 *key, __u32 found,
				       const struct table_shape shape)
{
	__u32 meta;

	return table_matches(entry, key, &meta, shape) && !((meta ^ found) & TABLE_VERSION_MASK);
}

/*
 * Removes what was found at `location` with meta `found`: whoever decides from a copy that an
 * entry has to go must not remove one that was made, or changed, meanwhile. TABLE_DONE: it is
 * gone. TABLE_ABSENT: it was no longer there. TABLE_BUSY.
 */
static __always_inline enum table_result
table_remove_found(void *map, const __u64 *key, table_location location, __u32 found,
		   const volatile struct table_seed *seed, __u32 count,
		   const struct table_shape shape)
{
	__u32 index = location >> TABLE_SLOT_BITS;
	__u32 slot = table_slot(location);
	enum table_result result = TABLE_ABSENT;
	void *bucket;

	if (location < 0 || slot >= TABLE_SLOTS)
		return TABLE_ABSENT;
	bucket = table_bucket(map, &index);
	if (!bucket || !table_lock(table_header(bucket)))
		return TABLE_BUSY;
	if (table_still(table_entry(bucket, slot, shape), key, found, shape)) {
		table_evict(map, bucket, slot, NULL, seed, count, shape);
		result = TABLE_DONE;
	}
	table_unlock(table_header(bucket));
	return result;
}

#endif
