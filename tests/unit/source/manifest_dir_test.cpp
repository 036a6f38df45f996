// SPDX-License-Identifier: Apache-2.0
#include "agent/source/manifest_dir.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

namespace maglane {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string service(const std::string& name, const std::string& cluster_ip) {
  return fmt::format(
      "{{apiVersion: v1, kind: Service, metadata: {{name: {}}}, spec: {{clusterIP: {}}}}}\n---\n", name,
      cluster_ip);
}

class ManifestDirTest : public ::testing::Test {
 protected:
  ManifestDirTest() {
    std::string pattern = fs::temp_directory_path() / "maglane-manifests-XXXXXX";
    base_ = mkdtemp(pattern.data());
    path_ = base_ / "manifests";
    fs::create_directory(path_);
  }
  ~ManifestDirTest() override { fs::remove_all(base_); }

  void open(const fs::path& path) {
    auto opened = ManifestDir::open(path);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    directory_.emplace(std::move(*opened));
    EXPECT_EQ(directory_->deadline(), milliseconds(0));
    model_ = directory_->read();
  }
  void open() { open(path_); }

  // A relative path is in the directory that is watched.
  void write(const fs::path& path, const std::string& text) const { std::ofstream(path_ / path) << text; }

  // Serves the directory as the agent's loop does, until a read or the time is up.
  bool await_read(milliseconds limit = milliseconds(3000)) {
    const auto end = ManifestDir::Clock::now() + limit;
    for (;;) {
      const auto now = ManifestDir::Clock::now();
      if (now >= end) return false;
      const auto left = std::chrono::ceil<milliseconds>(end - now);
      const auto due = directory_->deadline();
      if (due == milliseconds(0)) {
        model_ = directory_->read();
        return true;
      }
      pollfd ready{directory_->fd(), POLLIN, 0};
      poll(&ready, 1, static_cast<int>(std::min(due.value_or(left), left).count()));
      if (ready.revents != 0) directory_->on_readable();
    }
  }
  bool stays_quiet() { return !await_read(milliseconds(150)); }

  std::string ip(const std::string& name) const {
    const auto found = model_.services.find({"default", name});
    return found == model_.services.end() ? "" : found->second->spec().cluster_ip();
  }
  std::vector<std::string> complaints() const {
    std::vector<std::string> lines;
    for (const auto& complaint : model_.complaints)
      lines.push_back(complaint.where + ": " + complaint.message);
    return lines;
  }

  fs::path base_, path_;
  std::optional<ManifestDir> directory_;
  ClusterModel model_;
};

TEST_F(ManifestDirTest, OnlyADirectoryCanBeOpened) {
  EXPECT_EQ(ManifestDir::open(base_ / "none").error().message,
            fmt::format("cannot read directory {}/none: No such file or directory", base_.string()));
  write("file", "");
  EXPECT_EQ(ManifestDir::open(path_ / "file").error().message,
            fmt::format("cannot read directory {}/file: Not a directory", path_.string()));
}

TEST_F(ManifestDirTest, ReadsWhatIsThere) {
  write("a.yaml", service("a", "10.0.0.1"));
  write("b.yml", service("b", "10.0.0.2"));
  write("c.json", R"({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "c"}})");
  write(".hidden.yaml", service("hidden", "10.0.0.9"));
  write("d.yaml~", service("backup", "10.0.0.9"));
  write("e.yaml.bak", service("backup", "10.0.0.9"));
  fs::create_directory(path_ / "f.yaml");
  open(path_.string() + "/");
  EXPECT_EQ(model_.services.size(), 3U);
  EXPECT_THAT(complaints(), IsEmpty());
  EXPECT_EQ(directory_->deadline(), std::nullopt);
  EXPECT_TRUE(stays_quiet());
}

TEST_F(ManifestDirTest, FollowsFilesWrittenInPlace) {
  write("a.yaml", service("a", "10.0.0.1"));
  write("b.yaml", service("b", "10.0.0.2"));
  open();
  const auto b = model_.services.at({"default", "b"});
  write("a.yaml", service("a", "10.0.0.3"));
  write("new.yaml", service("new", "10.0.0.4"));
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.3");
  EXPECT_EQ(ip("new"), "10.0.0.4");
  EXPECT_EQ(model_.services.at({"default", "b"}), b);
}

TEST_F(ManifestDirTest, ReadsAFileWhenItsWriterIsDone) {
  write("a.yaml", service("a", "10.0.0.1"));
  open();
  {
    std::ofstream half(path_ / "a.yaml");
    half << "{apiVersion: v1, kind: Serv" << std::flush;
    EXPECT_TRUE(stays_quiet());
    half << "ice, metadata: {name: a}, spec: {clusterIP: 10.0.0.2}}" << std::flush;
  }
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.2");
}

TEST_F(ManifestDirTest, FollowsFilesRenamedOver) {
  write("a.yaml", service("a", "10.0.0.1"));
  open();
  write(".a.yaml.swp", service("a", "10.0.0.2"));
  fs::rename(path_ / ".a.yaml.swp", path_ / "a.yaml");
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.2");
}

TEST_F(ManifestDirTest, FollowsDeletionAndRenaming) {
  write("a.yaml", service("a", "10.0.0.1"));
  write("b.yaml", service("b", "10.0.0.2"));
  open();
  const auto b = model_.services.at({"default", "b"});
  fs::remove(path_ / "a.yaml");
  fs::rename(path_ / "b.yaml", path_ / "c.yaml");
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "");
  EXPECT_EQ(model_.services.at({"default", "b"}), b);
  fs::rename(path_ / "c.yaml", path_ / "c.yaml.off");
  ASSERT_TRUE(await_read());
  EXPECT_TRUE(model_.services.empty());
}

TEST_F(ManifestDirTest, FollowsLinks) {
  write(base_ / "elsewhere.yaml", service("a", "10.0.0.1"));
  open();
  fs::create_symlink(base_ / "elsewhere.yaml", path_ / "a.yaml");
  fs::create_hard_link(base_ / "elsewhere.yaml", path_ / "b.yaml");
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.1");
  EXPECT_EQ(model_.complaints.size(), 1U);  // in two files
}

TEST_F(ManifestDirTest, FollowsAConfigMapVolume) {
  // As kubelet writes it: files are links through ..data, which is replaced by a rename.
  const auto publish = [&](const std::string& version, const std::vector<std::string>& names,
                           const std::string& text) {
    fs::create_directory(path_ / version);
    for (const auto& name : names) write(path_ / version / name, text);
    fs::create_symlink(version, path_ / "..data_tmp");
    fs::rename(path_ / "..data_tmp", path_ / "..data");
  };
  publish("..1", {"a.yaml"}, service("a", "10.0.0.1"));
  fs::create_symlink("..data/a.yaml", path_ / "a.yaml");
  open();
  EXPECT_EQ(ip("a"), "10.0.0.1");
  publish("..2", {"a.yaml"}, service("a", "10.0.0.2"));
  fs::remove_all(path_ / "..1");
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.2");
  EXPECT_THAT(complaints(), IsEmpty());
}

TEST_F(ManifestDirTest, CoalescesABurst) {
  open();
  const auto begin = ManifestDir::Clock::now();
  for (int i = 0; i < 20; ++i) {
    write(fmt::format("{}.yaml", i), service(fmt::format("s{}", i), "10.0.0.1"));
    EXPECT_TRUE(directory_->on_readable());
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_NE(directory_->deadline(), std::nullopt);
  ASSERT_TRUE(await_read());
  EXPECT_GE(ManifestDir::Clock::now() - begin, ManifestDir::kQuiet);
  EXPECT_EQ(model_.services.size(), 20U);
  EXPECT_TRUE(stays_quiet());
}

TEST_F(ManifestDirTest, ABurstThatNeverEndsIsReadAllTheSame) {
  open();
  const auto begin = ManifestDir::Clock::now();
  auto last = begin;
  bool paused = false;  // a busy machine may not let this test write often enough
  while (directory_->deadline() != milliseconds(0)) {
    write("a.yaml", service("a", "10.0.0.1"));
    directory_->on_readable();
    std::this_thread::sleep_for(milliseconds(5));
    const auto now = ManifestDir::Clock::now();
    paused = paused || now - last >= ManifestDir::kQuiet;
    last = now;
    ASSERT_LT(now - begin, milliseconds(5000));
  }
  EXPECT_TRUE(paused || ManifestDir::Clock::now() - begin >= ManifestDir::kLongest);
}

TEST_F(ManifestDirTest, ABadFileKeepsItsLastGoodStateUntilMended) {
  write("a.yaml", service("a", "10.0.0.1"));
  write("b.yaml", service("b", "10.0.0.2"));
  open();
  write("a.yaml", "kind: [\n");
  write("b.yaml", service("b", "10.0.0.3"));
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.1");
  EXPECT_EQ(ip("b"), "10.0.0.3");
  EXPECT_THAT(complaints(), ElementsAre(HasSubstr("manifests/a.yaml:2: not YAML: ")));
  // The complaint stands while the file is bad, whatever else happens.
  write("b.yaml", service("b", "10.0.0.4"));
  ASSERT_TRUE(await_read());
  EXPECT_EQ(model_.complaints.size(), 1U);
  write("a.yaml", service("a", "10.0.0.5"));
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.5");
  EXPECT_THAT(complaints(), IsEmpty());
}

TEST_F(ManifestDirTest, WhatIsNoRegularFileIsReported) {
  open();
  ASSERT_EQ(mkfifo((path_ / "pipe.yaml").c_str(), 0600), 0);
  ASSERT_TRUE(await_read());
  EXPECT_THAT(complaints(), ElementsAre(HasSubstr("pipe.yaml: not a regular file")));
  fs::remove(path_ / "pipe.yaml");
  ASSERT_TRUE(await_read());
  EXPECT_THAT(complaints(), IsEmpty());
}

TEST_F(ManifestDirTest, TheDirectoryMayGoAndComeBack) {
  write("a.yaml", service("a", "10.0.0.1"));
  write("b.yaml", service("b", "10.0.0.2"));
  open();
  const auto a = model_.services.at({"default", "a"});
  fs::remove_all(path_);
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.1");
  EXPECT_THAT(complaints(),
              ElementsAre(HasSubstr("No such file or directory; its last good state stays in force")));
  fs::create_directory(path_);
  write("a.yaml", service("a", "10.0.0.1"));
  ASSERT_TRUE(await_read());
  EXPECT_THAT(complaints(), IsEmpty());
  EXPECT_EQ(model_.services.at({"default", "a"}), a);
  EXPECT_EQ(ip("b"), "");
  // It is followed again.
  write("c.yaml", service("c", "10.0.0.3"));
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("c"), "10.0.0.3");
}

TEST_F(ManifestDirTest, TheDirectoryMayBeExchanged) {
  write("a.yaml", service("a", "10.0.0.1"));
  open();
  fs::create_directory(base_ / "next");
  write(base_ / "next" / "a.yaml", service("a", "10.0.0.2"));
  fs::rename(path_, base_ / "old");
  fs::rename(base_ / "next", path_);
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.2");
  write(base_ / "old" / "a.yaml", service("a", "10.0.0.3"));
  EXPECT_TRUE(stays_quiet());
}

TEST_F(ManifestDirTest, TheDirectoryMayBeALinkThatIsExchanged) {
  for (const char* name : {"1", "2"}) {
    fs::create_directory(base_ / name);
    write(base_ / name / "a.yaml", service("a", fmt::format("10.0.0.{}", name)));
  }
  fs::create_symlink("1", base_ / "link");
  open(base_ / "link");
  EXPECT_EQ(ip("a"), "10.0.0.1");
  fs::create_symlink("2", base_ / "link2");
  fs::rename(base_ / "link2", base_ / "link");
  ASSERT_TRUE(await_read());
  EXPECT_EQ(ip("a"), "10.0.0.2");
}

}  // namespace
}  // namespace maglane
