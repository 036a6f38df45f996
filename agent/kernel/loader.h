// SPDX-License-Identifier: Apache-2.0
//
// Brings the BPF programs and maps into the kernel: what is pinned is taken up again, what is
// new is pinned. Attaches nothing (attach.h), so packets see none of it yet, except through
// the maps that attached programs share.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/kernel/bpffs.h"
#include "agent/kernel/data_plane_config.h"
#include "agent/kernel/fd.h"

namespace maglane {

class DataPlane {
 public:
  // REQUIRES: bpffs.prepare() was called. Pinned maps whose size is no longer the one asked
  // for are replaced by empty ones (the maps that the agent owns all together, since they
  // refer to each other), and so are tables whose seed is gone; programs attached before go on
  // with the old ones until they are swapped. Flows go over (carry_over.h). If the kernel refuses
  // a program, what an agent before has left is taken up as it is: see refused(). Fails, changing
  // nothing, if there is no such, or if pinned maps are of another ABI.
  static Result<DataPlane> load(const Bpffs& bpffs, const DataPlaneOptions& options);

  // Of "xdp_uplink", "tc_uplink", "tc_pod", "tc_egress", "expire", "adopt", "clock", "forget", "remove_flow",
  // and unless sockets are switched off "sock_connect4" and its like; owned by this.
  int program(const std::string& name) const { return programs_.at(name).get(); }
  // By the name in bpf/maps.h; owned by this.
  int map(const std::string& name) const { return maps_.at(name).get(); }
  // Of a map: how many it has room for.
  uint32_t entries(const std::string& name) const;
  // Not empty: why the kernel did not take the programs of this agent; these are an older one's,
  // with its options.
  const std::string& refused() const { return refused_; }
  // The programs forget the tables that theirs take the place of (bpf/flow.h). REQUIRES: no hook has a
  // program any more that uses those.
  void let_go_of_retired() const;
  // Maps that were replaced by empty ones.
  const std::vector<std::string>& replaced_maps() const { return replaced_; }

 private:
  Status pin(const Bpffs& bpffs, const std::vector<std::string>& new_maps,
             const abi::table_seed& seed) const;

  std::map<std::string, Fd> programs_;
  std::map<std::string, Fd> maps_;
  std::vector<std::string> replaced_;
  std::map<std::string, uint32_t> retired_;  // replaced ones that stay pinned, by name: their ids
  std::string refused_;
};

}  // namespace maglane
