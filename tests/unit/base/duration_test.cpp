// SPDX-License-Identifier: Apache-2.0
#include "agent/base/duration.h"

#include <gtest/gtest.h>

namespace maglane {
namespace {

TEST(Duration, SecondsAloneOrAsKubernetesWritesThem) {
  const std::pair<const char*, uint64_t> good[] = {
      {"0", 0}, {"90", 90}, {"90s", 90}, {"1h30m", 5400}, {"24h0m0s", 86400}, {"5m", 300}, {"2h1s", 7201}};
  for (const auto& [text, seconds] : good) {
    auto parsed = parse_seconds(text);
    ASSERT_TRUE(parsed.ok()) << text;
    EXPECT_EQ(*parsed, seconds) << text;
  }
}

TEST(Duration, RefusesWhatIsNone) {
  for (const char* text : {"", "s", "1d", "-1", "1.5h", "30m1h", "1h30", "1h1h", " 1", "1 s", "5ms", "99999999999999999999",
                           "9999999999h"}) {
    EXPECT_FALSE(parse_seconds(text).ok()) << text;
  }
  EXPECT_EQ(parse_seconds("soon").error().message, "\"soon\" is no time, as in 90, 90s or 1h30m");
}

}  // namespace
}  // namespace maglane
