// SPDX-License-Identifier: Apache-2.0
#include "agent/inspect/sockets.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include "tools/maglane/text.h"

namespace maglane {
namespace {

inspect::SocketRecord record(uint64_t cookie, abi::socket_kind kind, const char* frontend, uint32_t service) {
  abi::socket_key key{};
  key.cookie = cookie;
  key.kind = kind;
  abi::socket_peer peer{};
  peer.protocol = 17;
  peer.family = abi::FAMILY_IPV4;
  peer.frontend_addr_be[0] = ::inet_addr(frontend);
  peer.frontend_port_be = htons(53);
  peer.endpoint_addr_be[0] = ::inet_addr("10.244.1.2");
  peer.endpoint_port_be = htons(5353);
  peer.service_id = service;
  return {key, peer};
}

TEST(Sockets, EachUseOnceByFrontend) {
  const auto list = inspect::list_sockets({record(0x2f, abi::SOCKET_SENDS_TO, "10.96.0.10", 7),
                                           record(0x2f, abi::SOCKET_HEARS_FROM, "10.96.0.10", 7),
                                           record(3, abi::SOCKET_CONNECTED, "10.96.0.9", 8)},
                                          {{7, "kube-system/dns:dns"}});
  ASSERT_EQ(list.sockets_size(), 2);
  EXPECT_EQ(list.sockets(0).use(), "connected");
  EXPECT_EQ(list.sockets(0).service(), "");
  EXPECT_EQ(list.sockets(1).use(), "datagrams");
  EXPECT_EQ(cli::to_text(list),
            "PROTO  FRONTEND       ENDPOINT         USE        SERVICE              COOKIE\n"
            "UDP    10.96.0.9:53   10.244.1.2:5353  connected  -                         3\n"
            "UDP    10.96.0.10:53  10.244.1.2:5353  datagrams  kube-system/dns:dns      2f\n");
  EXPECT_EQ(cli::to_text(v1::SocketList{}), "no translated sockets\n");
}

}  // namespace
}  // namespace maglane
