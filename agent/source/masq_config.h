// SPDX-License-Identifier: Apache-2.0
//
// The configuration of ip-masq-agent: who sees pods' own addresses. YAML or JSON, one mapping:
//
//   nonMasqueradeCIDRs: [10.0.0.0/8, ...]
//   masqLinkLocal: false        # true: 169.254.0.0/16 sees the node's address, too
//   masqLinkLocalIPv6: false    # the same of fe80::/10
//   resyncInterval: 60s         # accepted: the file is followed as it changes
//
// MasqFile follows such a file with inotify(7), also where kubelet exchanges what it links to:
//
//   epoll says fd() is readable  ->  on_readable(), then read() if that says so
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace maglane {

struct MasqConfig {
  std::vector<Cidr> not_masqueraded;
  bool link_local = false;
  bool link_local_ipv6 = false;
  bool operator==(const MasqConfig&) const = default;
};

// Errors begin with "NAME:LINE: ".
Result<MasqConfig> parse_masq_config(std::string_view text, const std::string& name);

class MasqFile {
 public:
  // Fails if the file's directory cannot be watched; the file itself may come later.
  static Result<std::unique_ptr<MasqFile>> open(const std::string& path);
  MasqFile(const MasqFile&) = delete;
  MasqFile& operator=(const MasqFile&) = delete;
  ~MasqFile();

  // Readable when something happened in the directory. Owned by this object.
  int fd() const { return inotify_; }
  // Takes what happened off fd(); never blocks. True if it may concern the file.
  bool on_readable();
  // What the file says now.
  Result<MasqConfig> read() const;

 private:
  explicit MasqFile(std::string path) : path_(std::move(path)) {}

  std::string path_;
  int inotify_ = -1;
};

}  // namespace maglane
