// SPDX-License-Identifier: Apache-2.0
//
// The endpoints of one service port, and which of them a packet may reach from a node.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/resolve/node.h"
#include "agent/resolve/resolved.h"
#include "agent/source/model.h"

namespace maglane {

// In order of preference where two slices disagree on one address and port.
enum class Readiness : uint8_t { none = 0, serving_terminating = 1, ready = 2 };

// An endpoint before it is known who may reach it.
struct Candidate {
  ResolvedEndpoint endpoint;
  Readiness readiness = Readiness::none;
  bool serving = false;
  std::set<std::string> node_hints;
  std::set<std::string> zone_hints;
};

// The slices of one service, in order of their names.
using Slices = std::span<const std::shared_ptr<const v1::EndpointSlice>>;

// The union over the slices that serve the port: sorted by address and port, each once.
std::vector<Candidate> gather(const ServicePortKey& port, Slices slices, const NodeView& node);

// Ready endpoints that topology allows; without any, those that still serve while they
// terminate, wherever they are.
EndpointSet cluster_set(const std::vector<Candidate>& candidates, const NodeView& node);

// This node's ready endpoints; without any, its own that still serve while they terminate.
EndpointSet local_set(const std::vector<Candidate>& candidates);

EndpointCounts count_endpoints(const std::vector<Candidate>& candidates);

// The annotation maglane.dev/weight of each slice: how large a share of new connections its
// endpoints get, relative to those of other slices.
void complain_of_weights(Slices slices, std::vector<Complaint>* complaints);

}  // namespace maglane
