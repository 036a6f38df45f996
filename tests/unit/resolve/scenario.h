// SPDX-License-Identifier: Apache-2.0
//
// A resolved cluster as text, and text files that tell what objects resolve to. See
// tests/scenarios/README.md for the format.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/resolve/resolve.h"

namespace maglane::test {

// One line a service port, one indented line a frontend:
//   default/web:http TCP IPv4 80
//     cluster-ip 10.96.0.10:80 -> 10.1.0.1:8080 local, 10.1.1.1:8080 weight 3
//     node-port 192.0.2.1:30080 -> drop; pods -> 10.1.1.1:8080
std::string describe(const ResolvedCluster& cluster);

struct Section {
  std::string name;
  int line = 0;  // of its heading
  std::string text;
};

// Splits a file at its "== name" lines. Fails on text before the first.
Result<std::vector<Section>> split(std::string_view text);

// Runs all steps of a scenario; every problem is one line, none means that it passed.
std::vector<std::string> run(const std::vector<Section>& sections);

}  // namespace maglane::test
