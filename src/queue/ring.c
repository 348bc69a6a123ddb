/* SPDX-License-Identifier: MIT
 *
 * queue/ring.c: see ring.h and doc/design/queue.md.
 *
 * The slot protocol with a ticket a slot descends from Dmitry Vyukov's bounded MPMC queue; what is added is the owner in the
 * word, so that a claim can be attributed, and with it that the indices need not be exact: they are hints.
 */
#include "queue/ring.h"
#include "os/atfork.h"
#include "os/clock.h"
#include "sync/waitword.h"

#include <errno.h>
#include <string.h>

/* ---- state words and positions ---- */

enum kind {
        EMPTY = 0,
        WRITING = 1,
        FULL = 2,
        READING = 3,
        CLOSED = 4, /* the end of a closed ring: nothing will ever be written here or later */
};

enum {
        KIND_BITS = 3,
        LAP_BITS = 64 - KIND_BITS - OWNER_BITS,
        INDEX_BITS = 20,
};
static_assert(LAP_BITS == 37, "lap, kind and owner fill a word");

#define LAP_MASK ((UINT64_C(1) << LAP_BITS) - 1)
#define INDEX_MASK ((UINT64_C(1) << INDEX_BITS) - 1)

/* | lap 37 | kind 3 | owner 24 | */
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

/* A position in the endless sequence of messages: its lap and its slot's index. */
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

static inline struct position position_next(const struct ring *ring, struct position at)
{
        if (++at.index == ring->geometry.slots) {
                at.index = 0;
                at.lap = (at.lap + 1) & LAP_MASK;
        }
        return at;
}

/* How many laps `lap` is ahead of `of`; laps wrap around. */
static inline int64_t laps_ahead(uint64_t lap, uint64_t of)
{
        return (int64_t)((lap - of) << (64 - LAP_BITS)) >> (64 - LAP_BITS);
}

static inline struct ring_slot *slot_at(const struct ring *ring, uint32_t index)
{
        return (struct ring_slot *)(void *)(ring->slots + (size_t)index * ring->geometry.stride);
}

static inline uint32_t slot_index(const struct ring *ring, const struct ring_slot *slot)
{
        return (uint32_t)((size_t)((const unsigned char *)slot - ring->slots) / ring->geometry.stride);
}

static inline unsigned char *slot_bytes(const struct ring *ring, struct ring_slot *slot, size_t size)
{
        if (size <= ring->geometry.inline_room)
                return slot->bytes;
        return region_at(ring->region, ring->spill_offset + slot_index(ring, slot) * ring->geometry.spill_stride);
}

/* A getter's next position after one whose slot is being read or done with.  A slot that is laps ahead tells that everything up to
 * its place in the lap before the last one is done with (I4). */
static inline struct position position_after(const struct ring *ring, struct position at, uint64_t state)
{
        if (laps_ahead(state_lap(state), at.lap) > 2)
                at.lap = (state_lap(state) - 2) & LAP_MASK;
        return position_next(ring, at);
}

/* A hint moves on from where this caller found it.  Two that do so at once may set it back: it is a hint. */
static inline void hint_advance(atomic_u64 *hint, uint64_t from, struct position to)
{
        if (load_relaxed(hint) == from)
                store_relaxed(hint, position_word(to));
}

/* ---- making, owners ---- */

int ring_plan(struct ring_geometry *g, size_t maxsize, size_t message_size)
{
        enum { SMALL = 64, LARGE = 128 };
        static const size_t SPILL_MOST =
            SIZE_MAX >> 18; /* a mapping of 2^46 bytes fits into any 64-bit address space */

        *g = (struct ring_geometry){ .slots = (uint32_t)maxsize, .message_size = message_size };
        if (message_size <= 16 - 8) /* the pool's: two slots a line */
                g->stride = SMALL / 2;
        else
                g->stride = message_size <= SMALL - sizeof(struct ring_slot) ? SMALL : LARGE;
        g->inline_room = g->stride - (uint32_t)sizeof(struct ring_slot);
        g->slots_bytes = round_up((size_t)g->stride * g->slots, 64);
        if (message_size > g->inline_room) {
                g->spill_stride = round_up(message_size, 64);
                if (__builtin_mul_overflow(g->spill_stride, maxsize, &g->spill_bytes) || g->spill_bytes > SPILL_MOST)
                        return -E2BIG;
        }
        return 0;
}

void ring_attach(struct ring *ring, const struct ring_geometry *geometry, const struct region *region,
                 size_t shared_offset, size_t owners_offset, size_t slots_offset, size_t spill_offset)
{
        *ring = (struct ring){
                .geometry = *geometry,
                .region = region,
                .shared = region_at(region, shared_offset),
                .owners = region_at(region, owners_offset),
                .slots = region_at(region, slots_offset),
                .spill_offset = spill_offset,
        };
        spin_init(&ring->spin);
}

/* Free the numbers of all owners that are dead. */
static void recover_all(struct ring *ring)
{
        uint32_t owner;

        for (uint32_t at = 0; (owner = owners_next(ring->owners, &at)) != OWNER_NONE;)
                if (!owners_alive(ring->owners, owner))
                        ring_recover(ring, owner);
}

static int own_slow(struct ring *ring)
{
        int r = process_mark_init();

        if (r < 0)
                return r;
        r = process_lock();
        if (r < 0)
                return r;
        if (load_relaxed(&ring->mark) != process_mark()) {
                uint32_t owner = owners_register(ring->owners);
                if (owner == OWNER_NONE) {
                        recover_all(ring);
                        owner = owners_register(ring->owners);
                }
                if (owner != OWNER_NONE) {
                        ring->owner = owner;
                        store_release(&ring->mark, process_mark()); /* R6: pairs with A6 in ring_own */
                } else {
                        r = -EUSERS;
                }
        }
        process_unlock();
        return r;
}

int ring_own(struct ring *ring, uint32_t *ret_owner)
{
        if (load_acquire(&ring->mark) != process_mark() || process_mark() == 0) { /* A6 */
                int r = own_slow(ring);
                if (r < 0)
                        return r;
        }
        *ret_owner = ring->owner;
        return 0;
}

void ring_detach(struct ring *ring)
{
        if (load_relaxed(&ring->mark) == process_mark() && process_mark() != 0)
                owners_release(ring->owners, ring->owner);
        store_relaxed(&ring->mark, 0);
}

/* ---- repair ---- */

/* A slot was found in `state`, claimed, and its owner is dead: undo the claim, unless another has done so. */
static void repair(struct ring *ring, struct position at, uint64_t state)
{
        struct ring_slot *slot = slot_at(ring, at.index);
        uint64_t lap = state_lap(state);

        if (state_kind(state) == WRITING) {
                /* The message was never there.  Its position is passed over: the slot goes to its next lap. */
                if (cas_u64(&slot->state, state, state_make(lap + 1, EMPTY, OWNER_NONE))) {
                        waitword_wake_one(&ring->shared->putters);
                        waitword_wake_all(&ring->shared->getters);
                }
        } else {
                /* The dead getter had not returned: the message is there as before.  Getters may have gone past it; if the
                 * head is not set back, because we die here or another sets it forth, the next getter that finds nothing
                 * finds it by find_strays(). */
                if (cas_u64(&slot->state, state, state_make(lap, FULL, OWNER_NONE))) {
                        struct position head = position_of(load_relaxed(&ring->shared->head));
                        int64_t past = laps_ahead(head.lap, lap);
                        /* Only back: of several that are given back, the oldest is to come first. */
                        if (past > 0 || (past == 0 && head.index > at.index))
                                store_relaxed(&ring->shared->head,
                                              position_word((struct position){ .lap = lap, .index = at.index }));
                        waitword_wake_one(&ring->shared->getters);
                }
        }
}

/* Whether the owner of a claim that is in our way is dead; if so, the claim is undone. */
static bool repair_if_dead(struct ring *ring, struct position at, uint64_t state)
{
        uint32_t owner = state_owner(state);

        if (owner == ring->owner || owners_alive(ring->owners, owner))
                return false;
        repair(ring, at, state);
        return true;
}

void ring_recover(struct ring *ring, uint32_t owner)
{
        struct position at = position_of(load_relaxed(&ring->shared->settled));

        /* All claims lie between the last settled position and the first one that nobody has claimed yet. */
        for (uint64_t steps = 0; steps <= 4 * (uint64_t)ring->geometry.slots; steps++) {
                if (at.index >= ring->geometry.slots)
                        break;
                uint64_t state = load_acquire(&slot_at(ring, at.index)->state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);
                enum kind kind = state_kind(state);

                if (ahead < 0 || (ahead == 0 && (kind == EMPTY || kind == CLOSED)))
                        break;
                if (ahead == 0 && (kind == WRITING || kind == READING) && state_owner(state) == owner)
                        repair(ring, at, state);
                at = position_after(ring, at, state);
        }
        owners_release(ring->owners, owner);
}

void ring_wake_all(struct ring *ring)
{
        waitword_wake_all(&ring->shared->getters);
        waitword_wake_all(&ring->shared->putters);
}

/* ---- waiting ---- */

/* What a look at the ring has found. */
enum look {
        LOOK_DONE,    /* claimed */
        LOOK_NOTHING, /* empty, or full */
        LOOK_BUSY,    /* another is at work on the slot that is next */
        LOOK_CLOSED,
        LOOK_TOO_LARGE,
        LOOK_DAMAGED,
};

struct sight {
        struct position at; /* where the look ended */
        uint64_t state;     /* what was there */
        struct ring_slot *slot;
        size_t size; /* of the message that a getter has claimed: checked, and not read again */
};

/* One side of the ring: what a put waits for, or a get. */
struct side {
        /* Try to claim the next slot. */
        enum look (*look)(struct ring *ring, size_t size, uint32_t owner, struct sight *ret_sight);
        /* Look closer, before a call gives up or sleeps, at what the look has found.  LOOK_NOTHING: it is as it seems; LOOK_BUSY: a
         * live process has a claim that may yet change things; LOOK_DONE: something was repaired, look again; LOOK_CLOSED. */
        enum look (*settle)(struct ring *ring, const struct sight *sight);
        /* After the claim at `sight`: whether there is more to claim. */
        bool (*more)(struct ring *ring, const struct sight *sight);
        size_t word; /* where this side sleeps: its offset in struct ring_shared */
};

static const struct side put_side, get_side;

static int look_error(enum look look)
{
        switch (look) {
        case LOOK_DONE:
                return 0;
        case LOOK_CLOSED:
                return -EPIPE;
        case LOOK_TOO_LARGE:
                return -EMSGSIZE;
        case LOOK_DAMAGED:
                return -EUCLEAN;
        default:
                return -EAGAIN;
        }
}

static inline bool look_is_final(enum look look)
{
        return look != LOOK_NOTHING && look != LOOK_BUSY;
}

enum {
        SLICE_WATCH_MS = 250, /* the longest sleep with nobody watching over the processes */
        SLICE_BUSY_MS = 64,   /* the longest sleep behind another's claim */
};

/* The slow half of claim_slot(): a look has found nothing. */
static int wait_and_look(struct ring *ring, const struct side *side, size_t size, uint32_t owner, struct sight *sight,
                         int64_t deadline)
{
        atomic_u32 *word = (atomic_u32 *)(void *)((unsigned char *)ring->shared + side->word);
        enum look seen;

        if (deadline != DEADLINE_NOW) {
                for (uint32_t i = 0, most = load_relaxed(&ring->spin.length); i < most; i++) {
                        cpu_relax();
                        if (load_relaxed(&sight->slot->state) == sight->state)
                                continue;
                        seen = side->look(ring, size, owner, sight);
                        if (look_is_final(seen)) {
                                spin_adapt(&ring->spin, true);
                                return look_error(seen);
                        }
                }
                spin_adapt(&ring->spin, false);
        }

        int64_t busy_ms = 1;
        bool slept = false;
        for (;;) {
                uint32_t prepared = deadline == DEADLINE_NOW ? 0 : waitword_prepare(word);

                seen = side->look(ring, size, owner, sight);
                if (look_is_final(seen)) {
                        /* Whoever was woken may be the only one who was: if there is more, the next one must be. */
                        if (seen == LOOK_DONE && slept && waitword_has_sleepers(word) && side->more(ring, sight))
                                waitword_wake_one(word);
                        /* Nor may the message be too large for it alone. */
                        if (seen == LOOK_TOO_LARGE)
                                waitword_wake_one(word);
                        return look_error(seen);
                }
                seen = side->settle(ring, sight);
                if (seen == LOOK_DONE)
                        continue;
                if (seen == LOOK_CLOSED || seen == LOOK_DAMAGED)
                        return look_error(seen);
                if (deadline == DEADLINE_NOW)
                        return -EAGAIN;
                int64_t now = clock_now();
                if (now >= deadline)
                        return -ETIMEDOUT;

                int64_t until = deadline;
                if (seen == LOOK_BUSY) {
                        until = deadline_slice(deadline, busy_ms * NS_PER_MS);
                        busy_ms = busy_ms * 2 < SLICE_BUSY_MS ? busy_ms * 2 : SLICE_BUSY_MS;
                } else if (!ring->watched) {
                        until = deadline_slice(deadline, SLICE_WATCH_MS * NS_PER_MS);
                }
                waitword_sleep(word, prepared, until);
                slept = true;
                if (clock_now() - now < SPIN_SHORT_SLEEP_NS)
                        spin_adapt(&ring->spin, true); /* a little more spinning would have saved the sleep */
        }
}

/* Claim the next slot of a side: 0 and where it is.  The clock is read only if there is a wait. */
static inline int claim_slot(struct ring *ring, const struct side *side, size_t size, struct sight *sight,
                             int timeout_ms)
{
        uint32_t owner;
        int r = ring_own(ring, &owner);

        if (r < 0)
                return r;
        enum look seen = side->look(ring, size, owner, sight);
        if (look_is_final(seen))
                return look_error(seen);
        return wait_and_look(ring, side, size, owner, sight, deadline_after_ms(timeout_ms));
}

/* ---- put ---- */

static enum look look_for_place(struct ring *ring, size_t size, uint32_t owner, struct sight *sight)
{
        struct ring_shared *shared = ring->shared;
        uint64_t start = load_relaxed(&shared->tail);
        struct position at = position_of(start);

        (void)size;
        if (at.index >= ring->geometry.slots)
                return LOOK_DAMAGED;
        if (load_seq_cst(&shared->closed))
                return LOOK_CLOSED;
        /* Each step passes a slot that others have claimed; one that sees more of them than there are is being overtaken, and
         * starts again from the hint. */
        for (uint64_t steps = 0; steps <= 4 * (uint64_t)ring->geometry.slots; steps++) {
                struct ring_slot *slot = slot_at(ring, at.index);
                uint64_t state = load_seq_cst(&slot->state); /* A2: pairs with R2 in ring_release */
                int64_t ahead = laps_ahead(state_lap(state), at.lap);

                *sight = (struct sight){ .at = at, .state = state, .slot = slot };
                if (ahead < 0) {
                        /* The lap before is not done with this slot. */
                        hint_advance(&shared->tail, start, at);
                        return state_kind(state) == FULL ? LOOK_NOTHING : LOOK_BUSY;
                }
                if (ahead == 0 && state_kind(state) == CLOSED)
                        return LOOK_CLOSED;
                if (ahead == 0 && state_kind(state) == EMPTY) {
                        uint64_t mine = state_make(at.lap, WRITING, owner);
                        if (cas_u64(&slot->state, state, mine)) {
                                hint_advance(&shared->tail, start, position_next(ring, at));
                                sight->state = mine;
                                return LOOK_DONE;
                        }
                        continue; /* another has claimed it */
                }
                /* Claimed already.  A slot that is laps ahead was claimed in the lap before its own (I3). */
                if (ahead > 1)
                        at.lap = (state_lap(state) - 1) & LAP_MASK;
                at = position_next(ring, at);
        }
        return LOOK_BUSY;
}

/* In a putter's way is a message, or the claim of a getter or a putter of the lap before. */
static enum look settle_place(struct ring *ring, const struct sight *sight)
{
        enum kind kind = state_kind(sight->state);

        if (kind != WRITING && kind != READING)
                return kind == FULL ? LOOK_NOTHING : LOOK_BUSY;
        return repair_if_dead(ring, sight->at, sight->state) ? LOOK_DONE : LOOK_BUSY;
}

static bool more_places(struct ring *ring, const struct sight *sight)
{
        struct position at = sight->at;

        for (uint32_t i = 0; i < ring->geometry.slots; i++) {
                at = position_next(ring, at);
                uint64_t state = load_seq_cst(&slot_at(ring, at.index)->state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);
                if (ahead < 0 || (ahead == 0 && state_kind(state) == EMPTY))
                        return ahead == 0;
        }
        return false;
}

static const struct side put_side = {
        .look = look_for_place,
        .settle = settle_place,
        .more = more_places,
        .word = offsetof(struct ring_shared, putters),
};

int ring_put(struct ring *ring, const void *data, size_t size, int timeout_ms)
{
        struct sight sight;
        int r = claim_slot(ring, &put_side, size, &sight, timeout_ms);

        if (r < 0)
                return r;

        /* The slot is WRITING, and ours. */
        struct ring_slot *slot = sight.slot;
        uint64_t lap = sight.at.lap;
        if (size > ring->geometry.inline_room && size > slot->committed) {
                r = region_commit(ring->region,
                                  ring->spill_offset + (size_t)sight.at.index * ring->geometry.spill_stride, size);
                if (r < 0) {
                        store_seq_cst(&slot->state, state_make(lap + 1, EMPTY, OWNER_NONE));
                        ring_wake_all(ring);
                        return r;
                }
                slot->committed = (uint32_t)size;
        }
        store_relaxed(&slot->size, (uint32_t)size);
        if (size > 0)
                memcpy(slot_bytes(ring, slot, size), data, size);
        store_seq_cst(&slot->state, state_make(lap, FULL, OWNER_NONE)); /* R1: pairs with A1 in look_for_message */
        waitword_wake_one(&ring->shared->getters);
        return 0;
}

/* ---- get ---- */

static enum look look_for_message(struct ring *ring, size_t room, uint32_t owner, struct sight *sight)
{
        struct ring_shared *shared = ring->shared;
        uint64_t start = load_relaxed(&shared->head);
        struct position at = position_of(start);

        if (at.index >= ring->geometry.slots)
                return LOOK_DAMAGED;
        for (uint64_t steps = 0; steps <= 4 * (uint64_t)ring->geometry.slots; steps++) {
                struct ring_slot *slot = slot_at(ring, at.index);
                uint64_t state = load_seq_cst(&slot->state); /* A1 */
                int64_t ahead = laps_ahead(state_lap(state), at.lap);

                *sight = (struct sight){ .at = at, .state = state, .slot = slot };
                if (ahead < 0 || (ahead == 0 && state_kind(state) == WRITING)) {
                        hint_advance(&shared->head, start, at);
                        return LOOK_BUSY;
                }
                if (ahead == 0 && (state_kind(state) == EMPTY || state_kind(state) == CLOSED)) {
                        hint_advance(&shared->head, start, at);
                        return LOOK_NOTHING;
                }
                if (ahead == 0 && state_kind(state) == FULL) {
                        size_t size = load_relaxed(&slot->size);
                        if (size > ring->geometry.message_size)
                                return LOOK_DAMAGED;
                        if (size > room) {
                                if (load_seq_cst(&slot->state) == state)
                                        return LOOK_TOO_LARGE;
                                continue; /* another has taken it */
                        }
                        uint64_t mine = state_make(at.lap, READING, owner);
                        if (cas_u64(&slot->state, state, mine)) {
                                hint_advance(&shared->head, start, position_next(ring, at));
                                sight->state = mine;
                                sight->size = size;
                                return LOOK_DONE;
                        }
                        continue;
                }
                at = position_after(ring, at, state); /* being read by another, or done with */
        }
        return LOOK_BUSY;
}

/* Are there messages behind the head, which getters passed while one that has since died was reading them?  Walk from the last
 * settled position; every position is walked once, as long as nobody dies.  LOOK_DONE: yes, the head is back there. */
static enum look find_strays(struct ring *ring)
{
        struct ring_shared *shared = ring->shared;
        uint64_t start = load_relaxed(&shared->settled);
        struct position at = position_of(start);
        enum look seen = LOOK_NOTHING;

        if (at.index >= ring->geometry.slots)
                return LOOK_DAMAGED;
        for (uint64_t steps = 0; steps <= 4 * (uint64_t)ring->geometry.slots; steps++) {
                struct ring_slot *slot = slot_at(ring, at.index);
                uint64_t state = load_seq_cst(&slot->state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);

                if (ahead == 0 && state_kind(state) == FULL) {
                        store_relaxed(&shared->head, position_word(at));
                        return LOOK_DONE;
                }
                if (ahead == 0 && state_kind(state) == READING) {
                        if (repair_if_dead(ring, at, state))
                                return LOOK_DONE;
                        seen = LOOK_BUSY;
                } else if (ahead <= 0) {
                        break;
                }
                at = position_after(ring, at, state);
                if (seen == LOOK_NOTHING) {
                        hint_advance(&shared->settled, start, at);
                        start = position_word(at);
                }
        }
        return seen;
}

/* In a getter's way is an empty slot, the seal of a closed ring, a putter's claim; or, if the head has gone too far, anything. */
static enum look settle_message(struct ring *ring, const struct sight *sight)
{
        bool in_lap = state_lap(sight->state) == sight->at.lap;
        enum kind kind = state_kind(sight->state);

        if (in_lap && kind == WRITING && repair_if_dead(ring, sight->at, sight->state))
                return LOOK_DONE;
        enum look seen = find_strays(ring);
        if (seen != LOOK_NOTHING)
                return seen;
        if (!in_lap || kind == WRITING)
                return LOOK_BUSY;
        if (kind == CLOSED)
                return LOOK_CLOSED;
        /* Closed, and nothing is left or may come back: seal the place at which the next message would be put.  Whoever is
         * about to put one has either claimed the place, and the seal fails, or finds it sealed. */
        if (kind == EMPTY && load_seq_cst(&ring->shared->closed)) {
                uint64_t seal = state_make(sight->at.lap, CLOSED, OWNER_NONE);
                return cas_u64(&sight->slot->state, sight->state, seal) ? LOOK_CLOSED : LOOK_DONE;
        }
        return LOOK_NOTHING;
}

static bool more_messages(struct ring *ring, const struct sight *sight)
{
        struct position at = sight->at;

        for (uint32_t i = 0; i < ring->geometry.slots; i++) {
                at = position_next(ring, at);
                uint64_t state = load_seq_cst(&slot_at(ring, at.index)->state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);
                if (ahead < 0 || (ahead == 0 && state_kind(state) != READING))
                        return ahead == 0 && state_kind(state) == FULL;
        }
        return false;
}

static const struct side get_side = {
        .look = look_for_message,
        .settle = settle_message,
        .more = more_messages,
        .word = offsetof(struct ring_shared, getters),
};

int ring_claim(struct ring *ring, struct ring_claim *claim, size_t room, int timeout_ms)
{
        struct sight sight;
        int r = claim_slot(ring, &get_side, room, &sight, timeout_ms);

        if (r < 0)
                return r;
        size_t size = sight.size;
        *claim = (struct ring_claim){
                .slot = sight.slot,
                .next = state_make(sight.at.lap + 1, EMPTY, OWNER_NONE),
                .bytes = slot_bytes(ring, sight.slot, size),
                .size = size,
        };
        return 0;
}

void ring_release(struct ring *ring, const struct ring_claim *claim)
{
        store_seq_cst(&claim->slot->state, claim->next); /* R2: pairs with A2 in look_for_place */
        waitword_wake_one(&ring->shared->putters);
}

/* ---- the rest ---- */

void ring_close(struct ring *ring)
{
        store_seq_cst(&ring->shared->closed, 1);
        ring_wake_all(ring);
}

ssize_t ring_count(struct ring *ring, size_t most)
{
        struct position at = position_of(load_relaxed(&ring->shared->head));
        struct position settled = position_of(load_relaxed(&ring->shared->settled));
        size_t count = 0;

        if (at.index >= ring->geometry.slots || settled.index >= ring->geometry.slots)
                return -EUCLEAN;
        if (laps_ahead(at.lap, settled.lap) <= 1)
                at = settled; /* a message that came back may lie behind the head */
        for (uint64_t steps = 0; steps <= 4 * (uint64_t)ring->geometry.slots && count < most; steps++) {
                uint64_t state = load_acquire(&slot_at(ring, at.index)->state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);

                if (ahead == 0 && state_kind(state) == FULL)
                        count++;
                else if (ahead < 0 || (ahead == 0 && state_kind(state) != READING && state_kind(state) != WRITING))
                        break;
                at = position_after(ring, at, state);
        }
        return (ssize_t)count;
}

int ring_is_full(struct ring *ring)
{
        struct position at = position_of(load_relaxed(&ring->shared->tail));

        if (at.index >= ring->geometry.slots)
                return -EUCLEAN;
        for (uint64_t steps = 0; steps <= 4 * (uint64_t)ring->geometry.slots; steps++) {
                uint64_t state = load_acquire(&slot_at(ring, at.index)->state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);

                if (ahead < 0)
                        return 1;
                if (ahead == 0 && (state_kind(state) == EMPTY || state_kind(state) == CLOSED))
                        return 0;
                if (ahead > 1)
                        at.lap = (state_lap(state) - 1) & LAP_MASK;
                at = position_next(ring, at);
        }
        return 0;
}
