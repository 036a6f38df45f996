// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/inspector.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

Result<ExitCode> list_affinity(const Invocation& invocation) {
  auto inspector = inspect::Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->list_affinity(), [](const v1::AffinityList& l) { return to_text(l); });
}

}  // namespace

void add_affinity(CLI::App& app, Invocation& invocation) {
  CLI::App& object = *app.add_subcommand("affinity", "Clients that session affinity holds to an endpoint");
  on(object, invocation, [&invocation] { return list_affinity(invocation); });
  on(*object.add_subcommand("list", "All of them by service"), invocation,
     [&invocation] { return list_affinity(invocation); });
}

}  // namespace maglane::cli
