/* SPDX-License-Identifier: MIT
 *
 * queue/ring.c: see ring.h and doc/design/queue.md.  This file has what both sides need: making, owners, announcing, walks,
 * repair, questions; put.c and get.c have the two sides, wait.c what a call does when there is nothing for it.
 *
 * The slot protocol with a ticket a slot descends from Dmitry Vyukov's bounded MPMC queue; what is added is the owner in
 * the word, so that a claim can be attributed, and with it that the indices need not be exact: they are hints.
 */
#include "queue/ring.h"
#include "os/fence.h"
#include "queue/bell.h"
#include "queue/inside.h"

#include <errno.h>

enum { KEEP_BLOCKS = 8 }; /* what stays when memory is given back... */
static const size_t KEEP_BYTES = (size_t)256 << 10;

/* ---- making, owners ---- */

static void plan(struct ring_geometry *g, size_t maxsize, size_t message_size, uint32_t cell_stride)
{
        *g = (struct ring_geometry){
                .slots = maxsize == 0 ? BLOCK_SLOTS : (uint32_t)maxsize,
                .bounded = maxsize != 0,
                .message_size = message_size,
                .cell_stride = cell_stride,
                .inline_room = cell_stride == 0 ? sizeof(uint64_t) : cell_stride,
        };
        g->cells_at = round_up(g->slots * sizeof(struct ring_slot), 64);
        g->block_size = g->cells_at + round_up((size_t)g->slots * cell_stride, 64);
        if (!g->bounded)
                g->block_size = round_up(g->block_size, 4096);
}

void ring_plan(struct ring_geometry *geometry, size_t maxsize, size_t message_size)
{
        plan(geometry, maxsize, message_size, message_size <= 16 ? 16 : message_size <= 64 ? 64 : 128);
}

void ring_plan_tickets(struct ring_geometry *geometry, size_t maxsize)
{
        plan(geometry, maxsize, sizeof(uint64_t), 0);
}

/* What holds a buffer: a position whose slot is still in its lap, or a lease that is not over. */
static bool holder_holds(void *context, uint64_t holder)
{
        const struct ring *ring = context;
        uint32_t entry, generation;
        int why;

        if (spill_holder_is_lease(holder, &entry, &generation))
                return ring->leases.shared != NULL && leases_holds(&ring->leases, entry, generation);
        struct position at = spill_holder_at(holder);
        /* To look into a block whose memory was given back would give it memory again. */
        if (at.index >= ring->geometry.slots ||
            (!ring->geometry.bounded && laps_ahead(position_first(ring).lap, at.lap) > 0))
                return false;
        struct ring_slot *slot = slot_find(ring, at, &why);
        return slot != NULL && laps_ahead(state_lap(load_acquire(&slot->state)), at.lap) == 0;
}

void ring_attach(struct ring *ring, const struct ring_geometry *geometry, const struct region *region,
                 size_t shared_offset, size_t owners_offset, size_t slots_offset)
{
        *ring = (struct ring){
                .geometry = *geometry,
                .region = region,
                .shared = region_at(region, shared_offset),
                .owners = region_at(region, owners_offset),
                .slots = region_at(region, slots_offset),
                .bell_fd = -1,
        };
        ring->spill = (struct spill){
                .region = region,
                .owners = ring->owners,
                .held = holder_holds,
                .context = ring,
        };
        ring->leases.ring = ring;
        spin_init(&ring->spin);
        for (int side = 0; side < SIDES; side++)
                turn_init(&ring->turns[side]);
}

/* Free the numbers of all owners that are dead. */
static void recover_all(struct ring *ring)
{
        uint32_t owner;

        for (uint32_t at = 0; (owner = owners_next(ring->owners, &at)) != OWNER_NONE;)
                if (!owners_alive(ring->owners, owner))
                        ring_recover(ring, owner);
}

int ring_own_slow(struct ring *ring)
{
        int r = process_mark_init();

        if (r < 0)
                return r;
        r = process_lock();
        if (r < 0)
                return r;
        if (load_relaxed(&ring->mark) != process_mark()) {
                struct identity self = ring->watched ? identity_self_watched() : identity_self();
                uint32_t owner = owners_register(ring->owners, self);
                if (owner == OWNER_NONE) {
                        recover_all(ring);
                        owner = owners_register(ring->owners, self);
                }
                if (owner != OWNER_NONE) {
                        ring->owner = owner;
                        /* What a forked child inherits of these is about its parent. */
                        store_relaxed(&ring->inside, 0);
                        store_relaxed(&ring->holding, 0);
                        store_relaxed(&ring->fence_self, !fence_register());
                        store_release(&ring->mark, process_mark()); /* R6: pairs with A6 in ring_own */
                } else {
                        r = -EUSERS;
                }
        }
        process_unlock();
        return r;
}

int ring_register(struct ring *ring, uint32_t *ret_owner)
{
        return ring_own(ring, ret_owner);
}

uint32_t ring_owner_now(struct ring *ring)
{
        return is_registered(ring) ? ring->owner : OWNER_NONE;
}

void ring_detach(struct ring *ring)
{
        if (is_registered(ring)) {
                ring_cancel_waits(ring);
                if (load_relaxed(&ring->holding) > 0)
                        ring_recover(ring, ring->owner);
                else
                        owners_release(ring->owners, ring->owner);
        }
        store_relaxed(&ring->mark, 0);
}
bool ring_body_valid(const struct ring *ring, struct body body)
{
        return body.class == 0 ? body.size <= ring->geometry.inline_room : spill_valid(&ring->spill, body);
}

/* ---- announcing ---- */

void ring_announce_slow(struct ring *ring, uint32_t control, bool message)
{
        fence_full();
        if (message && control & CONTROL_POLLED)
                bell_ring(ring);
        /* Who needs a buffer waits apart: woken for a place he would not pass the wake-up on to who needs no more than that. */
        if (!message && control & CONTROL_SPILLED && waitword_has_sleepers(&ring->shared->spillers))
                waitword_wake_all(&ring->shared->spillers);
        if (!message && control & CONTROL_JOINED && waitword_has_sleepers(&ring->shared->joiners))
                waitword_wake_all(&ring->shared->joiners);
}

/* Whoever is woken for one message looks for more in the ring's order, and not at what comes back behind it; and its waker has
 * taken SLEEPERS away from the others.  So all who sleep are woken, also if only MANY says that there are some. */
void ring_announce_return(struct ring *ring)
{
        fence_before_look(ring);
        uint32_t control = load_relaxed(&ring->shared->control);
        if (control & ~(uint32_t)CONTROL_CLOSED)
                ring_announce_slow(ring, control, true);
        if (waitword_may_sleep(&ring->shared->getters))
                waitword_wake_all(&ring->shared->getters);
}

void ring_announce_place(struct ring *ring)
{
        announce(ring, false);
}

void ring_call(struct ring *ring)
{
        announce(ring, true);
}

void ring_wake_all(struct ring *ring)
{
        waitword_wake_all(&ring->shared->getters);
        waitword_wake_all(&ring->shared->putters);
        waitword_wake_all(&ring->shared->spillers);
        waitword_wake_all(&ring->shared->joiners);
}

void ring_count_repair(struct ring *ring)
{
        fetch_add_relaxed(&ring->shared->repairs, 1);
}
/* ---- repair ---- */

void positions_skipped(struct ring *ring, uint32_t places)
{
        fetch_add_relaxed(&ring->shared->skipped, places);
        waitword_wake_all(&ring->shared->getters);
        ring_announce_place(ring);
}

/* A message came back at a position that getters may have passed.  If the head is not set back, because we die here or
 * another sets it forth, the next getter that finds nothing finds it by find_strays(). */
void message_came_back(struct ring *ring, struct position at)
{
        struct position head = position_of(load_relaxed(&ring->shared->head));
        int64_t past = laps_ahead(head.lap, at.lap);

        /* Only back: of several that came back, the oldest is to be first. */
        if (past > 0 || (past == 0 && head.index > at.index))
                store_relaxed(&ring->shared->head, position_word(at));
        ring_announce_return(ring);
}

/* The places of a run but the first, whose owner is dead; the first one comes last, so that a repairer who dies here is
 * followed by another.  Nobody else changes them while the first one says that they are part of a run:
 *
 *     we: read the first word               its owner: publishes, or frees; dies
 *     we: prove the death
 *
 * is why the first word must be read once more behind the proof. */
static bool repair_others(struct ring_slot *slot, uint64_t state)
{
        uint64_t lap = state_lap(state), full = state_make(lap, FULL, OWNER_NONE);

        if (load_acquire(&slot->state) != state)
                return false;
        /* From the last to the first: a putter far behind, which sees a slot in the next lap, goes on behind it in this one
         * (I3), and must
         * not find an empty one there. */
        for (uint32_t i = RUN - 1; i > 0; i--) {
                uint64_t seen = load_acquire(&slot[i].state);

                if (state_kind(state) == READING_RUN) {
                        if (seen == full)
                                cas_u64(&slot[i].state, seen, state_make(lap, FULL, CAME_BACK));
                } else if (seen == full || seen == state_make(lap, EMPTY, OWNER_NONE)) {
                        cas_u64(&slot[i].state, seen, state_make(lap + 1, EMPTY, OWNER_NONE));
                }
        }
        return true;
}

/* A slot was found in `state`, claimed, and its owner is dead: undo the claim, unless another has done so. */
static void repair(struct ring *ring, struct position at, struct ring_slot *slot, uint64_t state)
{
        uint64_t lap = state_lap(state);
        uint32_t places = state_places(state);

        if (places > 1 && (at.index + places > ring->geometry.slots || !repair_others(slot, state)))
                return;
        if (is_writing(state_kind(state))) {
                /* The message was never there. */
                if (cas_u64(&slot->state, state, state_make(lap + 1, EMPTY, OWNER_NONE))) {
                        ring_count_repair(ring);
                        positions_skipped(ring, places);
                }
                return;
        }
        /* The dead getter had not returned: the message is there as before, unless the dead had moved it to a lease. */
        if (ring->leases.shared != NULL && leases_settle_slot(&ring->leases, state_owner(state), at))
                return;
        if (cas_u64(&slot->state, state, state_make(lap, FULL, CAME_BACK))) {
                ring_count_repair(ring);
                message_came_back(ring, at);
        }
}

bool repair_if_dead(struct ring *ring, struct position at, struct ring_slot *slot, uint64_t state)
{
        uint32_t owner = state_owner(state);

#ifdef BROOD_FAULT_NO_OWNER
        if (owner == OWNER_NONE)
                return false;
#endif
        if (owner == ring->owner || owners_alive(ring->owners, owner))
                return false;
        repair(ring, at, slot, state);
        return true;
}

bool walk_begin(struct ring *ring, struct walk *walk)
{
        walk->at = position_of(load_relaxed(&ring->shared->settled));
        walk->steps = 0;
        if (!ring->geometry.bounded)
                skip_past(ring, &walk->at);
        return walk->at.index < ring->geometry.slots;
}

bool walk_on(struct ring *ring, struct walk *walk)
{
        int why;

        while (walk->steps++ <= whole_limit(ring)) {
                walk->slot = slot_find(ring, walk->at, &why);
                if (walk->slot == NULL) {
                        if (why == BLOCK_PAST && skip_past(ring, &walk->at))
                                continue;
                        return false;
                }
                walk->state = load_acquire(&walk->slot->state);
                int64_t ahead = laps_ahead(state_lap(walk->state), walk->at.lap);
                enum kind kind = state_kind(walk->state);
                if (ahead < 0 && !ring->geometry.bounded && skip_past(ring, &walk->at))
                        continue;
                if (ahead < 0 || (ahead == 0 && (kind == EMPTY || kind == CLOSED)))
                        return false;
                if (ahead == 0)
                        return true;
                walk->at = position_after(ring, walk->at, walk->state);
        }
        return false;
}

void walk_next(struct ring *ring, struct walk *walk)
{
        walk->at = position_behind(ring, walk->at, walk->state);
}

void ring_recover(struct ring *ring, uint32_t owner)
{
        struct walk walk;

        /* All claims lie between the last settled position and the first one that nobody has claimed yet. */
        for (bool there = walk_begin(ring, &walk); there && walk_on(ring, &walk); walk_next(ring, &walk)) {
                enum kind kind = state_kind(walk.state);
                if ((is_writing(kind) || is_reading(kind)) && state_owner(walk.state) == owner)
                        repair(ring, walk.at, walk.slot, walk.state);
        }
        if (ring->leases.shared != NULL)
                leases_recover(&ring->leases, owner);
        owners_release(ring->owners, owner);
}
/* ---- for leases ---- */

const void *ring_copy_cell(struct ring *ring, struct position at, struct body body, void *cell)
{
        int why;
        struct ring_slot *slot = slot_find(ring, at, &why);

        if (body.class == 0 && slot != NULL && body.size <= ring->geometry.inline_room)
                copy_short(cell, slot_cell(ring, slot, at), body.size);
        return ring_body_bytes(ring, body, cell);
}

void ring_pass_body(struct ring *ring, struct position at, struct body body, uint32_t entry, uint32_t generation)
{
        if (body.class != 0 && spill_valid(&ring->spill, body))
                spill_pass(&ring->spill, body, spill_holder_position(at), spill_holder_lease(entry, generation));
}

void ring_free_moved(struct ring *ring, struct position at, uint32_t owner)
{
        int why;
        struct ring_slot *slot = at.index < ring->geometry.slots ? slot_find(ring, at, &why) : NULL;

        if (slot != NULL &&
            cas_u64(&slot->state, state_make(at.lap, READING, owner), state_make(at.lap + 1, EMPTY, OWNER_NONE)))
                ring_announce_place(ring);
}
/* ---- the rest ---- */

void ring_close(struct ring *ring)
{
        set_bits_u32(&ring->shared->control, CONTROL_CLOSED);
        if (load_seq_cst(&ring->shared->control) & CONTROL_POLLED)
                bell_ring(ring);
        ring_wake_all(ring);
}

ssize_t ring_count(struct ring *ring, size_t most)
{
        size_t count = 0;
        struct walk walk;

        if (position_of(load_relaxed(&ring->shared->head)).index >= ring->geometry.slots || !walk_begin(ring, &walk))
                return -EUCLEAN;
        while (count < most && walk_on(ring, &walk)) {
                count += state_kind(walk.state) == FULL;
                walk_next(ring, &walk);
        }
        if (count < most && ring->leases.shared != NULL)
                count += leases_count(&ring->leases, OWNER_NONE).ready;
        return (ssize_t)count;
}

int ring_take_census(struct ring *ring, struct ring_census *ret_census)
{
        struct ring_census census = { 0 };
        struct walk walk;

        if (position_of(load_relaxed(&ring->shared->head)).index >= ring->geometry.slots || !walk_begin(ring, &walk))
                return -EUCLEAN;
        for (; walk_on(ring, &walk); walk_next(ring, &walk)) {
                enum kind kind = state_kind(walk.state);
                uint32_t places = state_places(walk.state);
                census.full += kind == FULL;
                census.writing += is_writing(kind) ? places : 0;
                census.reading += is_reading(kind) ? places : 0;
        }
        *ret_census = census;
        return 0;
}

int ring_is_done(struct ring *ring)
{
        struct walk walk;

        if (!walk_begin(ring, &walk))
                return -EUCLEAN;
        for (; walk_on(ring, &walk); walk_next(ring, &walk)) {
                if (is_reading(state_kind(walk.state)) && repair_if_dead(ring, walk.at, walk.slot, walk.state))
                        return 0;
                if (!is_writing(state_kind(walk.state)))
                        return 0;
        }
        /* A message is in an entry before it has left the ring, so none can have slipped by. */
        if (ring->leases.shared == NULL)
                return 1;
        struct leases_count count = leases_count(&ring->leases, OWNER_NONE);
        return count.ready + count.own + count.others == 0;
}

int ring_is_full(struct ring *ring)
{
        struct position at = position_of(load_relaxed(&ring->shared->tail));

        if (at.index >= ring->geometry.slots)
                return -EUCLEAN;
        if (!ring->geometry.bounded)
                return laps_ahead(at.lap, position_first(ring).lap) >= BLOCKS_MOST;
        for (uint64_t steps = 0; steps <= walk_limit(ring); steps++) {
                uint64_t state = load_acquire(&ring->slots[at.index].state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);

                if (ahead < 0)
                        return 1;
                if (ahead == 0 && (state_kind(state) == EMPTY || state_kind(state) == CLOSED))
                        return 0;
                if (ahead > 1)
                        at.lap = (state_lap(state) - 1) & LAP_MASK;
                at = ahead == 0 ? position_behind(ring, at, state) : position_next(ring, at);
        }
        return 0;
}

uint64_t ring_claimed(struct ring *ring)
{
        struct position at = position_of(load_relaxed(&ring->shared->tail));
        uint64_t before =
            ring->geometry.bounded ? 0 : ring->geometry.slots; /* laps of a ring without a bound begin with 1 */
        int why;

        if (at.index >= ring->geometry.slots)
                return 0;
        for (uint64_t steps = 0; steps <= walk_limit(ring); steps++) {
                struct ring_slot *slot = slot_find(ring, at, &why);
                if (slot == NULL)
                        break;
                uint64_t state = load_acquire(&slot->state);
                int64_t ahead = laps_ahead(state_lap(state), at.lap);
                if (ahead < 0 || (ahead == 0 && (state_kind(state) == EMPTY || state_kind(state) == CLOSED)))
                        break;
                at = ahead == 0 ? position_behind(ring, at, state) : position_next(ring, at);
        }
        uint64_t count = position_count(ring, at);
        return count > before ? count - before : 0;
}

void ring_trim_blocks(struct ring *ring)
{
        uint32_t owner;

        if (ring->geometry.bounded || ring_own(ring, &owner) < 0)
                return;
        blocks_retire(&ring->blocks);
        blocks_trim(&ring->blocks, owner, KEEP_BLOCKS);
}

void ring_trim_buffers(struct ring *ring)
{
        uint32_t owner;

        if (ring->spill.geometry.classes > 0 && ring_own(ring, &owner) == 0)
                spill_trim(&ring->spill, owner, KEEP_BYTES);
}

void ring_trim(struct ring *ring)
{
        ring_trim_blocks(ring);
        ring_trim_buffers(ring);
}
