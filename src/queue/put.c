/* SPDX-License-Identifier: MIT
 *
 * queue/put.c: the putting side of the ring; see ring.h and doc/design/queue.md.
 */
#include "os/clock.h"
#include "queue/inside.h"

#include <errno.h>

static void raise_high_water(struct ring *ring, uint64_t count)
{
        uint64_t high = load_relaxed(&ring->shared->high_water);

        while (count > high && !cas_u64(&ring->shared->high_water, high, count))
                high = load_relaxed(&ring->shared->high_water);
}

static void __attribute__((noinline)) sample(struct ring *ring, struct position at, uint32_t count)
{
        uint64_t claimed = position_count(ring, at) + 1;
        uint64_t taken = position_count(ring, position_of(load_relaxed(&ring->shared->head)));

        turn_count(&ring->turns[PUTTING], count);
        if (claimed > taken && (!ring->geometry.bounded || claimed - taken <= ring->geometry.slots))
                raise_high_water(ring, claimed - taken);
}

/* The places from `from` to `last`, of one lap, have been claimed. */
static inline void after_claim(struct ring *ring, uint64_t start, uint32_t from, struct position last)
{
        hint_advance(&ring->shared->tail, start, position_next(ring, last));
        uint32_t count = samples(from, last.index);
        if (__builtin_expect(count > 0, 0))
                sample(ring, last, count);
}

static inline bool is_closed(struct ring *ring)
{
        return load_relaxed(&ring->shared->control) & CONTROL_CLOSED;
}

/* Put a message that fits into a cell at a position, if that is the end of the queue.  False: nothing is done. `start` is
 * the hint that led here, to be moved on with the claim, or NULL: later. */
static inline bool put_at(struct ring *ring, uint32_t owner, struct ring_slot *slot, struct position at,
                          const uint64_t *start, const void *data, size_t size)
{
        uint64_t empty = state_make(at.lap, EMPTY, OWNER_NONE);

        if (load_acquire(&slot->state) != empty || /* A2: pairs with R2 in free_slot */
            !cas_u64(&slot->state, empty, state_make(at.lap, WRITING, CLAIM_OWNER(owner))))
                return false;
        if (start != NULL)
                after_claim(ring, *start, at.index, at);
        if (ring->geometry.cell_stride == 0) {
                uint64_t ticket;
                memcpy(&ticket, data, sizeof ticket);
                store_relaxed(&slot->body, ticket);
        } else {
                store_relaxed(&slot->body, body_word((struct body){ .size = size }));
#ifdef BROOD_FAULT_PUBLISH_EARLY
                store_release(&slot->state, state_make(at.lap, FULL, OWNER_NONE));
#endif
                copy_short(slot_cell(ring, slot, at), data, size);
        }
        store_release(&slot->state, state_make(at.lap, FULL, OWNER_NONE)); /* R1: pairs with A1 in get_at */
        return true;
}

/* The usual case: the slot at the hint is empty, and the message fits into its cell. */
static inline bool put_fast(struct ring *ring, uint32_t owner, const void *data, size_t size)
{
        uint64_t start = load_relaxed(&ring->shared->tail);
        struct position at = position_of(start);
        int why;

        if (size > ring->geometry.inline_room || is_closed(ring) || at.index >= ring->geometry.slots)
                return false;
        struct ring_slot *slot = slot_find(ring, at, &why);
        return slot != NULL && put_at(ring, owner, slot, at, &start, data, size);
}

/* Put RUN messages at a position and behind it with one claim, if these places are empty and in one lap, and the messages
 * fit into their cells.  While the first place was empty, nobody had passed it, so nobody can have claimed the others; once
 * it is claimed, everybody passes all of them.  They are published before the first one, whose store publishes the run. */
static bool put_eight(struct ring *ring, uint32_t owner, struct ring_slot *slot, struct position at,
                      const struct iovec *messages, size_t room)
{
        uint64_t empty = state_make(at.lap, EMPTY, OWNER_NONE), full = state_make(at.lap, FULL, OWNER_NONE);
        unsigned char *cell = slot_cell(ring, slot, at);

        for (uint32_t i = 0; i < RUN; i++)
                if (messages[i].iov_len > room || load_acquire(&slot[i].state) != empty) /* A2 */
                        return false;
        if (!cas_u64(&slot->state, empty, state_make(at.lap, WRITING_RUN, CLAIM_OWNER(owner))))
                return false;
        for (uint32_t i = 0; i < RUN; i++, cell += ring->geometry.cell_stride) {
                store_relaxed(&slot[i].body, body_word((struct body){ .size = messages[i].iov_len }));
                copy_short(cell, messages[i].iov_base, messages[i].iov_len);
                if (i > 0)
                        store_release(&slot[i].state, full);
        }
        store_release(&slot->state, full); /* R1: pairs with A1 in get_eight */
        return true;
}

/* The same with several, up to the end of the lap: how many. */
static size_t put_run(struct ring *ring, uint32_t owner, const struct iovec *messages, size_t count)
{
        uint64_t start = load_relaxed(&ring->shared->tail);
        size_t room = ring->geometry.inline_room < ring->geometry.message_size ? ring->geometry.inline_room
                                                                               : ring->geometry.message_size;
        struct position at = position_of(start);
        size_t i = 0;
        int why;

        if (is_closed(ring) || at.index >= ring->geometry.slots)
                return 0;
        struct ring_slot *slot = slot_find(ring, at, &why);
        if (slot == NULL)
                return 0;
        uint32_t from = at.index;
        if (count > ring->geometry.slots - from)
                count = ring->geometry.slots - from;
        prefetch_places(ring, slot, at, count, true);
        while (count - i >= RUN && put_eight(ring, owner, slot, at, &messages[i], room)) {
                i += RUN;
                slot += RUN;
                at.index += RUN;
        }
        while (i < count && messages[i].iov_len <= room &&
               put_at(ring, owner, slot, at, NULL, messages[i].iov_base, messages[i].iov_len)) {
                i++;
                slot++;
                at.index++;
        }
        if (i > 0) {
                at.index--;
                after_claim(ring, start, from, at);
        }
        return i;
}

/* A claim is given up: whoever waits behind it goes on. */
static void cancel(struct ring *ring, struct ring_slot *slot, struct position at)
{
        store_release(&slot->state, state_make(at.lap + 1, EMPTY, OWNER_NONE));
        positions_skipped(ring, 1);
}

/* A place was claimed for a message that needs a buffer. */
static enum look take_buffer(struct ring *ring, struct sight *sight)
{
        int r = spill_take(&ring->spill, &sight->spare, spill_holder_position(sight->at));

        if (r == 0)
                return LOOK_DONE;
        cancel(ring, sight->slot, sight->at);
        sight->slot = NULL;
        sight->error = r;
        return r == -EAGAIN ? LOOK_NOTHING : LOOK_FAILED;
}

static enum look look_for_place(struct ring *ring, size_t size, uint32_t owner, struct sight *sight)
{
        struct ring_shared *shared = ring->shared;
        uint64_t start = load_relaxed(&shared->tail);
        struct position at = position_of(start);
        int why;

        sight->slot = NULL;
        if (at.index >= ring->geometry.slots)
                return LOOK_DAMAGED;
        if (load_seq_cst(&shared->control) & CONTROL_CLOSED)
                return LOOK_CLOSED;
        sight->spare = (struct body){ .size = size };
        if (size > ring->geometry.inline_room) {
                sight->error = spill_find(&ring->spill, size, &sight->spare);
                if (sight->error < 0)
                        return sight->error == -EAGAIN ? LOOK_NOTHING : LOOK_FAILED;
        }
        /* Each step passes a slot that others have claimed; one that sees more of them than there are is being overtaken, and
         * starts again from the hint. */
        for (uint64_t steps = 0; steps <= walk_limit(ring); steps++) {
                struct ring_slot *slot = slot_find(ring, at, &why);

                if (slot == NULL) {
                        if (why == BLOCK_PAST && skip_past(ring, &at))
                                continue;
                        if (why != BLOCK_FUTURE)
                                return why == BLOCK_PAST ? LOOK_BUSY : LOOK_DAMAGED;
                        sight->error = blocks_map(&ring->blocks, at.lap);
                        if (sight->error < 0)
                                return sight->error == -EAGAIN ? LOOK_NOTHING : LOOK_FAILED;
                        continue;
                }
                uint64_t state = load_acquire(&slot->state); /* A2 */
                int64_t ahead = laps_ahead(state_lap(state), at.lap);

                sight->at = at;
                sight->state = state;
                sight->slot = slot;
                if (ahead < 0) {
                        if (!ring->geometry.bounded) {
                                if (skip_past(ring, &at))
                                        continue;
                                return LOOK_DAMAGED;
                        }
                        /* The lap before is not done with this slot. */
                        hint_advance(&shared->tail, start, at);
                        if (state_kind(state) != FULL)
                                return LOOK_BUSY;
                        raise_high_water(ring, ring->geometry.slots);
                        return LOOK_NOTHING;
                }
                if (ahead == 0 && state_kind(state) == CLOSED)
                        return LOOK_CLOSED;
                if (ahead == 0 && state_kind(state) == EMPTY) {
                        uint64_t mine = state_make(at.lap, WRITING, CLAIM_OWNER(owner));
                        if (!cas_u64(&slot->state, state, mine))
                                continue; /* another has claimed it */
                        after_claim(ring, start, at.index, at);
                        sight->state = mine;
                        return sight->spare.class == 0 ? LOOK_DONE : take_buffer(ring, sight);
                }
                /* Claimed already.  A slot that is laps ahead was claimed in the lap before its own (I3). */
                if (ahead > 1 && ring->geometry.bounded)
                        at.lap = (state_lap(state) - 1) & LAP_MASK;
                else if (ahead > 1)
                        at.index = ring->geometry.slots - 1;
                at = ahead == 0 ? position_behind(ring, at, state) : position_next(ring, at);
        }
        hint_advance(&shared->tail, start, at);
        return LOOK_BUSY;
}

/* In a putter's way is a message, or the claim of a getter or a putter of the lap before. */
static enum look settle_place(struct ring *ring, const struct sight *sight)
{
        enum kind kind = state_kind(sight->state);

        if (sight->slot == NULL)
                return LOOK_NOTHING;
        if (!is_writing(kind) && !is_reading(kind))
                return kind == FULL ? LOOK_NOTHING : LOOK_BUSY;
        if (!time_to_ask(sight))
                return LOOK_BUSY;
        /* The claim in the way is that of the lap before. */
        struct position at = { .lap = state_lap(sight->state), .index = sight->at.index };
        return repair_if_dead(ring, at, sight->slot, sight->state) ? LOOK_DONE : LOOK_BUSY;
}

static bool more_places(struct ring *ring, const struct sight *sight)
{
        struct position at = sight->at;

        if (!ring->geometry.bounded)
                return true;
        for (uint32_t i = 0; i < ring->geometry.slots; i++) {
                at = position_next(ring, at);
                uint64_t state = load_seq_cst(&ring->slots[at.index].state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);
                if (ahead == 0 && state_places(state) > 1)
                        return true; /* whoever owns that batch wakes the next */
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
        .turn = PUTTING,
};

/* For messages that need a buffer. */
static const struct side spill_side = {
        .look = look_for_place,
        .settle = settle_place,
        .more = more_places,
        .word = offsetof(struct ring_shared, spillers),
        .turn = PUTTING,
};

static int wait_for_place(struct ring *ring, size_t size, uint32_t owner, struct sight *sight, int64_t deadline)
{
        if (size <= ring->geometry.inline_room)
                return ring_wait(ring, &put_side, size, owner, sight, deadline);
        set_bits_u32(&ring->shared->control, CONTROL_SPILLED);
        return ring_wait(ring, &spill_side, size, owner, sight, deadline);
}

int ring_reserve(struct ring *ring, struct ring_place *ret_place, size_t size, int64_t deadline)
{
        struct sight sight = { .slot = NULL };
        uint32_t owner;
        int r = ring_own(ring, &owner);

        if (r < 0)
                return r;
        enum look seen = look_for_place(ring, size, owner, &sight);
        r = look_is_final(seen) ? look_error(seen, &sight) : wait_for_place(ring, size, owner, &sight, deadline);
        if (r < 0)
                return r;
        *ret_place = (struct ring_place){
                .at = sight.at,
                .slot = sight.slot,
                .body = sight.spare,
                .bytes = slot_bytes(ring, sight.slot, sight.at, sight.spare),
        };
        return 0;
}

void ring_commit(struct ring *ring, const struct ring_place *place, size_t size)
{
        struct body body = place->body;

        body.size = size;
        if (ring->geometry.cell_stride != 0)
                store_relaxed(&place->slot->body, body_word(body));
        store_release(&place->slot->state, state_make(place->at.lap, FULL, OWNER_NONE)); /* R1 */
        announce(ring, true);
}

void ring_cancel(struct ring *ring, const struct ring_place *place)
{
        cancel(ring, place->slot, place->at);
}

static int put_slow(struct ring *ring, const void *data, size_t size, int64_t deadline)
{
        struct ring_place place;

        ring_enter(ring);
        int r = ring_reserve(ring, &place, size, deadline);
        if (r == 0) {
                if (size > 0)
                        memcpy(place.bytes, data, size);
                ring_commit(ring, &place, size);
        }
        ring_leave(ring);
        return r;
}

int ring_put(struct ring *ring, const void *data, size_t size, int timeout_ms)
{
        uint32_t owner;
        int r = ring_own(ring, &owner);

        if (r < 0)
                return r;
        if (__builtin_expect(!put_fast(ring, owner, data, size), 0))
                return put_slow(ring, data, size,
                                deadline_after_ms(timeout_ms)); /* the clock is read only if there is a wait */
        announce(ring, true);
        return 0;
}

ssize_t ring_put_many(struct ring *ring, const struct iovec *messages, size_t count, int timeout_ms)
{
        int64_t deadline = 0;
        bool timed = false;
        uint32_t owner;
        size_t i = 0;
        int r = ring_own(ring, &owner);

        if (r < 0)
                return r;
        while (i < count) {
                size_t before = i;

                i += put_run(ring, owner, &messages[i], count - i);
                if (i > before)
                        announce(ring, true);
                if (i == count)
                        break;
                if (i > before)
                        continue; /* the end of a lap, or of the room: a try that puts nothing tells */
                if (!timed) {
                        ring_enter(ring); /* from here on it may wait */
                        deadline = deadline_after_ms(timeout_ms);
                        timed = true;
                }
                r = messages[i].iov_len > ring->geometry.message_size
                        ? -EMSGSIZE
                        : put_slow(ring, messages[i].iov_base, messages[i].iov_len, deadline);
                if (r < 0)
                        break;
                i++;
        }
        if (timed)
                ring_leave(ring);
        return i > 0 ? (ssize_t)i : r;
}
