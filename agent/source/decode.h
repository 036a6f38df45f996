// SPDX-License-Identifier: Apache-2.0
//
// Kubernetes manifests, YAML or JSON, into the messages of proto/snapshot.proto.
//
// Services (v1), EndpointSlices (discovery.k8s.io/v1) and Nodes (v1) are read, alone or in
// Lists; other kinds are skipped, and so are documents that are no Kubernetes objects. An
// object without a namespace is in "default". An object with an impossible value is refused
// alone; a text that does not parse is refused whole.
#pragma once

#include <google/protobuf/message.h>

#include <compare>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/base/object_key.h"

namespace maglane {

enum class Kind : uint8_t { service, endpoint_slice, node };

struct ObjectId {
  Kind kind = Kind::service;
  ObjectKey key;
  std::string to_string() const;  // "Service default/web", "Node node-a"
  auto operator<=>(const ObjectId&) const = default;
};

struct DecodedObject {
  // A v1::Service, v1::EndpointSlice or v1::Node as the kind says; null: refused.
  std::shared_ptr<const google::protobuf::Message> message;
  int line = 0;  // where the object begins
};

struct DecodedFile {
  bool parsed = false;  // false: there are no objects, and one complaint says why
  std::map<ObjectId, DecodedObject> objects;
  std::vector<Complaint> complaints;  // where: "file:line"
};

constexpr size_t kMaxManifestBytes = size_t{64} << 20;

// `file_name` is for the complaints; one that ends in ".json" is read as JSON.
DecodedFile decode_manifest(std::string_view text, const std::string& file_name);

// Whether two messages of one type say the same.
bool equal(const google::protobuf::Message& a, const google::protobuf::Message& b);

}  // namespace maglane
