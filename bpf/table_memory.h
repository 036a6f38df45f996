/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The memory accesses that table.h needs, for BPF and natively. Natively they are C11
 * atomics, so that ThreadSanitizer knows them; table.h says what each ordering is for.
 */
#ifndef MAGLANE_TABLE_MEMORY_H
#define MAGLANE_TABLE_MEMORY_H

#include "bpf/maps.h"

#ifdef __bpf__

#define table_load32(p)	    (*(const volatile __u32 *)(p))
#define table_load64(p)	    (*(const volatile __u64 *)(p))
#define table_store8(p, v)  (*(volatile __u8 *)(p) = (v))
#define table_store64(p, v) (*(volatile __u64 *)(p) = (v))

/* Keeps an atomic's result alive: without it the compiler takes the form that orders
 * nothing. */
static __always_inline __u64 table_fetched(__u64 value)
{
	asm volatile("" : "+r"(value) : : "memory");
	return value;
}

/* Fully ordered, all of them: they return what was there. */
#define table_swap32(p, from, to)  __sync_val_compare_and_swap((p), (from), (to))
#define table_add32(p, v)	   ((void)table_fetched(__sync_fetch_and_add((p), (v))))
#define table_swap_release64(p, v) ((void)table_fetched(__sync_lock_test_and_set((p), (v))))

#if defined(__TARGET_ARCH_x86)
/* Loads follow loads and stores follow stores. */
#define table_release32(p, v)                                                                      \
	do {                                                                                       \
		barrier();                                                                         \
		*(volatile __u32 *)(p) = (v);                                                      \
	} while (0)
#define table_release64(p, v)                                                                      \
	do {                                                                                       \
		barrier();                                                                         \
		*(volatile __u64 *)(p) = (v);                                                      \
	} while (0)
#define table_after(pointer, value)                                                                \
	do {                                                                                       \
		(void)(value);                                                                     \
		barrier();                                                                         \
	} while (0)
#elif defined(__TARGET_ARCH_arm64)
#define table_release32(p, v) ((void)table_fetched(__sync_lock_test_and_set((p), (v))))
#define table_release64(p, v) ((void)table_fetched(__sync_lock_test_and_set((p), (v))))
#define table_after(pointer, value)                                                                \
	do {                                                                                       \
		__u64 nothing = (value);                                                           \
		asm volatile("%0 &= 0" : "+r"(nothing));                                           \
		(pointer) = (void *)(pointer) + nothing;                                           \
	} while (0)
#else
#error "maglane's tables have been reasoned through for x86-64 and arm64 only"
#endif

#else /* native */

#define table_load32(p)	    __atomic_load_n((p), __ATOMIC_RELAXED)
#define table_load64(p)	    __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define table_store8(p, v)  __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define table_store64(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define table_swap32(p, from, to)                                                                  \
	({                                                                                         \
		__u32 expected_ = (from);                                                          \
		__atomic_compare_exchange_n((p), &expected_, (to), 0, __ATOMIC_SEQ_CST,            \
					    __ATOMIC_SEQ_CST);                                     \
		expected_;                                                                         \
	})
#define table_add32(p, v)	    ((void)__atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST))
#define table_swap_release64(p, v)  ((void)__atomic_exchange_n((p), (v), __ATOMIC_SEQ_CST))
#define table_release32(p, v)	    __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define table_release64(p, v)	    __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define table_after(pointer, value) ((void)(pointer), (void)(value))

#endif
#endif
