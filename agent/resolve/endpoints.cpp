// SPDX-License-Identifier: Apache-2.0
#include "agent/resolve/endpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>

#include "agent/base/quote.h"

namespace maglane {
namespace {

constexpr char kHeadlessLabel[] = "service.kubernetes.io/headless";
constexpr char kWeightAnnotation[] = "maglane.dev/weight";
constexpr uint32_t kMaxWeight = 100;

std::optional<uint32_t> parse_weight(const std::string& text) {
  uint32_t weight = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), weight);
  if (failure != std::errc() || end != text.data() + text.size() || weight < 1 || weight > kMaxWeight)
    return std::nullopt;
  return weight;
}

uint32_t weight_of(const v1::EndpointSlice& slice) {
  const auto annotation = slice.metadata().annotations().find(kWeightAnnotation);
  if (annotation == slice.metadata().annotations().end()) return 1;
  return parse_weight(annotation->second).value_or(1);
}

bool is_used(const v1::EndpointSlice& slice, Family family) {
  return slice.address_type() == to_string(family) && !slice.metadata().labels().contains(kHeadlessLabel);
}

bool is_ready(const v1::EndpointConditions& conditions) {
  return !conditions.has_ready() || conditions.ready();
}

bool is_serving(const v1::EndpointConditions& conditions) {
  return conditions.has_serving() ? conditions.serving() : is_ready(conditions);
}

Readiness readiness_of(const v1::EndpointConditions& conditions) {
  if (is_ready(conditions)) return Readiness::ready;
  return is_serving(conditions) && conditions.terminating() ? Readiness::serving_terminating
                                                            : Readiness::none;
}

Candidate candidate_of(const v1::Endpoint& endpoint, const NodeView& node) {
  Candidate candidate;
  candidate.endpoint.local = !endpoint.node_name().empty() && endpoint.node_name() == node.name;
  candidate.readiness = readiness_of(endpoint.conditions());
  candidate.serving = candidate.readiness != Readiness::none || is_serving(endpoint.conditions());
  for (const auto& hint : endpoint.hints().for_nodes()) candidate.node_hints.insert(hint.name());
  for (const auto& hint : endpoint.hints().for_zones()) candidate.zone_hints.insert(hint.name());
  return candidate;
}

// On one address and port: the readier one counts, the earlier slice where they are alike.
void settle(Candidate& known, Candidate&& other) {
  const bool local = known.endpoint.local || other.endpoint.local;
  const bool serving = known.serving || other.serving;
  if (other.readiness > known.readiness) known = std::move(other);
  known.endpoint.local = local;
  known.serving = serving;
}

// True if every ready endpoint has hints and at least one of them names `here`.
bool hints_apply(const std::vector<Candidate>& candidates, std::set<std::string> Candidate::*hints,
                 const std::string& here) {
  bool named = false;
  for (const Candidate& candidate : candidates) {
    if (candidate.readiness != Readiness::ready) continue;
    if ((candidate.*hints).empty()) return false;
    named = named || (candidate.*hints).contains(here);
  }
  return named && !here.empty();
}

template <typename Predicate>
EndpointSet select(const std::vector<Candidate>& candidates, Readiness readiness, Predicate allowed) {
  EndpointSet set;
  for (const Candidate& candidate : candidates)
    if (candidate.readiness == readiness && allowed(candidate)) set.endpoints.push_back(candidate.endpoint);
  return set;
}

}  // namespace

std::vector<Candidate> gather(const ServicePortKey& port, Slices slices, const NodeView& node) {
  std::map<std::pair<IpAddress, uint16_t>, Candidate> found;
  for (const auto& slice : slices) {
    if (!is_used(*slice, port.family)) continue;
    for (const auto& slice_port : slice->ports()) {
      const std::string_view protocol =
          slice_port.protocol().empty() ? "TCP" : std::string_view(slice_port.protocol());
      if (slice_port.port() == 0 || slice_port.name() != port.port_name ||
          protocol != to_string(port.protocol))
        continue;
      for (const auto& endpoint : slice->endpoints()) {
        const auto address = endpoint.addresses_size() > 0 ? IpAddress::parse(endpoint.addresses(0))
                                                           : Result<IpAddress>(Error{});
        if (!address || address->family() != port.family) continue;
        Candidate candidate = candidate_of(endpoint, node);
        candidate.endpoint.address = *address;
        candidate.endpoint.port = static_cast<uint16_t>(slice_port.port());
        candidate.endpoint.weight = weight_of(*slice);
        candidate.endpoint.node =
            std::binary_search(node.stack_addresses.begin(), node.stack_addresses.end(), *address);
        const auto key = std::pair(candidate.endpoint.address, candidate.endpoint.port);
        const auto [known, added] = found.try_emplace(key, candidate);
        if (!added) settle(known->second, std::move(candidate));
      }
    }
  }
  std::vector<Candidate> candidates;
  candidates.reserve(found.size());
  for (auto& [key, candidate] : found) candidates.push_back(std::move(candidate));
  return candidates;
}

EndpointSet cluster_set(const std::vector<Candidate>& candidates, const NodeView& node) {
  const bool by_node = hints_apply(candidates, &Candidate::node_hints, node.name);
  const bool by_zone = hints_apply(candidates, &Candidate::zone_hints, node.zone);
  EndpointSet set = select(candidates, Readiness::ready, [&](const Candidate& candidate) {
    if (by_node) return candidate.node_hints.contains(node.name);
    return !by_zone || candidate.zone_hints.contains(node.zone);
  });
  if (!set.endpoints.empty()) return set;
  return select(candidates, Readiness::serving_terminating, [](const Candidate&) { return true; });
}

EndpointSet local_set(const std::vector<Candidate>& candidates) {
  const auto here = [](const Candidate& candidate) { return candidate.endpoint.local; };
  EndpointSet set = select(candidates, Readiness::ready, here);
  if (set.endpoints.empty()) set = select(candidates, Readiness::serving_terminating, here);
  const bool elsewhere = std::any_of(candidates.begin(), candidates.end(), [](const Candidate& candidate) {
    return candidate.readiness != Readiness::none;
  });
  // Some other node can serve it: the client is to try there, not to give up.
  if (set.endpoints.empty() && elsewhere) set.when_empty = EmptyVerdict::drop;
  return set;
}

EndpointCounts count_endpoints(const std::vector<Candidate>& candidates) {
  EndpointCounts counts;
  for (const Candidate& candidate : candidates) {
    const bool ready = candidate.readiness == Readiness::ready;
    counts.ready += ready;
    counts.local_ready += ready && candidate.endpoint.local;
    counts.serving_terminating += candidate.readiness == Readiness::serving_terminating;
    counts.not_ready += candidate.readiness == Readiness::none;
  }
  return counts;
}

void complain_of_weights(Slices slices, std::vector<Complaint>* complaints) {
  for (const auto& slice : slices) {
    const auto annotation = slice->metadata().annotations().find(kWeightAnnotation);
    if (annotation == slice->metadata().annotations().end() || parse_weight(annotation->second)) continue;
    complaints->push_back(
        {fmt::format("EndpointSlice {}/{}", slice->metadata().namespace_(), slice->metadata().name()),
         fmt::format("metadata.annotations.{}: {} is not a weight (expected 1 to {}); it counts as 1",
                     kWeightAnnotation, in_quotes(annotation->second), kMaxWeight)});
  }
}

}  // namespace maglane
