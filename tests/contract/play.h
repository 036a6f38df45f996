// SPDX-License-Identifier: Apache-2.0
//
// Plays a case of the packet-tracer table on two nodes, whatever they are made of.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/source/model.h"
#include "tests/contract/agent.h"
#include "tests/contract/lab.h"
#include "tests/contract/trace.h"
#include "tests/support/packet_builder.h"

namespace maglane::test {

// New connections, or, if it has a name, one that may be known already.
struct Question {
  const LabHost& source;
  HostPort destination;
  Protocol protocol;
  std::string connection;
};

// What a node makes of them.
struct Answer {
  enum class Kind { endpoints, drop, reject, pass };
  Kind kind = Kind::pass;
  std::map<HostPort, bool> endpoints;  // whether the client's address is replaced
  std::string fault;                   // what is wrong whatever is expected
  uint32_t affinity_of = 0;            // in the model: the service that holds clients to an endpoint
  std::string to_string() const;
};

class TraceNode {
 public:
  virtual ~TraceNode() = default;
  // An agent that has just started, with these objects.
  virtual void start(const ClusterModel& model) = 0;
  virtual void change(const ClusterModel& model) = 0;
  // Nothing: there is no way to ask this here.
  virtual std::optional<Answer> ask(const Question& question) = 0;
};

using TraceNodes = std::map<std::string, std::unique_ptr<TraceNode>>;

// Every line of the case in this family; each problem is one line that names its place.
std::vector<std::string> play(const TraceFile& file, const TraceCase& one, Family family, TraceNodes& nodes);

}  // namespace maglane::test
