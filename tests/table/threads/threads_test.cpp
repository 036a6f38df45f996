// SPDX-License-Identifier: Apache-2.0
//
// Many threads on one small table, under the thread sanitizer. An answer holds its key and a
// generation in every word, so that a mixed one shows. A key that is "owned" is never given
// up; a token beside the table, taken and given back around each insert and remove, shows an
// entry that is lost or doubled at once. The other keys are fair game for expiry and for
// inserts that need room.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <random>
#include <set>
#include <thread>

#include "tests/table/walk.h"

namespace maglane::test {
namespace {

constexpr uint32_t kBuckets = 6;
constexpr uint32_t kOwned = 130, kLoose = 120;  // of 186 slots
constexpr uint32_t kThreads = 4;
constexpr uint32_t kProtocol = 6;
constexpr uint32_t kDue = 0x8000;  // a bit of the rank, so such entries are given up for others as well

enum Fault { mixed, doubled, lost, half_removed, kFaults };

class Crowd {
 public:
  explicit Crowd(native_shape shape) : shape_(shape), table_(shape, kBuckets, 42) {}

  void run(std::chrono::milliseconds time);
  void check();

 private:
  void work(uint32_t thread);
  void insert(uint32_t key, uint32_t generation);
  void find(uint32_t key);
  void find_owned(uint32_t key);
  void remove(uint32_t key);
  void remove_found(uint32_t key);
  uint32_t take(uint32_t key);
  int wait_find(uint32_t key, uint32_t* meta);
  bool whole(uint32_t key, const Words& answer) const;
  Words words(uint32_t key) const;
  Words answer(uint32_t key, uint32_t generation) const;

  native_shape shape_;
  Table table_;
  std::array<std::atomic<uint32_t>, kOwned> token_{};  // generation; 0: the key is out, or somebody has the token
  std::array<std::atomic<uint64_t>, kFaults> faults_{};
  std::array<std::atomic<uint64_t>, NATIVE_BUSY + 1> inserts_{};
  std::atomic<uint64_t> expired_{0};
  std::atomic<bool> stop_{false};
};

Words Crowd::words(uint32_t key) const {
  Words words(native_layout_of(shape_).key_words, 0x0123456789abcdefULL);
  words[0] = __u64{key} << 32 | ~key;
  words.back() = (key * 2654435761U) | __u64{kProtocol} << 32;
  if (shape_ == SHAPE_FRONTEND) words.back() = key + 1;
  return words;
}

Words Crowd::answer(uint32_t key, uint32_t generation) const {
  return Words(native_layout_of(shape_).answer_words, __u64{key} << 32 | generation);
}

bool Crowd::whole(uint32_t key, const Words& answer) const {
  for (const __u64 word : answer)
    if (word != answer[0] || word >> 32 != key) return false;
  return true;
}

void Crowd::insert(uint32_t key, uint32_t generation) {
  const uint32_t state = (shape_ == SHAPE_FRONTEND ? 0 : kProtocol) | (key < kOwned ? 0 : kDue);
  const int result =
      native_insert(table_.get(), words(key).data(), answer(key, generation).data(), state, 0);
  inserts_[result].fetch_add(1, std::memory_order_relaxed);
  uint32_t none = 0;
  if (key < kOwned && result == NATIVE_DONE && !token_[key].compare_exchange_strong(none, generation))
    ++faults_[doubled];
}

// With the token taken nobody removes the key, and nobody can insert it.
uint32_t Crowd::take(uint32_t key) {
  uint32_t generation = token_[key];
  return generation && token_[key].compare_exchange_strong(generation, 0) ? generation : 0;
}

int Crowd::wait_find(uint32_t key, uint32_t* meta) {
  Words found(native_layout_of(shape_).answer_words);
  int result;
  while ((result = native_find(table_.get(), words(key).data(), meta, found.data())) == NATIVE_BUSY)
    std::this_thread::yield();
  if (result == NATIVE_DONE && !whole(key, found)) ++faults_[mixed];
  return result;
}

void Crowd::find(uint32_t key) {
  uint32_t meta;
  wait_find(key, &meta);
}

void Crowd::find_owned(uint32_t key) {
  const uint32_t generation = take(key);
  uint32_t meta;
  if (!generation) return;
  if (wait_find(key, &meta) != NATIVE_DONE) ++faults_[lost];
  token_[key] = generation;
}

void Crowd::remove(uint32_t key) {
  int result;
  if (!take(key)) return;
  while ((result = native_remove(table_.get(), words(key).data())) == NATIVE_BUSY) std::this_thread::yield();
  if (result != NATIVE_DONE) ++faults_[lost];
}

void Crowd::remove_found(uint32_t key) {
  const uint32_t generation = take(key);
  uint32_t meta = 0;
  if (!generation) return;
  int result = wait_find(key, &meta);
  const int location = native_locate(table_.get(), words(key).data());
  std::this_thread::yield();  // for somebody to change it
  if (result == NATIVE_DONE)
    result = native_remove_found(table_.get(), words(key).data(), location, meta);
  else
    ++faults_[lost];
  if (result == NATIVE_DONE) return;
  uint32_t again;
  if (wait_find(key, &again) != NATIVE_DONE) ++faults_[half_removed];
  token_[key] = generation;
}

void Crowd::work(uint32_t thread) {
  std::minstd_rand random(thread + 1);
  for (uint32_t turn = 1; !stop_; ++turn) {
    const uint32_t generation = thread << 28 | (turn & 0xfffffff);
    const uint32_t key = random() % (kOwned + kLoose);
    const uint32_t verb = random() % 16;
    if (verb < 7) insert(key, generation);
    else if (verb < 9) find(key);
    else if (verb < 11) native_change(table_.get(), words(key).data(), answer(key, generation).data());
    else if (verb < 12) native_add_state(table_.get(), words(key).data(), 0x100 * (key >= kOwned));
    else if (verb < 13) expired_ += native_expire(table_.get(), key % kBuckets, random() % 31, kDue);
    else if (key >= kOwned) native_remove(table_.get(), words(key).data());
    else if (verb < 14) find_owned(key);
    else if (verb < 15) remove(key);
    else remove_found(key);
  }
}

void Crowd::run(std::chrono::milliseconds time) {
  std::vector<std::thread> threads;
  for (uint32_t n = 0; n < kThreads; ++n) threads.emplace_back([this, n] { work(n); });
  std::this_thread::sleep_for(time);
  stop_ = true;
  for (std::thread& thread : threads) thread.join();
}

void Crowd::check() {
  EXPECT_EQ(faults_[mixed], 0u);
  EXPECT_EQ(faults_[doubled], 0u);
  EXPECT_EQ(faults_[lost], 0u);
  EXPECT_EQ(faults_[half_removed], 0u);
  EXPECT_EQ(faults_of(table_.get()), "");
  std::set<Words> present;
  for (const Entry& entry : entries_of(*table_)) {
    present.insert(entry.key);
    EXPECT_TRUE(whole(static_cast<uint32_t>(entry.answer[0] >> 32), entry.answer));
    EXPECT_EQ(words(static_cast<uint32_t>(entry.answer[0] >> 32)), entry.key);
  }
  for (uint32_t key = 0; key < kOwned; ++key) EXPECT_EQ(token_[key] != 0, present.count(words(key)) == 1) << key;
  // It was as crowded as it was meant to be.
  EXPECT_GT(inserts_[NATIVE_DONE], 1000u);
  EXPECT_GT(inserts_[NATIVE_PRESENT], 100u);
  EXPECT_GT(expired_, 100u);
}

void crowd(native_shape shape) {
  native_stretched = 1;
  Crowd crowd(shape);
  crowd.run(std::chrono::seconds(2));
  crowd.check();
}

TEST(TableThreads, flow4) { crowd(SHAPE_FLOW4); }
TEST(TableThreads, flow6) { crowd(SHAPE_FLOW6); }

}  // namespace
}  // namespace maglane::test
