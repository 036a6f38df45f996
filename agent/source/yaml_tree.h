// SPDX-License-Identifier: Apache-2.0
//
// A YAML or JSON text as a tree of nodes with line numbers, safe to build from text that
// nobody trusts: depth, number of nodes and what aliases expand to are bounded, and
// nothing throws. YAML 1.2 as yaml-cpp reads it, plus the merge key "<<" of YAML 1.1,
// which Kubernetes' own tools understand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace maglane {

struct YamlNode {
  enum class Type : uint8_t { null, plain, quoted, sequence, mapping };

  Type type = Type::null;
  int line = 0;      // from 1
  std::string text;  // of a scalar
  // Items of a sequence; of a mapping key, value, key, value... where keys may be nodes of
  // any type. Owned by the document; an alias is the node that it stands for.
  std::vector<const YamlNode*> children;
  size_t own_children = 0;  // of `children` the first so many stand here, the others were merged in
  size_t size = 1;          // nodes in this tree, aliases expanded

  bool is_scalar() const { return type == Type::plain || type == Type::quoted; }
  // The value of a mapping's key; null if there is none, or this is no mapping.
  const YamlNode* find(std::string_view key) const;
};

struct YamlFailure {
  int line = 0;  // from 1; 0: the file as a whole
  std::string message;
};

struct YamlLimits {
  size_t depth = 200;        // of containers within containers
  size_t nodes = 4'000'000;  // in a document, aliases expanded
};

// Calls `visit` with the root of each document, in order; nodes live until it returns.
// Empty documents are left out. Stops at the first failure, which may come after earlier
// documents were visited.
std::optional<YamlFailure> parse_yaml(std::string_view text,
                                      const std::function<void(const YamlNode&)>& visit,
                                      const YamlLimits& limits = {});

// JSON writes characters beyond U+FFFF as a pair of \u escapes, which YAML does not know:
// returns the text with such pairs as one \U escape.
std::string join_json_surrogates(std::string_view text);

// The first place where a text is not UTF-8 or holds a control character other than tab,
// line feed and carriage return: YAML forbids both.
std::optional<YamlFailure> find_bad_character(std::string_view text);

}  // namespace maglane
