// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/inspector.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

Result<ExitCode> list_sockets(const Invocation& invocation) {
  auto inspector = inspect::Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->list_sockets(), [](const v1::SocketList& l) { return to_text(l); });
}

}  // namespace

void add_socket(CLI::App& app, Invocation& invocation) {
  CLI::App& object = *app.add_subcommand("socket", "Sockets that were given an endpoint when they connected");
  on(object, invocation, [&invocation] { return list_sockets(invocation); });
  on(*object.add_subcommand("list", "All translated sockets by frontend"), invocation,
     [&invocation] { return list_sockets(invocation); });
}

}  // namespace maglane::cli
