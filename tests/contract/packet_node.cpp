// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/packet_node.h"

#include <fmt/format.h>

#include <algorithm>

namespace maglane::test {
namespace {

// Enough connections to meet every endpoint of a small set; the choice follows from the ports.
constexpr uint16_t kConnections = 64;
constexpr uint32_t kZero = 0;
constexpr uint16_t kFirstPort = 30000;  // outside the ports for translation

class PacketNode final : public TraceNode {
 public:
  PacketNode(const std::string& name, const AgentOptions& options, Mode mode, DataPlane& plane)
      : name_(name), options_(options), config_(options.config()), mode_(mode), plane_(plane) {}
  ~PacketNode() override {
    if (in_place() == this) in_place() = nullptr;
  }

  void start(const ClusterModel& model) override {
    agent_ = std::make_unique<TestAgent>(name_, options_);
    agent_->update(model);
    model_ = model;
    ports_.clear();
    flows_.clear();
    addresses_.reset();
    next_port_ = kFirstPort;
    ++session_;
  }

  void change(const ClusterModel& model) override {
    const auto operations = agent_->update(model);
    model_ = model;
    pending_.insert(pending_.end(), operations.begin(), operations.end());
  }

  std::optional<Answer> ask(const Question& question) override {
    if (question.source.name == name_) return std::nullopt;  // its own sockets' packets meet no device's hook
    select();
    if (!question.connection.empty()) return ask_once(question, port_of(question));
    Answer all;
    for (uint16_t n = 0; n < kConnections; ++n) {
      const Answer one = ask_once(question, next_port_++);
      if (n == 0) all = one;
      if (one.kind != all.kind) all.fault = fmt::format("{} as well as {}", one.to_string(), all.to_string());
      if (!one.fault.empty()) all.fault = one.fault;
      if (!all.fault.empty() || one.kind != Answer::Kind::endpoints) break;
      all.endpoints.insert(one.endpoints.begin(), one.endpoints.end());
    }
    return all;
  }

 private:
  // Natively there is one data plane for all nodes: whose state is in it, or nobody's.
  static PacketNode*& in_place() {
    static PacketNode* node = nullptr;
    return node;
  }

  // Brings the data plane up to date; anew, if another node's or an earlier case's state is in it.
  void select() {
    const bool here = plane_.native() ? in_place() == this && programmed_ == session_ : programmed_ == session_;
    if (!here) {
      if (plane_.native()) take_place();
      program();
    }
    apply(pending_, plane_, config_);  // also anew: flows that came back may have to be forgotten
    pending_.clear();
  }

  void take_place() {
    if (in_place() && in_place() != this) in_place()->save_flows();
    in_place() = this;
  }

  void save_flows() {
    for (const char* table : {"flows4", "flows6"}) {
      const auto memory = plane_.memory(table);
      flows_[table].assign(memory.begin(), memory.end());
    }
    addresses_ = plane_.get("flow_bits", &kZero);
  }

  void program() {
    const LabHost& self = *lab_host(name_);
    plane_.reset(config_);
    put_node(plane_, config_, self.ipv4, self.ipv6, 1);
    put_masquerade(plane_, options_, model_);
    apply(agent_->from_scratch(), plane_, config_);
    for (const auto& [table, bytes] : flows_) std::ranges::copy(bytes, plane_.memory(table).begin());
    if (addresses_) plane_.put("flow_bits", &kZero, addresses_->data());
    programmed_ = session_;
  }

  uint16_t port_of(const Question& question) {
    const auto key = fmt::format("{} {}", question.connection, to_string(question.protocol));
    const auto [known, added] = ports_.try_emplace(key, next_port_);
    if (added) ++next_port_;
    return known->second;
  }

  RunResult arrive(const Packet& packet, const LabHost& from) {
    const Arrival arrival{packet.bytes(), lab_device(name_, from)};
    if (from.is_pod() && from.node == name_) return plane_.run(Program::tc_pod, arrival);
    if (mode_ == Mode::xdp) {
      const RunResult result = plane_.run(Program::xdp_uplink, arrival);
      if (result.verdict != Verdict::pass) return result;
    }
    return plane_.run(Program::tc_uplink, arrival);
  }

  Answer ask_once(const Question& question, uint16_t port) {
    const HostPort client(question.source.of(question.destination.address.family()), port);
    const bool tcp = question.protocol == Protocol::tcp;
    const Packet packet = tcp ? Packet::tcp(client, question.destination, kSyn).tcp_options({2, 4, 5, 0xb4})
                              : Packet::udp(client, question.destination).payload("hello");
    const RunResult result = arrive(packet, question.source);
    Answer answer;
    if (result.verdict == Verdict::drop) answer.kind = Answer::Kind::drop;
    if (result.verdict == Verdict::drop || result.frame == packet.bytes()) return answer;
    if (result.verdict == Verdict::pass) return delivered(packet, result);
    if (result.frame != port_unreachable(packet)) return sent(packet, question, result);
    answer.kind = Answer::Kind::reject;
    return answer;
  }

  // To an endpoint in the node's own network: its stack gets the packet, and what it answers is
  // met where it leaves.
  Answer delivered(const Packet& packet, const RunResult& result) {
    const Parsed out = parse(result.frame);
    const HostPort endpoint(out.destination, out.destination_port);
    Answer answer;
    answer.kind = Answer::Kind::endpoints;
    answer.endpoints[endpoint] = out.source != packet.source().address;
    const HostPort source(out.source, out.source_port);
    const auto hop = plane_.network().next_hop(source.address);
    if (result.frame != packet.from(source).to(endpoint).bytes() || !plane_.network().is_own(endpoint.address) || !hop) {
      answer.fault = "passed on, but changed: " + describe(result.frame);
      return answer;
    }
    const Packet reply = packet.protocol() == kProtoTcp ? Packet::tcp(endpoint, source, kSyn | kAck)
                                                        : Packet::udp(endpoint, source).payload("hi");
    const RunResult left = plane_.run(Program::tc_egress, {reply.bytes(), hop->device});
    if (left.verdict != Verdict::pass || left.frame != reply.from(packet.destination()).to(packet.source()).bytes())
      answer.fault = "the reply leaves as " + describe(left.frame);
    return answer;
  }

  // Where to and as whom, by the bytes; then the endpoint answers.
  Answer sent(const Packet& packet, const Question& question, const RunResult& result) {
    const Parsed out = parse(result.frame);
    const HostPort endpoint(out.destination, out.destination_port), source(out.source, out.source_port);
    Answer answer;
    answer.kind = Answer::Kind::endpoints;
    answer.endpoints[endpoint] = source.address != packet.source().address;
    if (!out.ports) {
      answer.fault = "neither a translated packet nor a right refusal: " + describe(result.frame);
      return answer;
    }
    answer.fault = check(packet.from(source).to(endpoint), result);
    const LabHost* host = lab_host(endpoint.address);
    if (!answer.fault.empty() || !host) return answer;
    const bool tcp = question.protocol == Protocol::tcp;
    const Packet reply = tcp ? Packet::tcp(endpoint, source, kSyn | kAck) : Packet::udp(endpoint, source).payload("hi");
    answer.fault = check(reply.from(packet.destination()).to(packet.source()), arrive(reply, *host));
    if (!answer.fault.empty()) answer.fault = "the reply: " + answer.fault;
    return answer;
  }

  // The frame must be exactly this packet, sent to where the routes say.
  std::string check(const Packet& expected, const RunResult& result) const {
    if (result.verdict != Verdict::transmit && result.verdict != Verdict::redirect)
      return fmt::format("{} instead of being sent as {}", to_string(result.verdict), describe(expected.bytes()));
    const auto hop = plane_.network().next_hop(expected.destination().address);
    if (!hop || !hop->destination) return "there is no route to " + expected.destination().to_string();
    const Bytes bytes = expected.hop().macs(hop->source, *hop->destination).bytes();
    return result.frame == bytes ? "" : fmt::format("sent {} instead of {}", describe(result.frame), describe(bytes));
  }

  const std::string name_;
  const AgentOptions options_;
  const abi::node_config config_;
  const Mode mode_;
  DataPlane& plane_;
  std::unique_ptr<TestAgent> agent_;
  ClusterModel model_;
  uint64_t session_ = 0;  // counts the starts of this node
  uint64_t programmed_ = 0;  // the one that the data plane is for
  std::map<std::string, Bytes> flows_;  // natively, while another node is in place
  std::optional<Bytes> addresses_;       // and the filter's notes of them
  std::vector<Operation> pending_;   // what the maps are not told yet
  std::map<std::string, uint16_t> ports_;  // of connections with a name
  uint16_t next_port_ = kFirstPort;
};

}  // namespace

std::unique_ptr<TraceNode> make_packet_node(const std::string& name, const AgentOptions& options, Mode mode,
                                            DataPlane& plane) {
  return std::make_unique<PacketNode>(name, options, mode, plane);
}

}  // namespace maglane::test
