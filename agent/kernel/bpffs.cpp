// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/bpffs.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

namespace maglane {
namespace {

constexpr const char* kMountPoint = "/sys/fs/bpf";
constexpr const char* kDirectories[] = {"maps", "programs", "links"};

bool is_bpffs(const std::string& path) {
  struct statfs info;
  return ::statfs(path.c_str(), &info) == 0 && static_cast<uint32_t>(info.f_type) == BPF_FS_MAGIC;
}

// The part of `path` that exists.
std::string existing_ancestor(std::filesystem::path path) {
  std::error_code ignored;
  while (path.has_relative_path() && !std::filesystem::exists(path, ignored)) path = path.parent_path();
  return path.string();
}

Status ensure_mounted(const std::string& root) {
  if (is_bpffs(existing_ancestor(root))) return ok_status();
  bool below_mount_point = root.starts_with(std::string(kMountPoint) + "/");
  if (!below_mount_point) {
    return Error{
        fmt::format("{} is not on a BPF file system: use a directory below {}, or mount one there with "
                    "`mount -t bpf bpf DIRECTORY`",
                    root, kMountPoint)};
  }
  if (::mount("bpf", kMountPoint, "bpf", 0, "mode=0700") != 0) {
    return Error{fmt::format("cannot mount a BPF file system at {}: {}", kMountPoint, std::strerror(errno))};
  }
  return ok_status();
}

Status make_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return Error{fmt::format("cannot make the directory {}: {}", path, error.message())};
  return ok_status();
}

}  // namespace

std::string escape_device(std::string_view device) {
  std::string name;
  for (char c : device) {
    if (c == '.') {
      name += "%2e";
    } else if (c == '%') {
      name += "%25";
    } else {
      name += c;
    }
  }
  return name;
}

std::string unescape_device(std::string_view name) {
  std::string device;
  for (size_t i = 0; i < name.size(); ++i) {
    std::string_view rest = name.substr(i, 3);
    if (rest == "%2e" || rest == "%25") {
      device += rest == "%2e" ? '.' : '%';
      i += 2;
    } else {
      device += name[i];
    }
  }
  return device;
}

Bpffs::Bpffs(std::string root) : root_(std::move(root)) {
  while (root_.size() > 1 && root_.back() == '/') root_.pop_back();
}

Result<bool> Bpffs::lock() {
  int fd = ::open(root_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return false;
  if (fd < 0) return Error{fmt::format("cannot open {}: {}", root_, std::strerror(errno))};
  lock_ = std::shared_ptr<const int>(new int(fd), [](const int* held) {
    ::close(*held);
    delete held;
  });
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return Error{fmt::format(
        "another agent is using {}: stop it first, or give this one a --bpffs directory of its own", root_)};
  }
  return true;
}

Status Bpffs::prepare() {
  if (auto mounted = ensure_mounted(root_); !mounted) return mounted;
  if (root_.find('.', existing_ancestor(root_).size()) != std::string::npos) {
    return Error{fmt::format("{}: a BPF file system has no names with a dot in them, choose another", root_)};
  }
  for (const char* directory : kDirectories) {
    if (auto made = make_directory(root_ + "/" + directory); !made) return made;
  }
  auto locked = lock();
  if (!locked) return locked.error();
  remove_half_made();
  return ok_status();
}

void Bpffs::remove_half_made() {
  for (const char* directory : kDirectories) {
    for (const std::string& name : list(root_ + "/" + directory)) {
      if (name.ends_with('~')) ::unlink((root_ + "/" + directory + "/" + name).c_str());
    }
  }
}

Status Bpffs::pin(int fd, const std::string& path) {
  std::string temporary = path + "~";
  ::unlink(temporary.c_str());
  if (int error = bpf_obj_pin(fd, temporary.c_str()); error != 0) {
    return Error{fmt::format("cannot pin {}: {}", path, std::strerror(-error))};
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) {
    int error = errno;
    ::unlink(temporary.c_str());
    return Error{fmt::format("cannot pin {}: {}", path, std::strerror(error))};
  }
  return ok_status();
}

std::vector<std::string> Bpffs::list(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (std::filesystem::directory_iterator i(directory, ignored), end; i != end; i.increment(ignored)) {
    names.push_back(i->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string Bpffs::retired_map(std::string_view name, uint32_t id) const {
  return fmt::format("{}_old{}", map(name), id);
}

std::vector<std::string> Bpffs::retired_maps(std::string_view name) const {
  std::map<uint32_t, std::string, std::greater<>> by_id;
  const std::string prefix = fmt::format("{}_old", name);
  for (const std::string& entry : list(root_ + "/maps")) {
    uint32_t id = 0;
    const char* const end = entry.data() + entry.size();
    if (!entry.starts_with(prefix) || entry.size() == prefix.size()) continue;
    auto [stop, error] = std::from_chars(entry.data() + prefix.size(), end, id);
    if (error == std::errc() && stop == end) by_id.emplace(id, map(entry));
  }
  std::vector<std::string> paths;
  for (auto& [id, path] : by_id) paths.push_back(std::move(path));
  return paths;
}

Status Bpffs::remove_all() {
  for (const char* directory : kDirectories) {
    std::string path = root_ + "/" + directory;
    for (const std::string& name : list(path)) {
      std::string entry = path + "/" + name;
      struct stat info;
      bool is_directory = ::lstat(entry.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
      if ((is_directory ? ::rmdir(entry.c_str()) : ::unlink(entry.c_str())) != 0 && errno != ENOENT) {
        return Error{fmt::format("cannot remove {}: {}", entry, std::strerror(errno))};
      }
    }
    ::rmdir(path.c_str());
  }
  if (::rmdir(root_.c_str()) != 0 && errno != ENOENT) {
    return Error{fmt::format("cannot remove {}: {}", root_, std::strerror(errno))};
  }
  return ok_status();
}

}  // namespace maglane
