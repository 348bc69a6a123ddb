/* SPDX-License-Identifier: MIT
 *
 * brood/atomic.h: counting and flagging in shared memory, without a lock.
 *
 *     struct totals { uint64_t files, bytes; uint32_t ready; double seconds; };
 *     struct totals *t = brood_shared_data(s);               // or any other memory that the processes share
 *
 *     brood_atomic_fetch_add(&t->files, 1);                  // in each worker
 *     brood_atomic_fetch_add_double(&t->seconds, took);
 *
 *     brood_atomic_store(&t->ready, 1);                      // go
 *     brood_atomic_wake(&t->ready, BROOD_WAKE_ALL);
 *     r = brood_atomic_wait(&t->ready, 0, 8000);             // sleep while it is 0; -ETIMEDOUT after 8 s
 *
 * The words are plain integers of C or C++ (of any width up to 64 bits, with a sign or without), aligned to their size.  The
 * macros take all of them, and evaluate each argument once.  While others are at work on a word, everybody must use these, or
 * the atomics of C or C++.
 *
 *     multiprocessing                             here
 *     with v.get_lock(): v.value += 1             brood_atomic_fetch_add(brood_value_of(v, int), 1)
 *
 * Ordering.  All but the two _relaxed ones are sequentially consistent: there is one order in which every process sees them
 * happen, and who has seen a value sees what its writer wrote before it.
 *
 * Death.  Each of these happens as a whole or not at all, and leaves no lock behind: none has a hidden one, on a machine that
 * would need it this header does not compile.  Whoever is killed between two of them has done the first and not the second.
 */
#ifndef BROOD_ATOMIC_H
#define BROOD_ATOMIC_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

#if __GCC_ATOMIC_INT_LOCK_FREE != 2 || __GCC_ATOMIC_LLONG_LOCK_FREE != 2
#error "between processes, an atomic must not hide a lock, and on this machine those of 64 bits do"
#endif

/* The value of a word. */
#define brood_atomic_load(word) __atomic_load_n((word), __ATOMIC_SEQ_CST)

/* Give it another. */
#define brood_atomic_store(word, value) __atomic_store_n((word), (value), __ATOMIC_SEQ_CST)

/* The same; returns the one before. */
#define brood_atomic_exchange(word, value) __atomic_exchange_n((word), (value), __ATOMIC_SEQ_CST)

/* If the value is *expected, make it `desired`, and return true.  If it is not, write to *expected what it is, and return
 * false. */
#define brood_atomic_compare_exchange(word, expected, desired)                                                         \
        __atomic_compare_exchange_n((word), (expected), (desired), 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

/* Change the value, and return the one before.  Sums wrap around, those with a sign too. */
#define brood_atomic_fetch_add(word, value) __atomic_fetch_add((word), (value), __ATOMIC_SEQ_CST)
#define brood_atomic_fetch_sub(word, value) __atomic_fetch_sub((word), (value), __ATOMIC_SEQ_CST)
#define brood_atomic_fetch_and(word, value) __atomic_fetch_and((word), (value), __ATOMIC_SEQ_CST)
#define brood_atomic_fetch_or(word, value) __atomic_fetch_or((word), (value), __ATOMIC_SEQ_CST)
#define brood_atomic_fetch_xor(word, value) __atomic_fetch_xor((word), (value), __ATOMIC_SEQ_CST)

/* For counters that are only counted and looked at: they say nothing about what was written before or after.  Cheaper on some
 * machines (not for adding on x86). */
#define brood_atomic_load_relaxed(word) __atomic_load_n((word), __ATOMIC_RELAXED)
#define brood_atomic_fetch_add_relaxed(word, value) __atomic_fetch_add((word), (value), __ATOMIC_RELAXED)

/* The value of a double. */
static inline double brood_atomic_load_double(const double *word)
{
        double value;

        __atomic_load(word, &value, __ATOMIC_SEQ_CST);
        return value;
}

/* Add to a double, and return the value before.  In which order several processes add is anybody's guess, and with it the
 * rounding of the sum. */
static inline double brood_atomic_fetch_add_double(double *word, double value)
{
        double before, after;

        __atomic_load(word, &before, __ATOMIC_RELAXED);
        do
                after = before + value;
        while (!__atomic_compare_exchange(word, &before, &after, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
        return before;
}

/* ---- waiting ---- */

#define BROOD_WAKE_ALL 0x7fffffff

/* Sleep while *word is `expected`.
 * Returns 0 (it is not any more; a value that comes and goes while this sleeps may not be noticed); -EAGAIN, -ETIMEDOUT (it is);
 *   -EINVAL (NULL, or not aligned).
 * Threads: any.  Processes: any that share the word.  Signals: goes on after EINTR.
 * Death: whoever is killed between the store and the wake has woken nobody: where processes may be killed, wait with a time limit
 * and look again. */
BROOD_API int brood_atomic_wait(const uint32_t *word, uint32_t expected, int timeout_ms);

/* Wake up to `count` of those who sleep on the word, after having changed it.  A system call, whether anybody sleeps or not.
 * Returns how many were woken; -EINVAL (NULL, not aligned, or count below 1).
 * Threads: any.
 * Death: a process that is killed after it was woken has used up its wake.  Where that would leave others asleep beside
 * something to do, use BROOD_WAKE_ALL. */
BROOD_API int brood_atomic_wake(const uint32_t *word, int count);

#ifdef __cplusplus
}
#endif

#endif
