// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/sock_diag.h"

#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

namespace maglane {
namespace {

struct CloseSocket {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using Netlink = std::unique_ptr<mnl_socket, CloseSocket>;

Error diag_error(const char* what, int error) {
  const char* hint = error == EOPNOTSUPP ? " (the kernel was built without CONFIG_INET_DIAG_DESTROY)" : "";
  return Error{fmt::format("sock_diag: {}: {}{}", what, std::strerror(error), hint)};
}

Netlink open_netlink() {
  Netlink socket(mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC));
  if (socket && mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0) socket.reset();
  return socket;
}

inet_diag_req_v2* put_request(char* buffer, uint16_t type, uint16_t flags, uint8_t family) {
  nlmsghdr* header = mnl_nlmsg_put_header(buffer);
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  auto* request = static_cast<inet_diag_req_v2*>(mnl_nlmsg_put_extra_header(header, sizeof(inet_diag_req_v2)));
  request->sdiag_family = family;
  request->sdiag_protocol = IPPROTO_UDP;
  request->idiag_states = 1U << TCP_ESTABLISHED;  // of UDP: connected
  return request;
}

// Whether the socket's peer is the endpoint. An IPv6 socket has IPv4 as ::ffff:a.b.c.d.
bool connected_to(const inet_diag_msg& socket, const abi::socket_peer& peer) {
  std::array<uint32_t, 4> address = std::to_array(socket.id.idiag_dst);
  if (socket.idiag_family == AF_INET || (peer.family == abi::FAMILY_IPV4 && address[2] == htonl(0xffff))) {
    address = {address[socket.idiag_family == AF_INET ? 0 : 3], 0, 0, 0};
  }
  return socket.id.idiag_dport == peer.endpoint_port_be &&
         std::equal(address.begin(), address.end(), peer.endpoint_addr_be);
}

struct Found {
  const std::map<uint64_t, abi::socket_peer>* wanted;
  std::vector<inet_diag_msg> sockets;
};

int collect(const nlmsghdr* message, void* data) {
  auto* found = static_cast<Found*>(data);
  if (mnl_nlmsg_get_payload_len(message) < sizeof(inet_diag_msg)) return MNL_CB_OK;
  const auto* entry = static_cast<const inet_diag_msg*>(mnl_nlmsg_get_payload(message));
  const uint64_t cookie = uint64_t{entry->id.idiag_cookie[1]} << 32 | entry->id.idiag_cookie[0];
  const auto wanted = found->wanted->find(cookie);
  if (wanted != found->wanted->end() && connected_to(*entry, wanted->second)) found->sockets.push_back(*entry);
  return MNL_CB_OK;
}

// Sends a request and takes what comes back. Returns 0 or an errno.
int ask(mnl_socket* netlink, const void* request, int (*each)(const nlmsghdr*, void*), void* data) {
  const auto* header = static_cast<const nlmsghdr*>(request);
  if (mnl_socket_sendto(netlink, header, header->nlmsg_len) < 0) return errno;
  std::vector<char> buffer(65536);
  for (int more = MNL_CB_OK; more == MNL_CB_OK;) {
    const ssize_t size = mnl_socket_recvfrom(netlink, buffer.data(), buffer.size());
    if (size < 0) return errno;
    more = mnl_cb_run(buffer.data(), static_cast<size_t>(size), 0, mnl_socket_get_portid(netlink), each, data);
    if (more < 0) return errno;
  }
  return 0;
}

int find(mnl_socket* netlink, uint8_t family, Found& found) {
  alignas(nlmsghdr) char request[256];
  put_request(request, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family);
  return ask(netlink, request, collect, &found);
}

int destroy(mnl_socket* netlink, const inet_diag_msg& socket) {
  alignas(nlmsghdr) char request[256];
  put_request(request, SOCK_DESTROY, NLM_F_ACK, socket.idiag_family)->id = socket.id;
  return ask(netlink, request, nullptr, nullptr);
}

}  // namespace

Result<uint32_t> end_udp_sockets(const std::map<uint64_t, abi::socket_peer>& sockets) {
  if (sockets.empty()) return 0U;
  Netlink netlink = open_netlink();
  if (!netlink) return diag_error("cannot open a socket", errno);
  uint32_t ended = 0;
  Found found{&sockets, {}};
  for (uint8_t family : {uint8_t{AF_INET}, uint8_t{AF_INET6}}) {
    if (int error = find(netlink.get(), family, found); error != 0)
      return diag_error("cannot list the UDP sockets", error);
  }
  for (const inet_diag_msg& socket : found.sockets) {
    const int error = destroy(netlink.get(), socket);
    if (error == 0) ++ended;
    if (error != 0 && error != ENOENT && error != ESTALE) return diag_error("cannot end a UDP socket", error);
  }
  return ended;
}

}  // namespace maglane
