// SPDX-License-Identifier: Apache-2.0
//
// What a command of the inspector is: it declares itself to the command line, and when it is
// the one that was asked for, computes one message and prints that.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <utility>

#include "agent/base/result.h"
#include "tools/maglane/json.h"

namespace maglane::cli {

enum ExitCode { kOk = 0, kFailed = 1, kUsage = 2 };

// The command line as parsed. Commands hold a reference while it is filled.
struct Invocation {
  std::string bpffs = "/sys/fs/bpf/maglane";
  std::string socket = "/run/maglane/agent.sock";
  bool json = false;
  std::function<Result<ExitCode>()> action;  // of the command that was asked for
};

// Each in the file of its name.
void add_status(CLI::App& app, Invocation& invocation);
void add_service(CLI::App& app, Invocation& invocation);
void add_backend(CLI::App& app, Invocation& invocation);
void add_flow(CLI::App& app, Invocation& invocation);
void add_socket(CLI::App& app, Invocation& invocation);
void add_maglev(CLI::App& app, Invocation& invocation);
void add_masquerade(CLI::App& app, Invocation& invocation);
void add_affinity(CLI::App& app, Invocation& invocation);
void add_stats(CLI::App& app, Invocation& invocation);

// Writes to standard output; fails where that does (a full disk, for example).
Status write_out(const std::string& text);
Status flush_out();

// Prints `message` as JSON where that was asked for, else as `text(message)`.
template <typename Message, typename Text>
Result<ExitCode> print(const Invocation& invocation, const Result<Message>& message, const Text& text) {
  if (!message) return message.error();
  Result<std::string> output = invocation.json ? to_json(*message) : Result<std::string>(text(*message));
  if (!output) return output.error();
  if (Status written = write_out(*output); !written) return written.error();
  return kOk;
}

// A verb, or an object on its own, that does `action`.
template <typename Action>
void on(CLI::App& command, Invocation& invocation, Action action) {
  command.callback([&command, &invocation, action = std::move(action)] {
    // Of an object and its verb both are called, the verb first.
    if (command.get_subcommands().empty()) invocation.action = action;
  });
}

}  // namespace maglane::cli
