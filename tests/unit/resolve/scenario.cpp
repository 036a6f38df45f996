// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/resolve/scenario.h"

#include <fmt/format.h>

#include <sstream>

#include "agent/source/manifest_set.h"

namespace maglane::test {
namespace {

std::string describe_set(const EndpointSet& set) {
  if (set.endpoints.empty()) return set.when_empty == EmptyVerdict::reject ? "reject" : "drop";
  std::string text;
  for (const auto& endpoint : set.endpoints) {
    if (!text.empty()) text += ", ";
    text += endpoint.address.with_port(endpoint.port);
    if (endpoint.local) text += " local";
    if (endpoint.node) text += " node";
    if (endpoint.weight != 1) text += fmt::format(" weight {}", endpoint.weight);
  }
  return text;
}

// Without comments, blank lines and space at the ends of lines.
std::string tidy(const std::string& text) {
  std::istringstream lines(text);
  std::string result, line;
  while (std::getline(lines, line)) {
    line.erase(line.find_last_not_of(" \t\r") + 1);
    if (!line.empty() && line[line.find_first_not_of(' ')] != '#') result += line + "\n";
  }
  return result;
}

Result<NodeContext> read_node(const std::string& text) {
  NodeContext node;
  std::istringstream lines(tidy(text));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key, value;
    words >> key;
    while (words >> value) {
      const auto address = IpAddress::parse(value);
      const auto cidr = Cidr::parse(value);
      if (key == "name:")
        node.node_name = value;
      else if (key == "zone:")
        node.zone = value;
      else if (key == "addresses:" && address)
        node.node_addresses.push_back(*address);
      else if (key == "local-addresses:" && address)
        node.local_addresses.push_back(*address);
      else if (key == "node-port-addresses:" && cidr)
        node.node_port_addresses.push_back(*cidr);
      else
        return Error{fmt::format("node: cannot make anything of \"{}\"", line)};
    }
  }
  return node;
}

class Runner {
 public:
  void section(const Section& section) {
    if (section.name == "node") {
      begin(section);
      auto node = read_node(section.text);
      if (!node) return fail(section, node.error().message);
      node_ = *node;
    } else if (section.name == "cluster") {
      begin(section);
      set_.put("cluster", decode_manifest(section.text, "cluster"));
    } else if (section.name == "frontends") {
      resolve(section);
      compare(section, describe(*cluster_));
    } else if (section.name == "complaints") {
      resolve(section);
      compare(section, complaints_);
      complaints_.clear();
    } else {
      fail(section, "unknown section (expected node, cluster, frontends or complaints)");
    }
  }

  std::vector<std::string> finish() {
    end_step();
    if (changed_ != nullptr) fail(*changed_, "nothing is expected after it");
    return std::move(problems_);
  }

 private:
  void fail(const Section& section, const std::string& message) {
    problems_.push_back(fmt::format("{}: {}: {}", section.line, section.name, message));
  }

  void begin(const Section& section) {
    if (cluster_ != nullptr) end_step();
    if (changed_ != nullptr && changed_->name == section.name)
      fail(*changed_, "nothing is expected after it");
    changed_ = &section;
  }

  // What is complained of must be expected.
  void end_step() {
    if (!complaints_.empty()) problems_.push_back("complaints that are not expected:\n" + complaints_);
    complaints_.clear();
    cluster_ = nullptr;
  }

  void resolve(const Section& section) {
    if (cluster_ != nullptr) return;
    if (changed_ == nullptr) fail(section, "no node or cluster before it");
    changed_ = nullptr;
    std::vector<Complaint> complaints = set_.model().complaints;
    cluster_ = &resolver_.resolve(set_.model(), node_, &complaints);
    for (const auto& complaint : complaints) complaints_ += complaint.where + ": " + complaint.message + "\n";
  }

  void compare(const Section& section, const std::string& actual) {
    const std::string expected = tidy(section.text);
    if (actual != expected) fail(section, fmt::format("expected\n{}---- actual\n{}----", expected, actual));
  }

  NodeContext node_;
  ManifestSet set_;
  Resolver resolver_;
  const Section* changed_ = nullptr;          // a node or cluster that nothing was expected of yet
  const ResolvedCluster* cluster_ = nullptr;  // of the present step
  std::string complaints_;
  std::vector<std::string> problems_;
};

}  // namespace

std::string describe(const ResolvedCluster& cluster) {
  std::string text;
  for (const auto& [key, service] : cluster) {
    for (const auto& port : service->ports) {
      text += fmt::format("{} {} {} {}", port.key.to_string(), to_string(port.key.protocol),
                          to_string(port.key.family), port.port);
      if (port.affinity_seconds != 0) text += fmt::format(" affinity {}", port.affinity_seconds);
      for (const Cidr& range : port.source_ranges) text += " from " + range.to_string();
      text += "\n";
      for (const auto& frontend : port.frontends) {
        text += fmt::format("  {} {} -> {}", to_string(frontend.type),
                            frontend.address.with_port(frontend.port), describe_set(*frontend.for_outside));
        // Sets that are equal must be one object: plan shares tables by pointer.
        if (frontend.for_pods != frontend.for_outside)
          text += "; pods -> " + describe_set(*frontend.for_pods);
        if (frontend.limited) text += "; limited";
        text += "\n";
      }
    }
  }
  return text;
}

Result<std::vector<Section>> split(std::string_view text) {
  std::vector<Section> sections;
  std::istringstream lines{std::string(text)};
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.starts_with("== "))
      sections.push_back({line.substr(3), number, ""});
    else if (!sections.empty())
      sections.back().text += line + "\n";
    else if (!line.empty() && line[0] != '#')
      return Error{fmt::format("{}: text before the first section", number)};
  }
  if (sections.empty()) return Error{"no section"};
  return sections;
}

std::vector<std::string> run(const std::vector<Section>& sections) {
  Runner runner;
  for (const Section& section : sections) runner.section(section);
  return runner.finish();
}

}  // namespace maglane::test
