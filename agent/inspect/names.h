// SPDX-License-Identifier: Apache-2.0
//
// The words for what the maps hold as numbers. Total: a number that has no word (another
// version wrote it, or it is garbage) is shown as the number.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

#include "agent/base/ip.h"
#include "bpf/abi.h"

namespace maglane::inspect {

std::string protocol_name(uint8_t protocol);    // "TCP", "UDP", "SCTP", "ICMP"
std::string frontend_type_name(uint8_t type);   // "cluster-ip"...
std::string mac_name(const uint8_t (&mac)[6]);  // "02:00:00:00:00:01"
Family family_of(uint8_t family);               // what is not FAMILY_IPV6 is taken for IPv4
std::string address_name(uint8_t family, const __be32 (&addr_be)[4]);
uint16_t host_port(__be16 port_be);

// A string of the ABI; ends with the array where the closing zero is missing. What is not
// printable ASCII, which no name in a cluster holds, becomes '?'.
template <size_t N>
std::string text_of(const char (&text)[N]) {
  std::string result(text, std::find(text, text + N, '\0'));
  for (char& c : result)
    if (c < ' ' || c > '~') c = '?';
  return result;
}

// "default/web", "default/web:http" where the port has a name.
std::string service_name(const abi::service_info& info);

}  // namespace maglane::inspect
