/* SPDX-License-Identifier: MIT
 *
 * os/atomic.h: the only door to atomic memory.  Every access to a word that another process may touch goes through one
 * of these, so that its ordering is named at the place of use, and so that a build may put a checker in between.
 *
 * Label orderings where they are used, in pairs: "R1: pairs with A1 in ...".
 */
#ifndef BROOD_OS_ATOMIC_H
#define BROOD_OS_ATOMIC_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef _Atomic(uint32_t) atomic_u32;
typedef _Atomic(uint64_t) atomic_u64;

static_assert(sizeof(atomic_u32) == 4 && sizeof(atomic_u64) == 8, "shared words have the size of plain ones");
static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2, "a hidden lock would not survive its holder");

#define load_relaxed(word) atomic_load_explicit((word), memory_order_relaxed)
#define load_acquire(word) atomic_load_explicit((word), memory_order_acquire)
#define load_seq_cst(word) atomic_load_explicit((word), memory_order_seq_cst)
#define store_relaxed(word, value) atomic_store_explicit((word), (value), memory_order_relaxed)
#define store_release(word, value) atomic_store_explicit((word), (value), memory_order_release)
#define store_seq_cst(word, value) atomic_store_explicit((word), (value), memory_order_seq_cst)
#define exchange_seq_cst(word, value) atomic_exchange_explicit((word), (value), memory_order_seq_cst)
#define fetch_add_seq_cst(word, value) atomic_fetch_add_explicit((word), (value), memory_order_seq_cst)
#define fetch_add_relaxed(word, value) atomic_fetch_add_explicit((word), (value), memory_order_relaxed)

/* Compare-and-swap: true if `word` held `expected` and now holds `desired`. */
static inline bool cas_u32(atomic_u32 *word, uint32_t expected, uint32_t desired)
{
        return atomic_compare_exchange_strong_explicit(word, &expected, desired, memory_order_seq_cst,
                                                       memory_order_relaxed);
}

static inline bool cas_u64(atomic_u64 *word, uint64_t expected, uint64_t desired)
{
        return atomic_compare_exchange_strong_explicit(word, &expected, desired, memory_order_seq_cst,
                                                       memory_order_relaxed);
}

static inline void set_bits_u32(atomic_u32 *word, uint32_t bits)
{
        if ((load_relaxed(word) & bits) != bits)
                atomic_fetch_or_explicit(word, bits, memory_order_seq_cst);
}

/* Keep the compiler from moving memory accesses across; the other half of a fence that another process executes (os/fence.h). */
static inline void fence_light(void)
{
        atomic_signal_fence(memory_order_seq_cst);
}

static inline void fence_full(void)
{
        atomic_thread_fence(memory_order_seq_cst);
}

/* Tell the core that this is a waiting loop. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ __volatile__("isb" ::: "memory");
#else
        __asm__ __volatile__("" ::: "memory");
#endif
}

#endif
