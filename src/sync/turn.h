/* SPDX-License-Identifier: MIT
 *
 * sync/turn.h: of several who do the same in turns, none is passed over for long.
 *
 * The kernel shares the CPUs fairly, and yet one putter may get a hundredth of the places that the others get, because it runs at
 * the wrong times. Three putters and a getter on one CPU, three getters and a putter on the other:
 *
 *     one putter and one of the three getters stream until both have used up their slices
 *     the CPUs go to whoever is next.  Two putters: the queue is full.  Both offer their CPUs, and go on offering until one CPU
 *       has a putter and the other a getter; which is three times as likely the way it was before
 *     the lone putter has had its CPU a dozen times, each time beside another putter, and has put next to nothing
 *
 * So everybody counts, for itself alone, what it has done.  Who waits for long although others go on writes a plea, one word for
 * all of them: how much it has done, and until when it asks the others to stand back.  Of two who ask, the one who has done less
 * is heard.  Whoever has done a good deal more (TURN_LEAD) stays asleep until then, should it have to wait anyway; so the CPUs go
 * to the one who asks and to those it waits for.
 *
 * All this is advice about who goes first, and decides nothing.  A word with any value in it, written by one who has died since, or
 * by one who means harm, delays a call by TURN_MOST at most; and what limits the loss in good faith is that
 *
 *   - nobody asks for longer than it has itself waited, or before it has waited for a while;
 *   - who was given a turn and has used little of it, because it is slow and does not need more, asks the more rarely;
 *   - what one has done is forgotten beyond TURN_DEBT: who comes late, or comes back, is owed that much and no more.
 *
 *   word   written by                  read by                   under
 *   plea   whoever waits, by a store   all who wait on its side  -; a hint
 */
#ifndef BROOD_SYNC_TURN_H
#define BROOD_SYNC_TURN_H

#include "os/atomic.h"

/* What is counted is up to the caller. */
enum {
        TURN_LOOK = 8,         /* looks between two looks at the plea */
        TURN_LEAD = 512,       /* who has done so much more stands back */
        TURN_DEBT = 32768,     /* the most that anybody is ahead or behind */
        TURN_USE = 4,          /* who does less than the fourth part of what the others did has not used its turn */
        TURN_MOST_US = 4000,   /* the longest turn: about a time slice */
        TURN_LEAST_US = 20,    /* wait for so long before asking... */
        TURN_RARELY_US = 64000 /* ...and up to so long, if the turns are not used */
};

/* Process-private; threads may race on it, which only makes it less exact. */
struct turn {
        atomic_u64 plea;  /* what this process wrote last */
        atomic_u32 done;  /* what it has done */
        atomic_u32 then;  /* ...when it wrote that */
        atomic_u32 owed;  /* what others did in a time as long as the turn that it asked for */
        atomic_u32 least; /* how long to wait before asking */
};

/* One wait. */
struct turn_wait {
        int64_t since; /* microseconds; 0: it has only just begun */
        uint32_t all;  /* what all together had done then */
};

void turn_init(struct turn *turn);

static inline void turn_count(struct turn *turn, uint32_t done)
{
        store_relaxed(&turn->done, load_relaxed(&turn->done) + done);
}

/* Before a look, in a wait: sleep, until the deadline at most, while another is to go first. */
void turn_stand_back(const struct turn *turn, atomic_u64 *plea, int64_t deadline);

/* Now and then in a wait that has been in vain so far.  `all` is what all together have done. */
void turn_ask(struct turn *turn, atomic_u64 *plea, struct turn_wait *wait, uint32_t all);

#endif
