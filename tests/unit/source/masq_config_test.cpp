// SPDX-License-Identifier: Apache-2.0
#include "agent/source/masq_config.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace maglane {
namespace {

std::string problem(std::string_view text) {
  const auto config = parse_masq_config(text, "f");
  return config ? "" : config.error().message;
}

TEST(MasqConfig, WhatIpMasqAgentReads) {
  const auto yaml = parse_masq_config(
      "nonMasqueradeCIDRs:\n- 10.0.0.0/8\n- fd00::/8\nmasqLinkLocal: true\nmasqLinkLocalIPv6: true\nresyncInterval: 60s\n", "f");
  ASSERT_TRUE(yaml.ok()) << yaml.error().message;
  EXPECT_EQ(*yaml, (MasqConfig{{*Cidr::parse("10.0.0.0/8"), *Cidr::parse("fd00::/8")}, true, true}));
  const auto json = parse_masq_config(R"({"nonMasqueradeCIDRs": ["10.0.0.0/8"], "masqLinkLocal": false})", "f");
  ASSERT_TRUE(json.ok()) << json.error().message;
  EXPECT_EQ(*json, (MasqConfig{{*Cidr::parse("10.0.0.0/8")}, false, false}));
  EXPECT_EQ(*parse_masq_config("", "f"), MasqConfig{});
  const auto other = parse_masq_config("nonMasqueradeCIDRs:\nmasqLinkLocal: false\nmasqLinkLocalIPv6: true\ncidrLimit: 64\n", "f");
  ASSERT_TRUE(other.ok()) << other.error().message;
  EXPECT_EQ(*other, (MasqConfig{{}, false, true}));
  // An address inside stands for its range.
  const auto inside = parse_masq_config("nonMasqueradeCIDRs: [10.1.2.3/8]\n", "f");
  ASSERT_TRUE(inside.ok()) << inside.error().message;
  EXPECT_EQ(inside->not_masqueraded, std::vector{*Cidr::parse("10.0.0.0/8")});
}

TEST(MasqConfig, FaultsAreNamedWithTheirLine) {
  EXPECT_EQ(problem("nonMasqueradeCIDRs:\n- 10.0.0.0/8\n- 10.0.0.0/99\n").substr(0, 4), "f:3:");
  EXPECT_EQ(problem("masqLinkLocal: maybe\n"), "f:1: masqLinkLocal: is neither true nor false");
  EXPECT_EQ(problem("a: 1\n").substr(0, 15), "f:1: \"a\" is non");
  EXPECT_EQ(problem("masqLinkLocal: true\nmasqLinkLocal: true\n").substr(0, 4), "f:2:");
  EXPECT_EQ(problem("nonMasqueradeCIDRs: 10.0.0.0/8\n"), "f:1: nonMasqueradeCIDRs: is no list");
  EXPECT_EQ(problem("- 10.0.0.0/8\n").substr(0, 4), "f:1:");
  EXPECT_EQ(problem("nonMasqueradeCIDRs: [\n").substr(0, 2), "f:");
  EXPECT_EQ(problem("masqLinkLocal: true\n---\nmasqLinkLocal: false\n"), "f:3: a second document");
  EXPECT_EQ(problem("masqLinkLocal: \"true\"\n"), "f:1: masqLinkLocal: is neither true nor false");
}

class MasqFileTest : public testing::Test {
 protected:
  MasqFileTest() {
    char pattern[] = "/tmp/maglane-masq-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    path_ = directory_ + "/config";
  }
  ~MasqFileTest() override { std::filesystem::remove_all(directory_); }
  static void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  // Whether anything that concerns the file has happened.
  static bool told(MasqFile& file) {
    pollfd ready{file.fd(), POLLIN, 0};
    return ::poll(&ready, 1, 0) == 1 && file.on_readable();
  }

  std::string directory_, path_;
};

TEST_F(MasqFileTest, FollowsTheFileHoweverItIsReplaced) {
  write(path_, "masqLinkLocal: true\n");
  auto file = MasqFile::open(path_);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_TRUE((*file)->read()->link_local);
  EXPECT_FALSE(told(**file));
  write(directory_ + "/other", "x");
  EXPECT_FALSE(told(**file)) << "another file's business";
  write(path_, "masqLinkLocal: false\n");
  EXPECT_TRUE(told(**file));
  EXPECT_FALSE((*file)->read()->link_local);
  std::filesystem::rename(directory_ + "/other", path_);
  EXPECT_TRUE(told(**file));
  EXPECT_FALSE((*file)->read().ok());
  std::filesystem::remove(path_);
  EXPECT_TRUE(told(**file));
  EXPECT_FALSE((*file)->read().ok());
  const int made = ::creat(path_.c_str(), 0600);
  EXPECT_FALSE(told(**file)) << "not before its writer is done";
  ::close(made);
  EXPECT_TRUE(told(**file));
}

// As kubelet publishes a ConfigMap.
TEST_F(MasqFileTest, FollowsWhatALinkLeadsTo) {
  namespace fs = std::filesystem;
  fs::create_directory(directory_ + "/..1");
  fs::create_directory(directory_ + "/..2");
  write(directory_ + "/..1/config", "masqLinkLocal: true\n");
  write(directory_ + "/..2/config", "masqLinkLocal: false\n");
  fs::create_directory_symlink("..1", directory_ + "/..data");
  fs::create_symlink("..data/config", path_);
  auto file = MasqFile::open(path_);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->read()->link_local);
  fs::create_directory_symlink("..2", directory_ + "/..data_tmp");
  fs::rename(directory_ + "/..data_tmp", directory_ + "/..data");
  EXPECT_TRUE(told(**file));
  EXPECT_FALSE((*file)->read()->link_local);
}

TEST_F(MasqFileTest, WithoutADirectory) { EXPECT_FALSE(MasqFile::open(directory_ + "/none/config").ok()); }

}  // namespace
}  // namespace maglane
