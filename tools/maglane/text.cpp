// SPDX-License-Identifier: Apache-2.0
#include "tools/maglane/text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tools/maglane/units.h"

namespace maglane::cli {
namespace {

auto into(std::string& text) {
  return [&text](const std::string& line) { text += line; };
}

std::string name_of(const v1::ServiceInfo& service) {
  const std::string name = service.namespace_() + "/" + service.name();
  return service.port_name().empty() ? name : name + ":" + service.port_name();
}

const char* where(bool local) {
  return local ? "this node" : "elsewhere";
}

// How many endpoints a frontend's clients reach, told apart where it matters who asks.
std::string reach(const v1::FrontendInfo& frontend) {
  const auto amount = [&](uint32_t endpoints) {
    return endpoints == 0 && !frontend.when_empty().empty() ? frontend.when_empty()
                                                            : std::to_string(endpoints);
  };
  if (frontend.endpoints() == frontend.pod_endpoints()) return amount(frontend.endpoints());
  return fmt::format("{} outside, {} pods", amount(frontend.endpoints()), amount(frontend.pod_endpoints()));
}

// Who may open connections to a frontend.
std::string sources(const v1::FrontendInfo& frontend) {
  if (!frontend.limited()) return "any";
  return frontend.source_ranges().empty() ? "nobody"
                                          : fmt::format("{}", fmt::join(frontend.source_ranges(), ", "));
}

std::string shares(const google::protobuf::RepeatedPtrField<v1::EndpointShare>& endpoints) {
  std::string text;
  Table table({{"ENDPOINT"}, {"WHERE"}, {"BACKEND", true}, {"ENTRIES", true}, {"SHARE", true}, {""}},
              into(text), "  ");
  for (const auto& share : endpoints)
    table.add({share.address().empty() ? "(gone)" : endpoint(share.address(), share.port()),
               share.address().empty() ? "-" : where(share.local()), std::to_string(share.backend_id()),
               std::to_string(share.entries()), percent(share.share(), 1), bar(share.share())});
  table.finish();
  return text;
}

}  // namespace

std::string to_text(const v1::ServiceList& list) {
  if (list.services().empty()) return "no services\n";
  std::string text;
  Table table({{"SERVICE"}, {"PROTOCOL"}, {"FRONTEND"}, {"TYPE"}, {"ENDPOINTS"}}, into(text));
  for (const auto& service : list.services()) {
    std::string name = name_of(service);
    std::string protocol = service.protocol();
    if (service.frontends().empty()) table.add({name, protocol, "-", "-", "-"});
    for (const auto& frontend : service.frontends()) {
      table.add(
          {name, protocol, endpoint(frontend.address(), frontend.port()), frontend.type(), reach(frontend)});
      name.clear();
      protocol.clear();
    }
  }
  table.finish();
  return text;
}

std::string to_long_text(const v1::ServiceList& list) {
  std::string text;
  for (const auto& service : list.services()) {
    if (!text.empty()) text += "\n";
    text += fmt::format("{}  {} {}, port {}, id {}, {} connections\n", name_of(service), service.protocol(),
                        service.family(), service.port(), service.id(), count(service.connections()));
    Table frontends({{"FRONTEND"}, {"TYPE"}, {"ENDPOINTS"}, {"AFFINITY", true}, {"SOURCES"}}, into(text),
                    "  ");
    for (const auto& frontend : service.frontends())
      frontends.add({endpoint(frontend.address(), frontend.port()), frontend.type(), reach(frontend),
                     frontend.affinity_seconds() ? duration(frontend.affinity_seconds()) : "-",
                     sources(frontend)});
    frontends.finish();
    text += service.endpoints().empty() ? "  no endpoint can be reached from this node\n"
                                        : shares(service.endpoints());
  }
  return text;
}

std::string to_text(const v1::AffinityList& list) {
  if (list.clients().empty()) return "no clients\n";
  std::string text;
  Table table({{"SERVICE"}, {"CLIENT"}, {"ENDPOINT"}, {"IDLE", true}, {"LEFT", true}}, into(text));
  for (const auto& client : list.clients())
    table.add({client.service(), client.client(),
               client.address().empty() ? "(gone)" : endpoint(client.address(), client.port()),
               duration(client.idle_seconds()), duration(client.seconds_left())});
  table.finish();
  return text;
}

std::string to_text(const v1::BackendList& list) {
  if (list.backends().empty()) return "no backends\n";
  std::string text;
  Table table({{"ID", true}, {"ADDRESS"}, {"PROTOCOL"}, {"WHERE"}}, into(text));
  for (const auto& backend : list.backends())
    table.add({std::to_string(backend.id()), endpoint(backend.address(), backend.port()), backend.protocol(),
               where(backend.local())});
  table.finish();
  return text;
}

std::string to_text(const v1::SocketList& list) {
  if (list.sockets().empty()) return "no translated sockets\n";
  std::string text;
  Table table({{"PROTO"}, {"FRONTEND"}, {"ENDPOINT"}, {"USE"}, {"SERVICE"}, {"COOKIE", true}}, into(text));
  for (const auto& socket : list.sockets())
    table.add({socket.protocol(), endpoint(socket.frontend(), socket.frontend_port()),
               endpoint(socket.endpoint(), socket.endpoint_port()), socket.use(),
               socket.service().empty() ? "-" : socket.service(), socket.cookie()});
  table.finish();
  return text;
}

Table flow_table(std::function<void(const std::string&)> sink) {
  return Table({{"PROTO"},
                {"DIRECTION"},
                {"ORIGINAL"},
                {"TRANSLATED"},
                {"STATE"},
                {"IDLE", true},
                {"SERVICE"},
                {"DEVICE"}},
               std::move(sink));
}

std::vector<std::string> flow_cells(const v1::Flow& flow) {
  const auto tuple = [](const v1::Tuple& t) {
    return endpoint(t.source(), t.source_port()) + " > " + endpoint(t.destination(), t.destination_port());
  };
  return {flow.protocol(),
          flow.direction(),
          tuple(flow.original()),
          tuple(flow.translated()),
          flow.state(),
          duration(flow.idle_seconds()),
          flow.service_id() == 0 ? "-" : flow.service().empty() ? fmt::format("(gone: id {})", flow.service_id()) : flow.service(),
          flow.device().empty() ? "-" : flow.device()};
}

std::string to_text(const v1::FlowCount& count) {
  std::string text =
      fmt::format("{}, {}\n", counted(count.connections(), "connection"), counted(count.flows(), "flow"));
  Table table({{"BY"}, {""}, {"CONNECTIONS", true}}, into(text));
  for (const auto& [protocol, number] : std::map(count.by_protocol().begin(), count.by_protocol().end()))
    table.add({"protocol", protocol, std::to_string(number)});
  for (const auto& [state, number] : std::map(count.by_state().begin(), count.by_state().end()))
    table.add({"state", state, std::to_string(number)});
  table.finish();
  return text;
}

std::string to_text(const v1::FlowFlushResult& result) {
  return fmt::format("removed {}\n", counted(result.removed(), "flow"));
}

std::string to_text(const v1::MaglevInfo& info) {
  std::string text = info.service() + "\n";
  if (info.tables().empty()) text += "  no frontend\n";
  for (const auto& table : info.tables()) {
    text += table.size() == 0
                ? "\nno table: no endpoint can be reached\n"
                : fmt::format("\ntable of {} entries from {} on\n", table.size(), table.offset());
    for (const auto& frontend : table.frontends()) text += "  for " + frontend + "\n";
    text += shares(table.endpoints());
  }
  return text;
}

std::string to_text(const v1::MasqueradeInfo& info) {
  std::string text = fmt::format("model   {}\n", info.model());
  std::string ports;
  for (const auto& range : info.ports())
    ports += fmt::format("{}{}-{}", ports.empty() ? "" : ", ", range.first(), range.last());
  text += fmt::format("ports   {} ({} towards each remote end, and each client's own where it is free)\n", ports,
                      info.range_ports());
  for (const auto& egress : info.addresses())
    text += fmt::format("leaves  {} as {}{}{}\n", egress.device(), egress.ipv4(),
                        egress.ipv4().empty() || egress.ipv6().empty() ? "" : ", ", egress.ipv6());
  for (const auto& range : info.not_masqueraded()) text += fmt::format("not to  {}\n", range);
  text += fmt::format("in use  {} to {}\n", counted(info.connections(), "connection"),
                      counted(info.remotes_in_use(), "remote end"));
  text += fmt::format("failed  {} packets found no free port\n", count(info.dropped()));
  if (info.remotes().empty()) return text;
  text += "\n";
  Table table({{"PROTO"}, {"REMOTE"}, {"FROM"}, {"CONNECTIONS", true}, {"RANGE PORTS", true}, {"FULL", true}, {"DROPPED", true}},
              into(text));
  for (const auto& remote : info.remotes())
    table.add({remote.protocol(), remote.port() ? endpoint(remote.address(), remote.port()) : remote.address(),
               remote.source(), std::to_string(remote.connections()), std::to_string(remote.range_ports_used()),
               percent(remote.range_used(), 1), count(remote.dropped())});
  table.finish();
  return text;
}

std::string to_text(const v1::Stats& stats) {
  if (stats.counters().empty()) return "no packet has been counted yet\n";
  std::string text;
  Table table({{"PACKETS", true}, {"BYTES", true}, {"HOOK"}, {"VERDICT"}, {"REASON"}, {"MEANING"}},
              into(text));
  for (const auto& counter : stats.counters())
    table.add({count(counter.packets()), bytes(counter.bytes()), counter.hook(), counter.verdict(),
               counter.reason(), counter.meaning()});
  table.finish();
  return text;
}

}  // namespace maglane::cli
