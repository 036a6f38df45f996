// SPDX-License-Identifier: Apache-2.0
//
// A change to the kernel's maps as a value: computed by diff, printed, then applied by
// kernel/. The order in which diff yields operations keeps the data plane consistent after
// every prefix of them: services and backends, then tables, then VIP bits, then frontends;
// removal in reverse. Source ranges come before the frontends that heed them, and go
// after them; flows are forgotten last, when no packet makes any of the kind.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "bpf/abi.h"

namespace maglane {

struct PutService { uint32_t id; abi::service_info info; };
struct PutBackend { uint32_t id; abi::backend backend; };
// Entries of map "maglev" from `offset` on; whole lines, the last one padded with 0.
struct WriteTable { uint32_t offset; std::shared_ptr<const std::vector<uint32_t>> backend_ids; };
struct SetVipBit { uint32_t bit; bool value; };
struct PutFrontend { abi::frontend_key key; abi::frontend frontend; };
struct DeleteFrontend { abi::frontend_key key; };
struct PutSourceRange { abi::source_range_key key; };
struct DeleteSourceRange { abi::source_range_key key; };
struct DeleteBackend { uint32_t id; };
struct DeleteService { uint32_t id; };
// Removes the flows of UDP that lead to an endpoint of a service.
struct ForgetEndpoint { abi::service_endpoint endpoint; };

using Operation = std::variant<PutService, PutBackend, WriteTable, SetVipBit, PutFrontend, DeleteFrontend,
                               PutSourceRange,
                               DeleteSourceRange, DeleteBackend, DeleteService, ForgetEndpoint>;

std::string to_string(const Operation& operation);

}  // namespace maglane
