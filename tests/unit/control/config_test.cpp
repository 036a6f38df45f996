// SPDX-License-Identifier: Apache-2.0
#include "agent/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "agent/host_checks.h"

namespace maglane {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ConfigTest : public testing::Test {
 protected:
  ConfigTest() {
    ::unsetenv("MAGLANE_BPFFS");
    ::unsetenv("MAGLANE_SOCKET");
    char pattern[] = "/tmp/maglane-config-XXXXXX";
    directory_ = ::mkdtemp(pattern);
  }
  ~ConfigTest() override { std::filesystem::remove_all(directory_); }

  // "--config FILE", the file holding `text`.
  std::vector<std::string> with_file(const std::string& text, std::vector<std::string> arguments = {}) {
    std::string path = directory_ + "/agent.yaml";
    std::ofstream(path) << text;
    arguments.insert(arguments.end(), {"--config", path});
    return arguments;
  }
  static Config good(std::vector<std::string> arguments) {
    CommandLine line = parse_command_line(arguments);
    EXPECT_FALSE(line.exit_code) << line.text;
    return line.config;
  }
  // The one line that it ends with.
  static std::string bad(std::vector<std::string> arguments) {
    CommandLine line = parse_command_line(arguments);
    EXPECT_EQ(line.exit_code, 2);
    EXPECT_THAT(line.text, testing::StartsWith("maglane-agent: "));
    EXPECT_EQ(line.text.find('\n'), line.text.size() - 1) << line.text;
    return line.text;
  }
  static std::string bad_flag(const std::string& flag, const std::string& value) {
    return bad({"--manifests", "/m", flag, value});
  }

  std::string directory_;
};

TEST_F(ConfigTest, Defaults) {
  Config config = good({"--manifests", "/m"});
  EXPECT_FALSE(config.node_name.empty());
  EXPECT_EQ(config.bpffs, "/sys/fs/bpf/maglane");
  EXPECT_EQ(config.socket, "/run/maglane/agent.sock");
  EXPECT_EQ(config.xdp, XdpPolicy::automatic);
  EXPECT_EQ(config.socket_translation, SocketTranslation::host);
  EXPECT_FALSE(config.masquerade_all);
  EXPECT_FALSE(config.cleanup);
  EXPECT_EQ(config.flow_table_size, 524288U);
  EXPECT_EQ(config.maglev_entries, 16777216U);
  EXPECT_EQ(config.network_model, MasqueradeModel::none);
  EXPECT_EQ(config.snat_ports, default_snat_ports({30000, 32767}));
}

TEST_F(ConfigTest, EveryFlag) {
  Config config = good({"--node-name",
                        "n",
                        "--manifests",
                        "/m",
                        "--uplink",
                        "eth0",
                        "--uplink",
                        "eth1",
                        "--pod-device",
                        "veth*",
                        "--pod-cidr",
                        "10.1.0.0/16",
                        "--pod-cidr",
                        "fd00:1::/48",
                        "--service-cidr",
                        "10.96.0.0/12",
                        "--service-cidr",
                        "fd00:2::/112",
                        "--node-port-addresses",
                        "192.0.2.0/24",
                        "--masquerade-all",
                        "--network-model",
                        "none",
                        "--xdp",
                        "generic",
                        "--socket-translation",
                        "all",
                        "--bpffs",
                        "/sys/fs/bpf/x",
                        "--socket",
                        "/run/x.sock",
                        "--flow-table-size",
                        "4096",
                        "--maglev-entries",
                        "131072",
                        "--snat-ports",
                        "2000-2999",
                        "--log-level",
                        "debug"});
  EXPECT_EQ(config.node_name, "n");
  EXPECT_EQ(config.manifests, "/m");
  EXPECT_THAT(config.uplinks, ElementsAre("eth0", "eth1"));
  EXPECT_THAT(config.pod_devices, ElementsAre("veth*"));
  EXPECT_THAT(config.pod_cidrs, ElementsAre(*Cidr::parse("10.1.0.0/16"), *Cidr::parse("fd00:1::/48")));
  EXPECT_THAT(config.service_cidrs, ElementsAre(*Cidr::parse("10.96.0.0/12"), *Cidr::parse("fd00:2::/112")));
  EXPECT_THAT(config.node_port_addresses, ElementsAre(*Cidr::parse("192.0.2.0/24")));
  EXPECT_TRUE(config.masquerade_all);
  EXPECT_EQ(config.xdp, XdpPolicy::generic);
  EXPECT_EQ(config.socket_translation, SocketTranslation::all);
  EXPECT_EQ(config.bpffs, "/sys/fs/bpf/x");
  EXPECT_EQ(config.socket, "/run/x.sock");
  EXPECT_EQ(config.flow_table_size, 4096U);
  EXPECT_EQ(config.maglev_entries, 131072U);
  EXPECT_THAT(config.snat_ports, ElementsAre(PortRange{2000, 2999}));
  EXPECT_EQ(config.log_level, "debug");
}

TEST_F(ConfigTest, TimeoutsAreThoseOfNetfilterAndOfKubeProxy) {
  const Config config = good({"--manifests", "/m"});
  EXPECT_EQ(config.timeout_seconds.tcp_syn_sent, 120U);
  EXPECT_EQ(config.timeout_seconds.tcp_syn_recv, 60U);
  EXPECT_EQ(config.timeout_seconds.tcp_established, 86400U);
  EXPECT_EQ(config.timeout_seconds.tcp_fin_wait, 120U);
  EXPECT_EQ(config.timeout_seconds.tcp_close_wait, 3600U);
  EXPECT_EQ(config.timeout_seconds.tcp_last_ack, 30U);
  EXPECT_EQ(config.timeout_seconds.tcp_time_wait, 120U);
  EXPECT_EQ(config.timeout_seconds.tcp_close, 10U);
  EXPECT_EQ(config.timeout_seconds.udp, 30U);
  EXPECT_EQ(config.timeout_seconds.udp_stream, 120U);
  EXPECT_EQ(config.timeout_seconds.icmp, 30U);
  EXPECT_EQ(config.timeout_seconds.sctp_established, 210U);
  EXPECT_EQ(data_plane_options(config).timeout_seconds.tcp_close_wait, 3600U);
}

TEST_F(ConfigTest, EachTimeoutIsAnOption) {
  for (const TimeoutOption& option : kTimeouts) {
    const Config config = good({"--manifests", "/m", std::string("--") + option.name, "1h1m1s"});
    EXPECT_EQ(config.timeout_seconds.*option.member, 3661U) << option.name;
    abi::timeouts others = config.timeout_seconds;
    others.*option.member = option.seconds;
    const abi::timeouts defaults = default_timeout_seconds();
    EXPECT_EQ(std::memcmp(&others, &defaults, sizeof others), 0) << option.name;
    EXPECT_EQ(data_plane_options(config).timeout_seconds.*option.member, 3661U);
  }
  // Defaults are alike here and there, so that only the names tell which is which.
  using T = abi::timeouts;
  const std::map<std::string, uint32_t T::*> named = {
      {"tcp-timeout-syn-sent", &T::tcp_syn_sent}, {"tcp-timeout-syn-recv", &T::tcp_syn_recv},
      {"tcp-timeout-established", &T::tcp_established}, {"tcp-timeout-fin-wait", &T::tcp_fin_wait},
      {"tcp-timeout-close-wait", &T::tcp_close_wait}, {"tcp-timeout-last-ack", &T::tcp_last_ack},
      {"tcp-timeout-time-wait", &T::tcp_time_wait}, {"tcp-timeout-close", &T::tcp_close},
      {"tcp-timeout-unacknowledged", &T::tcp_unacknowledged}, {"udp-timeout", &T::udp},
      {"udp-timeout-stream", &T::udp_stream}, {"icmp-timeout", &T::icmp},
      {"sctp-timeout-cookie-wait", &T::sctp_cookie_wait}, {"sctp-timeout-established", &T::sctp_established},
      {"sctp-timeout-shutdown", &T::sctp_shutdown}, {"sctp-timeout-closed", &T::sctp_closed},
      {"sctp-timeout-heartbeat-sent", &T::sctp_heartbeat_sent}};
  EXPECT_EQ(named.size(), kTimeouts.size());
  for (const auto& [name, member] : named)
    EXPECT_EQ(good({"--manifests", "/m", "--" + name, "1h1m1s"}).timeout_seconds.*member, 3661U) << name;
  EXPECT_THAT(bad_flag("--udp-timeout", "soon"), HasSubstr("--udp-timeout: \"soon\" is no time"));
  EXPECT_THAT(bad_flag("--udp-timeout", "0"), HasSubstr("--udp-timeout: \"0\" is not from 1s to 720h"));
  EXPECT_THAT(bad_flag("--udp-timeout", "721h"), HasSubstr("--udp-timeout: "));
}

TEST_F(ConfigTest, WhatTheDataPlaneIsTold) {
  const Config config = good({"--manifests", "/m", "--network-model", "azure-cni", "--vnet-cidr", "10.0.0.0/8",
                              "--node-port-range", "20000-21000", "--pod-detection", "node-cidr",
                              "--affinity-entries", "2048"});
  EXPECT_EQ(config.snat_ports, default_snat_ports({20000, 21000}));
  const DataPlaneOptions options = data_plane_options(config);
  EXPECT_EQ(options.network_model, MasqueradeModel::azure_cni);
  EXPECT_EQ(options.snat_ports, config.snat_ports);
  EXPECT_EQ(options.pods_by, unsigned{abi::PODS_BY_NODE_CIDR});
  EXPECT_EQ(options.affinity_entries, 2048U);
}

TEST_F(ConfigTest, Point18_WhoIsAPod) {
  EXPECT_EQ(good({"--manifests", "/m"}).pods_by, unsigned{abi::PODS_BY_DEVICE | abi::PODS_BY_CLUSTER_CIDR});
  const auto by = [](const char* how) { return good({"--manifests", "/m", "--pod-detection", how}).pods_by; };
  EXPECT_EQ(by("cluster-cidr"), unsigned{abi::PODS_BY_CLUSTER_CIDR});
  EXPECT_EQ(by("node-cidr"), unsigned{abi::PODS_BY_NODE_CIDR});
  EXPECT_EQ(by("interface"), unsigned{abi::PODS_BY_DEVICE});
  EXPECT_EQ(by("auto"), unsigned{abi::PODS_BY_DEVICE | abi::PODS_BY_CLUSTER_CIDR});
  EXPECT_EQ(bad_flag("--pod-detection", "bridge"),
            "maglane-agent: --pod-detection: \"bridge\" is none of auto, cluster-cidr, node-cidr, interface; see "
            "`maglane-agent --help`\n");
  EXPECT_EQ(good({"--manifests", "/m", "--affinity-entries", "2048"}).affinity_entries, 2048U);
}

TEST_F(ConfigTest, EveryKeyOfTheFile) {
  Config config = good(with_file(R"(
node-name: n
manifests: /m
uplink: [eth0, eth1]
pod-device: veth*
pod-cidr:
  - 10.1.0.0/16
  - fd00:1::/48
service-cidr: 10.96.0.0/12
node-port-addresses: [192.0.2.0/24]
masquerade-all: true
network-model: none
xdp: "off"
bpffs: /sys/fs/bpf/x
socket: /run/x.sock
flow-table-size: 4096
maglev-entries: 131072
snat-ports: 2000-2999
log-level: warn
)"));
  EXPECT_EQ(config.node_name, "n");
  EXPECT_EQ(config.manifests, "/m");
  EXPECT_THAT(config.uplinks, ElementsAre("eth0", "eth1"));
  EXPECT_THAT(config.pod_devices, ElementsAre("veth*"));
  EXPECT_EQ(config.pod_cidrs.size(), 2U);
  EXPECT_EQ(config.service_cidrs.size(), 1U);
  EXPECT_EQ(config.node_port_addresses.size(), 1U);
  EXPECT_TRUE(config.masquerade_all);
  EXPECT_EQ(config.xdp, XdpPolicy::off);
  EXPECT_EQ(config.bpffs, "/sys/fs/bpf/x");
  EXPECT_EQ(config.socket, "/run/x.sock");
  EXPECT_EQ(config.flow_table_size, 4096U);
  EXPECT_EQ(config.maglev_entries, 131072U);
  EXPECT_THAT(config.snat_ports, ElementsAre(PortRange{2000, 2999}));
  EXPECT_EQ(config.log_level, "warn");
}

TEST_F(ConfigTest, AFlagWinsOverTheFileOverTheEnvironment) {
  ::setenv("MAGLANE_BPFFS", "/sys/fs/bpf/environment", 1);
  ::setenv("MAGLANE_SOCKET", "/run/environment.sock", 1);
  Config config =
      good(with_file("manifests: /file\nuplink: eth0\nsocket: /run/file.sock\nmasquerade-all: true\n",
                     {"--manifests", "/flag", "--uplink", "eth7", "--masquerade-all=false"}));
  EXPECT_EQ(config.manifests, "/flag");
  EXPECT_THAT(config.uplinks, ElementsAre("eth7"));
  EXPECT_FALSE(config.masquerade_all);
  EXPECT_EQ(config.socket, "/run/file.sock");
  EXPECT_EQ(config.bpffs, "/sys/fs/bpf/environment");
}

TEST_F(ConfigTest, HelpAndVersionAreNoErrors) {
  CommandLine help = parse_command_line({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.text, HasSubstr("--pod-device PATTERN"));
  EXPECT_THAT(help.text, testing::Not(HasSubstr("kubeconfig")));
  EXPECT_EQ(parse_command_line({"--version"}).exit_code, 0);
}

TEST_F(ConfigTest, CleanupNeedsNoManifests) {
  EXPECT_TRUE(good({"--cleanup"}).cleanup);
}

TEST_F(ConfigTest, WrongFlags) {
  EXPECT_THAT(bad({}), HasSubstr("--manifests DIR is missing"));
  EXPECT_THAT(bad({"--manifest", "/m"}), HasSubstr("there is no flag \"--manifest\""));
  EXPECT_THAT(bad({"--manifests", "/m", "extra"}), HasSubstr("there is no argument \"extra\""));
  EXPECT_THAT(bad({"--manifests"}), HasSubstr("--manifests"));
  EXPECT_THAT(bad({"--manifests", "/m", "--manifests", "/n"}),
              HasSubstr("--manifests: given more than once"));
}

TEST_F(ConfigTest, WrongValues) {
  EXPECT_THAT(bad_flag("--socket-translation", "pods"),
              HasSubstr("--socket-translation: \"pods\" is none of host, all, off"));
  EXPECT_THAT(bad_flag("--xdp", "fast"), HasSubstr("--xdp: \"fast\" is none of auto, native, generic, off"));
  EXPECT_THAT(bad_flag("--pod-cidr", "10.1.0.0/33"), HasSubstr("--pod-cidr: "));
  EXPECT_THAT(bad_flag("--service-cidr", "x"), HasSubstr("--service-cidr: "));
  EXPECT_THAT(bad({"--manifests", "/m", "--service-cidr", "10.0.0.0/8", "--service-cidr", "11.0.0.0/8"}),
              HasSubstr("--service-cidr: given twice for IPv4"));
  EXPECT_THAT(bad_flag("--node-port-addresses", "300.0.0.0/8"), HasSubstr("--node-port-addresses: "));
  EXPECT_THAT(bad_flag("--uplink", "a/b"), HasSubstr("--uplink: \"a/b\" is no device's name"));
  EXPECT_THAT(bad_flag("--pod-device", ""), HasSubstr("--pod-device: "));
  EXPECT_THAT(bad_flag("--node-name", ""), HasSubstr("--node-name: is empty"));
  EXPECT_THAT(bad_flag("--bpffs", "relative"), HasSubstr("--bpffs: \"relative\" is no absolute path"));
  EXPECT_THAT(bad_flag("--socket", "relative"), HasSubstr("--socket: \"relative\" is no absolute path"));
  EXPECT_THAT(bad_flag("--flow-table-size", "12"),
              HasSubstr("--flow-table-size: \"12\" is no number from 1024"));
  EXPECT_THAT(bad_flag("--flow-table-size", "-1"), HasSubstr("--flow-table-size: "));
  EXPECT_THAT(bad_flag("--maglev-entries", "70001"), HasSubstr("a multiple of 16"));
  EXPECT_THAT(bad_flag("--log-level", "loud"), HasSubstr("--log-level: \"loud\" is none of trace"));
  EXPECT_THAT(bad_flag("--network-model", "x"), HasSubstr("--network-model: \"x\" is none of kubenet, azure-cni"));
  EXPECT_THAT(bad_flag("--vnet-cidr", "x"), HasSubstr("--vnet-cidr: "));
  EXPECT_THAT(bad_flag("--masq-config", "relative"), HasSubstr("--masq-config: \"relative\" is no absolute path"));
  EXPECT_THAT(bad_flag("--node-port-range", "1-2,4-5"), HasSubstr("--node-port-range: \"1-2,4-5\" is not one range"));
  for (const char* flag : {"--kubeconfig"}) {
    EXPECT_THAT(bad_flag(flag, "x"), HasSubstr(std::string(flag) + ": is not supported by this version"));
  }
}

TEST_F(ConfigTest, NetworkModelsAndWhatBelongsToThem) {
  const Config kubenet = good({"--manifests", "/m", "--network-model", "kubenet", "--pod-cidr", "10.1.0.0/16"});
  EXPECT_EQ(kubenet.network_model, MasqueradeModel::kubenet);
  const Config azure = good({"--manifests", "/m", "--network-model", "azure-cni", "--vnet-cidr", "10.0.0.0/8",
                             "--vnet-cidr", "fd00::/8"});
  EXPECT_EQ(azure.network_model, MasqueradeModel::azure_cni);
  EXPECT_EQ(azure.vnet_cidrs.size(), 2U);
  const Config custom = good({"--manifests", "/m", "--network-model", "custom", "--masq-config", "/etc/masq"});
  EXPECT_EQ(custom.masq_config, "/etc/masq");
  EXPECT_THAT(bad_flag("--network-model", "kubenet"), HasSubstr("kubenet: say --pod-cidr"));
  EXPECT_THAT(bad_flag("--network-model", "azure-cni"), HasSubstr("azure-cni: say --vnet-cidr"));
  EXPECT_THAT(bad_flag("--network-model", "custom"), HasSubstr("custom: say --masq-config"));
  EXPECT_THAT(bad_flag("--vnet-cidr", "10.0.0.0/8"), HasSubstr("--vnet-cidr is for --network-model azure-cni"));
  EXPECT_THAT(bad_flag("--masq-config", "/etc/masq"), HasSubstr("--masq-config is for --network-model custom"));
}

TEST_F(ConfigTest, PortsBesideTheNodesOwn) {
  EXPECT_THAT(ports_beside({32768, 60999}, {30000, 32767}), ElementsAre(PortRange{1024, 29999}, PortRange{61000, 65535}));
  EXPECT_THAT(ports_beside({10000, 65535}, {30000, 32767}), ElementsAre(PortRange{1024, 9999}));
  // The two longest of three.
  EXPECT_THAT(ports_beside({40000, 50000}, {2000, 3000}), ElementsAre(PortRange{3001, 39999}, PortRange{50001, 65535}));
  EXPECT_THAT(ports_beside({1024, 65535}, {30000, 32767}), testing::IsEmpty());
}

TEST_F(ConfigTest, WrongFiles) {
  EXPECT_THAT(bad({"--config", "/nowhere.yaml"}), HasSubstr("--config /nowhere.yaml: cannot be read"));
  EXPECT_THAT(bad(with_file("manifests: /m\nuplinks: eth0\n")),
              HasSubstr("line 2: there is no option \"uplinks\""));
  EXPECT_THAT(bad(with_file("manifests: /m\ncleanup: true\n")), HasSubstr("there is no option \"cleanup\""));
  EXPECT_THAT(bad(with_file("xdp: [a, b]\n")), HasSubstr("xdp takes one value, not a list"));
  EXPECT_THAT(bad(with_file("xdp:\n")), HasSubstr("xdp has no value"));
  EXPECT_THAT(bad(with_file("xdp: auto\nxdp: off\n")), HasSubstr("xdp is given twice"));
  EXPECT_THAT(bad(with_file("- xdp\n")), HasSubstr("KEY: VALUE"));
  EXPECT_THAT(bad(with_file("a: [\n")), HasSubstr("line "));
  EXPECT_THAT(bad(with_file("manifests: /m\nmasquerade-all: maybe\n")), HasSubstr("neither true nor false"));
  EXPECT_THAT(bad(with_file("manifests: /m\nkubeconfig: x\n")), HasSubstr("not supported by this version"));
}

TEST_F(ConfigTest, HealthAddresses) {
  const Config standard = good({"--manifests", "/m"});
  EXPECT_EQ(standard.healthz_address->to_string(), "0.0.0.0:10256");
  EXPECT_EQ(standard.metrics_address->to_string(), "127.0.0.1:10249");
  EXPECT_EQ(standard.healthz_timeout, 60U);
  const Config other = good({"--manifests", "/m", "--healthz-address", "[fd00::1]:80", "--metrics-address", "off",
                             "--healthz-timeout", "5"});
  EXPECT_EQ(other.healthz_address->to_string(), "[fd00::1]:80");
  EXPECT_FALSE(other.metrics_address);
  EXPECT_EQ(other.healthz_timeout, 5U);
  for (const char* wrong : {"", "10256", "0.0.0.0", "0.0.0.0:", "0.0.0.0:0", "0.0.0.0:65536", "::1:80", "[::1]",
                            "[10.0.0.1]:80", "localhost:80", "0.0.0.0:80x", "[]:80", "on"}) {
    EXPECT_THAT(bad_flag("--healthz-address", wrong), HasSubstr("--healthz-address: ")) << wrong;
  }
  EXPECT_THAT(bad_flag("--metrics-address", "x"),
              HasSubstr("--metrics-address: \"x\" is no address and port (expected such as 0.0.0.0:10256 or "
                        "[::1]:10256); or say off"));
  EXPECT_THAT(bad_flag("--healthz-timeout", "0"), HasSubstr("--healthz-timeout: \"0\" is no number from 1"));
}

TEST_F(ConfigTest, PortRanges) {
  EXPECT_TRUE(parse_port_ranges("1-65535").ok());
  for (const char* wrong :
       {"", "80", "0-10", "10-5", "1-70000", "1-2,3-4,5-6", "1-5,5-9", "a-b", "1-2,", "1--2", " 1-2"}) {
    EXPECT_FALSE(parse_port_ranges(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace maglane
