// SPDX-License-Identifier: Apache-2.0
#include "agent/source/yaml_tree.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <deque>
#include <sstream>
#include <unordered_map>
#include <unordered_set>

namespace maglane {
namespace {

// Thrown through yaml-cpp, caught in parse_yaml: a handler has no other way to stop it.
struct LimitExceeded {
  YamlFailure failure;
};

class TreeBuilder : public YAML::EventHandler {
 public:
  explicit TreeBuilder(const YamlLimits& limits) : limits_(limits) {}

  const YamlNode* root() const { return root_; }
  const YAML::Mark& start() const { return start_; }

  void OnDocumentStart(const YAML::Mark& mark) override { start_ = mark; }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    scalar(mark, anchor, YamlNode::Type::null, "");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // yaml-cpp marks a plain scalar with "?"; any other tag says that it is what it looks like.
    if (tag == "?" &&
        (value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL"))
      scalar(mark, anchor, YamlNode::Type::null, "");
    else
      scalar(mark, anchor, tag == "?" ? YamlNode::Type::plain : YamlNode::Type::quoted, value);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, YamlNode::Type::sequence);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, YamlNode::Type::mapping);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override {
    merge(*open_.back().node);
    close();
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw LimitExceeded{{mark.line + 1, "an alias within its own anchor"}};
    count(found->second->size, mark.line + 1);
    add(found->second);
  }

 private:
  struct Open {
    YamlNode* node;
    YAML::anchor_t anchor;
  };

  void count(size_t nodes, int line) {
    count_ += nodes;
    if (count_ > limits_.nodes)
      throw LimitExceeded{
          {line, fmt::format("more than {} values in one document, aliases expanded", limits_.nodes)}};
  }

  YamlNode& make(const YAML::Mark& mark, YamlNode::Type type) {
    count(1, mark.line + 1);
    YamlNode& node = nodes_.emplace_back();
    node.type = type;
    node.line = mark.line + 1;
    return node;
  }

  void scalar(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Type type, const std::string& value) {
    YamlNode& node = make(mark, type);
    node.text = value;
    if (anchor != YAML::NullAnchor) anchors_[anchor] = &node;
    add(&node);
  }

  void open(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Type type) {
    if (open_.size() >= limits_.depth)
      throw LimitExceeded{{mark.line + 1, fmt::format("nested deeper than {} levels", limits_.depth)}};
    open_.push_back({&make(mark, type), anchor});
  }

  void close() {
    const Open closed = open_.back();
    open_.pop_back();
    if (closed.node->type == YamlNode::Type::sequence)
      closed.node->own_children = closed.node->children.size();
    if (closed.anchor != YAML::NullAnchor) anchors_[closed.anchor] = closed.node;
    add(closed.node);
  }

  void add(const YamlNode* node) {
    if (open_.empty()) {
      root_ = node;
      return;
    }
    YamlNode& parent = *open_.back().node;
    parent.children.push_back(node);
    parent.size += node->size;
  }

  // Replaces the pairs with key "<<" by those that they bring: a key that stands in the
  // mapping itself, or came with an earlier merge, stays (yaml.org/type/merge.html).
  void merge(YamlNode& node) {
    std::vector<const YamlNode*> own, sources;
    for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
      const YamlNode& key = *node.children[i];
      const YamlNode* value = node.children[i + 1];
      if (key.type == YamlNode::Type::plain && key.text == "<<") {
        if (value->type == YamlNode::Type::sequence)
          sources.insert(sources.end(), value->children.begin(), value->children.end());
        else
          sources.push_back(value);
      } else {
        own.insert(own.end(), {&key, value});
      }
    }
    if (!sources.empty()) node.children = std::move(own);
    node.own_children = node.children.size();
    std::unordered_set<std::string_view> present;
    if (!sources.empty())
      for (size_t i = 0; i + 1 < node.children.size(); i += 2) present.insert(node.children[i]->text);
    for (const YamlNode* source : sources) merge_from(*source, node, present);
  }

  void merge_from(const YamlNode& source, YamlNode& node, std::unordered_set<std::string_view>& present) {
    if (source.type != YamlNode::Type::mapping)
      throw LimitExceeded{{source.line, "the merge key << takes a mapping, or a list of mappings"}};
    for (size_t i = 0; i + 1 < source.children.size(); i += 2) {
      if (!present.insert(source.children[i]->text).second) continue;
      const size_t added = source.children[i]->size + source.children[i + 1]->size;
      count(added, node.line);
      node.size += added;
      node.children.insert(node.children.end(), {source.children[i], source.children[i + 1]});
    }
  }

  const YamlLimits& limits_;
  YAML::Mark start_;
  std::deque<YamlNode> nodes_;
  std::vector<Open> open_;
  std::unordered_map<YAML::anchor_t, const YamlNode*> anchors_;
  const YamlNode* root_ = nullptr;
  size_t count_ = 0;
};

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  if (type != Type::mapping) return nullptr;
  for (size_t i = 0; i + 1 < children.size(); i += 2)
    if (children[i]->is_scalar() && children[i]->text == key) return children[i + 1];
  return nullptr;
}

std::optional<YamlFailure> parse_yaml(std::string_view text,
                                      const std::function<void(const YamlNode&)>& visit,
                                      const YamlLimits& limits) {
  if (auto bad = find_bad_character(text)) return bad;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    for (int last_start = -1;;) {
      TreeBuilder builder(limits);
      if (!parser.HandleNextDocument(builder)) return std::nullopt;
      // At a token that cannot begin anything, such as a lone ",", yaml-cpp reports empty
      // documents for ever (github.com/jbeder/yaml-cpp/issues/1040).
      if (builder.start().pos == last_start)
        return YamlFailure{builder.start().line + 1, "not YAML: unexpected text"};
      last_start = builder.start().pos;
      const YamlNode* root = builder.root();
      if (root != nullptr && root->type != YamlNode::Type::null) visit(*root);
    }
  } catch (const LimitExceeded& stop) {
    return stop.failure;
  } catch (const YAML::Exception& failure) {
    const int line = failure.mark.is_null() ? 0 : failure.mark.line + 1;
    return YamlFailure{line, failure.msg.empty() ? "not YAML" : "not YAML: " + failure.msg};
  } catch (const std::exception& failure) {
    return YamlFailure{0, fmt::format("cannot be read: {}", failure.what())};
  }
}

}  // namespace maglane
