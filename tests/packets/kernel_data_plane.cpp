// SPDX-License-Identifier: Apache-2.0
//
// The loaded programs, run by BPF_PROG_TEST_RUN in a network namespace of this process's own
// with maps of its own: beside a running agent without touching it.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "agent/kernel/call.h"
#include "agent/kernel/fd.h"
#include "tests/packets/kernel_object.h"

// The skeleton names the type of the constants in the global namespace.
using maglane::abi::node_config;
#include "maglane.skel.h"

namespace maglane::test {
namespace {

// The reason whose counter went up by one packet of so many bytes, and no other did.
std::optional<abi::reason> counted_reason(const std::vector<abi::counter>& before,
                                          const std::vector<abi::counter>& after, Program program,
                                          size_t bytes) {
  const size_t first = size_t{abi::REASON_COUNT} * hook_of(program);
  std::optional<abi::reason> found;
  for (size_t i = 0; i < before.size(); ++i) {
    const uint64_t packets = after[i].packets - before[i].packets;
    if (!packets && after[i].bytes == before[i].bytes) continue;
    const bool ours = i >= first && i < first + abi::REASON_COUNT;
    if (found || !ours || packets != 1 || after[i].bytes - before[i].bytes != bytes) return std::nullopt;
    found = static_cast<abi::reason>(i - first);
  }
  return found;
}

// Each set of constants has its own maps and programs, all of which stay open.
void allow_many_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit)) give_up("getrlimit");
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit)) give_up("setrlimit");
}

class KernelDataPlane final : public DataPlane {
 public:
  explicit KernelDataPlane(const Network& network)
      : original_(network), network_(network), namespace_(enter_network_namespace(network_)) {
    allow_many_files();
    // Programs remember on each CPU for itself: a test's packets are to meet on one.
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    if (sched_setaffinity(0, sizeof here, &here)) give_up("sched_setaffinity");
  }

  void reset(const abi::node_config& config) override {
    enter();
    auto& object = loaded_[std::string(reinterpret_cast<const char*>(&config), sizeof config)];
    if (!object) {
      size_t size = 0;
      const void* elf = maglane_bpf__elf_bytes(&size);
      object = std::make_unique<KernelObject>(elf, size, config, KernelObject::Sizes{}, network_);
    }
    current_ = object.get();
    current_->empty_maps();
    sockets_.clear();
    if (undo_.empty()) return;
    run_ip(undo_);
    network_ = original_;
    undo_.clear();
  }

  void put(const std::string& map, const void* key, const void* value) override {
    current_->put(map, key, value);
  }
  void erase(const std::string& map, const void* key) override { current_->erase(map, key); }
  std::optional<Bytes> get(const std::string& map, const void* key) override {
    return current_->get(map, key);
  }
  std::span<uint8_t> memory(const std::string& map) override { return current_->memory(map); }
  const Network& network() const override { return network_; }

  bool can_run(Program program, const Arrival& arrival) const override {
    const Bytes& frame = arrival.frame;
    if (arrival.vlan || arrival.linear || frame.size() < 15) return false;
    if (program == Program::xdp_uplink) return true;
    const int type = frame[12] << 8 | frame[13];
    return frame.size() >= 14U + (type == 0x0800 ? 20 : type == 0x86dd ? 40 : 1);
  }

  RunResult run(Program program, const Arrival& arrival) override {
    enter();
    const auto before = current_->counters();
    TestRun test(program == Program::xdp_uplink, arrival, program == Program::tc_egress);
    const int error = test.run(current_->program_fd(to_string(program)));
    EXPECT_EQ(error, 0) << "BPF_PROG_TEST_RUN of " << to_string(program) << ": " << std::strerror(-error);
    if (error) return {};
    return {verdict_of(program, test.verdict()), test.frame(),
            counted_reason(before, current_->counters(), program, arrival.frame.size()), std::nullopt};
  }

  void expire(abi::expire_call& call) override { run_call("expire", call); }
  void forget(abi::forget_call& call) override { run_call("forget", call); }
  void remove_flow(abi::remove_call& call) override { run_call("remove_flow", call); }

  void bind_socket(const HostPort& address, uint8_t protocol) override {
    enter();
    const bool v4 = address.address.family() == Family::ipv4;
    Fd sock(::socket(v4 ? AF_INET : AF_INET6, protocol == kProtoTcp ? SOCK_STREAM : SOCK_DGRAM, 0));
    sockaddr_in in{};
    sockaddr_in6 in6{};
    in.sin_family = AF_INET;
    in.sin_port = in6.sin6_port = htons(address.port);
    in6.sin6_family = AF_INET6;
    uint32_t be[4];
    address.address.to_be(be);
    std::memcpy(&in.sin_addr, be, sizeof in.sin_addr);
    std::memcpy(&in6.sin6_addr, be, sizeof in6.sin6_addr);
    if (v4 ? ::bind(sock.get(), reinterpret_cast<sockaddr*>(&in), sizeof in)
           : ::bind(sock.get(), reinterpret_cast<sockaddr*>(&in6), sizeof in6))
      give_up("binding a socket");
    if (protocol == kProtoTcp && ::listen(sock.get(), 1)) give_up("listening");
    sockets_.push_back(std::move(sock));
  }

  void move_neighbour(const IpAddress& address, const Mac& to) override {
    enter();
    Network before = network_;
    undo_ = before.move_neighbour(address, *network_.next_hop(address)->destination) + undo_;
    run_ip(network_.move_neighbour(address, to));
  }

  uint32_t slot() override {
    abi::clock_call clock{};
    run_call("clock", clock);
    return static_cast<uint32_t>(clock.jiffies >> clock.slot_shift) & abi::STAMP_SLOT_MASK;
  }
  bool native() const override { return false; }

 private:
  // Test frames come from devices of this process's namespace.
  void enter() const {
    if (setns(namespace_.get(), CLONE_NEWNET)) give_up("setns");
  }

  template <typename Call>
  void run_call(const char* program, Call& call) {
    const auto status = call_program(current_->program_fd(program), call);
    EXPECT_TRUE(status) << program << ": " << status.error().message;
  }

  const Network original_;
  Network network_;
  Fd namespace_;
  std::map<std::string, std::unique_ptr<KernelObject>> loaded_;  // by constants
  KernelObject* current_ = nullptr;
  std::vector<Fd> sockets_;
  std::string undo_;  // commands that put moved neighbours back
};

}  // namespace

std::unique_ptr<DataPlane> make_kernel_data_plane(const Network& network) {
  return std::make_unique<KernelDataPlane>(network);
}

}  // namespace maglane::test
