// SPDX-License-Identifier: Apache-2.0
//
// What this kernel's verifier has to go through for each program, and how the programs are
// attached here. The figures are properties of the tests' results (--gtest_output=xml), from
// which the table of kernels is written.
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/utsname.h>

#include "tests/unit/kernel/sandbox.h"

namespace maglane {
namespace {

// BPF_COMPLEXITY_LIMIT_INSNS in the kernel's include/linux/bpf.h, the same since Linux 5.2.
constexpr uint32_t kVerifierLimit = 1'000'000;

class Verifier : public Sandbox {
 protected:
  // Nothing is a constant that would spare the verifier a branch: all the CIDRs that there is room for, of
  // both families in turn, and every way to tell a pod.
  static DataPlaneOptions everything() {
    DataPlaneOptions options = small_options();
    options.masquerade_all = false;
    options.network_model = MasqueradeModel::azure_cni;
    options.socket_translation = SocketTranslation::all;
    options.pods_by = uint32_t{abi::PODS_BY_DEVICE} | abi::PODS_BY_CLUSTER_CIDR | abi::PODS_BY_NODE_CIDR;
    for (int i = 0; i < abi::MAX_POD_CIDRS / 2; ++i)
      for (const std::string& cidr : {fmt::format("10.{}.0.0/16", i), fmt::format("fd00:10:{}::/48", i)})
        options.pod_cidrs.push_back(*Cidr::parse(cidr));
    for (int i = 0; i < abi::MAX_SERVICE_CIDRS / 2; ++i)
      for (const std::string& cidr : {fmt::format("10.9{}.0.0/16", i), fmt::format("fd00:20:{}::/112", i)})
        options.service_cidrs.push_back(*Cidr::parse(cidr));
    return options;
  }
};

// A program that needs more leaves no room for the next feature, or for another kernel's verifier. Not
// the one, either, that still looks into a table of another size.
TEST_F(Verifier, EveryProgramNeedsLessThanAQuarterOfTheLimit) {
  Bpffs bpffs(root_);
  ASSERT_TRUE(bpffs.prepare().ok());
  DataPlaneOptions options = everything();
  ASSERT_TRUE(DataPlane::load(bpffs, options).ok());
  options.flow_entries *= 2;
  auto loaded = DataPlane::load(bpffs, options);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  ASSERT_THAT(bpffs.retired_maps("flows4"), testing::SizeIs(1));
  utsname system;
  ASSERT_EQ(::uname(&system), 0);
  RecordProperty("release", system.release);
  for (const std::string& name : Bpffs::list(root_ + "/programs")) {
    bpf_prog_info info{};
    uint32_t size = sizeof info;
    ASSERT_EQ(bpf_obj_get_info_by_fd(loaded->program(name), &info, &size), 0) << name;
    ASSERT_NE(info.verified_insns, 0U) << name;
    RecordProperty("program." + name, fmt::format("{}", info.verified_insns));
    EXPECT_LE(info.verified_insns, kVerifierLimit / 4) << name;
  }
}

TEST_F(Verifier, AttachesInTheModesOfThisKernel) {
  WantedDevice up0{add_veth("up0"), "up0", Role::uplink}, pod0{add_veth("pod0"), "pod0", Role::pod};
  start_options_ = everything();
  start();
  auto attacher = start();
  ASSERT_TRUE(attacher->attach({up0, pod0}, true).ok());
  ASSERT_FALSE(attacher->attachments().empty());
  for (const Attachment& attachment : attacher->attachments()) {
    RecordProperty("attached." + std::string(to_string(attachment.hook)), attachment.mode);
    EXPECT_NE(attachment.mode, "none") << attachment.device << ": " << attachment.note;
  }
}

}  // namespace
}  // namespace maglane
