// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/netlink.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

namespace maglane {
namespace {

constexpr unsigned kGroups[] = {RTNLGRP_LINK,        RTNLGRP_NEIGH,      RTNLGRP_IPV4_IFADDR,
                                RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
                                RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,  RTNLGRP_NEXTHOP};
constexpr unsigned kAllChanges =
    CHANGED_LINKS | CHANGED_ADDRESSES | CHANGED_DEFAULT_ROUTES | CHANGED_NEXT_HOPS | CHANGED_RULES;
// A burst of a whole routing table should fit, so that it is not read twice.
constexpr int kReceiveBuffer = 4 << 20;

Error netlink_error(const char* what) {
  return Error{fmt::format("rtnetlink: {}: {}", what, std::strerror(errno))};
}

struct Sink {
  NetworkModel* model;
  unsigned changes = 0;
};

int feed(const nlmsghdr* message, void* data) {
  auto* sink = static_cast<Sink*>(data);
  sink->changes |= sink->model->apply(message);
  return MNL_CB_OK;
}

// Of what a request of this kind begins with, the family first. The kernel's log complains of more.
size_t header_size(uint16_t type) {
  switch (type) {
    case RTM_GETLINK:
      return sizeof(ifinfomsg);
    case RTM_GETADDR:
      return sizeof(ifaddrmsg);
    case RTM_GETNEIGH:
      return sizeof(ndmsg);
    case RTM_GETRULE:
      return sizeof(fib_rule_hdr);
    default:
      return sizeof(rtmsg);
  }
}

// Reads one kind of object whole. The dump socket is apart from the one for events, so that
// answers and notifications do not mix. Returns 0 or an errno; EINTR: it changed meanwhile.
int dump(mnl_socket* socket, uint16_t type, NetworkModel& model) {
  std::vector<char> buffer(65536);
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = type;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = type;
  mnl_nlmsg_put_extra_header(request, header_size(type));
  if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0) return errno;
  Sink sink{&model};
  bool interrupted = false;
  for (int more = MNL_CB_OK; more == MNL_CB_OK;) {
    ssize_t size = mnl_socket_recvfrom(socket, buffer.data(), buffer.size());
    if (size < 0) return errno;
    more = mnl_cb_run(buffer.data(), static_cast<size_t>(size), type, mnl_socket_get_portid(socket), feed,
                      &sink);
    if (more < 0 && errno == EINTR) {
      interrupted = true;
      more = MNL_CB_OK;
      continue;
    }
    if (more < 0) return errno;
  }
  return interrupted ? EINTR : 0;
}

}  // namespace

void NetlinkWatch::CloseSocket::operator()(mnl_socket* socket) const {
  mnl_socket_close(socket);
}
NetlinkWatch::NetlinkWatch(NetlinkWatch&&) noexcept = default;
NetlinkWatch& NetlinkWatch::operator=(NetlinkWatch&&) noexcept = default;
NetlinkWatch::~NetlinkWatch() = default;

Result<NetlinkWatch> NetlinkWatch::open() {
  NetlinkWatch watch;
  watch.events_.reset(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!watch.events_) return netlink_error("cannot open a socket");
  int fd = watch.fd();
  if (::setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBuffer, sizeof kReceiveBuffer) != 0) {
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &kReceiveBuffer, sizeof kReceiveBuffer);
  }
  if (mnl_socket_bind(watch.events_.get(), 0, MNL_SOCKET_AUTOPID) < 0) return netlink_error("cannot bind");
  for (unsigned group : kGroups) {
    if (::setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
      return netlink_error("cannot subscribe to changes");
    }
  }
  if (auto s = watch.read_all(); !s) return s.error();
  return watch;
}

int NetlinkWatch::fd() const {
  return mnl_socket_get_fd(events_.get());
}

Status NetlinkWatch::read(std::span<const uint16_t> kinds, NetworkModel& into) {
  std::unique_ptr<mnl_socket, CloseSocket> socket(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
  if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
    return netlink_error("cannot open a socket");
  for (uint16_t kind : kinds) {
    // What was read twice is the same entry; what went away meanwhile is in the events.
    int error = EINTR;
    for (int attempt = 0; attempt < 10 && error == EINTR; ++attempt) error = dump(socket.get(), kind, into);
    if (error != 0 && error != EINTR) {
      errno = error;
      return netlink_error("cannot read the network's state");
    }
    into.end_of_dump(kind);
  }
  return ok_status();
}

Status NetlinkWatch::read_all() {
  NetworkModel fresh;
  constexpr uint16_t kinds[] = {RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE};
  auto done = read(kinds, fresh);
  if (done) model_ = std::move(fresh);
  return done;
}

Status NetlinkWatch::reread(unsigned changes) {
  std::vector<uint16_t> kinds;
  if (changes & CHANGED_DEFAULT_ROUTES) {
    model_.forget_routes();
    kinds.push_back(RTM_GETROUTE);
  }
  if (changes & CHANGED_RULES) {
    model_.forget_rules();
    kinds.push_back(RTM_GETRULE);
  }
  return kinds.empty() ? ok_status() : read(kinds, model_);
}

Result<unsigned> NetlinkWatch::process() {
  std::vector<char> buffer(65536);
  Sink sink{&model_};
  bool lost = false;
  for (;;) {
    ssize_t size = mnl_socket_recvfrom(events_.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ENOBUFS) {
      // What is still queued is older than what was lost: passed over, then read anew.
      lost = true;
      continue;
    }
    if (size < 0 && errno != EAGAIN) return netlink_error("cannot read changes");
    if (size < 0) break;
    if (!lost) mnl_cb_run(buffer.data(), static_cast<size_t>(size), 0, 0, feed, &sink);
  }
  if (lost) sink.changes = kAllChanges;
  const Status read_again = lost ? read_all() : reread(sink.changes);
  if (!read_again) return read_again.error();
  return sink.changes;
}

}  // namespace maglane
