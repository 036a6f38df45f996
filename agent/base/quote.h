// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace maglane {

// Text from outside, fit for one line of a log or a terminal: in double quotes, control
// characters and quotes escaped, cut after 80 bytes (at a UTF-8 boundary) with "...".
std::string in_quotes(std::string_view text);

}  // namespace maglane
