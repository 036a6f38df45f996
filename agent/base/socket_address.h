// SPDX-License-Identifier: Apache-2.0
//
// An IP address and a port, as people write them: "0.0.0.0:10256", "[::]:10256".
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/ip.h"

namespace maglane {

struct SocketAddress {
  IpAddress address;
  uint16_t port = 0;

  static Result<SocketAddress> parse(std::string_view text);  // port 1 to 65535
  std::string to_string() const { return address.with_port(port); }
  auto operator<=>(const SocketAddress&) const = default;
};

}  // namespace maglane
