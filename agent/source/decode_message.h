// SPDX-License-Identifier: Apache-2.0
//
// From a YAML tree to a protobuf message, driven by the message's descriptor: fields go by
// their json_name. Types are held as strictly as Kubernetes' own API does: a quoted scalar
// is a string, a plain one is what it looks like. Fields that the message lacks are skipped.
#pragma once

#include <google/protobuf/message.h>

#include "agent/source/field_problem.h"
#include "agent/source/yaml_tree.h"

namespace maglane {

// Fills `message`; appends what did not fit, each with its line, and goes on.
void decode_message(const YamlNode& node, google::protobuf::Message& message, FieldProblems& problems);

// The line of the field that a path names, or of what lies nearest around it.
int line_of(const YamlNode& root, const std::string& path);

}  // namespace maglane
