// SPDX-License-Identifier: Apache-2.0
//
// What the data plane promises, as plain C++ without any of its code: a list of connections
// and rules. Where the data plane may choose (which endpoint, which source port) the model
// looks at what it chose, checks that it was allowed to, and holds it to that from then on.
#pragma once

#include <list>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "tests/packets/cluster.h"
#include "tests/packets/data_plane.h"
#include "tests/packets/tables.h"

namespace maglane::test {

class Model {
 public:
  // `network` must outlive the model.
  Model(const Cluster& cluster, const Network& network) : cluster_(cluster), network_(network) {}

  void change(const Cluster& cluster) { cluster_ = cluster; }
  // The endpoint does not serve the service any more: its UDP flows are forgotten.
  void forget(const std::string& service, const HostPort& endpoint);
  void forget_connections() {
    connections_.clear();
    flows_ = 0;
  }

  // What is wrong with what became of a well-formed TCP or UDP packet with TTL to spare, or an
  // ICMP error made by Packet::about; empty if nothing. runs: of each program that saw it.
  std::string check(const Packet& packet, const Arrival& arrival, const std::vector<RunResult>& runs);

  // After each check: what is wrong with the flows that there are. A full table may give up
  // directions of connections that are closed or were never established, no others; a direction
  // that was lost may come back as long as the other one is there.
  std::string check_flows(const std::map<Ends, Ends>& flows);

 private:
  struct Connection {
    HostPort client, frontend;     // as the client sees it
    HostPort source, endpoint;     // as the endpoint sees it
    std::string service;           // none: the client went past the service to the endpoint
    bool fin[2] = {false, false};  // by direction: client's, endpoint's
    bool reset = false;     // beyond doubt
    bool doubtful = false;  // there was a RST, perhaps not of either end
    bool perhaps_older = false;  // a SYN after a doubtful RST went the same way, made anew or not
    bool older_fin[2] = {false, false};  // of the one that it then is
    bool answered = false, confirmed = false;  // a reply; then a client's segment without SYN
    bool present[2] = {true, true};            // by direction: its flow is in the table
    bool closed() const { return reset || (fin[0] && fin[1]); }
    bool perhaps_closed() const {
      const bool ended = (fin[0] || older_fin[0]) && (fin[1] || older_fin[1]);
      return closed() || (perhaps_older && (doubtful || ended));
    }
    // Whoever ends it has taken it for open.
    bool established(uint8_t protocol) const {
      return answered && (protocol != kProtoTcp || confirmed || fin[0] || fin[1]);
    }
    Ends key(bool reply) const { return reply ? Ends{endpoint, source} : Ends{client, frontend}; }
    Ends answer(bool reply) const { return reply ? Ends{frontend, client} : Ends{source, endpoint}; }
  };
  using Position = std::list<Connection>::iterator;

  std::string check_known(Position connection, bool reply, const Packet& packet, const Arrival& arrival,
                          const RunResult& result);
  std::string check_error(const Packet& error, const Arrival& arrival, const RunResult& result);
  std::string check_later_fragment(const Packet& packet, const Arrival& arrival,
                                   const std::vector<RunResult>& runs);
  std::string check_unserved(const IpAddress& to, abi::reason why, const RunResult& result) const;
  bool masquerades(const Packet& packet, const Arrival& arrival) const;
  bool leaves(const Packet& packet) const;  // by an uplink
  std::string check_masqueraded(const Packet& packet, const Arrival& arrival, const RunResult& result);
  std::string check_opened(const Packet& packet, const Arrival& arrival, const RunResult& result,
                           const HostPort& source, const HostPort& endpoint, const std::string& service);
  std::string check_new(const Packet& packet, const Arrival& arrival, const RunResult& result);
  std::string check_chosen(const Packet& packet, const Arrival& arrival, const RunResult& result,
                           const FrontendFixture& frontend, const std::vector<HostPort>& endpoints);
  std::string check_delivered(const Packet& expected, const RunResult& result) const;
  std::vector<HostPort> held_to(const Packet& packet, const FrontendFixture& frontend,
                                const std::vector<HostPort>& endpoints) const;
  std::string check_sent(const Packet& expected, const Arrival& arrival, const RunResult& result) const;
  bool translates_source(const Packet& packet, const Arrival& arrival, const FrontendFixture& frontend,
                         const HostPort& endpoint) const;
  bool may_lack_ports(const Packet& packet, const Arrival& arrival, const FrontendFixture& frontend,
                      const std::vector<HostPort>& endpoints);
  bool shares_replies(const Packet& packet, const Arrival& arrival);
  bool is_pod(const Packet& packet, const Arrival& arrival) const;
  HostPort node() const;
  Position find(const HostPort& from, const HostPort& to, bool& reply);
  // The connection that packets of this tuple belong to.
  Position holder(const HostPort& endpoint, const HostPort& source);
  // Whether a new connection of this packet may not have the tuple.
  // for_sure: not if it is doubtful whether the one that has it still lives.
  bool is_taken(const HostPort& endpoint, const HostPort& source, const Packet& packet, bool for_sure);
  std::string check_direction(Connection& connection, bool reply, const std::map<Ends, Ends>& flows);
  bool superseded(const Connection& connection, bool reply) const;
  bool may_give_way(const Connection& connection, bool reply, const std::vector<RunResult>& runs) const;
  bool may_lose(const Connection& connection, bool reply, size_t flows) const;

  Cluster cluster_;
  const Network& network_;
  std::list<Connection> connections_;
  // Ends of the datagrams whose first fragment was sent: by addresses and identification.
  std::map<std::tuple<IpAddress, IpAddress, uint16_t>, Ends> datagrams_;
  // Of frontends with affinity, by frontend and client: the endpoint, none: one that did not show.
  std::map<std::pair<HostPort, IpAddress>, std::optional<HostPort>> affinity_;
  size_t flows_ = 0;  // in the table, after the last packet
  Family family_ = Family::ipv4;  // of the last packet
  uint8_t protocol_ = kProtoTcp;
};

}  // namespace maglane::test
