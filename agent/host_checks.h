// SPDX-License-Identifier: Apache-2.0
//
// Settings of the machine on which forwarding depends.
#pragma once

#include <string>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/config.h"

namespace maglane {

// Which families to serve: those of the service CIDRs, or both; IPv6 only where the kernel has it.
DataPlaneOptions data_plane_options(const Config& config);

// What stands in the way, with the command that mends it. proc: "/proc", or a copy of it.
std::vector<Complaint> check_host(const Config& config, const DataPlaneOptions& options,
                                  const std::string& proc = "/proc");

}  // namespace maglane
