/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a key belongs in one of the data plane's tables: bpf/table.h compiled for user space,
 * so that agent, inspector and packets agree. C and C++.
 */
#ifndef MAGLANE_TABLE_PLACE_H
#define MAGLANE_TABLE_PLACE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// TABLE_CROWDED of bpf/table.h.
enum { MAGLANE_TABLE_CROWDED = 22 };

enum maglane_table { MAGLANE_TABLE_FRONTENDS, MAGLANE_TABLE_FLOWS4, MAGLANE_TABLE_FLOWS6 };

struct maglane_table_place {
  uint32_t first;   // bucket
  uint32_t second;  // bucket
  uint32_t home;    // slot in the first bucket
  uint8_t tag;
};

// seed: a struct table_seed; key: a struct frontend_key, tuple4 or tuple6.
struct maglane_table_place maglane_table_place_of(enum maglane_table table, const void* seed, const void* key,
                                                  uint32_t buckets);

#ifdef __cplusplus
}
#endif
#endif
