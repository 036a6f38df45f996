// SPDX-License-Identifier: Apache-2.0
#include "agent/health/http_server.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>

#include "agent/kernel/fd.h"

namespace maglane {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBacklog = 128;
constexpr int kAcceptsInARow = 32;
constexpr uint64_t kWakeUp = 0;
// What a client may still send after its answer before the connection is cut.
constexpr size_t kMostIgnored = size_t{64} << 10;

union AnyAddress {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
};

// How to bind to an address; the unspecified one as all of both families.
socklen_t fill(const SocketAddress& address, bool v6, AnyAddress& out) {
  std::memset(&out, 0, sizeof out);
  uint32_t be[4] = {};
  if (!address.address.is_unspecified()) address.address.to_be(be);
  if (v6) {
    out.v6.sin6_family = AF_INET6;
    out.v6.sin6_port = htons(address.port);
    std::memcpy(&out.v6.sin6_addr, be, sizeof be);
    return sizeof out.v6;
  }
  out.v4.sin_family = AF_INET;
  out.v4.sin_port = htons(address.port);
  out.v4.sin_addr.s_addr = be[0];
  return sizeof out.v4;
}

Result<Fd> open_listener(const SocketAddress& address) {
  const bool all = address.address.is_unspecified();
  bool v6 = all || address.address.family() == Family::ipv6;
  Fd fd(::socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.ok() && all && errno == EAFNOSUPPORT) {  // a kernel without IPv6
    v6 = false;
    fd = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }
  const int on = 1, only_v6 = !all;
  AnyAddress name;
  const socklen_t length = fill(address, v6, name);
  if (!fd.ok() || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      (v6 && ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6) != 0) ||
      ::bind(fd.get(), &name.any, length) != 0 || ::listen(fd.get(), kBacklog) != 0)
    return Error{fmt::format("cannot listen on {}: {}", address.to_string(), std::strerror(errno))};
  return fd;
}

// The local end of a connection. An IPv4 client of a socket for both families is one of IPv4.
HttpPlace place_of(int fd) {
  AnyAddress name{};
  socklen_t length = sizeof name;
  if (::getsockname(fd, &name.any, &length) != 0) return {};
  if (name.any.sa_family == AF_INET) return {ntohs(name.v4.sin_port), Family::ipv4};
  const bool mapped = IN6_IS_ADDR_V4MAPPED(&name.v6.sin6_addr);
  return {ntohs(name.v6.sin6_port), mapped ? Family::ipv4 : Family::ipv6};
}

struct Connection {
  enum class State { request, answer, close };
  Fd fd;
  HttpPlace place;
  State state = State::request;
  std::string received;
  std::string answer;
  size_t sent = 0;
  size_t ignored = 0;
  Clock::time_point deadline;
};

}  // namespace

class HttpServer::Impl {
 public:
  Impl(HttpHandler handler, HttpLimits limits) : handler_(std::move(handler)), limits_(limits) {}
  ~Impl() {
    if (!thread_.joinable()) return;
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    ::eventfd_write(wake_up_.get(), 1);
    thread_.join();
  }

  Status start(const std::string& thread_name);
  std::map<SocketAddress, Error> listen(const std::set<SocketAddress>& wanted);

 private:
  void run();
  int milliseconds_to_wait() const;
  void accept_some(uint64_t id);
  bool make_room();
  void add(Fd fd);
  // Each returns whether the connection goes on.
  bool on_event(Connection& connection, uint64_t id);
  bool receive(Connection& connection, uint64_t id);
  bool send(Connection& connection, uint64_t id);
  bool ignore(Connection& connection);
  bool begin_answer(Connection& connection, uint64_t id, std::string answer);
  void close_overdue();
  bool watch(int fd, uint64_t id, uint32_t events, int operation) const;

  HttpHandler handler_;
  HttpLimits limits_;
  Fd epoll_, wake_up_;
  std::thread thread_;

  std::mutex mutex_;  // of what follows
  bool ending_ = false;
  uint64_t next_id_ = kWakeUp + 1;  // of listeners and connections, never used twice
  std::map<SocketAddress, uint64_t> listener_ids_;
  std::map<uint64_t, Fd> listeners_;

  std::map<uint64_t, Connection> connections_;  // the thread's own; by age
};

bool HttpServer::Impl::watch(int fd, uint64_t id, uint32_t events, int operation) const {
  epoll_event event{.events = events, .data = {.u64 = id}};
  return ::epoll_ctl(epoll_.get(), operation, fd, &event) == 0;
}

Status HttpServer::Impl::start(const std::string& thread_name) {
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  wake_up_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll_.ok() || !wake_up_.ok() || !watch(wake_up_.get(), kWakeUp, EPOLLIN, EPOLL_CTL_ADD))
    return Error{fmt::format("cannot start the HTTP server: {}", std::strerror(errno))};
  thread_ = std::thread([this] { run(); });
  ::pthread_setname_np(thread_.native_handle(), thread_name.c_str());
  return ok_status();
}

// A port that moves from one service to another stays open.
std::map<SocketAddress, Error> HttpServer::Impl::listen(const std::set<SocketAddress>& wanted) {
  std::map<SocketAddress, Error> failed;
  std::lock_guard lock(mutex_);
  std::erase_if(listener_ids_, [&](const auto& entry) {
    if (wanted.contains(entry.first)) return false;
    listeners_.erase(entry.second);  // closing takes it out of epoll
    return true;
  });
  for (const SocketAddress& address : wanted) {
    if (listener_ids_.contains(address)) continue;
    auto fd = open_listener(address);
    if (!fd) {
      failed.emplace(address, fd.error());
      continue;
    }
    const uint64_t id = next_id_++;
    if (!watch(fd->get(), id, EPOLLIN, EPOLL_CTL_ADD)) {
      failed.emplace(address, Error{fmt::format("epoll: {}", std::strerror(errno))});
      continue;
    }
    listener_ids_[address] = id;
    listeners_[id] = std::move(*fd);
  }
  return failed;
}

int HttpServer::Impl::milliseconds_to_wait() const {
  if (connections_.empty()) return -1;
  Clock::time_point first = Clock::time_point::max();
  for (const auto& [id, connection] : connections_) first = std::min(first, connection.deadline);
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(first - Clock::now());
  return static_cast<int>(std::max<int64_t>(0, wait.count()));
}

void HttpServer::Impl::run() {
  for (;;) {
    std::array<epoll_event, 64> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), events.size(), milliseconds_to_wait());
    for (int i = 0; i < count; ++i) {
      const uint64_t id = events[static_cast<size_t>(i)].data.u64;
      if (id == kWakeUp) {
        std::lock_guard lock(mutex_);
        if (ending_) return;
      } else if (const auto found = connections_.find(id); found != connections_.end()) {
        if (!on_event(found->second, id)) connections_.erase(found);
      } else {
        accept_some(id);
      }
    }
    close_overdue();
  }
}

void HttpServer::Impl::close_overdue() {
  const auto now = Clock::now();
  std::erase_if(connections_, [&](const auto& entry) { return entry.second.deadline <= now; });
}

// The oldest connection is the one that has had most time to say what it wants.
bool HttpServer::Impl::make_room() {
  if (connections_.empty()) return false;
  connections_.erase(connections_.begin());
  return true;
}

void HttpServer::Impl::accept_some(uint64_t id) {
  for (int i = 0; i < kAcceptsInARow; ++i) {
    Fd fd;
    int error = 0;
    {
      std::lock_guard lock(mutex_);
      const auto listener = listeners_.find(id);
      if (listener == listeners_.end()) return;  // closed meanwhile
      fd = Fd(::accept4(listener->second.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      error = errno;
    }
    if (fd.ok()) {
      add(std::move(fd));
    } else if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
      // The listener stays readable: without a pause this would spin.
      if (!make_room()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      return;
    } else if (error != ECONNABORTED && error != EINTR) {
      return;
    }
  }
}

void HttpServer::Impl::add(Fd fd) {
  if (connections_.size() >= limits_.connections) make_room();
  uint64_t id = 0;
  {
    std::lock_guard lock(mutex_);
    id = next_id_++;
  }
  if (!watch(fd.get(), id, EPOLLIN, EPOLL_CTL_ADD)) return;
  Connection connection;
  connection.place = place_of(fd.get());
  connection.fd = std::move(fd);
  connection.deadline = Clock::now() + limits_.request;
  connections_.emplace(id, std::move(connection));
}

bool HttpServer::Impl::on_event(Connection& connection, uint64_t id) {
  switch (connection.state) {
    case Connection::State::request:
      return receive(connection, id);
    case Connection::State::answer:
      return send(connection, id);
    case Connection::State::close:
      return ignore(connection);
  }
  return false;
}

bool HttpServer::Impl::receive(Connection& connection, uint64_t id) {
  std::array<char, 2048> buffer;
  const size_t room = kMaxRequestHead - connection.received.size();
  const ssize_t got = ::recv(connection.fd.get(), buffer.data(), std::min(room, buffer.size()), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  connection.received.append(buffer.data(), static_cast<size_t>(got));
  if (is_whole_head(connection.received))
    return begin_answer(connection, id, http_response(connection.received, connection.place, handler_));
  if (connection.received.size() < kMaxRequestHead) return true;
  return begin_answer(connection, id, http_too_long());
}

bool HttpServer::Impl::begin_answer(Connection& connection, uint64_t id, std::string answer) {
  connection.state = Connection::State::answer;
  connection.answer = std::move(answer);
  connection.received = {};
  connection.deadline = Clock::now() + limits_.answer;
  return watch(connection.fd.get(), id, EPOLLOUT, EPOLL_CTL_MOD) && send(connection, id);
}

bool HttpServer::Impl::send(Connection& connection, uint64_t id) {
  while (connection.sent < connection.answer.size()) {
    const ssize_t sent = ::send(connection.fd.get(), connection.answer.data() + connection.sent,
                                connection.answer.size() - connection.sent, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    connection.sent += static_cast<size_t>(sent);
  }
  connection.answer = {};
  connection.state = Connection::State::close;
  connection.deadline = Clock::now() + limits_.close;
  return ::shutdown(connection.fd.get(), SHUT_WR) == 0 &&
         watch(connection.fd.get(), id, EPOLLIN, EPOLL_CTL_MOD);
}

// To close with something unread would send a reset, which may overtake the answer.
bool HttpServer::Impl::ignore(Connection& connection) {
  std::array<char, 2048> buffer;
  const ssize_t got = ::recv(connection.fd.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  connection.ignored += static_cast<size_t>(got);
  return got > 0 && connection.ignored < kMostIgnored;
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::start(const std::string& thread_name, HttpHandler handler,
                                                      HttpLimits limits) {
  auto impl = std::make_unique<Impl>(std::move(handler), limits);
  if (auto s = impl->start(thread_name); !s) return s.error();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

std::map<SocketAddress, Error> HttpServer::listen(const std::set<SocketAddress>& wanted) {
  return impl_->listen(wanted);
}

}  // namespace maglane
