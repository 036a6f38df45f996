// SPDX-License-Identifier: Apache-2.0
#include "agent/base/duration.h"

#include <fmt/format.h>

#include <charconv>

#include "agent/base/quote.h"

namespace maglane {
namespace {

constexpr uint64_t kMost = uint64_t{100} * 365 * 86400;

// Seconds of a unit; 0: there is no such unit.
uint64_t seconds_of(char unit) {
  switch (unit) {
    case 'h':
      return 3600;
    case 'm':
      return 60;
    case 's':
      return 1;
    default:
      return 0;
  }
}

}  // namespace

Result<uint64_t> parse_seconds(std::string_view text) {
  const Error wrong{fmt::format("{} is no time, as in 90, 90s or 1h30m", in_quotes(text))};
  uint64_t total = 0;
  uint64_t last_unit = UINT64_MAX;
  const char* at = text.data();
  const char* const end = at + text.size();
  if (at == end) return wrong;
  while (at != end) {
    uint64_t number = 0;
    auto [stop, error] = std::from_chars(at, end, number);
    if (error != std::errc() || number > kMost) return wrong;
    const bool bare = stop == end && at == text.data();
    const uint64_t unit = bare ? 1 : stop == end ? 0 : seconds_of(*stop);
    if (unit == 0 || unit >= last_unit) return wrong;
    total += number * unit;
    if (total > kMost) return wrong;
    last_unit = unit;
    at = bare ? stop : stop + 1;
  }
  return total;
}

}  // namespace maglane
