// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/resolve/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace maglane::test {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const fs::path kDirectory = "tests/scenarios";

std::vector<std::string> scenario_files() {
  std::vector<std::string> names;
  if (fs::is_directory(kDirectory))
    for (const auto& entry : fs::directory_iterator(kDirectory))
      if (entry.path().extension() == ".txt") names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Scenarios, AreFound) {
  EXPECT_GE(scenario_files().size(), 3U) << "run in the root of the tree";
}

// Listed when the test runs, not when it is built, so that a new file counts at once.
TEST(Scenarios, HoldWhatTheySay) {
  for (const std::string& name : scenario_files()) {
    SCOPED_TRACE(name);
    std::ostringstream text;
    text << std::ifstream(kDirectory / (name + ".txt")).rdbuf();
    const auto sections = split(text.str());
    ASSERT_TRUE(sections.ok()) << sections.error().message;
    for (const auto& problem : run(*sections)) ADD_FAILURE() << name << ".txt:" << problem;
  }
}

std::vector<std::string> run_text(const std::string& text) {
  return run(split(text).value());
}

TEST(ScenarioRunner, FailsOnWhatItDoesNotUse) {
  EXPECT_THAT(run_text("== cluster\n== frontends\n"), IsEmpty());
  EXPECT_THAT(run_text("== cluster\n== frontend\n"),
              ElementsAre(HasSubstr("2: frontend: unknown section"),
                          HasSubstr("1: cluster: nothing is expected after it")));
  EXPECT_THAT(run_text("== node\nname: a\n== cluster\n"),
              ElementsAre(HasSubstr("3: cluster: nothing is expected")));
  EXPECT_THAT(run_text("== cluster\n== cluster\n== frontends\n"),
              ElementsAre(HasSubstr("1: cluster: nothing is expected")));
  EXPECT_THAT(run_text("== frontends\n"), ElementsAre(HasSubstr("no node or cluster before it")));
  EXPECT_THAT(run_text("== node\nnome: a\n== frontends\n"),
              ElementsAre(HasSubstr("cannot make anything of")));
  EXPECT_FALSE(split("text\n== cluster\n").ok());
}

TEST(ScenarioRunner, FailsOnWhatIsDifferent) {
  EXPECT_THAT(run_text("== cluster\n== frontends\ndefault/web TCP IPv4 80\n"),
              ElementsAre(HasSubstr("2: frontends: expected")));
  EXPECT_THAT(run_text("== cluster\nkind: Service\n== frontends\n"),
              ElementsAre(HasSubstr("complaints that are not expected")));
  EXPECT_THAT(
      run_text("== cluster\nkind: Service\n== complaints\ncluster:1: apiVersion: missing (expected v1)\n"),
      IsEmpty());
}

}  // namespace
}  // namespace maglane::test
