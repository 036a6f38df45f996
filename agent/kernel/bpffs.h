// SPDX-License-Identifier: Apache-2.0
//
// The directory in bpffs that holds all that one agent keeps in the kernel:
//   maps/<map>  programs/<program>  links/<device>:<hook>
// bpffs refuses names with a dot, so a device name is escaped ('.' and '%' as %2e and %25).
// A name that ends in '~' is a pin in the making: whoever finds one may remove it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace maglane {

class Bpffs {
 public:
  // `root`: for example /sys/fs/bpf/maglane. Touches nothing.
  explicit Bpffs(std::string root);

  // Makes the directories, mounting a bpffs at /sys/fs/bpf if `root` is below that and none
  // is there, and takes the lock that keeps a second agent away from the same directory.
  Status prepare();
  // The lock alone; false if `root` does not exist. Fails while an agent holds it.
  Result<bool> lock();

  const std::string& root() const { return root_; }
  std::string map(std::string_view name) const { return root_ + "/maps/" + std::string(name); }
  // A map of that name that another has taken the place of; `id` is the kernel's, of the map.
  std::string retired_map(std::string_view name, uint32_t id) const;
  // Those that there are, the youngest first.
  std::vector<std::string> retired_maps(std::string_view name) const;
  std::string program(std::string_view name) const { return root_ + "/programs/" + std::string(name); }
  std::string link(std::string_view name) const { return root_ + "/links/" + std::string(name); }

  // Pins `fd` at `path`, atomically replacing what was pinned there.
  static Status pin(int fd, const std::string& path);
  // Names in a directory, sorted; empty if there is none.
  static std::vector<std::string> list(const std::string& directory);
  // Removes pins, empty directories and `root`; leaves what it does not know.
  Status remove_all();

 private:
  void remove_half_made();

  std::string root_;
  std::shared_ptr<const int> lock_;  // closes the descriptor, and with it frees the lock
};

// "eth0.100" <-> "eth0%2e100".
std::string escape_device(std::string_view device);
std::string unescape_device(std::string_view name);

}  // namespace maglane
