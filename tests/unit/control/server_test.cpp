// SPDX-License-Identifier: Apache-2.0
#include "agent/control/server.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "proto/control.grpc.pb.h"

namespace maglane {
namespace {

class Server : public testing::Test {
 protected:
  Server() {
    char pattern[] = "/tmp/maglane-control-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    socket_ = directory_ + "/run/agent.sock";
  }
  ~Server() override { std::filesystem::remove_all(directory_); }

  void start() {
    auto started = ControlServer::start(socket_, handlers_);
    ASSERT_TRUE(started.ok()) << started.error().message;
    server_ = std::move(*started);
  }
  std::unique_ptr<v1::Control::Stub> stub() {
    return v1::Control::NewStub(grpc::CreateChannel("unix:" + socket_, grpc::InsecureChannelCredentials()));
  }
  // As a killed agent leaves it.
  void leave_dead_socket() {
    std::filesystem::create_directories(directory_ + "/run");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_.copy(address.sun_path, sizeof address.sun_path - 1);
    int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::close(fd);
  }

  std::string directory_, socket_;
  StatusBoard board_;
  ResyncQueue resyncs_;
  ControlHandlers handlers_{board_, resyncs_, [] { return v1::Status(); }};
  std::unique_ptr<ControlServer> server_;
};

TEST_F(Server, Answers) {
  start();
  board_.update([](v1::Status& s) { s.set_node_name("node-a"); });
  grpc::ClientContext context;
  v1::Status status;
  ASSERT_TRUE(stub()->GetStatus(&context, {}, &status).ok());
  EXPECT_EQ(status.node_name(), "node-a");
  EXPECT_TRUE(status.agent_running());
}

TEST_F(Server, SocketIsTheOwnersAlone) {
  start();
  struct stat info;
  ASSERT_EQ(::stat(socket_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  mode_t mask = ::umask(0);
  ::umask(mask);
  EXPECT_NE(mask, 0177U) << "put back";
}

TEST_F(Server, RefusesABadRequest) {
  start();
  v1::GetStatusRequest request;
  request.set_wait_seconds(-1);
  grpc::ClientContext context;
  v1::Status status;
  EXPECT_EQ(stub()->GetStatus(&context, request, &status).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(Server, ReplacesASocketLeftBehind) {
  leave_dead_socket();
  start();
  grpc::ClientContext context;
  v1::Status status;
  EXPECT_TRUE(stub()->GetStatus(&context, {}, &status).ok());
}

TEST_F(Server, LeavesALiveAgentAlone) {
  start();
  auto second = ControlServer::start(socket_, handlers_);
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("another agent is listening"), std::string::npos);
  grpc::ClientContext context;
  v1::Status status;
  EXPECT_TRUE(stub()->GetStatus(&context, {}, &status).ok());
}

TEST_F(Server, LeavesAFileAlone) {
  std::filesystem::create_directories(directory_ + "/run");
  ::close(::open(socket_.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_FALSE(ControlServer::start(socket_, handlers_).ok());
  EXPECT_TRUE(std::filesystem::exists(socket_));
  EXPECT_FALSE(check_socket("/tmp/" + std::string(200, 'x')).ok());
}

TEST_F(Server, EndsThoughSomebodyWaits) {
  start();
  std::thread waiting([&] {
    v1::GetStatusRequest request;
    request.set_wait_seconds(3600);
    grpc::ClientContext context;
    v1::Status status;
    (void)stub()->GetStatus(&context, request, &status);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  auto begin = std::chrono::steady_clock::now();
  board_.shut_down();
  resyncs_.shut_down();
  server_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  waiting.join();
  EXPECT_FALSE(std::filesystem::exists(socket_));
}

}  // namespace
}  // namespace maglane
