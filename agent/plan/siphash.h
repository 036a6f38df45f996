// SPDX-License-Identifier: Apache-2.0
//
// SipHash-2-4 (Aumasson and Bernstein, INDOCRYPT 2012): a 64-bit hash of bytes that is the
// same on every machine and in every version, since Maglev tables of all nodes depend on it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace maglane {

struct SipKey {
  uint64_t k0;
  uint64_t k1;
};

namespace siphash_detail {

struct State {
  uint64_t v0, v1, v2, v3;

  void round() {
    v0 += v1;
    v1 = std::rotl(v1, 13);
    v1 ^= v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16);
    v3 ^= v2;
    v0 += v3;
    v3 = std::rotl(v3, 21);
    v3 ^= v0;
    v2 += v1;
    v1 = std::rotl(v1, 17);
    v1 ^= v2;
    v2 = std::rotl(v2, 32);
  }
  void absorb(uint64_t word) {
    v3 ^= word;
    round();
    round();
    v0 ^= word;
  }
};

// Little-endian, whatever the machine.
inline uint64_t load(const uint8_t* bytes, size_t count) {
  uint64_t word = 0;
  for (size_t i = 0; i < count; ++i) word |= static_cast<uint64_t>(bytes[i]) << (8 * i);
  return word;
}

}  // namespace siphash_detail

inline uint64_t siphash(SipKey key, const void* data, size_t length) {
  siphash_detail::State state{key.k0 ^ 0x736f6d6570736575, key.k1 ^ 0x646f72616e646f6d,
                              key.k0 ^ 0x6c7967656e657261, key.k1 ^ 0x7465646279746573};
  const auto* bytes = static_cast<const uint8_t*>(data);
  size_t left = length;
  for (; left >= 8; left -= 8, bytes += 8) state.absorb(siphash_detail::load(bytes, 8));
  state.absorb(siphash_detail::load(bytes, left) | static_cast<uint64_t>(length) << 56);
  state.v2 ^= 0xff;
  for (int i = 0; i < 4; ++i) state.round();
  return state.v0 ^ state.v1 ^ state.v2 ^ state.v3;
}

}  // namespace maglane
