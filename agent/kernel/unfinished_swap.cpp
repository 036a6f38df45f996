// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/unfinished_swap.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "agent/kernel/attach.h"
#include "agent/kernel/carry_over.h"
#include "agent/kernel/fd.h"
#include "agent/kernel/grace.h"

namespace maglane {
namespace {

constexpr const char* kTables[] = {"flows4", "flows6"};
constexpr const char* kHookPrograms[] = {"xdp_uplink", "tc_uplink", "tc_pod", "tc_egress"};

bool program_uses(int program, uint32_t map) {
  uint32_t maps[128];
  bpf_prog_info info{};
  info.nr_map_ids = std::size(maps);
  info.map_ids = reinterpret_cast<uintptr_t>(maps);
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(program, &info, &size) != 0) return false;
  uint32_t* end = maps + std::min<uint32_t>(info.nr_map_ids, std::size(maps));
  return std::find(maps, end, map) != end;
}

// Hooks get none of an agent's programs before all of them are pinned.
bool all_programs_use_new_tables(const Bpffs& bpffs) {
  for (const char* table : kTables) {
    Fd map(bpf_obj_get(bpffs.map(table).c_str()));
    bpf_map_info info{};
    uint32_t size = sizeof info;
    if (!map.ok() || bpf_obj_get_info_by_fd(map.get(), &info, &size) != 0) return false;
    for (const char* name : kHookPrograms) {
      Fd program(bpf_obj_get(bpffs.program(name).c_str()));
      if (!program.ok() || !program_uses(program.get(), info.id)) return false;
    }
  }
  return true;
}

Status take_back(const Bpffs& bpffs) {
  for (const char* table : kTables) {
    const std::vector<std::string> retired = bpffs.retired_maps(table);
    if (retired.empty()) continue;
    // The newest is the one that hooks use.
    if (std::rename(retired.front().c_str(), bpffs.map(table).c_str()) != 0)
      return Error{fmt::format("cannot rename {}: {}", retired.front(), std::strerror(errno))};
  }
  return ok_status();
}

}  // namespace

Status settle_unfinished_swap(const Bpffs& bpffs) {
  auto carry_over = CarryOver::open(bpffs);
  if (!carry_over) return carry_over.error();
  if (!carry_over->needed()) return ok_status();
  if (!all_programs_use_new_tables(bpffs)) return take_back(bpffs);
  Fd adopt(bpf_obj_get(bpffs.program("adopt").c_str()));
  if (!adopt.ok()) return Error{fmt::format("cannot open {}: {}", bpffs.program("adopt"), std::strerror(errno))};
  if (auto s = swap_to_pinned_programs(bpffs); !s) return s;
  wait_grace_period();
  auto carried = carry_over->run(adopt.get());
  if (!carried) return carried.error();
  spdlog::info("flows: {} carried over from tables of another size that an agent before had begun to replace",
               carried->flows);
  carry_over->finish();
  return ok_status();
}

}  // namespace maglane
