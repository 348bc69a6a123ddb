/* SPDX-License-Identifier: MIT
 *
 * queue/slot.h: the words of the queue, and how they are read: the state of a slot, a position in the sequence of messages.
 *
 *     state       | lap 37 | kind 3 | owner 24 |
 *     position    | 7 unused | lap 37 | index 20 |
 *     body        | size 35 | size class 5 | buffer 24 |        class 0: in the slot's cell
 *
 * A batch claims several places with the word of the first one.  Until that word changes again, the words of the others say
 * nothing that concerns anybody else; they change first.
 *
 * A slot goes round EMPTY -> WRITING -> FULL -> READING -> EMPTY of the next lap.  Its state says lap, kind and owner at
 * once, and every transition is one store or one compare-and-swap on that word, so there is no instant at which a death
 * leaves a slot that nobody can attribute.
 */
#ifndef BROOD_QUEUE_SLOT_H
#define BROOD_QUEUE_SLOT_H

#include "os/atomic.h"
#include "shm/owners.h"

#include <stddef.h>

enum kind {
        EMPTY = 0,
        WRITING = 1,
        FULL = 2,
        READING = 3,
        CLOSED = 4,      /* the end of a closed ring: nothing will ever be written here or later */
        WRITING_RUN = 5, /* this place and the RUN - 1 behind it, in the same lap */
        READING_RUN = 6,
};

enum {
        RUN = 8,       /* places that a batch claims with one word */
        CAME_BACK = 1, /* in the place of the owner of a FULL slot: getters may have passed it */
};

enum {
        KIND_BITS = 3,
        LAP_BITS = 64 - KIND_BITS - OWNER_BITS,
        INDEX_BITS = 20,
        BUFFER_BITS = 24,
        CLASS_BITS = 5,
};
static_assert((READING_RUN | WRITING_RUN) < 1 << KIND_BITS && LAP_BITS == 37, "lap, kind and owner fill a word");

#define LAP_MASK ((UINT64_C(1) << LAP_BITS) - 1)
#define INDEX_MASK ((UINT64_C(1) << INDEX_BITS) - 1)

/* Four slots fill a cache line, so that a batch fetches few of them. */
struct ring_slot {
        atomic_u64 state;
        atomic_u64 body; /* written while WRITING; frozen while FULL and READING */
};
static_assert(sizeof(struct ring_slot) == 16, "four slots a cache line");

static inline uint64_t state_make(uint64_t lap, enum kind kind, uint32_t owner)
{
        return (lap & LAP_MASK) << (KIND_BITS + OWNER_BITS) | (uint64_t)kind << OWNER_BITS | owner;
}

static inline uint64_t state_lap(uint64_t state)
{
        return state >> (KIND_BITS + OWNER_BITS);
}

static inline enum kind state_kind(uint64_t state)
{
        return (enum kind)(state >> OWNER_BITS & ((1 << KIND_BITS) - 1));
}

static inline uint32_t state_owner(uint64_t state)
{
        return (uint32_t)(state & ((UINT32_C(1) << OWNER_BITS) - 1));
}

static inline bool is_writing(enum kind kind)
{
        return kind == WRITING || kind == WRITING_RUN;
}

static inline bool is_reading(enum kind kind)
{
        return kind == READING || kind == READING_RUN;
}

/* How many places a state is about. */
static inline uint32_t state_places(uint64_t state)
{
        enum kind kind = state_kind(state);

        return kind == WRITING_RUN || kind == READING_RUN ? RUN : 1;
}

/* A position in the endless sequence of messages: its lap and its place in the lap. */
struct position {
        uint64_t lap;
        uint32_t index;
};

static inline struct position position_of(uint64_t word)
{
        return (struct position){ .lap = word >> INDEX_BITS & LAP_MASK, .index = (uint32_t)(word & INDEX_MASK) };
}

static inline uint64_t position_word(struct position at)
{
        return at.lap << INDEX_BITS | at.index;
}

/* How many laps `lap` is ahead of `of`; laps wrap around. */
static inline int64_t laps_ahead(uint64_t lap, uint64_t of)
{
        return (int64_t)((lap - of) << (64 - LAP_BITS)) >> (64 - LAP_BITS);
}

/* Where a message's bytes are. */
struct body {
        size_t size;
        uint32_t class; /* 0: in the slot's cell; else in a buffer of that class (queue/spill.h) */
        uint32_t buffer;
};

static inline uint64_t body_word(struct body body)
{
        return (uint64_t)body.size << (CLASS_BITS + BUFFER_BITS) | (uint64_t)body.class << BUFFER_BITS | body.buffer;
}

static inline struct body body_of(uint64_t word)
{
        return (struct body){
                .size = (size_t)(word >> (CLASS_BITS + BUFFER_BITS)),
                .class = (uint32_t)(word >> BUFFER_BITS & ((1 << CLASS_BITS) - 1)),
                .buffer = (uint32_t)(word & ((1 << BUFFER_BITS) - 1)),
        };
}

/* A hint moves on from where its reader found it.  Two that do so at once may set it back: it is a hint. */
static inline void hint_advance(atomic_u64 *hint, uint64_t from, struct position to)
{
        if (load_relaxed(hint) == from)
                store_relaxed(hint, position_word(to));
}

#endif
