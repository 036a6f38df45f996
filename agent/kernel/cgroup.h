// SPDX-License-Identifier: Apache-2.0
//
// The root of cgroup2, to which the hooks at sockets belong: every process is below it.
#pragma once

#include <cstdint>
#include <string>

#include "agent/base/result.h"
#include "agent/kernel/fd.h"

namespace maglane {

struct CgroupRoot {
  Fd fd;             // the directory
  uint64_t id = 0;   // as links know it
  std::string path;  // where it is mounted; empty: nowhere, this is a mount that only `fd` leads to
};

// `mounts`: a file as /proc/self/mounts is. Where the root of cgroup2 is mounted nowhere, it is
// mounted for this descriptor alone: no directory shows it, and it is gone when that is closed.
// Fails if the root that can be seen is that of a cgroup namespace, since processes outside
// of it would be missed.
Result<CgroupRoot> open_cgroup_root(const std::string& mounts = "/proc/self/mounts");

}  // namespace maglane
