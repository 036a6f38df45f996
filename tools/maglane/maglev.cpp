// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "agent/inspect/inspector.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

Result<ExitCode> show_shares(const Invocation& invocation, const std::string& service) {
  auto inspector = inspect::Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->show_maglev(service),
               [](const v1::MaglevInfo& i) { return to_text(i); });
}

}  // namespace

void add_maglev(CLI::App& app, Invocation& invocation) {
  CLI::App& object = *app.add_subcommand("maglev", "Maglev tables: how new connections are spread");
  CLI::App& verb = *object.add_subcommand("show", "The tables of a service and the share of each endpoint");
  auto service = std::make_shared<std::string>();
  verb.add_option("SERVICE", *service, "NAMESPACE/NAME[:PORT], or NAME where that is unambiguous")
      ->required();
  on(verb, invocation, [&invocation, service] { return show_shares(invocation, *service); });
}

}  // namespace maglane::cli
