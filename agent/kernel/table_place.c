// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/table_place.h"

#include <string.h>

// Nothing here looks into a bucket.
#define table_bucket(map, index) ((void)(map), (void)(index), NULL)
#include "bpf/table.h"

_Static_assert(MAGLANE_TABLE_CROWDED == (int)TABLE_CROWDED, "both say when a bucket is crowded");

static const struct table_shape shapes[] = {
    [MAGLANE_TABLE_FRONTENDS] = {TABLE_SHAPE_FRONTEND},
    [MAGLANE_TABLE_FLOWS4] = {TABLE_SHAPE_FLOW4},
    [MAGLANE_TABLE_FLOWS6] = {TABLE_SHAPE_FLOW6},
};

static const size_t key_sizes[] = {
    [MAGLANE_TABLE_FRONTENDS] = sizeof(struct frontend_key),
    [MAGLANE_TABLE_FLOWS4] = sizeof(struct tuple4),
    [MAGLANE_TABLE_FLOWS6] = sizeof(struct tuple6),
};

struct maglane_table_place maglane_table_place_of(enum maglane_table table, const void* seed, const void* key,
                                                  uint32_t buckets) {
  __u64 words[sizeof(struct tuple6) / 8] = {0};
  memcpy(words, key, key_sizes[table]);
  const struct table_place place = table_place(table_hash(seed, words, shapes[table]), buckets);
  return (struct maglane_table_place){place.first, place.second, place.home, place.tag};
}
