// SPDX-License-Identifier: Apache-2.0
//
// What any client may send to the health servers: each request gets one whole answer, as long
// as its Content-Length says.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/health/http.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view sent(reinterpret_cast<const char*>(data), size);
  (void)maglane::is_whole_head(sent);
  bool asked = false, head_only = false;
  const auto answer = maglane::http_response(sent.substr(0, maglane::kMaxRequestHead), {30500, maglane::Family::ipv4},
                                             [&](const maglane::HttpRequest& request) {
                                               if (request.method.empty() || asked) std::abort();
                                               asked = true;
                                               head_only = request.method == "HEAD";
                                               return maglane::HttpAnswer{200, "application/json", {}, "{}"};
                                             });
  const size_t end = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.1 ") || end == std::string::npos) std::abort();
  if (answer.find("Content-Length: ") > end) std::abort();
  const size_t length = asked && !head_only ? 2 : 0;
  if (answer.size() != end + 4 + length) std::abort();
  return 0;
}
