// SPDX-License-Identifier: Apache-2.0
//
// A message as JSON (the proto3 mapping: lowerCamelCase, every field present).
#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "agent/base/result.h"

namespace maglane::cli {

enum class JsonLayout { one_line, indented };

// Ends without a newline where on one line, with one where indented.
Result<std::string> to_json(const google::protobuf::Message& message,
                            JsonLayout layout = JsonLayout::indented);

}  // namespace maglane::cli
