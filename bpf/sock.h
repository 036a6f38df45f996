/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Service addresses at the socket. A program that connects, or sends a datagram, to a frontend
 * gets a socket that uses the endpoint itself, so that its packets need no translation; what
 * it asks the socket, and where its datagrams come from, shows the frontend:
 *
 *   connect           -> frontend -> table -> backend -> the peer; remembered for:
 *   getpeername       <- the frontend
 *   sendmsg (UDP)     -> the endpoint that the socket used before, or as connect
 *   recvmsg (UDP)     <- the frontend
 *   close             -> forgotten
 *
 * The hooks are those of the root of cgroup2, so that every program of the machine comes by.
 * Only sockets in the network namespace of the node are served, and those of its pods where
 * that is asked for; all others cost a comparison.
 *
 * A socket of the node is told what would become of its packets: nothing behind the agent's
 * back may send them on. A pod's, where in doubt, is left to the packet path.
 *
 * Include after ctx_sock.h.
 */
#ifndef MAGLANE_SOCK_H
#define MAGLANE_SOCK_H

#include <linux/errno.h>
#include <linux/in.h>
#include "bpf/affinity.h"
#include "bpf/count.h"
#include "bpf/frontend.h"
#include "bpf/select.h"

enum { PROTOCOL_MPTCP = 262 }; /* IPPROTO_MPTCP: its subflows are TCP */

/* ::ffff:0:0/96, RFC 4291 section 2.5.5.2: the third word of an IPv4-mapped address. */
#define MAPPED_WORD __builtin_bswap32(0x0000ffffU)

enum served { SERVED_NOT = 0, SERVED_NODE, SERVED_POD };

static __always_inline enum served served(__u64 netns_cookie)
{
	if (netns_cookie == config.netns_cookie)
		return SERVED_NODE;
	if (config.socket_translation != SOCKETS_ALL)
		return SERVED_NOT;
	return bpf_map_lookup_elem(&pod_namespaces, &netns_cookie) ? SERVED_POD : SERVED_NOT;
}

/* ---- addresses in the context ------------------------------------------------- */

/* The address and port that the program, or the kernel, named. wide: the hook is one of the IPv6
 * ones, whose sockets have IPv4-mapped addresses for IPv4. */
static __always_inline void address_load(const ctx_t *ctx, union frontend_words *key, int wide)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->key.port_be = ctx->user_port;
	if (!wide) {
		key->key.family = FAMILY_IPV4;
		key->key.addr_be[0] = ctx->user_ip4;
		return;
	}
	key->key.addr_be[0] = ctx->user_ip6[0];
	key->key.addr_be[1] = ctx->user_ip6[1];
	key->key.addr_be[2] = ctx->user_ip6[2];
	key->key.addr_be[3] = ctx->user_ip6[3];
	key->key.family = FAMILY_IPV6;
	if (key->key.addr_be[0] || key->key.addr_be[1] || key->key.addr_be[2] != MAPPED_WORD)
		return;
	key->key.family = FAMILY_IPV4;
	key->key.addr_be[0] = key->key.addr_be[3];
	key->key.addr_be[2] = 0;
	key->key.addr_be[3] = 0;
}

static __always_inline void address_store(ctx_t *ctx, const __be32 *addr_be, __be16 port_be,
					  int family, int wide)
{
	ctx->user_port = port_be;
	if (!wide) {
		ctx->user_ip4 = addr_be[0];
	} else if (family == FAMILY_IPV4) {
		ctx->user_ip6[3] = addr_be[0];
	} else {
		ctx->user_ip6[0] = addr_be[0];
		ctx->user_ip6[1] = addr_be[1];
		ctx->user_ip6[2] = addr_be[2];
		ctx->user_ip6[3] = addr_be[3];
	}
}

/* True: TCP or UDP of a family that is served. */
static __always_inline int destination_load(const ctx_t *ctx, union frontend_words *key, int wide)
{
	__u32 protocol = ctx->protocol;

	address_load(ctx, key, wide);
	key->key.protocol = protocol == PROTOCOL_MPTCP ? IPPROTO_TCP : protocol;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != PROTOCOL_MPTCP)
		return 0;
	return key->key.family == FAMILY_IPV4 ? config.ipv4 : config.ipv6;
}

/* ---- what is remembered of a socket --------------------------------------------- */

static __always_inline void socket_key_set(struct socket_key *key, __u64 cookie,
					   enum socket_kind kind)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->cookie = cookie;
	key->kind = kind;
}

static __always_inline void socket_key_address(struct socket_key *key, const __be32 *addr_be,
					       __be16 port_be, __u8 family)
{
	for (int i = 0; i < 4; i++)
		key->addr_be[i] = addr_be[i];
	key->port_be = port_be;
	key->family = family;
}

static __always_inline int is_endpoint_of(const struct socket_peer *peer,
					  const struct frontend_key *address)
{
	return peer->endpoint_port_be == address->port_be && peer->family == address->family &&
	       addr_equal(peer->endpoint_addr_be, address->addr_be, FAMILY_IPV6);
}

/* ---- verdicts --------------------------------------------------------------------- */

/* The program's call fails at once with `error`; a packet would have been answered with ICMP
 * port unreachable, or with nothing. */
static __always_inline int refuse(const ctx_t *ctx, enum reason reason, int error)
{
	bpf_set_retval(error);
	return drop(ctx, reason);
}

static __always_inline int socket_in_service_cidr(const struct frontend_key *key)
{
	return key->family == FAMILY_IPV4 ? in_service_cidr(key->addr_be, FAMILY_IPV4) :
					    in_service_cidr(key->addr_be, FAMILY_IPV6);
}

/* No frontend has this address, port and protocol. Leaves the key without port and protocol. */
static __always_inline int socket_no_frontend(const ctx_t *ctx, union frontend_words *key,
					      enum served who)
{
	/* Nobody sends to port 0: resolvers connect to it to learn their own address. */
	int probe = !key->key.port_be && key->key.protocol == IPPROTO_UDP;

	if (who == SERVED_POD || probe)
		return pass(ctx, REASON_NOT_OURS);
	if (frontend_may_have(key->key.addr_be) && frontend_is_service_address(key))
		return refuse(ctx, REASON_UNUSED_PORT, -ECONNREFUSED);
	if (socket_in_service_cidr(&key->key))
		return refuse(ctx, REASON_UNUSED_ADDRESS, -EHOSTUNREACH);
	return pass(ctx, REASON_NOT_OURS);
}

/* What only packets can be given: their source is translated, or looked at, and which it is of
 * a pod's addresses is not known yet. */
static __always_inline int takes_packets(const struct frontend *frontend)
{
	return (frontend->type == FRONTEND_CLUSTER_IP && config.masquerade_all) ||
	       frontend->flags & FRONTEND_SOURCE_RANGES || frontend->affinity_seconds;
}

/* The node is one client, by its primary address. 0: it is none that the service lets in. */
static __always_inline int node_is_let_in(const struct frontend *frontend, const __be32 *node,
					  int family)
{
	struct source_range_key range = {};

	if (!(frontend->flags & FRONTEND_SOURCE_RANGES))
		return 1;
	return family == FAMILY_IPV4 ? source_allowed(frontend, node, &range, FAMILY_IPV4) :
				       source_allowed(frontend, node, &range, FAMILY_IPV6);
}

static __always_inline __u32 socket_select(const struct frontend *frontend,
					   const struct table_ref *table, const __be32 *node,
					   __u64 hash)
{
	struct affinity_search search = {};

	if (!frontend->affinity_seconds)
		return maglev_select(table, hash);
	addr_copy(search.key.addr_be, node, FAMILY_IPV6);
	return affinity_select_with(&search, frontend, table, hash);
}

/*
 * Chooses an endpoint; fills in `peer`. The node itself, as its pods do, has all endpoints behind
 * external frontends whatever their policy. 0: there is none, and the program's return value is
 * in *verdict.
 */
static __always_inline int socket_choose(const ctx_t *ctx, const struct frontend *frontend,
					 const struct frontend_key *key, enum served who,
					 __u64 hash, struct socket_peer *peer, int *verdict)
{
	const struct table_ref *table = &frontend->tables[SOURCE_POD];
	const struct backend *backend;
	__be32 node[4] = {};

	if (who == SERVED_POD && takes_packets(frontend)) {
		*verdict = pass(ctx, REASON_NOT_OURS);
		return 0;
	}
	if (key->family == FAMILY_IPV4)
		node_address(node, FAMILY_IPV4);
	else
		node_address(node, FAMILY_IPV6);
	if (!node_is_let_in(frontend, node, key->family)) {
		*verdict = refuse(ctx, REASON_SOURCE_RANGE, -EHOSTUNREACH);
		return 0;
	}
	if (!table->size) {
		if (who == SERVED_POD)
			*verdict = pass(ctx, REASON_NOT_OURS);
		else if (table->offset == EMPTY_DROP)
			*verdict = refuse(ctx, REASON_NO_LOCAL_ENDPOINT, -EHOSTUNREACH);
		else
			*verdict = refuse(ctx, REASON_NO_ENDPOINT, -ECONNREFUSED);
		return 0;
	}
	peer->backend_id = socket_select(frontend, table, node, hash);
	backend = backend_of(&peer->backend_id, key->family);
	if (!backend) {
		*verdict = refuse(ctx, REASON_NO_BACKEND, -EHOSTUNREACH);
		return 0;
	}
	for (int i = 0; i < 4; i++) {
		peer->frontend_addr_be[i] = key->addr_be[i];
		peer->endpoint_addr_be[i] = backend->addr_be[i];
	}
	peer->frontend_port_be = key->port_be;
	peer->endpoint_port_be = backend->port_be;
	peer->protocol = key->protocol;
	peer->family = key->family;
	peer->service_id = frontend->service_id;
	count_connection(frontend->service_id);
	return 1;
}

/* ---- the hooks ---------------------------------------------------------------------- */

static __always_inline int socket_connect(ctx_t *ctx, int wide)
{
	enum served who = served(bpf_get_netns_cookie(ctx));
	const struct frontend *frontend;
	struct socket_peer peer = {};
	union frontend_words key;
	struct socket_key socket;
	int verdict;

	if (who == SERVED_NOT)
		return CTX_PASS;
	if (!destination_load(ctx, &key, wide))
		return pass(ctx, REASON_NOT_OURS);
	socket_key_set(&socket, bpf_get_socket_cookie(ctx), SOCKET_CONNECTED);
	frontend = frontend_may_have(key.key.addr_be) ? frontend_find(&key) : NULL;
	if (!frontend) {
		/* It may have been connected to a frontend before. */
		bpf_map_delete_elem(&sockets, &socket);
		return socket_no_frontend(ctx, &key, who);
	}
	/* Each attempt of a socket is a new connection, as it is for packets. */
	if (!socket_choose(ctx, frontend, &key.key, who,
			   mix(((__u64)bpf_get_prandom_u32() << 32) ^ socket.cookie), &peer, &verdict))
		return verdict;
	bpf_map_update_elem(&sockets, &socket, &peer, BPF_ANY);
	address_store(ctx, peer.endpoint_addr_be, peer.endpoint_port_be, peer.family, wide);
	return pass(ctx, REASON_CONNECTED);
}

/* The same for each datagram of a socket to this frontend, unless the endpoints change. */
static __always_inline __u64 datagram_hash(const struct socket_key *socket)
{
	__u64 hash = mix(socket->cookie + socket->port_be);

	for (int i = 0; i < 4; i++)
		hash = mix(hash + socket->addr_be[i]);
	return hash;
}

/* A datagram with an address of its own. */
static __always_inline int socket_sendmsg(ctx_t *ctx, int wide)
{
	enum served who = served(bpf_get_netns_cookie(ctx));
	const struct frontend *frontend;
	const struct socket_peer *known;
	struct socket_peer peer = {};
	struct socket_key sends, hears;
	union frontend_words key;
	int verdict;

	if (who == SERVED_NOT)
		return CTX_PASS;
	if (!destination_load(ctx, &key, wide))
		return pass(ctx, REASON_NOT_OURS);
	frontend = frontend_may_have(key.key.addr_be) ? frontend_find(&key) : NULL;
	socket_key_set(&hears, bpf_get_socket_cookie(ctx), SOCKET_HEARS_FROM);
	if (!frontend) {
		/* It may have used this endpoint through a frontend before: the last asked answers. */
		socket_key_address(&hears, key.key.addr_be, key.key.port_be, key.key.family);
		bpf_map_delete_elem(&sockets, &hears);
		return socket_no_frontend(ctx, &key, who);
	}
	socket_key_set(&sends, hears.cookie, SOCKET_SENDS_TO);
	socket_key_address(&sends, key.key.addr_be, key.key.port_be, key.key.family);
	/* The agent removes what is remembered of an endpoint that is gone. */
	known = bpf_map_lookup_elem(&sockets, &sends);
	if (known) {
		peer = *known;
	} else {
		if (!socket_choose(ctx, frontend, &key.key, who, datagram_hash(&sends), &peer, &verdict))
			return verdict;
		bpf_map_update_elem(&sockets, &sends, &peer, BPF_ANY);
	}
	socket_key_address(&hears, peer.endpoint_addr_be, peer.endpoint_port_be, peer.family);
	known = bpf_map_lookup_elem(&sockets, &hears);
	if (!known || known->frontend_port_be != peer.frontend_port_be ||
	    !addr_equal(known->frontend_addr_be, peer.frontend_addr_be, FAMILY_IPV6))
		bpf_map_update_elem(&sockets, &hears, &peer, BPF_ANY);
	address_store(ctx, peer.endpoint_addr_be, peer.endpoint_port_be, peer.family, wide);
	return pass(ctx, REASON_CONNECTED);
}

static __always_inline int is_connected(ctx_t *ctx)
{
	struct bpf_sock *socket = ctx->sk;

	return socket && socket->state == BPF_TCP_ESTABLISHED;
}

/* Tells the program the frontend where it would see the endpoint. connected: an address of the
 * socket's peer. */
static __always_inline int socket_name(ctx_t *ctx, int connected, int wide)
{
	const struct socket_peer *peer;
	union frontend_words address;
	struct socket_key socket;

	if (served(bpf_get_netns_cookie(ctx)) == SERVED_NOT)
		return CTX_PASS;
	address_load(ctx, &address, wide);
	socket_key_set(&socket, bpf_get_socket_cookie(ctx),
		       connected ? SOCKET_CONNECTED : SOCKET_HEARS_FROM);
	if (!connected)
		socket_key_address(&socket, address.key.addr_be, address.key.port_be,
				   address.key.family);
	peer = bpf_map_lookup_elem(&sockets, &socket);
	if (peer && is_endpoint_of(peer, &address.key))
		address_store(ctx, peer->frontend_addr_be, peer->frontend_port_be, peer->family, wide);
	return CTX_PASS;
}

/* The socket is closed. Of one that was never connected, what is remembered is left to age. */
static __always_inline int socket_close(struct bpf_sock *ctx)
{
	struct socket_key socket;

	if (served(bpf_get_netns_cookie(ctx)) == SERVED_NOT)
		return CTX_PASS;
	socket_key_set(&socket, bpf_get_socket_cookie(ctx), SOCKET_CONNECTED);
	bpf_map_delete_elem(&sockets, &socket);
	return CTX_PASS;
}

#endif
