// SPDX-License-Identifier: Apache-2.0
//
// The cluster as a source reads it: what every source yields and resolve takes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/base/object_key.h"
#include "proto/snapshot.pb.h"

namespace maglane {

// All objects are well-formed (validate.h). An object that has not changed keeps its
// pointer from one reading to the next, so later stages tell by comparing pointers what
// there is to do; copies of the model share the objects.
struct ClusterModel {
  std::map<ObjectKey, std::shared_ptr<const v1::Service>> services;
  std::map<ObjectKey, std::shared_ptr<const v1::EndpointSlice>> slices;
  std::map<std::string, std::shared_ptr<const v1::Node>> nodes;
  std::vector<Complaint> complaints;
};

}  // namespace maglane
