// SPDX-License-Identifier: Apache-2.0
//
// All CPUs at once on the flow tables, inside the kernel: table_kernel_test [--seconds N].
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <set>
#include <thread>

#include "tests/table/kernel/stress.h"
#include "tests/table/walk.h"

// The skeletons name the type of the constants in the global namespace.
using maglane::abi::node_config;
#include "table_stress.skel.h"
#include "table_stress_arm64.skel.h"

namespace maglane::test {
namespace {

int seconds = 2;

struct Crowd {
  uint32_t buckets;
  uint32_t owned;
  uint32_t loose;
};
// All keys together fit into the table, hardly ever into their first buckets alone.
constexpr Crowd kRoomy = {8, 200, 0};
// Flows are given up all the time.
constexpr Crowd kFull = {4, 60, 3000};

// Makes only the maps that are needed, small.
void shrink(bpf_object* object, const Crowd& crowd) {
  static const std::set<std::string> needed = {"flows4", "flows6", "node_state",
                                               "tokens", "rooms",  "scratches",
                                               "retired_flows4", "retired_flows6"};
  bpf_map* map;
  bpf_object__for_each_map(map, object) {
    const std::string name = bpf_map__name(map);
    if (name.rfind("flows", 0) == 0) bpf_map__set_max_entries(map, crowd.buckets);
    if (!bpf_map__is_internal(map) && !needed.count(name)) bpf_map__set_autocreate(map, false);
  }
}

void configure(node_config* config, const Crowd& crowd) {
  config->slot_shift = 8;
  config->hz = 250;
  config->timeouts = {};
  config->timeouts.tcp_syn_sent = config->timeouts.tcp_syn_recv = config->timeouts.tcp_unacknowledged = 30;
  config->timeouts.tcp_established = config->timeouts.udp_stream = 1 << 20;
  config->timeouts.tcp_fin_wait = config->timeouts.tcp_close_wait = config->timeouts.tcp_last_ack =
      config->timeouts.tcp_time_wait = config->timeouts.tcp_close = config->timeouts.udp = 30;
  config->seed = make_seed(7);
  config->flow_buckets4 = config->flow_buckets6 = crowd.buckets;
}

template <typename Skeleton>
class Object {
 public:
  explicit Object(const Crowd& crowd) : crowd_(crowd), skeleton_(Skeleton::open()) {
    shrink(skeleton_->obj, crowd);
    configure(const_cast<node_config*>(&skeleton_->rodata->config), crowd);
    if (Skeleton::load(skeleton_) != 0) std::abort();
    for (const abi::family family : {abi::FAMILY_IPV4, abi::FAMILY_IPV6}) {
      const native_shape shape = shape_of(family);
      const size_t size = size_t{crowd.buckets} * native_layout_of(shape).bucket_size;
      table(family) = {shape, map(family == abi::FAMILY_IPV4 ? "flows4" : "flows6", size), crowd.buckets,
                       make_seed(7)};
    }
    tokens_ = static_cast<uint32_t*>(map("tokens", STRESS_TOKENS * sizeof(uint64_t)));
  }
  ~Object() { Skeleton::destroy(skeleton_); }
  Object(const Object&) = delete;

  static native_shape shape_of(abi::family family) {
    return family == abi::FAMILY_IPV4 ? SHAPE_FLOW4 : SHAPE_FLOW6;
  }
  native_table& table(abi::family family) { return tables_[family == abi::FAMILY_IPV6]; }
  // Array maps keep values at multiples of eight bytes.
  uint32_t token(uint32_t key) const { return tokens_[key * 2]; }
  const Crowd& crowd() const { return crowd_; }

  // One call; adds its results to `sum`.
  bool run(abi::family family, uint32_t operations, uint32_t random, stress_call* sum) {
    stress_call call{};
    call.operations = operations;
    call.random = random | 1;
    call.owned = crowd_.owned;
    call.loose = crowd_.loose;
    call.buckets = crowd_.buckets;
    const bpf_program* program =
        family == abi::FAMILY_IPV4 ? skeleton_->progs.stress4 : skeleton_->progs.stress6;
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = &call, .data_out = &call, .data_size_in = sizeof call,
                .data_size_out = sizeof call);
    if (bpf_prog_test_run_opts(bpf_program__fd(program), &options) != 0 || options.retval != 0) return false;
    auto* from = &call.faults[0];
    auto* to = &sum->faults[0];
    for (size_t i = 0; i < (sizeof call - offsetof(stress_call, faults)) / sizeof *from; ++i)
      to[i] += from[i];
    return true;
  }

 private:
  void* map(const char* name, size_t size) {
    const int fd = bpf_object__find_map_fd_by_name(skeleton_->obj, name);
    void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) std::abort();
    return memory;
  }

  Crowd crowd_;
  Skeleton* skeleton_;
  native_table tables_[2];
  uint32_t* tokens_;
};

void pin(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

Words key_words(uint32_t number, abi::family family) {
  if (family == abi::FAMILY_IPV4) {
    abi::tuple4 tuple{number, ~number, static_cast<uint16_t>(number / 4), 0, STRESS_PROTOCOL, {}};
    Words words(2);
    std::memcpy(words.data(), &tuple, sizeof tuple);
    return words;
  }
  abi::tuple6 tuple{{number}, {~number}, static_cast<uint16_t>(number / 4), 0, STRESS_PROTOCOL, {}};
  Words words(5);
  std::memcpy(words.data(), &tuple, sizeof tuple);
  return words;
}

bool whole(uint32_t number, const Words& answer, abi::family family) {
  const size_t hop = family == abi::FAMILY_IPV4 ? 3 : 6;
  for (size_t i = 0; i < answer.size(); ++i)
    if ((i < hop || i > hop + 2) && answer[i] != answer[0]) return false;
  const uint32_t generation = static_cast<uint32_t>(answer[hop + 1]);
  return answer[0] >> 32 == number && answer[hop + 1] >> 32 == number && answer[hop] >> 32 == generation &&
         static_cast<uint32_t>(answer[hop + 2]) == generation;
}

void add(const stress_call& one, stress_call* sum) {
  for (size_t i = 0; i < (sizeof one - offsetof(stress_call, faults)) / 8; ++i)
    (&sum->faults[0])[i] += (&one.faults[0])[i];
}

// Whether enough of everything was met.
bool crowded(const stress_call& sum, const Crowd& crowd) {
  return sum.inserts[NATIVE_DONE] > 1000 && sum.inserts[NATIVE_PRESENT] > 1000 &&
         sum.removes[NATIVE_DONE] > 1000 && sum.changes > 1000 && (!crowd.loose || sum.expired > 100);
}

// What the programs of all CPUs do, while this thread reads the same memory as the inspector does.
template <typename Skeleton>
stress_call run_all(Object<Skeleton>& object, abi::family family, std::chrono::milliseconds time,
                    uint64_t* read) {
  const unsigned cpus = std::thread::hardware_concurrency();
  std::vector<stress_call> sums(cpus);
  std::atomic<bool> stop{false}, failed{false};
  std::vector<std::thread> threads;
  for (unsigned cpu = 0; cpu < cpus; ++cpu) {
    threads.emplace_back([&, cpu] {
      pin(cpu);
      for (uint32_t turn = 1; !stop && !failed; ++turn)
        if (!object.run(family, 20000, turn * 2654435761U + cpu, &sums[cpu])) failed = true;
    });
  }
  native_table& table = object.table(family);
  Words answer(native_layout_of(table.shape).answer_words);
  const auto end = std::chrono::steady_clock::now() + time;
  for (uint32_t n = 0; std::chrono::steady_clock::now() < end; ++n) {
    const uint32_t number = n % (object.crowd().owned + object.crowd().loose);
    uint32_t meta;
    if (native_find(&table, key_words(number, family).data(), &meta, answer.data()) != NATIVE_DONE) continue;
    ++*read;
    EXPECT_TRUE(whole(number, answer, family)) << "read by the inspector, key " << number;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(failed);
  stress_call sum{};
  for (const stress_call& one : sums) add(one, &sum);
  return sum;
}

template <typename Skeleton>
void expect_sound(Object<Skeleton>& object, abi::family family) {
  native_table& table = object.table(family);
  EXPECT_EQ(faults_of(&table), "");
  std::set<uint32_t> present;
  for (const Entry& entry : entries_of(table)) {
    const auto number = static_cast<uint32_t>(entry.answer[0] >> 32);
    EXPECT_EQ(entry.key, key_words(number, family));
    EXPECT_TRUE(whole(number, entry.answer, family)) << number;
    present.insert(number);
  }
  for (uint32_t number = 0; number < object.crowd().owned; ++number)
    EXPECT_EQ(object.token(number) != 0, present.count(number) == 1) << "key " << number;
}

template <typename Skeleton>
void stress(abi::family family, const Crowd& crowd) {
  Object<Skeleton> object(crowd);
  uint64_t read = 0;
  stress_call sum{};
  // An emulated machine needs more than one.
  for (int round = 0; round == 0 || (round < 50 && !crowded(sum, crowd)); ++round)
    add(run_all(object, family, std::chrono::milliseconds(seconds * 500), &read), &sum);
  for (int fault = 0; fault < STRESS_FAULTS; ++fault)
    EXPECT_EQ(sum.faults[fault], 0u) << "stress_fault " << fault;
  expect_sound(object, family);
  EXPECT_TRUE(crowded(sum, crowd));
  if (!crowd.loose) {
    EXPECT_EQ(sum.inserts[NATIVE_FULL], 0u);
  }
  fmt::print(
      "inserts: {} in, {} there already, {} full, {} busy; {} found; {} removed, {} expired, {} changed; "
      "{} of {} finds busy; {} read from outside\n",
      sum.inserts[NATIVE_DONE], sum.inserts[NATIVE_PRESENT], sum.inserts[NATIVE_FULL],
      sum.inserts[NATIVE_BUSY], sum.finds[NATIVE_DONE], sum.removes[NATIVE_DONE], sum.expired, sum.changes,
      sum.finds[NATIVE_BUSY], sum.finds[NATIVE_DONE] + sum.finds[NATIVE_ABSENT] + sum.finds[NATIVE_BUSY],
      read);
}

TEST(TableInKernel, flows4_with_room) {
  stress<table_stress_bpf>(abi::FAMILY_IPV4, kRoomy);
}
TEST(TableInKernel, flows4_full) {
  stress<table_stress_bpf>(abi::FAMILY_IPV4, kFull);
}
TEST(TableInKernel, flows6_with_room) {
  stress<table_stress_bpf>(abi::FAMILY_IPV6, kRoomy);
}
TEST(TableInKernel, flows6_full) {
  stress<table_stress_bpf>(abi::FAMILY_IPV6, kFull);
}
TEST(TableInKernel, flows4_with_the_instructions_for_arm64) {
  stress<table_stress_arm64_bpf>(abi::FAMILY_IPV4, kFull);
}
TEST(TableInKernel, flows6_with_the_instructions_for_arm64) {
  stress<table_stress_arm64_bpf>(abi::FAMILY_IPV6, kRoomy);
}

// A process that dies while its programs run leaves no lock and nothing half done.
TEST(TableInKernel, death_leaves_no_lock) {
  Object<table_stress_bpf> object(kFull);
  for (int turn = 0; turn < 20; ++turn) {
    const pid_t child = fork();
    if (child == 0) {
      stress_call sum{};
      for (uint32_t n = 1;; ++n)
        object.run(abi::FAMILY_IPV4, 20000, n * 2654435761U + static_cast<uint32_t>(turn), &sum);
    }
    usleep(20000 + turn * 1700);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    ASSERT_EQ(faults_of(&object.table(abi::FAMILY_IPV4)), "");
  }
  expect_sound(object, abi::FAMILY_IPV4);
}

}  // namespace

void set_seconds(int value) {
  seconds = value;
}

}  // namespace maglane::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i)
    if (std::string(argv[i]) == "--seconds" && i + 1 < argc)
      maglane::test::set_seconds(std::atoi(argv[i + 1]));
  return RUN_ALL_TESTS();
}
