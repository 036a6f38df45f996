/* SPDX-License-Identifier: Apache-2.0
 *
 * A packet's look-up in the table of frontends: bpf/table.h itself, natively. C and C++.
 */
#ifndef MAGLANE_TESTS_PACKET_READER_H
#define MAGLANE_TESTS_PACKET_READER_H

#include "bpf/abi.h"

#ifdef __cplusplus
namespace maglane::abi {
extern "C" {
#endif

struct packet_reader {
  struct frontend_bucket* buckets;
  __u32 count;
  const struct table_seed* seed;
};

/* The index of the key's value; 0, which no frontend has: no such frontend. from_home: as packets that open
 * a connection look for it, not by the tags alone. */
__u32 packet_reader_find(const struct packet_reader* reader, const struct frontend_key* key, int from_home);

#ifdef __cplusplus
}
} /* namespace maglane::abi */
#endif
#endif
