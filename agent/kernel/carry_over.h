// SPDX-License-Identifier: Apache-2.0
//
// Flows outlive the size of their tables: when an option changes it, the loader pins the old
// tables under another name beside the new ones (Bpffs::retired_map), and what is in them goes
// over when all programs have been swapped; then the old ones go. Not before: a copy would be out of
// date as soon as a program that uses the old table closes the flow, or gives its port away. What
// packets need until then, programs that have been swapped take up one by one, and they look after
// connections that meet others which have not (bpf/flow.h). An agent that dies leaves the old tables
// to the next (unfinished_swap.h).
#pragma once

#include <cstdint>
#include <vector>

#include "agent/base/result.h"
#include "agent/kernel/bpf_map.h"
#include "agent/kernel/bpffs.h"
#include "bpf/abi.h"

namespace maglane {

class CarryOver {
 public:
  struct Carried {
    uint64_t flows = 0;
    uint64_t refused = 0;  // the new table had no room for them
  };

  // What is pinned of retired tables; mostly nothing.
  static Result<CarryOver> open(const Bpffs& bpffs);

  CarryOver() = default;  // of nothing

  bool needed() const { return !tables_.empty(); }
  // Copies what the new tables do not have yet and is worth it (bpf/adopt.h). adopt_program: of program
  // "adopt"; not taken over. REQUIRES: no packet meets a program that uses the old ones alone.
  Result<Carried> run(int adopt_program) const;
  // Gives the old tables up. REQUIRES: no packet meets a program that uses them, and run() since.
  void finish();

 private:
  struct Table {
    BpfMap map;
    std::string path;
    abi::family family;
    std::byte* memory;
  };
  std::vector<Table> tables_;
};

}  // namespace maglane
