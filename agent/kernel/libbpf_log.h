// SPDX-License-Identifier: Apache-2.0
//
// libbpf speaks to stderr; this keeps what it says of failures for error messages instead.
#pragma once

#include <string>

namespace maglane {

// Collects libbpf's messages of level warning while it lives. One at a time.
class LibbpfLog {
 public:
  LibbpfLog();
  ~LibbpfLog();
  LibbpfLog(const LibbpfLog&) = delete;
  LibbpfLog& operator=(const LibbpfLog&) = delete;

  // The last `lines` lines, without the verifier's summary of what it processed.
  std::string tail(unsigned lines) const;

 private:
  void* previous_;
};

}  // namespace maglane
