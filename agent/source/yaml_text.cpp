// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "agent/source/yaml_tree.h"

namespace maglane {
namespace {

// Length of the well-formed UTF-8 sequence (RFC 3629) that a text begins with; 0: none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  // The second byte's range keeps out overlong forms, surrogates and what lies beyond U+10FFFF.
  const unsigned lowest = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < lowest || byte(1) > highest) return 0;
  for (size_t i = 2; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  return length;
}

// The value of a JSON escape (RFC 8259, 7: \u and four hex digits) at the start of a text, or nothing.
std::optional<unsigned> unicode_escape(std::string_view text) {
  if (text.size() < 6 || text[0] != '\\' || text[1] != 'u') return std::nullopt;
  unsigned value = 0;
  const auto [end, failure] = std::from_chars(text.data() + 2, text.data() + 6, value, 16);
  if (failure != std::errc() || end != text.data() + 6) return std::nullopt;
  return value;
}

}  // namespace

std::optional<YamlFailure> find_bad_character(std::string_view text) {
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const size_t length = utf8_length(text.substr(i));
    if (length == 0) return YamlFailure{line, fmt::format("byte 0x{:02x} (expected text in UTF-8)", byte)};
    if ((byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f)
      return YamlFailure{line, fmt::format("control character 0x{:02x} (expected text)", byte)};
    if (byte == '\n') ++line;
    i += length;
  }
  return std::nullopt;
}

std::string join_json_surrogates(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '\\') {
      result += text[i++];
      continue;
    }
    const auto high = unicode_escape(text.substr(i));
    const auto low =
        high && *high >= 0xd800 && *high < 0xdc00 ? unicode_escape(text.substr(i + 6)) : std::nullopt;
    if (low && *low >= 0xdc00 && *low < 0xe000) {
      result += fmt::format("\\U{:08x}", 0x10000 + ((*high - 0xd800) << 10) + (*low - 0xdc00));
      i += 12;
      continue;
    }
    const size_t escape = std::min<size_t>(2, text.size() - i);
    result += text.substr(i, escape);
    i += escape;
  }
  return result;
}

}  // namespace maglane
