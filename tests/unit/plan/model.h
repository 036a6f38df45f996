// SPDX-License-Identifier: Apache-2.0
//
// The maps as plain containers, and what may be said of them: operations are applied one by
// one and every state on the way is judged.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/plan/contents.h"
#include "agent/plan/operation.h"
#include "agent/resolve/resolved.h"

namespace maglane::test {

void apply(const Operation& operation, MapContents& contents);
void apply_all(const std::vector<Operation>& operations, MapContents& contents);

// What a frontend does for one source class: "drop", "reject", or how many entries each
// endpoint has ("10.1.0.1:8080 TCP": 801).
struct Meaning {
  std::string verdict;
  std::map<std::string, uint32_t> entries;
  bool operator==(const Meaning&) const = default;
};
struct FrontendMeaning {
  std::string service;  // "default/web:http 6 4"
  uint8_t type = 0;
  Meaning tables[abi::SOURCE_CLASSES];
  bool operator==(const FrontendMeaning&) const = default;
};
using Meanings = std::map<abi::frontend_key, FrontendMeaning, FrontendKeyLess>;

// What contents mean; `problem` (if not empty afterwards) tells what refers to nothing.
Meanings meaning_of(const MapContents& contents, std::string& problem);

// Applies `operations` and judges every prefix: frontends refer to live things only, mean
// what they meant or what they will mean, and are never absent if they are there before and
// after; no table is written over one that a frontend still refers to, no backend id
// changes its meaning. Empty if all is well, else the first thing wrong.
std::string check_prefixes(const std::vector<Operation>& operations, MapContents& contents);

// Compares contents with what a cluster asks for, worked out from scratch without ids, tables
// and sharing. Empty if equal.
std::string check_against_cluster(const MapContents& contents, const ResolvedCluster& cluster);

}  // namespace maglane::test
