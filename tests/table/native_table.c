// SPDX-License-Identifier: Apache-2.0
#include "tests/table/native_table.h"

#include <sched.h>
#include <stddef.h>

#include "bpf/table_memory.h"

// Between any two accesses to the table's memory a thread may be held up, so that the others
// get a look at every state in between.
int native_stretched;

static void stretch(void) {
  static _Thread_local __u32 random = 1;
  if (!native_stretched) return;
  random = random * 1664525 + 1013904223;
  if (random >> 26 == 0) {
    for (volatile int n = 0; n < 300; ++n) {
    }
  } else if (random >> 22 == 1023) {
    sched_yield();
  }
}

#undef table_load64
#undef table_store64
#undef table_store8
#define table_load64(p) (stretch(), __atomic_load_n((p), __ATOMIC_ACQUIRE))
#define table_store64(p, v) (stretch(), __atomic_store_n((p), (v), __ATOMIC_RELAXED))
#define table_store8(p, v) (stretch(), __atomic_store_n((p), (v), __ATOMIC_RELAXED))

static void* native_bucket(void* map, const __u32* index);
#define table_bucket(map, index) native_bucket(map, index)
#include "bpf/table.h"

static void* native_bucket(void* map, const __u32* index) {
  const struct native_table* table = map;
  if (*index >= table->count) return NULL;
  return (char*)table->buckets + (size_t)*index * native_layout_of(table->shape).bucket_size;
}

static __u32 rank(const __u64* entry, __u32 now, const struct table_shape shape) {
  const __u8 worth = table_load32(table_meta((void*)entry, shape)) >> 8;
  return worth > now ? worth - now : 0;
}

#define SHAPE(name, NAME)                                                                      \
  static __u32 name##_scan(void* bucket, const __u64* key, __u8 tag);                          \
  static __u32 name##_victim(void* bucket, __u32 now, __u32 whim);                             \
  static const struct table_shape name##_shape = {                                             \
      TABLE_SHAPE_##NAME, .scan = name##_scan, .victim = name##_victim};                       \
  static __u32 name##_rank(const __u64* entry, __u32 now) {                                    \
    return rank(entry, now, name##_shape);                                                     \
  }                                                                                            \
  static __u32 name##_scan(void* bucket, const __u64* key, __u8 tag) {                         \
    return table_scan(bucket, key, tag, name##_shape);                                         \
  }                                                                                            \
  static __u32 name##_victim(void* bucket, __u32 now, __u32 whim) {                            \
    return table_victim(bucket, name##_rank, now, whim, name##_shape);                         \
  }

SHAPE(flow4, FLOW4)
SHAPE(flow6, FLOW6)
SHAPE(frontend, FRONTEND)

static const struct table_shape* shape_of(enum native_shape shape) {
  static const struct table_shape* shapes[SHAPES] = {&flow4_shape, &flow6_shape, &frontend_shape};
  return shapes[shape];
}

struct native_layout native_layout_of(enum native_shape shape) {
  static const __u32 sizes[SHAPES] = {sizeof(struct flow_bucket4), sizeof(struct flow_bucket6),
                                      sizeof(struct frontend_bucket)};
  const struct table_shape* of = shape_of(shape);
  return (struct native_layout){
      .key_words = of->key_words,
      .answer_words = of->entry_size / 8 - of->key_words,
      .bucket_size = sizes[shape],
      .first = of->first,
      .entry_size = of->entry_size,
      .tail_mask = of->tail_mask,
  };
}

__u64 native_hash(const struct table_seed* seed, const __u64* key, enum native_shape shape) {
  return table_hash(seed, key, *shape_of(shape));
}

static struct table_place place_of(const struct native_table* table, const __u64* key) {
  return table_place(native_hash(&table->seed, key, table->shape), table->count);
}

struct native_place native_place_of(const struct native_table* table, const __u64* key) {
  const struct table_place place = place_of(table, key);
  return (struct native_place){place.first, place.second, place.home, place.tag};
}

int native_insert(struct native_table* table, const __u64* key, const __u64* answer, __u32 state, __u32 now) {
  const struct table_place place = place_of(table, key);
  const enum table_result result =
      table_insert(table, key, answer, state, &place, now, &table->seed, table->count, *shape_of(table->shape));
  return result == TABLE_MADE_ROOM ? TABLE_DONE : result;
}

int native_find(struct native_table* table, const __u64* key, __u32* meta, __u64* answer) {
  const struct table_place place = place_of(table, key);
  const struct table_shape shape = *shape_of(table->shape);
  void* entry = table_at(table, table_locate(place.first, place.home), shape);
  const enum table_result at_home = table_copy(entry, key, meta, answer, shape);
  if (at_home != TABLE_ABSENT) return at_home;
  entry = table_at(table, table_search(table, key, &place, shape), shape);
  return entry ? table_copy(entry, key, meta, answer, shape) : TABLE_ABSENT;
}

int native_locate(struct native_table* table, const __u64* key) {
  const struct table_place place = place_of(table, key);
  return table_search(table, key, &place, *shape_of(table->shape));
}

int native_remove(struct native_table* table, const __u64* key) {
  const struct table_place place = place_of(table, key);
  return table_remove(table, key, &place, &table->seed, table->count, *shape_of(table->shape));
}

int native_remove_found(struct native_table* table, const __u64* key, int location, __u32 meta) {
  return table_remove_found(table, key, location, meta, &table->seed, table->count, *shape_of(table->shape));
}

int native_change(struct native_table* table, const __u64* key, const __u64* answer) {
  const struct table_shape shape = *shape_of(table->shape);
  const table_location location = native_locate(table, key);
  __u64* entry = table_at(table, location, shape);
  const __u32 index = location >> TABLE_SLOT_BITS;
  int result = TABLE_ABSENT;
  __u32 meta;
  if (!entry) return TABLE_ABSENT;
  struct table_header* header = native_bucket(table, &index);
  if (!table_lock(header)) return TABLE_BUSY;
  if (table_matches(entry, key, &meta, shape)) {
    table_begin_change(entry, shape);
    for (__u32 i = 0; i < shape.entry_size / 8 - shape.key_words; ++i)
      table_store64(&entry[shape.key_words + i], answer[i]);
    table_end_change(entry, shape);
    result = TABLE_DONE;
  }
  table_unlock(header);
  return result;
}

int native_add_state(struct native_table* table, const __u64* key, __u32 bits) {
  const struct table_shape shape = *shape_of(table->shape);
  void* entry = table_at(table, native_locate(table, key), shape);
  if (!entry) return TABLE_ABSENT;
  for (int tries = 0; tries < 4; ++tries) {
    __u32 meta;
    if (!table_matches(entry, key, &meta, shape)) return TABLE_ABSENT;
    if (table_swap32(table_meta(entry, shape), meta, meta | bits) == meta) return TABLE_DONE;
  }
  return TABLE_BUSY;
}

int native_expire(struct native_table* table, __u32 bucket, __u32 slot, __u32 due) {
  const struct table_shape shape = *shape_of(table->shape);
  struct table_header* header = native_bucket(table, &bucket);
  __u64* entry = table_entry(header, slot, shape);
  const __u32 meta = table_load32(table_meta(entry, shape));
  int expired = 0;
  if ((meta & due) != due || !table_lock(header)) return 0;
  if (table_load32(table_meta(entry, shape)) == meta) {
    table_evict(table, header, slot, NULL, &table->seed, table->count, shape);
    expired = 1;
  }
  table_unlock(header);
  return expired;
}

void native_hold(struct native_table* table, __u32 bucket) {
  while (!table_lock(native_bucket(table, &bucket))) {
  }
}

void native_release(struct native_table* table, __u32 bucket) { table_unlock(native_bucket(table, &bucket)); }
