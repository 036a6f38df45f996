// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/kernel/packet_reader.h"

#include <stddef.h>
#include <string.h>

static void* bucket_of(const struct packet_reader* reader, const __u32* index) {
  return *index < reader->count ? &reader->buckets[*index] : NULL;
}
#define table_bucket(map, index) bucket_of(map, index)
#include "bpf/table.h"

static __u32 scan(void* bucket, const __u64* key, __u8 tag);
static const struct table_shape shape = {TABLE_SHAPE_FRONTEND, .scan = scan};

static __u32 scan(void* bucket, const __u64* key, __u8 tag) {
  return table_scan(bucket, key, tag, shape);
}

__u32 packet_reader_find(const struct packet_reader* reader, const struct frontend_key* key, int from_home) {
  __u64 words[3] = {0};
  memcpy(words, key, sizeof *key);
  const struct table_place place = table_place(table_hash(reader->seed, words, shape), reader->count);
  const table_location location = from_home ? table_search_from_home((void*)reader, words, &place, shape)
                                            : table_search((void*)reader, words, &place, shape);
  const struct frontend_entry* entry = table_at((void*)reader, location, shape);
  return entry ? __atomic_load_n(&entry->value, __ATOMIC_ACQUIRE) : 0;
}
