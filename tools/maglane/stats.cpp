// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "agent/inspect/inspector.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

Result<ExitCode> show_stats(const Invocation& invocation, bool all) {
  auto inspector = inspect::Inspector::open(invocation.bpffs);
  if (!inspector) return inspector.error();
  return print(invocation, inspector->read_stats(all), [](const v1::Stats& s) { return to_text(s); });
}

}  // namespace

void add_stats(CLI::App& app, Invocation& invocation) {
  CLI::App& command = *app.add_subcommand("stats", "What became of packets, by reason; most frequent first");
  auto all = std::make_shared<bool>(false);
  command.add_flag("--all", *all, "Also reasons that never occurred");
  on(command, invocation, [&invocation, all] { return show_stats(invocation, *all); });
}

}  // namespace maglane::cli
