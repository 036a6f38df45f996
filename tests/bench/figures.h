// SPDX-License-Identifier: Apache-2.0
//
// The figures of a benchmark: rows of named values, printed as a table for people or as a
// JSON array, the form that tools/plot draws.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace maglane::bench {

using Value = std::variant<std::string, double, uint64_t>;
using Row = std::vector<std::pair<std::string, Value>>;  // in the order in which it is printed

inline std::string text_of(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{:.6g}", *number);
  return fmt::format("{}", std::get<uint64_t>(value));
}

// Names and texts are the benchmark's own: nothing in them needs an escape.
inline void print_json(const std::vector<Row>& rows) {
  fmt::print("[");
  for (size_t i = 0; i < rows.size(); ++i) {
    fmt::print("{}\n  {{", i == 0 ? "" : ",");
    for (size_t j = 0; j < rows[i].size(); ++j) {
      const auto& [key, value] = rows[i][j];
      const char* quote = std::holds_alternative<std::string>(value) ? "\"" : "";
      fmt::print("{}\"{}\": {}{}{}", j == 0 ? "" : ", ", key, quote, text_of(value), quote);
    }
    fmt::print("}}");
  }
  fmt::print("\n]\n");
}

// One line for each row; a row of other keys than the one before starts a new table.
inline void print_table(const std::vector<Row>& rows) {
  const auto same_keys = [](const Row& a, const Row& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](auto& x, auto& y) { return x.first == y.first; });
  };
  for (size_t i = 0; i < rows.size(); ++i) {
    if (i == 0 || !same_keys(rows[i - 1], rows[i])) {
      fmt::print("{}", i == 0 ? "" : "\n");
      for (const auto& [key, value] : rows[i]) fmt::print("{:<18}", key);
      fmt::print("\n");
    }
    for (const auto& [key, value] : rows[i]) fmt::print("{:<18}", text_of(value));
    fmt::print("\n");
  }
}

inline void print(const std::vector<Row>& rows, bool json) { json ? print_json(rows) : print_table(rows); }

}  // namespace maglane::bench
