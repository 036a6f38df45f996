// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/loader.h"

#include <bpf/bpf.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "agent/kernel/call.h"
#include "agent/kernel/carry_over.h"
#include "agent/kernel/unfinished_swap.h"
#include "tests/support/conformance.h"
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
  abi::node_state node_state() {
    abi::node_state state{};
    uint32_t zero = 0;
    EXPECT_EQ(bpf_map_lookup_elem(data_plane_->map("node_state"), &zero, &state), 0);
    return state;
  }
  Result<DataPlane> load(const DataPlaneOptions& options) { return DataPlane::load(*bpffs_, options); }
};

TEST_F(Loader, PinsMapsAndPrograms) {
  start();
  EXPECT_THAT(Bpffs::list(root_ + "/programs"),
              ElementsAre("adopt", "clock", "expire", "forget", "remove_flow", "sock_connect4", "sock_connect6",
                          "sock_getpeername4", "sock_getpeername6", "sock_recvmsg4", "sock_recvmsg6",
                          "sock_release", "sock_sendmsg4", "sock_sendmsg6", "tc_egress", "tc_pod", "tc_uplink",
                          "xdp_uplink"));
  EXPECT_THAT(Bpffs::list(root_ + "/maps"),
              UnorderedElementsAre("affinity", "backends", "counters", "devices", "egress_addresses", "flow_bits", "flows4", "flows6",
                                   "fragments", "frontends", "frontend_values", "gone_endpoints", "maglev", "masquerade_ranges", "node_state",
                                   "pod_namespaces", "port_shortages", "scratches", "service_counters", "services", "sockets", "source_ranges",
                                   "vip_bits"));
  const abi::node_state state = node_state();
  EXPECT_EQ(state.abi_version, unsigned{abi::MAGLANE_ABI_VERSION});
  EXPECT_EQ(state.epoch, 1U);
  EXPECT_EQ(state.seed.multiplier % 2, 1U);
}

TEST_F(Loader, TakesPinnedMapsUpAgain) {
  test::proves({31});
  start();
  uint32_t flows = map_id(data_plane_->map("flows4")), frontends = map_id(data_plane_->map("frontends"));
  start();
  EXPECT_EQ(map_id(data_plane_->map("flows4")), flows);
  EXPECT_EQ(map_id(data_plane_->map("frontends")), frontends);
  EXPECT_THAT(data_plane_->replaced_maps(), IsEmpty());
}

TEST_F(Loader, TheSeedStaysForAsLongAsTheTables) {
  start();
  const abi::table_seed seed = node_state().seed;
  start();
  const abi::table_seed again = node_state().seed;
  EXPECT_EQ(std::memcmp(&seed, &again, sizeof seed), 0);
}

TEST_F(Loader, TablesOfASeedThatIsGoneAreReplaced) {
  start();
  const abi::table_seed seed = node_state().seed;
  const uint32_t flows = pinned_id("flows4"), counters = pinned_id("counters");
  ::unlink(bpffs_->map("node_state").c_str());
  start();
  const abi::table_seed another = node_state().seed;
  EXPECT_NE(std::memcmp(&seed, &another, sizeof seed), 0);
  EXPECT_THAT(data_plane_->replaced_maps(),
              UnorderedElementsAre("flows4", "flows6", "frontends", "frontend_values", "services", "backends",
                                   "maglev", "vip_bits", "source_ranges", "affinity", "service_counters"));
  EXPECT_NE(pinned_id("flows4"), flows);
  EXPECT_EQ(pinned_id("counters"), counters);
  start();
  EXPECT_THAT(data_plane_->replaced_maps(), IsEmpty());
}

// 1024 flows are 34 buckets of 31.
TEST_F(Loader, FlowTablesAreWholeBuckets) {
  start();
  for (const char* name : {"flows4", "flows6"}) {
    bpf_map_info info{};
    uint32_t size = sizeof info;
    ASSERT_EQ(bpf_obj_get_info_by_fd(data_plane_->map(name), &info, &size), 0);
    EXPECT_EQ(info.max_entries, 34U);
  }
}

TEST_F(Loader, AnotherSizeReplacesThoseMaps) {
  start();
  uint32_t flows = pinned_id("flows4"), frontends = pinned_id("frontends");
  DataPlaneOptions options = idle_options();
  options.flow_entries = 2048;
  auto loaded = load(options);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_THAT(loaded->replaced_maps(), UnorderedElementsAre("flows4", "flows6"));
  EXPECT_NE(pinned_id("flows4"), flows);
  EXPECT_EQ(pinned_id("frontends"), frontends);
}

// The tables of the size before stay, until the flows in them have gone over.
TEST_F(Loader, TablesOfTheSizeBeforeArePinnedBesideTheNewOnes) {
  start();
  const uint32_t flows = pinned_id("flows4");
  DataPlaneOptions options = idle_options();
  options.flow_entries = 2048;
  ASSERT_TRUE(load(options).ok());
  EXPECT_THAT(bpffs_->retired_maps("flows4"), ElementsAre(bpffs_->retired_map("flows4", flows)));
  EXPECT_THAT(bpffs_->retired_maps("flows6"), testing::SizeIs(1));
  const uint32_t second = pinned_id("flows4");
  options.flow_entries = 4096;  // the agent in between died before they had
  ASSERT_TRUE(load(options).ok());
  EXPECT_THAT(bpffs_->retired_maps("flows4"),
              ElementsAre(bpffs_->retired_map("flows4", second), bpffs_->retired_map("flows4", flows)));
  auto carry = CarryOver::open(*bpffs_);
  ASSERT_TRUE(carry.ok()) << carry.error().message;
  EXPECT_TRUE(carry->needed());
  carry->finish();
  EXPECT_FALSE(carry->needed());
  EXPECT_THAT(bpffs_->retired_maps("flows4"), IsEmpty());
  EXPECT_THAT(bpffs_->retired_maps("flows6"), IsEmpty());
}

TEST_F(Loader, ProgramsKnowTheTableBeforeUntilTheyLetGoOfIt) {
  start();
  DataPlaneOptions options = small_options();
  options.flow_entries = 2048;
  const uint32_t flows = pinned_id("flows4");
  auto loaded = load(options);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  const uint32_t zero = 0;
  uint32_t inner = 0;
  ASSERT_EQ(bpf_map_lookup_elem(loaded->map("retired_flows4"), &zero, &inner), 0);
  EXPECT_EQ(inner, flows);
  loaded->let_go_of_retired();
  EXPECT_NE(bpf_map_lookup_elem(loaded->map("retired_flows4"), &zero, &inner), 0);
}

// The agent died before its programs were pinned: no hook has any of them.
TEST_F(Loader, NewTablesThatNoProgramUsesGiveTheOldOnesTheirPlaceBack) {
  start();
  const uint32_t flows = pinned_id("flows4"), flows6 = pinned_id("flows6");
  Fd before(bpf_obj_get(bpffs_->program("tc_pod").c_str()));
  DataPlaneOptions options = small_options();
  options.flow_entries = 2048;
  ASSERT_TRUE(load(options).ok());
  ASSERT_TRUE(Bpffs::pin(before.get(), bpffs_->program("tc_pod")).ok());
  ASSERT_TRUE(settle_unfinished_swap(*bpffs_).ok());
  EXPECT_EQ(pinned_id("flows4"), flows);
  EXPECT_EQ(pinned_id("flows6"), flows6);
  EXPECT_THAT(bpffs_->retired_maps("flows4"), IsEmpty());
}

TEST_F(Loader, NewTablesThatProgramsMayUseStay) {
  start();
  const uint32_t flows = pinned_id("flows4");
  DataPlaneOptions options = small_options();
  options.flow_entries = 2048;
  ASSERT_TRUE(load(options).ok());
  const uint32_t second = pinned_id("flows4");
  EXPECT_NE(second, flows);
  auto settled = settle_unfinished_swap(*bpffs_);
  ASSERT_TRUE(settled.ok()) << settled.error().message;
  EXPECT_EQ(pinned_id("flows4"), second);
  EXPECT_THAT(bpffs_->retired_maps("flows4"), IsEmpty());
  EXPECT_THAT(bpffs_->retired_maps("flows6"), IsEmpty());
}

TEST_F(Loader, MapsThatReferToEachOtherAreReplacedTogether) {
  start();
  uint32_t flows = pinned_id("flows4"), frontends = pinned_id("frontends");
  DataPlaneOptions options = idle_options();
  options.maglev_entries *= 2;
  auto loaded = load(options);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_THAT(loaded->replaced_maps(),
              UnorderedElementsAre("frontends", "frontend_values", "services", "backends", "maglev",
                                   "vip_bits", "source_ranges", "affinity", "service_counters"));
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
  auto loaded = load(idle_options());
  ASSERT_FALSE(loaded.ok());
  EXPECT_THAT(loaded.error().message, HasSubstr("--cleanup"));
  EXPECT_EQ(pinned_id("flows4"), flows);
}

// Each compilation unit of the object has a weak `config`; all programs must read the one
// that was set. With a family switched off, no program may do more than pass its packets on.
TEST_F(Loader, RunningProgramsSeeTheConstants) {
  start();
  abi::clock_call call{};
  Status called = call_program(data_plane_->program("clock"), call);
  ASSERT_TRUE(called.ok()) << called.error().message;
  EXPECT_EQ(call.hz, kernel_hz());
  EXPECT_EQ(call.slot_shift, slot_shift_for(kernel_hz()));
}

}  // namespace
}  // namespace maglane
