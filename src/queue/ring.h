/* SPDX-License-Identifier: MIT
 *
 * queue/ring.h: the multi-producer multi-consumer ring in shared memory that queues and pools stand on.
 * The algorithm, its invariants and what each death leaves are in doc/design/queue.md; the labels here (I1, R1 ...) are its.
 *
 *   shared word        written by                                   read by        under
 *   slot state         the claimer by CAS; then its owner by store;  all           see queue/slot.h
 *                      a repairer by CAS, on proof of the owner's death
 *   slot body, bytes   the owner while WRITING                      all           frozen while FULL and READING
 *   tail, head         anyone; hints that may lag or lead           all           -
 *   settled            anyone; every position before it is done     getters       -
 *   control            anyone; bits are set, and only POLLED and    all           -
 *                      JOINED may be set for nothing
 *   getters, putters,  sleepers and wakers (sync/waitword.h)        all           -
 *     spillers, joiners
 *   bell               see queue/bell.h                             all           -
 *   litter             anyone                                       idle getters  -
 *   counters           anyone; statistics                           all           -
 *   pleas              who waits (sync/turn.h)                      waiting side  -
 *
 * All that is fixed when the ring is made (sizes and offsets) is in each process's own `struct ring`.
 */
#ifndef BROOD_QUEUE_RING_H
#define BROOD_QUEUE_RING_H

#include "os/atomic.h"
#include "queue/blocks.h"
#include "queue/leases.h"
#include "queue/slot.h"
#include "queue/spill.h"
#include "shm/owners.h"
#include "shm/region.h"
#include "sync/spin.h"
#include "sync/turn.h"

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Bits of the control word. */
enum {
        CONTROL_CLOSED = 1,
        CONTROL_FENCED = 2,   /* somebody cannot execute a fence for others: everybody fences for himself */
        CONTROL_POLLED = 4,   /* somebody polls the descriptor */
        CONTROL_JOINED = 8,   /* somebody waits for the end of all messages */
        CONTROL_SPILLED = 16, /* somebody has waited to put a message that needs a buffer */
};

enum { PUTTING, GETTING, SIDES };

/* Each line is written by one side only, as long as nobody sleeps. */
struct ring_shared {
        _Alignas(64) atomic_u64 tail; /* putters look here first */
        _Alignas(64) atomic_u64 head; /* getters look here first */
        atomic_u64 settled;
        _Alignas(64) atomic_u32 control;
        atomic_u32 getters; /* the wait words */
        atomic_u32 putters;
        atomic_u32 spillers;
        atomic_u32 joiners;
        atomic_u32 bell;
        atomic_u32 litter; /* not 0: there may be memory to give back */
        _Alignas(64) atomic_u64 waits;
        atomic_u64 repairs;
        atomic_u64 skipped; /* positions that were claimed, and never held a message */
        atomic_u64 high_water;
        atomic_u64 pleas[SIDES]; /* who of a side is to go first */
};
static_assert(sizeof(struct ring_shared) == 256 && offsetof(struct ring_shared, head) == 64 &&
                  offsetof(struct ring_shared, control) == 128 && offsetof(struct ring_shared, waits) == 192 &&
                  offsetof(struct ring_shared, pleas) == 224,
              "the layout that the signature stands for");

struct ring_geometry {
        uint32_t slots; /* of a lap */
        bool bounded;   /* every lap in the same block */
        size_t message_size;
        uint32_t
            cell_stride; /* bytes from cell to cell; 0: a message is of 8 bytes, and lies in the slot's body word */
        uint32_t inline_room; /* a larger message lies in a buffer */
        size_t cells_at;      /* of a block: where its cells begin, behind its slots */
        size_t block_size;    /* slots and cells of a lap */
};

/* This process's view of a ring. */
struct ring {
        struct ring_geometry geometry;
        const struct region *region;
        struct ring_shared *shared;
        struct owners *owners;
        struct ring_slot *slots;   /* of a ring with a bound */
        struct blocks blocks;      /* of one without */
        struct spill spill;        /* geometry.classes 0: none */
        struct leases leases;      /* shared NULL: none */
        int bell_fd;               /* -1: none */
        bool watched;              /* somebody recovers the dead and wakes the sleepers: sleep without slices */
        atomic_u32 fence_self;     /* this process cannot be reached by others' fences */
        atomic_u32 canceled;       /* the handle is being freed: waiting calls end */
        bool (*called)(void *arg); /* asked before each sleep: are this process's waiting calls to end?  NULL: no */
        void *called_arg;
        atomic_u32 inside;  /* calls of this process that wait, or may */
        atomic_u32 holding; /* reservations, views and leases of this process */
        struct spin spin;
        uint32_t owner;  /* this process's owner number, valid under... */
        atomic_u64 mark; /* ...this process mark */
        struct turn turns[SIDES];
};

/* ---- making ---- */

/* A ring of `maxsize` places (0: without a bound) for messages of up to `message_size` bytes. */
void ring_plan(struct ring_geometry *geometry, size_t maxsize, size_t message_size);

/* A ring for tickets of 8 bytes, without cells. */
void ring_plan_tickets(struct ring_geometry *geometry, size_t maxsize);

/* A view of a ring; `shared` and the slots are at multiples of 64.  The memory of a new ring with a bound needs no more than
 * zeros; one without needs ring->blocks and blocks_format(). */
void ring_attach(struct ring *ring, const struct ring_geometry *geometry, const struct region *region,
                 size_t shared_offset, size_t owners_offset, size_t slots_offset);

/* Give up this process's owner number, and what it holds. */
void ring_detach(struct ring *ring);

/* The owner number of this process, registering it first if need be: 0, -EUSERS, or another negative errno. */
int ring_register(struct ring *ring, uint32_t *ret_owner);

/* The same without registering: OWNER_NONE if this process has not. */
uint32_t ring_owner_now(struct ring *ring);

/* ---- putting ---- */

/* A claimed place: its slot is WRITING until one of the two ends. */
struct ring_place {
        struct position at;
        struct ring_slot *slot;
        struct body body;
        void *bytes;
};

/* Put: 0, -EAGAIN, -ETIMEDOUT, -EPIPE, -ENOMEM, -EUSERS, -ECANCELED, -EUCLEAN.  The size has been checked. */
int ring_put(struct ring *ring, const void *data, size_t size, int timeout_ms);

/* Put several, with one wake-up for those that need no wait: how many, or a negative errno if none. */
ssize_t ring_put_many(struct ring *ring, const struct iovec *messages, size_t count, int timeout_ms);

int ring_reserve(struct ring *ring, struct ring_place *ret_place, size_t size, int64_t deadline);
void ring_commit(struct ring *ring, const struct ring_place *place, size_t size);
void ring_cancel(struct ring *ring, const struct ring_place *place);

/* ---- getting ---- */

/* A message that this process has claimed, in a slot that is READING or as a lease. */
struct ring_claim {
        struct ring_slot *slot; /* NULL: a lease */
        struct position at;
        struct lease_claim lease;
        const void *bytes;
        size_t size;
        uint64_t body;
};

/* Claim the oldest message, if it has at most `room` bytes: 0, or as brood_queue_get(). */
int ring_claim(struct ring *ring, struct ring_claim *claim, size_t room, int64_t deadline);

/* Whether a claim that may not wait would end with anything but -EAGAIN; looks for what the dead have left, and if there is
 * nothing, lets the descriptor be quiet. */
bool ring_can_claim(struct ring *ring);

/* Whether there is a message that such a claim would get. */
bool ring_has_message(struct ring *ring);

/* Done with it; or it goes back. */
void ring_release(struct ring *ring, const struct ring_claim *claim);
void ring_unclaim(struct ring *ring, const struct ring_claim *claim);

/* Get a copy: its size, or a negative errno.  Get several: how many, or a negative errno. */
ssize_t ring_get(struct ring *ring, void *buf, size_t room, int timeout_ms);
ssize_t ring_get_many(struct ring *ring, struct iovec *messages, size_t count, int timeout_ms);

/* The slot of a position, if this process has claimed it as `kind`: 0; -EINVAL; -EPERM (another process has). */
int ring_find_claim(struct ring *ring, struct position at, enum kind kind, struct ring_slot **ret_slot);

/* ---- announcing a change that another may be waiting for ---- */

void ring_announce_return(struct ring *ring); /* of a message that had been claimed */
void ring_announce_place(struct ring *ring);

/* ---- waiting (queue/wait.c) ---- */

/* What a look at the ring has found. */
enum look {
        LOOK_DONE,    /* claimed */
        LOOK_NOTHING, /* empty, or full */
        LOOK_BUSY,    /* another is at work on what is next */
        LOOK_CLOSED,
        LOOK_TOO_LARGE,
        LOOK_FAILED, /* with an error of the system's */
        LOOK_DAMAGED,
};

struct sight {
        struct position at;       /* where the look ended */
        uint64_t state;           /* what was there */
        struct ring_slot *slot;   /* NULL: nothing that can be watched */
        uint64_t body;            /* of a message that a getter has claimed: checked, and not read again */
        struct body spare;        /* a buffer that a putter has found */
        struct lease_claim lease; /* the message came back, and this is it... */
        bool leased;              /* ...if this says so */
        bool patient;             /* the call may wait... */
        bool slept;               /* ...and has */
        bool only_looks;          /* claims nothing */
        int error;
};

/* One side of the ring: what a put waits for, or a get. */
struct side {
        /* Try to claim the next slot; or see whether one could. */
        enum look (*look)(struct ring *ring, size_t size, uint32_t owner, struct sight *sight);
        /* Look closer, before a call gives up or sleeps, at what the look has found.  LOOK_NOTHING: it is as it seems;
         * LOOK_BUSY: a
         * live process has a claim that may yet change things; LOOK_DONE: something was repaired, look again; LOOK_CLOSED. */
        enum look (*settle)(struct ring *ring, const struct sight *sight);
        /* After the claim at `sight`: whether there is more to claim. */
        bool (*more)(struct ring *ring, const struct sight *sight);
        size_t word; /* where this side sleeps: its offset in struct ring_shared */
        int turn;    /* PUTTING or GETTING */
        bool trims;  /* who waits here for long has time to give memory back */
};

/* A call of this process that may wait begins and ends; it has registered.  Whoever frees the handle waits for its end, so the
 * two enclose all that the call does with the ring.  They may be nested. */
void ring_enter(struct ring *ring);
void ring_leave(struct ring *ring);

/* Look until there is something, or the deadline: 0, or a negative errno.  Between ring_enter() and ring_leave(). */
int ring_wait(struct ring *ring, const struct side *side, size_t size, uint32_t owner, struct sight *sight,
              int64_t deadline);

/* The error of a look that ends a wait. */
int look_error(enum look look, const struct sight *sight);

static inline bool look_is_final(enum look look)
{
        return look != LOOK_NOTHING && look != LOOK_BUSY;
}

/* Everybody must fence for himself from now on. */
void ring_fence_all(struct ring *ring);

/* Waiting calls of this process end with -ECANCELED; returns when they have left. */
void ring_cancel_waits(struct ring *ring);

/* Wait until all messages are done with: 0, or as brood_queue_join(). */
int ring_join(struct ring *ring, int64_t deadline);

/* ---- the rest ---- */

void ring_close(struct ring *ring);

/* Messages that could be claimed, counted up to `most`; or -EUCLEAN.  Whether a put would find no place. */
ssize_t ring_count(struct ring *ring, size_t most);
int ring_is_full(struct ring *ring);

/* What the positions hold that are not done with: 0 or -EUCLEAN. */
struct ring_census {
        uint64_t writing, full, reading;
};
int ring_take_census(struct ring *ring, struct ring_census *ret_census);

/* Whether no message is in the ring, claimed or not, nor leased; or -EUCLEAN. */
int ring_is_done(struct ring *ring);

/* Positions that were ever claimed for writing. */
uint64_t ring_claimed(struct ring *ring);

/* Repair what a dead owner left and free its number.  Only on proof of death. */
void ring_recover(struct ring *ring, uint32_t owner);

/* Wake one who sleeps for a message: not for one of this ring, but because its `called` says so from now on. */
void ring_call(struct ring *ring);

/* Wake everybody who sleeps on this ring. */
void ring_wake_all(struct ring *ring);

/* Give memory that is not needed now back to the kernel. */
void ring_trim(struct ring *ring);
void ring_trim_blocks(struct ring *ring);
void ring_trim_buffers(struct ring *ring);

/* ---- for leases: what a message is and where ---- */

bool ring_body_valid(const struct ring *ring, struct body body);

/* Where the bytes of a valid body are: in `cell`, or in its buffer. */
static inline void *ring_body_bytes(const struct ring *ring, struct body body, void *cell)
{
        return body.class == 0 ? cell : spill_bytes(&ring->spill, body);
}

/* Copy the cell of a position that this process is READING, if its message is there; where the bytes are from now on. */
const void *ring_copy_cell(struct ring *ring, struct position at, struct body body, void *cell);

/* The buffer of a message passes from its position to a lease. */
void ring_pass_body(struct ring *ring, struct position at, struct body body, uint32_t entry, uint32_t generation);

/* The slot at a position, if `owner` is READING it, is free. */
void ring_free_moved(struct ring *ring, struct position at, uint32_t owner);

/* A message is gone. */
void ring_freed(struct ring *ring, struct body body);

void ring_count_repair(struct ring *ring);

#endif
