// SPDX-License-Identifier: Apache-2.0
#include "agent/source/manifest_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace maglane {
namespace {

// Not IN_MODIFY: a file is read when its writer is done with it.
constexpr uint32_t kDirectoryEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |
                                      IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr uint32_t kParentEvents =
    IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR | IN_MASK_CREATE;

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }

 private:
  int fd_;
};

// Up to `limit` bytes and one more, which tells that there are too many.
Result<std::string> read_all(int fd, size_t limit) {
  std::string text;
  for (;;) {
    const size_t old = text.size();
    text.resize(old + std::min<size_t>(size_t{1} << 16, limit + 1 - old));
    const ssize_t got = ::read(fd, text.data() + old, text.size() - old);
    if (got < 0 && errno == EINTR) {
      text.resize(old);
      continue;
    }
    if (got < 0) return Error{fmt::format("cannot be read: {}", std::strerror(errno))};
    text.resize(old + static_cast<size_t>(got));
    if (got == 0 || text.size() > limit) return text;
  }
}

bool ends_with_any(const std::string& name) {
  return name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string last_part(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

}  // namespace

bool is_manifest_name(const std::string& name) {
  return !name.starts_with('.') && ends_with_any(name);
}

bool ManifestDir::Stamp::operator==(const Stamp& other) const {
  return device == other.device && inode == other.inode && size == other.size &&
         modified.tv_sec == other.modified.tv_sec && modified.tv_nsec == other.modified.tv_nsec &&
         changed.tv_sec == other.changed.tv_sec && changed.tv_nsec == other.changed.tv_nsec;
}

ManifestDir::ManifestDir(std::string path) : path_(std::move(path)) {
  while (path_.size() > 1 && path_.back() == '/') path_.pop_back();
}

ManifestDir::ManifestDir(ManifestDir&& other) noexcept : path_(std::move(other.path_)) {
  *this = std::move(other);
}

ManifestDir& ManifestDir::operator=(ManifestDir&& other) noexcept {
  if (this == &other) return *this;
  if (inotify_ >= 0) ::close(inotify_);
  inotify_ = std::exchange(other.inotify_, -1);
  if (!other.path_.empty()) path_ = std::move(other.path_);
  directory_watch_ = other.directory_watch_;
  parent_watch_ = other.parent_watch_;
  rewatch_ = other.rewatch_;
  rescan_ = other.rescan_;
  listed_ = other.listed_;
  touched_ = std::move(other.touched_);
  stamps_ = std::move(other.stamps_);
  first_event_ = other.first_event_;
  last_event_ = other.last_event_;
  retry_ = other.retry_;
  set_ = std::move(other.set_);
  return *this;
}

ManifestDir::~ManifestDir() {
  if (inotify_ >= 0) ::close(inotify_);
}

Result<ManifestDir> ManifestDir::open(const std::string& path) {
  ManifestDir directory(path);
  if (auto started = directory.start(); !started) return started.error();
  return directory;
}

Status ManifestDir::start() {
  inotify_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (inotify_ < 0) return Error{fmt::format("cannot watch {}: inotify: {}", path_, std::strerror(errno))};
  if (auto watched = watch(); !watched) return watched;
  // Due at once, without the wait that ends a burst.
  first_event_ = last_event_ = Clock::now() - kLongest;
  return ok_status();
}

// Before anything is listed, so that no change falls between.
Status ManifestDir::watch() {
  if (directory_watch_ >= 0) inotify_rm_watch(inotify_, directory_watch_);
  if (parent_watch_ >= 0) inotify_rm_watch(inotify_, parent_watch_);
  directory_watch_ = inotify_add_watch(inotify_, path_.c_str(), kDirectoryEvents);
  if (directory_watch_ < 0) {
    parent_watch_ = -1;
    if (errno == ENOSPC)
      return Error{fmt::format(
          "cannot watch {}: too many inotify watches (raise fs.inotify.max_user_watches)", path_)};
    return Error{fmt::format("cannot read directory {}: {}", path_, std::strerror(errno))};
  }
  // Fails where the parent is unreadable or (IN_MASK_CREATE) the directory itself, as with
  // "/": then only what happens within the directory is seen.
  parent_watch_ = inotify_add_watch(inotify_, parent_of(path_).c_str(), kParentEvents);
  rewatch_ = false;
  rescan_ = true;
  retry_.reset();
  return ok_status();
}

void ManifestDir::note(Clock::time_point now) {
  if (!first_event_) first_event_ = now;
  last_event_ = now;
}

bool ManifestDir::on_readable() {
  alignas(inotify_event) char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(inotify_, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      handle(event->wd, event->mask, event->len > 0 ? std::string(event->name) : std::string());
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
  return first_event_.has_value();
}

void ManifestDir::handle(int watch, uint32_t mask, const std::string& name) {
  const auto now = Clock::now();
  if ((mask & IN_Q_OVERFLOW) != 0) {
    rewatch_ = true;
    return note(now);
  }
  if (watch == parent_watch_) {
    if (name != last_part(path_)) return;
    rewatch_ = true;
    return note(now);
  }
  if (watch != directory_watch_) return;
  if ((mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)) != 0) {
    rewatch_ = true;
    return note(now);
  }
  if (name.starts_with("..")) {
    rescan_ = true;
    return note(now);
  }
  if (!is_manifest_name(name)) return;
  if ((mask & IN_CREATE) != 0) {
    // A new regular file is read when its writer closes it; a new link has no writer.
    struct stat info {};
    if (lstat((path_ + "/" + name).c_str(), &info) != 0 || (S_ISREG(info.st_mode) && info.st_nlink < 2))
      return;
  }
  touched_.insert(name);
  note(now);
}

std::optional<std::chrono::milliseconds> ManifestDir::deadline() const {
  std::optional<Clock::time_point> due = retry_;
  if (first_event_) {
    const auto settled = std::min(*last_event_ + kQuiet, *first_event_ + kLongest);
    due = due ? std::min(*due, settled) : settled;
  }
  if (!due) return std::nullopt;
  return std::max(std::chrono::ceil<std::chrono::milliseconds>(*due - Clock::now()),
                  std::chrono::milliseconds(0));
}

const ClusterModel& ManifestDir::read() {
  first_event_.reset();
  last_event_.reset();
  if (rewatch_) {
    if (auto watched = watch(); !watched) {
      rewatch_ = true;
      retry_ = Clock::now() + kRetry;
      return set_.model({{path_, watched.error().message + "; its last good state stays in force"}});
    }
  }
  if (rescan_) scan();
  const std::set<std::string> names = std::exchange(touched_, {});
  // Files that exist go first, so that an object that moved between files never is absent.
  std::vector<std::string> gone;
  for (const std::string& name : names) {
    if (access((path_ + "/" + name).c_str(), F_OK) != 0 && errno != EACCES)
      gone.push_back(name);
    else
      read_file(name);
  }
  for (const std::string& name : gone) read_file(name);
  return set_.model();
}

// Adds to `touched_` what is not as it was when it was read.
void ManifestDir::scan() {
  rescan_ = false;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path_.c_str()), closedir);
  if (directory == nullptr) {
    rewatch_ = true;  // gone between; the next read reports it
    retry_ = Clock::now();
    return;
  }
  std::set<std::string> present;
  while (const dirent* entry = readdir(directory.get()))
    if (is_manifest_name(entry->d_name)) present.insert(entry->d_name);
  for (const std::string& name : present) {
    struct stat info {};
    const auto known = stamps_.find(name);
    if (known != stamps_.end() && stat((path_ + "/" + name).c_str(), &info) == 0 &&
        known->second == Stamp{info.st_dev, info.st_ino, info.st_size, info.st_mtim, info.st_ctim})
      continue;
    touched_.insert(name);
  }
  for (const auto& [name, stamp] : stamps_)
    if (!present.contains(name)) touched_.insert(name);
  listed_ = true;
}

void ManifestDir::read_file(const std::string& name) {
  const std::string path = path_ + "/" + name;
  const auto keep = [&](std::string why) {
    stamps_[name] = {};
    set_.keep(path, {path, std::move(why) + "; its last good state stays in force"});
  };
  const auto remove = [&] {
    stamps_.erase(name);
    set_.remove(path);
  };
  // O_NONBLOCK: opening a pipe must not wait for its writer.
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd() < 0) {
    if (errno == ENOENT || errno == ENOTDIR) return remove();
    return keep(fmt::format("cannot be opened: {}", std::strerror(errno)));
  }
  struct stat info {};
  if (fstat(file.fd(), &info) != 0) return keep(fmt::format("cannot be read: {}", std::strerror(errno)));
  if (S_ISDIR(info.st_mode)) return remove();
  if (!S_ISREG(info.st_mode)) return keep("not a regular file");
  const auto text = read_all(file.fd(), kMaxManifestBytes);
  if (!text) return keep(text.error().message);
  stamps_[name] = Stamp{info.st_dev, info.st_ino, info.st_size, info.st_mtim, info.st_ctim};
  set_.put(path, decode_manifest(*text, path));
}

}  // namespace maglane
