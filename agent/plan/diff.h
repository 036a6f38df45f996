// SPDX-License-Identifier: Apache-2.0
//
// From what the maps hold to what they are to hold, as an ordered list of operations. After
// every prefix of it each frontend refers to a fully written table of live backends, and
// means either what it meant before or what it is to mean. No range and no id is given
// another meaning within one list (see allocator.h), so a packet that read an old frontend
// still finds its old table.
//
// Operations may be applied again, also in part, before the rest: each puts or deletes a
// whole entry.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "agent/plan/contents.h"
#include "agent/plan/operation.h"
#include "agent/plan/plan.h"

namespace maglane {

// REQUIRES: both from one planner, `from` the older. Costs what differs.
std::vector<Operation> diff(const Plan& from, const Plan& to);

// For start-up and repair: compares everything, tables included.
// REQUIRES: `to` from a planner that recovered `from`, or whose plans made up `from`.
std::vector<Operation> diff(const MapContents& from, const Plan& to);

// Where the operations begin that only delete what no frontend refers to any more (backends,
// services, flows). Wait for a grace period before them, so that a packet on its way through an
// old table still finds its backend, and makes no flow that ought to be forgotten.
size_t cleanup_begin(std::span<const Operation> operations);

}  // namespace maglane
