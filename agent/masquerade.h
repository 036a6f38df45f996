// SPDX-License-Identifier: Apache-2.0
//
// Who sees pods' own addresses, by the network model; and what is told of ports that run out.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/config.h"
#include "agent/kernel/maps.h"
#include "agent/source/masq_config.h"
#include "agent/source/model.h"

namespace maglane {

// kubenet and azure-cni: pods, nodes and services of the cluster, the virtual network, and
// link-local addresses of IPv6, which no router forwards. custom: what `custom` says. `model` and
// `custom` may be null. Pure.
std::set<Cidr> masquerade_ranges(const Config& config, const ClusterModel* model, const MasqConfig* custom);

// One line a minute about remote ends towards which all source ports are taken.
class PortShortageLog {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::minutes kInterval{1};

  // `shortages`: all there are at present. The line, if there is one to write: about what is new
  // since the last one. What there was at the first call is not new.
  std::optional<std::string> look(const std::vector<PortShortage>& shortages, Clock::time_point now);

 private:
  std::map<std::string, uint64_t> told_;  // packets, by remote end
  bool looked_ = false;
  std::optional<Clock::time_point> last_line_;
};

}  // namespace maglane
