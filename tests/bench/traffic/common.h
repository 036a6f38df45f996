// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks share that make traffic (forward, flood): where they are, and the first
// headers of their frames.
#pragma once

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <netinet/in.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace maglane::bench {

// Says what failed, with errno where that is not 0, and ends the program.
[[noreturn]] void give_up(const std::string& what);

// Moves this thread into the network namespace /run/netns/NAME; sockets keep that they were made in.
void enter(const std::string& name);

// Only this CPU, of those that this process may use: number 0 is the first of them, and
// numbers start again at 0 after the last.
void pin(unsigned number);

unsigned eth0();  // its ifindex, in the namespace that this thread is in

in_addr_t address_of(const std::string& text);  // in network byte order

struct Headers {
  ethhdr ethernet;
  iphdr ip;
} __attribute__((packed));

// From nobody, and without the checksum.
Headers headers_to(const std::string& mac, const std::string& address, uint8_t protocol, size_t l4_bytes);

// Of the 16-bit words as they are in memory. REQUIRES: bytes is even.
uint32_t sum_words(const void* data, size_t bytes, uint32_t sum = 0);

}  // namespace maglane::bench
