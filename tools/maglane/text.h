// SPDX-License-Identifier: Apache-2.0
//
// Text for people, from the messages that --json prints. Whole lines; wording and columns
// may change from version to version, the messages do not.
#pragma once

#include <functional>
#include <string>

#include "proto/inspect.pb.h"
#include "tools/maglane/table.h"

namespace maglane::cli {

std::string to_text(const v1::Status& status);
std::string to_text(const v1::ServiceList& list);
std::string to_text(const v1::BackendList& list);
std::string to_text(const v1::SocketList& list);
std::string to_text(const v1::AffinityList& list);
std::string to_text(const v1::FlowCount& count);
std::string to_text(const v1::FlowFlushResult& result);
std::string to_text(const v1::MaglevInfo& info);
std::string to_text(const v1::MasqueradeInfo& info);
std::string to_text(const v1::Stats& stats);

// `service show`: each service with its frontends and endpoints.
std::string to_long_text(const v1::ServiceList& list);

// The columns of `flow list` and a flow's cells in them.
Table flow_table(std::function<void(const std::string&)> sink);
std::vector<std::string> flow_cells(const v1::Flow& flow);

}  // namespace maglane::cli
