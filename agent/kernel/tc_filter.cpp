// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/tc_filter.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "agent/kernel/fd.h"
#include "agent/kernel/libbpf_log.h"

namespace maglane {
namespace {

bpf_tc_hook hook_of(uint32_t ifindex, bpf_tc_attach_point point) {
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = static_cast<int>(ifindex);
  hook.attach_point = point;
  return hook;
}

bpf_tc_hook hook_of(uint32_t ifindex, Hook hook) {
  return hook_of(ifindex, hook == Hook::tc_egress ? BPF_TC_EGRESS : BPF_TC_INGRESS);
}

bpf_tc_opts our_filter() {
  bpf_tc_opts options{};
  options.sz = sizeof options;
  options.handle = TC_FILTER_HANDLE;
  options.priority = TC_FILTER_PRIORITY;
  return options;
}

Error filter_error(const char* what, uint32_t ifindex, int error) {
  return Error{fmt::format("cannot {} on device {}: {}", what, ifindex, std::strerror(-error))};
}

bool is_absent(int error) {
  return error == -ENOENT || error == -EINVAL || error == -ENODEV;
}

int count_message(const nlmsghdr* header, void* count) {
  if (header->nlmsg_type == RTM_NEWTFILTER) ++*static_cast<int*>(count);
  return MNL_CB_OK;
}

// Filters of anyone at a parent (TC_H_MIN_INGRESS or TC_H_MIN_EGRESS of clsact).
Result<int> count_filters(uint32_t ifindex, uint32_t parent_minor) {
  std::array<char, 32768> buffer;
  mnl_socket* socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (!socket || mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0) {
    int error = errno;
    if (socket) mnl_socket_close(socket);
    return filter_error("list filters", ifindex, -error);
  }
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = RTM_GETTFILTER;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  auto* message = static_cast<tcmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(tcmsg)));
  message->tcm_ifindex = static_cast<int>(ifindex);
  message->tcm_parent = TC_H_MAKE(TC_H_CLSACT, parent_minor);
  int count = 0;
  ssize_t size = mnl_socket_sendto(socket, request, request->nlmsg_len);
  int more = size < 0 ? -1 : MNL_CB_OK;
  while (more == MNL_CB_OK) {
    size = mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
    more = size < 0 ? -1 : mnl_cb_run(buffer.data(), static_cast<size_t>(size), 0, 0, count_message, &count);
  }
  int error = errno;
  mnl_socket_close(socket);
  if (more < 0) return filter_error("list filters", ifindex, -error);
  return count;
}

}  // namespace

bool is_our_program(uint32_t id) {
  Fd fd(bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  uint32_t size = sizeof info;
  if (!fd.ok() || bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) return false;
  std::string_view name(info.name);
  for (Role role : {Role::uplink, Role::pod}) {
    for (const HookProgram& program : programs_of(role)) {
      if (name == program.program) return true;
    }
  }
  return false;
}

Result<uint32_t> query_filter(uint32_t ifindex, Hook hook) {
  LibbpfLog quiet;
  bpf_tc_hook where = hook_of(ifindex, hook);
  bpf_tc_opts options = our_filter();
  int error = bpf_tc_query(&where, &options);
  if (is_absent(error)) return 0U;
  if (error != 0) return filter_error("query the filter", ifindex, error);
  return is_our_program(options.prog_id) ? options.prog_id : 0U;
}

Result<bool> ensure_clsact(uint32_t ifindex) {
  LibbpfLog quiet;
  bpf_tc_hook where = hook_of(ifindex, BPF_TC_INGRESS);
  int error = bpf_tc_hook_create(&where);
  if (error != 0 && error != -EEXIST)
    return filter_error("make a clsact queueing discipline", ifindex, error);
  return error == 0;
}

Status attach_filter(uint32_t ifindex, Hook hook, int program_fd) {
  LibbpfLog quiet;
  bpf_tc_hook where = hook_of(ifindex, hook);
  bpf_tc_opts options = our_filter();
  options.prog_fd = program_fd;
  options.flags = BPF_TC_F_REPLACE;
  int error = bpf_tc_attach(&where, &options);
  return error == 0 ? ok_status() : Status(filter_error("attach a filter", ifindex, error));
}

Status detach_filter(uint32_t ifindex, Hook hook) {
  auto program = query_filter(ifindex, hook);
  if (!program) return program.error();
  if (*program == 0) return ok_status();
  LibbpfLog quiet;
  bpf_tc_hook where = hook_of(ifindex, hook);
  bpf_tc_opts options = our_filter();
  int error = bpf_tc_detach(&where, &options);
  return error == 0 || is_absent(error) ? ok_status()
                                        : Status(filter_error("detach the filter", ifindex, error));
}

Status remove_clsact_if_empty(uint32_t ifindex) {
  for (uint32_t parent : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
    auto count = count_filters(ifindex, parent);
    if (!count) return count.error();
    if (*count > 0) return ok_status();
  }
  LibbpfLog quiet;
  bpf_tc_hook where = hook_of(ifindex, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
  int error = bpf_tc_hook_destroy(&where);
  return error == 0 || is_absent(error)
             ? ok_status()
             : Status(filter_error("remove the clsact queueing discipline", ifindex, error));
}

}  // namespace maglane
