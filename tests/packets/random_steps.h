// SPDX-License-Identifier: Apache-2.0
// RapidCheck's generators for random_world.h.
#pragma once

#include <rapidcheck/gtest.h>

#include <vector>

#include "tests/packets/random_world.h"

template <>
struct rc::Arbitrary<maglane::test::Step> {
  static Gen<maglane::test::Step> arbitrary() {
    using maglane::test::Step;
    const auto number = [](uint32_t below) { return gen::inRange<uint32_t>(0, below); };
    return gen::build<Step>(
        gen::set(&Step::kind, number(64)), gen::set(&Step::source, number(7)),
        gen::set(&Step::source_port, gen::weightedElement<uint32_t>({{4, 0}, {3, 1}, {1, 2}})),
        gen::set(&Step::destination, number(22)), gen::set(&Step::flags, number(8)),
        gen::set(&Step::shape, number(1U << 16)), gen::set(&Step::damage, number(1U << 28)),
        gen::set(&Step::follow, number(256)));
  }
};

template <>
struct rc::Arbitrary<maglane::test::World> {
  static Gen<maglane::test::World> arbitrary() {
    using maglane::test::World;
    return gen::build<World>(gen::set(&World::shape, gen::inRange<uint32_t>(0, 64)));
  }
};

namespace maglane::test {

// Long plays: short ones seldom meet a full table or a port that is taken.
inline std::vector<Step> any_steps() {
  return *rc::gen::scale(3.0, rc::gen::arbitrary<std::vector<Step>>());
}

}  // namespace maglane::test
