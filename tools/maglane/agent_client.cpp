// SPDX-License-Identifier: Apache-2.0
#include "tools/maglane/agent_client.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "agent/kernel/fd.h"
#include "proto/control.grpc.pb.h"

namespace maglane::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(5);  // for an answer that needs no waiting
constexpr auto kRetry = std::chrono::milliseconds(50);

// Tells in plain words why nobody answers; gRPC would only say "unavailable".
Status try_socket(const std::string& socket) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket.size() >= sizeof address.sun_path)
    return Error{fmt::format("--socket {}: longer than the {} bytes that a Unix socket's path may have",
                             socket, sizeof address.sun_path - 1)};
  std::memcpy(address.sun_path, socket.c_str(), socket.size());
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return ok_status();
  if (errno == ENOENT || errno == ECONNREFUSED)
    return Error{fmt::format("no agent listens on {}: is it running, or did you mean --socket?", socket)};
  return Error{fmt::format("cannot connect to the agent on {}: {}", socket, std::strerror(errno))};
}

Result<v1::Status> get_status(const std::string& socket, double wait_seconds) {
  const auto stub =
      v1::Control::NewStub(grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials()));
  v1::GetStatusRequest request;
  request.set_wait_seconds(wait_seconds);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience +
                       std::chrono::milliseconds(static_cast<int64_t>(wait_seconds * 1000)));
  v1::Status status;
  if (const grpc::Status answer = stub->GetStatus(&context, request, &status); !answer.ok())
    return Error{fmt::format("the agent on {} does not answer: {}", socket, answer.error_message())};
  status.set_agent_running(true);
  return status;
}

}  // namespace

Result<v1::Status> ask_agent(const std::string& socket, double wait_seconds) {
  const auto deadline = Clock::now() + std::chrono::duration<double>(wait_seconds);
  for (;;) {
    const double left = std::max(0.0, std::chrono::duration<double>(deadline - Clock::now()).count());
    const Status reachable = try_socket(socket);
    Result<v1::Status> status = reachable ? get_status(socket, left) : Result<v1::Status>(reachable.error());
    if (status || left == 0) return status;
    std::this_thread::sleep_for(kRetry);
  }
}

}  // namespace maglane::cli
