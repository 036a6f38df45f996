// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <optional>

#include "agent/inspect/inspector.h"
#include "tools/maglane/agent_client.h"
#include "tools/maglane/command.h"
#include "tools/maglane/text.h"

namespace maglane::cli {
namespace {

Result<v1::Status> status_of_maps(const std::string& bpffs) {
  auto inspector = inspect::Inspector::open(bpffs);
  if (!inspector) return inspector.error();
  return inspector->status();
}

Result<ExitCode> show_status(const Invocation& invocation, std::optional<double> wait) {
  const auto text = [](const v1::Status& s) { return to_text(s); };
  const auto status = ask_agent(invocation.socket, wait.value_or(0));
  if (!status) {
    const auto maps = status_of_maps(invocation.bpffs);
    if (!maps) return Error{status.error().message + "\nmaglane: " + maps.error().message};
    const auto printed = print(invocation, maps, text);
    return printed ? Result<ExitCode>(status.error()) : printed;
  }
  const auto printed = print(invocation, status, text);
  if (printed && wait && !status->synced())
    return Error{fmt::format("the first full update was not in the kernel within {} s", *wait)};
  return printed;
}

}  // namespace

void add_status(CLI::App& app, Invocation& invocation) {
  CLI::App& command = *app.add_subcommand("status", "The node, its agent, and what is wrong with them");
  auto wait = std::make_shared<std::optional<double>>();
  command
      .add_option(
          "--wait", *wait,
          "Wait up to so many seconds until the agent runs and its first full update is in the kernel; "
          "exit 1 if that does not happen")
      ->check(CLI::Range(0.0, 3600.0))
      ->option_text("SECONDS");
  on(command, invocation, [&invocation, wait] { return show_status(invocation, *wait); });
}

}  // namespace maglane::cli
