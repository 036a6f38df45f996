// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "tools/maglane/command.h"

namespace maglane::cli {

Status write_out(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size()) return ok_status();
  return Error{fmt::format("cannot write to standard output: {}", std::strerror(errno))};
}

Status flush_out() {
  if (std::fflush(stdout) == 0) return ok_status();
  return Error{fmt::format("cannot write to standard output: {}", std::strerror(errno))};
}

namespace {

void declare(CLI::App& app, Invocation& invocation) {
  app.name("maglane");
  // Options of the whole program are understood after the verb too.
  app.fallthrough();
  app.set_version_flag("--version", "maglane " MAGLANE_VERSION);
  app.add_option("--bpffs", invocation.bpffs,
                 "The agent's pinned maps (default: $MAGLANE_BPFFS, /sys/fs/bpf/maglane)")
      ->envname("MAGLANE_BPFFS")
      ->option_text("DIR");
  app.add_option("--socket", invocation.socket,
                 "The agent's control socket (default: $MAGLANE_SOCKET, /run/maglane/agent.sock)")
      ->envname("MAGLANE_SOCKET")
      ->option_text("PATH");
  app.add_flag("--json", invocation.json, "Print JSON instead of text");
  add_status(app, invocation);
  add_service(app, invocation);
  add_backend(app, invocation);
  add_flow(app, invocation);
  add_socket(app, invocation);
  add_maglev(app, invocation);
  add_masquerade(app, invocation);
  add_affinity(app, invocation);
  add_stats(app, invocation);
}

// The command that the words of the command line lead to, and how it is called.
std::pair<const CLI::App*, std::string> deepest(const CLI::App& app) {
  const CLI::App* command = &app;
  std::string path = app.get_name();
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().front();
    path += " " + command->get_name();
  }
  return {command, path};
}

std::vector<std::string> commands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  return names;
}

int usage_error(const CLI::App& app, const std::string& message) {
  fmt::print(stderr, "maglane: {}; see `{} --help`\n", message, deepest(app).second);
  return kUsage;
}

// For a word or option that no command takes.
int unexpected(const CLI::App& app, const std::string& word) {
  const auto names = commands_of(*deepest(app).first);
  const bool option = word.starts_with("-");
  if (option || names.empty())
    return usage_error(app, fmt::format("unexpected {} \"{}\"", option ? "option" : "argument", word));
  return usage_error(app, fmt::format("no command \"{}\"; there are: {}", word, fmt::join(names, ", ")));
}

int parse(CLI::App& app, Invocation& invocation, int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  app.allow_extras();
  try {
    app.parse(std::move(words));
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::Error& error) {
    return usage_error(app, error.what());
  }
  if (const auto extras = app.remaining(true); !extras.empty()) return unexpected(app, extras.front());
  if (!invocation.action)
    return usage_error(app,
                       fmt::format("say what to do: {}", fmt::join(commands_of(*deepest(app).first), ", ")));
  return -1;
}

int run(int argc, char** argv) {
  // Connection attempts that fail are told by the command in its own words.
  setenv("GRPC_VERBOSITY", "NONE", 0);
  CLI::App app("Shows what the maglane data plane on this node does");
  Invocation invocation;
  declare(app, invocation);
  if (const int code = parse(app, invocation, argc, argv); code >= 0) return code;
  const Result<ExitCode> result = invocation.action();
  const Status flushed = flush_out();
  if (result && flushed) return *result;
  fmt::print(stderr, "maglane: {}\n", result ? flushed.error().message : result.error().message);
  return kFailed;
}

}  // namespace
}  // namespace maglane::cli

int main(int argc, char** argv) {
  return maglane::cli::run(argc, argv);
}
