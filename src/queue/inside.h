/* SPDX-License-Identifier: MIT
 *
 * queue/inside.h: what the files of the ring share (ring.c, put.c, get.c), and nobody else needs: positions and slots,
 * walks, repair.
 */
#ifndef BROOD_QUEUE_INSIDE_H
#define BROOD_QUEUE_INSIDE_H

#include "os/atfork.h"
#include "queue/ring.h"
#include "sync/waitword.h"

#include <string.h>

enum {
        SAMPLE = 32, /* every so many are counted; puts look how full the ring is, gets what there is to tidy up */
        SETTLE_MOST = 4096, /* how often to set something right and look again, without a look at the clock */
};

/* Deliberate faults, for builds that show that the kill tests notice them (tests/kill/meson.build). */
#ifdef BROOD_FAULT_NO_OWNER
#define CLAIM_OWNER(owner) ((void)(owner), OWNER_NONE)
#else
#define CLAIM_OWNER(owner) (owner)
#endif

/* ---- positions and slots ---- */

static inline struct position position_next(const struct ring *ring, struct position at)
{
        if (++at.index == ring->geometry.slots) {
                at.index = 0;
                at.lap = (at.lap + 1) & LAP_MASK;
        }
        return at;
}

/* The position behind what a state is about, which does not go beyond the lap; unless the memory is damaged. */
static inline struct position position_behind(const struct ring *ring, struct position at, uint64_t state)
{
        at.index += state_places(state) - 1;
        if (at.index >= ring->geometry.slots)
                at.index = ring->geometry.slots - 1;
        return position_next(ring, at);
}

static inline uint64_t position_count(const struct ring *ring, struct position at)
{
        return at.lap * ring->geometry.slots + at.index;
}

/* How many slots a walk may see before it is being overtaken, or led round in damaged memory. */
static inline uint64_t walk_limit(const struct ring *ring)
{
        return 4 * (uint64_t)ring->geometry.slots * (ring->geometry.bounded ? 1 : 16);
}

static inline uint64_t whole_limit(const struct ring *ring)
{
        return ring->geometry.bounded ? walk_limit(ring) : (uint64_t)BLOCKS_MOST * BLOCK_SLOTS;
}

/* The slot of a position; NULL if it has none: *ret_why is BLOCK_PAST, BLOCK_FUTURE or BLOCK_DAMAGED. */
static inline struct ring_slot *slot_find(const struct ring *ring, struct position at, int *ret_why)
{
        *ret_why = 0;
        if (ring->geometry.bounded)
                return &ring->slots[at.index];
        int block = blocks_find(&ring->blocks, at.lap);
        *ret_why = block;
        return block < 0 ? NULL : &blocks_slots(&ring->blocks, (uint32_t)block)[at.index];
}

/* The cell that belongs to a slot. */
static inline unsigned char *slot_cell(const struct ring *ring, struct ring_slot *slot, struct position at)
{
        unsigned char *block = (unsigned char *)(slot - at.index);

        return block + ring->geometry.cells_at + (size_t)at.index * ring->geometry.cell_stride;
}

static inline void *slot_bytes(const struct ring *ring, struct ring_slot *slot, struct position at, struct body body)
{
        if (ring->geometry.cell_stride == 0)
                return &slot->body;
        return ring_body_bytes(ring, body, slot_cell(ring, slot, at));
}

/* The oldest position of a ring without a bound that may hold a message. */
static inline struct position position_first(const struct ring *ring)
{
        return (struct position){ .lap = load_acquire(&ring->blocks.shared->first) & LAP_MASK, .index = 0 };
}

/* Where a walk goes on that has met a position without a slot, or a slot that was given to a lap before: false if there is
 * nowhere. */
static inline bool skip_past(const struct ring *ring, struct position *at)
{
        struct position first = position_first(ring);

        if (laps_ahead(first.lap, at->lap) <= 0)
                return false;
        *at = first;
        return true;
}

/* A getter's next position after one whose slot is being read or done with.  In a ring with a bound, a slot that is laps
 * ahead tells that everything up to its place in the lap before the last one is done with (I4).  In one without, a block
 * that was given to another lap tells that its own is over. */
static inline struct position position_after(const struct ring *ring, struct position at, uint64_t state)
{
        int64_t ahead = laps_ahead(state_lap(state), at.lap);

        if (ring->geometry.bounded) {
                if (ahead > 2)
                        at.lap = (state_lap(state) - 2) & LAP_MASK;
        } else if (ahead > 1) {
                at.index = ring->geometry.slots - 1;
        }
        return ahead == 0 ? position_behind(ring, at, state) : position_next(ring, at);
}

static inline struct body slot_body(const struct ring *ring, const struct ring_slot *slot)
{
        if (ring->geometry.cell_stride == 0)
                return (struct body){ .size = sizeof(uint64_t) };
        return body_of(load_relaxed(&slot->body));
}

/* Messages that fit into a cell are short: a copy that the compiler can see beats a call. */
static inline void copy_short(void *to, const void *from, size_t size)
{
        unsigned char *target = to;
        const unsigned char *source = from;

        if (size < 16) {
                if (size > 0)
                        memcpy(target, source, size);
                return;
        }
        for (size_t i = 0; i + 16 <= size; i += 16)
                memcpy(target + i, source + i, 16);
        if (size % 16 != 0)
                memcpy(target + size - 16, source + size - 16, 16);
}

/* How many of places `from` to `to` of a lap are such at which to take a sample. */
static inline uint32_t samples(uint32_t from, uint32_t to)
{
        return to / SAMPLE - from / SAMPLE + (from % SAMPLE == 0);
}

/* A batch is about to go through the next slots: have their lines fetched all at once, instead of one after the other.  The
 * slots
 * will be written to, and the cells too by a putter. */
static inline void prefetch_places(const struct ring *ring, struct ring_slot *slot, struct position at, size_t count,
                                   bool put)
{
        enum { MOST = 32, SLOTS_OF_A_LINE = 64 / sizeof(struct ring_slot) };
        const unsigned char *cell = slot_cell(ring, slot, at);

        if (count > MOST)
                count = MOST;
        for (size_t i = 0; i < count; i += SLOTS_OF_A_LINE)
                __builtin_prefetch(slot + i, 1);
        for (size_t i = 0; i < count; i++, cell += ring->geometry.cell_stride)
                if (put)
                        __builtin_prefetch(cell, 1);
                else
                        __builtin_prefetch(cell, 0);
}

/* ---- who we are ---- */

static inline bool is_registered(struct ring *ring)
{
        return load_acquire(&ring->mark) == process_mark() && process_mark() != 0; /* A6 */
}

/* The first call of a process: register. */
int ring_own_slow(struct ring *ring);

static inline int ring_own(struct ring *ring, uint32_t *ret_owner)
{
        if (!is_registered(ring)) {
                int r = ring_own_slow(ring);
                if (r < 0)
                        return r;
        }
        *ret_owner = ring->owner;
        return 0;
}

/* ---- walking and repairing (ring.c) ---- */

/* A walk over all positions that may hold something, from the oldest to the end of the queue. */
struct walk {
        struct position at;
        struct ring_slot *slot;
        uint64_t state;
        uint64_t steps;
};

/* Begin; false: the memory is damaged. */
bool walk_begin(struct ring *ring, struct walk *walk);

/* The next claim or message: false at the end, which is the first position that nobody has claimed. */
bool walk_on(struct ring *ring, struct walk *walk);
void walk_next(struct ring *ring, struct walk *walk);

/* Whether to ask if the owner of a claim lives, which costs some system calls: most claims are over in a moment, so who may
 * wait
 * sleeps once before. */
static inline bool time_to_ask(const struct sight *sight)
{
        return !sight->patient || sight->slept;
}

/* Whether the owner of a claim that is in our way is dead; if so, the claim is undone. */
bool repair_if_dead(struct ring *ring, struct position at, struct ring_slot *slot, uint64_t state);

/* A claim for writing has come to nothing: its places are passed over.  The slots are in their next lap already. */
void positions_skipped(struct ring *ring, uint32_t places);

/* A message came back at a position that getters may have passed. */
void message_came_back(struct ring *ring, struct position at);

/* ---- announcing ---- */

/* After a release store: before what follows, for those whose own fence reaches us; see os/fence.h. */
static inline void fence_before_look(struct ring *ring)
{
        if (__builtin_expect(load_relaxed(&ring->fence_self), 0))
                fence_full();
        else
                fence_light();
}

/* With a bit of the control word set: who polls, and who joins. */
void ring_announce_slow(struct ring *ring, uint32_t control, bool message);

static inline void announce(struct ring *ring, bool message)
{
        struct ring_shared *shared = ring->shared;
        atomic_u32 *word = message ? &shared->getters : &shared->putters;

        fence_before_look(ring);
        uint32_t control = load_relaxed(&shared->control);
        if (__builtin_expect(control & ~(uint32_t)CONTROL_CLOSED, 0))
                ring_announce_slow(ring, control, message);
        if (__builtin_expect(load_relaxed(word) & WAITWORD_SLEEPERS, 0))
                waitword_wake_slow(word, 1);
}

#endif
