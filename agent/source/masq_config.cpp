// SPDX-License-Identifier: Apache-2.0
#include "agent/source/masq_config.h"

#include <fmt/format.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "agent/base/quote.h"
#include "agent/source/yaml_tree.h"

namespace maglane {
namespace {

// Not IN_MODIFY: a file is read when its writer is done with it.
constexpr uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR;

class Reader {
 public:
  explicit Reader(std::string name) : name_(std::move(name)) {}

  Result<MasqConfig> read(std::string_view text) {
    if (const auto bad = find_bad_character(text)) return at(bad->line, bad->message);
    Status status = ok_status();
    bool found = false;
    const auto failure = parse_yaml(text, [&](const YamlNode& root) {
      if (status && found) status = at(root.line, "a second document");
      found = true;
      if (status) status = take_root(root);
    });
    if (failure) return at(failure->line, failure->message);
    if (!status) return status.error();
    return config_;
  }

 private:
  Error at(int line, const std::string& message) const {
    return Error{line == 0 ? fmt::format("{}: {}", name_, message) : fmt::format("{}:{}: {}", name_, line, message)};
  }

  Status take_root(const YamlNode& root) {
    if (root.type == YamlNode::Type::null) return ok_status();
    if (root.type != YamlNode::Type::mapping) return at(root.line, "expected nonMasqueradeCIDRs and the like");
    std::set<std::string> seen;
    for (size_t i = 0; i + 1 < root.children.size(); i += 2) {
      const YamlNode& key = *root.children[i];
      if (!seen.insert(key.text).second) return at(key.line, key.text + ": given twice");
      if (auto s = take(key, *root.children[i + 1]); !s) return s;
    }
    return ok_status();
  }

  Status take(const YamlNode& key, const YamlNode& value) {
    if (key.text == "nonMasqueradeCIDRs") return take_cidrs(value);
    if (key.text == "masqLinkLocal") return take_bool(key, value, config_.link_local);
    if (key.text == "masqLinkLocalIPv6") return take_bool(key, value, config_.link_local_ipv6);
    // Of how ip-masq-agent itself works.
    if (key.text == "resyncInterval" || key.text == "cidrLimit") return ok_status();
    return at(key.line, fmt::format("{} is none of nonMasqueradeCIDRs, masqLinkLocal, masqLinkLocalIPv6, resyncInterval",
                                    in_quotes(key.text)));
  }

  Status take_bool(const YamlNode& key, const YamlNode& value, bool& out) {
    if (value.type != YamlNode::Type::plain || (value.text != "true" && value.text != "false"))
      return at(value.line ? value.line : key.line, key.text + ": is neither true nor false");
    out = value.text == "true";
    return ok_status();
  }

  Status take_cidrs(const YamlNode& list) {
    if (list.type == YamlNode::Type::null) return ok_status();
    if (list.type != YamlNode::Type::sequence) return at(list.line, "nonMasqueradeCIDRs: is no list");
    for (const YamlNode* item : list.children) {
      const auto cidr = item->is_scalar() ? Cidr::parse(item->text, true) : Result<Cidr>(Error{"is no CIDR"});
      if (!cidr) return at(item->line, "nonMasqueradeCIDRs: " + cidr.error().message);
      config_.not_masqueraded.push_back(*cidr);
    }
    return ok_status();
  }

  const std::string name_;
  MasqConfig config_;
};

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Result<MasqConfig> parse_masq_config(std::string_view text, const std::string& name) {
  return Reader(name).read(text);
}

Result<std::unique_ptr<MasqFile>> MasqFile::open(const std::string& path) {
  std::unique_ptr<MasqFile> file(new MasqFile(path));
  file->inotify_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  const std::string directory = directory_of(path);
  if (file->inotify_ < 0 || ::inotify_add_watch(file->inotify_, directory.c_str(), kEvents) < 0)
    return Error{fmt::format("cannot watch {}: {}", directory, std::strerror(errno))};
  return file;
}

MasqFile::~MasqFile() {
  if (inotify_ >= 0) ::close(inotify_);
}

bool MasqFile::on_readable() {
  alignas(inotify_event) char buffer[4096];
  const std::string name = path_.substr(path_.rfind('/') + 1);
  bool concerned = false;
  for (;;) {
    const ssize_t got = ::read(inotify_, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return concerned;
    for (ssize_t at = 0; at < got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer + at);
      const std::string what = event->len > 0 ? event->name : "";
      // "..data" is what kubelet exchanges to publish a ConfigMap. A file that is made is read when
      // its writer closes it.
      concerned |= (event->mask & IN_Q_OVERFLOW) != 0 || what.starts_with("..") ||
                   (what == name && (event->mask & IN_CREATE) == 0);
      at += static_cast<ssize_t>(sizeof *event + event->len);
    }
  }
}

Result<MasqConfig> MasqFile::read() const {
  std::ifstream file(path_);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (!file) return Error{fmt::format("{}: cannot be read: {}", path_, std::strerror(errno))};
  return parse_masq_config(text.str(), path_);
}

}  // namespace maglane
