// SPDX-License-Identifier: Apache-2.0
#include "agent/control/handlers.h"

#include <fmt/format.h>

namespace maglane {
namespace {

constexpr double kLongestWaitSeconds = 3600;
constexpr std::chrono::seconds kLongestResync{60};

void add_maps(const v1::Status& maps, v1::Status* reply) {
  reply->set_services(maps.services());
  reply->set_frontends(maps.frontends());
  reply->set_backends(maps.backends());
  *reply->mutable_maps() = maps.maps();
  *reply->mutable_flow_tables() = maps.flow_tables();
  reply->set_flows_refused(maps.flows_refused());
}

}  // namespace

ControlHandlers::ControlHandlers(const StatusBoard& board, ResyncQueue& resyncs, ReadMaps read_maps,
                                 AddHealth add_health)
    : board_(board),
      resyncs_(resyncs),
      read_maps_(std::move(read_maps)),
      add_health_(std::move(add_health)) {}

std::optional<ControlHandlers::Refusal> ControlHandlers::get_status(const v1::GetStatusRequest& request,
                                                                    const std::function<bool()>& cancelled,
                                                                    v1::Status* reply) const {
  double wait = request.wait_seconds();
  if (!(wait >= 0 && wait <= kLongestWaitSeconds)) {  // NaN too
    return Refusal{true, fmt::format("wait_seconds is {}: say 0 to {}", wait, kLongestWaitSeconds)};
  }
  auto longest =
      std::chrono::duration_cast<StatusBoard::Clock::duration>(std::chrono::duration<double>(wait));
  board_.wait_synced(longest, cancelled);
  *reply = board_.read();
  if (add_health_) add_health_(*reply);
  auto maps = read_maps_();
  if (maps) {
    add_maps(*maps, reply);
  } else {
    v1::Problem* problem = reply->add_problems();
    problem->set_where("maps");
    problem->set_message(maps.error().message);
  }
  return std::nullopt;
}

std::optional<ControlHandlers::Refusal> ControlHandlers::resync(const v1::ResyncRequest&,
                                                                const std::function<bool()>& cancelled,
                                                                v1::ResyncReply* reply) const {
  auto operations = resyncs_.request(kLongestResync, cancelled);
  if (!operations) return Refusal{false, operations.error().message};
  reply->set_operations(*operations);
  return std::nullopt;
}

}  // namespace maglane
