// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/loader.h"

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

class Loader : public Sandbox {
 protected:
  static uint32_t map_id(int fd) {
    bpf_map_info info{};
    uint32_t size = sizeof info;
    return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.id : 0;
  }
  uint32_t pinned_id(const std::string& name) {
    Fd fd(bpf_obj_get(bpffs_->map(name).c_str()));
    return map_id(fd.get());
  }
  Result<DataPlane> load(const DataPlaneOptions& options) { return DataPlane::load(*bpffs_, options); }
};

TEST_F(Loader, PinsMapsAndPrograms) {
  start();
  EXPECT_THAT(Bpffs::list(root_ + "/programs"),
              ElementsAre("clock", "expire", "tc_pod", "tc_uplink", "xdp_uplink"));
  EXPECT_THAT(Bpffs::list(root_ + "/maps"),
              UnorderedElementsAre("backends", "counters", "devices", "expiry_result", "flows4", "flows6",
                                   "frontends", "maglev", "node_state", "services", "vip_bits"));
  abi::node_state state{};
  uint32_t zero = 0;
  ASSERT_EQ(bpf_map_lookup_elem(data_plane_->map("node_state"), &zero, &state), 0);
  EXPECT_EQ(state.abi_version, unsigned{abi::MAGLANE_ABI_VERSION});
  EXPECT_EQ(state.epoch, 1U);
}

TEST_F(Loader, TakesPinnedMapsUpAgain) {
  start();
  uint32_t flows = map_id(data_plane_->map("flows4")), frontends = map_id(data_plane_->map("frontends"));
  start();
  EXPECT_EQ(map_id(data_plane_->map("flows4")), flows);
  EXPECT_EQ(map_id(data_plane_->map("frontends")), frontends);
  EXPECT_THAT(data_plane_->replaced_maps(), IsEmpty());
}

TEST_F(Loader, AnotherSizeReplacesThoseMaps) {
  start();
  uint32_t flows = pinned_id("flows4"), frontends = pinned_id("frontends");
  DataPlaneOptions options = small_options();
  options.flow_entries = 2048;
  auto loaded = load(options);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_THAT(loaded->replaced_maps(), UnorderedElementsAre("flows4", "flows6"));
  EXPECT_NE(pinned_id("flows4"), flows);
  EXPECT_EQ(pinned_id("frontends"), frontends);
}

TEST_F(Loader, MapsThatReferToEachOtherAreReplacedTogether) {
  start();
  uint32_t flows = pinned_id("flows4"), frontends = pinned_id("frontends");
  DataPlaneOptions options = small_options();
  options.maglev_entries *= 2;
  auto loaded = load(options);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_THAT(loaded->replaced_maps(),
              UnorderedElementsAre("frontends", "services", "backends", "maglev", "vip_bits"));
  EXPECT_EQ(pinned_id("flows4"), flows);
  EXPECT_NE(pinned_id("frontends"), frontends);
}

TEST_F(Loader, AnotherAbiIsAClearError) {
  start();
  uint32_t flows = pinned_id("flows4");
  abi::node_state state{};
  state.abi_version = abi::MAGLANE_ABI_VERSION + 1;
  uint32_t zero = 0;
  ASSERT_EQ(bpf_map_update_elem(data_plane_->map("node_state"), &zero, &state, BPF_ANY), 0);
  auto loaded = load(small_options());
  ASSERT_FALSE(loaded.ok());
  EXPECT_THAT(loaded.error().message, HasSubstr("--cleanup"));
  EXPECT_EQ(pinned_id("flows4"), flows);
}

// Each compilation unit of the object has a weak `config`; all programs must read the one
// that was set. With a family switched off, no program may do more than pass its packets on.
TEST_F(Loader, RunningProgramsSeeTheConstants) {
  start();
  abi::expiry_result result{};
  uint32_t zero = 0;
  char packet[64] = {};
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof packet, .repeat = 1);
  ASSERT_EQ(bpf_prog_test_run_opts(data_plane_->program("clock"), &options), 0);
  ASSERT_EQ(bpf_map_lookup_elem(data_plane_->map("expiry_result"), &zero, &result), 0);
  EXPECT_EQ(result.hz, kernel_hz());
  EXPECT_EQ(result.slot_shift, slot_shift_for(kernel_hz()));
}

}  // namespace
}  // namespace maglane
