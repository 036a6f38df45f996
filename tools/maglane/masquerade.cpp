// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/inspector.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

constexpr size_t kMost = 20;

Result<ExitCode> show_masquerade(const Invocation& invocation, bool all) {
  auto inspector = inspect::Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->show_masquerade(all ? SIZE_MAX : kMost),
               [](const v1::MasqueradeInfo& i) { return to_text(i); });
}

}  // namespace

void add_masquerade(CLI::App& app, Invocation& invocation) {
  CLI::App& object = *app.add_subcommand("masquerade", "How traffic of pods leaves the cluster's network");
  on(object, invocation, [&invocation] { return show_masquerade(invocation, false); });
  CLI::App& verb = *object.add_subcommand("show", "The model, its ranges, addresses and ports, and the fullest remote ends");
  auto all = std::make_shared<bool>(false);
  verb.add_flag("--all", *all, "Every remote end, not the 20 fullest alone");
  on(verb, invocation, [&invocation, all] { return show_masquerade(invocation, *all); });
}

}  // namespace maglane::cli
