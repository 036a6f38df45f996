// SPDX-License-Identifier: Apache-2.0
//
// The BPF programs at the root of cgroup2, which translate service addresses at the socket
// (bpf/sock.h). The links are pinned in <bpffs>/links as sockets:<hook>, so they outlive the
// agent; a new agent swaps the programs in place.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/kernel/bpffs.h"
#include "agent/kernel/data_plane_config.h"
#include "agent/kernel/loader.h"

namespace maglane {

class SocketHooks {
 public:
  SocketHooks(Bpffs bpffs, std::shared_ptr<const DataPlane> data_plane, SocketTranslation wanted);

  // Attaches or swaps all of them, or takes them away where they are not wanted. Fails if one
  // cannot be attached: those of the others stay, so that what is open goes on.
  Status attach();

  // Where they are, for people: the cgroup's directory. Empty: not attached.
  const std::string& where() const { return where_; }
  SocketTranslation wanted() const { return wanted_; }

 private:
  Bpffs bpffs_;
  std::shared_ptr<const DataPlane> data_plane_;
  SocketTranslation wanted_;
  std::string where_;
};

// Takes away whatever hooks an agent with this directory attached.
Status remove_socket_hooks(const Bpffs& bpffs);

// Whether a program of this name is one of these, which are loaded only where they are wanted.
bool is_socket_program(std::string_view name);

}  // namespace maglane
