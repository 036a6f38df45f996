// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/forward/traffic_common.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "agent/kernel/fd.h"

namespace maglane::bench {

void give_up(const std::string& what) {
  const int error = errno;
  fmt::print(stderr, "bench_forward: {}{}{}\n", what, error ? ": " : "", error ? std::strerror(error) : "");
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

}  // namespace maglane::bench
