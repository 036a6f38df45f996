// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/netns.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "agent/kernel/fd.h"

namespace maglane {

Result<uint64_t> netns_cookie() {
  Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (!socket.ok() || ::getsockopt(socket.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0) {
    return Error{fmt::format("cannot learn the network namespace's cookie: {}", std::strerror(errno))};
  }
  return cookie;
}

}  // namespace maglane
