// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "agent/inspect/inspector.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

Result<ExitCode> list_services(const Invocation& invocation) {
  auto inspector = inspect::Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->list_services(), [](const v1::ServiceList& l) { return to_text(l); });
}

Result<ExitCode> show_service(const Invocation& invocation, const std::string& service) {
  auto inspector = inspect::Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->show_service(service), to_long_text);
}

}  // namespace

void add_service(CLI::App& app, Invocation& invocation) {
  CLI::App& object = *app.add_subcommand("service", "Services and the addresses that clients use");
  on(object, invocation, [&invocation] { return list_services(invocation); });

  CLI::App& list_verb = *object.add_subcommand(
      "list", "All service ports, their frontends and how many endpoints each reaches");
  on(list_verb, invocation, [&invocation] { return list_services(invocation); });

  CLI::App& show_verb = *object.add_subcommand("show", "One service: frontends, endpoints and their shares");
  auto service = std::make_shared<std::string>();
  show_verb.add_option("SERVICE", *service, "NAMESPACE/NAME[:PORT], or NAME where that is unambiguous")
      ->required();
  on(show_verb, invocation, [&invocation, service] { return show_service(invocation, *service); });
}

}  // namespace maglane::cli
