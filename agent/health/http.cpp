// SPDX-License-Identifier: Apache-2.0
//
// cpp-httplib parses requests and writes answers; it is given memory for a socket, since its
// own server takes a thread for as long as a client pleases.
#include "agent/health/http.h"

#include <httplib.h>

#include <algorithm>
#include <cstring>

namespace maglane {
namespace {

// What a client has sent, as a connection that then ends.
class Memory final : public httplib::Stream {
 public:
  explicit Memory(std::string_view received) : received_(received) {}

  bool is_readable() const override { return !received_.empty(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* to, size_t size) override {
    const size_t count = std::min(size, received_.size());
    std::memcpy(to, received_.data(), count);
    received_.remove_prefix(count);
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char* from, size_t size) override {
    answer_.append(from, size);
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return 0; }

  std::string take_answer() { return std::move(answer_); }

 private:
  std::string_view received_;
  std::string answer_;
};

class OneRequest final : public httplib::Server {
 public:
  OneRequest(const HttpPlace& place, const HttpHandler& handler) {
    set_pre_routing_handler([&](const httplib::Request& request, httplib::Response& response) {
      const HttpAnswer answer = handler({request.method, request.path, place});
      response.status = answer.status;
      for (const auto& [name, value] : answer.headers) response.set_header(name, value);
      response.set_content(answer.body, answer.content_type);
      return HandlerResponse::Handled;
    });
  }
  std::string run(std::string_view head) {
    // Of the head the first line alone. No answer depends on a field, and not to read them is
    // safest: to match a long Range with std::regex overflows a thread's stack, and to pack
    // answers as Accept-Encoding asks is work that anyone could have this node do.
    const std::string request = std::string(head.substr(0, head.find_first_of("\r\n"))) + "\r\n\r\n";
    Memory memory(request);
    bool closed = false;
    (void)process_request(memory, true, closed, nullptr);
    return memory.take_answer();
  }
};

std::string plain_answer(const char* status) {
  return std::string("HTTP/1.1 ") + status + "\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
}

}  // namespace

bool is_whole_head(std::string_view received) {
  return received.find("\r\n\r\n") != std::string_view::npos ||
         received.find("\n\n") != std::string_view::npos;
}

std::string http_response(std::string_view head, const HttpPlace& place, const HttpHandler& handler) {
  std::string answer = OneRequest(place, handler).run(head);
  return answer.empty() ? plain_answer("400 Bad Request") : answer;
}

std::string http_too_long() {
  return plain_answer("431 Request Header Fields Too Large");
}

}  // namespace maglane
