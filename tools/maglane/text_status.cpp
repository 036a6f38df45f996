// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "tools/maglane/text.h"
#include "tools/maglane/units.h"

namespace maglane::cli {
namespace {

std::string addresses(const v1::Status& status) {
  const std::string& ipv4 = status.node_address_ipv4();
  const std::string& ipv6 = status.node_address_ipv6();
  if (ipv4.empty() && ipv6.empty()) return "no address known";
  return ipv4 + (ipv4.empty() || ipv6.empty() ? "" : ", ") + ipv6;
}

std::string update(const v1::Status& status) {
  if (!status.synced()) return "the first full update is not in the kernel yet";
  return fmt::format("{}, the last {} ago took {:.1f} ms", counted(status.updates(), "update"),
                     duration(status.last_update_seconds_ago()), status.last_update_milliseconds());
}

std::string agent(const v1::Status& status) {
  if (!status.agent_running()) return "not running; what is known of it comes from its maps";
  return fmt::format("running for {}, pid {}, version {}, kernel {}", duration(status.uptime_seconds()),
                     status.pid(), status.version(), status.kernel());
}

std::string heading(const char* name, const std::string& value) {
  return fmt::format("{:<9}{}\n", name, value);
}

std::string health(const v1::Health& health) {
  const v1::ProxyHealth& proxy = health.proxy();
  std::string text = proxy.healthy() ? "healthy" : "unhealthy";
  if (health.waiting_seconds() > 0)
    text += fmt::format(", a change has waited for {}", duration(health.waiting_seconds()));
  if (!proxy.node_eligible()) text += ", the node is to be deleted";
  const auto add = [&text](const char* what, const std::string& address) {
    if (!address.empty()) text += fmt::format("; {} on {}", what, address);
  };
  add("/healthz", health.healthz_address());
  add("/metrics", health.metrics_address());
  return text;
}

void add_health_ports(const v1::Status& status, std::string& text) {
  const auto sink = [&text](const std::string& line) { text += line; };
  Table table({{"PORT", true}, {"SERVICE"}, {"FAMILY"}, {"LOCAL ENDPOINTS", true}, {"ANSWER"}}, sink, "  ");
  for (const auto& port : status.health().ports()) {
    for (int i = 0; i < port.answers_size(); ++i) {
      const v1::ServiceHealth& answer = port.answers(i);
      const bool fine = answer.local_endpoints() != 0 && answer.service_proxy_healthy();
      table.add({std::to_string(port.port()), port.service(), port.families(i),
                 std::to_string(answer.local_endpoints()),
                 !port.listening() ? "none, see problems" : fine ? "200" : "503"});
    }
  }
  if (!table.empty()) text += "\nhealth checks\n";
  table.finish();
}

void add_attachments(const v1::Status& status, std::string& text) {
  const auto sink = [&text](const std::string& line) { text += line; };
  Table table({{"DEVICE"}, {"ROLE"}, {"HOOK"}, {"MODE"}, {"NOTE"}}, sink, "  ");
  for (const auto& attachment : status.attachments())
    table.add(
        {attachment.device(), attachment.role(), attachment.hook(), attachment.mode(), attachment.note()});
  if (!table.empty()) text += "\nattached\n";
  table.finish();
}

void add_problems(const v1::Status& status, std::string& text) {
  if (status.problems().empty()) return;
  text += "\nproblems\n";
  for (const auto& problem : status.problems())
    text += fmt::format("  {}: {}\n", problem.where(), problem.message());
}

void add_flow_tables(const v1::Status& status, std::string& text) {
  const auto sink = [&text](const std::string& line) { text += line; };
  Table table({{"FLOWS"}, {"USED", true}, {"SIZE", true}, {"OCCUPANCY", true}, {"PRESSURE", true}, {"MEMORY", true}},
              sink, "  ");
  for (const auto& flows : status.flow_tables())
    table.add({flows.family(), std::to_string(flows.flows()), std::to_string(flows.capacity()),
               percent(flows.flows(), flows.capacity()), percent(flows.pressure(), 1), bytes(flows.bytes())});
  if (!table.empty()) text += "\nflow tables\n";
  table.finish();
  if (status.flows_refused() > 0)
    text += fmt::format("  {} new connections were refused for want of room\n", count(status.flows_refused()));
}

void add_maps(const v1::Status& status, std::string& text) {
  const auto sink = [&text](const std::string& line) { text += line; };
  Table table({{"MAP"}, {"USED", true}, {"CAPACITY", true}, {"FULL", true}, {"MEMORY", true}}, sink, "  ");
  for (const auto& map : status.maps())
    table.add({map.name(), std::to_string(map.used()), std::to_string(map.capacity()),
               percent(map.used(), map.capacity()), bytes(map.bytes())});
  if (!table.empty()) text += "\nmaps\n";
  table.finish();
}

}  // namespace

std::string to_text(const v1::Status& status) {
  std::string text;
  const std::string node = status.node_name().empty() ? "" : status.node_name() + ", ";
  text += heading("node", node + addresses(status));
  text += heading("agent", agent(status));
  if (status.agent_running()) {
    text += heading("source", status.source());
    text += heading("updates", update(status));
    if (status.has_health()) text += heading("health", health(status.health()));
  }
  text += heading(
      "serves", fmt::format("{}, {}, {}", counted(status.services(), "service port"),
                            counted(status.frontends(), "frontend"), counted(status.backends(), "backend")));
  add_attachments(status, text);
  add_health_ports(status, text);
  add_problems(status, text);
  add_flow_tables(status, text);
  add_maps(status, text);
  return text;
}

}  // namespace maglane::cli
