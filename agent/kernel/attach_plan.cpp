// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/attach_plan.h"

#include <algorithm>
#include <set>

#include "agent/kernel/bpffs.h"

namespace maglane {
namespace {

struct WantedHook {
  const WantedDevice* device;
  Hook hook;
  std::string pin;
};

std::vector<WantedHook> wanted_hooks(const std::vector<WantedDevice>& wanted, XdpPolicy policy) {
  std::vector<WantedHook> hooks;
  // First: a connection whose replies leave untranslated would be lost.
  for (const WantedDevice& device : wanted) {
    if (device.egress) hooks.push_back({&device, Hook::tc_egress, pin_name(device.name, Hook::tc_egress)});
  }
  for (const WantedDevice& device : wanted) {
    for (const HookProgram& program : programs_of(device.role)) {
      if (program.hook == Hook::tc_egress) continue;
      if (program.hook == Hook::xdp && policy == XdpPolicy::off) continue;
      hooks.push_back({&device, program.hook, pin_name(device.name, program.hook)});
    }
  }
  return hooks;
}

bool mode_fits(XdpMode mode, XdpPolicy policy) {
  std::vector<XdpMode> modes = modes_to_try(policy);
  return std::find(modes.begin(), modes.end(), mode) != modes.end();
}

bool goes_on(const ExistingAttachment& entry, const WantedHook& hook, XdpPolicy policy, TcKind tc) {
  if (entry.ifindex == 0 || entry.ifindex != hook.device->ifindex || entry.hook != hook.hook) return false;
  if (entry.hook == Hook::xdp) return mode_fits(entry.mode, policy);
  return entry.filter == (tc == TcKind::clsact);
}

}  // namespace

std::string_view to_string(Role role) {
  return role == Role::uplink ? "uplink" : "pod";
}

std::string_view to_string(Hook hook) {
  switch (hook) {
    case Hook::xdp:
      return "xdp";
    case Hook::tc_ingress:
      return "tc-ingress";
    case Hook::tc_egress:
      return "tc-egress";
  }
  return "";
}

std::string_view to_string(XdpMode mode) {
  switch (mode) {
    case XdpMode::none:
      return "none";
    case XdpMode::native:
      return "native";
    case XdpMode::generic:
      return "generic";
  }
  return "";
}

std::string_view to_string(TcKind kind) {
  return kind == TcKind::tcx ? "tcx" : "clsact";
}

std::vector<HookProgram> programs_of(Role role) {
  if (role == Role::pod) return {{Hook::tc_egress, "tc_egress"}, {Hook::tc_ingress, "tc_pod"}};
  return {{Hook::tc_egress, "tc_egress"}, {Hook::tc_ingress, "tc_uplink"}, {Hook::xdp, "xdp_uplink"}};
}

std::string pin_name(std::string_view device, Hook hook) {
  return escape_device(device) + ":" + std::string(to_string(hook));
}

std::optional<PinParts> parse_pin(std::string_view pin) {
  size_t colon = pin.rfind(':');  // no device's name has one
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  for (Hook hook : {Hook::xdp, Hook::tc_ingress, Hook::tc_egress}) {
    if (pin.substr(colon + 1) == to_string(hook))
      return PinParts{unescape_device(pin.substr(0, colon)), hook};
  }
  return std::nullopt;
}

std::vector<XdpMode> modes_to_try(XdpPolicy policy) {
  switch (policy) {
    case XdpPolicy::automatic:
      return {XdpMode::native, XdpMode::generic};
    case XdpPolicy::native:
      return {XdpMode::native};
    case XdpPolicy::generic:
      return {XdpMode::generic};
    case XdpPolicy::off:
      return {};
  }
  return {};
}

std::vector<AttachStep> plan_attachments(const std::vector<ExistingAttachment>& existing,
                                         const std::vector<WantedDevice>& wanted, XdpPolicy policy,
                                         TcKind tc) {
  std::vector<AttachStep> steps, attach;
  std::set<std::string> names_in_use, kept;
  for (const ExistingAttachment& entry : existing) names_in_use.insert(entry.pin);

  for (const WantedHook& hook : wanted_hooks(wanted, policy)) {
    if (hook.hook != Hook::xdp && tc == TcKind::clsact) {
      attach.push_back(EnsureFilter{*hook.device, hook.hook, hook.pin});
    }
    auto entry = std::find_if(existing.begin(), existing.end(), [&](const ExistingAttachment& e) {
      bool nameable = e.pin == hook.pin || !names_in_use.contains(hook.pin);
      return nameable && goes_on(e, hook, policy, tc);
    });
    if (entry != existing.end()) {
      kept.insert(entry->pin);
      if (entry->pin != hook.pin) attach.push_back(RenamePin{entry->pin, hook.pin});
      if (!entry->filter) attach.push_back(SwapProgram{*hook.device, hook.hook, hook.pin, entry->mode});
    } else if (hook.hook == Hook::xdp || tc == TcKind::tcx) {
      attach.push_back(CreateLink{*hook.device, hook.hook, hook.pin});
    }
  }
  for (const ExistingAttachment& entry : existing) {
    if (kept.contains(entry.pin)) continue;
    steps.push_back(RemoveAttachment{entry.pin, entry.filter, entry.ifindex, entry.hook});
  }
  steps.insert(steps.end(), attach.begin(), attach.end());
  return steps;
}

}  // namespace maglane
