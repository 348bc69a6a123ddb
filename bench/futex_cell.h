/* SPDX-License-Identifier: MIT
 *
 * futex_cell.h: the least that wakes another process: a word to sleep on, and room for one message, which a round trip never
 * exceeds.
 */
#ifndef BENCH_FUTEX_CELL_H
#define BENCH_FUTEX_CELL_H

#include "bench.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#define FUTEX_CELL_ROOM 64u

struct futex_cell {
        alignas(BENCH_CACHE_PAIR) _Atomic uint32_t full;
        unsigned char message[FUTEX_CELL_ROOM];
};

static inline struct futex_cell *futex_cell_new(void)
{
        return bench_shared(sizeof(struct futex_cell));
}

static inline void futex_cell_put(struct futex_cell *cell, const void *message, size_t size)
{
        memcpy(cell->message, message, size);
        atomic_store_explicit(&cell->full, 1, memory_order_release);
        syscall(SYS_futex, &cell->full, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static inline void futex_cell_get(struct futex_cell *cell, void *message, size_t size)
{
        /* Pairs with the release store in put. */
        while (atomic_load_explicit(&cell->full, memory_order_acquire) == 0)
                syscall(SYS_futex, &cell->full, FUTEX_WAIT, 0, NULL, NULL, 0);
        memcpy(message, cell->message, size);
        /* The next message comes only after the answer to this one, and the answer orders this store before it. */
        atomic_store_explicit(&cell->full, 0, memory_order_relaxed);
}

#endif
