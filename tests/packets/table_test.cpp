// SPDX-License-Identifier: Apache-2.0
//
// The packet table, each case in each of its variants, on whichever data plane is linked.
#include <gtest/gtest.h>

#include <map>

#include "tests/packets/scenario.h"

namespace maglane::test {
namespace {

struct Play {
  const Case* what;
  Variant variant;
};

std::vector<Play> plays() {
  std::vector<Play> result;
  for (const Case& one : all_cases())
    for (const Variant& variant : one.variants()) result.push_back({&one, variant});
  return result;
}

class PacketTable : public testing::TestWithParam<Play> {};

TEST_P(PacketTable, Case) {
  Scenario scenario(data_plane(), GetParam().variant);
  GetParam().what->play(scenario);
}

INSTANTIATE_TEST_SUITE_P(All, PacketTable, testing::ValuesIn(plays()), [](const auto& test) {
  return std::string(test.param.what->name) + "_" + test.param.variant.name();
});

constexpr const char* kReasonNames[] = {
#define X(constant, name, verdict, meaning) name,
    MAGLANE_REASONS(X)
#undef X
};

// Reasons that no packet of the table can bring about, and why.
const std::map<abi::reason, const char*>& unreachable_reasons() {
  static const std::map<abi::reason, const char*> reasons = {
      {abi::REASON_REWRITE_FAILED,
       "an edit fails only when the kernel is out of memory or a frame has no room left, which test runs always have"},
  };
  return reasons;
}

TEST(Reasons, EveryOneIsMetByTheTable) {
  for (const Play& play : plays()) {
    Scenario scenario(data_plane(), play.variant);
    play.what->play(scenario);
  }
  for (int i = 0; i < abi::REASON_COUNT; ++i) {
    const auto reason = static_cast<abi::reason>(i);
    EXPECT_NE(Scenario::reasons_met().contains(reason), unreachable_reasons().contains(reason)) << kReasonNames[i];
  }
}

}  // namespace
}  // namespace maglane::test
