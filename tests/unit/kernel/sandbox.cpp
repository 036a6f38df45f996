// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/kernel/sandbox.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>

#include "agent/kernel/tc_filter.h"

namespace maglane {
namespace {

constexpr const char* kPrefix = "maglane-test-";

// Of test runs that were killed.
void remove_leftovers() {
  for (const std::string& name : Bpffs::list("/sys/fs/bpf")) {
    if (!name.starts_with(kPrefix)) continue;
    pid_t pid = std::atoi(name.c_str() + std::string_view(kPrefix).size());
    if (pid > 0 && ::kill(pid, 0) != 0) (void)remove_everything("/sys/fs/bpf/" + name);
  }
}

}  // namespace

void Sandbox::SetUp() {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  // Without a new network namespace there must be no test: it would act on the machine's own.
  if (::unshare(CLONE_NEWNET) != 0) {
    std::perror("unshare");
    std::abort();
  }
  remove_leftovers();
  root_ = fmt::format("/sys/fs/bpf/{}{}", kPrefix, ::getpid());
  run("ip link set lo up");
}

void Sandbox::TearDown() {
  if (root_.empty()) return;
  data_plane_.reset();
  bpffs_.reset();
  Status removed = remove_everything(root_);
  EXPECT_TRUE(removed.ok()) << removed.error().message;
}

void Sandbox::run(const std::string& command) {
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

std::string Sandbox::output(const std::string& command) {
  std::string text;
  FILE* pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> buffer;
  for (size_t n = 0; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;)
    text.append(buffer.data(), n);
  EXPECT_EQ(::pclose(pipe), 0) << command;
  return text;
}

uint32_t Sandbox::add_veth(const std::string& name) {
  run(fmt::format("ip link add {0} type veth peer name {0}p && ip link set {0} up && ip link set {0}p up",
                  name));
  return ::if_nametoindex(name.c_str());
}

DataPlaneOptions Sandbox::small_options() {
  DataPlaneOptions options;
  options.flow_entries = 1024;
  options.maglev_entries = 65536;
  return options;
}

DataPlaneOptions Sandbox::idle_options() {
  DataPlaneOptions options = small_options();
  options.ipv4 = options.ipv6 = false;
  return options;
}

std::unique_ptr<Attacher> Sandbox::start(XdpPolicy policy) {
  data_plane_.reset();
  bpffs_.reset();  // the agent before is gone
  bpffs_ = std::make_unique<Bpffs>(root_);
  Status prepared = bpffs_->prepare();
  EXPECT_TRUE(prepared.ok()) << prepared.error().message;
  auto loaded = DataPlane::load(*bpffs_, start_options_);
  EXPECT_TRUE(loaded.ok()) << loaded.error().message;
  if (!loaded) std::abort();
  data_plane_ = std::make_shared<DataPlane>(std::move(*loaded));
  tc_in_use_ = tc_.value_or(probe_tc_kind(*data_plane_));
  return std::make_unique<Attacher>(*bpffs_, data_plane_, policy, tc_in_use_);
}

uint32_t Sandbox::tcx_count(uint32_t ifindex) const {
  uint32_t flags = 0, count = 0;
  // Fails, and leaves the count, on a kernel without tcx.
  bpf_prog_query(static_cast<int>(ifindex), static_cast<bpf_attach_type>(46), 0, &flags, nullptr, &count);
  return count;
}

bool Sandbox::tc_is_empty(uint32_t ifindex) const {
  auto filter = query_filter(ifindex, Hook::tc_ingress);
  return (!filter || *filter == 0) && tcx_count(ifindex) == 0;
}

uint32_t Sandbox::link_id(const std::string& pin) const {
  Fd fd(bpf_obj_get((root_ + "/links/" + pin).c_str()));
  bpf_link_info info{};
  uint32_t size = sizeof info;
  return fd.ok() && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 ? info.id : 0;
}

uint32_t Sandbox::link_program(const std::string& pin) const {
  Fd fd(bpf_obj_get((root_ + "/links/" + pin).c_str()));
  bpf_link_info info{};
  uint32_t size = sizeof info;
  return fd.ok() && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 ? info.prog_id : 0;
}

std::string Sandbox::xdp_on(uint32_t ifindex) const {
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  if (bpf_xdp_query(static_cast<int>(ifindex), 0, &query) != 0) return "error";
  if (query.drv_prog_id != 0) return "native";
  return query.skb_prog_id != 0 ? "generic" : "none";
}

Fd load_foreign_xdp() {
  const bpf_insn instructions[] = {
      {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
      {.code = BPF_JMP | BPF_EXIT},
  };
  return Fd(
      bpf_prog_load(BPF_PROG_TYPE_XDP, "foreign", "GPL", instructions, std::size(instructions), nullptr));
}

}  // namespace maglane
