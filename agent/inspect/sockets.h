// SPDX-License-Identifier: Apache-2.0
//
// Translated sockets as the inspector shows them. Pure.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "bpf/abi.h"
#include "proto/inspect.pb.h"

namespace maglane::inspect {

using SocketRecord = std::pair<abi::socket_key, abi::socket_peer>;

// By frontend and cookie; each use of a socket once. `services`: names by service id.
v1::SocketList list_sockets(std::vector<SocketRecord> records, const std::map<uint32_t, std::string>& services);

}  // namespace maglane::inspect
