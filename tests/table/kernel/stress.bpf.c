/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Random operations on the flow tables, to be run on all CPUs at once (stress_test.cpp). Every
 * word of a flow says whose it is: those that are fixed when it is made hold its key's number
 * and a generation, those of the next hop the key's number and a generation of their own.
 */
#include "bpf/maps.h"
#include "bpf/ctx_tc.h"
#include "bpf/expiry.h"
#include "tests/table/kernel/stress.h"

MAGLANE_MAP(tokens, BPF_MAP_TYPE_ARRAY, __u32, __u32, STRESS_TOKENS, BPF_F_MMAPABLE);

/* Room for one CPU, since a loop's callback sees nothing but what it is given. */
struct stress_room {
	struct stress_call call;
	struct flow flow;
	union any_flow made;
	__u32 turns; /* goes on from call to call, so that generations differ */
};
MAGLANE_MAP(rooms, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct stress_room, 1, 0);

enum { IDLE_FOR_EVER = 100000, HOLD_ON_TRIES = 8 };

static __always_inline __u32 next_random(struct stress_call *call)
{
	call->random ^= call->random << 13;
	call->random ^= call->random >> 17;
	call->random ^= call->random << 5;
	return call->random;
}

static __always_inline void make_key(union any_tuple *key, __u32 number, int family)
{
	__builtin_memset(key, 0, sizeof(*key));
	*tuple_src(key, family) = number;
	*tuple_dst(key, family) = ~number;
	*tuple_src_port(key, family) = number / 4; /* several keys differ in other words alone */
	*tuple_protocol(key, family) = STRESS_PROTOCOL;
}

static __always_inline __u32 flow_words(int family)
{
	return (family == FAMILY_IPV4 ? sizeof(struct flow4) : sizeof(struct flow6)) / 8;
}

static __always_inline void set_hop(union any_flow *flow, __u32 number, __u32 generation,
				    __u32 stamp, int family)
{
	const __u32 hop = FLOW_HOP_WORD(family);

	flow->words[hop] = (__u64)generation << 32 | stamp;
	flow->words[hop + 1] = (__u64)number << 32 | generation;
	flow->words[hop + 2] = generation; /* above it flags, 0, and MTU */
}

static __always_inline void make_flow(union any_flow *flow, __u32 number, __u32 generation,
				      __u32 stamp, int family)
{
	for (__u32 i = 0; i < flow_words(family); i++)
		flow->words[i] = (__u64)number << 32 | generation;
	set_hop(flow, number, generation, stamp, family);
}

static __always_inline int is_whole(const union any_flow *flow, __u32 number, int family)
{
	const __u32 hop = FLOW_HOP_WORD(family);
	const __u32 generation = flow->words[hop + 1];
	__u64 difference = 0;

	for (__u32 i = 0; i < flow_words(family); i++)
		if (i < hop || i > hop + 2)
			difference |= flow->words[i] ^ flow->words[0];
	difference |= (flow->words[0] >> 32) ^ number;
	difference |= (flow->words[hop] >> 32) ^ generation;
	difference |= (flow->words[hop + 1] >> 32) ^ number;
	difference |= (__u32)flow->words[hop + 2] ^ generation;
	return !difference;
}

static __always_inline __u32 *token_of(__u32 number)
{
	return bpf_map_lookup_elem(&tokens, &number);
}

/* With the token taken nobody removes the key, and nobody can insert it. 0: not to be had. */
static __always_inline __u32 take(__u32 number)
{
	__u32 *token = token_of(number);
	__u32 generation;

	if (!token)
		return 0;
	generation = *(volatile __u32 *)token;
	if (generation && __sync_val_compare_and_swap(token, generation, 0) != generation)
		return 0;
	return generation;
}

static __always_inline void give_back(__u32 number, __u32 generation)
{
	__u32 *token = token_of(number);

	if (token)
		__sync_lock_test_and_set(token, generation);
}

/* The verifier of Linux 6.1 must see the very register checked that is the index. */
static __always_inline void note_result(__u64 *counts, __u64 result)
{
	asm volatile("" : "+r"(result));
	if (result < STRESS_RESULTS)
		counts[result]++;
}

static __always_inline int is_owned(const struct stress_call *call, __u32 number)
{
	return number < call->owned;
}

static __always_inline void do_insert(struct stress_room *room, const union any_tuple *key,
				      __u32 number, __u32 generation, int family)
{
	struct stress_call *call = &room->call;
	int owned = is_owned(call, number);
	__u32 stamp = clock_slot() - (!owned && generation % 2 ? IDLE_FOR_EVER : 0);
	__u8 seen = owned ? SEEN_ACK | SEEN_ACK << SEEN_TWIN_SHIFT : SEEN_ACK;
	__u32 result;
	__u32 *token;

	make_flow(&room->made, number, generation, stamp & STAMP_SLOT_MASK, family);
	result = flow_insert(key, &room->made, seen, family);
	note_result(call->inserts, result);
	token = token_of(number);
	if (result == TABLE_DONE && owned && token &&
	    __sync_val_compare_and_swap(token, 0, generation) != 0)
		call->faults[STRESS_DOUBLED]++;
}

static __always_inline __u32 do_find(struct stress_room *room, const union any_tuple *key,
				     __u32 number, int family)
{
	struct stress_call *call = &room->call;
	struct flow *flow = &room->flow;
	__u32 result = flow_find(key, flow, family);

	note_result(call->finds, result);
	if (result != TABLE_DONE)
		return result;
	if (!is_whole(&flow->answer, number, family))
		call->faults[STRESS_MIXED]++;
	/* Only even keys ever get this bit. */
	if (number % 2 && meta_seen(flow->meta) & SEEN_SYN)
		call->faults[STRESS_OTHERS_BIT]++;
	return result;
}

static __always_inline void do_remove(struct stress_room *room, const union any_tuple *key,
				      __u32 number, __u32 generation, int family)
{
	__u32 result = TABLE_BUSY;

	for (int tries = 0; tries < HOLD_ON_TRIES && result == TABLE_BUSY; tries++)
		result = flow_remove(key, family);
	note_result(room->call.removes, result);
	if (!generation || result == TABLE_DONE)
		return;
	if (result != TABLE_BUSY)
		room->call.faults[STRESS_LOST]++;
	give_back(number, generation);
}

/* Only what was found: or, if it has been changed since, nothing. */
static __always_inline void do_remove_found(struct stress_room *room, const union any_tuple *key,
					    __u32 number, __u32 generation, int family)
{
	__u32 result = do_find(room, key, number, family);

	if (result == TABLE_ABSENT && generation)
		room->call.faults[STRESS_LOST]++;
	if (result == TABLE_DONE)
		result = flow_remove_found(key, room->flow.location, room->flow.meta, family);
	note_result(room->call.removes, result);
	if (!generation || result == TABLE_DONE)
		return;
	if (result == TABLE_ABSENT && do_find(room, key, number, family) == TABLE_ABSENT)
		room->call.faults[STRESS_NOT_REMOVED]++;
	give_back(number, generation);
}

static __always_inline void do_change(struct stress_room *room, const union any_tuple *key,
				      __u32 number, __u32 generation, int family)
{
	if (do_find(room, key, number, family) != TABLE_DONE)
		return;
	set_hop(&room->flow.answer, number, generation,
		(__u32)room->flow.answer.words[FLOW_HOP_WORD(family)], family);
	flow_store_hop(key, &room->flow, family);
	room->call.changes++;
}

static __always_inline void do_expire(struct stress_call *call, __u32 random, int family)
{
	__u32 index = random % (call->buckets ? call->buckets : 1);
	void *bucket = table_bucket(FLOW_MAP(family), &index);
	__u32 slot = (random >> 16) % TABLE_SLOTS;
	int was;

	if (!bucket)
		return;
	was = family == FAMILY_IPV4 ? expire_slot4(bucket, slot, clock_slot()) :
				      expire_slot6(bucket, slot, clock_slot());
	call->expired += (was & SLOT_EXPIRED) / SLOT_EXPIRED;
}

static __always_inline void with_token(struct stress_room *room, const union any_tuple *key,
				       __u32 number, __u32 verb, int family)
{
	int owned = is_owned(&room->call, number);
	__u32 generation = owned ? take(number) : 0;

	if (owned && !generation)
		return;
	if (verb == 0) {
		do_remove(room, key, number, generation, family);
	} else if (verb == 1) {
		do_remove_found(room, key, number, generation, family);
	} else {
		if (do_find(room, key, number, family) == TABLE_ABSENT && owned)
			room->call.faults[STRESS_LOST]++;
		if (owned)
			give_back(number, generation);
	}
}

static __always_inline long step(int family)
{
	__u32 zero = 0;
	struct stress_room *room = bpf_map_lookup_elem(&rooms, &zero);
	union any_tuple key;
	__u32 random, number, generation, keys, verb;

	if (!room)
		return 1;
	random = next_random(&room->call);
	keys = room->call.owned + room->call.loose;
	number = keys ? (random >> 8) % keys : 0;
	room->turns++;
	generation = bpf_get_smp_processor_id() << 28 | (room->turns & 0xfffffff);
	make_key(&key, number, family);
	verb = random & 15;
	if (verb < 6)
		do_insert(room, &key, number, generation, family);
	else if (verb < 8)
		do_find(room, &key, number, family);
	else if (verb < 10)
		do_change(room, &key, number, generation, family);
	else if (verb < 11)
		flow_add_seen(&key, number % 2 ? SEEN_ACK : SEEN_SYN, NULL, family);
	else if (verb < 12)
		do_expire(&room->call, next_random(&room->call), family);
	else
		with_token(room, &key, number, (verb - 12) & 3, family);
	return 0;
}

static long step4(__u32 n, void *unused)
{
	return step(FAMILY_IPV4);
}

static long step6(__u32 n, void *unused)
{
	return step(FAMILY_IPV6);
}

static __always_inline int stress(struct __sk_buff *ctx, int family)
{
	struct stress_call *at = ctx_at(ctx, 0, sizeof(*at));
	__u32 zero = 0;
	struct stress_room *room = bpf_map_lookup_elem(&rooms, &zero);

	if (!at || !room)
		return CTX_DROP;
	room->call = *at;
	if (family == FAMILY_IPV4)
		bpf_loop(room->call.operations, step4, NULL, 0);
	else
		bpf_loop(room->call.operations, step6, NULL, 0);
	at = ctx_at(ctx, 0, sizeof(*at));
	if (at)
		*at = room->call;
	return 0;
}

SEC("tc")
int stress4(struct __sk_buff *ctx)
{
	return stress(ctx, FAMILY_IPV4);
}

SEC("tc")
int stress6(struct __sk_buff *ctx)
{
	return stress(ctx, FAMILY_IPV6);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
