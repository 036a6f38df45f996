// SPDX-License-Identifier: Apache-2.0
//
// What has to be attached, swapped, renamed or removed so that each device carries the
// programs of its role: a comparison of what is pinned with what is wanted. Pure; attach.h
// carries it out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace maglane {

enum class Role : uint8_t { uplink, pod };
enum class Hook : uint8_t { xdp, tc_ingress, tc_egress };
// What --xdp asks for. `automatic`: native, where that fails generic, where that fails none.
enum class XdpPolicy : uint8_t { automatic, native, generic, off };
enum class XdpMode : uint8_t { none, native, generic };
// How programs get to a tc hook: links of their own (Linux 6.6 and later), or filters of a
// clsact queueing discipline.
enum class TcKind : uint8_t { tcx, clsact };

std::string_view to_string(Role role);     // "uplink", "pod"
std::string_view to_string(Hook hook);     // "xdp", "tc-ingress", "tc-egress"
std::string_view to_string(XdpMode mode);  // "none", "native", "generic"
std::string_view to_string(TcKind kind);   // "tcx", "clsact"

struct WantedDevice {
  uint32_t ifindex = 0;
  std::string name;
  Role role = Role::uplink;
  bool egress = false;  // replies of endpoints in the node's own network leave by it
  auto operator<=>(const WantedDevice&) const = default;
};

// An entry of <bpffs>/links: a pinned link, or a directory that marks a clsact filter of ours.
struct ExistingAttachment {
  std::string pin;  // its name: "<device>:<hook>", the device escaped as bpffs.h has it
  Hook hook = Hook::xdp;
  uint32_t ifindex = 0;  // where it is attached; 0: the device is gone, or not in this network namespace
  uint32_t program_id = 0;
  XdpMode mode = XdpMode::none;  // of an XDP link
  bool filter = false;           // clsact
};

// The program for each hook of a role, by name; that of tc egress is only for some devices.
struct HookProgram {
  Hook hook;
  const char* program;
};
std::vector<HookProgram> programs_of(Role role);

std::string pin_name(std::string_view device, Hook hook);
// The device and the hook of a pin's name; nothing if it is not of that form.
struct PinParts {
  std::string device;
  Hook hook;
};
std::optional<PinParts> parse_pin(std::string_view pin);

// The steps. `device` and `hook` say where the program of the device's role belongs.
struct RenamePin {
  std::string from, to;
};  // the device was renamed
struct SwapProgram {
  WantedDevice device;
  Hook hook;
  std::string pin;
  XdpMode mode;
};
struct CreateLink {
  WantedDevice device;
  Hook hook;
  std::string pin;
};
struct EnsureFilter {
  WantedDevice device;
  Hook hook;
  std::string pin;
};  // also swaps
struct RemoveAttachment {
  std::string pin;
  bool filter;
  uint32_t ifindex;
  Hook hook;
};
using AttachStep = std::variant<RenamePin, SwapProgram, CreateLink, EnsureFilter, RemoveAttachment>;

// Links that are to go on keep their identity. tc comes before XDP, which leaves to it what
// it cannot finish. What goes, goes first, since a link of another mode or a dead one of the
// same name is in the way.
std::vector<AttachStep> plan_attachments(const std::vector<ExistingAttachment>& existing,
                                         const std::vector<WantedDevice>& wanted, XdpPolicy policy,
                                         TcKind tc);

// The modes to try, in order.
std::vector<XdpMode> modes_to_try(XdpPolicy policy);

}  // namespace maglane
