// SPDX-License-Identifier: Apache-2.0
//
// Arbitrary bytes as requests of the control API, against a board in memory. The first byte
// selects the call and the agent's state, the rest is the serialized request.
#include <google/protobuf/util/json_util.h>

#include <cstdint>
#include <cstdlib>

#include "agent/control/handlers.h"

namespace maglane {
namespace {

enum : uint8_t { kResync = 1, kSynced = 2, kMapsFail = 4, kShutDown = 8 };

// A reply must be one that the inspector can print.
void check(bool condition) {
  if (!condition) std::abort();
}

void fuzz_status(const ControlHandlers& handlers, const std::string& bytes, uint8_t state) {
  v1::GetStatusRequest request;
  if (!request.ParseFromString(bytes)) return;
  v1::Status reply;
  // Nobody waits an hour for the answer to a fuzzer: the caller has gone away.
  auto refusal = handlers.get_status(
      request, [] { return true; }, &reply);
  bool in_range = request.wait_seconds() >= 0 && request.wait_seconds() <= 3600;
  check(refusal.has_value() == !in_range);
  if (refusal) {
    check(refusal->bad_request && !refusal->message.empty());
    return;
  }
  check(reply.agent_running() && reply.synced() == ((state & kSynced) != 0));
  check(reply.problems_size() == ((state & kMapsFail) != 0 ? 1 : 0));
  std::string json;
  check(google::protobuf::util::MessageToJsonString(reply, &json).ok());
}

void fuzz_resync(const ControlHandlers& handlers, const std::string& bytes) {
  v1::ResyncRequest request;
  if (!request.ParseFromString(bytes)) return;
  v1::ResyncReply reply;
  auto refusal = handlers.resync(
      request, [] { return true; }, &reply);
  check(refusal && !refusal->bad_request);
}

}  // namespace
}  // namespace maglane

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace maglane;
  if (size == 0) return 0;
  uint8_t state = data[0];
  std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  StatusBoard board;
  if (state & kSynced) board.set_synced();
  if (state & kShutDown) board.shut_down();
  ResyncQueue resyncs;
  ControlHandlers handlers(board, resyncs, [&]() -> Result<v1::Status> {
    if (state & kMapsFail) return Error{"no maps"};
    return v1::Status();
  });
  if (state & kResync) {
    fuzz_resync(handlers, bytes);
  } else {
    fuzz_status(handlers, bytes, state);
  }
  return 0;
}
