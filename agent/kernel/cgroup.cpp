// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/cgroup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <mntent.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace maglane {
namespace {

// Of the one root of all cgroups, in every kernel (kernfs numbers from 1 on).
constexpr uint64_t kRootId = 1;

// The directory's cgroup; 0 if it is not in cgroup2.
uint64_t cgroup_id(int fd) {
  struct statfs file_system;
  struct stat info;
  if (::fstatfs(fd, &file_system) != 0 || file_system.f_type != CGROUP2_SUPER_MAGIC) return 0;
  return ::fstat(fd, &info) == 0 ? info.st_ino : 0;
}

CgroupRoot find_mounted(const std::string& mounts) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(::setmntent(mounts.c_str(), "re"), ::endmntent);
  while (const mntent* entry = file ? ::getmntent(file.get()) : nullptr) {
    if (std::string_view(entry->mnt_type) != "cgroup2") continue;
    Fd fd(::open(entry->mnt_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.ok() && cgroup_id(fd.get()) == kRootId) return {std::move(fd), kRootId, entry->mnt_dir};
  }
  return {};
}

// A mount that is in no directory (fsmount(2)).
Fd mount_detached() {
  Fd context(::fsopen("cgroup2", FSOPEN_CLOEXEC));
  if (!context.ok() || ::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return Fd();
  Fd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  if (!mount.ok()) return Fd();
  return Fd(::openat(mount.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

Result<CgroupRoot> open_cgroup_root(const std::string& mounts) {
  if (CgroupRoot found = find_mounted(mounts); found.fd.ok()) return found;
  Fd fd = mount_detached();
  if (!fd.ok()) {
    return Error{fmt::format("cgroup2 is not mounted and cannot be: {}; `mount -t cgroup2 none DIRECTORY`",
                             std::strerror(errno))};
  }
  if (cgroup_id(fd.get()) != kRootId) {
    return Error{
        "the root of cgroup2 is not to be seen from this cgroup namespace: run the agent in the machine's own"};
  }
  return CgroupRoot{std::move(fd), kRootId, ""};
}

}  // namespace maglane
