/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The generator and the sink of the forwarding benchmark. Shared by BPF and user space.
 */
#ifndef MAGLANE_BENCH_FORWARD_TRAFFIC_H
#define MAGLANE_BENCH_FORWARD_TRAFFIC_H

#include <linux/types.h>

enum {
	FRAME_BYTES = 60, /* 64 on the wire, with the frame check sequence */
	FIRST_PORT = 2048, /* source port of flow 0 */
	MOST_FLOWS = 60000,
};

/* What the generator sends: `frame` with source port FIRST_PORT + flow, of each flow in turn. */
struct generator_state {
	__u32 frame[FRAME_BYTES / 4]; /* whole but for the source port and the UDP checksum, 0 there */
	__u32 udp_sum; /* of the 16-bit words, as they are in memory, under the UDP checksum */
	__u32 flows;
	__u32 next;
	__u32 pad;
};

/* What reached the backend; one for each CPU. */
struct sink_count {
	__u64 frames; /* UDP for the endpoints */
	__u64 looked_at; /* of these, each 256th: its checksums were added up */
	__u64 wrong; /* of those looked at */
};

/* Which frames are the endpoints'. */
struct sink_target {
	__be32 network_be; /* /24 */
	__be16 port_be;
	__u16 pad;
};

/* Where program redirect sends them. */
struct redirect_target {
	__u32 device; /* index */
	__u8 mac[6];
	__u16 pad;
};

#endif
