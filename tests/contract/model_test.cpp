// SPDX-License-Identifier: Apache-2.0
//
// The packet-tracer table in the model: resolve and plan, then the rules in plain C++.
#include "tests/contract/evaluate.h"
#include "tests/contract/trace_plays.h"

namespace maglane::test {
namespace {

class TraceModel : public testing::TestWithParam<TracePlay> {};

TEST_P(TraceModel, Case) {
  TraceNodes nodes;
  for (const char* name : kLabNodes) nodes[name] = make_model_node(name, trace_options(*GetParam().file));
  expect_play(GetParam(), nodes);
}

INSTANTIATE_TEST_SUITE_P(All, TraceModel, testing::ValuesIn(trace_plays({Mode::xdp})),
                         [](const auto& test) { return trace_name(test.param); });

}  // namespace
}  // namespace maglane::test
