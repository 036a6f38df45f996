// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <thread>
#include <vector>

#include "agent/kernel/fd.h"
#include "tests/bench/forward/kinds.h"
#include "tests/bench/traffic/common.h"

namespace maglane::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kBytes = 64;  // of a request, and of an answer
constexpr int kEvents = 64;
constexpr auto kWarmUp = std::chrono::milliseconds(300);
// A connection that takes longer has failed: longer than two retransmissions of a SYN.
constexpr auto kPatience = std::chrono::seconds(4);

class Poll {
 public:
  Poll() : fd_(epoll_create1(EPOLL_CLOEXEC)) {
    if (!fd_.ok()) give_up("epoll_create1");
  }
  void add(int fd, uint32_t events, uint64_t data) { control(EPOLL_CTL_ADD, fd, events, data); }
  void change(int fd, uint32_t events, uint64_t data) { control(EPOLL_CTL_MOD, fd, events, data); }
  std::span<epoll_event> wait(int milliseconds) {
    const int number = epoll_wait(fd_.get(), events_.data(), kEvents, milliseconds);
    if (number < 0 && errno != EINTR) give_up("epoll_wait");
    return {events_.data(), static_cast<size_t>(std::max(number, 0))};
  }

 private:
  void control(int what, int fd, uint32_t events, uint64_t data) {
    epoll_event event{};
    event.events = events;
    event.data.u64 = data;
    if (epoll_ctl(fd_.get(), what, fd, &event)) give_up("epoll_ctl");
  }

  Fd fd_;
  std::array<epoll_event, kEvents> events_;
};

sockaddr_in socket_address(in_addr_t address, uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = address;
  result.sin_port = htons(port);
  return result;
}

Fd tcp_socket() {
  Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP));
  if (!fd.ok()) give_up("socket");
  return fd;
}

// Answers each request and closes: the side that closes first keeps the tuple for a minute, and
// the client's ports would run out.
class Server {
 public:
  explicit Server(const TcpOptions& options) {
    enter(options.backend);
    listener_ = tcp_socket();
    const sockaddr_in any = socket_address(INADDR_ANY, options.endpoint_port);
    const int yes = 1;
    setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener_.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any) ||
        listen(listener_.get(), 4096))
      give_up("listening at the backend");
    poll_.add(listener_.get(), EPOLLIN, static_cast<uint64_t>(listener_.get()));
  }

  void run(const std::atomic<bool>& stop) {
    pin(1);
    while (!stop) {
      for (const epoll_event& event : poll_.wait(50)) {
        const int fd = static_cast<int>(event.data.u64);
        if (fd == listener_.get())
          accept_all();
        else
          answer(fd);
      }
    }
  }

 private:
  void accept_all() {
    int fd;
    while ((fd = accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
      poll_.add(fd, EPOLLIN, static_cast<uint64_t>(fd));
  }
  // A request fits into one segment, so it comes whole.
  void answer(int fd) {
    char bytes[kBytes];
    const ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got > 0) (void)!send(fd, bytes, static_cast<size_t>(got), MSG_NOSIGNAL);
    close(fd);
  }

  Fd listener_;
  Poll poll_;
};

class Client {
 public:
  explicit Client(const TcpOptions& options)
      : target_(socket_address(address_of(options.target), options.port)), open_(options.connections) {
    for (const std::string& source : options.sources)
      sources_.push_back(socket_address(address_of(source), 0));
    enter(options.client);
  }

  TcpResult run(double seconds) {
    pin(0);
    for (size_t i = 0; i < open_.size(); ++i) begin(i);
    work_until(Clock::now() + kWarmUp);
    took_us_.clear();
    failed_ = wrong_ = 0;
    const auto start = Clock::now();
    work_until(start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
    const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    if (took_us_.empty()) return {0, 0, 0, 0, elapsed, failed_, wrong_};
    std::sort(took_us_.begin(), took_us_.end());
    const auto number = static_cast<double>(took_us_.size());
    return {number / elapsed, took_us_[static_cast<size_t>(number * 0.5)],
            took_us_[static_cast<size_t>(number * 0.99)], took_us_.size(), elapsed, failed_, wrong_};
  }

 private:
  struct Connection {
    Fd fd;
    Clock::time_point start;
    size_t received = 0;
    uint64_t question = 0;  // no two connections ask the same
  };

  void begin(size_t index) {
    Connection& connection = open_[index];
    connection = {tcp_socket(), Clock::now(), 0, ++last_question_};
    const int fd = connection.fd.get(), yes = 1;
    const sockaddr_in& source = sources_[next_source_++ % sources_.size()];
    setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
    if (bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source)) give_up("the client's address");
    if (connect(fd, reinterpret_cast<const sockaddr*>(&target_), sizeof target_) && errno != EINPROGRESS)
      give_up("connecting");
    poll_.add(fd, EPOLLOUT, index);
  }

  void work_until(Clock::time_point end) {
    while (Clock::now() < end) {
      for (const epoll_event& event : poll_.wait(20)) step(event.data.u64, event.events);
      give_slow_ones_up();
    }
  }

  void step(size_t index, uint32_t events) {
    Connection& connection = open_[index];
    const int fd = connection.fd.get();
    char bytes[kBytes] = {};
    if (events & EPOLLOUT && !(events & (EPOLLERR | EPOLLHUP))) {
      std::memcpy(bytes, &connection.question, sizeof connection.question);
      (void)!send(fd, bytes, sizeof bytes, MSG_NOSIGNAL);
      poll_.change(fd, EPOLLIN, index);
      return;
    }
    const ssize_t got = recv(fd, bytes, sizeof bytes, 0);
    if (got > 0) {
      if (connection.received == 0) wrong_ += std::memcmp(bytes, &connection.question, sizeof connection.question) != 0;
      connection.received += static_cast<size_t>(got);
      return;  // its end comes as an event of its own
    }
    if (got < 0 && errno == EAGAIN) return;
    if (got == 0 && connection.received == kBytes)
      took_us_.push_back(std::chrono::duration<double, std::micro>(Clock::now() - connection.start).count());
    else
      ++failed_;
    begin(index);
  }

  void give_slow_ones_up() {
    const auto now = Clock::now();
    if (now < look_again_) return;
    look_again_ = now + std::chrono::milliseconds(100);
    for (size_t i = 0; i < open_.size(); ++i) {
      if (now - open_[i].start < kPatience) continue;
      ++failed_;
      begin(i);
    }
  }

  std::vector<sockaddr_in> sources_;
  sockaddr_in target_;
  std::vector<Connection> open_;
  Poll poll_;
  std::vector<double> took_us_;
  Clock::time_point look_again_{};
  size_t next_source_ = 0;
  uint64_t failed_ = 0, wrong_ = 0;
  uint64_t last_question_ = 0;
};

}  // namespace

TcpResult run_tcp(const TcpOptions& options) {
  std::atomic<bool> stop = false, listening = false;
  std::thread server([&] {
    Server at_backend(options);
    listening = true;
    at_backend.run(stop);
  });
  while (!listening) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  TcpResult result{};
  std::thread client([&] { result = Client(options).run(options.seconds); });
  client.join();
  stop = true;
  server.join();
  return result;
}

}  // namespace maglane::bench
