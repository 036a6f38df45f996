// SPDX-License-Identifier: Apache-2.0
//
// What the node's network means for the data plane: which devices to attach to, which
// addresses are the node's own. Pure.
#pragma once

#include <optional>
#include <vector>

#include "agent/base/complaint.h"
#include "agent/config.h"
#include "agent/kernel/attach_plan.h"
#include "agent/kernel/maps.h"
#include "agent/kernel/network_model.h"
#include "proto/snapshot.pb.h"

namespace maglane {

struct NodeNetwork {
  std::vector<WantedDevice> devices;
  // The source of translated packets, and where node ports listen.
  std::optional<IpAddress> primary_ipv4, primary_ipv6;
  std::vector<IpAddress> local_addresses;
  // Of each uplink: as whom pods leave by it. The primary address where it is there, else the first
  // global one; of a device without any, the primary one.
  std::vector<EgressAddress> egress_addresses;
  std::vector<Cidr> pod_cidrs;  // of the Node object, at most one a family
  std::vector<Complaint> complaints;

  std::vector<IpAddress> primary_addresses() const;
  bool operator==(const NodeNetwork&) const = default;
};

// A primary address is the Node object's InternalIP if that is an address of this machine,
// else the first global one of the first uplink that has any. `node` may be null.
// Where the default routes say which devices are uplinks and there is none at present, those
// of `before` remain, so that a route that is renewed does not take connections along.
NodeNetwork view_network(const NetworkModel& network, const Config& config, const v1::Node* node,
                         const NodeNetwork& before = {});

}  // namespace maglane
