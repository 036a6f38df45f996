/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps, and the constants that the agent sets before loading. Sizes marked "agent" are
 * options, set before loading. Natively the same names are plain objects (native.h).
 *
 * Weak: every compilation unit of the object defines the same maps, the linker keeps one.
 */
#ifndef MAGLANE_MAPS_H
#define MAGLANE_MAPS_H

#include "bpf/abi.h"

#ifdef __bpf__
#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#ifndef barrier
#define barrier() asm volatile("" ::: "memory")
#endif

#define MAGLANE_MAP(name, map_type, map_key, map_value, entries, flags_)                            \
	struct {                                                                                   \
		__uint(type, map_type);                                                            \
		__type(key, map_key);                                                              \
		__type(value, map_value);                                                          \
		__uint(max_entries, entries);                                                      \
		__uint(map_flags, flags_);                                                         \
	} name __weak SEC(".maps")

MAGLANE_MAP(frontends, BPF_MAP_TYPE_ARRAY, __u32, struct frontend_bucket, 2048 /* agent */,
	    BPF_F_MMAPABLE);
MAGLANE_MAP(frontend_values, BPF_MAP_TYPE_ARRAY, __u32, struct frontend, 65536 /* agent */,
	    BPF_F_MMAPABLE);
MAGLANE_MAP(services, BPF_MAP_TYPE_HASH, __u32, struct service_info, SERVICE_IDS,
	    BPF_F_NO_PREALLOC);
MAGLANE_MAP(backends, BPF_MAP_TYPE_ARRAY, __u32, struct backend, 262144 /* agent */,
	    BPF_F_MMAPABLE);
MAGLANE_MAP(maglev, BPF_MAP_TYPE_ARRAY, __u32, struct maglev_line, 1048576 /* agent */,
	    BPF_F_MMAPABLE);
MAGLANE_MAP(vip_bits, BPF_MAP_TYPE_ARRAY, __u32, struct vip_bits, 1, BPF_F_MMAPABLE);
MAGLANE_MAP(flow_bits, BPF_MAP_TYPE_ARRAY, __u32, struct flow_bits, 1, BPF_F_MMAPABLE);
MAGLANE_MAP(flows4, BPF_MAP_TYPE_ARRAY, __u32, struct flow_bucket4, 16384 /* agent */,
	    BPF_F_MMAPABLE);
MAGLANE_MAP(flows6, BPF_MAP_TYPE_ARRAY, __u32, struct flow_bucket6, 16384 /* agent */,
	    BPF_F_MMAPABLE);
/* The tables that hooks still use which run programs of before, where their size was another: see
 * flow.h. One entry, empty once no hook does; the agent makes the inner map of the template's size. */
#define MAGLANE_RETIRED(name, bucket)                                                              \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                          \
		__type(key, __u32);                                                                \
		__type(value, __u32);                                                              \
		__uint(max_entries, 1);                                                            \
		__array(values, struct {                                                           \
			__uint(type, BPF_MAP_TYPE_ARRAY);                                          \
			__type(key, __u32);                                                        \
			__type(value, bucket);                                                     \
			__uint(max_entries, 1);                                                    \
			__uint(map_flags, BPF_F_MMAPABLE);                                         \
		});                                                                                \
	} name __weak SEC(".maps")

MAGLANE_RETIRED(retired_flows4, struct flow_bucket4);
MAGLANE_RETIRED(retired_flows6, struct flow_bucket6);
MAGLANE_MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment, 8192, 0);
MAGLANE_MAP(node_state, BPF_MAP_TYPE_ARRAY, __u32, struct node_state, 1, BPF_F_MMAPABLE);
MAGLANE_MAP(devices, BPF_MAP_TYPE_HASH, __u32, struct device, 4096, BPF_F_NO_PREALLOC);
MAGLANE_MAP(source_ranges, BPF_MAP_TYPE_LPM_TRIE, struct source_range_key, __u32, 65536,
	    BPF_F_NO_PREALLOC);
MAGLANE_MAP(affinity, BPF_MAP_TYPE_LRU_HASH, struct affinity_key, struct affinity,
	    65536 /* agent */, 0);
MAGLANE_MAP(gone_endpoints, BPF_MAP_TYPE_HASH, struct service_endpoint, __u32, 65536,
	    BPF_F_NO_PREALLOC);
MAGLANE_MAP(masquerade_ranges, BPF_MAP_TYPE_LPM_TRIE, struct masquerade_range_key, __u32, 65536,
	    BPF_F_NO_PREALLOC);
MAGLANE_MAP(egress_addresses, BPF_MAP_TYPE_HASH, __u32, struct egress_address, 256,
	    BPF_F_NO_PREALLOC);
MAGLANE_MAP(port_shortages, BPF_MAP_TYPE_LRU_HASH, struct port_shortage_key, struct port_shortage,
	    1024, 0);
MAGLANE_MAP(service_counters, BPF_MAP_TYPE_ARRAY, __u32, struct service_counter,
	    SERVICE_IDS * SERVICE_COUNTER_PARTS, BPF_F_MMAPABLE);
MAGLANE_MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct counter, REASON_COUNT * HOOKS, 0);
MAGLANE_MAP(sockets, BPF_MAP_TYPE_LRU_HASH, struct socket_key, struct socket_peer, 131072, 0);
MAGLANE_MAP(pod_namespaces, BPF_MAP_TYPE_HASH, __u64, struct pod_namespace, 4096,
	    BPF_F_NO_PREALLOC);

const volatile struct node_config config __weak = {};
#else
#include "bpf/native.h"
#endif

#endif
