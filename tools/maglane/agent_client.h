// SPDX-License-Identifier: Apache-2.0
//
// The inspector's end of the agent's control API.
#pragma once

#include <string>

#include "agent/base/result.h"
#include "proto/inspect.pb.h"

namespace maglane::cli {

// The status of the agent that listens on the Unix socket `socket`. With wait_seconds, waits
// that long for the agent to come up and to have its first full update in the kernel;
// `synced` tells whether it has. Fails where nobody answers.
Result<v1::Status> ask_agent(const std::string& socket, double wait_seconds);

}  // namespace maglane::cli
