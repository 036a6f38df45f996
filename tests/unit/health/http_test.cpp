// SPDX-License-Identifier: Apache-2.0
#include "agent/health/http.h"

#include <gmock/gmock.h>
#include <pthread.h>

#include <functional>

namespace maglane {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

std::string ask(const std::string& head, HttpRequest* seen = nullptr) {
  return http_response(head, {80, Family::ipv6}, [&](const HttpRequest& request) {
    if (seen) *seen = request;
    return HttpAnswer{503, "application/json", {{"X-A", "b"}}, "{\"a\":1}"};
  });
}

TEST(Http, TheHandlersAnswerIsSent) {
  HttpRequest seen;
  const std::string answer = ask("GET /healthz?verbose=1 HTTP/1.1\r\nHost: node\r\n\r\n", &seen);
  EXPECT_EQ(seen.method, "GET");
  EXPECT_EQ(seen.path, "/healthz");
  EXPECT_EQ(seen.place.port, 80);
  EXPECT_EQ(seen.place.family, Family::ipv6);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Type: application/json\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Length: 7\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nX-A: b\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n{\"a\":1}"));
}

TEST(Http, MethodsAndVersions) {
  for (const char* method : {"GET", "POST", "PUT", "OPTIONS", "DELETE"}) {
    EXPECT_THAT(ask(std::string(method) + " / HTTP/1.1\r\nContent-Length: 100\r\n\r\n"),
                EndsWith("\r\n\r\n{\"a\":1}"));
  }
  const std::string head = ask("HEAD / HTTP/1.0\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 503"));
  EXPECT_THAT(head, HasSubstr("Content-Length: 7"));
  EXPECT_THAT(head, EndsWith("\r\n\r\n"));
}

TEST(Http, FieldsChangeNothing) {
  const std::string plain = ask("GET / HTTP/1.1\r\n\r\n");
  for (const char* field : {"Range: bytes=0-1", "Accept-Encoding: gzip, br", "Expect: 100-continue",
                            "Connection: keep-alive", "Transfer-Encoding: chunked", "Upgrade: h2c", ":", "x"}) {
    EXPECT_EQ(ask(std::string("GET / HTTP/1.1\r\n") + field + "\r\n\r\n"), plain) << field;
  }
}

TEST(Http, NoRequestAtAll) {
  for (const std::string text :
       {"", "\r\n\r\n", "\n\n", "GET\r\n\r\n", "GET /\r\n\r\n", "BREW / HTTP/1.1\r\n\r\n", "GET / HTTP/9\r\n\r\n",
        "\x16\x03\x01\r\n\r\n", " / HTTP/1.1\r\n\r\n"}) {
    EXPECT_THAT(ask(text), StartsWith("HTTP/1.1 400 Bad Request\r\n")) << text;
  }
}

TEST(Http, WholeHeads) {
  EXPECT_FALSE(is_whole_head(""));
  EXPECT_FALSE(is_whole_head("GET / HTTP/1.1\r\nHost: a\r\n"));
  EXPECT_TRUE(is_whole_head("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_TRUE(is_whole_head("GET / HTTP/1.1\n\n"));
  EXPECT_TRUE(is_whole_head("GET / HTTP/1.1\r\n\r\nbody"));
  EXPECT_THAT(http_too_long(), StartsWith("HTTP/1.1 431 "));
}

// Runs in a thread with little stack: what recurses with the length of its input ends here.
void with_small_stack(std::function<void()> run) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, size_t{512} << 10);
  pthread_t thread;
  const auto entry = [](void* what) -> void* {
    (*static_cast<std::function<void()>*>(what))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, entry, &run), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

TEST(Http, LongRequestsTakeNoMoreStack) {
  const auto repeat = [](const std::string& what, size_t size) {
    std::string text;
    while (text.size() < size) text += what;
    return text;
  };
  for (const char* what : {"%41", "/", "../", "?a=b&", "a", "%", " /", "\\"}) {
    with_small_stack([&] { (void)ask("GET /" + repeat(what, 8000) + " HTTP/1.1\r\n\r\n"); });
  }
  for (const char* field : {"Range: bytes=0-0", "Accept-Encoding: gzip", "Content-Type: multipart/form-data; boundary="}) {
    with_small_stack([&] {
      EXPECT_THAT(ask("GET / HTTP/1.1\r\n" + std::string(field) + repeat(",0-0", 8000) + "\r\n\r\n"),
                  StartsWith("HTTP/1.1 503"));
    });
  }
}

}  // namespace
}  // namespace maglane
