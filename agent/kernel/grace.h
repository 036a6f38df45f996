// SPDX-License-Identifier: Apache-2.0
//
// Waiting until no BPF program that was running can still be reading what has been unlinked.
#pragma once

namespace maglane {

// Returns after every BPF program that was running at the call has ended. Takes from below
// 1 ms to some 50 ms.
void wait_grace_period();

}  // namespace maglane
