// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A veth takes the frames that its peer sends with XDP_TX only if it has an XDP program of
 * its own. This one, on the fabric's side of each link, lets everything pass. */
#include <linux/bpf.h>

__attribute__((section("xdp"), used)) int pass(struct xdp_md *context)
{
	(void)context;
	return XDP_PASS;
}

char _license[] __attribute__((section("license"), used)) = "GPL";
