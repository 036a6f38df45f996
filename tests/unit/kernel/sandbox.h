// SPDX-License-Identifier: Apache-2.0
//
// A network namespace and a bpffs directory of a test's own. Needs root.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/kernel/attach.h"
#include "agent/kernel/fd.h"

namespace maglane {

class Sandbox : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Runs a shell command in the namespace; a failure fails the test.
  void run(const std::string& command);
  std::string output(const std::string& command);
  // "ip link add NAME type veth peer name NAMEp", both up. Returns NAME's ifindex.
  uint32_t add_veth(const std::string& name);

  // As a starting agent does it, with start_options_.
  std::unique_ptr<Attacher> start(XdpPolicy policy = XdpPolicy::automatic);
  // What programs at tc are attached by: "tcx" or "clsact". REQUIRES: start().
  std::string tc_mode() const { return std::string(to_string(tc_in_use_)); }
  // Whether the kernel has tcx, whatever is in use. REQUIRES: start().
  bool has_tcx() const { return probe_tc_kind(*data_plane_) == TcKind::tcx; }
  // Whether nothing is attached at tc ingress, in either way.
  bool tc_is_empty(uint32_t ifindex) const;
  uint32_t tcx_count(uint32_t ifindex) const;  // programs at ingress
  // The id of the link pinned under `pin`; 0 if there is none.
  uint32_t link_id(const std::string& pin) const;
  uint32_t link_program(const std::string& pin) const;
  // "native", "generic" or "none": what is on the device, whoever put it there.
  std::string xdp_on(uint32_t ifindex) const;

  static DataPlaneOptions small_options();
  // The same for programs that only pass their packets on, which the verifier is soon through with.
  static DataPlaneOptions idle_options();

  DataPlaneOptions start_options_ = idle_options();
  std::string root_;
  std::unique_ptr<Bpffs> bpffs_;  // holds the lock
  std::shared_ptr<const DataPlane> data_plane_;
  std::optional<TcKind> tc_;  // forced by the test; else what a probe finds
  TcKind tc_in_use_ = TcKind::clsact;
};

// For a test that is about links at tc. REQUIRES: start().
#define MAGLANE_NEED_TCX() \
  if (!has_tcx()) GTEST_SKIP() << "no tcx on this kernel: bpf_link_create refused the attach type"

// An XDP program of nobody's that passes everything.
Fd load_foreign_xdp();

}  // namespace maglane
