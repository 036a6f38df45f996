// SPDX-License-Identifier: Apache-2.0
//
// maglane-agent: options, signals and the event loop around the Reconciler.
#include <fmt/format.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "agent/config.h"
#include "agent/control/server.h"
#include "agent/inspect/inspector.h"
#include "agent/kernel/attach.h"
#include "agent/kernel/fd.h"
#include "agent/reconcile.h"

namespace maglane {
namespace {

enum Exit { kOk = 0, kFailed = 1 };

int fail(const Error& error) {
  fmt::print(stderr, "maglane-agent: {}\n", error.message);
  return kFailed;
}

void set_up_log(const std::string& level) {
  auto log = spdlog::stderr_logger_st("maglane");
  // journald has the time and the program's name already.
  log->set_pattern(std::getenv("JOURNAL_STREAM") ? "%l: %v" : "%Y-%m-%dT%H:%M:%S.%e %l: %v");
  log->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(log));
}

// Blocked in all threads, so before any is started.
Result<Fd> take_signals() {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  Fd fd(::signalfd(-1, &signals, SFD_CLOEXEC));
  if (!fd.ok()) return Error{fmt::format("cannot take signals: {}", std::strerror(errno))};
  return fd;
}

int clean_up(const Config& config) {
  if (auto s = check_socket(config.socket); !s) return fail(s.error());
  if (auto s = remove_everything(config.bpffs); !s) return fail(s.error());
  ::unlink(config.socket.c_str());  // left behind, as nobody listens
  return kOk;
}

int milliseconds_until(Reconciler::Clock::time_point due) {
  auto wait = std::chrono::ceil<std::chrono::milliseconds>(due - Reconciler::Clock::now());
  return static_cast<int>(std::max<int64_t>(0, wait.count()));
}

// Until a signal comes.
Status run_loop(Reconciler& reconciler, ResyncQueue& resyncs, int signals) {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  for (int fd : {signals, reconciler.source_fd(), reconciler.network_fd(), reconciler.masq_fd(), resyncs.fd()}) {
    if (fd < 0) continue;
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return Error{fmt::format("epoll: {}", std::strerror(errno))};
    }
  }
  bool told_ready = false;
  for (;;) {
    std::array<epoll_event, 8> events;
    int count =
        ::epoll_wait(epoll.get(), events.data(), events.size(), milliseconds_until(reconciler.next_due()));
    if (count < 0 && errno != EINTR) return Error{fmt::format("epoll: {}", std::strerror(errno))};
    for (int i = 0; i < count; ++i) {
      int fd = events[static_cast<size_t>(i)].data.fd;
      if (fd == signals) return ok_status();
      if (fd == reconciler.source_fd()) reconciler.on_source();
      if (fd == reconciler.network_fd()) reconciler.on_network();
      if (fd == reconciler.masq_fd()) reconciler.on_masq_file();
      if (fd == resyncs.fd() && resyncs.take()) resyncs.finish(reconciler.resync());
    }
    reconciler.run_due();
    if (reconciler.synced() && !told_ready) {
      told_ready = true;
      spdlog::info("ready");
      ::sd_notify(0, "READY=1");
    }
  }
}

Result<v1::Status> read_maps(const std::string& bpffs) {
  auto inspector = inspect::Inspector::open(bpffs);
  if (!inspector) return inspector.error();
  return inspector->status();
}

int serve(const Config& config) {
  auto signals = take_signals();
  if (!signals) return fail(signals.error());
  if (auto s = check_socket(config.socket); !s) return fail(s.error());
  StatusBoard board;
  ResyncQueue resyncs;
  auto reconciler = Reconciler::start(config, board);
  if (!reconciler) return fail(reconciler.error());
  ControlHandlers handlers(board, resyncs, [&] { return read_maps(config.bpffs); },
                           [&](v1::Status& status) { (*reconciler)->describe_health(status); });
  auto server = ControlServer::start(config.socket, handlers);
  if (!server) return fail(server.error());

  spdlog::info("maglane-agent {} on node {}, manifests in {}", MAGLANE_VERSION, config.node_name,
               config.manifests);
  Status ended = run_loop(**reconciler, resyncs, signals->get());
  ::sd_notify(0, "STOPPING=1");
  board.shut_down();
  resyncs.shut_down();
  if (!ended) return fail(ended.error());
  spdlog::info("ending; forwarding goes on (`maglane-agent --cleanup` ends it)");
  return kOk;
}

}  // namespace
}  // namespace maglane

int main(int argc, char** argv) {
  maglane::CommandLine line = maglane::parse_command_line({argv + 1, argv + argc});
  if (line.exit_code) {
    fmt::print(*line.exit_code == 0 ? stdout : stderr, "{}", line.text);
    return *line.exit_code;
  }
  // What it has to say reaches callers as an error, or the log in our words.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);
  maglane::set_up_log(line.config.log_level);
  return line.config.cleanup ? maglane::clean_up(line.config) : maglane::serve(line.config);
}
