// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/bpffs.h"

#include <gtest/gtest.h>

namespace maglane {
namespace {

TEST(Bpffs, PathsFollowFromTheRoot) {
  Bpffs bpffs("/sys/fs/bpf/maglane//");
  EXPECT_EQ(bpffs.root(), "/sys/fs/bpf/maglane");
  EXPECT_EQ(bpffs.map("flows4"), "/sys/fs/bpf/maglane/maps/flows4");
  EXPECT_EQ(bpffs.link("eth0:xdp"), "/sys/fs/bpf/maglane/links/eth0:xdp");
}

TEST(Bpffs, RefusesAnotherFileSystem) {
  Bpffs bpffs("/tmp/maglane-no-bpffs");
  Status prepared = bpffs.prepare();
  ASSERT_FALSE(prepared.ok());
  EXPECT_NE(prepared.error().message.find("not on a BPF file system"), std::string::npos);
}

TEST(Bpffs, NothingThereIsNothingToLock) {
  Bpffs bpffs("/tmp/maglane-no-bpffs");
  auto locked = bpffs.lock();
  ASSERT_TRUE(locked.ok());
  EXPECT_FALSE(*locked);
}

}  // namespace
}  // namespace maglane
