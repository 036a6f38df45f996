/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The one ABI between the BPF programs and user space: every map key, map
 * value and load-time constant is declared here and nowhere else. C and C++.
 *
 * Fields ending in _be are in network byte order, all others in host order.
 * Padding is explicit and always zero. tests/abi holds each structure against
 * the BTF of the built object.
 */
#ifndef MAGLANE_ABI_H
#define MAGLANE_ABI_H

#include <linux/types.h>

#ifdef __cplusplus
#define MAGLANE_ASSERT_SIZE(type, size) static_assert(sizeof(type) == (size), #type)
namespace maglane::abi {
#else
#define MAGLANE_ASSERT_SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)
#endif

/* Raised whenever pinned maps of an older agent can no longer be read. */
enum { MAGLANE_ABI_VERSION = 2 };

enum family { FAMILY_IPV4 = 4, FAMILY_IPV6 = 6 };

/* ---- tables: buckets of cache lines, see bpf/table.h ----------------------- */

enum {
	TABLE_SLOTS = 31, /* entries of a bucket */
	TABLE_TAG_WORDS = 4,
};

/* The upper half of a key's last word in an entry. */
#define TABLE_VERSION_ODD 0x00010000U  /* the entry is being changed */
#define TABLE_VERSION_STEP 0x00020000U /* added when an entry is removed */
#define TABLE_VERSION_MASK 0xffff0000U

/* The first cache line of a bucket. */
struct table_header {
	__u64 tags[TABLE_TAG_WORDS]; /* a byte a slot, 0: free; the byte past the last slot is 0 */
	__u32 lock;
	__u32 overflow; /* how many entries of this first bucket are in their second */
	__u32 foreign;  /* a bit a slot: this is the entry's second bucket */
	__u32 pad[5];
};
MAGLANE_ASSERT_SIZE(struct table_header, 64);

/* The secret of this data plane's hash, made at random when its maps are made. */
struct table_seed {
	__u64 multiplier; /* odd */
	__u32 nh[10];	  /* by 32-bit half of the longest key */
};
MAGLANE_ASSERT_SIZE(struct table_seed, 48);

/* ---- frontends: an address, port and protocol that clients use ---------- */

enum frontend_type {
	/* Every service address has one entry with port 0 and protocol 0: it tells
	 * an unused port of a live address from an unused address. */
	FRONTEND_ADDRESS = 0,
	FRONTEND_CLUSTER_IP = 1,
	FRONTEND_NODE_PORT = 2,
	FRONTEND_EXTERNAL_IP = 3,
	FRONTEND_LOAD_BALANCER = 4,
};

/* The key of a frontend. An IPv4 address is in addr_be[0], the rest is 0. */
struct frontend_key {
	__be32 addr_be[4];
	__be16 port_be;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP; 0 for FRONTEND_ADDRESS */
	__u8 family;   /* enum family */
};
MAGLANE_ASSERT_SIZE(struct frontend_key, 20);

/* What becomes of a new connection when a table is empty. */
enum empty_verdict {
	EMPTY_REJECT = 0, /* ICMP port unreachable */
	EMPTY_DROP = 1,
};

/* A Maglev table: `size` consecutive backend ids of map "maglev", from `offset`.
 * With size 0, offset is an enum empty_verdict. */
struct table_ref {
	__u32 offset;
	__u32 size;
};
MAGLANE_ASSERT_SIZE(struct table_ref, 8);

/* Who asks selects the table: sources outside the cluster, or its pods. */
enum source_class { SOURCE_OUTSIDE = 0, SOURCE_POD = 1, SOURCE_CLASSES = 2 };

enum frontend_flag {
	/* External policy Local: a pod of the cluster keeps its address whichever endpoint it gets. */
	FRONTEND_EXTERNAL_LOCAL = 1 << 0,
	/* Only sources that map "source_ranges" has may open connections. */
	FRONTEND_SOURCE_RANGES = 1 << 1,
};

/* Map "frontend_values", memory-mapped array. */
struct frontend {
	__u32 service_id;
	__u8 type;  /* enum frontend_type */
	__u8 flags; /* enum frontend_flag */
	__u8 pad[2];
	struct table_ref tables[SOURCE_CLASSES]; /* by enum source_class */
	__u32 affinity_seconds; /* a client stays with its endpoint for so long; 0: it does not */
	__u32 pad2;
};
MAGLANE_ASSERT_SIZE(struct frontend, 32);

/* Map "frontends", memory-mapped array of buckets, written by the agent alone. To change a
 * frontend is to store `value`: a packet sees the old one or the new one, whole. */
struct frontend_entry {
	struct frontend_key key;
	__u32 meta;  /* 0; with the last four bytes of the key it makes the key's last word */
	__u32 value; /* index in map "frontend_values" */
	__u32 pad;
};
MAGLANE_ASSERT_SIZE(struct frontend_entry, 32);

struct frontend_bucket {
	struct table_header header;
	struct frontend_entry entries[TABLE_SLOTS];
	__u32 pad[8];
};
MAGLANE_ASSERT_SIZE(struct frontend_bucket, 1088);

/* ---- backends ------------------------------------------------------------ */

enum backend_flag {
	BACKEND_LOCAL = 1 << 0, /* the endpoint is on this node */
	BACKEND_NODE = 1 << 1,  /* and in its host network: the address is the node's own */
};

/* Map "backends", array by backend id. Id 0 is never used; a free slot is zero. */
struct backend {
	__be32 addr_be[4];
	__be16 port_be;
	__u8 protocol;
	__u8 family; /* enum family; 0: free */
	__u32 flags; /* enum backend_flag */
	__u32 pad[2];
};
MAGLANE_ASSERT_SIZE(struct backend, 32);

/* ---- what a service asks of its clients ----------------------------------- */

/* Map "source_ranges", longest-prefix trie: who may open connections to frontends with
 * FRONTEND_SOURCE_RANGES. The prefix covers service id and family whole and then the first bits
 * of the address. The value says nothing. */
enum { SOURCE_RANGE_BITS = 64 }; /* of the prefix before the address */

struct source_range_key {
	__u32 prefix_bits; /* SOURCE_RANGE_BITS and the length of the range */
	__u32 service_id;
	__u32 family; /* enum family */
	__be32 addr_be[4];
};
MAGLANE_ASSERT_SIZE(struct source_range_key, 28);

/* Map "affinity", LRU hash: the endpoint that a client of a service is held to. */
struct affinity_key {
	__u32 service_id;
	__be32 addr_be[4]; /* the client's */
};
MAGLANE_ASSERT_SIZE(struct affinity_key, 20);

struct affinity {
	__u32 backend_id;
	__u32 position; /* where a Maglev table had it last: the first place to look */
	__u32 slot;	/* of the client's last new connection */
	__u32 pad;
};
MAGLANE_ASSERT_SIZE(struct affinity, 16);

/* Map "gone_endpoints", hash: endpoints whose UDP flows program "forget" removes. */
struct service_endpoint {
	__be32 addr_be[4];
	__u32 service_id;
	__be16 port_be;
	__u8 protocol;
	__u8 family;
};
MAGLANE_ASSERT_SIZE(struct service_endpoint, 24);

/* ---- masquerade: what pods send to the outside ------------------------------------ */

/* Which of it leaves with the node's address. */
enum network_model {
	NETWORK_NONE = 0,      /* nothing */
	NETWORK_KUBENET = 1,   /* what goes to neither pod, service nor node of the cluster */
	NETWORK_AZURE_CNI = 2, /* what leaves the virtual network, too */
	NETWORK_CUSTOM = 3,    /* what leaves a list of ranges */
};

/* Map "masquerade_ranges", longest-prefix trie: destinations that see a pod's own address. The
 * prefix covers the family whole and then the first bits of the address. The value says nothing. */
enum { MASQUERADE_RANGE_BITS = 32 }; /* of the prefix before the address */

struct masquerade_range_key {
	__u32 prefix_bits; /* MASQUERADE_RANGE_BITS and the length of the range */
	__u32 family;	   /* enum family */
	__be32 addr_be[4];
};
MAGLANE_ASSERT_SIZE(struct masquerade_range_key, 24);

/* Map "egress_addresses", hash by the ifindex of an uplink: the node's addresses there. 0: none. */
struct egress_address {
	__be32 addr4_be;
	__be32 addr6_be[4];
};
MAGLANE_ASSERT_SIZE(struct egress_address, 20);

/* Map "port_shortages", LRU hash: whom connections could not be opened to lately, since all source
 * ports towards there were taken. */
struct port_shortage_key {
	__be32 addr_be[4];   /* the remote end */
	__be32 source_be[4]; /* as whom */
	__be16 port_be;
	__u8 protocol;
	__u8 family; /* enum family */
};
MAGLANE_ASSERT_SIZE(struct port_shortage_key, 36);

struct port_shortage {
	__u32 slot; /* of the last search through all ports; in it nobody searches again */
	__u32 pad;
	__u64 packets; /* dropped, ever */
};
MAGLANE_ASSERT_SIZE(struct port_shortage, 16);

/* ---- Maglev tables ------------------------------------------------------- */

enum { MAGLEV_LINE_ENTRIES = 16 };

/* Map "maglev", memory-mapped array of lines. Entry n of the map is
 * line n / 16, backend_id n % 16; tables start on a line. */
struct maglev_line {
	__u32 backend_id[MAGLEV_LINE_ENTRIES];
};
MAGLANE_ASSERT_SIZE(struct maglev_line, 64);

/* ---- services: names for people, and the memory of which id is whose ------ */

/* Map "services", hash by service id (one per service port and family; never 0).
 * Strings end with a zero byte. */
struct service_info {
	char namespace_name[64];
	char name[64];
	char port_name[64];
	__u16 port; /* the service's own port */
	__u8 protocol;
	__u8 family;
	__u32 pad;
};
MAGLANE_ASSERT_SIZE(struct service_info, 200);

/* ---- VIP bitmap ---------------------------------------------------------- */

enum {
	VIP_BITS_ORDER = 18,
	VIP_WORDS = (1 << VIP_BITS_ORDER) / 64,
};

/* Map "vip_bits", memory-mapped, one value. Bit vip_hash(address) is set for each
 * address of a frontend: a packet whose destination bit is 0 is for no frontend. */
struct vip_bits {
	__u64 word[VIP_WORDS];
};
MAGLANE_ASSERT_SIZE(struct vip_bits, 32768);

/* The bit number of an address. Fibonacci hashing of the folded address (Knuth,
 * The Art of Computer Programming, vol. 3, 6.4). */
static inline __attribute__((always_inline)) __u32 vip_hash(const __be32 addr_be[4])
{
	__u32 folded = addr_be[0] ^ (addr_be[1] * 0x85ebca6bU) ^ (addr_be[2] * 0xc2b2ae35U) ^
		       (addr_be[3] * 0x27d4eb2fU);

	return (folded * 0x9e3779b1U) >> (32 - VIP_BITS_ORDER);
}

/*
 * Map "flow_bits", memory-mapped, one value. Bit vip_hash(address) is set, in one of the two
 * generations, for each address that packets of flows come to on their way to the endpoint, and
 * for each that they come from on their way back: a packet with neither of these bits, and no
 * VIP bit, belongs to no flow. Programs set bits, in the generation that node_state names,
 * before they make a flow; the agent alone clears a generation, once all flows that there are
 * have been noted in the other.
 */
enum { FLOW_BITS_GENERATIONS = 2 };

struct flow_bits_word {
	__u64 to[FLOW_BITS_GENERATIONS];
	__u64 from[FLOW_BITS_GENERATIONS];
};

struct flow_bits {
	struct flow_bits_word word[VIP_WORDS];
};
MAGLANE_ASSERT_SIZE(struct flow_bits, 131072);

/* ---- flows: one direction of a tracked connection -------------------------- */

/* The packet as it arrives, before translation. */
struct tuple4 {
	__be32 src_be;
	__be32 dst_be;
	__be16 src_port_be;
	__be16 dst_port_be;
	__u8 protocol;
	__u8 pad[3];
};
MAGLANE_ASSERT_SIZE(struct tuple4, 16);

struct tuple6 {
	__be32 src_be[4];
	__be32 dst_be[4];
	__be16 src_port_be;
	__be16 dst_port_be;
	__u8 protocol;
	__u8 pad[3];
};
MAGLANE_ASSERT_SIZE(struct tuple6, 40);

enum { NEXT_HOP_XDP = 1u << 31 };

struct next_hop {
	__u32 device; /* ifindex; bit 31, NEXT_HOP_XDP: XDP may send to it; 0: none cached */
	__u8 dst_mac[6];
	__u8 src_mac[6];
};
MAGLANE_ASSERT_SIZE(struct next_hop, 16);

enum flow_flag {
	FLOW_REPLY = 1 << 0, /* endpoint to client; without it: client to endpoint */
	FLOW_SNAT = 1 << 1,  /* the client's address or port is translated as well */
	FLOW_NODE = 1 << 2,  /* the endpoint is this node's own stack: what goes there is
			      * delivered, what comes back is met where it leaves a device */
	FLOW_MASQUERADE = 1 << 3, /* of a pod to the outside: the source is the node's address on
				   * the device that it leaves by. With FLOW_NODE: of the node
				   * itself, whose own port a pod's connection has */
};

/* What has been seen of the connection in this direction. */
enum flow_seen {
	SEEN_SYN = 1 << 0,
	/* TCP: a segment without SYN, and after the other direction's FIN one more: its
	 * acknowledgement. UDP: any datagram. */
	SEEN_ACK = 1 << 1,
	SEEN_FIN = 1 << 2,
	SEEN_RST = 1 << 3, /* taken back when the connection goes on; one that is beyond doubt is
			    * noted as a FIN of both directions as well */
	SEEN_TWIN_SHIFT = 4, /* the same of the other direction */
};

/* Of an entry's meta: protocol, what was seen (enum flow_seen) and the version above. */
#define FLOW_META_PROTOCOL 0x000000ffU
enum { FLOW_META_SEEN_SHIFT = 8 };

/* Both families' flows end with this. The twin (the other direction) has for key
 * the translated tuple with source and destination exchanged. */
struct flow_body {
	__u16 addr_csum; /* one's complement difference that the new addresses make */
	__u16 port_csum; /* and the new ports; both folded, to be added to ~checksum */
	__u32 backend_id;
	__u32 service_id;
	/* Bits 24-31: the node's epoch in which `next_hop` was found, 0: not found.
	 * Bits 0-23: slot (about a second, see node_config.slot_shift) of the last
	 * packet. A packet compares the whole with the current stamp, so that one test
	 * tells that the next hop may be used and that nothing is to be written. */
	__u32 stamp;
	struct next_hop next_hop;
	__u8 flags; /* enum flow_flag, fixed when the flow is made */
	__u8 pad;
	__u16 mtu; /* of the next hop, bytes from the IP header on; 0: unknown */
};
MAGLANE_ASSERT_SIZE(struct flow_body, 36);

/* The tuple after translation, and how to send it. */
struct flow4 {
	__be32 src_be;
	__be32 dst_be;
	__be16 src_port_be;
	__be16 dst_port_be;
	struct flow_body body;
};
MAGLANE_ASSERT_SIZE(struct flow4, 48);

struct flow6 {
	__be32 src_be[4];
	__be32 dst_be[4];
	__be16 src_port_be;
	__be16 dst_port_be;
	struct flow_body body;
	__u32 pad[4];
};
MAGLANE_ASSERT_SIZE(struct flow6, 88);

/* Maps "flows4" and "flows6", memory-mapped arrays of buckets. In an entry the tuple's
 * pad holds the rest of meta. Only BPF programs write them. */
struct flow_entry4 {
	struct tuple4 tuple;
	struct flow4 flow;
};
MAGLANE_ASSERT_SIZE(struct flow_entry4, 64);

struct flow_entry6 {
	struct tuple6 tuple;
	struct flow6 flow;
};
MAGLANE_ASSERT_SIZE(struct flow_entry6, 128);

struct flow_bucket4 {
	struct table_header header;
	struct flow_entry4 entries[TABLE_SLOTS];
};
MAGLANE_ASSERT_SIZE(struct flow_bucket4, 2048);

struct flow_bucket6 {
	struct table_header header;
	__u32 pad[16];
	struct flow_entry6 entries[TABLE_SLOTS];
};
MAGLANE_ASSERT_SIZE(struct flow_bucket6, 4096);

/* ---- fragments: which datagram's ports the later ones have ------------------------- */

/* As the packets arrive. What IPv6 calls a datagram does not depend on the protocol. */
struct fragment_key {
	__be32 src_be[4]; /* an IPv4 address is in the first word, the rest is 0 */
	__be32 dst_be[4];
	__be32 id_be;
	__u8 protocol; /* IPv4; 0 with IPv6 */
	__u8 family;   /* enum family */
	__u8 pad[2];
};
MAGLANE_ASSERT_SIZE(struct fragment_key, 40);

/* Map "fragments", LRU hash: first fragments that were forwarded lately. */
struct fragment {
	__be32 ports_be; /* source, then destination, as they stand in the packet */
	__u8 protocol;
	__u8 pad[3];
	__u32 slot; /* when the first one came */
};
MAGLANE_ASSERT_SIZE(struct fragment, 12);

/* For so many slots an identification stands for one datagram. */
enum { FRAGMENT_SLOTS = 5 };

enum { STAMP_SLOT_BITS = 24, STAMP_SLOT_MASK = (1 << STAMP_SLOT_BITS) - 1, EPOCH_MAX = 255 };

/* ---- node state: what changes while programs run ---------------------------- */

struct prefix {
	__be32 addr_be[4]; /* already masked */
	__be32 mask_be[4];
	__u32 family; /* 0: unused, ends the list */
};
MAGLANE_ASSERT_SIZE(struct prefix, 36);

enum { NODE_POD_CIDRS = 2 }; /* one a family */

enum shared_hops { SHARED_HOPS_IPV4 = 1 << 24, SHARED_HOPS_IPV6 = 1 << 25 };
enum { SHARED_HOPS_SLOTS = 30 };

/* Map "node_state", memory-mapped array, one value. */
struct node_state {
	__u32 epoch; /* 1..EPOCH_MAX, then 1 again; raised when routes, neighbours or links change */
	__be32 addr4_be; /* the node's primary addresses, source of translated packets; 0: none */
	__be32 addr6_be[4];
	__u32 abi_version; /* MAGLANE_ABI_VERSION of whoever made the maps */
	__u32 flow_bits_generation; /* 0 or 1: where new flows are noted */
	struct table_seed seed; /* what the tables were made with; kept for as long as they are */
	struct prefix pod_cidrs[NODE_POD_CIDRS]; /* of the Node object; see PODS_BY_NODE_CIDR */
	/* Bits 24-31: families (enum shared_hops) of whose packets all to one destination, from one
	 * device, have one next hop, whatever their source. Bits 0-23: the slot in which the agent
	 * last said so; its word counts for SHARED_HOPS_SLOTS, since without it nobody watches the
	 * routes and rules. */
	__u32 shared_hops;
	__u32 network_model;	   /* enum network_model; this and the ports: as in node_config, for people */
	__u16 snat_port_min[2];
	__u16 snat_port_count[2];
	__u32 pad2[6];
};
MAGLANE_ASSERT_SIZE(struct node_state, 192);

enum device_flag {
	DEVICE_XDP = 1 << 0,    /* XDP on another device may redirect to it */
	DEVICE_POD = 1 << 1,    /* the host end of a pod's link */
	DEVICE_UPLINK = 1 << 2, /* leads to other hosts */
};

/* Map "devices", hash by ifindex. */
struct device {
	__u32 flags; /* enum device_flag */
};
MAGLANE_ASSERT_SIZE(struct device, 4);

/* ---- sockets whose destination was translated -------------------------------- */

enum socket_kind {
	SOCKET_CONNECTED = 1, /* the socket's peer: found by the cookie alone, address and port are 0 */
	SOCKET_SENDS_TO = 2,  /* unconnected UDP: found by the frontend's address and port */
	SOCKET_HEARS_FROM = 3, /* unconnected UDP: found by the endpoint's address and port */
};

struct socket_key {
	__u64 cookie; /* the kernel's number of the socket, never used again */
	__be32 addr_be[4];
	__be16 port_be;
	__u8 kind;   /* enum socket_kind */
	__u8 family; /* enum family of the address; 0 for SOCKET_CONNECTED */
	__u32 pad;
};
MAGLANE_ASSERT_SIZE(struct socket_key, 32);

/* Map "sockets", LRU hash. Written by the hooks at sockets. */
struct socket_peer {
	__be32 frontend_addr_be[4]; /* what the program named */
	__be32 endpoint_addr_be[4]; /* where it goes */
	__be16 frontend_port_be;
	__be16 endpoint_port_be;
	__u8 protocol;
	__u8 family; /* enum family, of both; IPv4 also where an IPv6 socket has a mapped address */
	__u8 pad[2];
	__u32 backend_id;
	__u32 service_id;
};
MAGLANE_ASSERT_SIZE(struct socket_peer, 48);

/* Whose sockets are served at the socket. */
enum socket_translation { SOCKETS_OFF = 0, SOCKETS_HOST = 1, SOCKETS_ALL = 2 };

/* Map "pod_namespaces", hash by the cookie of a pod's network namespace (netns cookie). */
struct pod_namespace {
	__u32 ifindex; /* the pod's device on the node */
};
MAGLANE_ASSERT_SIZE(struct pod_namespace, 4);

/* ---- constants at load time -------------------------------------------------- */

enum { MAX_POD_CIDRS = 16, MAX_SERVICE_CIDRS = 4 };

/* Who counts as a pod of the cluster: any of these that is set. */
enum pods_by {
	PODS_BY_DEVICE = 1 << 0,    /* what comes in on a pod device */
	PODS_BY_CLUSTER_CIDR = 1 << 1, /* sources in node_config.pod_cidrs */
	PODS_BY_NODE_CIDR = 1 << 2, /* sources in node_state.pod_cidrs */
};

/* Idle times, in slots, by the states of nf_conntrack. The values of a flow's two directions are
 * looked at together: the later stamp and the union of what was seen count. */
struct timeouts {
	__u32 tcp_syn_sent; /* not yet answered */
	__u32 tcp_syn_recv; /* answered, not yet confirmed */
	__u32 tcp_established;
	__u32 tcp_fin_wait;   /* FIN in one direction, not yet acknowledged */
	__u32 tcp_close_wait; /* FIN in one direction, acknowledged */
	__u32 tcp_last_ack;   /* FIN in both directions, one of them not yet acknowledged */
	__u32 tcp_time_wait;  /* FIN in both directions, acknowledged */
	__u32 tcp_close;      /* a RST that is beyond doubt */
	/* Picked up in the middle and not answered; or established, then a RST that anybody
	 * may have sent. */
	__u32 tcp_unacknowledged;
	__u32 udp; /* not answered */
	__u32 udp_stream;
	__u32 icmp;
	__u32 sctp_cookie_wait; /* INIT, not yet COOKIE ECHO */
	__u32 sctp_established;
	__u32 sctp_shutdown; /* SHUTDOWN, not yet SHUTDOWN ACK */
	__u32 sctp_closed;   /* SHUTDOWN ACK, or an ABORT that is beyond doubt */
	__u32 sctp_heartbeat_sent; /* picked up in the middle and not answered */
	__u32 pad;
};
MAGLANE_ASSERT_SIZE(struct timeouts, 72);

/* .rodata "config". The JIT removes what a constant makes unreachable. */
struct node_config {
	__u32 slot_shift; /* slot = jiffies >> slot_shift; chosen so that a slot is about 1 s */
	__u32 hz;         /* jiffies a second */
	__u8 ipv4;        /* 1: serve the family */
	__u8 ipv6;
	__u8 masquerade_all;
	__u8 pods_by; /* enum pods_by */
	/* ICMP errors that a CPU sends a second, and at once after a pause; 0: as many as there
	 * are reasons for. */
	__u32 refusals_per_second;
	__u8 socket_translation; /* enum socket_translation */
	__u8 network_model;	 /* enum network_model */
	__u8 pad[6];
	__u64 netns_cookie; /* of the node's own network namespace */
	/* Source ports for translation, host order: two runs, so that the kernel's own
	 * ephemeral ports and the node ports between them stay out. */
	__u16 snat_port_min[2];
	__u16 snat_port_count[2]; /* 0: unused */
	struct timeouts timeouts;
	struct table_seed seed;
	__u32 flow_buckets4; /* buckets of the maps */
	__u32 flow_buckets6;
	__u32 frontend_buckets;
	/* Of the tables that these programs replace, in maps "retired_flows4" and "retired_flows6";
	 * 0: of none. */
	__u32 retired_buckets4;
	__u32 retired_buckets6;
	__u32 pad2;
	struct prefix pod_cidrs[MAX_POD_CIDRS];
	struct prefix service_cidrs[MAX_SERVICE_CIDRS];
};
MAGLANE_ASSERT_SIZE(struct node_config, 904);

/* ---- counters ------------------------------------------------------------------ */

/* Every way a packet can leave a program: X(CONSTANT, "name", verdict, "meaning").
 * verdict: PASS to the stack or the next hook, SEND (forwarded by us), REJECT, DROP. */
#define MAGLANE_REASONS(X)                                                                             \
	X(NOT_IP, "not_ip", PASS, "neither IPv4 nor IPv6, or a family that is switched off")           \
	X(NOT_OURS, "not_ours", PASS, "belongs to no flow and to no frontend")                         \
	X(CONNECTED, "connected", PASS, "a connection or datagram of a socket that goes to the endpoint itself") \
	X(TO_TC, "to_tc", PASS, "XDP left a packet of a flow to tc on the same device")                \
	X(TRANSMITTED, "transmitted", SEND, "sent back out of the device it came from")                \
	X(REDIRECTED, "redirected", SEND, "sent out of another device, next hop cached")               \
	X(RESOLVING, "resolving", SEND, "sent through the kernel's neighbour resolution")              \
	X(DELIVERED, "delivered", PASS, "translated, and on to an endpoint in the node's own network") \
	X(NODE_REPLY, "node_reply", PASS, "from an endpoint in the node's own network, translated as it leaves") \
	X(NODE_PORT_CHANGED, "node_port_changed", PASS, "of the node's own, by another source port, since a pod's connection has its own towards there") \
	X(NO_ENDPOINT, "no_endpoint", REJECT, "the frontend has no endpoint")                          \
	X(UNUSED_PORT, "unused_port", REJECT, "a service address, but no such port")                   \
	X(TOO_BIG, "too_big", REJECT, "longer than the next hop's MTU, of which its sender is told")   \
	X(REFUSAL_RATE_LIMITED, "refusal_rate_limited", DROP, "an ICMP error was due, but there were too many in this second") \
	X(MALFORMED, "malformed", DROP, "a header of a packet to a frontend contradicts itself or is cut short") \
	X(FRAGMENT, "fragment", DROP, "a later fragment whose first one is not known or did not fit")  \
	X(SCTP_FRAGMENT, "sctp_fragment", DROP, "a first fragment of SCTP with ports to change: the checksum is over what follows") \
	X(UNSUPPORTED_PROTOCOL, "unsupported_protocol", DROP, "a protocol that frontends do not serve") \
	X(EXTENSION_HEADERS, "extension_headers", DROP, "more IPv6 extension headers than are walked") \
	X(NO_LOCAL_ENDPOINT, "no_local_endpoint", DROP, "policy Local and no endpoint on this node")   \
	X(SOURCE_RANGE, "source_range", DROP, "a source outside the service's loadBalancerSourceRanges") \
	X(UNUSED_ADDRESS, "unused_address", DROP, "a service CIDR address that no service has")        \
	X(NO_BACKEND, "no_backend", DROP, "a Maglev table names a backend that is gone")               \
	X(FLOW_TABLE_FULL, "flow_table_full", DROP, "no room for a new flow")                          \
	X(TABLE_BUSY, "table_busy", DROP, "a bucket's lock or a whole copy of an entry could not be had") \
	X(NO_SOURCE_PORT, "no_source_port", DROP, "no free source port towards the destination")          \
	X(NO_SOURCE_ADDRESS, "no_source_address", DROP, "the node has no address of the family to translate to") \
	X(TTL_EXCEEDED, "ttl_exceeded", DROP, "TTL or hop limit used up")                              \
	X(NO_ROUTE, "no_route", DROP, "no route to the translated destination")                        \
	X(FORWARDING_DISABLED, "forwarding_disabled", DROP, "the kernel's forwarding is switched off on the device") \
	X(REWRITE_FAILED, "rewrite_failed", DROP, "the kernel refused an edit of the packet")

enum reason {
#define X(constant, name, verdict, meaning) REASON_##constant,
	MAGLANE_REASONS(X)
#undef X
		REASON_COUNT
};

/* Map "service_counters", memory-mapped array by service id + part * SERVICE_IDS. CPUs are
 * spread over the parts, so that few share a cache line; a service's sum is over them all. */
enum { SERVICE_IDS = 131072, SERVICE_COUNTER_PARTS = 8 };

struct service_counter {
	__u64 connections; /* that were given an endpoint */
};
MAGLANE_ASSERT_SIZE(struct service_counter, 8);

/* Map "counters", per-CPU array by reason + hook * REASON_COUNT. */
enum hook { HOOK_XDP = 0, HOOK_TC = 1, HOOK_TC_EGRESS = 2, HOOK_SOCKET = 3, HOOKS = 4 };

struct counter {
	__u64 packets;
	__u64 bytes;
};
MAGLANE_ASSERT_SIZE(struct counter, 16);

/* ---- programs that user space calls (BPF_PROG_TEST_RUN) --------------------------- */

/* The packet is the call. It starts where an Ethernet header would be. */
struct call_header {
	__u8 ethernet[16]; /* ignored */
};
MAGLANE_ASSERT_SIZE(struct call_header, 16);

/* Program "expire": removes what has been idle for too long in some buckets, as far as its time
 * goes. */
struct expire_call {
	struct call_header header;
	__u32 family; /* enum family */
	__u32 first_bucket;
	__u32 buckets;  /* at most */
	__u32 walked;   /* result: buckets; 0 past the end of the table */
	__u32 examined; /* result: flows looked at */
	__u32 removed;  /* result */
	__u32 shared_hops; /* enum shared_hops, for node_state */
	__u32 pad;
};
MAGLANE_ASSERT_SIZE(struct expire_call, 48);

/* Program "forget": removes the flows of map "gone_endpoints" from some buckets, as far as its
 * time goes. */
struct forget_call {
	struct call_header header;
	__u32 family; /* enum family */
	__u32 first_bucket;
	__u32 buckets; /* at most */
	__u32 walked;  /* result: buckets; 0 past the end of the table */
	__u32 removed; /* result */
	__u32 pad;
};
MAGLANE_ASSERT_SIZE(struct forget_call, 40);

/* Program "adopt": makes flows as they were in another table, unless they are there. */
enum { ADOPT_BYTES = 2048 }; /* of flows, in one call */

struct adopt_call {
	struct call_header header;
	__u32 family; /* enum family */
	__u32 count;  /* entries that follow: struct flow_entry4 or flow_entry6, without a version */
	__u32 adopted; /* result */
	__u32 refused; /* result: for want of room; those that were there already are neither */
};
MAGLANE_ASSERT_SIZE(struct adopt_call, 32);

/* Program "clock". */
struct clock_call {
	struct call_header header;
	__u64 jiffies;    /* results */
	__u32 slot_shift; /* as in node_config */
	__u32 hz;
};
MAGLANE_ASSERT_SIZE(struct clock_call, 32);

/* Program "remove_flow": removes one direction. */
enum remove_result {
	REMOVE_ABSENT = 0, /* there was no such flow */
	REMOVE_DONE = 1,
	REMOVE_BUSY = 2, /* its bucket's lock could not be had: try again */
};

struct remove_call {
	struct call_header header;
	__u32 family;
	__u32 result; /* enum remove_result */
	union {
		struct tuple4 t4;
		struct tuple6 t6;
	} tuple;
};
MAGLANE_ASSERT_SIZE(struct remove_call, 64);

#ifdef __cplusplus
} /* namespace maglane::abi */
#endif

#endif
