/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a C compiler for the machine at hand needs in place of libbpf's bpf_helpers.h and of
 * the kernel, so that the packet path is a plain library: unit tests and fuzzers run it under
 * sanitizers. The helpers are implemented by whoever links it (tests/support), with the
 * kernel's results and error numbers.
 */
#ifndef MAGLANE_NATIVE_H
#define MAGLANE_NATIVE_H

#ifdef __bpf__
#error "native.h is for native builds; BPF programs get their helpers from libbpf"
#endif

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <stddef.h>
#include "bpf/abi.h"

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif
#define SEC(name)

#define barrier() asm volatile("" ::: "memory")
#define barrier_var(var) asm volatile("" : "+r"(var))

struct native_map;

extern struct native_map frontends;
extern struct native_map frontend_values;
extern struct native_map services;
extern struct native_map backends;
extern struct native_map maglev;
extern struct native_map vip_bits;
extern struct native_map flow_bits;
extern struct native_map flows4;
extern struct native_map flows6;
/* Each of at most one native_map, under key 0. */
extern struct native_map retired_flows4;
extern struct native_map retired_flows6;
extern struct native_map fragments;
extern struct native_map node_state;
extern struct native_map devices;
extern struct native_map source_ranges;
extern struct native_map affinity;
extern struct native_map gone_endpoints;
extern struct native_map masquerade_ranges;
extern struct native_map egress_addresses;
extern struct native_map port_shortages;
extern struct native_map service_counters;
extern struct native_map counters;
extern struct native_map scratches;

extern const volatile struct node_config config;

void *native_map_lookup_elem(void *map, const void *key);
long native_map_update_elem(void *map, const void *key, const void *value, __u64 flags);
long native_loop(__u32 iterations, void *callback, void *context, __u64 flags);
/* Whether a socket of the node gets packets of this tuple (union any_tuple). */
int native_node_socket_has(const void *tuple, int family);
__u64 native_jiffies64(void);
/* Natively nothing is ever out of time. */
static inline __u64 native_ktime_get_ns(void)
{
	return 0;
}
long native_fib_lookup(void *ctx, struct bpf_fib_lookup *params, int size, __u32 flags);

/* libbpf's library has functions of some of these names: other symbols, so that one program
 * may link both. */
#define bpf_map_lookup_elem(...) native_map_lookup_elem(__VA_ARGS__)
#define bpf_map_update_elem(...) native_map_update_elem(__VA_ARGS__)
#define bpf_loop(...) native_loop(__VA_ARGS__)
#define bpf_jiffies64() native_jiffies64()
#define bpf_get_smp_processor_id() 0U
#define bpf_ktime_get_ns() native_ktime_get_ns()
#define bpf_fib_lookup(...) native_fib_lookup(__VA_ARGS__)

#endif
