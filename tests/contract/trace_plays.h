// SPDX-License-Identifier: Apache-2.0
//
// The cases of tests/contract/*.trace as parameters of a GoogleTest suite.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/contract/play.h"
#include "tests/packets/scenario.h"
#include "tests/support/conformance.h"

namespace maglane::test {

struct TracePlay {
  const TraceFile* file;
  const TraceCase* one;
  Family family;
  Mode mode = Mode::xdp;
};

inline const std::vector<TraceFile>& traces() {
  static const std::vector<TraceFile> files = all_traces("tests/contract", ".");
  return files;
}

inline std::vector<TracePlay> trace_plays(const std::vector<Mode>& modes) {
  std::vector<TracePlay> plays;
  for (const TraceFile& file : traces())
    for (const TraceCase& one : file.cases)
      for (const Family family : {Family::ipv4, Family::ipv6})
        for (const Mode mode : modes) plays.push_back({&file, &one, family, mode});
  return plays;
}

inline std::string trace_name(const TracePlay& play) {
  std::string name = play.file->name + "_" + play.one->id() + "_" + std::string(to_string(play.family));
  std::ranges::replace(name, '-', '_');
  return name;
}

inline AgentOptions trace_options(const TraceFile& file) {
  const auto options = AgentOptions::parse(file.options);
  if (!options) ADD_FAILURE() << file.name << ": " << options.error().message;
  return options ? *options : AgentOptions{};
}

inline void expect_play(const TracePlay& play, TraceNodes& nodes) {
  proves(play.one->points);
  for (const std::string& problem : maglane::test::play(*play.file, *play.one, play.family, nodes))
    ADD_FAILURE() << problem;
}

}  // namespace maglane::test
