// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace maglane {

// Seconds: "90", or as Go and so Kubernetes write it in hours, minutes and seconds, "1h30m", "24h0m0s".
// Whole seconds only, at most a hundred years.
Result<uint64_t> parse_seconds(std::string_view text);

}  // namespace maglane
