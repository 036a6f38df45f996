// SPDX-License-Identifier: Apache-2.0
//
// What the data plane promises, as plain C++ without any of its code: a list of connections
// and rules. Where the data plane may choose (which endpoint, which source port) the model
// looks at what it chose, checks that it was allowed to, and holds it to that from then on.
#pragma once

#include <list>
#include <string>
#include <vector>

#include "tests/packets/cluster.h"
#include "tests/packets/data_plane.h"

namespace maglane::test {

class Model {
 public:
  // `network` must outlive the model.
  Model(const Cluster& cluster, const Network& network) : cluster_(cluster), network_(network) {}

  void change(const Cluster& cluster) { cluster_ = cluster; }
  void forget_connections() { connections_.clear(); }

  // What is wrong with what became of a well-formed TCP or UDP packet with TTL to spare; empty
  // if nothing. runs: of each program that saw it.
  std::string check(const Packet& packet, const Arrival& arrival, const std::vector<RunResult>& runs);

  size_t connections() const { return connections_.size(); }

 private:
  struct Connection {
    HostPort client, frontend;     // as the client sees it
    HostPort source, endpoint;     // as the endpoint sees it
    bool fin[2] = {false, false};  // by direction: client's, endpoint's
    bool reset = false;
    bool closed() const { return reset || (fin[0] && fin[1]); }
  };
  using Position = std::list<Connection>::iterator;

  std::string check_known(Position connection, bool reply, const Packet& packet, const Arrival& arrival,
                          const RunResult& result);
  std::string check_new(const Packet& packet, const Arrival& arrival, const RunResult& result);
  std::string check_chosen(const Packet& packet, const Arrival& arrival, const RunResult& result,
                           const FrontendFixture& frontend, const std::vector<HostPort>& endpoints);
  std::string check_sent(const Packet& expected, const Arrival& arrival, const RunResult& result) const;
  bool translates_source(const Packet& packet, const FrontendFixture& frontend,
                         const HostPort& endpoint) const;
  bool may_lack_ports(const Packet& packet, const FrontendFixture& frontend,
                      const std::vector<HostPort>& endpoints);
  bool is_pod(const Packet& packet, const Arrival& arrival) const;
  HostPort node() const;
  Position find(const HostPort& from, const HostPort& to, bool& reply);
  // The live connection whose replies come as this tuple.
  Position holder(const HostPort& endpoint, const HostPort& source);

  Cluster cluster_;
  const Network& network_;
  std::list<Connection> connections_;
  Family family_ = Family::ipv4;
};

}  // namespace maglane::test
