// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <string>

namespace maglane {

// What names an object among those of its kind.
struct ObjectKey {
  std::string namespace_name;  // empty for kinds that live in no namespace
  std::string name;
  // "default/web", or "node-a" without a namespace.
  std::string to_string() const { return namespace_name.empty() ? name : namespace_name + "/" + name; }
  auto operator<=>(const ObjectKey&) const = default;
};

}  // namespace maglane
