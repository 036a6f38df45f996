// SPDX-License-Identifier: Apache-2.0
//
// What the agent knows of its network namespace: links, addresses, default routes and
// neighbours, fed with rtnetlink messages (rtnetlink(7)). Pure; netlink.h does the I/O.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/ip.h"

namespace maglane {

struct Link {
  uint32_t ifindex = 0;
  std::string name;
  bool up = false;  // IFF_UP and a carrier
  bool loopback = false;
  uint32_t mtu = 0;
  std::string lladdr;  // raw bytes
  auto operator<=>(const Link&) const = default;
};

struct InterfaceAddress {
  uint32_t ifindex = 0;
  IpAddress address;
  bool global = false;     // scope
  bool preferred = false;  // neither tentative, deprecated, temporary nor failed
  auto operator<=>(const InterfaceAddress&) const = default;
};

// Kinds of change that matter to someone; a set of bits.
enum NetworkChange : unsigned {
  CHANGED_LINKS = 1 << 0,  // a device came, went, was renamed, or changed state, MTU or MAC address
  CHANGED_ADDRESSES = 1 << 1,
  CHANGED_DEFAULT_ROUTES = 1 << 2,
  CHANGED_NEXT_HOPS = 1 << 3,  // cached next hops may be wrong: routes, neighbours, links
  CHANGED_RULES = 1 << 4,      // of policy routing
};

class NetworkModel {
 public:
  // One message of a dump or a notification. Returns NetworkChange bits, 0 where nothing that
  // matters changed (as a neighbour's going from REACHABLE to STALE). Messages of other
  // types, and malformed ones, change nothing.
  // CHANGED_DEFAULT_ROUTES means "read the routes again" (forget_routes(), then a dump):
  // the kernel removes IPv4 routes without a word when their device or address goes, and tells
  // of IPv6 routes with several next hops in pieces.
  // CHANGED_RULES likewise means "read the rules again" (forget_rules(), then a dump).
  unsigned apply(const nlmsghdr* message);
  void forget_routes();
  void forget_rules();
  // All objects of a kind (RTM_GETROUTE and so on) have been applied since they were forgotten.
  void end_of_dump(uint16_t kind);

  // Whether packets from one device to one destination have one next hop whatever their source:
  // no rule asks for more than where they come in and go to, no route has several next hops or
  // is for some sources only. Such a route counts until the routes are read again. False as
  // long as not all is known.
  bool next_hops_are_shared(Family family) const;

  const Link* find(uint32_t ifindex) const;
  std::vector<Link> links() const;
  // Devices whose name matches one of the patterns (fnmatch(3)).
  std::vector<Link> matching(const std::vector<std::string>& patterns) const;
  // Devices of the default routes of both families, best metric first, each once.
  std::vector<Link> default_route_devices() const;
  // Addresses of all devices but loopback's own (127.0.0.0/8, ::1), in no tentative state.
  std::set<IpAddress> local_addresses() const;
  bool has_address(uint32_t ifindex, const IpAddress& address) const;
  // The first preferred global address of a family on a device.
  std::optional<IpAddress> global_address(uint32_t ifindex, Family family) const;

 private:
  struct DefaultRoute {
    uint32_t metric = 0;
    Family family = Family::ipv4;
    std::vector<uint32_t> devices;
    auto operator<=>(const DefaultRoute&) const = default;
  };
  struct NeighbourKey {
    uint32_t ifindex = 0;
    IpAddress address;
    auto operator<=>(const NeighbourKey&) const = default;
  };

  bool has_default_route(uint32_t ifindex) const;
  unsigned apply_link(const nlmsghdr* message);
  unsigned apply_address(const nlmsghdr* message);
  unsigned apply_route(const nlmsghdr* message);
  unsigned apply_neighbour(const nlmsghdr* message);
  unsigned apply_rule(const nlmsghdr* message);

  std::map<uint32_t, Link> links_;
  std::vector<InterfaceAddress> addresses_;  // in the kernel's order: the primary one first
  std::vector<DefaultRoute> default_routes_;
  std::map<NeighbourKey, std::string> neighbours_;  // the valid ones -> lladdr
  std::set<Family> source_routes_, source_rules_;   // families that have some
  bool routes_known_ = false, rules_known_ = false;
};

}  // namespace maglane
