// SPDX-License-Identifier: Apache-2.0
#include "agent/base/socket_address.h"

#include <fmt/format.h>

#include <charconv>

#include "agent/base/quote.h"

namespace maglane {

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  const Error wrong{fmt::format("{} is no address and port (expected such as 0.0.0.0:10256 or [::1]:10256)",
                                in_quotes(std::string(text)))};
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return wrong;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  const bool brackets = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (brackets) host = host.substr(1, host.size() - 2);
  const auto address = IpAddress::parse(host);
  SocketAddress result;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), result.port);
  if (!address || brackets != (address->family() == Family::ipv6) || failure != std::errc() ||
      end != digits.data() + digits.size() || result.port == 0)
    return wrong;
  result.address = *address;
  return result;
}

}  // namespace maglane
