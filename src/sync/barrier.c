/* SPDX-License-Identifier: MIT
 *
 * sync/barrier.c: a ledger whose payload is the barrier's state, and whose accounts count the arrivals of each process.
 *
 *   payload   | who runs the action 10 | inside 11 | state 3 |       inside: who has arrived and not left
 *
 *     FILLING    --the last arrives-->   ACTING (with an action) or DRAINING
 *     ACTING     --the action is done--> DRAINING; it fails, or its process dies: BROKEN
 *     DRAINING   --the last leaves-->    FILLING
 *     RESETTING  --the last leaves-->    FILLING
 *     BROKEN     --reset-->              RESETTING, or FILLING if nobody is inside
 *     any        --abort-->              BROKEN
 *
 * The states are those of Python's threading.Barrier, with ACTING for what is under its lock.  Each arrow is one change of the
 * ledger, so that a death comes before it or after it.  Draining is what lets a waiter learn what became of its own round: no new
 * one begins before it has left, or is dead.
 */
#include "os/clock.h"
#include "os/options.h"
#include "sync/ledger.h"
#include "sync/object.h"

#include <brood/barrier.h>

#include <errno.h>
#include <stdlib.h>

enum state { FILLING, ACTING, DRAINING, RESETTING, BROKEN };

enum {
        STATE_BITS = 3,
        INSIDE_BITS = 11,
        ACTOR_SHIFT = STATE_BITS + INSIDE_BITS,
};
static_assert(ACTOR_SHIFT + OWNERS_INDEX_BITS == LEDGER_PAYLOAD_BITS, "a payload");
static_assert(BROOD_BARRIER_PARTIES_MAX == (1 << INSIDE_BITS) - 1, "so many may be inside");

/* `parties` and `break_on_death` are written once, before anybody else can see them. */
struct barrier_shared {
        atomic_u64 ledger;
        atomic_u32 sleepers;
        uint32_t parties;
        uint32_t break_on_death;
        uint32_t reserved;
};
static_assert(sizeof(struct barrier_shared) == 24, "shared");

struct brood_barrier {
        struct object object;
        struct barrier_shared *shared;
        struct ledger ledger;
        uint32_t parties;
        bool break_on_death;
        int (*action)(void *arg);
        void *arg;
};

/* A payload, taken apart. */
struct round {
        enum state state;
        uint32_t inside, actor;
};

static struct round round_of(uint64_t word)
{
        uint32_t payload = ledger_payload(word);

        return (struct round){
                .state = (enum state)(payload & ((1 << STATE_BITS) - 1)),
                .inside = payload >> STATE_BITS & ((1 << INSIDE_BITS) - 1),
                .actor = payload >> ACTOR_SHIFT,
        };
}

static uint32_t payload_of(struct round round)
{
        return round.actor << ACTOR_SHIFT | round.inside << STATE_BITS | (uint32_t)round.state;
}

static uint32_t index_of(uint32_t owner)
{
        return owner & (OWNERS_COUNT - 1);
}

/* `count` of those inside are gone. */
static struct round without(struct round round, uint32_t count)
{
        round.inside -= count < round.inside ? count : round.inside;
        if (round.inside == 0 && (round.state == DRAINING || round.state == RESETTING))
                round.state = FILLING;
        return round;
}

/* ---- making ---- */

static void join(void *object, uint32_t owner)
{
        ledger_join(&((struct brood_barrier *)object)->ledger, owner);
}

static void recover(void *object, uint32_t owner)
{
        struct brood_barrier *b = object;
        uint32_t arrived;
        struct round round;
        uint64_t word;

        do {
                word = ledger_read(&b->ledger);
                arrived = ledger_count(&b->ledger, word, owner);
                if (arrived == 0)
                        return;
                round = round_of(word);
                if ((round.state == ACTING && round.actor == index_of(owner)) ||
                    (round.state == FILLING && b->break_on_death))
                        round.state = BROKEN;
                round = without(round, arrived);
        } while (!ledger_change(&b->ledger, word, payload_of(round), EFFECT_CLEAR, owner));
        user_wake_all(&b->object.user, &b->shared->sleepers);
}

static void wake_all(void *object)
{
        waitword_wake_all(&((struct brood_barrier *)object)->shared->sleepers);
}

static const struct object_kind kind = {
        .kind = REGION_BARRIER,
        .name = "brood-barrier",
        .words = sizeof(struct barrier_shared),
        .tail = sizeof(struct ledger_accounts),
        .hooks = { .join = join, .recover = recover, .wake_all = wake_all },
};

static void open_views(struct brood_barrier *b, int (*action)(void *arg), void *arg)
{
        b->shared = b->object.words;
        b->ledger = (struct ledger){ .word = &b->shared->ledger, .accounts = b->object.tail };
        b->action = action;
        b->arg = arg;
        /* Copies: what was checked stays so. */
        b->parties = b->shared->parties;
        b->break_on_death = b->shared->break_on_death != 0;
}

int brood_barrier_new_sized(brood_barrier **ret_barrier, int parties, const brood_barrier_options *options,
                            size_t options_size)
{
        brood_barrier_options known;

        if (ret_barrier == NULL || parties < 1 || parties > BROOD_BARRIER_PARTIES_MAX)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        struct brood_barrier *b = calloc(1, sizeof *b);
        if (b == NULL)
                return -ENOMEM;
        r = object_new(&b->object, &kind);
        if (r < 0) {
                free(b);
                return r;
        }
        *(struct barrier_shared *)b->object.words = (struct barrier_shared){
                .ledger = ledger_begin(payload_of((struct round){ .state = FILLING })),
                .parties = (uint32_t)parties,
                .break_on_death = known.break_on_death != 0,
        };
        open_views(b, known.action, known.arg);
        *ret_barrier = b;
        return 0;
}

int brood_barrier_attach(brood_barrier **ret_barrier, const int descriptors[BROOD_BARRIER_DESCRIPTORS],
                         int (*action)(void *arg), void *arg)
{
        if (ret_barrier == NULL || descriptors == NULL)
                return -EINVAL;
        struct brood_barrier *b = calloc(1, sizeof *b);
        if (b == NULL)
                return -ENOMEM;
        int r = object_attach(&b->object, &kind, descriptors[0]);
        if (r == 0) {
                open_views(b, action, arg);
                if (b->parties < 1 || b->parties > BROOD_BARRIER_PARTIES_MAX) {
                        object_drop(&b->object);
                        r = -EUCLEAN;
                }
        }
        if (r < 0) {
                free(b);
                return r;
        }
        *ret_barrier = b;
        return 0;
}

int brood_barrier_descriptors(brood_barrier *barrier, int ret_descriptors[BROOD_BARRIER_DESCRIPTORS])
{
        if (barrier == NULL || ret_descriptors == NULL)
                return -EINVAL;
        ret_descriptors[0] = barrier->object.region.fd;
        return 0;
}

void brood_barrier_free(brood_barrier *barrier)
{
        if (barrier == NULL)
                return;
        object_drop(&barrier->object);
        free(barrier);
}

/* ---- waiting ---- */

struct call {
        uint32_t owner;
        bool last;      /* to arrive */
        uint32_t index; /* from 0 to parties - 1 */
};

/* Arrive, when nobody of the last round is inside any more: 0, -EPIPE, -EAGAIN. */
static int look_arrive(void *object, void *context)
{
        struct brood_barrier *b = object;
        struct call *call = context;
        struct round round;
        uint64_t word;

        do {
                word = ledger_read(&b->ledger);
                round = round_of(word);
                if (round.state == BROKEN)
                        return -EPIPE;
                if (round.state != FILLING)
                        return -EAGAIN;
                call->last = ++round.inside >= b->parties;
                if (call->last) {
                        round.state = b->action != NULL ? ACTING : DRAINING;
                        round.actor = index_of(call->owner);
                }
        } while (!ledger_change(&b->ledger, word, payload_of(round), EFFECT_ADD, call->owner));
        return 0;
}

/* Leave, when the round has ended in one way or another: 0, -EPIPE, -EAGAIN.  The number is that of the leaving rather than that of
 * the arrival: those who arrived may have died and others have come for them, but no two can be the n-th to leave. */
static int look_leave(void *object, void *context)
{
        struct brood_barrier *b = object;
        struct call *call = context;
        struct round round;
        enum state state;
        uint64_t word;

        do {
                word = ledger_read(&b->ledger);
                round = round_of(word);
                state = round.state;
                if (state == FILLING || state == ACTING)
                        return -EAGAIN;
        } while (!ledger_change(&b->ledger, word, payload_of(without(round, 1)), EFFECT_TAKE, call->owner));
        call->index = without(round, 1).inside < b->parties ? without(round, 1).inside : b->parties - 1;
        if (without(round, 1).state == FILLING)
                user_wake_all(&b->object.user, &b->shared->sleepers);
        return state == DRAINING ? 0 : -EPIPE;
}

/* Change the state of a round that is in state `from`, or in any (from == to).  Whether that was so. */
static bool turn(struct brood_barrier *b, enum state from, enum state to)
{
        struct round round;
        uint64_t word;

        do {
                word = ledger_read(&b->ledger);
                round = round_of(word);
                if (from != to && round.state != from)
                        return false;
                round.state = to;
        } while (!ledger_change(&b->ledger, word, payload_of(round), EFFECT_NONE, OWNER_NONE));
        user_wake_all(&b->object.user, &b->shared->sleepers);
        return true;
}

/* The last to arrive does what is to be done before the others go on. */
static int act(struct brood_barrier *b)
{
        int r = b->action(b->arg);

        turn(b, ACTING, r < 0 ? BROKEN : DRAINING);
        return r < 0 ? r : 0;
}

/* A wait is given up, which breaks the round unless the handle is being freed; or the round has just ended, and this one leaves
 * it as the others do.  `why`, or how it ended. */
static int withdraw(struct brood_barrier *b, struct call *call, int why)
{
        struct round round;
        uint64_t word;

        do {
                word = ledger_read(&b->ledger);
                round = round_of(word);
                if (round.state != FILLING && round.state != ACTING)
                        return look_leave(b, call);
                if (why != -ECANCELED)
                        round.state = BROKEN;
        } while (!ledger_change(&b->ledger, word, payload_of(without(round, 1)), EFFECT_TAKE, call->owner));
        user_wake_all(&b->object.user, &b->shared->sleepers);
        return why;
}

static int pass(struct brood_barrier *b, struct call *call, int64_t deadline)
{
        struct user *user = &b->object.user;
        const struct wait arrive = { .look = look_arrive, .word = &b->shared->sleepers };
        const struct wait leave = { .look = look_leave, .word = &b->shared->sleepers };
        int failed = 0;

        /* Before the arrival that releases the others: are they still there? */
        if (round_of(ledger_read(&b->ledger)).inside + 1 >= b->parties)
                user_watch(user);
        int r = user_wait(user, &arrive, call, deadline);
        if (r < 0)
                return r;
        if (call->last && b->action != NULL)
                failed = act(b);
        else if (call->last)
                user_wake_all(user, &b->shared->sleepers);
        r = user_wait(user, &leave, call, deadline);
        if (r == -EAGAIN || r == -ETIMEDOUT || r == -ECANCELED)
                r = withdraw(b, call, r);
        return failed < 0 ? failed : r < 0 ? r : (int)call->index;
}

int brood_barrier_wait(brood_barrier *barrier, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);
        struct call call = { 0 };

        if (barrier == NULL)
                return -EINVAL;
        int r = user_own(&barrier->object.user, &call.owner);
        if (r < 0)
                return r;
        /* Two waits and what is between and after them: whoever frees the handle waits for all of it. */
        user_enter(&barrier->object.user);
        r = pass(barrier, &call, deadline);
        user_leave(&barrier->object.user);
        return r;
}

/* ---- the rest ---- */

int brood_barrier_abort(brood_barrier *barrier)
{
        if (barrier == NULL)
                return -EINVAL;
        turn(barrier, BROKEN, BROKEN);
        return 0;
}

int brood_barrier_reset(brood_barrier *barrier)
{
        struct round round;
        uint64_t word;

        if (barrier == NULL)
                return -EINVAL;
        do {
                word = ledger_read(&barrier->ledger);
                round = round_of(word);
                if (round.inside == 0)
                        round.state = FILLING;
                else if (round.state != DRAINING)
                        round.state = RESETTING;
        } while (!ledger_change(&barrier->ledger, word, payload_of(round), EFFECT_NONE, OWNER_NONE));
        user_wake_all(&barrier->object.user, &barrier->shared->sleepers);
        return 0;
}

int brood_barrier_parties(const brood_barrier *barrier)
{
        return barrier == NULL ? -EINVAL : (int)barrier->parties;
}

int brood_barrier_n_waiting(brood_barrier *barrier)
{
        if (barrier == NULL)
                return -EINVAL;
        struct round round = round_of(ledger_read(&barrier->ledger));
        return round.state == FILLING || round.state == ACTING ? (int)round.inside : 0;
}

int brood_barrier_broken(brood_barrier *barrier)
{
        return barrier == NULL ? -EINVAL : round_of(ledger_read(&barrier->ledger)).state == BROKEN;
}
