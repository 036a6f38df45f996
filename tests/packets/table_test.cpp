// SPDX-License-Identifier: Apache-2.0
//
// The packet table, each case in each of its variants, on whichever data plane is linked.
#include <gtest/gtest.h>

#include <map>

#include "tests/packets/scenario.h"
#include "tests/support/conformance.h"

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

size_t plays_played = 0;

TEST_P(PacketTable, Case) {
  Scenario scenario(data_plane(), GetParam().variant);
  GetParam().what->play(scenario);
  if (!scenario.points().empty()) proves(scenario.points());
  ++plays_played;
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
       "an edit fails only when the kernel is out of memory or a frame has no room left, which test runs "
       "always have"},
      {abi::REASON_CONNECTED, "of the hooks at sockets alone"},
  };
  return reasons;
}

// Plays that do not come before it (a filter, another order) are played now.
class Reasons : public testing::TestWithParam<int> {};

TEST_P(Reasons, EveryOneIsMetByTheTable) {
  const auto table = plays();
  for (size_t i = 0; plays_played < table.size() && i < table.size(); ++i) {
    Scenario scenario(data_plane(), table[i].variant);
    table[i].what->play(scenario);
  }
  for (int i = 0; i < abi::REASON_COUNT; ++i) {
    const auto reason = static_cast<abi::reason>(i);
    EXPECT_NE(Scenario::reasons_met().contains(reason), unreachable_reasons().contains(reason))
        << kReasonNames[i];
  }
}

// A suite with a parameter, so that it comes after the table.
INSTANTIATE_TEST_SUITE_P(All, Reasons, testing::Values(0));

}  // namespace
}  // namespace maglane::test
