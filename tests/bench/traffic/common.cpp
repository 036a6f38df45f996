// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/traffic/common.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <net/if.h>
#include <sched.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "agent/kernel/fd.h"

namespace maglane::bench {
namespace {

void set_mac(const std::string& text, unsigned char (&mac)[ETH_ALEN]) {
  if (std::sscanf(text.c_str(), "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
                  &mac[5]) == 6)
    return;
  errno = 0;
  give_up("'" + text + "' is no MAC address");
}

}  // namespace

void give_up(const std::string& what) {
  const int error = errno;
  fmt::print(stderr, "{}: {}{}{}\n", program_invocation_short_name, what, error ? ": " : "",
             error ? std::strerror(error) : "");
  std::exit(1);
}

void enter(const std::string& name) {
  const Fd there(::open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!there.ok() || ::setns(there.get(), CLONE_NEWNET) != 0) give_up("network namespace " + name);
}

void pin(unsigned number) {
  cpu_set_t allowed, one;
  if (sched_getaffinity(0, sizeof allowed, &allowed)) give_up("sched_getaffinity");
  number %= static_cast<unsigned>(CPU_COUNT(&allowed));
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed) || number-- != 0) continue;
    CPU_SET(cpu, &one);
    break;
  }
  if (sched_setaffinity(0, sizeof one, &one)) give_up("sched_setaffinity");
}

in_addr_t address_of(const std::string& text) {
  in_addr address{};
  errno = 0;
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) give_up("'" + text + "' is no IPv4 address");
  return address.s_addr;
}

unsigned eth0() {
  const unsigned index = if_nametoindex("eth0");
  if (index == 0) give_up("eth0");
  return index;
}

Headers headers_to(const std::string& mac, const std::string& address, uint8_t protocol, size_t l4_bytes) {
  Headers headers{};
  set_mac(mac, headers.ethernet.h_dest);
  headers.ethernet.h_source[0] = 2;  // locally administered
  headers.ethernet.h_proto = htons(ETH_P_IP);
  headers.ip.version = 4;
  headers.ip.ihl = 5;
  headers.ip.ttl = 64;
  headers.ip.protocol = protocol;
  headers.ip.tot_len = htons(static_cast<uint16_t>(sizeof(iphdr) + l4_bytes));
  headers.ip.daddr = address_of(address);
  return headers;
}

uint32_t sum_words(const void* data, size_t bytes, uint32_t sum) {
  const auto* at = static_cast<const uint8_t*>(data);
  for (size_t i = 0; i < bytes; i += 2) {
    uint16_t word;
    std::memcpy(&word, at + i, 2);
    sum += word;
  }
  return sum;
}

}  // namespace maglane::bench
