// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/selector.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>

#include "agent/inspect/names.h"

namespace maglane::inspect {
namespace {

struct Selector {
  std::string_view namespace_name;  // empty: any
  std::string_view name;
  std::string_view port;  // empty: all
};

Selector parse(std::string_view text) {
  Selector selector;
  if (const size_t colon = text.find(':'); colon != std::string_view::npos) {
    selector.port = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  if (const size_t slash = text.find('/'); slash != std::string_view::npos) {
    selector.namespace_name = text.substr(0, slash);
    text = text.substr(slash + 1);
  }
  selector.name = text;
  return selector;
}

bool matches(const Selector& selector, const abi::service_info& info) {
  return text_of(info.name) == selector.name &&
         (selector.namespace_name.empty() || text_of(info.namespace_name) == selector.namespace_name) &&
         (selector.port.empty() || text_of(info.port_name) == selector.port ||
          std::to_string(info.port) == selector.port);
}

}  // namespace

Result<std::set<uint32_t>> select_services(const MapContents& contents, std::string_view text) {
  const Selector selector = parse(text);
  std::set<uint32_t> ids;
  std::set<std::string> services;
  for (const auto& [id, info] : contents.services) {
    if (!matches(selector, info)) continue;
    ids.insert(id);
    services.insert(fmt::format("{}/{}", text_of(info.namespace_name), text_of(info.name)));
  }
  if (ids.empty())
    return Error{
        fmt::format("no service \"{}\" on this node; `maglane service list` shows those there are", text)};
  if (services.size() > 1)
    return Error{fmt::format("\"{}\" is the name of several services; say which: {}", text,
                             fmt::join(services, ", "))};
  return ids;
}

}  // namespace maglane::inspect
