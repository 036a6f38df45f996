// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "tests/packets/data_plane.h"
#include "tests/support/native_runtime.h"

namespace maglane::test {
namespace {

class NativeDataPlane final : public DataPlane {
 public:
  explicit NativeDataPlane(const Network& network) : original_(network), network_(network) {}

  void reset(const abi::node_config& config) override {
    native_reset(config);
    network_ = original_;
    native_system().fib = [this](bpf_fib_lookup& params, uint32_t) {
      return network_.fib_lookup(params);
    };
  }

  void put(const std::string& map, const void* key, const void* value) override {
    if (native_map_named(map)->update(key, value, BPF_ANY)) std::abort();
  }
  void erase(const std::string& map, const void* key) override { native_map_named(map)->remove(key); }
  std::optional<Bytes> get(const std::string& map, const void* key) override {
    native_map* of = native_map_named(map);
    const auto* value = static_cast<const uint8_t*>(of->find(key));
    if (!value) return std::nullopt;
    return Bytes(value, value + of->value_size());
  }

  std::span<uint8_t> memory(const std::string& map) override { return native_map_named(map)->memory(); }

  bool can_run(Program, const Arrival&) const override { return true; }

  RunResult run(Program program, const Arrival& arrival) override {
    static constexpr NativeProgram kPrograms[] = {native_xdp_uplink, native_tc_uplink, native_tc_pod,
                                                 native_tc_egress};
    at_tc_ = program != Program::xdp_uplink;
    native_map_named("counters")->clear();  // from here on it holds what this run counts alone
    const NativeResult native =
        native_run(kPrograms[static_cast<int>(program)], arrival.frame, arrival.device,
                   at_tc_ ? arrival.linear : 0, arrival.gso_segments, arrival.vlan, arrival.gso_size);
    RunResult result{verdict_of(program, native.verdict), native.frame,
                     counted(program, arrival.frame.size()), std::nullopt};
    if (native.sent_to) result.sent_to = native.sent_to;
    return result;
  }

  void expire(abi::expire_call& call) override { native_expire(&call); }
  void forget(abi::forget_call& call) override { native_forget(&call); }
  void remove_flow(abi::remove_call& call) override { native_remove_flow(&call); }

  const Network& network() const override { return network_; }
  void bind_socket(const HostPort& address, uint8_t protocol) override {
    native_system().sockets.insert({protocol, address});
  }
  void move_neighbour(const IpAddress& address, const Mac& to) override {
    network_.move_neighbour(address, to);
  }
  uint32_t slot() override {
    return static_cast<uint32_t>(native_system().jiffies >> native_system().config.slot_shift) &
           abi::STAMP_SLOT_MASK;
  }
  bool native() const override { return true; }

 private:
  std::optional<abi::reason> counted(Program program, size_t bytes) {
    const auto touched = native_map_named("counters")->keys();
    if (touched.size() != 1) return std::nullopt;
    uint32_t index = 0;
    std::memcpy(&index, touched[0].data(), sizeof index);
    const auto counter = *get_value<abi::counter>("counters", index);
    const uint32_t first = uint32_t{abi::REASON_COUNT} * hook_of(program);
    if (counter.packets != 1 || counter.bytes != bytes || index < first || index >= first + abi::REASON_COUNT)
      return std::nullopt;
    return static_cast<abi::reason>(index - first);
  }

  const Network original_;
  Network network_;
  bool at_tc_ = false;
};

}  // namespace

std::unique_ptr<DataPlane> make_native_data_plane(const Network& network) {
  return std::make_unique<NativeDataPlane>(network);
}

}  // namespace maglane::test
