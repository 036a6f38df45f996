// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/loader.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <set>

#include "agent/kernel/libbpf_log.h"
#include "agent/kernel/netns.h"
#include "agent/kernel/socket_hooks.h"

// The skeleton names the type of the constants in the global namespace.
using maglane::abi::node_config;
#include "maglane.skel.h"

namespace maglane {
namespace {

struct CloseObject {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using ObjectPtr = std::unique_ptr<bpf_object, CloseObject>;

// Never pinned: with which table of before the programs go on until no hook uses it (bpf/flow.h).
const std::map<std::string, std::string> kRetiredMaps = {{"flows4", "retired_flows4"},
                                                         {"flows6", "retired_flows6"}};

// Maps that refer to each other by id and offset: they are kept or replaced together.
const std::set<std::string> kOwnedByAgent = {"frontends", "frontend_values", "services",
                                             "backends",  "maglev",          "vip_bits",
                                             "source_ranges", "service_counters"};
// Maps that can only be read with the seed in node_state.
const std::set<std::string> kTables = {"frontends", "flows4", "flows6"};
// Those of them whose contents go over into the new ones (carry_over.h).
const std::set<std::string> kCarriedOver = {"flows4", "flows6"};

Error kernel_error(const std::string& what, int error) {
  std::string hint =
      error == EPERM ? "; run it as root, or with the capabilities BPF, PERFMON and NET_ADMIN" : "";
  return Error{fmt::format("{}: {}{}", what, std::strerror(error), hint)};
}

Result<ObjectPtr> open_object() {
  size_t size = 0;
  const void* bytes = maglane_bpf::elf_bytes(&size);
  LIBBPF_OPTS(bpf_object_open_opts, options, .object_name = "maglane");
  ObjectPtr object(bpf_object__open_mem(bytes, size, &options));
  if (!object) return kernel_error("cannot open the BPF programs", errno);
  return object;
}

void set_sizes(bpf_object* object, const DataPlaneOptions& options) {
  auto set = [&](const char* name, uint32_t entries) {
    bpf_map__set_max_entries(bpf_object__find_map_by_name(object, name), entries);
  };
  set("flows4", options.flow_buckets());
  set("flows6", options.flow_buckets());
  set("frontends", options.frontend_buckets());
  set("frontend_values", options.frontend_values());
  set("affinity", options.affinity_entries);
  set("maglev", options.maglev_entries / abi::MAGLEV_LINE_ENTRIES);
}

// A kernel that has no such hooks takes the others all the same.
void leave_out_socket_programs(bpf_object* object) {
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    if (is_socket_program(bpf_program__name(program))) bpf_program__set_autoload(program, false);
  }
}

// Several compilation units define `config` weakly; the BTF says where the one is that counts.
Result<size_t> config_offset(const bpf_object* object) {
  const btf* types = bpf_object__btf(object);
  int id = btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC);
  const btf_type* section = id > 0 ? btf__type_by_id(types, static_cast<uint32_t>(id)) : nullptr;
  for (unsigned i = 0; section && i < btf_vlen(section); ++i) {
    const btf_var_secinfo& variable = btf_var_secinfos(section)[i];
    const char* name = btf__name_by_offset(types, btf__type_by_id(types, variable.type)->name_off);
    if (name && std::string_view(name) == "config" && variable.size == sizeof(abi::node_config))
      return variable.offset;
  }
  return Error{
      "the BPF object has no constant `config` of this agent's size: program and object do not match"};
}

Status set_constants(bpf_object* object, const abi::node_config& config) {
  auto offset = config_offset(object);
  if (!offset) return offset.error();
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (!std::string_view(bpf_map__name(map)).ends_with(".rodata")) continue;
    size_t size = 0;
    auto* bytes = static_cast<uint8_t*>(const_cast<void*>(bpf_map__initial_value(map, &size)));
    if (!bytes || *offset + sizeof config > size) break;
    std::memcpy(bytes + *offset, &config, sizeof config);
    return ok_status();
  }
  return Error{"the BPF object has no section .rodata: program and object do not match"};
}

// All but the number of entries.
bool same_kind(const bpf_map* map, const bpf_map_info& info) {
  return info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
         info.value_size == bpf_map__value_size(map) && info.map_flags == bpf_map__map_flags(map);
}

// The seed that the pinned tables were made with, a new one where there are none. Fails if
// what is pinned is of another version.
Result<abi::table_seed> pinned_seed(const Bpffs& bpffs) {
  Fd state_map(bpf_obj_get(bpffs.map("node_state").c_str()));
  if (!state_map.ok()) {
    if (errno == ENOENT) return random_seed();
    return kernel_error("cannot open the pinned maps", errno);
  }
  bpf_map_info info{};
  uint32_t size = sizeof info;
  abi::node_state state{};
  uint32_t zero = 0;
  if (bpf_obj_get_info_by_fd(state_map.get(), &info, &size) != 0 || info.value_size != sizeof state ||
      bpf_map_lookup_elem(state_map.get(), &zero, &state) != 0 ||
      state.abi_version != abi::MAGLANE_ABI_VERSION) {
    return Error{fmt::format(
        "the maps in {} were made by another version (ABI {}, this agent has {}): run "
        "`maglane-agent --cleanup --bpffs {}` first, which ends the connections that are open",
        bpffs.root(), state.abi_version, static_cast<int>(abi::MAGLANE_ABI_VERSION), bpffs.root())};
  }
  return state.seed;
}

struct Pinned {
  Fd fd;
  uint32_t id = 0;
  uint32_t entries = 0;
  bool same_kind = false;
  bool same = false;  // in size, too
};
using PinnedByName = std::map<std::string, Pinned>;

// What is pinned for each map of the object; no descriptor where nothing is.
Result<PinnedByName> open_pinned(const Bpffs& bpffs, const bpf_object* object) {
  PinnedByName pinned;
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    if (bpf_map__is_internal(map) || bpf_map__type(map) == BPF_MAP_TYPE_ARRAY_OF_MAPS) continue;
    const char* name = bpf_map__name(map);
    Fd fd(bpf_obj_get(bpffs.map(name).c_str()));
    if (!fd.ok() && errno != ENOENT) return kernel_error("cannot open " + bpffs.map(name), errno);
    bpf_map_info info{};
    uint32_t size = sizeof info;
    const bool same =
        fd.ok() && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 && same_kind(map, info);
    pinned.emplace(name, Pinned{std::move(fd), info.id, info.max_entries, same, same && info.max_entries == bpf_map__max_entries(map)});
  }
  return pinned;
}

// The names of pinned maps that cannot be taken up again.
std::set<std::string> to_replace(const PinnedByName& pinned) {
  std::set<std::string> replace;
  bool owned = false;
  const bool seed_lost = !pinned.at("node_state").fd.ok();
  for (const auto& [name, map] : pinned) {
    if (!map.fd.ok() || (map.same && !(seed_lost && kTables.contains(name)))) continue;
    replace.insert(name);
    owned |= kOwnedByAgent.contains(name);
  }
  if (!owned) return replace;
  replace.insert(kOwnedByAgent.begin(), kOwnedByAgent.end());
  replace.insert("affinity");  // by ids that are given anew
  return replace;
}

// Of those, the ones that another size takes the place of: their contents are still good.
std::map<std::string, uint32_t> to_retire(const PinnedByName& pinned,
                                          const std::set<std::string>& replace) {
  std::map<std::string, uint32_t> retired;
  if (!pinned.at("node_state").fd.ok()) return retired;
  for (const std::string& name : kCarriedOver)
    if (replace.contains(name) && pinned.at(name).same_kind) retired.emplace(name, pinned.at(name).id);
  return retired;
}

// Before the object is loaded: what it is to know of the tables that are retired.
Status describe_retired(bpf_object* object, const PinnedByName& pinned,
                        const std::map<std::string, uint32_t>& retired, abi::node_config& config) {
  for (const auto& [name, id] : retired) {
    const Pinned& table = pinned.at(name);
    (name == "flows4" ? config.retired_buckets4 : config.retired_buckets6) = table.entries;
    bpf_map* outer = bpf_object__find_map_by_name(object, kRetiredMaps.at(name).c_str());
    if (int error = bpf_map__set_inner_map_fd(outer, table.fd.get()); error != 0)
      return kernel_error("cannot keep the old " + name + " in use", -error);
  }
  return ok_status();
}

Status enter_retired(const bpf_object* object, const PinnedByName& pinned,
                     const std::map<std::string, uint32_t>& retired) {
  const uint32_t zero = 0;
  for (const auto& [name, id] : retired) {
    const int outer = bpf_object__find_map_fd_by_name(object, kRetiredMaps.at(name).c_str()), table = pinned.at(name).fd.get();
    if (int error = bpf_map_update_elem(outer, &zero, &table, BPF_ANY); error != 0)
      return kernel_error("cannot keep the old " + name + " in use", -error);
  }
  return ok_status();
}

Status load_object(bpf_object* object) {
  LibbpfLog log;
  int error = bpf_object__load(object);
  if (error == 0) return ok_status();
  std::string tail = log.tail(25);
  if (!tail.empty()) spdlog::error("the kernel on loading the BPF programs:\n{}", tail);
  return kernel_error("the kernel did not take the BPF programs", -error);
}

// Before any other map is pinned, so that pinned maps always have a version beside them.
Status initialize_node_state(int fd, const abi::table_seed& seed) {
  abi::node_state state{};
  state.epoch = 1;
  state.seed = seed;
  state.abi_version = abi::MAGLANE_ABI_VERSION;
  uint32_t zero = 0;
  if (int error = bpf_map_update_elem(fd, &zero, &state, BPF_ANY); error != 0) {
    return kernel_error("cannot write map node_state", -error);
  }
  return ok_status();
}

// In which order new maps are pinned. A map of the wrong size comes after those that are
// only replaced with it, and a new seed after the tables of the old one: whenever this is cut
// short, the next start finds the same need.
std::vector<std::string> pin_order(const PinnedByName& pinned,
                                   const std::set<std::string>& replace) {
  std::vector<std::string> order;
  const bool old_tables = std::any_of(kTables.begin(), kTables.end(),
                                      [&](const std::string& name) { return pinned.at(name).fd.ok(); });
  auto rank = [&](const std::string& name) {
    if (name == "node_state") return old_tables ? 3 : 0;
    const Pinned& map = pinned.at(name);
    return map.fd.ok() && !map.same ? 2 : 1;
  };
  for (const auto& [name, map] : pinned) {
    if (!map.fd.ok() || replace.contains(name)) order.push_back(name);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](const std::string& a, const std::string& b) { return rank(a) < rank(b); });
  return order;
}

Fd duplicate(int fd) {
  return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

// Those that an agent before has left, if they are all there.
std::optional<std::map<std::string, Fd>> pinned_programs(const Bpffs& bpffs, bpf_object* object) {
  std::map<std::string, Fd> programs;
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object) {
    if (!bpf_program__autoload(program)) continue;
    const char* name = bpf_program__name(program);
    Fd fd(bpf_obj_get(bpffs.program(name).c_str()));
    if (!fd.ok()) return std::nullopt;
    programs.emplace(name, std::move(fd));
  }
  return programs;
}

bool all_readable(const PinnedByName& pinned) {
  return std::all_of(pinned.begin(), pinned.end(), [](const auto& map) { return map.second.same_kind; });
}

}  // namespace

Result<DataPlane> DataPlane::load(const Bpffs& bpffs, const DataPlaneOptions& options) {
  auto seed = pinned_seed(bpffs);
  if (!seed) return seed.error();
  auto cookie = netns_cookie();
  if (!cookie) return cookie.error();
  auto config = make_node_config(options, kernel_hz(), *seed, *cookie);
  if (!config) return config.error();
  auto object = open_object();
  if (!object) return object.error();
  set_sizes(object->get(), options);
  if (options.socket_translation == SocketTranslation::off) leave_out_socket_programs(object->get());
  auto pinned = open_pinned(bpffs, object->get());
  if (!pinned) return pinned.error();

  std::set<std::string> replace = to_replace(*pinned);
  const std::map<std::string, uint32_t> retired = to_retire(*pinned, replace);
  if (auto s = describe_retired(object->get(), *pinned, retired, *config); !s) return s.error();
  if (auto s = set_constants(object->get(), *config); !s) return s.error();
  for (const auto& [name, map] : *pinned) {
    if (map.fd.ok() && !replace.contains(name)) {
      bpf_map__reuse_fd(bpf_object__find_map_by_name(object->get(), name.c_str()), map.fd.get());
    }
  }
  if (auto s = load_object(object->get()); !s) {
    auto programs = pinned_programs(bpffs, object->get());
    if (!programs || !all_readable(*pinned)) return s.error();
    DataPlane before;
    before.refused_ = s.error().message;
    before.programs_ = std::move(*programs);
    for (const auto& [name, map] : *pinned) before.maps_.emplace(name, duplicate(map.fd.get()));
    return before;
  }

  DataPlane data_plane;
  data_plane.replaced_.assign(replace.begin(), replace.end());
  data_plane.retired_ = retired;
  if (auto s = enter_retired(object->get(), *pinned, retired); !s) return s.error();
  for (const auto& [name, outer] : kRetiredMaps)
    data_plane.maps_.emplace(outer, duplicate(bpf_object__find_map_fd_by_name(object->get(), outer.c_str())));
  for (const auto& [name, map] : *pinned) {
    data_plane.maps_.emplace(name, duplicate(bpf_object__find_map_fd_by_name(object->get(), name.c_str())));
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object->get()) {
    if (bpf_program__autoload(program))
      data_plane.programs_.emplace(bpf_program__name(program), duplicate(bpf_program__fd(program)));
    else
      ::unlink(bpffs.program(bpf_program__name(program)).c_str());
  }
  if (auto s = data_plane.pin(bpffs, pin_order(*pinned, replace), *seed); !s) return s.error();
  spdlog::info("tables: {} flow entries of each family (--flow-table-size {}), {} frontends",
               uint64_t{options.flow_buckets()} * abi::TABLE_SLOTS, options.flow_entries, options.frontends);
  return data_plane;
}

uint32_t DataPlane::entries(const std::string& name) const {
  bpf_map_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(map(name), &info, &size) == 0 ? info.max_entries : 0;
}

void DataPlane::let_go_of_retired() const {
  const uint32_t zero = 0;
  for (const auto& [name, outer] : kRetiredMaps)
    if (const auto map = maps_.find(outer); map != maps_.end()) bpf_map_delete_elem(map->second.get(), &zero);
}

Status DataPlane::pin(const Bpffs& bpffs, const std::vector<std::string>& new_maps,
             const abi::table_seed& seed) const {
  for (const std::string& name : new_maps) {
    if (name == "node_state") {
      if (auto s = initialize_node_state(map(name), seed); !s) return s;
    }
    const auto retired = retired_.find(name);
    if (retired != retired_.end() &&
        ::rename(bpffs.map(name).c_str(), bpffs.retired_map(name, retired->second).c_str()) != 0) {
      return kernel_error("cannot rename " + bpffs.map(name), errno);
    }
    bool replaced = std::find(replaced_.begin(), replaced_.end(), name) != replaced_.end();
    if (replaced && retired == retired_.end()) spdlog::warn("map {}: made anew and empty, since a size option changed or what belongs to it was gone", name);
    if (auto s = Bpffs::pin(map(name), bpffs.map(name)); !s) return s;
  }
  for (const auto& [name, program] : programs_) {
    if (auto s = Bpffs::pin(program.get(), bpffs.program(name)); !s) return s;
  }
  return ok_status();
}

}  // namespace maglane
