// SPDX-License-Identifier: Apache-2.0
#include "tools/maglane/units.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace maglane::cli {

std::string duration(double seconds) {
  if (seconds < 0.001) return "0s";
  if (seconds < 1) return fmt::format("{:.0f}ms", seconds * 1000);
  const auto whole = static_cast<uint64_t>(std::min(seconds, 1e15));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{}h{:02}m", whole / 3600, whole % 3600 / 60);
  return fmt::format("{}d{:02}h", whole / 86400, whole % 86400 / 3600);
}

std::string bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1024;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string percent(double part, double whole) {
  return whole == 0 ? "-" : fmt::format("{:.1f}%", 100 * part / whole);
}

std::string count(double number) {
  return fmt::format("{:.0f}", number);
}

std::string counted(uint32_t number, const std::string& thing) {
  return fmt::format("{} {}{}", number, thing, number == 1 ? "" : "s");
}

std::string bar(double share) {
  const double length = std::clamp(share, 0.0, 1.0) * 20;
  return std::string(static_cast<size_t>(std::lround(length)), '#');
}

std::string endpoint(const std::string& address, uint32_t port) {
  if (address.empty()) return "-";
  return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                : fmt::format("[{}]:{}", address, port);
}

}  // namespace maglane::cli
