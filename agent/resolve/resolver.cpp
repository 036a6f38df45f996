// SPDX-License-Identifier: Apache-2.0
#include "agent/resolve/resolve.h"

#include <compare>

namespace maglane {
namespace {

constexpr char kServiceNameLabel[] = "kubernetes.io/service-name";

// Walks two maps in order of their keys: changed(key) for each key that only one of them
// has, or at which `same` does not hold.
template <typename Before, typename After, typename Same, typename Changed>
void compare(const Before& before, const After& after, Same same, Changed changed) {
  auto old = before.begin();
  auto now = after.begin();
  while (old != before.end() || now != after.end()) {
    const auto order = old == before.end()  ? std::strong_ordering::greater
                       : now == after.end() ? std::strong_ordering::less
                                            : old->first <=> now->first;
    if (order < 0) {
      changed((old++)->first);
    } else if (order > 0) {
      changed((now++)->first);
    } else {
      if (!same(old->second, now->second)) changed(now->first);
      ++old;
      ++now;
    }
  }
}

ServiceKey service_of(const v1::EndpointSlice& slice) {
  const auto label = slice.metadata().labels().find(kServiceNameLabel);
  if (label == slice.metadata().labels().end() || label->second.empty()) return {};
  return {slice.metadata().namespace_(), label->second};
}

}  // namespace

const ResolvedCluster& Resolver::resolve(const ClusterModel& model, const NodeContext& context,
                                         std::vector<Complaint>* complaints) {
  changes_ = {};
  const std::set<ServiceKey> changed_endpoints = update_slices(model);
  NodeView node = node_view(model, context);
  const bool node_changed = node != node_;
  node_ = std::move(node);

  std::vector<ServiceKey> again, gone;
  compare(
      services_, model.services, [](const auto& before, const auto& after) { return before == after; },
      [&](const ServiceKey& key) { (model.services.contains(key) ? again : gone).push_back(key); });
  changes_.services = again.size() + gone.size();
  for (const ServiceKey& key : gone) forget(key);
  for (const ServiceKey& key : again) services_[key] = model.services.at(key);
  if (node_changed) {
    for (const auto& [key, service] : services_) resolve_one(key, *service);
  } else {
    std::set<ServiceKey> keys(again.begin(), again.end());
    keys.insert(changed_endpoints.begin(), changed_endpoints.end());
    for (const ServiceKey& key : keys)
      if (const auto service = services_.find(key); service != services_.end())
        resolve_one(key, *service->second);
  }
  if (complaints != nullptr)
    for (const auto& [key, own] : complaints_) complaints->insert(complaints->end(), own.begin(), own.end());
  return cluster_;
}

// Returns the services some of whose slices changed.
std::set<ServiceKey> Resolver::update_slices(const ClusterModel& model) {
  std::vector<ObjectKey> changed;
  compare(
      slices_, model.slices,
      [](const KnownSlice& before, const auto& after) { return before.slice == after; },
      [&](const ObjectKey& key) { changed.push_back(key); });
  std::set<ServiceKey> services;
  for (const ObjectKey& key : changed) {
    if (const auto known = slices_.find(key); known != slices_.end()) {
      const auto owner = slices_of_.find(known->second.service);
      owner->second.erase(key.name);
      if (owner->second.empty()) slices_of_.erase(owner);
      services.insert(known->second.service);
      if (!model.slices.contains(key)) changes_.slices.push_back({known->second.service, nullptr});
      slices_.erase(known);
    }
    if (const auto slice = model.slices.find(key); slice != model.slices.end()) {
      const ServiceKey service = service_of(*slice->second);
      slices_[key] = {slice->second, service};
      slices_of_[service][key.name] = slice->second;
      services.insert(service);
      changes_.slices.push_back({service, slice->second});
    }
  }
  return services;
}

void Resolver::resolve_one(const ServiceKey& key, const v1::Service& service) {
  std::vector<std::shared_ptr<const v1::EndpointSlice>> slices;
  if (const auto own = slices_of_.find(key); own != slices_of_.end())
    for (const auto& [name, slice] : own->second) slices.push_back(slice);
  std::vector<Complaint> complaints;
  auto resolved = resolve_service(service, slices, node_, &complaints);
  if (complaints.empty())
    complaints_.erase(key);
  else
    complaints_[key] = std::move(complaints);
  if (resolved == nullptr) {
    if (cluster_.erase(key) != 0) changes_.resolved.insert(key);
    return;
  }
  auto& slot = cluster_[key];
  if (slot != nullptr && equal(*slot, *resolved)) return;
  slot = std::move(resolved);
  changes_.resolved.insert(key);
}

void Resolver::forget(const ServiceKey& key) {
  services_.erase(key);
  complaints_.erase(key);
  if (cluster_.erase(key) != 0) changes_.resolved.insert(key);
}

}  // namespace maglane
