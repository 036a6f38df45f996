// SPDX-License-Identifier: Apache-2.0
#include "tools/maglane/json.h"

#include <google/protobuf/util/json_util.h>

namespace maglane::cli {

Result<std::string> to_json(const google::protobuf::Message& message, JsonLayout layout) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = layout == JsonLayout::indented;
  options.always_print_primitive_fields = true;
  std::string text;
  if (const auto status = google::protobuf::util::MessageToJsonString(message, &text, options); !status.ok())
    return Error{"cannot write JSON: " + status.ToString()};
  return text;
}

}  // namespace maglane::cli
