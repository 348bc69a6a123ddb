/* SPDX-License-Identifier: MIT
 *
 * sync/spin.h: how long to look again before sleeping.
 *
 * Waking across cores costs about 20 us, and the waker pays a part of it; looking costs what it lasts.  So look for as long as
 * looking has lately been paying: the length doubles when what was waited for came while looking, or so soon after that the
 * sleep was for nothing, and halves when it did not.  On one CPU nothing can come while we look, and the length stays 0.
 *
 * The state is process-private; threads may race on it, which only makes it less exact.
 */
#ifndef BROOD_SYNC_SPIN_H
#define BROOD_SYNC_SPIN_H

#include "os/atomic.h"

enum {
        SPIN_MOST = 1000,           /* pauses: about what a wake-up takes */
        SPIN_SHORT_SLEEP_NS = 40000 /* a sleep so short was not worth it */
};

struct spin {
        uint32_t most;
        atomic_u32 length; /* in pauses */
};

void spin_init(struct spin *spin);

static inline void spin_adapt(struct spin *spin, bool paid)
{
        uint32_t length = load_relaxed(&spin->length);

        length = paid ? length * 2 + 16 : length / 2;
        store_relaxed(&spin->length, length < spin->most ? length : spin->most);
}

#endif
