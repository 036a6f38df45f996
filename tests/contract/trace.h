// SPDX-License-Identifier: Apache-2.0
//
// The packet-tracer table: which endpoints a packet of the cluster reaches. README.md has the
// format. Values only; model_test.cpp, packets_test.cpp and tests/netns/test_traces.py run it.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace maglane::test {

// Addresses in both families, either of which may be missing.
struct Named {
  std::optional<IpAddress> ipv4, ipv6;
  const std::optional<IpAddress>& of(Family family) const { return family == Family::ipv4 ? ipv4 : ipv6; }
};

struct TraceExpectation {
  enum class Kind { endpoints, drop, reject, pass, same };
  Kind kind = Kind::endpoints;
  bool one_of = false;                        // one of the endpoints has all connections
  std::string name;                           // AS NAME: what is found, or (SAME) what was found
  std::map<std::string, uint16_t> endpoints;  // "NAME:PORT": port
  bool all_masqueraded = false;
  std::set<std::string> masqueraded;  // of the endpoints, where not all
};

struct TraceLine {
  int number = 0;  // in its file
  std::string text;
  std::string connection;  // of #NAME; empty: connections of its own
  std::string source;      // a host
  std::string via;         // the node that a packet from outside is sent to; empty: whose address it is
  std::string destination; // a host, a name or an address
  uint16_t port = 0;
  std::set<Protocol> protocols;
  TraceExpectation expected;
};

// Files as the agents find them, then what is to hold.
struct TraceStep {
  std::map<std::string, std::string> objects;  // file: text; empty: it is removed
  std::vector<TraceLine> lines;
};

struct TraceCase {
  int number = 0;  // of its heading's line
  std::string title;
  std::set<int> points;  // of the service contract
  std::vector<TraceStep> steps;
  std::string id() const;  // its title as an identifier
};

struct TraceFile {
  std::string name;
  std::map<std::string, std::string> objects;  // before every case
  std::vector<std::string> options;            // of the agents
  std::map<std::string, Named> names;          // hosts of the lab, services
  std::vector<TraceCase> cases;

  // A name's or literal address in this family; none: the line is not for it.
  std::optional<IpAddress> address(const std::string& text, Family family) const;
};

// `root`: where files that objects refer to are.
Result<TraceFile> read_trace(const std::string& path, const std::string& root);
Result<TraceFile> parse_trace(std::string_view text, const std::string& name, const std::string& root);
// Those of a directory, by name. A file that cannot be read ends the test program.
std::vector<TraceFile> all_traces(const std::string& directory, const std::string& root);

}  // namespace maglane::test
