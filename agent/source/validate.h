// SPDX-License-Identifier: Apache-2.0
//
// Which objects a service proxy can make sense of. Every source holds what it reads
// against these rules once, so that later stages rely on well-formed values: names that are
// DNS names, addresses that parse and are of the family they are said to be, ports within
// 1 to 65535, words out of the known ones. The rules are those of the Kubernetes API server
// for the same fields; in addition no service address may be one that is not a host's own.
#pragma once

#include "agent/source/field_problem.h"
#include "proto/snapshot.pb.h"

namespace maglane {

// Each appends what is wrong; nothing appended: the object is well-formed. REQUIRES: a
// namespace, where the kind has one, is set (to "default" at least).
void validate(const v1::Service& service, FieldProblems& problems);
void validate(const v1::EndpointSlice& slice, FieldProblems& problems);
void validate(const v1::Node& node, FieldProblems& problems);

}  // namespace maglane
