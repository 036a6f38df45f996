// SPDX-License-Identifier: Apache-2.0
//
// A node made of the packet path itself, natively or in the kernel: packets in, and what became
// of them read from the bytes that come out.
#pragma once

#include "tests/contract/play.h"
#include "tests/packets/scenario.h"

namespace maglane::test {

// `plane`: on this node's lab_network; must outlive the node.
std::unique_ptr<TraceNode> make_packet_node(const std::string& name, const AgentOptions& options, Mode mode,
                                            DataPlane& plane);

}  // namespace maglane::test
