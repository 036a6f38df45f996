// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace maglane::test {
namespace {

using testing::HasSubstr;

constexpr const char* kHead =
    "# A comment\n"
    "== names\n"
    "web = 10.96.9.1, fd00:10:96::901\n"
    "== objects web.yaml\n"
    "kind: Service\n"
    "---\n"
    "# part of the object\n"
    "== [8, 15] A title, of words\n";

TraceFile parsed(const std::string& text) {
  auto file = parse_trace(kHead + text, "t", ".");
  EXPECT_TRUE(file.ok()) << file.error().message;
  return file ? *file : TraceFile{};
}
std::string refusal(const std::string& text) {
  const auto file = parse_trace(kHead + text, "t", ".");
  return file ? "accepted" : file.error().message;
}

TEST(Trace, ReadsACase) {
  const TraceFile file = parsed(
      "pod-a1  web:80/tcp,udp -> {pod-a1, pod-b1:9090} [masq: pod-b1:9090]\n"
      "\n"
      "# why\n"
      "client via node-b  [fd00::9]:443/tcp -> DROP\n");
  EXPECT_EQ(file.objects.at("web.yaml"), "kind: Service\n---\n# part of the object\n");
  ASSERT_EQ(file.cases.size(), 1U);
  const TraceCase& one = file.cases[0];
  EXPECT_EQ(one.points, (std::set<int>{8, 15}));
  EXPECT_EQ(one.id(), "A_title_of_words");
  ASSERT_EQ(one.steps.size(), 1U);
  ASSERT_EQ(one.steps[0].lines.size(), 2U);
  const TraceLine& first = one.steps[0].lines[0];
  EXPECT_EQ(first.source, "pod-a1");
  EXPECT_EQ(first.destination, "web");
  EXPECT_EQ(first.port, 80);
  EXPECT_EQ(first.protocols, (std::set{Protocol::tcp, Protocol::udp}));
  EXPECT_EQ(first.expected.endpoints, (std::map<std::string, uint16_t>{{"pod-a1", 8080}, {"pod-b1:9090", 9090}}));
  EXPECT_EQ(first.expected.masqueraded, (std::set<std::string>{"pod-b1:9090"}));
  const TraceLine& second = one.steps[0].lines[1];
  EXPECT_EQ(second.via, "node-b");
  EXPECT_EQ(second.number, 12);
  EXPECT_EQ(second.expected.kind, TraceExpectation::Kind::drop);
  EXPECT_FALSE(file.address(second.destination, Family::ipv4));
  EXPECT_EQ(file.address("web", Family::ipv6)->to_string(), "fd00:10:96::901");
  EXPECT_EQ(file.address("pod-a2", Family::ipv4)->to_string(), "10.244.1.12");
}

TEST(Trace, ReadsSteps) {
  const TraceFile file = parsed(
      "#1 pod-a1 web:80/tcp -> {pod-a1}\n"
      "-- objects web.yaml\n"
      "kind: Service # changed\n"
      "-- remove other.yaml\n"
      "-- traces\n"
      "#1 pod-a1 web:80/tcp -> SAME\n");
  ASSERT_EQ(file.cases[0].steps.size(), 2U);
  EXPECT_EQ(file.cases[0].steps[0].lines[0].connection, "1");
  const TraceStep& second = file.cases[0].steps[1];
  EXPECT_EQ(second.objects.at("web.yaml"), "kind: Service # changed\n");
  EXPECT_EQ(second.objects.at("other.yaml"), "");
  EXPECT_EQ(second.lines[0].expected.kind, TraceExpectation::Kind::same);
}

TEST(Trace, ReadsWhoIsHeldToOneEndpoint) {
  const TraceFile file = parsed(
      "pod-a1 web:80/tcp -> ONE OF {pod-a1, pod-b1} [masq: pod-b1] AS mine\n"
      "pod-a1 web:80/tcp -> SAME AS mine\n");
  const auto& lines = file.cases[0].steps[0].lines;
  EXPECT_TRUE(lines[0].expected.one_of);
  EXPECT_EQ(lines[0].expected.name, "mine");
  EXPECT_EQ(lines[0].expected.endpoints.size(), 2U);
  EXPECT_EQ(lines[0].expected.masqueraded, (std::set<std::string>{"pod-b1"}));
  EXPECT_EQ(lines[1].expected.kind, TraceExpectation::Kind::same);
  EXPECT_EQ(lines[1].expected.name, "mine");
}

TEST(Trace, ObjectsOfTheTree) {
  EXPECT_THAT(parsed("-- objects n.yaml = examples/nodes.yaml\n-- traces\npod-a1 web:1/tcp -> DROP\n")
                  .cases[0].steps[0].objects.at("n.yaml"),
              HasSubstr("kind: Node"));
  EXPECT_THAT(refusal("-- objects n.yaml = examples/none.yaml\n"), HasSubstr("t:9: cannot read examples/none.yaml"));
}

TEST(Trace, RefusesWhatItDoesNotUnderstand) {
  EXPECT_THAT(refusal("pod-a1 web:80/tcp {pod-a1}\n"), HasSubstr("t:9: no ->"));
  EXPECT_THAT(refusal("pod-a1 web:80/icmp -> DROP\n"), HasSubstr("no protocol \"icmp\""));
  EXPECT_THAT(refusal("pod-a1 web/tcp -> DROP\n"), HasSubstr("no port"));
  EXPECT_THAT(refusal("pod-a1 web:80/tcp -> NOTHING\n"), HasSubstr("\"NOTHING\" is none of"));
  EXPECT_THAT(refusal("pod-a1 web:80/tcp -> {pod-a1} [mask]\n"), HasSubstr("neither [masq] nor"));
  EXPECT_THAT(refusal("pod-a1 web:80/tcp -> {pod-a1} [masq: pod-b1]\n"), HasSubstr("pod-b1 is not among"));
  EXPECT_THAT(refusal("pod-a1 web:80/tcp -> SAME\n"), HasSubstr("SAME is for a #CONNECTION, or AS a name"));
  EXPECT_THAT(refusal("pod-a9 web:80/tcp -> DROP\n"), HasSubstr("no host or name pod-a9"));
  EXPECT_THAT(refusal("pod-a1 web:80/tcp -> {pod-a9}\n"), HasSubstr("no host or name pod-a9"));
  EXPECT_THAT(refusal("pod-a1 on node-a web:80/tcp -> DROP\n"), HasSubstr("expected [#CONNECTION]"));
  EXPECT_THAT(refusal("== [x] Title\n"), HasSubstr("no point's number"));
  EXPECT_THAT(refusal("== whatever\n"), HasSubstr("expected objects NAME"));
  EXPECT_THAT(refusal("-- whatever\n"), HasSubstr("expected objects NAME"));
}

}  // namespace
}  // namespace maglane::test
