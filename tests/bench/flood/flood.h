/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The generator of floods, and who takes them off at the other end. Shared by BPF and user space. */
#ifndef MAGLANE_BENCH_FLOOD_H
#define MAGLANE_BENCH_FLOOD_H

#include <linux/types.h>

enum {
	FLOOD_BYTES = 60,
	FLOOD_MARK = 0x666c, /* identification of the frames, which no translation changes */
	FLOOD_PORTS = 4,
};

/* What the generator sends: `frame`, each time with another source address and port, and to each
 * of the ports in turn. */
struct flood_state {
	__u32 frame[16]; /* whole but for those, the checksums and the padding, 0 there */
	__u32 ip_sum;	 /* of the 16-bit words, as they are in memory, of the IPv4 header */
	__u32 l4_sum;	 /* of those under the TCP or UDP checksum */
	__u32 ports;	 /* how many there are */
	__be16 port_be[FLOOD_PORTS];
	__u32 next;
	__u32 udp;
};

#endif
