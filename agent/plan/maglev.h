// SPDX-License-Identifier: Apache-2.0
//
// Maglev hashing: which endpoint serves which slice of the hash space (Eisenbud et al.,
// "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4).
// A new connection takes entry (hash32 * size) >> 32.
//
// The permutation of an endpoint follows from its address, port and protocol and from a
// seed that is the same on all nodes, so all nodes build the same table for the same set,
// whatever order or history the set has.
//
// The fill differs from the paper's in one rule. There, an endpoint whose next entry is
// taken tries on at once until it finds a free one, which keeps all shares equal at all
// times but makes every change run through the rest of the fill. Here it loses that turn,
// and shares are made equal by a quota alone. Entries of the OTHER endpoints that move when
// one of N goes, in percent of them, means over many sets:
//
//   N                            3     10    12    20    48    100   192   1000
//   paper's fill, size 100 N     1.7   2.8         2.6   1.9   1.6         0.6
//   this fill, size 100 N        0.8   1.6         1.4   1.0   0.8
//   this fill, maglev_size()     0.3   1.2   1.3   0.7   0.9   0.5   0.6   0.2
//
// Exact shares cost about 0.5 / sqrt(size) in any case, since the entries that become free
// do not fall to the others evenly; so only larger tables would move less.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "agent/base/ip.h"

namespace maglane {

struct MaglevEndpoint {
  uint64_t offset_hash = 0;
  uint64_t skip_hash = 0;
  uint32_t weight = 1;  // relative share; 0 gets no entry
  uint32_t value = 0;   // what its entries hold (a backend id)
};

MaglevEndpoint maglev_endpoint(const IpAddress& address, uint16_t port, Protocol protocol, uint32_t weight,
                               uint32_t value);

// Entries of the table for endpoints of these weights: 0 without endpoints, 1 for one, else
// a prime of at least 130 times the endpoints (up to 49152 of them). A lighter endpoint
// counts so that it too gets its 130 entries, to a limit.
//
// There are few sizes, a factor of four apart (steps after 12, 48, 192... endpoints), because
// another size is another table: a service that crosses a step has its new connections
// dealt anew, once. Tracked connections keep their endpoint regardless.
uint32_t maglev_size(std::span<const uint32_t> weights);

// Keeps its scratch memory from one table to the next.
class MaglevBuilder {
 public:
  // Fills `table`; its size must be 0, or come from maglev_size, or be any prime. Each
  // endpoint's number of entries is its exact share, rounded up or down. The order of
  // `endpoints` does not matter. No endpoint of positive weight: all entries 0.
  void build(std::span<const MaglevEndpoint> endpoints, std::span<uint32_t> table);

 private:
  struct Turn {
    uint32_t position;
    uint32_t skip;
    uint32_t quota;
    uint32_t weight;
    uint64_t credit;
    uint32_t value;
  };
  void prepare(std::span<const MaglevEndpoint> endpoints, uint32_t size);
  void assign_quotas(uint32_t size);

  std::vector<MaglevEndpoint> sorted_;
  std::vector<Turn> turns_;
  std::vector<uint64_t> taken_;  // bitmap of filled entries
  std::vector<std::pair<uint64_t, uint32_t>> remainders_;
};

}  // namespace maglane
