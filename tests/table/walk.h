// SPDX-License-Identifier: Apache-2.0
//
// A full walk through a table's memory that holds it against every rule of bpf/table.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/table/native_table.h"

namespace maglane::test {

using Words = std::vector<__u64>;

// A table in memory of its own.
class Table {
 public:
  Table(native_shape shape, uint32_t buckets, uint64_t seed);
  native_table* get() { return &table_; }
  const native_table& operator*() const { return table_; }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Free> memory_;
  native_table table_;
};

// A table_seed from a number.
abi::table_seed make_seed(uint64_t number);

struct Entry {
  uint32_t bucket;
  uint32_t slot;
  uint32_t meta;
  Words key;  // without the state in its last word
  Words answer;
  bool foreign;  // in its second bucket
};

std::vector<Entry> entries_of(const native_table& table);

// Empty, or what is wrong: a lock that is held, a tag or a foreign bit or an overflow count that
// does not fit, an entry in neither of its buckets, half changed, doubled or not to be found.
// REQUIRES: nobody changes the table.
std::string faults_of(native_table* table);

}  // namespace maglane::test
