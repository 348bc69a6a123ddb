/* SPDX-License-Identifier: MIT
 *
 * robust_ring.h: the other way to build a queue that survives a kill, as the mark to measure brood's way against.
 *
 * A bounded ring guarded by two robust mutexes of glibc, one for the put side and one for the get side.  A put copies the message
 * behind the last one and then publishes it with one store; a get copies the first one out and then gives up its place with one
 * store.  So the ring is in order at every instruction, and who gets a mutex of a dead owner has nothing to repair: a message that
 * was half written is not there, and one that was half read still is.
 *
 * Nobody sleeps while the ring is full or empty, and nobody holds a mutex meanwhile; who waits for a mutex sleeps in it.
 */
#ifndef BENCH_ROBUST_RING_H
#define BENCH_ROBUST_RING_H

#include "bench.h"

#include <pthread.h>

#define ROBUST_RING_SLOTS 1024u /* a power of two */
#define ROBUST_RING_MESSAGE 64u

/* The positions count up without end; the ring holds those from `first` up to, and without, `last`. */
struct robust_ring {
        alignas(BENCH_CACHE_PAIR) pthread_mutex_t put_mutex;
        alignas(BENCH_CACHE_PAIR) pthread_mutex_t get_mutex;
        alignas(BENCH_CACHE_PAIR) _Atomic uint64_t last;  /* written under put_mutex */
        alignas(BENCH_CACHE_PAIR) _Atomic uint64_t first; /* written under get_mutex */
        alignas(BENCH_CACHE_PAIR) unsigned char message[ROBUST_RING_SLOTS][ROBUST_RING_MESSAGE];
};

static inline struct robust_ring *robust_ring_new(void)
{
        struct robust_ring *ring = (struct robust_ring *)bench_shared(sizeof *ring);
        pthread_mutexattr_t attributes;

        if (pthread_mutexattr_init(&attributes) != 0 ||
            pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) != 0 ||
            pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) != 0 ||
            pthread_mutex_init(&ring->put_mutex, &attributes) != 0 ||
            pthread_mutex_init(&ring->get_mutex, &attributes) != 0)
                bench_die("there are no robust mutexes between processes");
        pthread_mutexattr_destroy(&attributes);
        return ring;
}

static inline void robust_ring_lock(pthread_mutex_t *mutex)
{
        int r = pthread_mutex_lock(mutex);

        if (__builtin_expect(r == EOWNERDEAD, 0))
                r = pthread_mutex_consistent(mutex);
        if (__builtin_expect(r != 0, 0))
                bench_die("pthread_mutex_lock: %s", strerror(r));
}

static inline void robust_ring_put(struct robust_ring *ring, const void *message)
{
        unsigned tries = 0;

        for (;;) {
                robust_ring_lock(&ring->put_mutex);

                uint64_t last = atomic_load_explicit(&ring->last, memory_order_relaxed);

                /* Pairs with the release store in get: the place has been read before it is written again. */
                if (last - atomic_load_explicit(&ring->first, memory_order_acquire) < ROBUST_RING_SLOTS) {
                        memcpy(ring->message[last & (ROBUST_RING_SLOTS - 1)], message, ROBUST_RING_MESSAGE);
                        atomic_store_explicit(&ring->last, last + 1, memory_order_release);
                        pthread_mutex_unlock(&ring->put_mutex);
                        return;
                }
                pthread_mutex_unlock(&ring->put_mutex);
                while (atomic_load_explicit(&ring->last, memory_order_relaxed) -
                           atomic_load_explicit(&ring->first, memory_order_relaxed) >=
                       ROBUST_RING_SLOTS)
                        bench_relax(&tries);
        }
}

static inline void robust_ring_get(struct robust_ring *ring, void *message)
{
        unsigned tries = 0;

        for (;;) {
                robust_ring_lock(&ring->get_mutex);

                uint64_t first = atomic_load_explicit(&ring->first, memory_order_relaxed);

                /* Pairs with the release store in put: the message is there as a whole. */
                if (atomic_load_explicit(&ring->last, memory_order_acquire) != first) {
                        memcpy(message, ring->message[first & (ROBUST_RING_SLOTS - 1)], ROBUST_RING_MESSAGE);
                        atomic_store_explicit(&ring->first, first + 1, memory_order_release);
                        pthread_mutex_unlock(&ring->get_mutex);
                        return;
                }
                pthread_mutex_unlock(&ring->get_mutex);
                while (atomic_load_explicit(&ring->last, memory_order_relaxed) ==
                       atomic_load_explicit(&ring->first, memory_order_relaxed))
                        bench_relax(&tries);
        }
}

#endif
