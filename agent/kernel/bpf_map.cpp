// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/bpf_map.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

namespace maglane {
namespace {

constexpr uint32_t kBatch = 4096;
// The kernel's own ENOTSUPP (include/linux/errno.h), which user space headers lack.
constexpr int kKernelNotSupported = 524;

bool batch_unsupported(int error) {
  return error == EINVAL || error == EOPNOTSUPP || error == kKernelNotSupported;
}

Error failed(const char* what, const char* map, int error) {
  if (error == E2BIG) return Error{fmt::format("map \"{}\" is full", map)};
  return Error{fmt::format("cannot {} map \"{}\": {}", what, map, std::strerror(error))};
}

using Visit = std::function<bool(const std::byte*, const std::byte*)>;

// Arrays of keys and values as the batch calls want them, with room for `count`.
struct Buffers {
  Buffers(const MapShape& shape, uint32_t count)
      : keys(size_t{shape.key_size} * count), values(size_t{shape.value_size} * count) {}
  std::vector<std::byte> keys;
  std::vector<std::byte> values;
};

Status each_singly(int fd, const MapShape& shape, uint32_t capacity, const Visit& visit) {
  Buffers entry(shape, 1);
  std::vector<std::byte> next(shape.key_size);
  const void* previous = nullptr;
  // A key that vanishes sends the walk back to the start: the bound ends it in any case.
  for (uint64_t steps = 0; steps < uint64_t{capacity} * 2 + 1; ++steps) {
    if (bpf_map_get_next_key(fd, previous, next.data()) != 0)
      return errno == ENOENT ? ok_status() : failed("walk", shape.name, errno);
    entry.keys = next;
    previous = entry.keys.data();
    if (bpf_map_lookup_elem(fd, entry.keys.data(), entry.values.data()) != 0) {
      if (errno == ENOENT) continue;
      return failed("read", shape.name, errno);
    }
    if (!visit(entry.keys.data(), entry.values.data())) return ok_status();
  }
  return ok_status();
}

}  // namespace

Result<BpfMap> BpfMap::open(const std::string& path, const MapShape& shape, bool read_only) {
  LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = read_only ? uint32_t{BPF_F_RDONLY} : 0);
  BpfMap map;
  map.shape_ = shape;
  map.fd_ = bpf_obj_get_opts(path.c_str(), &options);
  if (map.fd_ < 0) return Error{fmt::format("cannot open {}: {}", path, std::strerror(errno))};
  bpf_map_info info{};
  uint32_t length = sizeof info;
  if (bpf_obj_get_info_by_fd(map.fd_, &info, &length) != 0)
    return Error{fmt::format("{} is not a BPF map: {}", path, std::strerror(errno))};
  if (info.key_size != shape.key_size || info.value_size != shape.value_size)
    return Error{
        fmt::format("{} has keys of {} and values of {} bytes, this program reads {} and {}: "
                    "another version of maglane made it",
                    path, info.key_size, info.value_size, shape.key_size, shape.value_size)};
  map.capacity_ = info.max_entries;
  return map;
}

BpfMap::BpfMap(BpfMap&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      shape_(other.shape_),
      capacity_(other.capacity_),
      memory_(std::exchange(other.memory_, nullptr)) {}

BpfMap& BpfMap::operator=(BpfMap&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(shape_, other.shape_);
  std::swap(capacity_, other.capacity_);
  std::swap(memory_, other.memory_);
  return *this;
}

BpfMap::~BpfMap() {
  if (memory_ != nullptr) munmap(memory_, memory_size());
  if (fd_ >= 0) close(fd_);
}

uint64_t BpfMap::kernel_bytes() const {
  std::ifstream info(fmt::format("/proc/self/fdinfo/{}", fd_));
  std::string label;
  uint64_t bytes = 0;
  for (std::string line; std::getline(info, line);)
    if (line.rfind("memlock:", 0) == 0) bytes = std::strtoull(line.c_str() + 8, nullptr, 10);
  return bytes;
}

Status BpfMap::each(const Visit& visit) const {
  uint32_t batch = std::min(kBatch, capacity_);
  Buffers buffers(shape_, batch);
  // For a hash map the place is the number of a bucket, for others a key.
  const size_t place_size = std::max(sizeof(uint64_t), size_t{shape_.key_size});
  std::vector<std::byte> place(place_size), next_place(place_size);
  bool first = true;
  for (;;) {
    uint32_t count = batch;
    const int failure = bpf_map_lookup_batch(fd_, first ? nullptr : place.data(), next_place.data(), buffers.keys.data(),
                                             buffers.values.data(), &count, nullptr);
    const int error = failure == 0 ? 0 : errno;
    if (error == ENOSPC && batch < capacity_) {
      // One bucket alone holds more than the buffer does.
      batch = std::min(batch * 2, capacity_);
      buffers = Buffers(shape_, batch);
      continue;
    }
    if (first && batch_unsupported(error)) return each_singly(fd_, shape_, capacity_, visit);
    if (error != 0 && error != ENOENT) return failed("read", shape_.name, error);
    for (uint32_t i = 0; i < count; ++i)
      if (!visit(&buffers.keys[size_t{i} * shape_.key_size], &buffers.values[size_t{i} * shape_.value_size]))
        return ok_status();
    if (error == ENOENT) return ok_status();  // the end; `count` of this last call were still valid
    place = next_place;
    first = false;
  }
}

Status BpfMap::look_up(const void* key, void* value) const {
  if (bpf_map_lookup_elem(fd_, key, value) != 0) return failed("read", shape_.name, errno);
  return ok_status();
}

Status BpfMap::update(const void* keys, const void* values, uint32_t count, uint32_t& done) {
  const auto* key = static_cast<const std::byte*>(keys);
  const auto* value = static_cast<const std::byte*>(values);
  done = 0;
  if (count > 1) {
    done = count;
    if (bpf_map_update_batch(fd_, keys, values, &done, nullptr) == 0) return ok_status();
    if (!batch_unsupported(errno)) return failed("write", shape_.name, errno);
    done = 0;
  }
  for (; done < count; ++done)
    if (bpf_map_update_elem(fd_, key + size_t{done} * shape_.key_size,
                            value + size_t{done} * shape_.value_size, BPF_ANY) != 0)
      return failed("write", shape_.name, errno);
  return ok_status();
}

Status BpfMap::remove(const void* keys, uint32_t count, uint32_t& done) {
  const auto* key = static_cast<const std::byte*>(keys);
  done = 0;
  if (count > 1) {
    done = count;
    if (bpf_map_delete_batch(fd_, keys, &done, nullptr) == 0) return ok_status();
    // A batch ends at the first key that is missing; what is left goes singly.
    if (batch_unsupported(errno))
      done = 0;
    else if (errno != ENOENT)
      return failed("delete from", shape_.name, errno);
  }
  for (; done < count; ++done)
    if (bpf_map_delete_elem(fd_, key + size_t{done} * shape_.key_size) != 0 && errno != ENOENT)
      return failed("delete from", shape_.name, errno);
  return ok_status();
}

size_t BpfMap::memory_size() const {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t bytes = size_t{capacity_} * shape_.value_size;
  return (bytes + page - 1) / page * page;
}

Result<std::byte*> BpfMap::map_memory(bool writable) {
  if (memory_ != nullptr) return memory_;
  void* memory =
      mmap(nullptr, memory_size(), writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd_, 0);
  if (memory == MAP_FAILED) return failed("map the memory of", shape_.name, errno);
  memory_ = static_cast<std::byte*>(memory);
  return memory_;
}

}  // namespace maglane
