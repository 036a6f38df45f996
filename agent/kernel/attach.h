// SPDX-License-Identifier: Apache-2.0
//
// The BPF programs on the devices. All that is attached is pinned in <bpffs>/links, so it
// outlives the agent; a new agent swaps the programs in place. Acts in the network namespace
// of the calling thread.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/kernel/attach_plan.h"
#include "agent/kernel/bpffs.h"
#include "agent/kernel/loader.h"

namespace maglane {

// What a device carries, for people.
struct Attachment {
  std::string device;
  Role role = Role::uplink;
  Hook hook = Hook::xdp;
  std::string mode;  // native, generic, none; tcx, clsact
  std::string note;  // why it is not what was asked for
  auto operator<=>(const Attachment&) const = default;
};

// tcx where the kernel has it. Attaches nothing.
TcKind probe_tc_kind(const DataPlane& data_plane);

class Attacher {
 public:
  Attacher(Bpffs bpffs, std::shared_ptr<const DataPlane> data_plane, XdpPolicy policy, TcKind tc);

  // Brings the programs to `wanted` and nothing else, and map "devices" in line. XDP that
  // cannot be attached is a note in attachments(), since tc does its work; anything else is an
  // error, after all that is possible was done; a device that is gone by then is not. XDP that failed on a
  // device is tried again only with `retry`, as an attempt may disturb the link. `node_endpoints`:
  // there are endpoints in the node's own network, whose replies are to be met at tc egress; once
  // there were, that stays, since connections to them may be open. `masquerades`: pods have ports of the
  // node's, beside which its own sockets are looked after at tc egress of uplinks.
  Status attach(std::vector<WantedDevice> wanted, bool retry, bool node_endpoints = false,
                bool masquerades = false);

  const std::vector<Attachment>& attachments() const { return attachments_; }

 private:
  Status run(const RenamePin& step);
  Status run(const SwapProgram& step);
  Status run(const CreateLink& step);
  Status run(const EnsureFilter& step);
  Status run(const RemoveAttachment& step);
  Status create_xdp(const CreateLink& step);
  // Enters new devices, so that a program finds its device from its first packet on.
  Status enter_devices(const std::vector<WantedDevice>& wanted);
  // Brings map "devices" in line with what was attached.
  Status update_devices(const std::vector<WantedDevice>& wanted);
  int program_for(const WantedDevice& device, Hook hook) const;
  void report(const WantedDevice& device, Hook hook, std::string_view mode, std::string note);

  Bpffs bpffs_;
  std::shared_ptr<const DataPlane> data_plane_;
  XdpPolicy policy_;
  TcKind tc_;
  bool retry_ = true;
  std::map<uint32_t, std::string> xdp_failed_;  // by ifindex: why
  std::vector<Attachment> attachments_;
};

// Each device's hook that has a program of ours gets the pinned one of the same name. A device that
// is gone meanwhile is no error.
Status swap_to_pinned_programs(const Bpffs& bpffs);

// Removes all that any agent with this bpffs directory ever attached or pinned, whatever its
// configuration was. Nothing there is fine. Fails while an agent is running on it.
Status remove_everything(const std::string& bpffs_root);

}  // namespace maglane
