// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/carry_over.h"

#include <unistd.h>

#include <cstring>
#include <span>

#include "agent/kernel/call.h"
#include "agent/kernel/flow_table.h"

namespace maglane {
namespace {

// Flows on their way from table to table.
template <typename Entry>
class Batch {
 public:
  Batch(int program, abi::family family, CarryOver::Carried& sum) : program_(program), family_(family), sum_(sum) {}

  template <typename Flow>
  bool add(const Flow& flow) {
    Entry& entry = call_.entries[call_.head.count++];
    entry.tuple = flow.key;
    entry.tuple.pad[0] = flow.seen;
    entry.flow = flow.flow;
    return call_.head.count < std::size(call_.entries) || send();
  }
  bool send() {
    if (call_.head.count == 0) return true;
    call_.head.header = {};
    call_.head.family = family_;
    call_.head.adopted = call_.head.refused = 0;
    status_ = call_program(program_, call_);
    sum_.flows += call_.head.adopted;
    sum_.refused += call_.head.refused;
    call_.head.count = 0;
    return status_.ok();
  }
  const Status& status() const { return status_; }

 private:
  struct {
    abi::adopt_call head;
    Entry entries[abi::ADOPT_BYTES / sizeof(Entry)];
  } call_{};
  int program_;
  abi::family family_;
  CarryOver::Carried& sum_;
  Status status_ = ok_status();
};

template <typename Bucket>
std::span<Bucket> buckets(std::byte* memory, const BpfMap& map) {
  return {reinterpret_cast<Bucket*>(memory), map.capacity()};
}

}  // namespace

Result<CarryOver> CarryOver::open(const Bpffs& bpffs) {
  CarryOver carry;
  for (const abi::family family : {abi::FAMILY_IPV4, abi::FAMILY_IPV6}) {
    const bool ipv4 = family == abi::FAMILY_IPV4;
    const MapShape shape{ipv4 ? "flows4" : "flows6", sizeof(uint32_t),
                         static_cast<uint32_t>(ipv4 ? sizeof(abi::flow_bucket4) : sizeof(abi::flow_bucket6))};
    for (const std::string& path : bpffs.retired_maps(shape.name)) {
      auto map = BpfMap::open(path, shape, false);
      if (!map) return map.error();
      auto memory = map->map_memory(true);
      if (!memory) return memory.error();
      carry.tables_.push_back({std::move(*map), path, family, *memory});
    }
  }
  return carry;
}

Result<CarryOver::Carried> CarryOver::run(int adopt_program) const {
  Carried sum;
  for (const Table& table : tables_) {
    Status status = ok_status();
    if (table.family == abi::FAMILY_IPV4) {
      Batch<abi::flow_entry4> batch(adopt_program, table.family, sum);
      if (each_flow4(buckets<abi::flow_bucket4>(table.memory, table.map),
                     [&](const FlowEntry4& flow) { return batch.add(flow); }))
        batch.send();
      status = batch.status();
    } else {
      Batch<abi::flow_entry6> batch(adopt_program, table.family, sum);
      if (each_flow6(buckets<abi::flow_bucket6>(table.memory, table.map),
                     [&](const FlowEntry6& flow) { return batch.add(flow); }))
        batch.send();
      status = batch.status();
    }
    if (!status) return status.error().in("carrying flows over from " + table.path);
  }
  return sum;
}

void CarryOver::finish() {
  for (const Table& table : tables_) ::unlink(table.path.c_str());
  tables_.clear();
}

}  // namespace maglane
