// SPDX-License-Identifier: Apache-2.0
//
// How people name a service: NAMESPACE/NAME[:PORT], or NAME[:PORT] where only one namespace
// has a service of that name. PORT is the port's name or number; without it all ports count.
#pragma once

#include <cstdint>
#include <set>
#include <string_view>

#include "agent/base/result.h"
#include "agent/plan/contents.h"

namespace maglane::inspect {

// The ids of the service ports, of both families, that `text` names: at least one. Fails
// where there is none and where several namespaces have one.
Result<std::set<uint32_t>> select_services(const MapContents& contents, std::string_view text);

}  // namespace maglane::inspect
