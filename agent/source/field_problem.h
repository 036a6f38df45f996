// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace maglane {

// What is wrong with one field of an object.
struct FieldProblem {
  std::string path;     // "spec.ports[0].port"
  std::string message;  // "70000 is not a port (expected 1 to 65535)"
  int line = 0;         // in the file, from 1; 0: not known
};
using FieldProblems = std::vector<FieldProblem>;

}  // namespace maglane
