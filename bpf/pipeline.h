/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The steps of a packet, the same at XDP and tc:
 *
 *   parse -> flow found ------------------------------------------> rewrite -> forward
 *         -> no flow -> frontend -> table -> backend -> make flows -> (as above)
 *                    -> none, of a pod to the outside -> make flows -> (as above)
 *
 * Include after ctx_xdp.h, ctx_tc.h or ctx_native.h, which give the verbs.
 */
#ifndef MAGLANE_PIPELINE_H
#define MAGLANE_PIPELINE_H

#include "bpf/affinity.h"
#include "bpf/checksum.h"
#include "bpf/count.h"
#include "bpf/filter.h"
#include "bpf/flow.h"
#include "bpf/forward.h"
#include "bpf/fragment.h"
#include "bpf/frontend.h"
#include "bpf/icmp.h"
#include "bpf/masquerade.h"
#include "bpf/nat.h"
#include "bpf/parse.h"
#include "bpf/reject.h"
#include "bpf/select.h"

enum { CHOSEN = 100 }; /* no program's return value */

/* For no service. CHOSEN, if it is to be masqueraded; or the program's return value. */
static __always_inline int leave(ctx_t *ctx, struct packet *packet, struct scratch *scratch,
				 int family)
{
	const enum masquerade masquerade = masquerade_of(
		ctx, packet, tuple_dst(&packet->tuple, family), scratch, family);

	scratch->connection.masquerade = masquerade;
	return masquerade == MASQUERADE_NOT ? pass(ctx, REASON_NOT_OURS) : CHOSEN;
}

static __always_inline int is_for_a_service(struct packet *packet, int family)
{
	union frontend_words key = {.key.family = family};

	addr_widen(key.key.addr_be, tuple_dst(&packet->tuple, family), family);
	return frontend_may_have(key.key.addr_be) && frontend_is_service_address(&key);
}

/* Of no protocol that is followed, or not whole: ours to refuse only if it is for a service's
 * address, since a service address must never be routed out of the node. */
static __always_inline int unserved(ctx_t *ctx, struct packet *packet, enum parsed parsed,
				    int family)
{
	if (!is_for_a_service(packet, family)) {
		if (in_service_cidr(tuple_dst(&packet->tuple, family), family))
			return drop(ctx, REASON_UNUSED_ADDRESS);
		if (parsed == PARSED_FRAGMENT && fragment_would_leak(ctx, packet, family))
			return drop(ctx, REASON_FRAGMENT);
		return pass(ctx, REASON_NOT_OURS);
	}
	switch (parsed) {
	case PARSED_FRAGMENT:
		/* Its first one may have been left to tc, and be on the way there. */
		if ((int)CTX_HOOK == (int)HOOK_XDP)
			return pass(ctx, REASON_TO_TC);
		return drop(ctx, REASON_FRAGMENT);
	case PARSED_OTHER_PROTOCOL:
		return drop(ctx, REASON_UNSUPPORTED_PROTOCOL);
	case PARSED_EXTENSION_HEADERS:
		return drop(ctx, REASON_EXTENSION_HEADERS);
	default:
		return drop(ctx, REASON_MALFORMED);
	}
}

/* The same of an echo that no flow has: CHOSEN, if it is to be masqueraded. */
static __always_inline int echo_of_nobody(ctx_t *ctx, struct packet *packet,
					  struct scratch *scratch, int family)
{
	if (is_for_a_service(packet, family))
		return drop(ctx, REASON_UNSUPPORTED_PROTOCOL);
	if (in_service_cidr(tuple_dst(&packet->tuple, family), family))
		return drop(ctx, REASON_UNUSED_ADDRESS);
	return leave(ctx, packet, scratch, family);
}

/* What is not plain. UNUSUAL: the packet goes on as plain ones do; or the program's return
 * value. */
static __always_inline int unparsed_of(ctx_t *ctx, struct packet *packet, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	enum parsed parsed = parse(ctx, packet, family);

	if (parsed == PARSED_OK)
		return UNUSUAL;
	if (parsed == PARSED_NO_ADDRESS || !scratch)
		return pass(ctx, REASON_NOT_OURS);
	parsed = parse_unusual(ctx, packet, parsed, &scratch->fragment_key, family);
	if (parsed == PARSED_OK)
		return UNUSUAL;
	if (parsed == PARSED_OTHER_PROTOCOL && is_icmp(packet, family)) {
		int verdict = icmp_error(ctx, packet, family);

		if (verdict == ICMP_UNRELATED && config.network_model &&
		    parse_echo(ctx, packet, family) == PARSED_OK)
			return UNUSUAL;
		if (verdict != ICMP_UNRELATED)
			return verdict;
	}
	return unserved(ctx, packet, parsed, family);
}

__weak int CTX_GLOBAL(unparsed4)(ctx_t *ctx, struct packet *packet)
{
	return packet ? unparsed_of(ctx, packet, FAMILY_IPV4) : CTX_DROP;
}

__weak int CTX_GLOBAL(unparsed6)(ctx_t *ctx, struct packet *packet)
{
	return packet ? unparsed_of(ctx, packet, FAMILY_IPV6) : CTX_DROP;
}

static __always_inline int unparsed(ctx_t *ctx, struct packet *packet, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(unparsed4)(ctx, packet)
				     : CTX_GLOBAL(unparsed6)(ctx, packet);
}

/* No frontend has this address, port and protocol: CHOSEN, if it is to be masqueraded; or the
 * program's return value. */
static __always_inline int no_frontend(ctx_t *ctx, struct packet *packet,
				       union frontend_words *key, struct scratch *scratch,
				       int family)
{
	if (frontend_may_have(key->key.addr_be) && frontend_is_service_address(key))
		return reject(ctx, packet, REASON_UNUSED_PORT, family);
	if (in_service_cidr(tuple_dst(&packet->tuple, family), family))
		return drop(ctx, REASON_UNUSED_ADDRESS);
	return leave(ctx, packet, scratch, family);
}

/*
 * The client's address is replaced by the node's where the reply would not come back
 * through this node or this translation: an endpoint that reaches itself; a source that is
 * no pod, at a cluster IP; an endpoint on another node, behind any other frontend, unless
 * the policy is Local and the source a pod of this node. Never where the endpoint is the
 * node's own stack, which takes nothing that comes from the node's own address.
 */
static __always_inline int needs_source_translation(struct packet *packet,
						    const struct frontend *frontend,
						    const struct backend *backend,
						    enum source_class class, int family)
{
	if (backend->flags & BACKEND_NODE)
		return 0;
	if (addr_equal(tuple_src(&packet->tuple, family), backend->addr_be, family))
		return 1;
	if (frontend->type == FRONTEND_CLUSTER_IP)
		return class != SOURCE_POD || config.masquerade_all;
	if (frontend->flags & FRONTEND_EXTERNAL_LOCAL && class == SOURCE_POD && packet->from_pod)
		return 0;
	return !(backend->flags & BACKEND_LOCAL);
}

/* In scratch->connection a new one, as its client sees it. */
static __always_inline struct connection *connection_begin(struct packet *packet,
							   struct scratch *scratch, int family)
{
	struct connection *connection = &scratch->connection;

	__builtin_memset(connection, 0, sizeof(*connection));
	connection->hash = connection_hash(&packet->tuple, family);
	addr_copy(connection->src_be, tuple_src(&packet->tuple, family), family);
	addr_copy(connection->dst_be, tuple_dst(&packet->tuple, family), family);
	connection->dst_port_be = *tuple_dst_port(&packet->tuple, family);
	return connection;
}

/* The same as its endpoint sees it. 0: the node has no address to show it. */
static __always_inline int connection_lead(struct packet *packet, struct connection *connection,
					   const struct frontend *frontend,
					   const struct backend *backend, enum source_class class,
					   int family)
{
	connection->service_id = frontend->service_id;
	addr_copy(connection->dst_be, backend->addr_be, family);
	connection->dst_port_be = backend->port_be;
	if (backend->flags & BACKEND_NODE)
		connection->flags = FLOW_NODE;
	connection->source_translated =
		needs_source_translation(packet, frontend, backend, class, family);
	return !connection->source_translated || node_address(connection->src_be, family);
}

static __always_inline const struct table_ref *table_for(const struct frontend *frontend,
							 enum source_class class)
{
	return class == SOURCE_POD ? &frontend->tables[SOURCE_POD]
				   : &frontend->tables[SOURCE_OUTSIDE];
}

/* Whether who serves a connection is up to more than its addresses and ports. */
static __always_inline int choice_is_open(struct packet *packet, const struct frontend *frontend)
{
	return frontend->affinity_seconds || frontend->flags & FRONTEND_SOURCE_RANGES ||
	       (config.network_model && packet->from_pod);
}

/* The lines of both flows. True: there is no forward one yet; false says nothing. */
static __always_inline int fetch_flows(struct packet *packet, const struct connection *connection,
				       int family)
{
	const struct table_place forward = flow_place(packet->tuple.words, family);
	union any_tuple reverse = {};
	struct table_place back;

	addr_copy(tuple_src(&reverse, family), connection->dst_be, family);
	addr_copy(tuple_dst(&reverse, family), connection->src_be, family);
	*tuple_src_port(&reverse, family) = connection->dst_port_be;
	*tuple_dst_port(&reverse, family) =
		connection->source_translated ? __builtin_bswap16(source_port(connection->hash, 0))
					      : *tuple_src_port(&packet->tuple, family);
	*tuple_protocol(&reverse, family) = *tuple_protocol(&packet->tuple, family);
	back = flow_place(reverse.words, family);
	flow_fetch(&forward, family);
	flow_fetch(&back, family);
	return flow_is_nowhere(&forward, family);
}

/*
 * A new connection makes two flows, far apart in a large table: the lines of both are some 100 ns
 * away. Where a packet says that it is the first one, it is asked who would serve it before
 * anything waits for the forward flow's, so that they come at one time. A wrong guess harms
 * nothing. Where nothing else can come of it, it is none, and not asked again (FRONTEND_CHOSEN).
 */
static __always_inline int foresee_of(struct packet *packet, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	union frontend_words key = {.key.family = family};
	struct connection *connection;
	const struct frontend *frontend;
	const struct backend *backend;
	const struct table_ref *table;
	enum source_class class;

	if (!packet || !scratch)
		return 0;
	addr_widen(key.key.addr_be, tuple_dst(&packet->tuple, family), family);
	key.key.port_be = *tuple_dst_port(&packet->tuple, family);
	key.key.protocol = *tuple_protocol(&packet->tuple, family);
	packet->frontend = FRONTEND_NONE;
	if (frontend_may_have(key.key.addr_be))
		packet->frontend = frontend_index(&key);
	frontend = frontend_value(packet->frontend);
	if (!frontend)
		return 0;
	connection = connection_begin(packet, scratch, family);
	class = source_class(packet, family);
	table = table_for(frontend, class);
	connection->backend_id = table->size ? maglev_select(table, connection->hash) : 0;
	backend = backend_of(&connection->backend_id, family);
	if (!backend || !connection_lead(packet, connection, frontend, backend, class, family))
		return 0;
	if (!choice_is_open(packet, frontend))
		packet->frontend = FRONTEND_CHOSEN;
	return fetch_flows(packet, connection, family);
}

__weak int CTX_GLOBAL(foresee4)(struct packet *packet) { return foresee_of(packet, FAMILY_IPV4); }

__weak int CTX_GLOBAL(foresee6)(struct packet *packet) { return foresee_of(packet, FAMILY_IPV6); }

/* True: no flow has the packet's tuple. */
static __always_inline int foresee(struct packet *packet, int family)
{
	return family == FAMILY_IPV4 ? CTX_GLOBAL(foresee4)(packet) : CTX_GLOBAL(foresee6)(packet);
}

/* Who serves the connection and as whom it comes to them. 0: nobody, and the program's return
 * value is in *verdict. */
static __always_inline int choose_endpoint(ctx_t *ctx, struct packet *packet,
					   const struct frontend *frontend,
					   struct scratch *scratch, int *verdict, int family)
{
	struct connection *connection = &scratch->connection;
	enum source_class class = source_class(packet, family);
	const struct table_ref *table = table_for(frontend, class);
	const struct backend *backend;

	if (frontend->flags & FRONTEND_SOURCE_RANGES &&
	    !source_allowed(frontend, tuple_src(&packet->tuple, family), &scratch->source_range,
			    family)) {
		*verdict = drop(ctx, REASON_SOURCE_RANGE);
		return 0;
	}
	if (!table->size) {
		*verdict = table->offset == EMPTY_DROP ?
				   drop(ctx, REASON_NO_LOCAL_ENDPOINT) :
				   reject(ctx, packet, REASON_NO_ENDPOINT, family);
		return 0;
	}
	if (frontend->affinity_seconds) {
		addr_widen(scratch->affinity_search.key.addr_be, tuple_src(&packet->tuple, family),
			   family);
		connection->backend_id = affinity_select(frontend, table, connection->hash);
	} else {
		connection->backend_id = maglev_select(table, connection->hash);
	}
	backend = backend_of(&connection->backend_id, family);
	if (!backend) {
		*verdict = drop(ctx, REASON_NO_BACKEND);
		return 0;
	}
	if (!connection_lead(packet, connection, frontend, backend, class, family)) {
		*verdict = drop(ctx, REASON_NO_SOURCE_ADDRESS);
		return 0;
	}
	if (!connection->source_translated && !(backend->flags & BACKEND_LOCAL)) {
		connection->masquerade =
			masquerade_of(ctx, packet, connection->dst_be, scratch, family);
		/* It opens a connection, whatever its flags say. */
		if (connection->masquerade)
			connection->masquerade = MASQUERADE_SOURCE;
	}
	return 1;
}

/*
 * Whether a pod opens a connection of no service whose replies would be taken for those of one
 * that we translate: it uses an endpoint through the service and directly, from one port.
 */
static __always_inline int shares_replies(struct packet *packet, union any_tuple *reverse,
					  int family)
{
	return packet->from_pod && replies_are_taken(packet, reverse, family);
}

/* Who serves a new connection, in scratch->connection: CHOSEN; or the program's return value. */
static __always_inline int open_of(ctx_t *ctx, struct packet *packet, int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	union frontend_words key = {.key.family = family};
	struct connection *connection;
	const struct frontend *frontend;
	int verdict;

	if (!scratch)
		return CTX_DROP;
	/* What a later fragment is part of has its flow, or had. */
	if (*packet_kind(packet, family) & PACKET_LATER_FRAGMENT)
		return unserved(ctx, packet, PARSED_FRAGMENT, family);
	connection = connection_begin(packet, scratch, family);
	addr_widen(key.key.addr_be, tuple_dst(&packet->tuple, family), family);
	key.key.port_be = *tuple_dst_port(&packet->tuple, family);
	key.key.protocol = *tuple_protocol(&packet->tuple, family);
	if (packet->frontend == FRONTEND_NOT_ASKED)
		packet->frontend = frontend_may_have(key.key.addr_be) ? frontend_index(&key) :
									(__u32)FRONTEND_NONE;
	frontend = frontend_value(packet->frontend);
	verdict = CHOSEN;
	if (!frontend && *packet_kind(packet, family) & PACKET_ECHO)
		verdict = echo_of_nobody(ctx, packet, scratch, family);
	else if (!frontend && shares_replies(packet, &scratch->reservation.reverse, family))
		connection->masquerade = masquerade_of(
			ctx, packet, tuple_dst(&packet->tuple, family), scratch, family);
	else if (!frontend)
		verdict = no_frontend(ctx, packet, &key, scratch, family);
	if (verdict != CHOSEN)
		return verdict;
	if (frontend && !choose_endpoint(ctx, packet, frontend, scratch, &verdict, family))
		return verdict;
	return CHOSEN;
}

/* What they need of the stack is not needed with what follows. */
__weak int CTX_GLOBAL(open4)(ctx_t *ctx, struct packet *packet)
{
	return packet ? open_of(ctx, packet, FAMILY_IPV4) : CTX_DROP;
}

__weak int CTX_GLOBAL(open6)(ctx_t *ctx, struct packet *packet)
{
	return packet ? open_of(ctx, packet, FAMILY_IPV6) : CTX_DROP;
}

/* Makes the connection that is in scratch->connection. CHOSEN: *flow is its flow; or the
 * program's return value. */
static __always_inline int connect_of(ctx_t *ctx, struct packet *packet, struct flow *flow,
				      int family)
{
	struct scratch *scratch = scratch_of(CTX_HOOK);
	const __u32 stamp = clock_stamp();
	struct connection *connection;
	enum reason reason;

	if (!packet || !flow || !scratch)
		return CTX_DROP;
	connection = &scratch->connection;
	__builtin_memset(&flow->answer, 0, sizeof(flow->answer));
	addr_copy(flow_src(&flow->answer, family), connection->src_be, family);
	addr_copy(flow_dst(&flow->answer, family), connection->dst_be, family);
	if (connection->flags & FLOW_NODE) {
		flow_body(&flow->answer, family)->stamp = stamp & STAMP_SLOT_MASK;
		reason = REASON_COUNT;
	} else {
		reason = REASON_COUNT;
		if (!hop_is_known(ctx, packet, &flow->answer, stamp, scratch, family))
			reason = hop_find(ctx, packet, &flow->answer, stamp, family);
	}
	if (config.network_model && connection->masquerade) {
		reason = masquerade_source(scratch, flow_body(&flow->answer, family), reason,
					   family);
		addr_copy(flow_src(&flow->answer, family), connection->src_be, family);
	}
	if (reason == REASON_COUNT)
		reason = nat_make_flows(ctx, packet, scratch, flow, family);
	if (reason == REASON_COUNT) {
		count_connection(connection->service_id);
		return CHOSEN;
	}
	return reason == REASON_NOT_OURS ? pass(ctx, reason) : drop(ctx, reason);
}

__weak int CTX_GLOBAL(connect4)(ctx_t *ctx, struct packet *packet, struct flow *flow)
{
	return connect_of(ctx, packet, flow, FAMILY_IPV4);
}

__weak int CTX_GLOBAL(connect6)(ctx_t *ctx, struct packet *packet, struct flow *flow)
{
	return connect_of(ctx, packet, flow, FAMILY_IPV6);
}

/* CHOSEN: *flow is that of a new connection; or the program's return value. */
static __always_inline int new_connection(ctx_t *ctx, struct packet *packet, struct flow *flow,
					  int family)
{
	int verdict = CHOSEN;

	if (packet->frontend != FRONTEND_CHOSEN)
		verdict = family == FAMILY_IPV4 ? CTX_GLOBAL(open4)(ctx, packet)
						: CTX_GLOBAL(open6)(ctx, packet);
	if (verdict != CHOSEN)
		return verdict;
	return family == FAMILY_IPV4 ? CTX_GLOBAL(connect4)(ctx, packet, flow)
				     : CTX_GLOBAL(connect6)(ctx, packet, flow);
}

/* Whether the flow's endpoint is still one of the node's backends. */
static __always_inline int endpoint_remains(struct flow *flow, int family)
{
	const struct flow_body *body = flow_body(&flow->answer, family);
	__u32 id = body->backend_id;
	const struct backend *backend = bpf_map_lookup_elem(&backends, &id);

	return body->flags & FLOW_REPLY ||
	       (backend && backend->family == family &&
		addr_equal(backend->addr_be, flow_dst(&flow->answer, family), family) &&
		backend->port_be == *flow_dst_port(&flow->answer, family));
}

/*
 * A closed connection's tuple may be used again at once. After a RST that may be anybody's the
 * endpoint decides: it takes the new connection if the old one is gone, and otherwise tells
 * the client so (RFC 5961 section 4). Unless it is no endpoint any more.
 */
static __always_inline int opens_again(struct packet *packet, struct flow *flow, int family)
{
	const __u8 seen = meta_seen(flow->meta);

	if (!is_opening(packet))
		return 0;
	return seen_closed(seen) || (seen_reset(seen) && !endpoint_remains(flow, family));
}

/*
 * A TCP, UDP or SCTP packet of neither a frontend nor a flow, and what becomes of it in *verdict.
 * Pods' packets are not asked: pods are endpoints, mostly, or use one directly (see
 * shares_replies).
 */
static __always_inline int is_stranger(ctx_t *ctx, const void *ip, int *verdict, int family)
{
	const __u8 protocol = family == FAMILY_IPV4 ? ((const struct iphdr *)ip)->protocol :
						      ((const struct ipv6hdr *)ip)->nexthdr;
	/* Source, then destination, as in a tuple. */
	void *addresses = (void *)ip + (family == FAMILY_IPV4 ? 12 : 8);

	if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP) ||
	    filter_may_be_ours(tuple_src(addresses, family), tuple_dst(addresses, family), family))
		return 0;
	*verdict = in_service_cidr(tuple_dst(addresses, family), family) ?
			   drop(ctx, REASON_UNUSED_ADDRESS) :
			   pass(ctx, REASON_NOT_OURS);
	return 1;
}

static __always_inline int pipeline_family(ctx_t *ctx, int from_pod, int family)
{
	const void *ip = ctx_at(ctx, L3_OFFSET, PLAIN_L4(family) - L3_OFFSET);
	struct packet packet;
	enum table_result found;
	struct flow flow;
	int verdict;

	if (!ip)
		return pass(ctx, REASON_NOT_OURS);
	if (!from_pod && is_stranger(ctx, ip, &verdict, family))
		return verdict;
	packet.from_pod = from_pod;
	packet.frontend = FRONTEND_NOT_ASKED;
	if (!parse_plain(ctx, ip, &packet, family)) {
		verdict = unparsed(ctx, &packet, family);
		if (verdict != UNUSUAL)
			return verdict;
	}
	found = is_opening(&packet) && foresee(&packet, family) ?
			TABLE_ABSENT :
			flow_find(&packet.tuple, &flow, family);
	if (found == TABLE_BUSY)
		return drop(ctx, REASON_TABLE_BUSY);
	if (found == TABLE_DONE && opens_again(&packet, &flow, family)) {
		flow_remove_pair(&packet.tuple, &flow, family);
		found = TABLE_ABSENT;
	}
	if (found == TABLE_ABSENT) {
		verdict = new_connection(ctx, &packet, &flow, family);
		if (verdict != CHOSEN)
			return verdict;
	}
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
