// SPDX-License-Identifier: Apache-2.0
//
// Services, backends and Maglev tables as the inspector shows them. Pure: from what the maps
// hold, of which nothing is taken for granted.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "agent/kernel/maps.h"
#include "agent/plan/contents.h"
#include "proto/inspect.pb.h"

namespace maglane::inspect {

// Sorted by name, protocol and family; frontends by type, address and port. Without the
// frontends that only stand for an address, and without endpoints.
v1::ServiceList list_services(const MapContents& contents);

// The services of these ids with their endpoints: `entries` and `share` of an endpoint count
// all Maglev tables of the service's frontends together, each once.
v1::ServiceList show_services(const MapContents& contents, const std::set<uint32_t>& ids);

// Names alone, in the same order.
v1::ServiceList name_services(const std::map<uint32_t, abi::service_info>& services);

v1::BackendList list_backends(const MapContents& contents);  // by address and port

// By service and client; what is over, or of no service that is there, is left out.
v1::AffinityList list_affinity(const MapContents& contents, const std::vector<AffinityEntry>& entries,
                               const PinnedMaps::Clock& clock);

// Each table of the services' frontends once, with the frontends that use it. A frontend
// whose table depends on who asks is followed by "(outside)" or "(pods)".
v1::MaglevInfo show_maglev(const MapContents& contents, const std::set<uint32_t>& ids,
                           const std::string& name);

}  // namespace maglane::inspect
