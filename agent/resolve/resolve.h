// SPDX-License-Identifier: Apache-2.0
//
// From the cluster model to what one node's data plane is to do. Pure: the same model and
// node give the same answer, in the same order, on every machine.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/resolve/endpoints.h"
#include "agent/resolve/node.h"
#include "agent/resolve/resolved.h"
#include "agent/source/model.h"

namespace maglane {

// The rules for one service. Null if this proxy has nothing to do with it: it is headless,
// has no cluster IP, is an ExternalName, or is labelled as another proxy's. `complaints` may be null.
std::shared_ptr<const ResolvedService> resolve_service(const v1::Service& service, Slices slices,
                                                       const NodeView& node,
                                                       std::vector<Complaint>* complaints);

// Whether two services ask the data plane for the same.
bool equal(const ResolvedService& a, const ResolvedService& b);

// What was new to one call of resolve().
struct ResolveChanges {
  // An EndpointSlice that some service owns, or that none does any more.
  struct Slice {
    ServiceKey service;
    std::shared_ptr<const v1::EndpointSlice> slice;  // null: it is gone
  };
  size_t services = 0;             // Service objects that came, went or differ
  std::vector<Slice> slices;       // EndpointSlices, likewise
  std::set<ServiceKey> resolved;   // whose place in the resolved cluster came, went or differs
};

// Resolves a model again and again, each time only the services that changed, that have
// slices which changed, or all if the node did. Otherwise walks keys and pointers.
class Resolver {
 public:
  // Appends complaints, of unchanged services too. The cluster lives until the next call;
  // a service that is to do the same as before keeps its pointer.
  const ResolvedCluster& resolve(const ClusterModel& model, const NodeContext& context,
                                 std::vector<Complaint>* complaints);
  // Of the last call.
  const ResolveChanges& changes() const { return changes_; }

 private:
  // A slice and the service it was found to belong to.
  struct KnownSlice {
    std::shared_ptr<const v1::EndpointSlice> slice;
    ServiceKey service;
  };

  std::set<ServiceKey> update_slices(const ClusterModel& model);
  void resolve_one(const ServiceKey& key, const v1::Service& service);
  void forget(const ServiceKey& key);

  NodeView node_;
  std::map<ObjectKey, std::shared_ptr<const v1::Service>> services_;  // as resolved last
  std::map<ObjectKey, KnownSlice> slices_;
  std::map<ServiceKey, std::map<std::string, std::shared_ptr<const v1::EndpointSlice>>> slices_of_;
  std::map<ServiceKey, std::vector<Complaint>> complaints_;
  ResolvedCluster cluster_;
  ResolveChanges changes_;
};

}  // namespace maglane
