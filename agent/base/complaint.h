// SPDX-License-Identifier: Apache-2.0
//
// A problem with the user's objects that does not stop the agent: reported in the log and
// in status until it is mended, while everything else goes on.
#pragma once

#include <compare>
#include <string>

namespace maglane {

// An object, or a part of one, that cannot be served as it stands.
struct Complaint {
  std::string where;    // "file.yaml:12" or "Service default/web"
  std::string message;  // one line: what is wrong and what would be right
  auto operator<=>(const Complaint&) const = default;
};

}  // namespace maglane
