// SPDX-License-Identifier: Apache-2.0
//
// The objects of many manifest files as one cluster model. Keeps, for each file, its last
// good state: a file that no longer parses keeps all its objects, an object that is now
// refused keeps what it was in that file before. An object that several files hold is taken
// from the first of them by file name; the others are complained of.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/source/decode.h"
#include "agent/source/model.h"

namespace maglane {

class ManifestSet {
 public:
  // The file's present content.
  void put(const std::string& file, DecodedFile decoded);
  // The file exists but cannot be read: its last good state stays.
  void keep(const std::string& file, Complaint complaint);
  // The file is gone, and with it its objects.
  void remove(const std::string& file);

  // Costs what was changed since, and a walk over the complaints. `more` come first.
  const ClusterModel& model(std::vector<Complaint> more = {});

 private:
  struct File {
    std::map<ObjectId, DecodedObject> objects;  // none refused
    std::vector<Complaint> complaints;
  };

  void replace_objects(const std::string& file, std::map<ObjectId, DecodedObject> objects);
  void settle(const ObjectId& id);
  template <typename T, typename Map, typename Key>
  static void store(Map& map, const Key& key,
                    const std::shared_ptr<const google::protobuf::Message>& message);

  std::map<std::string, File> files_;
  std::map<ObjectId, std::set<std::string>> holders_;  // files by object
  std::map<ObjectId, std::vector<Complaint>> conflicts_;
  ClusterModel model_;
};

}  // namespace maglane
