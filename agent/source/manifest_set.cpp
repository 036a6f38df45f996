// SPDX-License-Identifier: Apache-2.0
#include "agent/source/manifest_set.h"

#include <fmt/format.h>

namespace maglane {

void ManifestSet::put(const std::string& file, DecodedFile decoded) {
  if (decoded.parsed) {
    const auto& before = files_[file].objects;
    for (auto it = decoded.objects.begin(); it != decoded.objects.end();) {
      const auto last = before.find(it->first);
      if (it->second.message == nullptr && last == before.end()) {
        it = decoded.objects.erase(it);
        continue;
      }
      if (last != before.end() &&
          (it->second.message == nullptr || equal(*it->second.message, *last->second.message)))
        it->second.message = last->second.message;
      ++it;
    }
    replace_objects(file, std::move(decoded.objects));
  }
  files_[file].complaints = std::move(decoded.complaints);
}

void ManifestSet::keep(const std::string& file, Complaint complaint) {
  files_[file].complaints = {std::move(complaint)};
}

void ManifestSet::remove(const std::string& file) {
  if (!files_.contains(file)) return;
  replace_objects(file, {});
  files_.erase(file);
}

void ManifestSet::replace_objects(const std::string& file, std::map<ObjectId, DecodedObject> objects) {
  File& state = files_[file];
  std::swap(state.objects, objects);  // `objects` now holds the old ones
  for (const auto& [id, object] : state.objects) {
    const auto old = objects.find(id);
    const bool same =
        old != objects.end() && old->second.message == object.message && old->second.line == object.line;
    if (old != objects.end()) objects.erase(old);
    if (same) continue;
    holders_[id].insert(file);
    settle(id);
  }
  for (const auto& [id, object] : objects) {
    holders_[id].erase(file);
    settle(id);
  }
}

template <typename T, typename Map, typename Key>
void ManifestSet::store(Map& map, const Key& key,
                        const std::shared_ptr<const google::protobuf::Message>& message) {
  if (message == nullptr) {
    map.erase(key);
    return;
  }
  auto& slot = map[key];
  // The object may have moved to another file without a change.
  if (slot == nullptr || (slot != message && !equal(*slot, *message)))
    slot = std::static_pointer_cast<const T>(message);
}

// Who of an object's holders is in force, into the model.
void ManifestSet::settle(const ObjectId& id) {
  const auto holders = holders_.find(id);
  std::shared_ptr<const google::protobuf::Message> message;
  conflicts_.erase(id);
  if (holders->second.empty()) {
    holders_.erase(holders);
  } else {
    const std::string& winner = *holders->second.begin();
    message = files_[winner].objects.at(id).message;
    for (auto other = std::next(holders->second.begin()); other != holders->second.end(); ++other)
      conflicts_[id].push_back({fmt::format("{}:{}", *other, files_[*other].objects.at(id).line),
                                fmt::format("{} is in {} as well, which is in force: the first file by name",
                                            id.to_string(), winner)});
  }
  switch (id.kind) {
    case Kind::service:
      return store<v1::Service>(model_.services, id.key, message);
    case Kind::endpoint_slice:
      return store<v1::EndpointSlice>(model_.slices, id.key, message);
    case Kind::node:
      return store<v1::Node>(model_.nodes, id.key.name, message);
  }
}

const ClusterModel& ManifestSet::model(std::vector<Complaint> more) {
  model_.complaints = std::move(more);
  auto& all = model_.complaints;
  for (const auto& [name, file] : files_)
    all.insert(all.end(), file.complaints.begin(), file.complaints.end());
  for (const auto& [id, complaints] : conflicts_) all.insert(all.end(), complaints.begin(), complaints.end());
  return model_;
}

}  // namespace maglane
