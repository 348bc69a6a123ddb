/* SPDX-License-Identifier: MIT
 *
 * sync/spin.h: how long to look again before sleeping.
 *
 * Waking across cores costs about 20 us, and the waker pays a part of it; looking costs what it lasts.  So look for as long as
 * looking has lately been paying: the length doubles when what was waited for came while looking, or so soon after that the
 * sleep was for nothing, and halves when it did not.  Every SPIN_YIELD looks the CPU is offered to others: who is waited for may be
 * waiting for this very CPU.  On one CPU nothing can come while we look, and looking is offering only.
 *
 * In a stream, whoever is faster would run into the other for each message, and both would fight for its cache line.  Who has just
 * come from a row of messages therefore rests before it looks again, and finds several.  Who waits for an answer has come from one
 * message, and looks at once.
 *
 * The state is process-private; threads may race on it, which only makes it less exact.
 */
#ifndef BROOD_SYNC_SPIN_H
#define BROOD_SYNC_SPIN_H

#include "os/atomic.h"

enum {
        SPIN_MOST = 2000,           /* pauses: about what a wake-up takes */
        SPIN_LEAST = 130,           /* two offers */
        SPIN_YIELD = 64,            /* pauses between two offers */
        SPIN_ROW = 8,               /* messages that make a stream */
        SPIN_REST = 40,             /* pauses */
        SPIN_SHORT_SLEEP_NS = 40000 /* a sleep so short was not worth it */
};

struct spin {
        uint32_t pauses; /* between two looks: 1, or 0 on one CPU */
        atomic_u32 length;
        atomic_u64 last; /* the position at which this process last had to wait */
};

void spin_init(struct spin *spin);

static inline void spin_adapt(struct spin *spin, bool paid)
{
        uint32_t length = load_relaxed(&spin->length);

        length = paid ? length * 2 : length / 2;
        store_relaxed(&spin->length, length > SPIN_MOST ? SPIN_MOST : length < SPIN_LEAST ? SPIN_LEAST : length);
}

/* Whether the pause behind a look, of which `i` counts them, offers the CPU. */
static inline bool spin_offers(uint32_t i)
{
        return i % SPIN_YIELD == SPIN_YIELD - 1;
}

/* Between two looks. */
void spin_pause(const struct spin *spin, uint32_t i);

/* Before the first look of a wait at a position. */
void spin_rest(struct spin *spin, uint64_t position);

#endif
