// SPDX-License-Identifier: Apache-2.0
//
// The control API over gRPC on a Unix socket that only the agent's user may open.
#pragma once

#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/control/handlers.h"

namespace maglane {

// Ok if a server can be started at `path`: nobody listens there, and nothing but a socket
// that was left behind is in the way.
Status check_socket(const std::string& path);

class ControlServer {
 public:
  // Makes the directory of `path` if need be. `handlers` must outlive this; they are called on
  // threads of the server.
  static Result<std::unique_ptr<ControlServer>> start(const std::string& path,
                                                      const ControlHandlers& handlers);
  // Ends calls that are under way within a second, and removes the socket.
  ~ControlServer();

 private:
  struct Impl;
  explicit ControlServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace maglane
