/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The steps of a packet, the same at XDP and tc:
 *
 *   parse -> flow found ------------------------------------------> rewrite -> forward
 *         -> no flow -> frontend -> table -> backend -> make flows -> (as above)
 *
 * Include after ctx_xdp.h, ctx_tc.h or ctx_native.h, which give the verbs.
 */
#ifndef MAGLANE_PIPELINE_H
#define MAGLANE_PIPELINE_H

#include "bpf/checksum.h"
#include "bpf/count.h"
#include "bpf/filter.h"
#include "bpf/flow.h"
#include "bpf/forward.h"
#include "bpf/frontend.h"
#include "bpf/nat.h"
#include "bpf/parse.h"
#include "bpf/reject.h"
#include "bpf/select.h"

/* Not TCP or UDP, or not whole: ours to refuse only if it is for a service's address, since
 * a service address must never be routed out of the node. */
static __always_inline int unparsed(ctx_t *ctx, struct packet *packet, enum parsed parsed,
				    int family)
{
	union frontend_words key = {.key.family = family};

	if (parsed == PARSED_NO_ADDRESS)
		return pass(ctx, REASON_NOT_OURS);
	addr_widen(key.key.addr_be, tuple_dst(&packet->tuple, family), family);
	if (!frontend_may_have(key.key.addr_be) || !frontend_is_service_address(&key)) {
		if (in_service_cidr(tuple_dst(&packet->tuple, family), family))
			return drop(ctx, REASON_UNUSED_ADDRESS);
		return pass(ctx, REASON_NOT_OURS);
	}
	switch (parsed) {
	case PARSED_FRAGMENT:
		return drop(ctx, REASON_FRAGMENT);
	case PARSED_OTHER_PROTOCOL:
		return drop(ctx, REASON_UNSUPPORTED_PROTOCOL);
	case PARSED_EXTENSION_HEADERS:
		return drop(ctx, REASON_EXTENSION_HEADERS);
	default:
		return drop(ctx, REASON_MALFORMED);
	}
}

/* No frontend has this address, port and protocol. */
static __always_inline int no_frontend(ctx_t *ctx, struct packet *packet,
				       union frontend_words *key, int family)
{
	if (frontend_may_have(key->key.addr_be) && frontend_is_service_address(key))
		return reject(ctx, packet, REASON_UNUSED_PORT, family);
	if (in_service_cidr(tuple_dst(&packet->tuple, family), family))
		return drop(ctx, REASON_UNUSED_ADDRESS);
	return pass(ctx, REASON_NOT_OURS);
}

/*
 * The client's address is replaced by the node's where the reply would not come back
 * through this node or this translation: an endpoint that reaches itself; a source that is
 * no pod, at a cluster IP; an endpoint on another node, behind any other frontend.
 */
static __always_inline int needs_source_translation(struct packet *packet,
						    const struct frontend *frontend,
						    const struct backend *backend,
						    enum source_class class, int family)
{
	if (addr_equal(tuple_src(&packet->tuple, family), backend->addr_be, family))
		return 1;
	if (frontend->type == FRONTEND_CLUSTER_IP)
		return class != SOURCE_POD || config.masquerade_all;
	return !(backend->flags & BACKEND_LOCAL);
}

static __always_inline int node_address(__be32 *address, int family)
{
	__u32 zero = 0;
	struct node_state *state = bpf_map_lookup_elem(&node_state, &zero);

	if (!state)
		return 0;
	addr_copy(address, family == FAMILY_IPV4 ? &state->addr4_be : state->addr6_be, family);
	if (family == FAMILY_IPV4)
		return address[0] != 0;
	return (address[0] | address[1] | address[2] | address[3]) != 0;
}

/*
 * Whether a pod opens a connection of no service whose replies would be taken for those of one
 * that we translate: it uses an endpoint through the service and directly, from one port.
 */
static __always_inline int shares_replies(struct packet *packet, union any_tuple *reverse,
					  int family)
{
	__u8 protocol = *tuple_protocol(&packet->tuple, family);

	if (!packet->from_pod ||
	    (protocol == IPPROTO_TCP && (packet->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN))
		return 0;
	__builtin_memset(reverse, 0, sizeof(*reverse));
	addr_copy(tuple_src(reverse, family), tuple_dst(&packet->tuple, family), family);
	addr_copy(tuple_dst(reverse, family), tuple_src(&packet->tuple, family), family);
	*tuple_src_port(reverse, family) = *tuple_dst_port(&packet->tuple, family);
	*tuple_dst_port(reverse, family) = *tuple_src_port(&packet->tuple, family);
	*tuple_protocol(reverse, family) = protocol;
	return flow_search(reverse, family) != TABLE_NOWHERE;
}

/* Who serves the connection and as whom it comes to them. 0: nobody, and the program's return
 * value is in *verdict. */
static __always_inline int choose_endpoint(ctx_t *ctx, struct packet *packet,
					   const struct frontend *frontend,
					   struct connection *connection, int *verdict, int family)
{
	const struct backend *backend;
	const struct table_ref *table;
	enum source_class class = source_class(packet, family);

	table = class == SOURCE_POD ? &frontend->tables[SOURCE_POD] :
				      &frontend->tables[SOURCE_OUTSIDE];
	if (!table->size) {
		*verdict = table->offset == EMPTY_DROP ?
				   drop(ctx, REASON_NO_LOCAL_ENDPOINT) :
				   reject(ctx, packet, REASON_NO_ENDPOINT, family);
		return 0;
	}
	backend = select_backend(table, connection->hash, family, &connection->backend_id);
	if (!backend) {
		*verdict = drop(ctx, REASON_NO_BACKEND);
		return 0;
	}
	connection->service_id = frontend->service_id;
	addr_copy(connection->dst_be, backend->addr_be, family);
	connection->dst_port_be = backend->port_be;
	if (needs_source_translation(packet, frontend, backend, class, family)) {
		connection->source_translated = 1;
		if (!node_address(connection->src_be, family)) {
			*verdict = drop(ctx, REASON_NO_SOURCE_ADDRESS);
			return 0;
		}
	}
	return 1;
}

/* The flow of a new connection; or 0, and the program's return value in *verdict. */
static __always_inline int new_connection(ctx_t *ctx, struct packet *packet, struct flow *flow,
					  int *verdict, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	union frontend_words key = {.key.family = family};
	struct connection *connection;
	const struct frontend *frontend;
	enum reason reason;

	*verdict = CTX_DROP;
	if (!scratch)
		return 0;
	addr_widen(key.key.addr_be, tuple_dst(&packet->tuple, family), family);
	key.key.port_be = *tuple_dst_port(&packet->tuple, family);
	key.key.protocol = *tuple_protocol(&packet->tuple, family);
	frontend = frontend_may_have(key.key.addr_be) ? frontend_find(&key) : NULL;
	if (!frontend && !shares_replies(packet, &scratch->reservation.reverse, family)) {
		*verdict = no_frontend(ctx, packet, &key, family);
		return 0;
	}
	connection = &scratch->connection;
	__builtin_memset(connection, 0, sizeof(*connection));
	connection->hash = connection_hash(&packet->tuple, family);
	addr_copy(connection->src_be, tuple_src(&packet->tuple, family), family);
	addr_copy(connection->dst_be, tuple_dst(&packet->tuple, family), family);
	connection->dst_port_be = *tuple_dst_port(&packet->tuple, family);
	if (frontend && !choose_endpoint(ctx, packet, frontend, connection, verdict, family))
		return 0;
	__builtin_memset(&flow->answer, 0, sizeof(flow->answer));
	addr_copy(flow_src(&flow->answer, family), connection->src_be, family);
	addr_copy(flow_dst(&flow->answer, family), connection->dst_be, family);
	reason = hop_find(ctx, packet, &flow->answer, clock_stamp(), &scratch->route, family);
	if (reason == REASON_COUNT)
		reason = nat_make_flows(packet, scratch, flow, family);
	if (reason == REASON_COUNT) {
		count_connection(connection->service_id);
		return 1;
	}
	*verdict = drop(ctx, reason);
	return 0;
}

/* A closed connection's tuple may be used again at once. */
static __always_inline int opens_again(struct packet *packet, struct flow *flow)
{
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN &&
	       seen_closed(meta_seen(flow->meta));
}

/*
 * A TCP or UDP packet of neither a frontend nor a flow, and what becomes of it in *verdict.
 * Pods' packets are not asked: pods are endpoints, mostly, or use one directly (see
 * shares_replies).
 */
static __always_inline int is_stranger(ctx_t *ctx, int *verdict, int family)
{
	const void *addresses;
	__u8 protocol;

	if (family == FAMILY_IPV4) {
		const struct iphdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));

		if (!ip)
			return 0;
		protocol = ip->protocol;
		addresses = &ip->saddr;
	} else {
		const struct ipv6hdr *ip = ctx_at(ctx, L3_OFFSET, sizeof(*ip));

		if (!ip)
			return 0;
		protocol = ip->nexthdr;
		addresses = &ip->saddr;
	}
	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) ||
	    filter_may_be_ours(tuple_src((void *)addresses, family),
			       tuple_dst((void *)addresses, family), family))
		return 0;
	*verdict = in_service_cidr(tuple_dst((void *)addresses, family), family) ?
			   drop(ctx, REASON_UNUSED_ADDRESS) :
			   pass(ctx, REASON_NOT_OURS);
	return 1;
}

static __always_inline int pipeline_family(ctx_t *ctx, int from_pod, int family)
{
	struct packet packet;
	enum parsed parsed;
	enum table_result found;
	struct flow flow;
	int verdict;

	if (!from_pod && is_stranger(ctx, &verdict, family))
		return verdict;
	packet.from_pod = from_pod;
	parsed = parse(ctx, &packet, family);
	if (parsed != PARSED_OK)
		return unparsed(ctx, &packet, parsed, family);
	found = flow_find(&packet.tuple, &flow, family);
	if (found == TABLE_BUSY)
		return drop(ctx, REASON_TABLE_BUSY);
	if (found == TABLE_DONE && opens_again(&packet, &flow)) {
		flow_remove_pair(&packet.tuple, &flow, family);
		found = TABLE_ABSENT;
	}
	if (found == TABLE_ABSENT && !new_connection(ctx, &packet, &flow, &verdict, family))
		return verdict;
	return forward(ctx, &packet, &flow, family);
}

/* from_pod: the hook is on a pod device, so whatever comes in is a pod's. */
static __always_inline int pipeline(ctx_t *ctx, int from_pod)
{
	const __be16 *type;

	ctx_pull(ctx, MAX_HEADERS);
	type = ctx_at(ctx, __builtin_offsetof(struct ethhdr, h_proto), sizeof(*type));
	if (!type || ctx_has_vlan(ctx))
		return pass(ctx, REASON_NOT_IP);
	if (config.ipv4 && *type == __builtin_bswap16(ETH_P_IP))
		return pipeline_family(ctx, from_pod, FAMILY_IPV4);
	if (config.ipv6 && *type == __builtin_bswap16(ETH_P_IPV6))
		return pipeline_family(ctx, from_pod, FAMILY_IPV6);
	return pass(ctx, REASON_NOT_IP);
}

#endif
