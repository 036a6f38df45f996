// SPDX-License-Identifier: Apache-2.0
//
// Serves HTTP on some addresses with one thread, for anybody who can reach them: whatever
// clients do, memory, descriptors and the time that each may take are bounded, and a new
// request is served, since where there are too many connections the oldest makes room.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/base/socket_address.h"
#include "agent/health/http.h"

namespace maglane {

struct HttpLimits {
  size_t connections = 256;
  // From the connection's begin to the end of the request's head; to send the answer; and for
  // the client to take note and close.
  std::chrono::milliseconds request{5000}, answer{10000}, close{1000};
};

class HttpServer {
 public:
  // Listens nowhere yet. handler: called on the server's thread, one call at a time; whatever it
  // refers to must outlive the server. thread_name: up to 15 characters.
  static Result<std::unique_ptr<HttpServer>> start(const std::string& thread_name, HttpHandler handler,
                                                   HttpLimits limits = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Listens on these and no others from now on; what was open before is left alone. The
  // unspecified address, of either family, means all addresses of both. Returns why it could
  // not for each address where it could not: call again for another try. Thread-safe.
  std::map<SocketAddress, Error> listen(const std::set<SocketAddress>& wanted);

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace maglane
