/* SPDX-License-Identifier: MIT
 *
 * sync/condition.c: a table of those who wait, each with a word of its own.
 *
 *   record    | ticket 32 | state 8 | owner 24 |
 *
 *   FREE -> WAITING       CAS by who waits, with the lock held: from here on it can be notified
 *   WAITING -> NOTIFIED   CAS by a notifier, which holds the lock; or by who passes a dead one's notification on
 *   WAITING -> FREE       CAS by the waiter, which gives up; by anyone on proof of its death
 *   NOTIFIED -> FREE      a store by the waiter, which has the lock again; by anyone on proof of its death, after the notification
 *                         has been passed on (killed in between, it is passed on twice: a wait may end for no reason)
 *
 * Tickets are given in the order of the waits, and the oldest is notified first.  `used` says how many records were ever used, so
 * that not all of them are looked at.
 */
#include "os/clock.h"
#include "os/descriptors.h"
#include "sync/lock.h"

#include <brood/condition.h>

#include <errno.h>
#include <stdlib.h>

enum record_state { FREE, WAITING, NOTIFIED };

struct record {
        atomic_u64 word;
        atomic_u32 sleepers;
        uint32_t reserved;
};
static_assert(sizeof(struct record) == 16, "shared");

struct records {
        struct record at[BROOD_CONDITION_WAITERS];
};

struct condition_shared {
        atomic_u32 tickets;
        atomic_u32 used;
        uint64_t lock_id; /* by which the kernel knows the memory of its lock; written once */
};
static_assert(sizeof(struct condition_shared) == 16, "shared");

struct brood_condition {
        struct object object;
        struct condition_shared *shared;
        struct records *records;
        struct brood_lock *lock;
        bool owns_lock;
};

static uint64_t record_make(uint32_t ticket, enum record_state state, uint32_t owner)
{
        return (uint64_t)ticket << 32 | (uint64_t)state << OWNER_BITS | owner;
}

static uint32_t record_ticket(uint64_t word)
{
        return (uint32_t)(word >> 32);
}

static enum record_state record_state(uint64_t word)
{
        return (enum record_state)(word >> OWNER_BITS & 0xff);
}

static uint32_t record_owner(uint64_t word)
{
        return (uint32_t)(word & ((UINT32_C(1) << OWNER_BITS) - 1));
}

static uint32_t used(struct brood_condition *c)
{
        uint32_t n = load_seq_cst(&c->shared->used);

        return n < BROOD_CONDITION_WAITERS ? n : BROOD_CONDITION_WAITERS;
}

/* ---- notifying ---- */

static bool notify_record(struct brood_condition *c, struct record *record, uint64_t word)
{
        if (!cas_u64(&record->word, word, record_make(record_ticket(word), NOTIFIED, record_owner(word))))
                return false;
        user_wake_one(&c->object.user, &record->sleepers);
        return true;
}

/* Notify the one that has waited longest, but for those of `except`: whether there was one. */
static bool notify_oldest(struct brood_condition *c, uint32_t except)
{
        for (;;) {
                struct record *oldest = NULL;
                uint64_t found = 0;

                for (uint32_t i = 0, n = used(c); i < n; i++) {
                        uint64_t word = load_seq_cst(&c->records->at[i].word);
                        if (record_state(word) != WAITING || record_owner(word) == except)
                                continue;
                        /* Tickets come round. */
                        if (oldest == NULL || (int32_t)(record_ticket(word) - record_ticket(found)) < 0) {
                                oldest = &c->records->at[i];
                                found = word;
                        }
                }
                if (oldest == NULL)
                        return false;
                /* If it has just given up, there is another. */
                if (notify_record(c, oldest, found))
                        return true;
        }
}

static void recover(void *object, uint32_t owner)
{
        struct brood_condition *c = object;

        for (uint32_t i = 0, n = used(c); i < n; i++) {
                struct record *record = &c->records->at[i];
                uint64_t word = load_seq_cst(&record->word);
                /* A waiter may give up, or be notified, by another's hand, but a dead one only once. */
                while (record_state(word) != FREE && record_owner(word) == owner) {
                        if (record_state(word) == NOTIFIED)
                                notify_oldest(c, owner);
                        cas_u64(&record->word, word, 0);
                        word = load_seq_cst(&record->word);
                }
        }
}

/* The holder of the lock may be dead, and with it whoever was to notify. */
static void watch(void *object)
{
        user_recover_all(&((struct brood_condition *)object)->lock->object.user);
}

static void wake_all(void *object)
{
        struct brood_condition *c = object;

        for (uint32_t i = 0, n = used(c); i < n; i++)
                waitword_wake_all(&c->records->at[i].sleepers);
        /* Those who have been notified wait for the lock. */
        waitword_wake_all(&c->lock->shared->hold.sleepers);
}

int brood_condition_notify(brood_condition *condition, int count)
{
        int notified = 0;

        if (condition == NULL || count < 0)
                return -EINVAL;
        if (!lock_is_mine(condition->lock))
                return -EPERM;
        /* No more can wait: more of them is somebody who writes what is not so, again and again. */
        if (count > BROOD_CONDITION_WAITERS)
                count = BROOD_CONDITION_WAITERS;
        while (notified < count && notify_oldest(condition, OWNER_NONE))
                notified++;
        return notified;
}

int brood_condition_notify_all(brood_condition *condition)
{
        return brood_condition_notify(condition, BROOD_CONDITION_WAITERS);
}

/* ---- making ---- */

static const struct object_kind kind = {
        .kind = REGION_CONDITION,
        .name = "brood-condition",
        .words = sizeof(struct condition_shared),
        .tail = sizeof(struct records),
        .hooks = { .recover = recover, .watch = watch, .wake_all = wake_all },
};

static void discard(struct brood_condition *c)
{
        if (c->object.region.head != NULL)
                object_drop(&c->object);
        if (c->owns_lock)
                brood_lock_free(c->lock);
        free(c);
}

static int make(brood_condition **ret_condition, const int *descriptors, brood_lock *lock)
{
        struct brood_condition *c = calloc(1, sizeof *c);
        int r = 0;

        if (c == NULL)
                return -ENOMEM;
        c->object.region = (struct region)REGION_NONE;
        c->lock = lock;
        if (lock == NULL) {
                r = descriptors == NULL ? brood_rlock_new(&c->lock) : brood_lock_attach(&c->lock, descriptors + 1);
                c->owns_lock = r == 0;
        }
        int64_t id = r < 0 ? r : descriptor_id(c->lock->object.region.fd);
        if (r == 0)
                r = id < 0                ? (int)id
                    : descriptors == NULL ? object_new(&c->object, &kind)
                                          : object_attach(&c->object, &kind, descriptors[0]);
        if (r == 0) {
                c->shared = c->object.words;
                c->records = c->object.tail;
                if (descriptors == NULL)
                        c->shared->lock_id = (uint64_t)id;
                else if (c->shared->lock_id != (uint64_t)id)
                        r = -EINVAL;
        }
        if (r < 0) {
                discard(c);
                return r;
        }
        *ret_condition = c;
        return 0;
}

int brood_condition_new(brood_condition **ret_condition, brood_lock *lock)
{
        return ret_condition == NULL || (lock != NULL && lock->inside) ? -EINVAL : make(ret_condition, NULL, lock);
}

int brood_condition_attach(brood_condition **ret_condition, const int descriptors[BROOD_CONDITION_DESCRIPTORS],
                           brood_lock *lock)
{
        return ret_condition == NULL || descriptors == NULL ? -EINVAL : make(ret_condition, descriptors, lock);
}

int brood_condition_descriptors(brood_condition *condition, int ret_descriptors[BROOD_CONDITION_DESCRIPTORS])
{
        if (condition == NULL || ret_descriptors == NULL)
                return -EINVAL;
        ret_descriptors[0] = condition->object.region.fd;
        ret_descriptors[1] = condition->lock->object.region.fd;
        return 0;
}

void brood_condition_free(brood_condition *condition)
{
        if (condition != NULL)
                discard(condition);
}

/* ---- the lock ---- */

brood_lock *brood_condition_lock(brood_condition *condition)
{
        return condition == NULL ? NULL : condition->lock;
}

int brood_condition_acquire(brood_condition *condition, int timeout_ms)
{
        return condition == NULL ? -EINVAL : brood_lock_acquire(condition->lock, timeout_ms);
}

int brood_condition_release(brood_condition *condition)
{
        return condition == NULL ? -EINVAL : brood_lock_release(condition->lock);
}

/* ---- waiting ---- */

struct call {
        struct record *record;
        uint64_t waiting; /* what the record says as long as nothing has happened */
};

/* Find a record for a wait that begins: 0 or -ENOBUFS. */
static int enlist(struct brood_condition *c, struct call *call, uint32_t owner)
{
        call->waiting = record_make(fetch_add_relaxed(&c->shared->tickets, 1), WAITING, owner);
        for (uint32_t i = 0; i < BROOD_CONDITION_WAITERS; i++) {
                call->record = &c->records->at[i];
                if (load_relaxed(&call->record->word) != 0)
                        continue;
                /* First, so that nobody who looks for records overlooks this one. */
                for (uint32_t n = load_seq_cst(&c->shared->used); n <= i; n = load_seq_cst(&c->shared->used))
                        cas_u32(&c->shared->used, n, i + 1);
                if (cas_u64(&call->record->word, 0, call->waiting))
                        return 0;
        }
        return -ENOBUFS;
}

/* Notified; or the lock's holder has died, which is a reason to look at the state: for all who waited then, also if one of them
 * has the lock by now. */
static int look(void *object, void *context)
{
        struct brood_condition *c = object;
        struct call *call = context;

        if (load_seq_cst(&call->record->word) != call->waiting)
                return 0;
        return load_seq_cst(&c->lock->shared->hold.word) & HOLD_INCONSISTENT ? 0 : -EAGAIN;
}

/* With the lock let go of; with it held again at the end. */
static int wait_in_record(struct brood_condition *c, struct call *call, uint32_t times, int64_t deadline)
{
        const struct wait wait = { .look = look, .word = &call->record->sleepers };
        int r = user_wait(&c->object.user, &wait, call, deadline);

        if (r != 0 && !cas_u64(&call->record->word, call->waiting, 0) && r != -ECANCELED)
                r = 0; /* notified at the last moment */
        if (r == -ECANCELED)
                return r;
        int taken = lock_take_back(c->lock, times, &c->object.user.canceled);
        /* Only now, so that the notification of one who dies before, or is sent away, is not lost: whoever repairs passes it on.
         * If another one comes in between, this return answers it, too. */
        if (r == 0 && taken >= 0)
                store_release(&call->record->word, 0);
        return taken != 0 ? taken : r;
}

static int wait_until(struct brood_condition *c, int64_t deadline)
{
        struct user *user = &c->object.user;
        struct call call;
        uint32_t owner;

        if (!lock_is_mine(c->lock))
                return -EPERM;
        int r = user_own(user, &owner);
        if (r == 0)
                r = enlist(c, &call, owner);
        if (r < 0)
                return r;
        user_enter(user);
        r = wait_in_record(c, &call, lock_let_go(c->lock), deadline);
        user_leave(user);
        return r;
}

int brood_condition_wait(brood_condition *condition, int timeout_ms)
{
        return condition == NULL ? -EINVAL : wait_until(condition, deadline_after_ms(timeout_ms));
}

int brood_condition_wait_for(brood_condition *condition, bool (*predicate)(void *arg), void *arg, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (condition == NULL || predicate == NULL)
                return -EINVAL;
        if (!lock_is_mine(condition->lock))
                return -EPERM;
        while (!predicate(arg)) {
                int r = wait_until(condition, deadline);
                if (r != 0)
                        /* Not notified in time; but the state may be what it should be all the same. */
                        return (r == -EAGAIN || r == -ETIMEDOUT) && predicate(arg) ? 0 : r;
        }
        return 0;
}
