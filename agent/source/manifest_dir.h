// SPDX-License-Identifier: Apache-2.0
//
// A directory of Kubernetes manifests as the source of the cluster model, followed with
// inotify(7). Read are *.yaml, *.yml and *.json directly in it, except names that begin
// with "."; what links lead to counts, and when "..data" is replaced, as kubelet does to
// publish a ConfigMap volume, everything is looked at again.
//
//   epoll says fd() is readable  ->  on_readable()
//   deadline() has passed        ->  read()
//
// A burst of changes is read once: when it has been quiet for a while, or after a while
// longer if it never is. What is bad is in the model's complaints until it is mended; the
// last good state of a file, or of the whole directory while that is gone, stays in force.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "agent/base/result.h"
#include "agent/source/manifest_set.h"
#include "agent/source/model.h"

namespace maglane {

class ManifestDir {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds kQuiet{50};     // of no change, ends a burst
  static constexpr std::chrono::milliseconds kLongest{500};  // a burst may last
  static constexpr std::chrono::milliseconds kRetry{1000};   // between looks for a directory that is gone

  // Fails if `path` is no directory that can be read. The first read() is due at once.
  static Result<ManifestDir> open(const std::string& path);
  ManifestDir(ManifestDir&& other) noexcept;
  ManifestDir& operator=(ManifestDir&& other) noexcept;
  ~ManifestDir();

  // Readable when something happened. Owned by this object.
  int fd() const { return inotify_; }
  // Takes what happened off fd(); never blocks. True if a read() is to follow.
  bool on_readable();
  // How long until read() is due; 0: now; nothing: not before fd() is readable.
  std::optional<std::chrono::milliseconds> deadline() const;
  // Has the next read() look at every file, as where a change may have gone unseen.
  void look_again() { rescan_ = true; }
  // Reads what changed. The model lives until the next read().
  const ClusterModel& read();
  // Whether a read() has seen the whole directory: before, the model is not what is wanted.
  bool listed() const { return listed_; }

 private:
  // What tells that a file was not touched since.
  struct Stamp {
    dev_t device = 0;
    ino_t inode = 0;
    off_t size = 0;
    timespec modified{}, changed{};
    bool operator==(const Stamp& other) const;
  };

  explicit ManifestDir(std::string path);
  Status start();
  Status watch();
  void note(Clock::time_point now);
  void handle(int watch, uint32_t mask, const std::string& name);
  void scan();
  void read_file(const std::string& name);

  std::string path_;
  int inotify_ = -1;
  int directory_watch_ = -1;
  int parent_watch_ = -1;  // of the directory's parent: tells that the directory is exchanged
  bool rewatch_ = true;
  bool rescan_ = true;
  bool listed_ = false;
  std::set<std::string> touched_;        // files with events since the last read
  std::map<std::string, Stamp> stamps_;  // files as they were read
  std::optional<Clock::time_point> first_event_, last_event_, retry_;
  ManifestSet set_;
};

// Whether a file of this name is read as a manifest.
bool is_manifest_name(const std::string& name);

}  // namespace maglane
