/* SPDX-License-Identifier: MIT */
#include "queue/bell.h"
#include "os/descriptors.h"
#include "os/fence.h"

/* From here on nobody rings.  One that rests may have lowered what was raised, and have looked while the bell was still armed:
 * then it is for us to see that. */
static void disarm(struct ring *ring, uint32_t armed)
{
        if (cas_u32(&ring->shared->bell, armed, armed & ~(uint32_t)BELL_ARMED) && !descriptor_readable(ring->bell_fd))
                eventfd_raise(ring->bell_fd);
}

void bell_ring(struct ring *ring)
{
        uint32_t word = load_seq_cst(&ring->shared->bell);

        if (!(word & BELL_ARMED))
                return;
        eventfd_raise(ring->bell_fd);
        disarm(ring, word);
}

void bell_rest(struct ring *ring)
{
        atomic_u32 *bell = &ring->shared->bell;
        uint32_t word = load_seq_cst(bell);
        uint32_t armed = (word + BELL_COUNT) | BELL_ARMED;

        if (load_seq_cst(&ring->shared->control) & CONTROL_CLOSED)
                return; /* the end is something to read, for ever */
        if ((word & BELL_ARMED) && !descriptor_readable(ring->bell_fd))
                return;
        if (!cas_u32(bell, word, armed))
                return;
        if (!fence_everybody())
                ring_fence_all(ring);
        if (ring_count(ring, 1) != 0 || load_seq_cst(&ring->shared->control) & CONTROL_CLOSED) {
                disarm(ring, armed);
                return;
        }
        eventfd_lower(ring->bell_fd);
        if (!(load_seq_cst(bell) & BELL_ARMED) && !descriptor_readable(ring->bell_fd))
                eventfd_raise(ring->bell_fd);
}
