/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "bpf/maps.h"
#pragma clang diagnostic ignored "-Wunused-parameter"
SEC("tc") int tc_uplink(struct __sk_buff *ctx) { __u32 z=0; bpf_map_lookup_elem(&flows4,&z); return config.ipv6 ? 0 : 2; }
SEC("tc") int tc_pod(struct __sk_buff *ctx) { return 0; }
char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
