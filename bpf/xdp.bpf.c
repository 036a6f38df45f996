/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "bpf/maps.h"
#pragma clang diagnostic ignored "-Wunused-parameter"
SEC("xdp") int xdp_uplink(struct xdp_md *ctx) { __u32 z=0; bpf_map_lookup_elem(&flows4,&z); return config.ipv4 ? XDP_PASS : XDP_DROP; }
char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
