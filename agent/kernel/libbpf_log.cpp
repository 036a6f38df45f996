// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/libbpf_log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <deque>
#include <mutex>
#include <sstream>

namespace maglane {
namespace {

std::mutex mutex;
std::deque<std::string> lines_kept;
constexpr size_t kMostLines = 200;

int keep(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (level != LIBBPF_WARN) return 0;
  va_list again;
  va_copy(again, arguments);
  int size = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string text(size > 0 ? static_cast<size_t>(size) + 1 : 1, '\0');
  std::vsnprintf(text.data(), text.size(), format, arguments);
  text.resize(text.size() - 1);
  std::lock_guard lock(mutex);
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    if (line.empty()) continue;
    lines_kept.push_back(line);
    if (lines_kept.size() > kMostLines) lines_kept.pop_front();
  }
  return 0;
}

bool is_noise(const std::string& line) {
  return line.starts_with("processed ") || line.starts_with("verification time") ||
         line.starts_with("stack depth") || line.find("PROG LOAD LOG") != std::string::npos;
}

}  // namespace

LibbpfLog::LibbpfLog() {
  std::lock_guard lock(mutex);
  lines_kept.clear();
  previous_ = reinterpret_cast<void*>(libbpf_set_print(keep));
}

LibbpfLog::~LibbpfLog() {
  libbpf_set_print(reinterpret_cast<libbpf_print_fn_t>(previous_));
}

std::string LibbpfLog::tail(unsigned lines) const {
  std::lock_guard lock(mutex);
  std::deque<std::string> kept;
  for (auto i = lines_kept.rbegin(); i != lines_kept.rend() && kept.size() < lines; ++i) {
    if (!is_noise(*i)) kept.push_front(*i);
  }
  std::string text;
  for (const std::string& line : kept) text += (text.empty() ? "" : "\n") + line;
  return text;
}

}  // namespace maglane
