// SPDX-License-Identifier: Apache-2.0
//
// The rules of the service contract as plain C++ over the planned contents of the maps, without
// any of the packet path's code.
#pragma once

#include "tests/contract/play.h"

namespace maglane::test {

// A new connection as a node's hooks see it. from_pod: it comes in on a pod device of this node;
// from_node: a socket of the node's own network opens it.
struct NewConnection {
  IpAddress source;
  HostPort destination;
  Protocol protocol;
  bool from_pod;
  bool from_node;
};
Answer evaluate(const MapContents& contents, const abi::node_config& config, const NewConnection& connection);

// A node that is evaluated, not run.
std::unique_ptr<TraceNode> make_model_node(const std::string& name, const AgentOptions& options);

}  // namespace maglane::test
