// SPDX-License-Identifier: Apache-2.0
//
// Quantities as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace maglane::cli {

std::string duration(double seconds);                            // "12s", "2h03m", "4d02h"
std::string bytes(double bytes);                                 // "512 B", "1.5 MiB"
std::string percent(double part, double whole);                  // "12.5%"; "-" of nothing
std::string count(double number);                                // whole numbers, however large
std::string counted(uint32_t number, const std::string& thing);  // "1 flow", "2 flows"
std::string bar(double share);                                   // 0..1 as up to 20 characters

// "10.0.0.1:80", "[fd00::1]:80"; "-" for no address.
std::string endpoint(const std::string& address, uint32_t port);

}  // namespace maglane::cli
