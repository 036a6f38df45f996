// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/socket_hooks.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "agent/kernel/cgroup.h"
#include "agent/kernel/fd.h"

namespace maglane {
namespace {

constexpr const char* kPinPrefix = "sockets:";
constexpr const char* kProgramPrefix = "sock_";

struct SocketHook {
  const char* name;
  bpf_attach_type type;
};

// In the order in which they are attached: a socket that is given an endpoint is asked for its
// peer by hooks that know of it.
constexpr std::array<SocketHook, 9> kHooks = {{
    {"release", BPF_CGROUP_INET_SOCK_RELEASE},
    {"getpeername4", BPF_CGROUP_INET4_GETPEERNAME},
    {"getpeername6", BPF_CGROUP_INET6_GETPEERNAME},
    {"recvmsg4", BPF_CGROUP_UDP4_RECVMSG},
    {"recvmsg6", BPF_CGROUP_UDP6_RECVMSG},
    {"sendmsg4", BPF_CGROUP_UDP4_SENDMSG},
    {"sendmsg6", BPF_CGROUP_UDP6_SENDMSG},
    {"connect4", BPF_CGROUP_INET4_CONNECT},
    {"connect6", BPF_CGROUP_INET6_CONNECT},
}};

std::string pin_of(const Bpffs& bpffs, const SocketHook& hook) {
  return bpffs.link(std::string(kPinPrefix) + hook.name);
}

uint32_t program_id(int fd) {
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.id : 0;
}

Error hook_error(const SocketHook& hook, const char* what, int error) {
  const char* hint = error == EPERM ? " (is a program attached there that tolerates no other?)" : "";
  return Error{fmt::format("socket hook {}: {}: {}{}", hook.name, what, std::strerror(error), hint)};
}

// The pinned link if it is at this hook of this cgroup; `program`: its program's id.
Fd open_link(const std::string& pin, const SocketHook& hook, const CgroupRoot& root, uint32_t& program) {
  Fd link(bpf_obj_get(pin.c_str()));
  bpf_link_info info{};
  uint32_t size = sizeof info;
  if (!link.ok() || bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0) return Fd();
  if (info.type != BPF_LINK_TYPE_CGROUP || info.cgroup.cgroup_id != root.id ||
      info.cgroup.attach_type != uint32_t{hook.type}) {
    return Fd();
  }
  program = info.prog_id;
  return link;
}

Status remove_link(const std::string& pin) {
  // Not only unpinned: anyone may hold the link open.
  Fd link(bpf_obj_get(pin.c_str()));
  if (link.ok()) bpf_link_detach(link.get());
  if (::unlink(pin.c_str()) == 0 || errno == ENOENT) return ok_status();
  return Error{fmt::format("cannot remove {}: {}", pin, std::strerror(errno))};
}

Status attach_hook(const SocketHook& hook, const std::string& pin, int program, const CgroupRoot& root) {
  uint32_t present = 0;
  if (Fd link = open_link(pin, hook, root, present); link.ok()) {
    if (present == program_id(program)) return ok_status();
    int error = bpf_link_update(link.get(), program, nullptr);
    return error == 0 ? ok_status() : Status(hook_error(hook, "cannot swap the program", -error));
  }
  if (auto s = remove_link(pin); !s) return s;
  Fd link(bpf_link_create(program, root.fd.get(), hook.type, nullptr));
  if (!link.ok()) return hook_error(hook, "cannot attach", errno);
  return Bpffs::pin(link.get(), pin);
}

}  // namespace

SocketHooks::SocketHooks(Bpffs bpffs, std::shared_ptr<const DataPlane> data_plane, SocketTranslation wanted)
    : bpffs_(std::move(bpffs)), data_plane_(std::move(data_plane)), wanted_(wanted) {}

Status SocketHooks::attach() {
  where_.clear();
  if (wanted_ == SocketTranslation::off) return remove_socket_hooks(bpffs_);
  auto root = open_cgroup_root();
  if (!root) return root.error().in("--socket-translation");
  for (const SocketHook& hook : kHooks) {
    int program = data_plane_->program(std::string(kProgramPrefix) + hook.name);
    if (auto s = attach_hook(hook, pin_of(bpffs_, hook), program, *root); !s)
      return s.error().in("--socket-translation");
  }
  where_ = root->path.empty() ? "the root of cgroup2, which is mounted nowhere" : root->path;
  return ok_status();
}

Status remove_socket_hooks(const Bpffs& bpffs) {
  for (auto hook = kHooks.rbegin(); hook != kHooks.rend(); ++hook) {
    if (auto s = remove_link(pin_of(bpffs, *hook)); !s) return s;
  }
  return ok_status();
}

bool is_socket_program(std::string_view name) {
  return name.starts_with(kProgramPrefix);
}

}  // namespace maglane
