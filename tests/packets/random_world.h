// SPDX-License-Identifier: Apache-2.0
//
// Random play: a small world in which a few clients, pods and frontends with few ports meet
// often, so that connections collide, close and come again within some dozens of packets.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <vector>

#include "tests/packets/cluster.h"
#include "tests/packets/data_plane.h"

namespace maglane::test {

// One step, as numbers that shrink well; each is taken modulo the number of choices.
struct Step {
  uint32_t kind = 0;  // most: a packet; some: endpoints change, epoch changes, expiry
  uint32_t source = 0;
  uint32_t source_port = 0;
  uint32_t destination = 0;  // address and port
  uint32_t flags = 0;        // of TCP
  uint32_t shape = 0;        // size, TTL, options
  uint32_t damage = 0;       // 0: none, else how the frame is spoilt
  uint32_t follow = 0;       // a packet of its own, an answer to an earlier one, or an earlier one again
};
std::ostream& operator<<(std::ostream& out, const Step& step);

// What stays the same through one play.
struct World {
  uint32_t shape = 0;
  Family family() const { return shape & 1 ? Family::ipv6 : Family::ipv4; }
  uint8_t protocol() const { return !(shape & 2) ? kProtoTcp : shape & 16 ? kProtoSctp : kProtoUdp; }
  bool small_table() const { return shape & 4; }
  bool masquerade_all() const { return shape & 8; }
  bool affinity() const { return shape & 16; }
  bool masquerade() const { return shape & 32; }  // kubenet
};
std::ostream& operator<<(std::ostream& out, const World& world);

enum class StepKind { packet, change_endpoints, change_epoch, expire_all };
StepKind kind_of(const Step& step);

// The cluster after an endpoint change by `choice`; 0: as it starts.
Cluster random_cluster(const World& world, uint32_t choice);

// What has been sent so far, which later packets may follow.
class History {
 public:
  void add(const Packet& in, const Bytes& out);
  // The ends of a packet that follows an earlier one as the step says; false: on its own.
  bool follow(const Step& step, HostPort& source, HostPort& destination) const;

 private:
  struct Entry {
    HostPort client, frontend, endpoint, translated;
  };
  std::vector<Entry> entries_;
};

Packet packet_of(const World& world, const Step& step, const History& history);
// The frame, spoilt as the step says, on the device where its source is.
Arrival arrival_of(const Network& network, const Step& step, const Packet& packet);
// The programs that see an arrival, in order, as long as they pass it on. tc_only: without XDP.
std::vector<Program> programs_for(const Arrival& arrival, bool tc_only);

}  // namespace maglane::test
