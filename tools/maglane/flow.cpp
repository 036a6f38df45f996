// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>
#include <set>

#include "agent/inspect/inspector.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

using inspect::FlowQuery;
using inspect::Inspector;

// The filters as typed; every verb has the same.
struct Filters {
  std::string protocol, source, destination, service, state, direction;
  uint16_t port = 0;
  int family = 0;
  bool all = false;  // flush only
};

const CLI::Validator kCidr(
    [](const std::string& text) {
      const auto cidr = Cidr::parse(text);
      return cidr ? std::string() : cidr.error().message;
    },
    "ADDRESS|CIDR");

void add_filters(CLI::App& command, Filters& filters) {
  command.add_option("--protocol", filters.protocol, "tcp, udp or sctp")
      ->transform(CLI::IsMember({"tcp", "udp", "sctp"}, CLI::ignore_case))
      ->option_text("PROTOCOL");
  command
      .add_option("--source", filters.source,
                  "The client's address, before or after translation, is in this CIDR")
      ->check(kCidr)
      ->option_text("CIDR");
  command
      .add_option("--destination", filters.destination,
                  "The service's address, or the endpoint's, is in this CIDR")
      ->check(kCidr)
      ->option_text("CIDR");
  command.add_option("--port", filters.port, "A port of either end, before or after translation, is this")
      ->check(CLI::Range(1, 65535))
      ->option_text("PORT");
  command
      .add_option("--service", filters.service, "NAMESPACE/NAME[:PORT], or NAME where that is unambiguous")
      ->option_text("SERVICE");
  command
      .add_option("--state", filters.state, "TCP: opening, established, closing, reset, closed; UDP: new, replied")
      ->check(CLI::IsMember({"opening", "established", "closing", "reset", "closed", "new", "replied"}))
      ->option_text("STATE");
  command.add_option("--family", filters.family, "4 or 6")
      ->check(CLI::IsMember({4, 6}))
      ->option_text("FAMILY");
  command.add_option("--direction", filters.direction, "forward or reply; else both")
      ->check(CLI::IsMember({"forward", "reply"}))
      ->option_text("DIRECTION");
  command.footer(
      "Filters select connections, and of each both directions unless --direction says which: source and\n"
      "destination are meant as the client sees them. A connection must fit all filters that are given.");
}

// REQUIRES: the values passed their checks.
FlowQuery query_of(const Filters& filters) {
  FlowQuery query;
  if (!filters.protocol.empty())
    query.filter.protocol = filters.protocol == "tcp"   ? Protocol::tcp
                            : filters.protocol == "udp" ? Protocol::udp
                                                        : Protocol::sctp;
  if (!filters.source.empty()) query.filter.source = *Cidr::parse(filters.source);
  if (!filters.destination.empty()) query.filter.destination = *Cidr::parse(filters.destination);
  if (filters.port != 0) query.filter.port = filters.port;
  if (!filters.service.empty()) query.service = filters.service;
  if (!filters.state.empty()) query.filter.state = filters.state;
  if (!filters.direction.empty()) query.filter.reply = filters.direction == "reply";
  if (filters.family != 0) query.filter.family = filters.family == 4 ? Family::ipv4 : Family::ipv6;
  return query;
}

// Prints each flow as it comes, so that a full table costs time but no memory.
Status list_as_json(const Inspector& inspector, const FlowQuery& query) {
  Status written = write_out("{\"flows\":[");
  const char* separator = "\n";
  auto read = inspector.each_flow(query, [&](const v1::Flow& flow) {
    const auto text = to_json(flow, JsonLayout::one_line);
    written = text ? write_out(separator + *text) : Status(text.error());
    separator = ",\n";
    return written.ok();
  });
  if (!read) return read;
  if (!written) return written;
  return write_out("\n]}\n");
}

Status list_as_text(const Inspector& inspector, const FlowQuery& query) {
  Status written = ok_status();
  Table table = flow_table([&](const std::string& line) {
    if (written.ok()) written = write_out(line);
  });
  auto read = inspector.each_flow(query, [&](const v1::Flow& flow) {
    table.add(flow_cells(flow));
    return written.ok();
  });
  if (!read) return read;
  table.finish();
  return table.empty() ? write_out("no flows\n") : written;
}

Result<ExitCode> list_flows(const Invocation& invocation, const Filters& filters) {
  auto inspector = Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  const FlowQuery query = query_of(filters);
  const Status listed = invocation.json ? list_as_json(*inspector, query) : list_as_text(*inspector, query);
  if (!listed) return listed.error();
  return kOk;
}

Result<ExitCode> count(const Invocation& invocation, const Filters& filters) {
  auto inspector = Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->count_flows(query_of(filters)),
               [](const v1::FlowCount& c) { return to_text(c); });
}

Result<ExitCode> flush(const Invocation& invocation, const Filters& filters) {
  auto inspector = Inspector::open(invocation.bpffs, true);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->flush_flows(query_of(filters)),
               [](const v1::FlowFlushResult& r) { return to_text(r); });
}

bool selects_all(const Filters& filters) {
  const FlowQuery query = query_of(filters);
  return query.filter.selects_all() && !query.service;
}

void add_flush(CLI::App& object, Invocation& invocation, const std::shared_ptr<Filters>& filters) {
  CLI::App& verb =
      *object.add_subcommand("flush", "Forget flows; their next packets are treated as new connections");
  add_filters(verb, *filters);
  verb.add_flag("--all", filters->all, "Without a filter: all flows of the node");
  verb.callback([&invocation, filters] {
    if (selects_all(*filters) && !filters->all)
      throw CLI::ValidationError("flow flush",
                                 "needs a filter such as --source, or --all to forget every flow");
    if (!selects_all(*filters) && filters->all)
      throw CLI::ValidationError("flow flush", "takes either filters or --all, not both");
    invocation.action = [&invocation, filters] { return flush(invocation, *filters); };
  });
}

}  // namespace

void add_flow(CLI::App& app, Invocation& invocation) {
  CLI::App& object = *app.add_subcommand("flow", "Tracked connections, two flows each: forward and reply");
  auto filters = std::make_shared<Filters>();
  add_filters(object, *filters);
  on(object, invocation, [&invocation, filters] { return list_flows(invocation, *filters); });

  CLI::App& list_verb = *object.add_subcommand("list", "The flows, those of one connection together");
  add_filters(list_verb, *filters);
  on(list_verb, invocation, [&invocation, filters] { return list_flows(invocation, *filters); });

  CLI::App& count_verb = *object.add_subcommand("count", "How many, by protocol and state");
  add_filters(count_verb, *filters);
  on(count_verb, invocation, [&invocation, filters] { return count(invocation, *filters); });

  add_flush(object, invocation, filters);
}

}  // namespace maglane::cli
