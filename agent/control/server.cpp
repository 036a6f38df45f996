// SPDX-License-Identifier: Apache-2.0
#include "agent/control/server.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "proto/control.grpc.pb.h"

namespace maglane {
namespace {

constexpr auto kPatience = std::chrono::seconds(1);
// Callers that wait hold a thread each.
constexpr int kMostThreads = 64;

grpc::Status to_grpc(const std::optional<ControlHandlers::Refusal>& refusal) {
  if (!refusal) return grpc::Status::OK;
  auto code = refusal->bad_request ? grpc::StatusCode::INVALID_ARGUMENT : grpc::StatusCode::UNAVAILABLE;
  return {code, refusal->message};
}

class Service final : public v1::Control::Service {
 public:
  explicit Service(const ControlHandlers& handlers) : handlers_(handlers) {}

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::Status* reply) override {
    return to_grpc(handlers_.get_status(
        *request, [&] { return context->IsCancelled(); }, reply));
  }
  grpc::Status Resync(grpc::ServerContext* context, const v1::ResyncRequest* request,
                      v1::ResyncReply* reply) override {
    return to_grpc(handlers_.resync(
        *request, [&] { return context->IsCancelled(); }, reply));
  }

 private:
  const ControlHandlers& handlers_;
};

bool somebody_listens(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  int connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  bool busy = connected != 0 && errno == EAGAIN;  // its queue is full
  ::close(fd);
  return connected == 0 || busy;
}

// Permissions come with the socket, not after it: umask is in force when it is made.
class OnlyForOwner {
 public:
  OnlyForOwner() : before_(::umask(0177)) {}
  ~OnlyForOwner() { ::umask(before_); }

 private:
  mode_t before_;
};

}  // namespace

struct ControlServer::Impl {
  explicit Impl(const ControlHandlers& handlers) : service(handlers) {}
  Service service;
  std::unique_ptr<grpc::Server> server;
  std::string path;
};

Status check_socket(const std::string& path) {
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return Error{fmt::format("--socket {}: longer than the {} bytes that a Unix socket's path may have", path,
                             sizeof(sockaddr_un::sun_path) - 1)};
  }
  struct stat info;
  if (::lstat(path.c_str(), &info) != 0) return ok_status();
  if (!S_ISSOCK(info.st_mode))
    return Error{fmt::format("--socket {}: there is a file that is no socket", path)};
  if (somebody_listens(path)) {
    return Error{
        fmt::format("--socket {}: another agent is listening there: stop it first, or give this one a socket "
                    "of its own",
                    path)};
  }
  return ok_status();
}

ControlServer::ControlServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& path,
                                                            const ControlHandlers& handlers) {
  if (auto s = check_socket(path); !s) return s.error();
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  if (error) return Error{fmt::format("--socket {}: cannot make its directory: {}", path, error.message())};
  ::unlink(path.c_str());  // of an agent that was killed
  auto impl = std::make_unique<Impl>(handlers);
  impl->path = path;
  grpc::ServerBuilder builder;
  grpc::ResourceQuota quota("control");
  builder.SetResourceQuota(quota.SetMaxThreads(kMostThreads));
  builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
  builder.AddListeningPort("unix:" + path, grpc::InsecureServerCredentials());
  builder.RegisterService(&impl->service);
  {
    OnlyForOwner umask;
    impl->server = builder.BuildAndStart();
  }
  if (!impl->server) return Error{fmt::format("--socket {}: cannot listen there", path)};
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(impl)));
}

ControlServer::~ControlServer() {
  impl_->server->Shutdown(std::chrono::system_clock::now() + kPatience);
  impl_->server->Wait();
  ::unlink(impl_->path.c_str());
}

}  // namespace maglane
