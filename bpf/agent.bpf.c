/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#include "bpf/maps.h"
#pragma clang diagnostic ignored "-Wunused-parameter"
SEC("tc") int expire(struct __sk_buff *ctx) { return 0; }
SEC("tc") int clock(struct __sk_buff *ctx) { return 0; }
char LICENSE[] SEC("license") __weak = "Dual BSD/GPL";
