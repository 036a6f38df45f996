// SPDX-License-Identifier: Apache-2.0
//
// A test that proves points of the service contract (tests/contract/points.txt) says so; the
// numbers go into its report, and tools/contract counts them.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <set>

namespace maglane::test {

// Of the running test. Called again, the last call counts.
inline void proves(const std::set<int>& points) {
  testing::Test::RecordProperty("conformance", fmt::format("{}", fmt::join(points, ",")));
}

}  // namespace maglane::test
