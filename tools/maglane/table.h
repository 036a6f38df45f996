// SPDX-License-Identifier: Apache-2.0
//
// Columns of text that line up. Rows are handed on as they come: the widths are settled by
// the first kSample rows, a longer cell later on only pushes its own row out of line.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace maglane::cli {

struct Column {
  std::string title;
  bool right = false;  // aligned to the right: numbers
};

class Table {
 public:
  static constexpr size_t kSample = 1000;

  // `sink` gets whole lines. A table without rows prints nothing.
  Table(std::vector<Column> columns, std::function<void(const std::string&)> sink, std::string indent = "");

  void add(std::vector<std::string> cells);
  void finish();  // what is still held back; no add afterwards
  bool empty() const { return rows_ == 0; }

 private:
  void settle();
  void print(const std::vector<std::string>& cells);

  std::vector<Column> columns_;
  std::function<void(const std::string&)> sink_;
  std::string indent_;
  std::vector<std::vector<std::string>> waiting_;
  std::vector<size_t> widths_;
  size_t rows_ = 0;
  bool settled_ = false;
};

}  // namespace maglane::cli
