// SPDX-License-Identifier: Apache-2.0
//
// The metrics that are read when somebody asks: the data plane's counters, and the services as
// they are resolved.
#pragma once

#include <prometheus/metric_family.h>

#include <map>
#include <string>
#include <vector>

#include "agent/inspect/inspector.h"
#include "agent/resolve/resolved.h"

namespace maglane {

// Packets and bytes by hook, reason and verdict.
std::vector<prometheus::MetricFamily> packet_families(const v1::Stats& stats);

// New connections of each service port.
prometheus::MetricFamily connection_family(const v1::ServiceList& services);

// Endpoints of each service port by condition, and how many are on this node.
std::vector<prometheus::MetricFamily> endpoint_families(const ResolvedCluster& cluster);

// How full each map is.
std::vector<prometheus::MetricFamily> map_families(const v1::Status& maps);

// All that is read from the maps.
Result<std::vector<prometheus::MetricFamily>> data_plane_families(const inspect::Inspector& inspector);

// In Prometheus' text format, version 0.0.4.
std::string to_text(const std::vector<prometheus::MetricFamily>& families);
inline constexpr char kTextFormat[] = "text/plain; version=0.0.4; charset=utf-8";

}  // namespace maglane
