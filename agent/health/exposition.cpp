// SPDX-License-Identifier: Apache-2.0
#include "agent/health/exposition.h"

#include <prometheus/text_serializer.h>

namespace maglane {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

void add(MetricFamily& family, Labels labels, double value) {
  ClientMetric& metric = family.metric.emplace_back();
  metric.label = std::move(labels);
  (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
}

Labels labels_of(const std::string& namespace_name, const std::string& name, const std::string& port,
                 std::string_view protocol, std::string_view family) {
  return {{"namespace", namespace_name},
          {"service", name},
          {"port", port},
          {"protocol", std::string(protocol)},
          {"family", std::string(family)}};
}

Labels with(Labels labels, const char* name, const char* value) {
  labels.push_back({name, value});
  return labels;
}

}  // namespace

std::vector<MetricFamily> packet_families(const v1::Stats& stats) {
  MetricFamily packets{"maglane_packets_total",
                       "Packets by the hook that saw them and what became of them there; `maglane stats` "
                       "tells what the reasons mean",
                       MetricType::Counter,
                       {}};
  MetricFamily bytes{"maglane_bytes_total", "Their bytes", MetricType::Counter, {}};
  for (const v1::Counter& counter : stats.counters()) {
    const Labels labels = {
        {"hook", counter.hook()}, {"reason", counter.reason()}, {"verdict", counter.verdict()}};
    add(packets, labels, counter.packets());
    add(bytes, labels, counter.bytes());
  }
  return {packets, bytes};
}

MetricFamily connection_family(const v1::ServiceList& services) {
  MetricFamily family{"maglane_service_connections_total",
                      "Connections of a service port that were given an endpoint",
                      MetricType::Counter,
                      {}};
  for (const v1::ServiceInfo& service : services.services()) {
    add(family,
        labels_of(service.namespace_(), service.name(), service.port_name(), service.protocol(),
                  service.family()),
        service.connections());
  }
  return family;
}

std::vector<MetricFamily> endpoint_families(const ResolvedCluster& cluster) {
  MetricFamily all{"maglane_service_endpoints",
                   "Endpoints of a service port, on any node, by condition",
                   MetricType::Gauge,
                   {}};
  MetricFamily local{"maglane_service_local_endpoints",
                     "Ready endpoints of a service port on this node",
                     MetricType::Gauge,
                     {}};
  for (const auto& [key, service] : cluster) {
    for (const ResolvedServicePort& port : service->ports) {
      const Labels labels =
          labels_of(key.namespace_name, key.name, port.key.port_name, to_string(port.key.protocol),
                    to_string(port.key.family));
      add(all, with(labels, "condition", "ready"), port.endpoints.ready);
      add(all, with(labels, "condition", "serving_terminating"), port.endpoints.serving_terminating);
      add(all, with(labels, "condition", "not_ready"), port.endpoints.not_ready);
      add(local, labels, port.endpoints.local_ready);
    }
  }
  return {all, local};
}

std::vector<MetricFamily> map_families(const v1::Status& maps) {
  MetricFamily entries{"maglane_map_entries", "Entries of a map of the data plane", MetricType::Gauge, {}};
  MetricFamily capacity{"maglane_map_capacity", "How many it has room for", MetricType::Gauge, {}};
  for (const v1::MapUsage& map : maps.maps()) {
    add(entries, {{"map", map.name()}}, map.used());
    add(capacity, {{"map", map.name()}}, map.capacity());
  }
  return {entries, capacity};
}

Result<std::vector<MetricFamily>> data_plane_families(const inspect::Inspector& inspector) {
  const auto stats = inspector.read_stats(true);
  if (!stats) return stats.error();
  const auto services = inspector.list_connections();
  if (!services) return services.error();
  const auto maps = inspector.map_usage();
  if (!maps) return maps.error();
  std::vector<MetricFamily> families = packet_families(*stats);
  families.push_back(connection_family(*services));
  for (MetricFamily& family : map_families(*maps)) families.push_back(std::move(family));
  return families;
}

std::string to_text(const std::vector<MetricFamily>& families) {
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace maglane
