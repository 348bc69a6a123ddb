/* SPDX-License-Identifier: MIT
 *
 * queue/get.c: the getting side of the ring; see ring.h and doc/design/queue.md.
 */
#include "os/clock.h"
#include "queue/bell.h"
#include "queue/inside.h"

#include <errno.h>

enum {
        MANY_BLOCKS = 1024, /* so much must have been freed before it is given back while the queue is in use... */
        LOOK_FOR_DEAD =
            16, /* how many samples, or vain looks of a process that may not wait, between two for dead leases */
};
static const size_t MANY_BYTES = (size_t)64 << 20;

/* A message is gone, and its place is free. */
static inline void free_slot(struct ring_slot *slot, struct position at)
{
        store_release(&slot->state,
                      state_make(at.lap + 1, EMPTY, OWNER_NONE)); /* R2: pairs with A2 in look_for_place */
}

/* Every so many messages: look after what nobody looks after while all is well. */
static void __attribute__((noinline)) after_some_takes(struct ring *ring, uint32_t count, bool new_lap)
{
        turn_count(&ring->turns[GETTING], count);
        if (ring->leases.shared != NULL && load_relaxed(&ring->leases.shared->high) > 0 &&
            fetch_add_relaxed(&ring->leases.calls, 1) % LOOK_FOR_DEAD == 0)
                leases_recover(&ring->leases, OWNER_NONE);
        if (ring->geometry.bounded || !new_lap)
                return;
        blocks_retire(&ring->blocks);
        set_bits_u32(&ring->shared->litter, 1);
        if (load_relaxed(&ring->blocks.retired) >= MANY_BLOCKS && ring_count(ring, BLOCK_SLOTS) < BLOCK_SLOTS)
                ring_trim_blocks(ring);
}

/* The messages from place `from` to `last`, of one lap, have been claimed. */
static inline void after_take(struct ring *ring, uint64_t start, uint32_t from, struct position last)
{
        hint_advance(&ring->shared->head, start, position_next(ring, last));
        uint32_t count = samples(from, last.index);
        if (__builtin_expect(count > 0, 0))
                after_some_takes(ring, count, from == 0);
}

void ring_freed(struct ring *ring, struct body body)
{
        if (body.class != 0 && spill_valid(&ring->spill, body)) {
                spill_freed(&ring->spill, body);
                set_bits_u32(&ring->shared->litter, 1);
                if (load_relaxed(&ring->spill.released) >= MANY_BYTES && spill_used(&ring->spill) >= MANY_BYTES &&
                    ring_count(ring, 1) == 0)
                        ring_trim_buffers(ring);
        }
        announce(ring, false);
}

/* Take the message at a position, if it is there, in its cell, and fits: its size, or -EAGAIN: nothing is done.  `start` as
 * for put_at. */
static inline ssize_t get_at(struct ring *ring, uint32_t owner, struct ring_slot *slot, struct position at,
                             const uint64_t *start, void *buf, size_t room)
{
        uint64_t full = state_make(at.lap, FULL, OWNER_NONE);

        if (load_acquire(&slot->state) != full) /* A1: pairs with R1 in put_at */
                return -EAGAIN;
        struct body body = slot_body(ring, slot);
        if (body.class != 0 || body.size > room || body.size > ring->geometry.inline_room)
                return -EAGAIN;
        if (!cas_u64(&slot->state, full, state_make(at.lap, READING, owner)))
                return -EAGAIN;
        if (start != NULL)
                after_take(ring, *start, at.index, at);
        copy_short(buf, slot_bytes(ring, slot, at, body), body.size);
        free_slot(slot, at);
        return (ssize_t)body.size;
}

/* The slot that the hint names, if it is the usual case: nothing has come back. */
static inline struct ring_slot *get_hint(struct ring *ring, uint64_t *ret_start, struct position *ret_at)
{
        int why;

        *ret_start = load_relaxed(&ring->shared->head);
        *ret_at = position_of(*ret_start);
        if (ret_at->index >= ring->geometry.slots ||
            (ring->leases.shared != NULL && load_relaxed(&ring->leases.shared->returned)))
                return NULL;
        return slot_find(ring, *ret_at, &why);
}

static inline ssize_t get_fast(struct ring *ring, uint32_t owner, void *buf, size_t room)
{
        struct position at;
        uint64_t start;
        struct ring_slot *slot = get_hint(ring, &start, &at);

        return slot == NULL ? -EAGAIN : get_at(ring, owner, slot, at, &start, buf, room);
}

/* Take RUN messages from a position on with one claim, if they are there, in one lap, in their cells, and fit.  The first
 * one has not come back, so nobody has passed it, and nobody can have claimed the others; once it is claimed, everybody
 * passes all of them.  They are freed before the first one. */
static bool get_eight(struct ring *ring, uint32_t owner, struct ring_slot *slot, struct position at,
                      struct iovec *messages)
{
        uint64_t full = state_make(at.lap, FULL, OWNER_NONE);
        const unsigned char *cell = slot_cell(ring, slot, at);
        struct body body[RUN];

        for (uint32_t i = 0; i < RUN; i++) {
                if (load_acquire(&slot[i].state) != full) /* A1: pairs with R1 in put_eight */
                        return false;
                body[i] = body_of(load_relaxed(&slot[i].body));
                if (body[i].class != 0 || body[i].size > messages[i].iov_len ||
                    body[i].size > ring->geometry.inline_room)
                        return false;
        }
        if (!cas_u64(&slot->state, full, state_make(at.lap, READING_RUN, owner)))
                return false;
        for (uint32_t i = 0; i < RUN; i++, cell += ring->geometry.cell_stride, at.index++) {
                copy_short(messages[i].iov_base, cell, body[i].size);
                messages[i].iov_len = body[i].size;
                if (i > 0)
                        free_slot(&slot[i], at);
        }
        free_slot(slot, at);
        return true;
}

/* The same with several, up to the end of the lap: how many. */
static size_t get_run(struct ring *ring, uint32_t owner, struct iovec *messages, size_t count)
{
        struct position at;
        uint64_t start;
        struct ring_slot *slot = get_hint(ring, &start, &at);
        size_t i = 0;
        ssize_t n;

        if (slot == NULL)
                return 0;
        uint32_t from = at.index;
        if (count > ring->geometry.slots - from)
                count = ring->geometry.slots - from;
        prefetch_places(ring, slot, at, count, false);
        while (count - i >= RUN && get_eight(ring, owner, slot, at, &messages[i])) {
                i += RUN;
                slot += RUN;
                at.index += RUN;
        }
        while (i < count && (n = get_at(ring, owner, slot, at, NULL, messages[i].iov_base, messages[i].iov_len)) >= 0) {
                messages[i++].iov_len = (size_t)n;
                slot++;
                at.index++;
        }
        if (i > 0) {
                at.index--;
                after_take(ring, start, from, at);
        }
        return i;
}

static enum look look_for_returned(struct ring *ring, size_t room, uint32_t owner, struct sight *sight)
{
        if (sight->only_looks)
                return leases_count(&ring->leases, OWNER_NONE).ready > 0 ? LOOK_DONE : LOOK_NOTHING;
        switch (leases_take(&ring->leases, owner, room, &sight->lease)) {
        case 0:
                sight->leased = true;
                return LOOK_DONE;
        case -EMSGSIZE:
                return LOOK_TOO_LARGE;
        case -EUCLEAN:
                return LOOK_DAMAGED;
        default:
                return LOOK_NOTHING;
        }
}

static enum look look_for_message(struct ring *ring, size_t room, uint32_t owner, struct sight *sight)
{
        struct ring_shared *shared = ring->shared;
        uint64_t start = load_relaxed(&shared->head);
        struct position at = position_of(start);
        int why;

        sight->slot = NULL;
        sight->leased = false;
        if (at.index >= ring->geometry.slots)
                return LOOK_DAMAGED;
        if (ring->leases.shared != NULL && load_acquire(&ring->leases.shared->returned)) {
                enum look seen = look_for_returned(ring, room, owner, sight);
                if (seen != LOOK_NOTHING)
                        return seen;
        }
        for (uint64_t steps = 0; steps <= walk_limit(ring); steps++) {
                struct ring_slot *slot = slot_find(ring, at, &why);

                sight->at = at;
                sight->slot = slot;
                if (slot == NULL) {
                        if (why == BLOCK_PAST && skip_past(ring, &at))
                                continue;
                        hint_advance(&shared->head, start, at);
                        return why == BLOCK_FUTURE ? LOOK_NOTHING : why == BLOCK_PAST ? LOOK_BUSY : LOOK_DAMAGED;
                }
                uint64_t state = load_acquire(&slot->state); /* A1 */
                int64_t ahead = laps_ahead(state_lap(state), at.lap);

                sight->state = state;
                if (ahead < 0 && !ring->geometry.bounded && skip_past(ring, &at))
                        continue;
                if (ahead < 0 || (ahead == 0 && is_writing(state_kind(state)))) {
                        hint_advance(&shared->head, start, at);
                        return LOOK_BUSY;
                }
                if (ahead == 0 && (state_kind(state) == EMPTY || state_kind(state) == CLOSED)) {
                        hint_advance(&shared->head, start, at);
                        return LOOK_NOTHING;
                }
                if (ahead == 0 && state_kind(state) == FULL) {
                        /* Read once: what is checked here must be what is believed later. */
                        uint64_t word = load_relaxed(&slot->body);
                        struct body body =
                            ring->geometry.cell_stride == 0 ? (struct body){ .size = sizeof word } : body_of(word);
                        if (body.size > room || !ring_body_valid(ring, body)) {
                                if (load_seq_cst(&slot->state) != state)
                                        continue; /* another has taken it */
                                return ring_body_valid(ring, body) ? LOOK_TOO_LARGE : LOOK_DAMAGED;
                        }
                        if (sight->only_looks)
                                return LOOK_DONE;
                        uint64_t mine = state_make(at.lap, READING, owner);
                        if (!cas_u64(&slot->state, state, mine))
                                continue;
                        after_take(ring, start, at.index, at);
                        sight->state = mine;
                        sight->body = word;
                        return LOOK_DONE;
                }
                at = position_after(ring, at, state); /* being read by another, or done with */
        }
        hint_advance(&shared->head, start, at);
        return LOOK_BUSY;
}

/* Are there messages behind the head, which getters passed while one that has since died was reading them?  Walk from the
 * last settled position; every position is walked once, as long as nobody dies.  LOOK_DONE: yes, the head is back there.
 * What this process itself is reading is no reason to wait: it cannot die and leave us here. */
static enum look find_strays(struct ring *ring, bool ask)
{
        struct ring_shared *shared = ring->shared;
        uint64_t start = load_relaxed(&shared->settled);
        enum look seen = LOOK_NOTHING;
        bool settled = true;
        struct walk walk;

        if (!walk_begin(ring, &walk))
                return LOOK_DAMAGED;
        while (walk_on(ring, &walk)) {
                if (settled) {
                        hint_advance(&shared->settled, start, walk.at);
                        start = position_word(walk.at);
                }
                enum kind kind = state_kind(walk.state);
                if (kind == FULL) {
                        store_relaxed(&shared->head, position_word(walk.at));
                        return LOOK_DONE;
                }
                if (!is_reading(kind))
                        return seen; /* a putter's claim: what is behind it is not for us yet */
                if (ask && repair_if_dead(ring, walk.at, walk.slot, walk.state))
                        return LOOK_DONE;
                settled = false;
                if (state_owner(walk.state) != ring->owner)
                        seen = LOOK_BUSY;
                walk_next(ring, &walk);
        }
        if (settled)
                hint_advance(&shared->settled, start, walk.at);
        return seen;
}

/* Are there leases of the dead, or some that came back and whose hint was lost with the one who gave them back? */
static enum look find_returned(struct ring *ring, bool patient)
{
        if (ring->leases.shared == NULL || load_relaxed(&ring->leases.shared->high) == 0)
                return LOOK_NOTHING;
        if (patient || fetch_add_relaxed(&ring->leases.calls, 1) % LOOK_FOR_DEAD == 0)
                leases_recover(&ring->leases, OWNER_NONE);
        if (leases_count(&ring->leases, OWNER_NONE).ready == 0)
                return LOOK_NOTHING;
        store_seq_cst(&ring->leases.shared->returned, 1);
        return LOOK_DONE;
}

/* The ring is closed, and nothing is to be had now.  Is that the end?  Not while others hold leases, which may come back; but
 * who holds leases himself does not wait for others, who may be waiting for his. */
static bool may_come_back(struct ring *ring)
{
        if (ring->leases.shared == NULL)
                return false;
        struct leases_count count = leases_count(&ring->leases, ring->owner);
        return count.ready > 0 || (count.others > 0 && count.own == 0);
}

/* In a getter's way is an empty slot, the seal of a closed ring, a putter's claim; or, if the head has gone too far,
 * anything. */
static enum look settle_message(struct ring *ring, const struct sight *sight)
{
        bool in_lap = sight->slot != NULL && state_lap(sight->state) == sight->at.lap;
        enum kind kind = sight->slot == NULL ? EMPTY : state_kind(sight->state);
        bool closed = load_seq_cst(&ring->shared->control) & CONTROL_CLOSED;

        if (in_lap && is_writing(kind) && time_to_ask(sight) &&
            repair_if_dead(ring, sight->at, sight->slot, sight->state))
                return LOOK_DONE;
        enum look seen = find_strays(ring, time_to_ask(sight));
        if (seen == LOOK_DONE || seen == LOOK_DAMAGED)
                return seen;
        if (find_returned(ring, sight->patient) == LOOK_DONE)
                return LOOK_DONE;
        if (seen != LOOK_NOTHING)
                return seen;
        if (sight->slot == NULL) /* the end of the last block: the seal needs a place */
                return closed && blocks_map(&ring->blocks, sight->at.lap) == 0 ? LOOK_DONE : LOOK_NOTHING;
        if (!in_lap || is_writing(kind))
                return LOOK_BUSY;
        if (!closed)
                return LOOK_NOTHING;
        if (may_come_back(ring))
                return LOOK_BUSY;
        if (kind == CLOSED)
                return LOOK_CLOSED;
        /* Closed, and nothing is left or may come back: seal the place at which the next message would be put.  Whoever is
         * about to put one has either claimed the place, and the seal fails, or finds it sealed. */
        if (kind == EMPTY) {
                uint64_t seal = state_make(sight->at.lap, CLOSED, OWNER_NONE);
                return cas_u64(&sight->slot->state, sight->state, seal) ? LOOK_CLOSED : LOOK_DONE;
        }
        return LOOK_NOTHING;
}

static bool more_messages(struct ring *ring, const struct sight *sight)
{
        struct position at = sight->at;
        int why;

        if (sight->leased)
                return true;
        for (uint32_t i = 0; i < ring->geometry.slots; i++) {
                at = position_next(ring, at);
                struct ring_slot *slot = slot_find(ring, at, &why);
                if (slot == NULL)
                        return false;
                uint64_t state = load_seq_cst(&slot->state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);
                if (ahead == 0 && state_places(state) > 1)
                        return state_kind(state) == READING_RUN; /* whoever owns that batch has not looked behind it */
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
        .turn = GETTING,
        .trims = true,
};

/* What a look has claimed. */
static struct ring_claim claim_of(struct ring *ring, const struct sight *sight)
{
        if (sight->leased)
                return (
                    struct ring_claim){ .lease = sight->lease, .bytes = sight->lease.bytes, .size = sight->lease.size };
        struct body body =
            ring->geometry.cell_stride == 0 ? (struct body){ .size = sizeof(uint64_t) } : body_of(sight->body);
        return (struct ring_claim){
                .slot = sight->slot,
                .at = sight->at,
                .bytes = slot_bytes(ring, sight->slot, sight->at, body),
                .size = body.size,
                .body = body_word(body),
        };
}

int ring_claim(struct ring *ring, struct ring_claim *claim, size_t room, int64_t deadline)
{
        struct sight sight = { .slot = NULL };
        uint32_t owner;
        int r = ring_own(ring, &owner);

        if (r < 0)
                return r;
        enum look seen = look_for_message(ring, room, owner, &sight);
        r = look_is_final(seen) ? look_error(seen, &sight) : ring_wait(ring, &get_side, room, owner, &sight, deadline);
        if (r == 0)
                *claim = claim_of(ring, &sight);
        else if ((r == -EAGAIN || r == -ETIMEDOUT) && load_relaxed(&ring->shared->control) & CONTROL_POLLED)
                bell_rest(ring);
        return r;
}

/* What a claim that may not wait would meet.  LOOK_BUSY, too, if there is no end to what is to be set right. */
static enum look look_only(struct ring *ring)
{
        struct sight sight = { .only_looks = true, .patient = true, .slept = true };
        int again = SETTLE_MOST;
        uint32_t owner;
        enum look seen;

        if (ring_own(ring, &owner) < 0)
                return LOOK_FAILED;
        do {
                seen = look_for_message(ring, SIZE_MAX, owner, &sight);
                if (look_is_final(seen))
                        return seen;
                seen = settle_message(ring, &sight);
        } while (seen == LOOK_DONE && again-- > 0);
        return seen == LOOK_DONE ? LOOK_BUSY : seen;
}

bool ring_has_message(struct ring *ring)
{
        return look_only(ring) == LOOK_DONE;
}

bool ring_can_claim(struct ring *ring)
{
        if (look_is_final(look_only(ring)))
                return true;
        if (load_relaxed(&ring->shared->control) & CONTROL_POLLED)
                bell_rest(ring);
        return false;
}

void ring_release(struct ring *ring, const struct ring_claim *claim)
{
        if (claim->slot == NULL) {
                leases_acknowledge(&ring->leases, ring->owner, claim->lease.entry, lease_ticket(&claim->lease));
                return;
        }
        free_slot(claim->slot, claim->at);
        ring_freed(ring, body_of(claim->body));
}

void ring_unclaim(struct ring *ring, const struct ring_claim *claim)
{
        if (claim->slot == NULL) {
                leases_give_back(&ring->leases, ring->owner, claim->lease.entry, lease_ticket(&claim->lease));
                return;
        }
        store_seq_cst(&claim->slot->state, state_make(claim->at.lap, FULL, CAME_BACK));
        message_came_back(ring, claim->at);
}

/* Copy out what was claimed, and be done with it: its size. */
static ssize_t take(struct ring *ring, const struct ring_claim *claim, void *buf)
{
        if (claim->size > 0)
                memcpy(buf, claim->bytes, claim->size);
        ring_release(ring, claim);
        return (ssize_t)claim->size;
}

static ssize_t get_slow(struct ring *ring, void *buf, size_t room, int64_t deadline)
{
        struct ring_claim claim;

        ring_enter(ring);
        ssize_t n = ring_claim(ring, &claim, room, deadline);
        if (n == 0)
                n = take(ring, &claim, buf);
        ring_leave(ring);
        return n;
}

/* One more behind others, if it is there: no call that has something to return looks for what the dead have left. */
static ssize_t get_more(struct ring *ring, uint32_t owner, void *buf, size_t room)
{
        struct sight sight = { .slot = NULL };

        if (look_for_message(ring, room, owner, &sight) != LOOK_DONE)
                return -EAGAIN;
        struct ring_claim claim = claim_of(ring, &sight);
        return take(ring, &claim, buf);
}

ssize_t ring_get(struct ring *ring, void *buf, size_t room, int timeout_ms)
{
        uint32_t owner;
        int r = ring_own(ring, &owner);

        if (r < 0)
                return r;
        ssize_t n = get_fast(ring, owner, buf, room);
        if (__builtin_expect(n < 0, 0))
                return get_slow(ring, buf, room, deadline_after_ms(timeout_ms));
        announce(ring, false);
        return n;
}

ssize_t ring_get_many(struct ring *ring, struct iovec *messages, size_t count, int timeout_ms)
{
        bool entered = false;
        uint32_t owner;
        size_t i = 0;
        ssize_t n = ring_own(ring, &owner);

        if (n < 0)
                return n;
        while (i < count) {
                size_t before = i;

                i += get_run(ring, owner, &messages[i], count - i);
                if (i > before)
                        announce(ring, false);
                if (i == count)
                        break;
                if (i > before)
                        continue; /* the end of a lap, or of what is there: a try that takes nothing tells */
                if (i == 0) {     /* once: it takes one, or the loop ends */
                        ring_enter(ring);
                        entered = true;
                }
                n = i > 0 ? get_more(ring, owner, messages[i].iov_base, messages[i].iov_len)
                          : get_slow(ring, messages[i].iov_base, messages[i].iov_len, deadline_after_ms(timeout_ms));
                if (n < 0)
                        break;
                messages[i++].iov_len = (size_t)n;
        }
        if (entered)
                ring_leave(ring);
        return i > 0 ? (ssize_t)i : n;
}

int ring_find_claim(struct ring *ring, struct position at, enum kind kind, struct ring_slot **ret_slot)
{
        int why;

        if (at.index >= ring->geometry.slots)
                return -EINVAL;
        struct ring_slot *slot = slot_find(ring, at, &why);
        if (slot == NULL)
                return -EINVAL;
        uint64_t state = load_acquire(&slot->state);
        if (state_lap(state) != at.lap || state_kind(state) != kind)
                return -EINVAL;
        if (state_owner(state) != ring_owner_now(ring))
                return -EPERM;
        *ret_slot = slot;
        return 0;
}
