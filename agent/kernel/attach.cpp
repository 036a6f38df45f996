// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <set>

#include "agent/kernel/socket_hooks.h"
#include "agent/kernel/tc_filter.h"

namespace maglane {
namespace {

// Of <linux/bpf.h> since Linux 6.6; Debian 12's header is older.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);
constexpr uint32_t kLinkTypeTcx = 11;

bpf_attach_type attach_type(Hook hook) {
  switch (hook) {
    case Hook::xdp:
      return BPF_XDP;
    case Hook::tc_ingress:
      return kTcxIngress;
    case Hook::tc_egress:
      return kTcxEgress;
  }
  return BPF_XDP;
}

// A clsact queueing discipline that we made has a directory of this name beside the pins.
std::string clsact_marker(std::string_view device) {
  return escape_device(device) + ":clsact";
}

Error device_error(const WantedDevice& device, Hook hook, const std::string& what, int error) {
  return Error{fmt::format("{} ({}): {}: {}", device.name, to_string(hook), what, std::strerror(error))};
}

// The mode in which program `id` is on the device; none if it is not.
XdpMode xdp_mode(uint32_t ifindex, uint32_t id) {
  LIBBPF_OPTS(bpf_xdp_query_opts, query);
  if (id == 0 || bpf_xdp_query(static_cast<int>(ifindex), 0, &query) != 0) return XdpMode::none;
  if (query.drv_prog_id == id) return XdpMode::native;
  return query.skb_prog_id == id ? XdpMode::generic : XdpMode::none;
}

bool tcx_has_program(uint32_t ifindex, Hook hook, uint32_t id) {
  std::array<uint32_t, 64> ids{};  // the kernel allows no more on a hook
  uint32_t flags = 0, count = ids.size();
  if (bpf_prog_query(static_cast<int>(ifindex), attach_type(hook), 0, &flags, ids.data(), &count) != 0)
    return false;
  return std::find(ids.begin(), ids.begin() + count, id) != ids.begin() + count;
}

// A link's ifindex counts in the network namespace that it was made in, which may not be this
// one; so the device of that number must show the link's program.
ExistingAttachment describe_link(const std::string& pin, Hook hook, int fd) {
  ExistingAttachment entry{pin, hook, 0, 0, XdpMode::none, false};
  bpf_link_info info{};
  uint32_t size = sizeof info;
  if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) return entry;
  bool right_type = info.type == (hook == Hook::xdp ? uint32_t{BPF_LINK_TYPE_XDP} : kLinkTypeTcx);
  uint32_t ifindex = info.xdp.ifindex;  // a tcx link has it in the same place
  if (!right_type || ifindex == 0) return entry;
  entry.program_id = info.prog_id;
  if (hook == Hook::xdp) {
    entry.mode = xdp_mode(ifindex, info.prog_id);
    if (entry.mode != XdpMode::none) entry.ifindex = ifindex;
  } else if (tcx_has_program(ifindex, hook, info.prog_id)) {
    entry.ifindex = ifindex;
  }
  return entry;
}

// A step that failed because its device went away meanwhile needs no telling: the news of
// that comes by itself, and with it the next attempt.
template <typename Step>
bool device_is_gone(const Step& step) {
  if constexpr (requires { step.device; }) {
    char name[IF_NAMESIZE];
    return ::if_indextoname(step.device.ifindex, name) == nullptr;
  }
  return false;
}

bool is_directory(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

std::vector<ExistingAttachment> read_existing(const Bpffs& bpffs) {
  std::vector<ExistingAttachment> entries;
  for (const std::string& name : Bpffs::list(bpffs.root() + "/links")) {
    auto parts = parse_pin(name);
    if (!parts) continue;
    if (is_directory(bpffs.link(name))) {
      entries.push_back({name, parts->hook, ::if_nametoindex(parts->device.c_str()), 0, XdpMode::none, true});
      continue;
    }
    Fd fd(bpf_obj_get(bpffs.link(name).c_str()));
    entries.push_back(describe_link(name, parts->hook, fd.get()));
  }
  return entries;
}

Status remove_attachment(const Bpffs& bpffs, const RemoveAttachment& step) {
  std::string path = bpffs.link(step.pin);
  if (!step.filter) {
    // Not only unpinned: anyone may hold the link open.
    Fd fd(bpf_obj_get(path.c_str()));
    if (fd.ok()) bpf_link_detach(fd.get());
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
      return Error{fmt::format("cannot remove {}: {}", path, std::strerror(errno))};
    }
    return ok_status();
  }
  if (step.ifindex != 0) {
    if (auto s = detach_filter(step.ifindex, step.hook); !s) return s;
    std::string marker = bpffs.link(clsact_marker(parse_pin(step.pin)->device));
    if (is_directory(marker)) {
      if (auto s = remove_clsact_if_empty(step.ifindex); !s) return s;
    }
    ::rmdir(marker.c_str());
  }
  ::rmdir(path.c_str());
  return ok_status();
}

uint32_t role_flag(Role role) {
  return role == Role::pod ? abi::DEVICE_POD : abi::DEVICE_UPLINK;
}

std::string describe_program(uint32_t id) {
  Fd fd(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  bool known = fd.ok() && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 && info.name[0] != '\0';
  return known ? fmt::format("\"{}\" (id {})", info.name, id) : fmt::format("id {}", id);
}

uint32_t program_id(int fd) {
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.id : 0;
}

}  // namespace

TcKind probe_tc_kind(const DataPlane& data_plane) {
  // No device has number 0: a kernel with tcx looks for it, one without refuses the hook.
  int fd = bpf_link_create(data_plane.program("tc_uplink"), 0, kTcxIngress, nullptr);
  return fd == -ENODEV ? TcKind::tcx : TcKind::clsact;
}

Attacher::Attacher(Bpffs bpffs, std::shared_ptr<const DataPlane> data_plane, XdpPolicy policy, TcKind tc)
    : bpffs_(std::move(bpffs)), data_plane_(std::move(data_plane)), policy_(policy), tc_(tc) {}

Status Attacher::attach(std::vector<WantedDevice> wanted, bool retry, bool node_endpoints, bool masquerades) {
  retry_ = retry;
  attachments_.clear();
  if (retry) xdp_failed_.clear();
  std::string failures;
  auto note = [&](const Status& done) {
    if (!done) failures += (failures.empty() ? "" : "; ") + done.error().message;
  };
  note(enter_devices(wanted));
  const std::vector<ExistingAttachment> existing = read_existing(bpffs_);
  const auto is_uplink = [&](uint32_t ifindex) {
    return std::any_of(wanted.begin(), wanted.end(), [&](const WantedDevice& device) {
      return device.ifindex == ifindex && device.role == Role::uplink;
    });
  };
  for (const ExistingAttachment& entry : existing)
    node_endpoints |= entry.hook == Hook::tc_egress && !(masquerades && is_uplink(entry.ifindex));
  for (WantedDevice& device : wanted)
    device.egress = node_endpoints || (masquerades && device.role == Role::uplink);
  for (const AttachStep& step : plan_attachments(existing, wanted, policy_, tc_)) {
    note(std::visit(
        [this](const auto& s) {
          Status done = run(s);
          return done || !device_is_gone(s) ? done : ok_status();
        },
        step));
  }
  std::sort(attachments_.begin(), attachments_.end());
  note(update_devices(wanted));
  return failures.empty() ? ok_status() : Status(Error{failures});
}

int Attacher::program_for(const WantedDevice& device, Hook hook) const {
  for (const HookProgram& program : programs_of(device.role)) {
    if (program.hook == hook) return data_plane_->program(program.program);
  }
  return -1;
}

void Attacher::report(const WantedDevice& device, Hook hook, std::string_view mode, std::string note) {
  attachments_.push_back({device.name, device.role, hook, std::string(mode), std::move(note)});
}

Status Attacher::run(const RenamePin& step) {
  if (::rename(bpffs_.link(step.from).c_str(), bpffs_.link(step.to).c_str()) == 0) return ok_status();
  return Error{
      fmt::format("cannot rename {} to {}: {}", bpffs_.link(step.from), step.to, std::strerror(errno))};
}

Status Attacher::run(const SwapProgram& step) {
  Fd link(bpf_obj_get(bpffs_.link(step.pin).c_str()));
  int program = program_for(step.device, step.hook);
  bpf_link_info info{};
  uint32_t size = sizeof info;
  if (!link.ok() || bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0) {
    return device_error(step.device, step.hook, "cannot open the pinned link", errno);
  }
  if (info.prog_id != program_id(program)) {
    if (int error = bpf_link_update(link.get(), program, nullptr); error != 0) {
      return device_error(step.device, step.hook, "cannot swap the program", -error);
    }
  }
  bool fell_back = policy_ == XdpPolicy::automatic && step.mode == XdpMode::generic;
  report(step.device, step.hook, step.hook == Hook::xdp ? to_string(step.mode) : to_string(tc_),
         fell_back ? "native XDP was not possible when it was attached" : "");
  return ok_status();
}

Status Attacher::run(const CreateLink& step) {
  if (step.hook == Hook::xdp) return create_xdp(step);
  Fd link(bpf_link_create(program_for(step.device, step.hook), static_cast<int>(step.device.ifindex),
                          attach_type(step.hook), nullptr));
  if (!link.ok()) return device_error(step.device, step.hook, "cannot attach", errno);
  if (auto s = Bpffs::pin(link.get(), bpffs_.link(step.pin)); !s) return s;
  report(step.device, step.hook, to_string(tc_), "");
  return ok_status();
}

Status Attacher::create_xdp(const CreateLink& step) {
  if (auto failed = xdp_failed_.find(step.device.ifindex); failed != xdp_failed_.end()) {
    report(step.device, step.hook, to_string(XdpMode::none), failed->second);
    return ok_status();
  }
  std::string note;
  uint32_t foreign = 0;
  if (bpf_xdp_query_id(static_cast<int>(step.device.ifindex), 0, &foreign) == 0 && foreign != 0) {
    note = fmt::format("another XDP program, {}, is on the device", describe_program(foreign));
  }
  for (XdpMode mode : foreign != 0 ? std::vector<XdpMode>{} : modes_to_try(policy_)) {
    LIBBPF_OPTS(bpf_link_create_opts, options,
                .flags = mode == XdpMode::native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE);
    Fd link(bpf_link_create(program_for(step.device, step.hook), static_cast<int>(step.device.ifindex),
                            BPF_XDP, &options));
    if (link.ok()) {
      if (auto s = Bpffs::pin(link.get(), bpffs_.link(step.pin)); !s) return s;
      report(step.device, step.hook, to_string(mode), note);
      return ok_status();
    }
    note += fmt::format("{}{}: {}", note.empty() ? "" : "; ", to_string(mode), std::strerror(errno));
  }
  note += "; packets are handled at tc alone";
  xdp_failed_[step.device.ifindex] = note;
  report(step.device, step.hook, to_string(XdpMode::none), note);
  return ok_status();
}

Status Attacher::run(const EnsureFilter& step) {
  uint32_t ifindex = step.device.ifindex;
  int program = program_for(step.device, step.hook);
  std::string marker = bpffs_.link(clsact_marker(step.device.name));
  // Marked before made: whatever interrupts this, cleanup finds it.
  ::mkdir(bpffs_.link(step.pin).c_str(), 0700);
  bool new_marker = ::mkdir(marker.c_str(), 0700) == 0;
  auto made = ensure_clsact(ifindex);
  if (new_marker && (!made || !*made)) ::rmdir(marker.c_str());
  if (!made) return made.error().in(step.device.name);
  auto present = query_filter(ifindex, step.hook);
  if (!present) return present.error().in(step.device.name);
  if (*present != program_id(program)) {
    if (auto s = attach_filter(ifindex, step.hook, program); !s) return s.error().in(step.device.name);
  }
  report(step.device, step.hook, to_string(tc_), "");
  return ok_status();
}

Status Attacher::run(const RemoveAttachment& step) {
  return remove_attachment(bpffs_, step);
}

Status Attacher::enter_devices(const std::vector<WantedDevice>& wanted) {
  for (const WantedDevice& device : wanted) {
    abi::device value{role_flag(device.role)};
    int error = bpf_map_update_elem(data_plane_->map("devices"), &device.ifindex, &value, BPF_NOEXIST);
    if (error != 0 && error != -EEXIST) {
      return Error{fmt::format("cannot enter {} in map devices: {}", device.name, std::strerror(-error))};
    }
  }
  return ok_status();
}

Status Attacher::update_devices(const std::vector<WantedDevice>& wanted) {
  std::set<std::string> redirectable;
  for (const Attachment& a : attachments_) {
    if (a.hook == Hook::xdp && a.mode == to_string(XdpMode::native)) redirectable.insert(a.device);
  }
  int map = data_plane_->map("devices");
  std::set<uint32_t> present;
  for (const WantedDevice& device : wanted) {
    present.insert(device.ifindex);
    abi::device value{role_flag(device.role)};
    if (redirectable.contains(device.name)) value.flags |= abi::DEVICE_XDP;
    if (int error = bpf_map_update_elem(map, &device.ifindex, &value, BPF_ANY); error != 0) {
      return Error{fmt::format("cannot enter {} in map devices: {}", device.name, std::strerror(-error))};
    }
  }
  std::vector<uint32_t> gone;
  uint32_t key = 0, next = 0;
  for (int more = bpf_map_get_next_key(map, nullptr, &next); more == 0;
       more = bpf_map_get_next_key(map, &key, &next)) {
    key = next;
    if (!present.contains(key)) gone.push_back(key);
  }
  for (uint32_t ifindex : gone) bpf_map_delete_elem(map, &ifindex);
  return ok_status();
}

static std::string program_name(uint32_t id) {
  Fd fd(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  return fd.ok() && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 ? info.name : "";
}

static Status swap_to_pinned_program(const Bpffs& bpffs, const ExistingAttachment& entry) {
  uint32_t present = entry.program_id;
  if (entry.ifindex == 0) return ok_status();
  if (entry.filter) {
    auto id = query_filter(entry.ifindex, entry.hook);
    if (!id) return id.error();
    present = *id;
  }
  const std::string name = program_name(present);
  Fd program(bpf_obj_get(bpffs.program(name).c_str()));
  if (name.empty() || !program.ok() || program_id(program.get()) == present) return ok_status();
  if (entry.filter) return attach_filter(entry.ifindex, entry.hook, program.get());
  Fd link(bpf_obj_get(bpffs.link(entry.pin).c_str()));
  const int error = bpf_link_update(link.get(), program.get(), nullptr);
  if (error == 0) return ok_status();
  return Error{fmt::format("{}: cannot swap the program: {}", entry.pin, std::strerror(-error))};
}

Status swap_to_pinned_programs(const Bpffs& bpffs) {
  for (const ExistingAttachment& entry : read_existing(bpffs)) {
    auto swapped = swap_to_pinned_program(bpffs, entry);
    char name[IF_NAMESIZE];
    if (!swapped && ::if_indextoname(entry.ifindex, name) != nullptr) return swapped;
  }
  return ok_status();
}

// Filters of ours whose marks were lost, as when someone emptied the bpffs directory by hand.
static Status remove_stray_filters() {
  struct if_nameindex* devices = ::if_nameindex();
  if (!devices) return Error{fmt::format("cannot list the devices: {}", std::strerror(errno))};
  Status status = ok_status();
  for (const struct if_nameindex* device = devices; device->if_index != 0 && status; ++device) {
    for (Hook hook : {Hook::tc_ingress, Hook::tc_egress}) {
      if (status) status = detach_filter(device->if_index, hook);
    }
  }
  ::if_freenameindex(devices);
  return status;
}

Status remove_everything(const std::string& bpffs_root) {
  Bpffs bpffs(bpffs_root);
  auto there = bpffs.lock();
  if (!there) return there.error();
  if (*there) {
    for (const ExistingAttachment& entry : read_existing(bpffs)) {
      RemoveAttachment step{entry.pin, entry.filter, entry.ifindex, entry.hook};
      if (auto s = remove_attachment(bpffs, step); !s) return s;
    }
    if (auto s = remove_socket_hooks(bpffs); !s) return s;
    if (auto s = bpffs.remove_all(); !s) return s;
  }
  return remove_stray_filters();
}

}  // namespace maglane
