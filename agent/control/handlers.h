// SPDX-License-Identifier: Apache-2.0
//
// What the control API answers, apart from how it is reached (server.h).
#pragma once

#include <functional>

#include "agent/base/result.h"
#include "agent/control/resync_queue.h"
#include "agent/control/status_board.h"
#include "proto/control.pb.h"

namespace maglane {

class ControlHandlers {
 public:
  // Where the status gets what is in the maps from: services, frontends, backends, maps.
  using ReadMaps = std::function<Result<v1::Status>()>;

  // What else of the status depends on the time of asking.
  using AddHealth = std::function<void(v1::Status&)>;

  // Why a request was not answered.
  struct Refusal {
    bool bad_request = false;
    std::string message;
  };

  // board and resyncs must outlive this.
  ControlHandlers(const StatusBoard& board, ResyncQueue& resyncs, ReadMaps read_maps,
                  AddHealth add_health = {});

  // Thread-safe. `cancelled`: whether the caller has gone away.
  std::optional<Refusal> get_status(const v1::GetStatusRequest& request,
                                    const std::function<bool()>& cancelled, v1::Status* reply) const;
  std::optional<Refusal> resync(const v1::ResyncRequest& request, const std::function<bool()>& cancelled,
                                v1::ResyncReply* reply) const;

 private:
  const StatusBoard& board_;
  ResyncQueue& resyncs_;
  ReadMaps read_maps_;
  AddHealth add_health_;
};

}  // namespace maglane
