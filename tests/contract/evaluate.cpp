// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/evaluate.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>

namespace maglane::test {
namespace {

abi::frontend_key key_of(const HostPort& address, uint8_t protocol) {
  abi::frontend_key key{};
  address.address.to_be(key.addr_be);
  key.port_be = htons(address.port);
  key.protocol = protocol;
  key.family = static_cast<uint8_t>(address.address.family());
  return key;
}

IpAddress address_of(const abi::backend& backend) {
  return IpAddress::from_be(static_cast<Family>(backend.family), backend.addr_be);
}

bool in_any(const char* const (&cidrs)[2], const IpAddress& address) {
  return std::ranges::any_of(cidrs, [&](const char* cidr) { return Cidr::parse(cidr)->contains(address); });
}

// Conformance 15 to 17: where the reply would not come back the way the packet went. The node's own
// sockets use the endpoint itself, as the node anyway.
bool replaces_client(const abi::frontend& frontend, const abi::backend& backend, const NewConnection& connection,
                     bool pod, bool masquerade_all) {
  // Nor is there a way back to the node's own address for what its own stack answers.
  if (connection.from_node || backend.flags & abi::BACKEND_NODE) return false;
  if (address_of(backend) == connection.source) return true;
  if (frontend.type == abi::FRONTEND_CLUSTER_IP) return !pod || masquerade_all;
  if (frontend.flags & abi::FRONTEND_EXTERNAL_LOCAL && connection.from_pod) return false;
  return !(backend.flags & abi::BACKEND_LOCAL);
}

// Conformance 22.
bool is_allowed(const MapContents& contents, const abi::frontend& frontend, const IpAddress& source) {
  if (!(frontend.flags & abi::FRONTEND_SOURCE_RANGES)) return true;
  return std::ranges::any_of(contents.source_ranges, [&](const abi::source_range_key& range) {
    if (range.service_id != frontend.service_id || range.family != static_cast<uint32_t>(source.family())) return false;
    const std::string text = fmt::format("{}/{}", IpAddress::from_be(source.family(), range.addr_be).to_string(),
                                         range.prefix_bits - abi::SOURCE_RANGE_BITS);
    return Cidr::parse(text)->contains(source);
  });
}

Answer refusal(Answer::Kind kind) {
  Answer answer;
  answer.kind = kind;
  return answer;
}

Answer without_frontend(const MapContents& contents, const NewConnection& connection) {
  if (contents.frontends.contains(key_of(HostPort(connection.destination.address, 0), 0)))
    return refusal(Answer::Kind::reject);
  if (in_any(kLabServiceCidrs, connection.destination.address)) return refusal(Answer::Kind::drop);
  return refusal(Answer::Kind::pass);
}

// Conformance 19: what a pod of this node sends to nobody of the cluster, nor of its virtual network.
bool leaves_masqueraded(const AgentOptions& options, const LabHost& source, const std::string& node,
                        const IpAddress& destination) {
  if (options.network_model == MasqueradeModel::none || !source.is_pod() || source.node != node) return false;
  const LabHost* host = lab_host(destination);
  if (host && !host->node.empty()) return false;  // a pod or a node
  return std::ranges::none_of(options.vnet_cidrs, [&](const Cidr& cidr) { return cidr.contains(destination); });
}

class ModelNode final : public TraceNode {
 public:
  ModelNode(const std::string& name, const AgentOptions& options)
      : name_(name), options_(options), config_(options.config()) {}

  void start(const ClusterModel& model) override {
    agent_ = std::make_unique<TestAgent>(name_, options_);
    agent_->update(model);
    contents_ = agent_->contents();
    held_.clear();
  }
  void change(const ClusterModel& model) override {
    agent_->update(model);
    contents_ = agent_->contents();
  }
  std::optional<Answer> ask(const Question& question) override {
    if (!question.connection.empty()) return std::nullopt;  // it knows new connections alone
    const bool from_pod = question.source.is_pod() && question.source.node == name_;
    const IpAddress& source = question.source.of(question.destination.address.family());
    Answer answer = evaluate(contents_, config_, {source, question.destination, question.protocol, from_pod,
                                                  question.source.name == name_});
    if (answer.kind == Answer::Kind::pass &&
        leaves_masqueraded(options_, question.source, name_, question.destination.address)) {
      answer.kind = Answer::Kind::endpoints;
      answer.endpoints[question.destination] = true;
    }
    if (answer.affinity_of) hold(answer, held_[{answer.affinity_of, source}]);
    return answer;
  }

 private:
  // Conformance 23: where the client was sent before, as long as that is an endpoint.
  static void hold(Answer& answer, HostPort& held) {
    if (answer.endpoints.empty()) return;
    if (!answer.endpoints.contains(held)) held = answer.endpoints.begin()->first;
    answer.endpoints = {{held, answer.endpoints.at(held)}};
  }

  const std::string name_;
  const AgentOptions options_;
  const abi::node_config config_;
  std::unique_ptr<TestAgent> agent_;
  MapContents contents_;
  std::map<std::pair<uint32_t, IpAddress>, HostPort> held_;  // by service and client
};

}  // namespace

Answer evaluate(const MapContents& contents, const abi::node_config& config, const NewConnection& connection) {
  const auto found =
      contents.frontends.find(key_of(connection.destination, static_cast<uint8_t>(connection.protocol)));
  if (found == contents.frontends.end()) return without_frontend(contents, connection);
  const abi::frontend& frontend = found->second;
  const bool pod = connection.from_pod || in_any(kLabPodCidrs, connection.source);
  // Behind external frontends the node has all endpoints, as its pods do.
  const abi::table_ref& table = frontend.tables[pod || connection.from_node ? abi::SOURCE_POD : abi::SOURCE_OUTSIDE];
  Answer answer;
  answer.kind = Answer::Kind::endpoints;
  answer.affinity_of = frontend.affinity_seconds ? frontend.service_id : 0;
  if (!connection.from_node && !is_allowed(contents, frontend, connection.source)) return refusal(Answer::Kind::drop);
  if (table.size == 0) {
    answer.kind = table.offset == abi::EMPTY_DROP ? Answer::Kind::drop : Answer::Kind::reject;
    return answer;
  }
  for (uint32_t i = table.offset; i < table.offset + table.size; ++i) {
    const auto backend = contents.backends.find(contents.maglev.at(i));
    if (backend == contents.backends.end()) {
      answer.fault = "a table names a backend that is not there";
      return answer;
    }
    answer.endpoints[HostPort(address_of(backend->second), ntohs(backend->second.port_be))] =
        replaces_client(frontend, backend->second, connection, pod, config.masquerade_all);
  }
  return answer;
}

std::unique_ptr<TraceNode> make_model_node(const std::string& name, const AgentOptions& options) {
  return std::make_unique<ModelNode>(name, options);
}

}  // namespace maglane::test
