// SPDX-License-Identifier: Apache-2.0
#include "agent/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>

#include "agent/base/duration.h"
#include "agent/base/quote.h"

namespace maglane {
namespace {

using Values = std::vector<std::string>;

enum class Kind { flag, one, many };

// One option: how it looks, and how its values become part of a Config.
struct Option {
  const char* name;
  Kind kind;
  const char* placeholder;
  const char* help;
  std::function<Status(const Values&, Config&)> take;
  const char* group = nullptr;  // heading in --help; none: that of all the others
};

// ---- values ------------------------------------------------------------------

Status take_text(const Values& values, std::string& out) {
  if (values[0].empty()) return Error{"is empty"};
  out = values[0];
  return ok_status();
}

Status take_path(const Values& values, std::string& out) {
  if (!values[0].starts_with('/')) return Error{fmt::format("{} is no absolute path", in_quotes(values[0]))};
  return take_text(values, out);
}

Status take_bool(const Values& values, bool& out) {
  if (values[0] != "true" && values[0] != "false") {
    return Error{fmt::format("{} is neither true nor false", in_quotes(values[0]))};
  }
  out = values[0] == "true";
  return ok_status();
}

Status take_cidrs(const Values& values, std::vector<Cidr>& out) {
  out.clear();
  for (const std::string& value : values) {
    auto cidr = Cidr::parse(value);
    if (!cidr) return cidr.error();
    out.push_back(*cidr);
  }
  return ok_status();
}

Status take_number(const Values& values, uint32_t low, uint32_t high, uint32_t multiple_of, uint32_t& out) {
  const std::string& text = values[0];
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  bool whole = error == std::errc() && end == text.data() + text.size();
  if (!whole || number < low || number > high || number % multiple_of != 0) {
    std::string multiple = multiple_of > 1 ? fmt::format(", a multiple of {}", multiple_of) : "";
    return Error{fmt::format("{} is no number from {} to {}{}", in_quotes(text), low, high, multiple)};
  }
  out = static_cast<uint32_t>(number);
  return ok_status();
}

Status take_address(const Values& values, std::optional<SocketAddress>& out) {
  if (values[0] == "off") {
    out.reset();
    return ok_status();
  }
  auto address = SocketAddress::parse(values[0]);
  if (!address) return Error{address.error().message + "; or say off"};
  out = *address;
  return ok_status();
}

template <typename T, size_t N>
Status take_choice(const Values& values, const std::array<std::pair<const char*, T>, N>& choices, T& out) {
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) {
    if (values[0] == name) {
      out = value;
      return ok_status();
    }
    names.push_back(name);
  }
  return Error{fmt::format("{} is none of {}", in_quotes(values[0]), fmt::join(names, ", "))};
}

Status take_devices(const Values& values, std::vector<std::string>& out) {
  for (const std::string& value : values) {
    if (value.empty() || value.find('/') != std::string::npos) {
      return Error{fmt::format("{} is no device's name", in_quotes(value))};
    }
  }
  out = values;
  return ok_status();
}

Status take_one_of_each_family(const Values& values, std::vector<Cidr>& out) {
  if (auto s = take_cidrs(values, out); !s) return s;
  for (Family family : {Family::ipv4, Family::ipv6}) {
    if (std::count_if(out.begin(), out.end(), [&](const Cidr& c) { return c.family() == family; }) > 1) {
      return Error{fmt::format("given twice for {}; there is one for each family", to_string(family))};
    }
  }
  return ok_status();
}

Status not_supported(const char* instead) {
  return Error{fmt::format("is not supported by this version; {}", instead)};
}

constexpr std::array<std::pair<const char*, XdpPolicy>, 4> kXdp = {{{"auto", XdpPolicy::automatic},
                                                                    {"native", XdpPolicy::native},
                                                                    {"generic", XdpPolicy::generic},
                                                                    {"off", XdpPolicy::off}}};
// `auto` is both of those that need no Node object: a pod device's own traffic is a pod's,
// whatever its address, and so are the addresses of all the cluster's pods.
constexpr std::array<std::pair<const char*, uint32_t>, 4> kPodDetection = {
    {{"auto", uint32_t{abi::PODS_BY_DEVICE} | abi::PODS_BY_CLUSTER_CIDR},
     {"cluster-cidr", abi::PODS_BY_CLUSTER_CIDR},
     {"node-cidr", abi::PODS_BY_NODE_CIDR},
     {"interface", abi::PODS_BY_DEVICE}}};
constexpr std::array<std::pair<const char*, const char*>, 5> kLevels = {
    {{"trace", "trace"}, {"debug", "debug"}, {"info", "info"}, {"warn", "warn"}, {"error", "error"}}};

constexpr std::array<std::pair<const char*, SocketTranslation>, 3> kSockets = {
    {{"host", SocketTranslation::host}, {"all", SocketTranslation::all}, {"off", SocketTranslation::off}}};

Status take_level(const Values& values, std::string& out) {
  const char* level = nullptr;
  if (auto s = take_choice(values, kLevels, level); !s) return s;
  out = level;
  return ok_status();
}

constexpr std::array<std::pair<const char*, MasqueradeModel>, 4> kModels = {
    {{"kubenet", MasqueradeModel::kubenet},
     {"azure-cni", MasqueradeModel::azure_cni},
     {"custom", MasqueradeModel::custom},
     {"none", MasqueradeModel::none}}};

Status take_timeout(const Values& values, uint32_t& out) {
  auto seconds = parse_seconds(values[0]);
  if (!seconds) return seconds.error();
  if (*seconds == 0 || *seconds > kLongestTimeout)
    return Error{fmt::format("{} is not from 1s to {}h", in_quotes(values[0]), kLongestTimeout / 3600)};
  out = static_cast<uint32_t>(*seconds);
  return ok_status();
}

// ---- the table ---------------------------------------------------------------

// How long flows may be idle.
std::vector<Option> timeout_options() {
  std::vector<Option> table;
  for (const TimeoutOption& option : kTimeouts) {
    table.push_back({option.name, Kind::one, "TIME", option.help, [&option](const Values& v, Config& c) {
                       return take_timeout(v, c.timeout_seconds.*option.member);
                     }, "Idle time after which a flow is forgotten"});
  }
  return table;
}

std::vector<Option> other_options() {
  return {
      {"node-name", Kind::one, "NAME", "This node's name in Kubernetes (default: the host name)",
       [](const Values& v, Config& c) { return take_text(v, c.node_name); }},
      {"manifests", Kind::one, "DIR",
       "Serve the Services, EndpointSlices and Nodes in this directory's manifests",
       [](const Values& v, Config& c) { return take_text(v, c.manifests); }},
      {"uplink", Kind::many, "DEV",
       "A device to other hosts; repeatable (default: those of the default routes)",
       [](const Values& v, Config& c) { return take_devices(v, c.uplinks); }},
      {"pod-device", Kind::many, "PATTERN", "Devices that lead to pods, as in 'veth*'; repeatable",
       [](const Values& v, Config& c) { return take_devices(v, c.pod_devices); }},
      {"pod-cidr", Kind::many, "CIDR", "Addresses of the cluster's pods; repeatable",
       [](const Values& v, Config& c) { return take_cidrs(v, c.pod_cidrs); }},
      {"pod-detection", Kind::one, "HOW",
       "Who is a pod of the cluster: cluster-cidr (a source in --pod-cidr), node-cidr (in the Node's podCIDRs), "
       "interface (comes in on a pod device), or auto, the first or the last (default: auto)",
       [](const Values& v, Config& c) { return take_choice(v, kPodDetection, c.pods_by); }},
      {"service-cidr", Kind::many, "CIDR",
       "Addresses of services, one CIDR a family; a family without one is not served, unless none is given",
       [](const Values& v, Config& c) { return take_one_of_each_family(v, c.service_cidrs); }},
      {"node-port-addresses", Kind::many, "CIDR",
       "Serve node ports on the local addresses inside; repeatable (default: the node's primary addresses)",
       [](const Values& v, Config& c) { return take_cidrs(v, c.node_port_addresses); }},
      {"masquerade-all", Kind::flag, "", "Translate the source of all connections to cluster addresses",
       [](const Values& v, Config& c) { return take_bool(v, c.masquerade_all); }},
      {"network-model", Kind::one, "MODEL",
       "Which of pods' traffic leaves with the node's address: kubenet (to neither pod, service nor node), azure-cni "
       "(to outside --vnet-cidr), custom (to outside --masq-config) or none (default: none)",
       [](const Values& v, Config& c) { return take_choice(v, kModels, c.network_model); }},
      {"vnet-cidr", Kind::many, "CIDR",
       "For --network-model azure-cni: addresses of the virtual network, which see pods' own; repeatable",
       [](const Values& v, Config& c) { return take_cidrs(v, c.vnet_cidrs); }},
      {"masq-config", Kind::one, "FILE",
       "For --network-model custom: who sees pods' own addresses, in ip-masq-agent's format; followed when it changes",
       [](const Values& v, Config& c) { return take_path(v, c.masq_config); }},
      {"xdp", Kind::one, "MODE", "XDP on the uplinks: auto, native, generic or off (default: auto)",
       [](const Values& v, Config& c) { return take_choice(v, kXdp, c.xdp); }},
      {"socket-translation", Kind::one, "WHO",
       "Whose sockets connect to endpoints directly: host (the node's own), all (pods', too) or off (default: host)",
       [](const Values& v, Config& c) { return take_choice(v, kSockets, c.socket_translation); }},
      {"flow-table-size", Kind::one, "N", "Flow entries of each family, two a connection, rounded up to a multiple of 31 (default: 524288)",
       [](const Values& v, Config& c) { return take_number(v, 1024, 1U << 26, 1, c.flow_table_size); }},
      {"affinity-entries", Kind::one, "N",
       "Clients that session affinity remembers, of all services together (default: 65536)",
       [](const Values& v, Config& c) { return take_number(v, 1024, 1U << 24, 1, c.affinity_entries); }},
      {"maglev-entries", Kind::one, "N", "Room for Maglev tables, four bytes an entry (default: 16777216)",
       [](const Values& v, Config& c) { return take_number(v, 65536, 1U << 28, 16, c.maglev_entries); }},
      {"node-port-range", Kind::one, "RANGE",
       "The cluster's node ports, which source translation leaves alone (default: 30000-32767)",
       [](const Values& v, Config& c) -> Status {
         auto ranges = parse_port_ranges(v[0]);
         if (!ranges) return ranges.error();
         if (ranges->size() != 1) return Error{fmt::format("{} is not one range of ports", in_quotes(v[0]))};
         c.node_port_range = ranges->front();
         return ok_status();
       }},
      {"snat-ports", Kind::one, "RANGES",
       "Ports for source translation, one or two ranges (default: all from 1024 on but node ports and "
       "net.ipv4.ip_local_port_range)",
       [](const Values& v, Config& c) -> Status {
         auto ranges = parse_port_ranges(v[0]);
         if (!ranges) return ranges.error();
         c.snat_ports = *ranges;
         return ok_status();
       }},
      {"healthz-address", Kind::one, "ADDRESS:PORT",
       "Where to serve /healthz and /livez; 0.0.0.0 means all addresses of both families, off: nowhere "
       "(default: 0.0.0.0:10256)",
       [](const Values& v, Config& c) { return take_address(v, c.healthz_address); }},
      {"healthz-timeout", Kind::one, "SECONDS",
       "How long a change may wait to be applied until /healthz and /livez say 503 (default: 60)",
       [](const Values& v, Config& c) { return take_number(v, 1, 86400, 1, c.healthz_timeout); }},
      {"metrics-address", Kind::one, "ADDRESS:PORT",
       "Where to serve Prometheus metrics, at /metrics; off: nowhere (default: 127.0.0.1:10249)",
       [](const Values& v, Config& c) { return take_address(v, c.metrics_address); }},
      {"bpffs", Kind::one, "DIR",
       "Where to pin maps, programs and links (default: $MAGLANE_BPFFS, /sys/fs/bpf/maglane)",
       [](const Values& v, Config& c) { return take_path(v, c.bpffs); }},
      {"socket", Kind::one, "PATH", "The control socket (default: $MAGLANE_SOCKET, /run/maglane/agent.sock)",
       [](const Values& v, Config& c) { return take_path(v, c.socket); }},
      {"log-level", Kind::one, "LEVEL", "trace, debug, info, warn or error (default: info)",
       [](const Values& v, Config& c) { return take_level(v, c.log_level); }},
      {"cleanup", Kind::flag, "", "Remove all that the agent ever attached or pinned, and end",
       [](const Values& v, Config& c) { return take_bool(v, c.cleanup); }},
      // For tests, which cannot wait for as long as nodes can.
      {"flow-bits-interval", Kind::one, nullptr, "",
       [](const Values& v, Config& c) -> Status {
         uint32_t seconds = 0;
         if (auto s = take_number(v, 0, 86400, 1, seconds); !s) return s;
         c.flow_bits_interval = std::chrono::seconds(seconds);
         return ok_status();
       }},
      // Known by name, so that whoever has them in a file learns more than "unknown".
      {"kubeconfig", Kind::one, nullptr, "",
       [](const Values&, Config&) { return not_supported("use --manifests DIR"); }},
  };
}

const std::vector<Option>& options() {
  static const std::vector<Option> table = [] {
    std::vector<Option> all = other_options();
    for (Option& option : timeout_options()) all.push_back(std::move(option));
    return all;
  }();
  return table;
}

const Option* find_option(std::string_view name) {
  for (const Option& option : options()) {
    if (name == option.name) return &option;
  }
  return nullptr;
}

using RawValues = std::map<std::string, Values>;  // by option name

Status take(const Option& option, const Values& values, const std::string& where, Config& config) {
  if (values.empty()) return ok_status();
  if (option.kind != Kind::many && values.size() > 1) return Error{where + ": given more than once"};
  auto taken = option.take(values, config);
  return taken ? ok_status() : Status(taken.error().in(where));
}

// ---- the file ------------------------------------------------------------------

Result<RawValues> read_file(const std::string& path) {
  RawValues raw;
  try {
    YAML::Node root = YAML::LoadFile(path);
    if (root.IsNull()) return raw;
    if (!root.IsMap()) return Error{fmt::format("--config {}: is not a list of KEY: VALUE", path)};
    for (const auto& entry : root) {
      std::string key = entry.first.as<std::string>();
      std::string where = fmt::format("--config {}, line {}", path, entry.first.Mark().line + 1);
      const Option* option = find_option(key);
      if (!option || key == "cleanup")
        return Error{fmt::format("{}: there is no option {}", where, in_quotes(key))};
      if (raw.contains(key)) return Error{fmt::format("{}: {} is given twice", where, key)};
      bool list = entry.second.IsSequence();
      if (!list && !entry.second.IsScalar()) return Error{fmt::format("{}: {} has no value", where, key)};
      if (list && option->kind != Kind::many)
        return Error{fmt::format("{}: {} takes one value, not a list", where, key)};
      raw[key] = list ? entry.second.as<Values>() : Values{entry.second.as<std::string>()};
    }
  } catch (const YAML::BadFile&) {
    return Error{fmt::format("--config {}: cannot be read", path)};
  } catch (const YAML::Exception& e) {
    return Error{fmt::format("--config {}, line {}: {}", path, e.mark.line + 1, e.msg)};
  }
  return raw;
}

// ---- all together ---------------------------------------------------------------

std::string from_environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}

Config defaults() {
  Config config;
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  config.node_name = name;  // as kubelet names the node: in lower case
  std::transform(config.node_name.begin(), config.node_name.end(), config.node_name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  config.bpffs = from_environment("MAGLANE_BPFFS", "/sys/fs/bpf/maglane");
  config.socket = from_environment("MAGLANE_SOCKET", "/run/maglane/agent.sock");
  config.healthz_address = SocketAddress{IpAddress(), 10256};
  config.metrics_address = *SocketAddress::parse("127.0.0.1:10249");
  return config;
}

// What belongs to a network model must come with it, and with no other.
Status check_network_model(const Config& config) {
  const MasqueradeModel model = config.network_model;
  if (model == MasqueradeModel::kubenet && config.pod_cidrs.empty())
    return Error{"--network-model kubenet: say --pod-cidr CIDR, the addresses of the cluster's pods, to whom no address is "
                 "translated"};
  if (model == MasqueradeModel::azure_cni && config.vnet_cidrs.empty())
    return Error{"--network-model azure-cni: say --vnet-cidr CIDR, the addresses of the virtual network"};
  if (model == MasqueradeModel::custom && config.masq_config.empty())
    return Error{"--network-model custom: say --masq-config FILE"};
  if (model != MasqueradeModel::azure_cni && !config.vnet_cidrs.empty())
    return Error{"--vnet-cidr is for --network-model azure-cni"};
  if (model != MasqueradeModel::custom && !config.masq_config.empty())
    return Error{"--masq-config is for --network-model custom"};
  return ok_status();
}

Result<Config> assemble(const RawValues& flags, const std::string& file) {
  Config config = defaults();
  RawValues from_file;
  if (!file.empty()) {
    auto read = read_file(file);
    if (!read) return read.error();
    from_file = std::move(*read);
  }
  for (const Option& option : options()) {
    auto flag = flags.find(option.name);
    bool given = flag != flags.end() && !flag->second.empty();
    const Values& values = given ? flag->second : from_file[option.name];
    std::string where =
        given ? fmt::format("--{}", option.name) : fmt::format("--config {}: {}", file, option.name);
    if (auto s = take(option, values, where, config); !s) return s.error();
  }
  if (!config.cleanup && config.manifests.empty()) {
    return Error{"--manifests DIR is missing: the directory of manifests to serve"};
  }
  if (auto s = check_network_model(config); !s) return s.error();
  if (config.snat_ports.empty()) config.snat_ports = default_snat_ports(config.node_port_range);
  return config;
}

CommandLine wrong_usage(const std::string& message) {
  return {{}, 2, fmt::format("maglane-agent: {}; see `maglane-agent --help`\n", message)};
}

}  // namespace

std::vector<PortRange> default_snat_ports(const PortRange& node_ports, const std::string& proc) {
  PortRange local{32768, 60999};
  std::ifstream file(proc + "/sys/net/ipv4/ip_local_port_range");
  PortRange told;
  if (file >> told.first >> told.last && told.first <= told.last) local = told;
  std::vector<PortRange> ports = ports_beside(local, node_ports);
  // Where nothing is left: host_checks.h tells of the overlap.
  return ports.empty() ? DataPlaneOptions{}.snat_ports : ports;
}

Result<std::vector<PortRange>> parse_port_ranges(const std::string& text) {
  const Error wrong{
      fmt::format("{} is not one or two ranges of ports, as in 1024-29999,61000-65535", in_quotes(text))};
  std::vector<PortRange> ranges;
  size_t begin = 0;
  while (begin <= text.size()) {
    size_t end = std::min(text.find(',', begin), text.size());
    std::string_view part = std::string_view(text).substr(begin, end - begin);
    size_t dash = part.find('-');
    if (dash == std::string_view::npos) return wrong;
    PortRange range;
    for (auto [digits, out] :
         {std::pair{part.substr(0, dash), &range.first}, {part.substr(dash + 1), &range.last}}) {
      auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *out);
      if (error != std::errc() || stop != digits.data() + digits.size()) return wrong;
    }
    if (range.first == 0 || range.first > range.last) return wrong;
    ranges.push_back(range);
    begin = end + 1;
  }
  if (ranges.size() > 2) return wrong;
  if (ranges.size() == 2 && ranges[0].overlaps(ranges[1])) {
    return Error{fmt::format("the ranges of {} overlap", in_quotes(text))};
  }
  return ranges;
}

CommandLine parse_command_line(const std::vector<std::string>& arguments) {
  CLI::App app("Keeps the maglane data plane of this node in line with the cluster.", "maglane-agent");
  app.set_version_flag("--version", "maglane-agent " MAGLANE_VERSION);
  app.allow_extras();
  RawValues raw;
  std::string file;
  app.add_option("--config", file, "Read options from this YAML file: the names below, without the dashes")
      ->option_text("FILE");
  for (const Option& option : options()) {
    std::string name = fmt::format("--{}", option.name);
    CLI::Option* added = option.kind == Kind::flag ? app.add_flag(name, raw[option.name], option.help)
                                                   : app.add_option(name, raw[option.name], option.help);
    if (option.kind != Kind::flag)
      added->allow_extra_args(false)->option_text(option.placeholder ? option.placeholder : "");
    if (option.group) added->group(option.group);
    if (!option.placeholder) added->group("");  // not shown
  }
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // as CLI11 wants them
    app.parse(std::move(reversed));
  } catch (const CLI::CallForVersion& version) {
    return {{}, 0, std::string(version.what()) + "\n"};
  } catch (const CLI::Success&) {
    return {{}, 0, app.help()};
  } catch (const CLI::Error& error) {
    return wrong_usage(error.what());
  }
  if (auto extras = app.remaining(); !extras.empty()) {
    bool flag = extras.front().starts_with('-');
    return wrong_usage(
        fmt::format("there is no {} {}", flag ? "flag" : "argument", in_quotes(extras.front())));
  }
  auto config = assemble(raw, file);
  if (!config) return wrong_usage(config.error().message);
  return {std::move(*config), std::nullopt, ""};
}

}  // namespace maglane
