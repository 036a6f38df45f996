// SPDX-License-Identifier: Apache-2.0
//
// An agent whose flow tables have another size than those before may die while hooks change from
// the programs with the old ones to its own. Programs know of one table before theirs
// (bpf/flow.h), so the next agent ends that change before it begins its own.
#pragma once

#include "agent/base/result.h"
#include "agent/kernel/bpffs.h"

namespace maglane {

// Nothing, unless tables are pinned that were to be given up. If hooks may have got programs with
// the new tables, the other hooks get theirs too, and what is in the old tables goes over; else the
// old tables take their place back. REQUIRES: bpffs.prepare() was called.
Status settle_unfinished_swap(const Bpffs& bpffs);

}  // namespace maglane
