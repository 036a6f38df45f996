// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/network_model.h"

#include <fnmatch.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace maglane {
namespace {

constexpr size_t kMostAttributes = 64;
using Attributes = std::array<const nlattr*, kMostAttributes>;

int collect(const nlattr* attribute, void* attributes) {
  uint16_t type = mnl_attr_get_type(attribute);
  if (type < kMostAttributes) (*static_cast<Attributes*>(attributes))[type] = attribute;
  return MNL_CB_OK;
}

// The fixed part of a message and its attributes; null where the message is too short.
template <typename Header>
const Header* parse(const nlmsghdr* message, Attributes& attributes) {
  attributes.fill(nullptr);
  if (mnl_nlmsg_get_payload_len(message) < sizeof(Header)) return nullptr;
  if (mnl_attr_parse(message, sizeof(Header), collect, &attributes) < 0) return nullptr;
  return static_cast<const Header*>(mnl_nlmsg_get_payload(message));
}

uint32_t get_u32(const nlattr* attribute, uint32_t otherwise = 0) {
  return attribute && mnl_attr_get_payload_len(attribute) >= 4 ? mnl_attr_get_u32(attribute) : otherwise;
}

std::string get_bytes(const nlattr* attribute) {
  if (!attribute) return {};
  return {static_cast<const char*>(mnl_attr_get_payload(attribute)), mnl_attr_get_payload_len(attribute)};
}

std::optional<Family> family_of(unsigned char family) {
  if (family == AF_INET) return Family::ipv4;
  if (family == AF_INET6) return Family::ipv6;
  return std::nullopt;
}

std::optional<IpAddress> get_address(const nlattr* attribute, Family family) {
  size_t size = family == Family::ipv4 ? 4 : 16;
  if (!attribute || mnl_attr_get_payload_len(attribute) != size) return std::nullopt;
  uint32_t be[4] = {};
  std::memcpy(be, mnl_attr_get_payload(attribute), size);
  return IpAddress::from_be(family, be);
}

// Of a route with several next hops (struct rtnexthop, each with attributes of its own).
std::vector<uint32_t> multipath_devices(const nlattr* attribute) {
  std::vector<uint32_t> devices;
  const auto* bytes = static_cast<const char*>(mnl_attr_get_payload(attribute));
  size_t left = mnl_attr_get_payload_len(attribute);
  while (left >= sizeof(rtnexthop)) {
    rtnexthop hop;
    std::memcpy(&hop, bytes, sizeof hop);
    if (hop.rtnh_len < sizeof hop || hop.rtnh_len > left) break;
    devices.push_back(static_cast<uint32_t>(hop.rtnh_ifindex));
    size_t step = std::min<size_t>(RTNH_ALIGN(hop.rtnh_len), left);
    bytes += step;
    left -= step;
  }
  return devices;
}

// Of which of several next hops a packet takes, its source decides too. A group of next hops that
// are objects of their own has no device, and its members are told only if sysctl
// nexthop_compat_mode says so.
bool depends_on_source(const rtmsg& route, const Attributes& attributes) {
  return attributes[RTA_MULTIPATH] || route.rtm_src_len != 0 || (attributes[RTA_NH_ID] && !attributes[RTA_OIF]);
}

// All that a rule can ask of a packet without its answer depending on more than the packet's
// device, destination and type of service. Marks are not among what our programs ask with.
bool asks_for_more(const fib_rule_hdr& rule, const Attributes& attributes) {
  constexpr uint16_t harmless[] = {FRA_DST,          FRA_IIFNAME,           FRA_OIFNAME,  FRA_GOTO,  FRA_PRIORITY,
                                   FRA_FWMARK,       FRA_FWMASK,            FRA_FLOW,     FRA_TABLE, FRA_PAD,
                                   FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN, FRA_L3MDEV, FRA_PROTOCOL};
  if (rule.src_len != 0) return true;
  for (uint16_t type = 0; type < kMostAttributes; ++type)
    if (attributes[type] && std::find(std::begin(harmless), std::end(harmless), type) == std::end(harmless))
      return true;
  return false;
}

}  // namespace

void NetworkModel::forget_routes() {
  default_routes_.clear();
  source_routes_.clear();
  routes_known_ = false;
}

void NetworkModel::forget_rules() {
  source_rules_.clear();
  rules_known_ = false;
}

void NetworkModel::end_of_dump(uint16_t kind) {
  if (kind == RTM_GETROUTE) routes_known_ = true;
  if (kind == RTM_GETRULE) rules_known_ = true;
}

bool NetworkModel::next_hops_are_shared(Family family) const {
  return routes_known_ && rules_known_ && !source_routes_.contains(family) && !source_rules_.contains(family);
}

unsigned NetworkModel::apply(const nlmsghdr* message) {
  switch (message->nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return apply_link(message);
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return apply_address(message);
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
      return apply_route(message);
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      return apply_neighbour(message);
    case RTM_NEWRULE:
    case RTM_DELRULE:
      return apply_rule(message);
    case RTM_NEWNEXTHOP:
    case RTM_DELNEXTHOP:
      return CHANGED_NEXT_HOPS;
    default:
      return 0;
  }
}

bool NetworkModel::has_default_route(uint32_t ifindex) const {
  return std::any_of(default_routes_.begin(), default_routes_.end(), [&](const DefaultRoute& route) {
    return std::find(route.devices.begin(), route.devices.end(), ifindex) != route.devices.end();
  });
}

unsigned NetworkModel::apply_link(const nlmsghdr* message) {
  Attributes attributes;
  const auto* info = parse<ifinfomsg>(message, attributes);
  // A bridge tells of its ports in messages of family AF_BRIDGE, "deletion" included.
  if (!info || info->ifi_family != AF_UNSPEC || info->ifi_index <= 0) return 0;
  auto ifindex = static_cast<uint32_t>(info->ifi_index);
  if (message->nlmsg_type == RTM_DELLINK) {
    std::erase_if(neighbours_, [&](const auto& n) { return n.first.ifindex == ifindex; });
    std::erase_if(addresses_, [&](const auto& a) { return a.ifindex == ifindex; });
    unsigned routes = has_default_route(ifindex) ? CHANGED_DEFAULT_ROUTES : 0U;
    return links_.erase(ifindex) > 0 ? CHANGED_LINKS | CHANGED_NEXT_HOPS | routes : 0U;
  }
  if (!attributes[IFLA_IFNAME] || mnl_attr_validate(attributes[IFLA_IFNAME], MNL_TYPE_NUL_STRING) < 0)
    return 0;
  Link link;
  link.ifindex = ifindex;
  link.name = mnl_attr_get_str(attributes[IFLA_IFNAME]);
  link.up = (info->ifi_flags & IFF_UP) && (info->ifi_flags & IFF_RUNNING);
  link.loopback = (info->ifi_flags & IFF_LOOPBACK) != 0;
  link.mtu = get_u32(attributes[IFLA_MTU]);
  link.lladdr = get_bytes(attributes[IFLA_ADDRESS]);
  Link& known = links_[ifindex];
  if (known == link) return 0;
  known = std::move(link);
  return CHANGED_LINKS | CHANGED_NEXT_HOPS | (has_default_route(ifindex) ? CHANGED_DEFAULT_ROUTES : 0U);
}

unsigned NetworkModel::apply_address(const nlmsghdr* message) {
  Attributes attributes;
  const auto* info = parse<ifaddrmsg>(message, attributes);
  auto family = info ? family_of(info->ifa_family) : std::nullopt;
  if (!family) return 0;
  // On a point-to-point link IFA_ADDRESS is the peer's.
  auto address =
      get_address(attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS], *family);
  if (!address) return 0;
  uint32_t flags = get_u32(attributes[IFA_FLAGS], info->ifa_flags);
  constexpr uint32_t unusable = IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED;
  // IFA_F_SECONDARY and IFA_F_TEMPORARY are one bit: a second address of a subnet (IPv4) or a
  // privacy address (IPv6), neither of which is the node's own name.
  bool preferred = !(flags & (unusable | IFA_F_TEMPORARY));
  InterfaceAddress entry{info->ifa_index, *address, info->ifa_scope == RT_SCOPE_UNIVERSE, preferred};
  auto known = std::find_if(addresses_.begin(), addresses_.end(), [&](const InterfaceAddress& a) {
    return a.ifindex == entry.ifindex && a.address == entry.address;
  });
  if (message->nlmsg_type == RTM_DELADDR) {
    if (known == addresses_.end()) return 0;
    addresses_.erase(known);
    return CHANGED_ADDRESSES | CHANGED_NEXT_HOPS |
           (has_default_route(entry.ifindex) ? CHANGED_DEFAULT_ROUTES : 0U);
  }
  if (known == addresses_.end()) {
    addresses_.push_back(entry);
  } else if (*known == entry) {
    return 0;  // a new lifetime
  } else {
    *known = entry;
  }
  return CHANGED_ADDRESSES | CHANGED_NEXT_HOPS;
}

unsigned NetworkModel::apply_route(const nlmsghdr* message) {
  Attributes attributes;
  const auto* info = parse<rtmsg>(message, attributes);
  auto family = info ? family_of(info->rtm_family) : std::nullopt;
  if (!family || (info->rtm_flags & RTM_F_CLONED)) return 0;
  if (message->nlmsg_type == RTM_NEWROUTE && depends_on_source(*info, attributes))
    source_routes_.insert(*family);
  uint32_t table = get_u32(attributes[RTA_TABLE], info->rtm_table);
  if (info->rtm_dst_len != 0 || table != RT_TABLE_MAIN || info->rtm_type != RTN_UNICAST)
    return CHANGED_NEXT_HOPS;
  DefaultRoute route;
  route.family = *family;
  route.metric = get_u32(attributes[RTA_PRIORITY]);
  if (attributes[RTA_MULTIPATH]) {
    route.devices = multipath_devices(attributes[RTA_MULTIPATH]);
  } else if (attributes[RTA_OIF]) {
    route.devices = {get_u32(attributes[RTA_OIF])};
  }
  auto known = std::find(default_routes_.begin(), default_routes_.end(), route);
  if (message->nlmsg_type == RTM_DELROUTE) {
    if (known != default_routes_.end()) default_routes_.erase(known);
    return CHANGED_DEFAULT_ROUTES | CHANGED_NEXT_HOPS;
  }
  if (known != default_routes_.end()) return CHANGED_NEXT_HOPS;  // another gateway on the same device
  default_routes_.push_back(std::move(route));
  return CHANGED_DEFAULT_ROUTES | CHANGED_NEXT_HOPS;
}

unsigned NetworkModel::apply_neighbour(const nlmsghdr* message) {
  Attributes attributes;
  const auto* info = parse<ndmsg>(message, attributes);
  auto family = info ? family_of(info->ndm_family) : std::nullopt;
  if (!family || (info->ndm_flags & NTF_PROXY)) return 0;
  auto address = get_address(attributes[NDA_DST], *family);
  if (!address) return 0;
  NeighbourKey key{static_cast<uint32_t>(info->ndm_ifindex), *address};
  constexpr uint16_t with_address =
      NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY;
  bool valid = message->nlmsg_type == RTM_NEWNEIGH && (info->ndm_state & with_address);
  // A next hop is cached only from a valid neighbour, so one that becomes valid concerns no
  // flow yet; one that ceases to be, or has another MAC address, does.
  if (!valid) return neighbours_.erase(key) > 0 ? CHANGED_NEXT_HOPS : 0U;
  std::string lladdr = get_bytes(attributes[NDA_LLADDR]);
  auto [known, added] = neighbours_.try_emplace(key, lladdr);
  if (added || known->second == lladdr) return 0;
  known->second = std::move(lladdr);
  return CHANGED_NEXT_HOPS;
}

unsigned NetworkModel::apply_rule(const nlmsghdr* message) {
  Attributes attributes;
  const auto* info = parse<fib_rule_hdr>(message, attributes);
  auto family = info ? family_of(info->family) : std::nullopt;
  if (!family) return 0;
  if (message->nlmsg_type == RTM_NEWRULE && asks_for_more(*info, attributes)) source_rules_.insert(*family);
  return CHANGED_NEXT_HOPS | CHANGED_RULES;
}

const Link* NetworkModel::find(uint32_t ifindex) const {
  auto link = links_.find(ifindex);
  return link == links_.end() ? nullptr : &link->second;
}

std::vector<Link> NetworkModel::links() const {
  std::vector<Link> links;
  for (const auto& [ifindex, link] : links_) links.push_back(link);
  return links;
}

std::vector<Link> NetworkModel::matching(const std::vector<std::string>& patterns) const {
  std::vector<Link> links;
  for (const auto& entry : links_) {
    const Link& link = entry.second;
    bool matches = std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
      return ::fnmatch(pattern.c_str(), link.name.c_str(), 0) == 0;
    });
    if (matches) links.push_back(link);
  }
  return links;
}

std::vector<Link> NetworkModel::default_route_devices() const {
  std::vector<DefaultRoute> routes = default_routes_;
  std::sort(routes.begin(), routes.end());  // by metric, then IPv4 first
  std::vector<Link> devices;
  std::set<uint32_t> seen;
  for (const DefaultRoute& route : routes) {
    for (uint32_t ifindex : route.devices) {
      const Link* link = find(ifindex);
      if (link && !link->loopback && seen.insert(ifindex).second) devices.push_back(*link);
    }
  }
  return devices;
}

std::set<IpAddress> NetworkModel::local_addresses() const {
  std::set<IpAddress> addresses;
  for (const InterfaceAddress& a : addresses_) {
    if (!a.address.is_loopback()) addresses.insert(a.address);
  }
  return addresses;
}

bool NetworkModel::has_address(uint32_t ifindex, const IpAddress& address) const {
  return std::any_of(addresses_.begin(), addresses_.end(), [&](const InterfaceAddress& a) {
    return a.ifindex == ifindex && a.address == address;
  });
}

std::optional<IpAddress> NetworkModel::global_address(uint32_t ifindex, Family family) const {
  for (const InterfaceAddress& a : addresses_) {
    if (a.ifindex == ifindex && a.address.family() == family && a.global && a.preferred) return a.address;
  }
  return std::nullopt;
}

}  // namespace maglane
