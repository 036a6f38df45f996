// SPDX-License-Identifier: Apache-2.0
//
// Keeps a NetworkModel equal to the network namespace of the thread that opened it.
#pragma once

#include <memory>
#include <span>

#include "agent/base/result.h"
#include "agent/kernel/network_model.h"

struct mnl_socket;

namespace maglane {

class NetlinkWatch {
 public:
  // Subscribes, then reads everything once.
  static Result<NetlinkWatch> open();
  NetlinkWatch(NetlinkWatch&&) noexcept;
  NetlinkWatch& operator=(NetlinkWatch&&) noexcept;
  ~NetlinkWatch();

  // Readable when process() has something to do.
  int fd() const;
  // Takes in what has come, without blocking. Returns NetworkChange bits. If messages were
  // lost (ENOBUFS), everything is read again and all bits are set.
  Result<unsigned> process();

  const NetworkModel& model() const { return model_; }

 private:
  struct CloseSocket {
    void operator()(mnl_socket* socket) const;
  };
  NetlinkWatch() = default;
  Status read(std::span<const uint16_t> kinds, NetworkModel& into);
  Status read_all();
  Status reread(unsigned changes);

  std::unique_ptr<mnl_socket, CloseSocket> events_;
  NetworkModel model_;
};

}  // namespace maglane
