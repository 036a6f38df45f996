/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Room for what new connections and other rare work need and the 512 bytes of a BPF stack do
 * not have. One for each CPU and hook: programs of one hook do not interrupt each other, and
 * what user space calls has its own.
 */
#ifndef MAGLANE_SCRATCH_H
#define MAGLANE_SCRATCH_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include "bpf/flow.h"

enum {
	SCRATCHES = HOOKS + 1,
	SCRATCH_CALL = HOOKS, /* programs that user space calls */
	REFUSAL_HEADERS_MAX = 48, /* IPv6 and ICMP */
	QUOTE_MAX = 128,
};

/* As what pods' packets leave the cluster's network: masquerade.h. */
enum masquerade {
	MASQUERADE_NOT = 0,
	MASQUERADE_SOURCE,  /* with the node's address */
	MASQUERADE_KNOWN,   /* the same, if their connection's other direction is there */
	MASQUERADE_INBOUND, /* as they are: they answer a connection from outside */
};

/* A connection to be made. */
struct connection {
	__be32 src_be[4]; /* after translation */
	__be32 dst_be[4];
	__be16 dst_port_be;
	__u8 source_translated;
	__u8 flags; /* enum flow_flag: what both directions have */
	__u32 backend_id;
	__u32 service_id;
	__u8 masquerade; /* enum masquerade */
	__u8 pad[3];
	__u64 hash;
};

/* The search for a free reverse tuple. */
struct reservation {
	union any_tuple reverse; /* the tuple to reserve; its destination port is what varies */
	union any_flow flow;	 /* what goes there */
	__u32 hash;
	__be16 own_port_be;
	__u8 source_translated;
	__u8 protocol;
	__u8 seen; /* of the connection, as its forward flow has it */
	__u8 reason; /* enum reason: why it failed; REASON_COUNT: reserved */
	__u8 found;  /* the reverse flow was there already */
	__u8 doubtful;    /* a flow that may give way has one of the tuples: with the n-th port */
	__u8 last_resort; /* such a flow gives way */
	__u8 flags;	  /* enum flow_flag: what both directions have */
	__u8 tries_own;	  /* 1: the client's own port comes first */
	__u8 gave_up;	  /* before all ports were tried */
	__u8 only_known;  /* the reverse flow is there already, or the packet is nobody's */
	__u8 pad[3];
	__u32 doubtful_n;
	__u32 first; /* what the search counts from */
};

/* How many ICMP errors this CPU may still send. */
struct refusal_budget {
	__u64 refilled; /* jiffies */
	__u64 left;
};

union ip_header {
	struct iphdr v4;
	struct ipv6hdr v6;
	__be32 words[10];
};

/* An ICMP error, taken apart. Offsets are from the start of the frame. */
struct icmp_error {
	union ip_header outer;
	union ip_header inner; /* of the packet that it is about, as its receiver saw it */
	union any_tuple answer; /* what would answer that packet: the key of the flow back */
	__be16 ports_be[2];	/* of the packet that it is about */
	__u32 inner_offset;
	__u32 l4_offset; /* of the packet that it is about */
	__u32 end;	 /* of the quote */
	__u32 pad;
};

/* The endpoint that a client is held to, looked for in a Maglev table. */
struct affinity_search {
	struct affinity_key key;
	struct table_ref table;
	__u32 backend_id;
	__u32 position;
	__u32 found;
	struct affinity made;
};

/* A next hop that was found for a packet, for others that go there too: see hop.h. */
struct known_hop {
	__be32 dst_be[4];
	__u32 ifindex; /* where the packet came in */
	__u32 stamp;   /* as a flow's; 0: nothing */
	__u8 family;
	__u8 tos;
	__u16 mtu;
	__u32 pad;
	struct next_hop next_hop;
};

enum { KNOWN_HOPS_ORDER = 8, KNOWN_HOPS = 1 << KNOWN_HOPS_ORDER };

struct scratch {
	struct refusal_budget refusals;
	struct icmp_error icmp;
	struct fragment_key fragment_key;
	struct connection connection;
	struct reservation reservation;
	struct affinity_search affinity_search;
	struct source_range_key source_range;
	struct masquerade_range_key masquerade_range;
	struct port_shortage_key shortage_key;
	struct port_shortage shortage;
	struct flow other; /* somebody else's, looked at in passing */
	struct bpf_fib_lookup route;
	struct bpf_sock_tuple socket;
	struct ethhdr ethernet; /* of a packet that is refused */
	__u16 pad;
	__u32 refusal[REFUSAL_HEADERS_MAX / 4];
	__u32 quote[QUOTE_MAX / 4];
	struct known_hop hops[KNOWN_HOPS]; /* by destination */
};

#ifdef __bpf__
MAGLANE_MAP(scratches, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct scratch, SCRATCHES, 0);
#endif

static __always_inline struct scratch *scratch_of(__u32 which)
{
	return bpf_map_lookup_elem(&scratches, &which);
}

#endif
