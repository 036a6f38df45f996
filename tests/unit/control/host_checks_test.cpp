// SPDX-License-Identifier: Apache-2.0
#include "agent/host_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace maglane {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class HostChecks : public testing::Test {
 protected:
  HostChecks() {
    char pattern[] = "/tmp/maglane-proc-XXXXXX";
    proc_ = ::mkdtemp(pattern);
    put("/sys/net/ipv4/ip_forward", "1");
    put("/sys/net/ipv6/conf/all/forwarding", "1");
    put("/sys/net/ipv4/ip_local_port_range", "32768\t60999");
    config_.snat_ports = DataPlaneOptions{}.snat_ports;
  }
  ~HostChecks() override { std::filesystem::remove_all(proc_); }

  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(proc_ + path).parent_path());
    std::ofstream(proc_ + path) << text << "\n";
  }
  std::vector<Complaint> check(const DataPlaneOptions& options = {}) {
    return check_host(config_, options, proc_);
  }

  std::string proc_;
  Config config_;
};

TEST_F(HostChecks, AllIsWell) {
  EXPECT_THAT(check(), IsEmpty());
}

TEST_F(HostChecks, ForwardingThatIsOff) {
  put("/sys/net/ipv4/ip_forward", "0");
  put("/sys/net/ipv6/conf/all/forwarding", "0");
  auto complaints = check();
  ASSERT_EQ(complaints.size(), 2U);
  EXPECT_THAT(complaints[0].message, HasSubstr("sysctl -w net.ipv4.ip_forward=1"));
  EXPECT_THAT(complaints[1].message, HasSubstr("sysctl -w net.ipv6.conf.all.forwarding=1"));
  DataPlaneOptions ipv4_only;
  ipv4_only.ipv6 = false;
  EXPECT_EQ(check(ipv4_only).size(), 1U);
}

TEST_F(HostChecks, PortsOfTheMachinesOwnConnections) {
  put("/sys/net/ipv4/ip_local_port_range", "10000 60999");
  auto complaints = check();
  ASSERT_EQ(complaints.size(), 1U);
  EXPECT_THAT(complaints[0].message, HasSubstr("1024-29999 overlaps the ports 10000-60999"));
}

TEST_F(HostChecks, PortsOfNodePorts) {
  config_.node_port_range = {20000, 21000};
  auto complaints = check();
  ASSERT_EQ(complaints.size(), 1U);
  EXPECT_THAT(complaints[0].message, HasSubstr("1024-29999 overlaps the node ports 20000-21000"));
}

TEST_F(HostChecks, FamiliesFollowFromTheServiceCidrs) {
  EXPECT_TRUE(data_plane_options(config_).ipv4);
  config_.service_cidrs = {*Cidr::parse("10.96.0.0/12")};
  EXPECT_TRUE(data_plane_options(config_).ipv4);
  EXPECT_FALSE(data_plane_options(config_).ipv6);
  config_.service_cidrs = {*Cidr::parse("fd00::/112")};
  EXPECT_FALSE(data_plane_options(config_).ipv4);
}

}  // namespace
}  // namespace maglane
