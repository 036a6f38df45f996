// SPDX-License-Identifier: Apache-2.0
#include "agent/source/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <set>
#include <string_view>

#include "agent/base/ip.h"
#include "agent/base/quote.h"

namespace maglane {
namespace {

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

// RFC 1123 section 2.1, in lower case as Kubernetes has it.
bool is_dns_label(std::string_view text) {
  return !text.empty() && text.size() <= 63 && is_alphanumeric(text.front()) &&
         is_alphanumeric(text.back()) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_alphanumeric(c) || c == '-'; });
}

bool is_dns_subdomain(std::string_view text) {
  if (text.size() > 253) return false;
  for (;;) {
    const size_t dot = text.find('.');
    const std::string_view part = text.substr(0, dot);
    if (part.empty() || !is_alphanumeric(part.front()) || !is_alphanumeric(part.back()) ||
        !std::all_of(part.begin(), part.end(), [](char c) { return is_alphanumeric(c) || c == '-'; }))
      return false;
    if (dot == std::string_view::npos) return true;
    text.remove_prefix(dot + 1);
  }
}

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

enum class LinkLocal { allowed, refused };

class Checker {
 public:
  explicit Checker(FieldProblems& problems) : problems_(problems) {}

  void fail(std::string path, std::string message) {
    problems_.push_back({std::move(path), std::move(message)});
  }

  void label(const std::string& path, const std::string& value) {
    if (value.empty())
      fail(path, "missing (expected a name)");
    else if (!is_dns_label(value))
      fail(path, in_quotes(value) + " is not a name (expected a-z, 0-9 and \"-\", at most 63 characters)");
  }
  void subdomain(const std::string& path, const std::string& value) {
    if (value.empty())
      fail(path, "missing (expected a name)");
    else if (!is_dns_subdomain(value))
      fail(path,
           in_quotes(value) + " is not a name (expected a-z, 0-9, \"-\" and \".\", at most 253 characters)");
  }
  void optional_label(const std::string& path, const std::string& value) {
    if (!value.empty()) label(path, value);
  }

  void word(const std::string& path, const std::string& value,
            std::initializer_list<std::string_view> words) {
    if (value.empty() || std::find(words.begin(), words.end(), value) != words.end()) return;
    fail(path, fmt::format("{} is unknown (expected {})", in_quotes(value), fmt::join(words, ", ")));
  }
  void protocol(const std::string& path, const std::string& value) {
    word(path, value, {"TCP", "UDP", "SCTP"});
  }

  void port(const std::string& path, int32_t value) {
    if (value == 0)
      fail(path, "missing or 0 (expected 1 to 65535)");
    else
      optional_port(path, value);
  }
  void optional_port(const std::string& path, int32_t value) {
    if (value < 0 || value > 65535) fail(path, fmt::format("{} is not a port (expected 1 to 65535)", value));
  }

  std::optional<IpAddress> address(const std::string& path, const std::string& value, LinkLocal link_local) {
    const auto parsed = IpAddress::parse(value);
    if (!parsed) {
      fail(path, parsed.error().message);
      return std::nullopt;
    }
    const char* kind = parsed->is_unspecified()   ? "unspecified"
                       : parsed->is_loopback()    ? "a loopback address"
                       : parsed->is_multicast()   ? "a multicast address"
                       : parsed->is_ipv4_mapped() ? "an IPv4-mapped address"
                       : parsed->is_link_local() && link_local == LinkLocal::refused ? "a link-local address"
                                                                                     : nullptr;
    if (kind != nullptr) {
      fail(path, fmt::format("{} is {} (expected a host's own address)", in_quotes(value), kind));
      return std::nullopt;
    }
    return *parsed;
  }

  void cidr(const std::string& path, const std::string& value) {
    if (const auto parsed = Cidr::parse(trimmed(value), true); !parsed) fail(path, parsed.error().message);
  }

 private:
  FieldProblems& problems_;
};

void check_ports(const v1::ServiceSpec& spec, Checker& check) {
  std::set<std::string> names;
  std::set<std::pair<std::string, int32_t>> ports, node_ports;
  for (int i = 0; i < spec.ports_size(); ++i) {
    const auto& port = spec.ports(i);
    const std::string path = fmt::format("spec.ports[{}]", i);
    const std::string protocol = port.protocol().empty() ? "TCP" : port.protocol();
    check.optional_label(path + ".name", port.name());
    check.protocol(path + ".protocol", port.protocol());
    check.port(path + ".port", port.port());
    check.optional_port(path + ".nodePort", port.node_port());
    if (!names.insert(port.name()).second)
      check.fail(path + ".name",
                 in_quotes(port.name()) + " is another port's name (expected a name for each port)");
    if (!ports.emplace(protocol, port.port()).second)
      check.fail(path + ".port", fmt::format("{}/{} is another port's number too", port.port(), protocol));
    if (port.node_port() != 0 && !node_ports.emplace(protocol, port.node_port()).second)
      check.fail(path + ".nodePort",
                 fmt::format("{}/{} is another port's number too", port.node_port(), protocol));
  }
}

void check_cluster_ips(const v1::ServiceSpec& spec, Checker& check) {
  if (!spec.cluster_ip().empty() && spec.cluster_ip() != "None")
    check.address("spec.clusterIP", spec.cluster_ip(), LinkLocal::allowed);
  std::set<Family> families;
  for (int i = 0; i < spec.cluster_ips_size(); ++i) {
    const std::string path = fmt::format("spec.clusterIPs[{}]", i);
    if (spec.cluster_ips(i) == "None") continue;
    const auto address = check.address(path, spec.cluster_ips(i), LinkLocal::allowed);
    if (address && !families.insert(address->family()).second)
      check.fail(path, fmt::format("{} is a second {} address (expected one a family)", address->to_string(),
                                   to_string(address->family())));
  }
  if (spec.cluster_ips_size() > 0 && !spec.cluster_ip().empty() && spec.cluster_ip() != spec.cluster_ips(0))
    check.fail("spec.clusterIP", fmt::format("{} is not the first of clusterIPs (expected {})",
                                             in_quotes(spec.cluster_ip()), in_quotes(spec.cluster_ips(0))));
}

}  // namespace

void validate(const v1::Service& service, FieldProblems& problems) {
  Checker check(problems);
  check.label("metadata.name", service.metadata().name());
  check.label("metadata.namespace", service.metadata().namespace_());
  const auto& spec = service.spec();
  check.word("spec.type", spec.type(), {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"});
  check_cluster_ips(spec, check);
  check_ports(spec, check);
  for (int i = 0; i < spec.external_ips_size(); ++i)
    check.address(fmt::format("spec.externalIPs[{}]", i), spec.external_ips(i), LinkLocal::refused);
  for (int i = 0; i < spec.load_balancer_source_ranges_size(); ++i)
    check.cidr(fmt::format("spec.loadBalancerSourceRanges[{}]", i), spec.load_balancer_source_ranges(i));
  check.word("spec.externalTrafficPolicy", spec.external_traffic_policy(), {"Cluster", "Local"});
  check.word("spec.internalTrafficPolicy", spec.internal_traffic_policy(), {"Cluster", "Local"});
  check.word("spec.sessionAffinity", spec.session_affinity(), {"None", "ClientIP"});
  const auto& client_ip = spec.session_affinity_config().client_ip();
  if (client_ip.has_timeout_seconds() &&
      (client_ip.timeout_seconds() < 1 || client_ip.timeout_seconds() > 86400))
    check.fail("spec.sessionAffinityConfig.clientIP.timeoutSeconds",
               fmt::format("{} is out of range (expected 1 to 86400)", client_ip.timeout_seconds()));
  check.optional_port("spec.healthCheckNodePort", spec.health_check_node_port());
  const auto& balancer = service.status().load_balancer();
  for (int i = 0; i < balancer.ingress_size(); ++i) {
    const std::string path = fmt::format("status.loadBalancer.ingress[{}]", i);
    if (!balancer.ingress(i).ip().empty())
      check.address(path + ".ip", balancer.ingress(i).ip(), LinkLocal::allowed);
    check.word(path + ".ipMode", balancer.ingress(i).ip_mode(), {"VIP", "Proxy"});
  }
}

void validate(const v1::EndpointSlice& slice, FieldProblems& problems) {
  Checker check(problems);
  check.subdomain("metadata.name", slice.metadata().name());
  check.label("metadata.namespace", slice.metadata().namespace_());
  const std::string& type = slice.address_type();
  if (type.empty()) check.fail("addressType", "missing (expected IPv4, IPv6 or FQDN)");
  check.word("addressType", type, {"IPv4", "IPv6", "FQDN"});
  for (int i = 0; i < slice.endpoints_size(); ++i) {
    const auto& endpoint = slice.endpoints(i);
    const std::string path = fmt::format("endpoints[{}].addresses", i);
    if (endpoint.addresses_size() == 0) check.fail(path, "missing (expected at least one address)");
    if (type != "IPv4" && type != "IPv6") continue;
    for (int j = 0; j < endpoint.addresses_size(); ++j) {
      const std::string inner = fmt::format("{}[{}]", path, j);
      const auto address = check.address(inner, endpoint.addresses(j), LinkLocal::refused);
      if (address && to_string(address->family()) != type)
        check.fail(inner, fmt::format("{} is not {}, the slice's addressType", address->to_string(), type));
    }
  }
  std::set<std::string> names;
  for (int i = 0; i < slice.ports_size(); ++i) {
    const std::string path = fmt::format("ports[{}]", i);
    check.optional_label(path + ".name", slice.ports(i).name());
    check.protocol(path + ".protocol", slice.ports(i).protocol());
    check.optional_port(path + ".port", slice.ports(i).port());
    if (!names.insert(slice.ports(i).name()).second)
      check.fail(path + ".name", in_quotes(slice.ports(i).name()) +
                                     " is another port's name (expected a name for each port)");
  }
}

void validate(const v1::Node& node, FieldProblems& problems) {
  Checker check(problems);
  check.subdomain("metadata.name", node.metadata().name());
  if (!node.spec().pod_cidr().empty()) check.cidr("spec.podCIDR", node.spec().pod_cidr());
  for (int i = 0; i < node.spec().pod_cidrs_size(); ++i)
    check.cidr(fmt::format("spec.podCIDRs[{}]", i), node.spec().pod_cidrs(i));
  for (int i = 0; i < node.status().addresses_size(); ++i) {
    const auto& address = node.status().addresses(i);
    const std::string path = fmt::format("status.addresses[{}].address", i);
    // Other types hold names, too.
    if (address.type() == "InternalIP") check.address(path, address.address(), LinkLocal::allowed);
  }
}

}  // namespace maglane
