// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/inspector.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

Result<ExitCode> list_backends(const Invocation& invocation) {
  auto inspector = inspect::Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->list_backends(), [](const v1::BackendList& l) { return to_text(l); });
}

}  // namespace

void add_backend(CLI::App& app, Invocation& invocation) {
  CLI::App& object = *app.add_subcommand("backend", "Endpoints as the data plane numbers them");
  on(object, invocation, [&invocation] { return list_backends(invocation); });
  on(*object.add_subcommand("list", "All backends by address"), invocation,
     [&invocation] { return list_backends(invocation); });
}

}  // namespace maglane::cli
