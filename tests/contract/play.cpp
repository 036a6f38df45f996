// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/play.h"

#include <fmt/format.h>

#include "agent/source/manifest_set.h"

namespace maglane::test {
namespace {

constexpr const char* kKindNames[] = {"", "DROP", "REJECT", "PASS"};

// The nodes whose hooks a packet meets, in order, as long as each leaves it alone.
std::vector<std::string> way_of(const LabHost& source, const std::string& via, const IpAddress& destination) {
  std::vector<std::string> way;
  if (!source.node.empty()) way.push_back(source.node);
  const LabHost* owner = lab_host(destination);
  const std::string next = !via.empty() ? via : owner ? owner->node : "";
  if (!next.empty() && (way.empty() || way.back() != next)) way.push_back(next);
  return way;
}

class Player {
 public:
  Player(const TraceFile& file, Family family, TraceNodes& nodes) : file_(file), family_(family), nodes_(nodes) {}

  std::vector<std::string> run(const TraceCase& one) {
    for (const auto& [name, text] : file_.objects) put(name, text);
    bool started = false;
    for (const TraceStep& step : one.steps) {
      for (const auto& [name, text] : step.objects) put(name, text);
      const ClusterModel& model = set_.model();
      for (const Complaint& complaint : model.complaints)
        problems_.push_back(fmt::format("{}: {}: {}", file_.name, complaint.where, complaint.message));
      for (auto& [name, node] : nodes_) started ? node->change(model) : node->start(model);
      started = true;
      for (const TraceLine& line : step.lines)
        for (const Protocol protocol : line.protocols) ask(line, protocol);
    }
    return std::move(problems_);
  }

 private:
  void put(const std::string& name, const std::string& text) {
    if (text.empty())
      set_.remove(name);
    else
      set_.put(name, decode_manifest(text, name));
  }

  void ask(const TraceLine& line, Protocol protocol) {
    const auto destination = file_.address(line.destination, family_);
    const LabHost* source = lab_host(line.source);
    if (!destination) return;
    if (!source) return problem(line, fmt::format("{} is no host", line.source));
    const Question question{*source, HostPort(*destination, line.port), protocol, line.connection};
    Answer answer;
    for (const std::string& node : way_of(*source, line.via, *destination)) {
      const auto told = nodes_.at(node)->ask(question);
      if (!told) return;
      answer = *told;
      if (answer.kind != Answer::Kind::pass) break;
    }
    if (!answer.fault.empty()) problem(line, answer.fault);
    judge(line, protocol, answer);
  }

  void judge(const TraceLine& line, Protocol protocol, const Answer& answer) {
    const std::string by = std::string(to_string(protocol));
    const std::string key = line.connection + by, name = "AS " + line.expected.name + by;
    const bool same_again = line.expected.kind == TraceExpectation::Kind::same;
    Answer expected;
    if (same_again) {
      const auto known = known_.find(line.expected.name.empty() ? key : name);
      if (known == known_.end()) return problem(line, "nothing is known yet");
      expected = known->second;
    } else {
      expected = wanted(line);
    }
    if (!line.connection.empty()) known_[key] = answer;
    if (!line.expected.name.empty() && !same_again) known_[name] = answer;
    const bool one_of = line.expected.one_of || (!line.connection.empty() && !same_again);
    if (!(one_of && expected.kind == Answer::Kind::endpoints ? is_part(answer, expected) : same(answer, expected)))
      problem(line, fmt::format("by {}: {}", by, answer.to_string()));
  }

  Answer wanted(const TraceLine& line) const {
    Answer expected;
    expected.kind = static_cast<Answer::Kind>(line.expected.kind);
    for (const auto& [text, port] : line.expected.endpoints) {
      const bool masqueraded = line.expected.all_masqueraded || line.expected.masqueraded.contains(text);
      const auto address = file_.address(text.substr(0, text.find(':')), family_);
      if (address) expected.endpoints[HostPort(*address, port)] = masqueraded;
    }
    return expected;
  }

  static bool same(const Answer& a, const Answer& b) { return a.kind == b.kind && a.endpoints == b.endpoints; }
  static bool is_part(const Answer& answer, const Answer& of) {
    if (answer.kind != of.kind || answer.endpoints.size() != 1) return false;
    const auto found = of.endpoints.find(answer.endpoints.begin()->first);
    return found != of.endpoints.end() && found->second == answer.endpoints.begin()->second;
  }

  void problem(const TraceLine& line, const std::string& what) {
    problems_.push_back(fmt::format("{}:{}: {}\n    {}: {}", file_.name, line.number, line.text,
                                    maglane::to_string(family_), what));
  }

  const TraceFile& file_;
  const Family family_;
  TraceNodes& nodes_;
  ManifestSet set_;
  std::map<std::string, Answer> known_;  // by name of the connection and protocol
  std::vector<std::string> problems_;
};

}  // namespace

std::string Answer::to_string() const {
  if (kind != Kind::endpoints) return kKindNames[static_cast<int>(kind)];
  std::string text;
  for (const auto& [endpoint, masqueraded] : endpoints) {
    const LabHost* host = lab_host(endpoint.address);
    text += fmt::format("{}{}:{}{}", text.empty() ? "" : ", ", host ? host->name : endpoint.address.to_string(),
                        endpoint.port, masqueraded ? " (masq)" : "");
  }
  return "{" + text + "}";
}

std::vector<std::string> play(const TraceFile& file, const TraceCase& one, Family family, TraceNodes& nodes) {
  return Player(file, family, nodes).run(one);
}

}  // namespace maglane::test
