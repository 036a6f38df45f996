// SPDX-License-Identifier: Apache-2.0
//
// Ends sockets of other programs (sock_diag(7), SOCK_DESTROY): whoever waits, or asks for an error,
// is told ECONNABORTED, and the socket is connected to nobody (send(2): EDESTADDRREQ).
#pragma once

#include <cstdint>
#include <map>

#include "agent/base/result.h"
#include "bpf/abi.h"

namespace maglane {

// Ends the UDP sockets with these cookies that are connected to these endpoints, in the network
// namespace of the calling thread. Their programs learn of it at once, or with their next call,
// and connect anew. Those that are closed or connected elsewhere by now do not count. Returns how
// many were ended. Fails where the kernel cannot (CONFIG_INET_DIAG_DESTROY), or without
// CAP_NET_ADMIN.
Result<uint32_t> end_udp_sockets(const std::map<uint64_t, abi::socket_peer>& sockets);

}  // namespace maglane
