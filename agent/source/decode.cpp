// SPDX-License-Identifier: Apache-2.0
#include "agent/source/decode.h"

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <optional>

#include "agent/base/quote.h"
#include "agent/source/decode_message.h"
#include "agent/source/validate.h"

namespace maglane {
namespace {

struct KindName {
  Kind kind;
  std::string_view api_version, name, list;
};
constexpr KindName kKinds[] = {
    {Kind::service, "v1", "Service", "ServiceList"},
    {Kind::endpoint_slice, "discovery.k8s.io/v1", "EndpointSlice", "EndpointSliceList"},
    {Kind::node, "v1", "Node", "NodeList"},
};
constexpr int kMaxListNesting = 8;
constexpr size_t kMaxComplaints = 100;  // of one file: enough to see what is wrong

std::string_view scalar(const YamlNode& node, std::string_view key) {
  const YamlNode* value = node.find(key);
  return value != nullptr && value->is_scalar() ? std::string_view(value->text) : std::string_view();
}

std::string_view group_of(std::string_view api_version) {
  const size_t slash = api_version.find('/');
  return slash == std::string_view::npos ? std::string_view() : api_version.substr(0, slash);
}

class FileDecoder {
 public:
  explicit FileDecoder(const std::string& file_name) : file_name_(file_name) {}

  DecodedFile run(std::string_view text) {
    const bool json = file_name_.ends_with(".json") && text.find("\\u") != std::string_view::npos;
    const std::string joined = json ? join_json_surrogates(text) : std::string();
    const auto failure = parse_yaml(json ? joined : text, [&](const YamlNode& root) { document(root); });
    if (failure) {
      DecodedFile refused;
      refused.complaints.push_back({where(failure->line), failure->message});
      return refused;
    }
    if (untold_ > 0) result_.complaints.push_back({file_name_, fmt::format("{} more problems", untold_)});
    result_.parsed = true;
    return std::move(result_);
  }

 private:
  std::string where(int line) const {
    return line == 0 ? file_name_ : fmt::format("{}:{}", file_name_, line);
  }
  void complain(int line, std::string message) {
    if (result_.complaints.size() < kMaxComplaints)
      result_.complaints.push_back({where(line), std::move(message)});
    else
      ++untold_;
  }

  void document(const YamlNode& root) {
    if (root.type != YamlNode::Type::mapping)
      return complain(root.line, "not a Kubernetes object (expected apiVersion, kind and metadata)");
    object(root, nullptr, 0);
  }

  // `implied`: the kind of a typed list's items, which need not repeat it.
  void object(const YamlNode& node, const KindName* implied, int nesting) {
    const std::string_view kind = scalar(node, "kind");
    const std::string_view api_version = scalar(node, "apiVersion");
    if (kind.empty() && api_version.empty()) {
      if (implied != nullptr) decode(node, *implied);
      return;
    }
    if (kind.empty()) return complain(node.line, "kind: missing");
    if (kind == "List" && (api_version == "v1" || api_version.empty())) return items(node, nullptr, nesting);
    for (const KindName& known : kKinds) {
      if (kind != known.name && kind != known.list) continue;
      if (api_version.empty())
        return complain(node.line, fmt::format("apiVersion: missing (expected {})", known.api_version));
      if (group_of(api_version) != group_of(known.api_version)) return;
      if (api_version != known.api_version)
        return complain(node.line, fmt::format("apiVersion: {} is not read (expected {})",
                                               in_quotes(api_version), known.api_version));
      return kind == known.list ? items(node, &known, nesting) : decode(node, known);
    }
  }

  void items(const YamlNode& list, const KindName* implied, int nesting) {
    const YamlNode* items = list.find("items");
    if (items == nullptr || items->type == YamlNode::Type::null) return;
    if (items->type != YamlNode::Type::sequence) return complain(items->line, "items: not a list");
    if (nesting >= kMaxListNesting)
      return complain(list.line, fmt::format("Lists within Lists, deeper than {} levels", kMaxListNesting));
    for (const YamlNode* item : items->children) {
      if (item->type == YamlNode::Type::mapping)
        object(*item, implied, nesting + 1);
      else
        complain(item->line, "items: not a Kubernetes object (expected apiVersion, kind and metadata)");
    }
  }

  void decode(const YamlNode& node, const KindName& kind) {
    switch (kind.kind) {
      case Kind::service:
        return decode_as<v1::Service>(node, kind);
      case Kind::endpoint_slice:
        return decode_as<v1::EndpointSlice>(node, kind);
      case Kind::node:
        return decode_as<v1::Node>(node, kind);
    }
  }

  template <typename T>
  void decode_as(const YamlNode& node, const KindName& kind) {
    FieldProblems problems;
    auto message = std::make_shared<T>();
    decode_message(node, *message, problems);
    auto& metadata = *message->mutable_metadata();
    if (kind.kind == Kind::node)
      metadata.clear_namespace_();
    else if (metadata.namespace_().empty())
      metadata.set_namespace_("default");
    // A field that could not be read is empty now; complaining of that as well would mislead.
    if (problems.empty()) validate(*message, problems);
    for (FieldProblem& problem : problems) {
      if (problem.line == 0) problem.line = line_of(node, problem.path);
      const std::string at = problem.path.empty() ? "" : problem.path + ": ";
      complain(problem.line, at + problem.message);
    }
    keep({kind.kind, {metadata.namespace_(), metadata.name()}}, node.line,
         problems.empty() ? std::move(message) : nullptr);
  }

  void keep(ObjectId id, int line, std::shared_ptr<const google::protobuf::Message> message) {
    if (id.key.name.empty()) return;  // refused already, and nothing to know it by
    const auto [earlier, added] = result_.objects.try_emplace(id, DecodedObject{std::move(message), line});
    if (!added)
      complain(line, fmt::format("{} stands on line {} already, which is the one in force",
                                 in_quotes(id.to_string()), earlier->second.line));
  }

  const std::string& file_name_;
  DecodedFile result_;
  size_t untold_ = 0;
};

std::string serialized(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);  // maps in order of their keys
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace

std::string ObjectId::to_string() const {
  for (const KindName& known : kKinds)
    if (known.kind == kind) return fmt::format("{} {}", known.name, key.to_string());
  return key.to_string();
}

DecodedFile decode_manifest(std::string_view text, const std::string& file_name) {
  if (text.size() > kMaxManifestBytes) {
    DecodedFile refused;
    refused.complaints.push_back({file_name, fmt::format("{} bytes are too many (expected at most {} MiB)",
                                                         text.size(), kMaxManifestBytes >> 20)});
    return refused;
  }
  return FileDecoder(file_name).run(text);
}

bool equal(const google::protobuf::Message& a, const google::protobuf::Message& b) {
  return serialized(a) == serialized(b);
}

}  // namespace maglane
