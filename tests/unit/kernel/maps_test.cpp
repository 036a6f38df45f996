// SPDX-License-Identifier: Apache-2.0
// PinnedMaps against real maps, pinned in a directory of this test's own.
#include "agent/kernel/maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>

namespace maglane {
namespace {

using testing::HasSubstr;

struct Spec {
  const char* name;
  bpf_map_type type;
  uint32_t key_size;
  uint32_t value_size;
  uint32_t entries;
  uint32_t flags;
};

// As in bpf/maps.h, but smaller.
const std::vector<Spec> kSpecs = {
    {"frontends", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::frontend_bucket), 800, BPF_F_MMAPABLE},
    {"frontend_values", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::frontend), 30000, BPF_F_MMAPABLE},
    {"services", BPF_MAP_TYPE_HASH, 4, sizeof(abi::service_info), 12000, BPF_F_NO_PREALLOC},
    {"backends", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::backend), 131072, BPF_F_MMAPABLE},
    {"maglev", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::maglev_line), 131072, BPF_F_MMAPABLE},
    {"vip_bits", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::vip_bits), 1, BPF_F_MMAPABLE},
    {"flow_bits", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::flow_bits), 1, BPF_F_MMAPABLE},
    {"flows4", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::flow_bucket4), 512, BPF_F_MMAPABLE},
    {"flows6", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::flow_bucket6), 512, BPF_F_MMAPABLE},
    {"node_state", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::node_state), 1, BPF_F_MMAPABLE},
    {"devices", BPF_MAP_TYPE_HASH, 4, sizeof(abi::device), 64, BPF_F_NO_PREALLOC},
    {"source_ranges", BPF_MAP_TYPE_LPM_TRIE, sizeof(abi::source_range_key), 4, 1024, BPF_F_NO_PREALLOC},
    {"affinity", BPF_MAP_TYPE_LRU_HASH, sizeof(abi::affinity_key), sizeof(abi::affinity), 1024, 0},
    {"gone_endpoints", BPF_MAP_TYPE_HASH, sizeof(abi::service_endpoint), 4, 1024, BPF_F_NO_PREALLOC},
    {"service_counters", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::service_counter),
     uint32_t{abi::SERVICE_IDS} * abi::SERVICE_COUNTER_PARTS, BPF_F_MMAPABLE},
    {"counters", BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(abi::counter), uint32_t{abi::REASON_COUNT} * abi::HOOKS,
     0},
    {"sockets", BPF_MAP_TYPE_LRU_HASH, sizeof(abi::socket_key), sizeof(abi::socket_peer), 1024, 0},
    {"masquerade_ranges", BPF_MAP_TYPE_LPM_TRIE, sizeof(abi::masquerade_range_key), 4, 1024, BPF_F_NO_PREALLOC},
    {"egress_addresses", BPF_MAP_TYPE_HASH, 4, sizeof(abi::egress_address), 64, BPF_F_NO_PREALLOC},
    {"port_shortages", BPF_MAP_TYPE_LRU_HASH, sizeof(abi::port_shortage_key), sizeof(abi::port_shortage), 64, 0},
};

class PinnedMapsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(root_ + "/maps");
    std::filesystem::create_directories(root_ + "/programs");
    for (const Spec& spec : kSpecs) make(spec);
    state_.flow_bits_generation = 1;
    state_.seed = {.multiplier = 0x9e3779b97f4a7c15, .nh = {1, 22, 333, 4444, 55555, 666666, 7, 8, 9, 10}};
    write(state_);
  }
  void TearDown() override {
    for (const auto& [name, fd] : fds_) close(fd);
    remove_pins(root_);
  }

  static void remove_pins(const std::string& root) {
    for (const char* directory : {"/maps", "/programs"}) {
      std::error_code none;
      for (const auto& pin : std::filesystem::directory_iterator(root + directory, none))
        unlink(pin.path().c_str());
      rmdir((root + directory).c_str());
    }
    rmdir(root.c_str());
  }

  // What a run that crashed left behind.
  static void SetUpTestSuite() {
    for (const auto& entry : std::filesystem::directory_iterator("/sys/fs/bpf")) {
      const std::string path = entry.path();
      if (!path.starts_with(kPrefix)) continue;
      if (kill(std::stoi(path.substr(std::strlen(kPrefix))), 0) != 0) remove_pins(path);
    }
  }

  void make(const Spec& spec) {
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = spec.flags);
    const int fd =
        bpf_map_create(spec.type, spec.name, spec.key_size, spec.value_size, spec.entries, &options);
    ASSERT_GE(fd, 0) << spec.name << ": " << std::strerror(errno);
    fds_[spec.name] = fd;
    const std::string path = root_ + "/maps/" + spec.name;
    ASSERT_EQ(bpf_obj_pin(fd, path.c_str()), 0) << path << ": " << std::strerror(errno);
  }

  // Another map under the name of one that is there.
  void replace(const Spec& spec) {
    unlink((root_ + "/maps/" + spec.name).c_str());
    close(fds_[spec.name]);
    make(spec);
  }

  void write(const abi::node_state& state) {
    const uint32_t zero = 0;
    ASSERT_EQ(bpf_map_update_elem(fds_["node_state"], &zero, &state, BPF_ANY), 0);
  }

  // A bucket is read, changed and written as a whole.
  template <typename Bucket>
  void change(const char* map, uint32_t index, const std::function<void(Bucket&)>& edit) {
    Bucket bucket;
    ASSERT_EQ(bpf_map_lookup_elem(fds_[map], &index, &bucket), 0);
    edit(bucket);
    ASSERT_EQ(bpf_map_update_elem(fds_[map], &index, &bucket, BPF_ANY), 0);
  }

  PinnedMaps open(bool read_only = false) {
    auto maps = PinnedMaps::open(root_, read_only);
    if (!maps) throw std::runtime_error(maps.error().message);
    return std::move(*maps);
  }

  static constexpr const char* kPrefix = "/sys/fs/bpf/maglane-test-maps-";
  const std::string root_ = kPrefix + std::to_string(getpid());
  std::map<std::string, int> fds_;
  abi::node_state state_{};
};

abi::frontend_key frontend_key(uint32_t address, uint16_t port) {
  abi::frontend_key key{};
  key.addr_be[0] = htobe32(address);
  key.port_be = htobe16(port);
  key.protocol = 6;
  key.family = abi::FAMILY_IPV4;
  return key;
}

abi::backend backend(uint32_t address, uint16_t port, uint32_t flags = 0) {
  abi::backend result{};
  result.addr_be[0] = htobe32(address);
  result.port_be = htobe16(port);
  result.protocol = 6;
  result.family = abi::FAMILY_IPV4;
  result.flags = flags;
  return result;
}

abi::service_info service(const std::string& name) {
  abi::service_info info{};
  std::strcpy(info.namespace_name, "default");
  std::strncpy(info.name, name.c_str(), sizeof info.name - 1);
  info.port = 80;
  info.protocol = 6;
  info.family = abi::FAMILY_IPV4;
  return info;
}

abi::frontend frontend(uint32_t service_id, uint32_t offset, uint32_t size) {
  return {service_id, abi::FRONTEND_CLUSTER_IP, 0, {}, {{offset, size}, {offset, size}}, 0, 0};
}

auto ids(std::vector<uint32_t> list) {
  return std::make_shared<const std::vector<uint32_t>>(std::move(list));
}

template <typename T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

TEST_F(PinnedMapsTest, MasqueradeIsWrittenAndReadBack) {
  auto maps = PinnedMaps::open(root_);
  ASSERT_TRUE(maps.ok()) << maps.error().message;
  const auto cidr = [](const char* text) { return *Cidr::parse(text); };
  for (const std::set<Cidr>& ranges : {std::set<Cidr>{cidr("10.0.0.0/8"), cidr("fd00::/8"), cidr("192.0.2.1/32")},
                                       std::set<Cidr>{cidr("10.0.0.0/8"), cidr("0.0.0.0/0")}, std::set<Cidr>{}}) {
    ASSERT_TRUE(maps->write_masquerade_ranges(ranges).ok());
    EXPECT_EQ(*maps->read_masquerade_ranges(), ranges);
  }
  const auto address = [](const char* text) { return *IpAddress::parse(text); };
  for (const std::vector<EgressAddress>& addresses :
       {std::vector<EgressAddress>{{2, address("192.0.2.1"), address("fd00::1")}, {3, address("192.0.2.3"), std::nullopt}},
        std::vector<EgressAddress>{{2, address("192.0.2.9"), std::nullopt}}}) {
    ASSERT_TRUE(maps->write_egress_addresses(addresses).ok());
    EXPECT_EQ(*maps->read_egress_addresses(), addresses);
  }
}

TEST_F(PinnedMapsTest, FreshMapsAreEmpty) {
  const auto contents = open().read_contents();
  ASSERT_TRUE(contents) << contents.error().message;
  EXPECT_TRUE(contents->services.empty());
  EXPECT_TRUE(contents->backends.empty());
  EXPECT_TRUE(contents->frontends.empty());
  EXPECT_TRUE(contents->maglev.empty());
  EXPECT_TRUE(
      std::all_of(contents->vip_words.begin(), contents->vip_words.end(), [](uint64_t w) { return w == 0; }));
}

TEST_F(PinnedMapsTest, EveryKindOfOperationIsReadBack) {
  PinnedMaps maps = open();
  const auto key = frontend_key(0x0a600001, 80);
  const std::vector<Operation> put = {PutService{7, service("web")},
                                      PutBackend{3, backend(0x0a000001, 8080, abi::BACKEND_LOCAL)},
                                      PutBackend{4, backend(0x0a000002, 8080)},
                                      WriteTable{16, ids({3, 4, 3})},
                                      SetVipBit{77, true},
                                      PutFrontend{key, frontend(7, 16, 3)}};
  auto status = maps.apply(put);
  ASSERT_TRUE(status) << status.error().message;

  auto contents = *open(true).read_contents();
  ASSERT_EQ(contents.services.size(), 1U);
  EXPECT_TRUE(same_bytes(contents.services.at(7), service("web")));
  ASSERT_EQ(contents.backends.size(), 2U);
  EXPECT_TRUE(same_bytes(contents.backends.at(3), backend(0x0a000001, 8080, abi::BACKEND_LOCAL)));
  EXPECT_TRUE(same_bytes(contents.frontends.at(key), frontend(7, 16, 3)));
  ASSERT_EQ(contents.maglev.size(), 19U);  // up to the last entry that a frontend refers to
  EXPECT_EQ(std::vector<uint32_t>(contents.maglev.begin() + 16, contents.maglev.end()),
            (std::vector<uint32_t>{3, 4, 3}));
  EXPECT_EQ(contents.vip_words[1], uint64_t{1} << 13);

  status = maps.apply(std::vector<Operation>{DeleteFrontend{key}, SetVipBit{77, false}, DeleteBackend{3},
                                             DeleteBackend{4}, DeleteService{7}});
  ASSERT_TRUE(status) << status.error().message;
  contents = *maps.read_contents();
  EXPECT_TRUE(contents.services.empty() && contents.backends.empty() && contents.frontends.empty());
  EXPECT_EQ(contents.vip_words[1], 0U);
  const uint32_t id = 3;
  abi::backend slot = backend(1, 1);
  ASSERT_EQ(bpf_map_lookup_elem(fds_["backends"], &id, &slot), 0);
  EXPECT_TRUE(same_bytes(slot, abi::backend{}));
}

TEST_F(PinnedMapsTest, BackendsChangeInPlace) {
  PinnedMaps maps = open();
  for (const abi::backend& next : {backend(1, 80), backend(1, 80, abi::BACKEND_LOCAL), backend(2, 81)}) {
    ASSERT_TRUE(maps.apply(std::vector<Operation>{PutBackend{9, next}}));
    EXPECT_TRUE(same_bytes(maps.read_contents()->backends.at(9), next));
  }
}

TEST_F(PinnedMapsTest, TablesAreWrittenInWholeLines) {
  PinnedMaps maps = open();
  const std::vector<Operation> write = {WriteTable{0, ids(std::vector<uint32_t>(32, 5))},
                                        WriteTable{0, ids({1, 2, 3})}};
  ASSERT_TRUE(maps.apply(write));
  std::array<abi::maglev_line, 2> lines;
  for (uint32_t i = 0; i < 2; ++i) ASSERT_EQ(bpf_map_lookup_elem(fds_["maglev"], &i, &lines[i]), 0);
  EXPECT_THAT(lines[0].backend_id, testing::ElementsAre(1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(lines[1].backend_id, testing::Each(5));
}

std::vector<Operation> large_cluster(uint32_t services, uint32_t endpoints, uint32_t table) {
  std::vector<Operation> operations;
  for (uint32_t i = 1; i <= services; ++i) operations.push_back(PutService{i, service(std::to_string(i))});
  for (uint32_t i = 1; i <= services * endpoints; ++i) operations.push_back(PutBackend{i, backend(i, 80)});
  const uint32_t lines = (table + 15) / 16 * 16;
  for (uint32_t i = 0; i < services; ++i) {
    std::vector<uint32_t> entries(table);
    for (uint32_t n = 0; n < table; ++n) entries[n] = i * endpoints + n % endpoints + 1;
    operations.push_back(WriteTable{i * lines, ids(std::move(entries))});
  }
  for (uint32_t i = 0; i < services; ++i) operations.push_back(SetVipBit{i, true});
  for (uint32_t i = 0; i < services; ++i)
    operations.push_back(PutFrontend{frontend_key(0x0a600000 + i, 80), frontend(i + 1, i * lines, table)});
  return operations;
}

TEST_F(PinnedMapsTest, TenThousandServicesGoInBatches) {
  PinnedMaps maps = open();
  const auto operations = large_cluster(10000, 10, 199);
  const auto start = std::chrono::steady_clock::now();
  const auto status = maps.apply(operations);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(status) << status.error().message;
  RecordProperty("milliseconds", std::to_string(took.count()));
  EXPECT_LT(took.count(), 5000);  // about 30 on a small machine, more than ten times that on an emulated one

  const auto contents = *maps.read_contents();
  EXPECT_EQ(contents.services.size(), 10000U);
  EXPECT_EQ(contents.backends.size(), 100000U);
  EXPECT_EQ(contents.frontends.size(), 10000U);
  EXPECT_EQ(contents.maglev.size(), 9999U * 208 + 199);
  EXPECT_EQ(std::string(contents.services.at(10000).name), "10000");

  std::vector<Operation> removal;
  for (uint32_t i = 0; i < 10000; ++i) removal.push_back(DeleteFrontend{frontend_key(0x0a600000 + i, 80)});
  for (uint32_t i = 1; i <= 10000; ++i) removal.push_back(DeleteService{i});
  ASSERT_TRUE(maps.apply(removal));
  EXPECT_TRUE(maps.read_contents()->services.empty());
  EXPECT_TRUE(maps.read_contents()->frontends.empty());
}

TEST_F(PinnedMapsTest, FrontendsChangeInPlaceWithoutEnd) {
  replace({"frontend_values", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::frontend), 4, BPF_F_MMAPABLE});
  PinnedMaps maps = open();
  const auto key = frontend_key(0x0a600001, 80);
  for (uint32_t i = 0; i < 20; ++i) {
    const auto status = maps.apply(std::vector<Operation>{PutFrontend{key, frontend(i, 16, 3)}});
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_TRUE(same_bytes(open(true).read_contents()->frontends.at(key), frontend(i, 16, 3)));
  }
}

TEST_F(PinnedMapsTest, FrontendsThatDoNotFitAreRefused) {
  replace({"frontends", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::frontend_bucket), 2, BPF_F_MMAPABLE});
  PinnedMaps maps = open();
  std::vector<Operation> operations;
  for (uint32_t i = 0; i < 63; ++i)
    operations.push_back(PutFrontend{frontend_key(0x0a600000 + i, 80), frontend(1, 16, 3)});
  const auto status = maps.apply(operations);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("operation 63 of 63"));
  EXPECT_THAT(status.error().message, HasSubstr("the table of frontends is full: 62 of 62"));
  EXPECT_EQ(maps.read_contents()->frontends.size(), 62U);
}

TEST_F(PinnedMapsTest, DeletingWhatIsNotThereDoesNotKeepTheRest) {
  PinnedMaps maps = open();
  std::vector<Operation> operations;
  for (uint32_t id : {1, 2, 4}) operations.push_back(PutService{id, service("s")});
  ASSERT_TRUE(maps.apply(operations));
  const auto status = maps.apply(
      std::vector<Operation>{DeleteService{1}, DeleteService{2}, DeleteService{3}, DeleteService{4}});
  ASSERT_TRUE(status) << status.error().message;
  EXPECT_TRUE(maps.read_contents()->services.empty());
}

TEST_F(PinnedMapsTest, FullMapNamesTheOperationThatDidNotFit) {
  replace({"services", BPF_MAP_TYPE_HASH, 4, sizeof(abi::service_info), 4, 0});
  PinnedMaps maps = open();
  std::vector<Operation> operations = {SetVipBit{1, true}};
  for (uint32_t id = 1; id <= 6; ++id) operations.push_back(PutService{id, service("s")});
  const auto status = maps.apply(operations);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, HasSubstr("operation 6 of 7"));
  EXPECT_THAT(status.error().message, HasSubstr("map \"services\" is full"));
  EXPECT_EQ(maps.read_contents()->services.size(), 4U);
}

TEST_F(PinnedMapsTest, ImpossiblePlacesAreRefused) {
  PinnedMaps maps = open();
  const auto refuses = [&](const Operation& operation) {
    const auto status = maps.apply(std::vector<Operation>{SetVipBit{1, true}, operation});
    EXPECT_FALSE(status);
    EXPECT_THAT(status ? "" : status.error().message, HasSubstr("operation 2 of 2"));
  };
  refuses(PutBackend{0, backend(1, 1)});
  refuses(PutBackend{131072, backend(1, 1)});
  refuses(DeleteBackend{0});
  refuses(WriteTable{8, ids({1})});
  refuses(WriteTable{131072 * 16 - 16, ids(std::vector<uint32_t>(17, 1))});
  refuses(WriteTable{0xfffffff0, ids({1})});
  refuses(SetVipBit{1U << abi::VIP_BITS_ORDER, true});
}

TEST_F(PinnedMapsTest, GarbageIsReadWithoutHarm) {
  ASSERT_TRUE(open().apply(std::vector<Operation>{PutFrontend{frontend_key(1, 1), frontend(1, 16, 3)}}));
  abi::frontend wild{};
  std::memset(&wild, 0xff, sizeof wild);
  for (uint32_t value = 0; value < 30000; ++value)
    ASSERT_EQ(bpf_map_update_elem(fds_["frontend_values"], &value, &wild, BPF_ANY), 0);
  change<abi::frontend_bucket>("frontends", 7,
                               [](auto& bucket) { std::memset(&bucket, 0xff, sizeof bucket); });
  abi::service_info unterminated;
  std::memset(&unterminated, 'x', sizeof unterminated);
  const uint32_t id = 1;
  ASSERT_EQ(bpf_map_update_elem(fds_["services"], &id, &unterminated, BPF_ANY), 0);
  const auto contents = *open(true).read_contents();
  EXPECT_EQ(contents.maglev.size(), 131072U * 16);  // no further than there are entries
  EXPECT_EQ(std::strlen(contents.services.at(1).name), sizeof unterminated.name - 1);
}

abi::tuple4 tuple4(uint32_t n) {
  return {n, htobe32(0x0a600001), htobe16(1024), htobe16(80), 6, {}};
}

TEST_F(PinnedMapsTest, FlowsAreWalked) {
  constexpr uint32_t kFlows = 10000;
  for (uint32_t first = 0; first < kFlows; first += 20) {
    change<abi::flow_bucket4>("flows4", first / 20, [&](abi::flow_bucket4& bucket) {
      for (uint32_t slot = 0; slot < 20; ++slot) {
        bucket.entries[slot].tuple = tuple4(first + slot);
        bucket.entries[slot].flow.body.service_id = first + slot;
        bucket.header.tags[slot / 8] |= uint64_t{slot + 1} << (slot % 8 * 8);
      }
    });
  }
  change<abi::flow_bucket6>("flows6", 511, [](abi::flow_bucket6& bucket) {
    bucket.entries[30].tuple.protocol = 17;
    bucket.header.tags[3] = uint64_t{9} << 48;
  });

  PinnedMaps maps = open();
  std::vector<bool> seen(kFlows);
  uint32_t seen6 = 0;
  const auto walk = [&] {
    seen.assign(kFlows, false);
    seen6 = 0;
    return maps.each_flow(
        [&](const FlowEntry4& entry) {
          EXPECT_EQ(entry.key.src_be, entry.flow.body.service_id);
          EXPECT_FALSE(seen[entry.key.src_be]);
          seen[entry.key.src_be] = true;
          return true;
        },
        [&](const FlowEntry6& entry) {
          EXPECT_EQ(entry.key.protocol, 17);
          ++seen6;
          return true;
        });
  };
  ASSERT_TRUE(walk());
  EXPECT_EQ(std::count(seen.begin(), seen.end(), true), kFlows);
  EXPECT_EQ(seen6, 1U);

  std::map<std::string, MapInfo> usage;
  const auto infos = maps.usage();
  ASSERT_TRUE(infos) << infos.error().message;
  for (const MapInfo& info : *infos) usage[info.name] = info;
  EXPECT_EQ(usage["flows4"].used, kFlows);
  EXPECT_EQ(usage["flows4"].capacity, 512U * abi::TABLE_SLOTS);
  EXPECT_EQ(usage["flows6"].used, 1U);

  uint32_t visits = 0;
  ASSERT_TRUE(maps.each_flow([&](const FlowEntry4&) { return ++visits < 3; },
                             [&](const FlowEntry6&) { return true; }));
  EXPECT_EQ(visits, 3U);
}

TEST_F(PinnedMapsTest, CountersAreSummedOverTheCpus) {
  const auto cpus = static_cast<size_t>(libbpf_num_possible_cpus());
  std::vector<abi::counter> values(cpus);
  for (size_t i = 0; i < cpus; ++i) values[i] = {i + 1, (i + 1) * 100};
  const uint32_t index = abi::REASON_TRANSMITTED + uint32_t{abi::HOOK_TC} * abi::REASON_COUNT;
  ASSERT_EQ(bpf_map_update_elem(fds_["counters"], &index, values.data(), BPF_ANY), 0);
  const auto counters = *open(true).read_counters();
  ASSERT_EQ(counters.size(), size_t{abi::REASON_COUNT} * abi::HOOKS);
  EXPECT_EQ(counters[index].packets, cpus * (cpus + 1) / 2);
  EXPECT_EQ(counters[index].bytes, cpus * (cpus + 1) / 2 * 100);
  EXPECT_EQ(counters[index + 1].packets, 0U);
}

TEST_F(PinnedMapsTest, ConnectionsAreSummedOverTheParts) {
  for (uint32_t part = 0; part < abi::SERVICE_COUNTER_PARTS; ++part) {
    const abi::service_counter five{5 + part}, other{1000};
    uint32_t index = 7 + part * abi::SERVICE_IDS;
    ASSERT_EQ(bpf_map_update_elem(fds_["service_counters"], &index, &five, BPF_ANY), 0);
    ++index;
    ASSERT_EQ(bpf_map_update_elem(fds_["service_counters"], &index, &other, BPF_ANY), 0);
  }
  const auto maps = open(true);
  EXPECT_EQ(maps.connections_of(7), 8U * 5 + 28);
  EXPECT_EQ(maps.connections_of(6), 0U);
  EXPECT_EQ(maps.connections_of(abi::SERVICE_IDS), 0U);
  EXPECT_EQ(maps.connections_of(UINT32_MAX), 0U);
}

TEST_F(PinnedMapsTest, AServiceThatGoesTakesItsConnectionsAlong) {
  auto maps = open();
  for (uint32_t part = 0; part < abi::SERVICE_COUNTER_PARTS; ++part) {
    const abi::service_counter five{5};
    for (uint32_t index : {7 + part * abi::SERVICE_IDS, 8 + part * abi::SERVICE_IDS})
      ASSERT_EQ(bpf_map_update_elem(fds_["service_counters"], &index, &five, BPF_ANY), 0);
  }
  const std::vector<Operation> gone = {DeleteService{7}};
  ASSERT_TRUE(maps.apply(gone).ok());
  EXPECT_EQ(maps.connections_of(7), 0U);
  EXPECT_EQ(maps.connections_of(8), 40U);
}

TEST_F(PinnedMapsTest, NodeStateIsWrittenWithTheAbiVersion) {
  PinnedMaps maps = open();
  abi::node_state state{};
  state.epoch = 9;
  state.addr4_be = htobe32(0x0a000001);
  state.addr6_be[3] = 5;
  ASSERT_TRUE(maps.write_node_state(state));
  const auto read = *open(true).read_node_state();
  state.abi_version = abi::MAGLANE_ABI_VERSION;
  state.seed = state_.seed;  // the loader's: tables cannot be read with another
  state.flow_bits_generation = 1;  // of who rotates the flows' bits
  EXPECT_TRUE(same_bytes(read, state));
}

TEST_F(PinnedMapsTest, UsageCountsWhatIsThere) {
  PinnedMaps maps = open();
  ASSERT_TRUE(maps.apply(large_cluster(20, 3, 16)));
  auto bits = std::make_unique<abi::flow_bits>();
  bits->word[5] = {{3, 2}, {0, 1}};
  const uint32_t zero = 0;
  ASSERT_EQ(bpf_map_update_elem(fds_["flow_bits"], &zero, bits.get(), BPF_ANY), 0);
  std::map<std::string, MapInfo> usage;
  const auto infos = maps.usage();
  ASSERT_TRUE(infos) << infos.error().message;
  for (const MapInfo& info : *infos) usage[info.name] = info;
  EXPECT_EQ(usage["frontends"].used, 20U);
  EXPECT_EQ(usage["frontends"].capacity, 800U * abi::TABLE_SLOTS);
  EXPECT_EQ(usage["services"].used, 20U);
  EXPECT_EQ(usage["services"].capacity, 12000U);
  EXPECT_EQ(usage["backends"].used, 60U);
  EXPECT_EQ(usage["maglev"].used, 320U);
  EXPECT_EQ(usage["maglev"].capacity, 131072U * 16);
  EXPECT_EQ(usage["vip_bits"].used, 20U);
  EXPECT_EQ(usage["flow_bits"].used, 3U);  // of both generations together, of both directions
  EXPECT_EQ(usage["flow_bits"].capacity, 2U << abi::VIP_BITS_ORDER);
  EXPECT_GE(usage["backends"].bytes, 131072U * sizeof(abi::backend));
}

bpf_insn instruction(int code, int dst, int src, int off, int imm) {
  bpf_insn result{};
  result.code = static_cast<__u8>(code);
  result.dst_reg = static_cast<__u8>(dst) & 0xf;
  result.src_reg = static_cast<__u8>(src) & 0xf;
  result.off = static_cast<__s16>(off);
  result.imm = imm;
  return result;
}

// A program that writes jiffies, slot_shift and hz into the packet as the real one does.
int clock_program(uint64_t jiffies, uint32_t shift, uint32_t hz) {
  constexpr int kLoad = BPF_LDX | BPF_MEM | BPF_W;
  constexpr int kStore = BPF_ST | BPF_MEM | BPF_W;
  constexpr int kAt = offsetof(abi::clock_call, jiffies);
  const std::vector<bpf_insn> program = {
      instruction(kLoad, BPF_REG_2, BPF_REG_1, offsetof(__sk_buff, data), 0),
      instruction(kLoad, BPF_REG_3, BPF_REG_1, offsetof(__sk_buff, data_end), 0),
      instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_4, BPF_REG_2, 0, 0),
      instruction(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_4, 0, 0, sizeof(abi::clock_call)),
      instruction(BPF_JMP | BPF_JGT | BPF_X, BPF_REG_4, BPF_REG_3, 4, 0),
      instruction(kStore, BPF_REG_2, 0, kAt, static_cast<int>(jiffies)),
      instruction(kStore, BPF_REG_2, 0, kAt + 4, static_cast<int>(jiffies >> 32)),
      instruction(kStore, BPF_REG_2, 0, offsetof(abi::clock_call, slot_shift), static_cast<int>(shift)),
      instruction(kStore, BPF_REG_2, 0, offsetof(abi::clock_call, hz), static_cast<int>(hz)),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0),
      instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  return bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "clock", "GPL", program.data(), program.size(), nullptr);
}

TEST_F(PinnedMapsTest, ClockIsWhatTheProgramTells) {
  const uint64_t jiffies = (uint64_t{0x123456789} << 8) + 99;
  const int program = clock_program(jiffies, 8, 250);
  ASSERT_GE(program, 0) << std::strerror(errno);
  ASSERT_EQ(bpf_obj_pin(program, (root_ + "/programs/clock").c_str()), 0);
  close(program);
  for (const bool read_only : {false, true}) {
    const auto clock = open(read_only).read_clock();
    ASSERT_TRUE(clock) << clock.error().message;
    EXPECT_EQ(clock->slot, 0x456789U);
    EXPECT_DOUBLE_EQ(clock->slot_seconds, 256.0 / 250);
  }
}

TEST_F(PinnedMapsTest, ClockThatIsMissingOrBrokenIsToldSo) {
  EXPECT_THAT(open().read_clock().error().message, HasSubstr("/programs/clock"));
  EXPECT_THAT(open().remove_flow(tuple4(1)).error().message, HasSubstr("/programs/remove_flow"));
  const int program = clock_program(1, 8, 0);
  ASSERT_GE(program, 0);
  ASSERT_EQ(bpf_obj_pin(program, (root_ + "/programs/clock").c_str()), 0);
  close(program);
  EXPECT_THAT(open().read_clock().error().message, HasSubstr("no usable time"));
}

TEST_F(PinnedMapsTest, ReadOnlyRefusesToWrite) {
  PinnedMaps maps = open(true);
  EXPECT_FALSE(maps.apply(std::vector<Operation>{SetVipBit{1, true}}));
  EXPECT_FALSE(maps.write_node_state({}));
  EXPECT_FALSE(maps.remove_flow(tuple4(1)));
}

TEST_F(PinnedMapsTest, AbsentAndForeignMapsAreToldApart) {
  EXPECT_THAT(
      PinnedMaps::open("/sys/fs/bpf/maglane-test-nowhere").error().message,
      HasSubstr("no maglane data plane at /sys/fs/bpf/maglane-test-nowhere: is the agent running there, or "
                "did you mean --bpffs?"));
  abi::node_state state{};
  state.abi_version = abi::MAGLANE_ABI_VERSION + 1;
  write(state);
  EXPECT_THAT(PinnedMaps::open(root_).error().message, HasSubstr("ABI version"));
  state.abi_version = abi::MAGLANE_ABI_VERSION;
  write(state);
  EXPECT_TRUE(PinnedMaps::open(root_));
  replace({"flows6", BPF_MAP_TYPE_ARRAY, 4, sizeof(abi::flow_bucket6) + 8, 16, BPF_F_MMAPABLE});
  EXPECT_THAT(PinnedMaps::open(root_).error().message, HasSubstr("another version of maglane made it"));
  unlink((root_ + "/maps/flows6").c_str());
  EXPECT_THAT(PinnedMaps::open(root_).error().message, HasSubstr("maps/flows6: No such file"));
}

}  // namespace
}  // namespace maglane
