/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Removing flows that have been idle for too long, inside the kernel. The two directions of
 * a connection are judged together: the later packet and all that was seen count.
 */
#ifndef MAGLANE_EXPIRY_H
#define MAGLANE_EXPIRY_H

#include "bpf/flow.h"

struct expiry_walk {
	__u32 slot;
	__u32 examined;
	__u32 removed;
	int family;
};

static __always_inline __u32 idle_limit(__u8 protocol, __u8 seen, __u8 twin_seen, int twin_is_reply)
{
	__u8 forward = twin_is_reply ? seen : twin_seen;
	__u8 reply = twin_is_reply ? twin_seen : seen;

	if (protocol != IPPROTO_TCP)
		return reply ? config.timeouts.udp_replied : config.timeouts.udp;
	if (seen_closed(seen, twin_seen))
		return config.timeouts.tcp_closed;
	if ((seen | twin_seen) & SEEN_FIN)
		return config.timeouts.tcp_fin;
	if (reply && (forward & SEEN_ACK))
		return config.timeouts.tcp_established;
	return config.timeouts.tcp_syn;
}

static __always_inline __u32 idle_slots(__u32 now, __u32 stamp)
{
	return (now - (stamp & STAMP_SLOT_MASK)) & STAMP_SLOT_MASK;
}

static __always_inline void expire_flow(void *tuple, void *flow, struct expiry_walk *walk,
					int family)
{
	struct flow_body *body = flow_body(flow, family);
	__u8 seen = body->seen;
	__u8 twin_seen = 0;
	__u32 idle = idle_slots(walk->slot, body->stamp);
	union {
		struct tuple4 t4;
		struct tuple6 t6;
	} key;
	void *twin;

	walk->examined++;
	/* A packet that came while this runs may carry the next slot already. */
	if (idle > STAMP_SLOT_MASK / 2)
		return;
	/* No limit is shorter, and most flows of a busy node are spared the twin's look-up. */
	if (!idle)
		return;
	flow_twin_key(&key, tuple, flow, family);
	twin = flow_find(&key, family);
	if (twin) {
		__u32 twin_idle = idle_slots(walk->slot, flow_body(twin, family)->stamp);

		if (twin_idle > STAMP_SLOT_MASK / 2)
			return;
		if (twin_idle < idle)
			idle = twin_idle;
		twin_seen = flow_body(twin, family)->seen;
	}
	if (idle < idle_limit(*tuple_protocol(tuple, family), seen, twin_seen,
			      !(body->flags & FLOW_REPLY)))
		return;
	if (twin) {
		flow_delete(&key, family);
		walk->removed++;
	}
	flow_delete(tuple, family);
	walk->removed++;
}

static long expire_flow4(void *map, void *tuple, void *flow, struct expiry_walk *walk)
{
	expire_flow(tuple, flow, walk, FAMILY_IPV4);
	return 0;
}

static long expire_flow6(void *map, void *tuple, void *flow, struct expiry_walk *walk)
{
	expire_flow(tuple, flow, walk, FAMILY_IPV6);
	return 0;
}

static __always_inline struct expiry_result *expiry_note_clock(void)
{
	__u32 zero = 0;
	struct expiry_result *result = bpf_map_lookup_elem(&expiry_result, &zero);

	if (result) {
		result->jiffies = bpf_jiffies64();
		result->slot_shift = config.slot_shift;
		result->hz = config.hz;
	}
	return result;
}

static __always_inline void expiry_run(void)
{
	struct expiry_walk walk = {.slot = clock_slot()};
	struct expiry_result *result;

	bpf_for_each_map_elem(&flows4, expire_flow4, &walk, 0);
	bpf_for_each_map_elem(&flows6, expire_flow6, &walk, 0);
	result = expiry_note_clock();
	if (result) {
		result->examined = walk.examined;
		result->removed = walk.removed;
	}
}

#endif
