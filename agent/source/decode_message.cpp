// SPDX-License-Identifier: Apache-2.0
#include "agent/source/decode_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <unordered_map>

#include "agent/base/quote.h"

namespace maglane {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::optional<bool> plain_bool(std::string_view text) {
  // The words of YAML 1.1 that Kubernetes' tools take for truth values.
  for (const auto word : {"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
    if (text == word) return true;
  for (const auto word : {"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
    if (text == word) return false;
  return std::nullopt;
}

// Saturates beyond 64 bits: every such number is out of any field's range.
std::optional<int64_t> plain_integer(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x")) base = 16;
  if (text.starts_with("0o")) base = 8;
  if (base != 10)
    text.remove_prefix(2);
  else if (text.size() > 1 && text[0] == '0')
    base = 8;  // YAML 1.1
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || text[0] == '-' || end != text.data() + text.size()) return std::nullopt;
  if (failure == std::errc::result_out_of_range)
    value = INT64_MAX;
  else if (failure != std::errc())
    return std::nullopt;
  return negative ? -value : value;
}

bool looks_like_number(std::string_view text) {
  if (plain_integer(text)) return true;
  if (text.starts_with('+')) text.remove_prefix(1);
  // from_chars also takes "nan" and "inf", which YAML writes ".nan" and ".inf".
  if (text.find_first_of("0123456789") == std::string_view::npos) return false;
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return end == text.data() + text.size() && failure != std::errc::invalid_argument;
}

std::string what_it_is(const YamlNode& node) {
  switch (node.type) {
    case YamlNode::Type::null:
      return "null";
    case YamlNode::Type::sequence:
      return "a list";
    case YamlNode::Type::mapping:
      return "an object";
    case YamlNode::Type::quoted:
      return in_quotes(node.text) + " is a string";
    case YamlNode::Type::plain:
      break;
  }
  if (plain_bool(node.text)) return node.text + " is a truth value";
  if (looks_like_number(node.text)) return in_quotes(node.text) + " is a number";
  return in_quotes(node.text) + " is a string";
}

class Decoder {
 public:
  explicit Decoder(FieldProblems& problems) : problems_(problems) {}

  void message(const YamlNode& node, Message& message, const std::string& path) {
    if (node.type != YamlNode::Type::mapping) return wrong(node, path, "an object");
    refuse_duplicates(node, path);
    const Descriptor* descriptor = message.GetDescriptor();
    for (int i = 0; i < descriptor->field_count(); ++i) {
      const FieldDescriptor* field = descriptor->field(i);
      const YamlNode* value = node.find(field->json_name());
      if (value == nullptr || value->type == YamlNode::Type::null) continue;
      const std::string inner = path.empty() ? field->json_name() : path + "." + field->json_name();
      if (field->is_map())
        string_map(*value, message, field, inner);
      else if (field->is_repeated())
        list(*value, message, field, inner);
      else
        single(*value, message, field, inner);
    }
  }

 private:
  void wrong(const YamlNode& node, const std::string& path, std::string_view expected) {
    problems_.push_back({path, fmt::format("{} (expected {})", what_it_is(node), expected), node.line});
  }

  void refuse_duplicates(const YamlNode& node, const std::string& path) {
    std::unordered_map<std::string_view, int> lines;
    for (size_t i = 0; i + 1 < node.own_children; i += 2) {
      const YamlNode& key = *node.children[i];
      if (!key.is_scalar()) continue;
      const auto [earlier, added] = lines.emplace(key.text, key.line);
      if (added) continue;
      const std::string name = path.empty() ? key.text : path + "." + key.text;
      problems_.push_back({in_quotes(name).substr(1, in_quotes(name).size() - 2),
                           fmt::format("the key stands on line {} already", earlier->second), key.line});
    }
  }

  std::optional<std::string> string(const YamlNode& node, const std::string& path) {
    const bool is_string =
        node.type == YamlNode::Type::quoted ||
        (node.type == YamlNode::Type::plain && !plain_bool(node.text) && !looks_like_number(node.text));
    if (is_string) return node.text;
    wrong(node, path, node.type == YamlNode::Type::plain ? "a string: put it in quotes" : "a string");
    return std::nullopt;
  }

  std::optional<int32_t> integer(const YamlNode& node, const std::string& path) {
    const auto value = node.type == YamlNode::Type::plain ? plain_integer(node.text) : std::nullopt;
    if (!value) {
      wrong(node, path, "a whole number");
      return std::nullopt;
    }
    if (*value < INT32_MIN || *value > INT32_MAX) {
      problems_.push_back({path, in_quotes(node.text) + " is too far from 0 for a 32-bit number", node.line});
      return std::nullopt;
    }
    return static_cast<int32_t>(*value);
  }

  void single(const YamlNode& node, Message& parent, const FieldDescriptor* field, const std::string& path) {
    const auto* reflection = parent.GetReflection();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return message(node, *reflection->MutableMessage(&parent, field), path);
      case FieldDescriptor::CPPTYPE_STRING:
        if (auto value = string(node, path)) reflection->SetString(&parent, field, std::move(*value));
        return;
      case FieldDescriptor::CPPTYPE_INT32:
        if (auto value = integer(node, path)) reflection->SetInt32(&parent, field, *value);
        return;
      case FieldDescriptor::CPPTYPE_BOOL: {
        const auto value = node.type == YamlNode::Type::plain ? plain_bool(node.text) : std::nullopt;
        if (value) return reflection->SetBool(&parent, field, *value);
        return wrong(node, path, "true or false");
      }
      default:
        problems_.push_back({path, "this program does not know the field's type", node.line});
    }
  }

  void list(const YamlNode& node, Message& parent, const FieldDescriptor* field, const std::string& path) {
    if (node.type != YamlNode::Type::sequence) return wrong(node, path, "a list");
    const auto* reflection = parent.GetReflection();
    for (size_t i = 0; i < node.children.size(); ++i) {
      const std::string inner = fmt::format("{}[{}]", path, i);
      if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE)
        message(*node.children[i], *reflection->AddMessage(&parent, field), inner);
      else if (auto value = string(*node.children[i], inner))
        reflection->AddString(&parent, field, std::move(*value));
    }
  }

  void string_map(const YamlNode& node, Message& parent, const FieldDescriptor* field,
                  const std::string& path) {
    if (node.type != YamlNode::Type::mapping) return wrong(node, path, "an object");
    refuse_duplicates(node, path);
    for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
      const YamlNode& key = *node.children[i];
      const std::string inner = path + "." + (key.is_scalar() ? key.text : "?");
      if (!key.is_scalar()) {
        wrong(key, path, "a string as key");
        continue;
      }
      const YamlNode& value_node = *node.children[i + 1];
      const auto value = value_node.type == YamlNode::Type::null ? "" : string(value_node, inner);
      if (!value) continue;
      Message* entry = parent.GetReflection()->AddMessage(&parent, field);
      entry->GetReflection()->SetString(entry, field->message_type()->map_key(), key.text);
      entry->GetReflection()->SetString(entry, field->message_type()->map_value(), *value);
    }
  }

  FieldProblems& problems_;
};

}  // namespace

void decode_message(const YamlNode& node, Message& message, FieldProblems& problems) {
  Decoder(problems).message(node, message, "");
}

int line_of(const YamlNode& root, const std::string& path) {
  const YamlNode* node = &root;
  for (size_t i = 0; i < path.size();) {
    const YamlNode* next = nullptr;
    if (path[i] == '[') {
      size_t index = 0;
      std::from_chars(path.data() + i + 1, path.data() + path.size(), index);
      if (node->type == YamlNode::Type::sequence && index < node->children.size())
        next = node->children[index];
      i = path.find(']', i) + 1;
    } else {
      const size_t end = std::min(path.find_first_of(".[", i), path.size());
      next = node->find(std::string_view(path).substr(i, end - i));
      i = end;
    }
    if (i < path.size() && path[i] == '.') ++i;
    if (next == nullptr) break;
    node = next;
  }
  return node->line;
}

}  // namespace maglane
