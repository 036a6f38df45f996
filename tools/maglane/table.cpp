// SPDX-License-Identifier: Apache-2.0
#include "tools/maglane/table.h"

#include <algorithm>
#include <utility>

namespace maglane::cli {

Table::Table(std::vector<Column> columns, std::function<void(const std::string&)> sink, std::string indent)
    : columns_(std::move(columns)), sink_(std::move(sink)), indent_(std::move(indent)) {}

void Table::add(std::vector<std::string> cells) {
  ++rows_;
  cells.resize(columns_.size());
  if (settled_) {
    print(cells);
    return;
  }
  waiting_.push_back(std::move(cells));
  if (waiting_.size() == kSample) settle();
}

void Table::finish() {
  if (!settled_ && !waiting_.empty()) settle();
}

void Table::settle() {
  settled_ = true;
  std::vector<std::string> titles;
  for (const Column& column : columns_) {
    titles.push_back(column.title);
    widths_.push_back(column.title.size());
  }
  for (const auto& row : waiting_)
    for (size_t i = 0; i < row.size(); ++i) widths_[i] = std::max(widths_[i], row[i].size());
  print(titles);
  for (const auto& row : waiting_) print(row);
  waiting_.clear();
}

void Table::print(const std::vector<std::string>& cells) {
  std::string line = indent_;
  for (size_t i = 0; i < cells.size(); ++i) {
    const size_t padding = widths_[i] - std::min(widths_[i], cells[i].size());
    if (i != 0) line += "  ";
    if (columns_[i].right) line.append(padding, ' ');
    line += cells[i];
    if (!columns_[i].right) line.append(padding, ' ');
  }
  line.erase(line.find_last_not_of(' ') + 1);
  sink_(line + "\n");
}

}  // namespace maglane::cli
