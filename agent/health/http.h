// SPDX-License-Identifier: Apache-2.0
//
// HTTP/1.x (RFC 9112) apart from sockets: the bytes of an answer to the bytes of a request.
// Every connection carries one request; a request's body is never read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "agent/base/ip.h"

namespace maglane {

// Of a request, all bytes up to the empty line that ends its head.
inline constexpr size_t kMaxRequestHead = 8192;

// Where on this host a request came in.
struct HttpPlace {
  uint16_t port = 0;
  Family family = Family::ipv4;
};

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // "/healthz", without the query
  HttpPlace place;
};

struct HttpAnswer {
  int status = 200;
  std::string content_type;
  std::map<std::string, std::string> headers;
  std::string body;
};

using HttpHandler = std::function<HttpAnswer(const HttpRequest&)>;

// Whether a request's head has been received to its end.
bool is_whole_head(std::string_view received);

// The answer, head and body, to what was received: the handler's, or status 400 where it is no
// request. Never longer than the handler's answer by more than a kilobyte.
std::string http_response(std::string_view head, const HttpPlace& place, const HttpHandler& handler);

// What a request is told whose head is longer than kMaxRequestHead.
std::string http_too_long();

}  // namespace maglane
