/* SPDX-License-Identifier: MIT
 *
 * sync/rwlock.c: a ledger whose payload says who reads and who writes, and whose accounts count what each process holds.
 *
 *   payload   | INCONSISTENT 1 | readers 13 | writer's index 10 |
 *
 * A writer puts its index in as soon as no other one is there, which keeps new readers out.  When the readers that were inside are
 * gone, it takes the lock: that is a change which counts 1 in its account.  So a process holds it to write exactly while it is the
 * writer, there are no readers, and its account is not 0; and one that dies before it has taken it has changed nothing.
 */
#include "os/clock.h"
#include "sync/hold.h"
#include "sync/ledger.h"
#include "sync/object.h"

#include <brood/rwlock.h>

#include <errno.h>
#include <stdlib.h>

enum { READERS_BITS = 13, INCONSISTENT_SHIFT = OWNERS_INDEX_BITS + READERS_BITS };
static_assert(INCONSISTENT_SHIFT + 1 == LEDGER_PAYLOAD_BITS, "a payload");
static_assert(BROOD_RWLOCK_READERS_MAX == (1 << READERS_BITS) - 1, "so many may read");

struct rwlock_shared {
        atomic_u64 ledger;
        atomic_u32 sleepers;
        uint32_t reserved;
        struct death_shared death;
};
static_assert(sizeof(struct rwlock_shared) == 24, "shared");

struct brood_rwlock {
        struct object object;
        struct rwlock_shared *shared;
        struct ledger ledger;
};

/* A payload, taken apart. */
struct users {
        uint32_t writer, readers, inconsistent;
};

static struct users users_of(uint64_t word)
{
        uint32_t payload = ledger_payload(word);

        return (struct users){
                .writer = payload & (OWNERS_COUNT - 1),
                .readers = payload >> OWNERS_INDEX_BITS & ((1 << READERS_BITS) - 1),
                .inconsistent = payload >> INCONSISTENT_SHIFT,
        };
}

static uint32_t payload_of(struct users users)
{
        return users.inconsistent << INCONSISTENT_SHIFT | users.readers << OWNERS_INDEX_BITS | users.writer;
}

static uint32_t index_of(uint32_t owner)
{
        return owner & (OWNERS_COUNT - 1);
}

static int acquired(struct users users)
{
        return users.inconsistent ? BROOD_HOLDER_DIED : 0;
}

/* ---- making ---- */

static void join(void *object, uint32_t owner)
{
        ledger_join(&((struct brood_rwlock *)object)->ledger, owner);
}

static void recover(void *object, uint32_t owner)
{
        struct brood_rwlock *lock = object;
        struct users users;
        uint64_t word;

        do {
                uint64_t before = load_seq_cst(&lock->shared->death.word);
                word = ledger_read(&lock->ledger);
                uint32_t holds = ledger_count(&lock->ledger, word, owner);
                users = users_of(word);
                /* The payload names the writer by its index alone.  As long as the number is in the table, and was when the word
                 * was read, nobody else has that index. */
                bool writes = users.writer == index_of(owner) && owners_holds(lock->object.user.owners, owner);
                if (!writes && holds == 0)
                        return;
                if (writes && users.readers == 0 && holds > 0) {
                        /* The record first, so that whoever gets the lock finds it. */
                        death_record(&lock->shared->death, before, &lock->object.user, owner);
                        users.inconsistent = 1;
                }
                if (writes)
                        users.writer = 0;
                users.readers -= holds < users.readers ? holds : users.readers;
        } while (!ledger_change(&lock->ledger, word, payload_of(users), EFFECT_CLEAR, owner));
        user_wake_all(&lock->object.user, &lock->shared->sleepers);
}

static void wake_all(void *object)
{
        waitword_wake_all(&((struct brood_rwlock *)object)->shared->sleepers);
}

static const struct object_kind kind = {
        .kind = REGION_RWLOCK,
        .name = "brood-rwlock",
        .words = sizeof(struct rwlock_shared),
        .tail = sizeof(struct ledger_accounts),
        .hooks = { .join = join, .recover = recover, .wake_all = wake_all },
};

static int make(brood_rwlock **ret_lock, const int *fd)
{
        brood_rwlock *lock = calloc(1, sizeof *lock);

        if (lock == NULL)
                return -ENOMEM;
        int r = fd == NULL ? object_new(&lock->object, &kind) : object_attach(&lock->object, &kind, *fd);
        if (r < 0) {
                free(lock);
                return r;
        }
        lock->shared = lock->object.words;
        lock->ledger = (struct ledger){ .word = &lock->shared->ledger, .accounts = lock->object.tail };
        *ret_lock = lock;
        return 0;
}

int brood_rwlock_new(brood_rwlock **ret_lock)
{
        return ret_lock == NULL ? -EINVAL : make(ret_lock, NULL);
}

int brood_rwlock_attach(brood_rwlock **ret_lock, const int descriptors[BROOD_RWLOCK_DESCRIPTORS])
{
        return ret_lock == NULL || descriptors == NULL ? -EINVAL : make(ret_lock, descriptors);
}

int brood_rwlock_descriptors(brood_rwlock *lock, int ret_descriptors[BROOD_RWLOCK_DESCRIPTORS])
{
        if (lock == NULL || ret_descriptors == NULL)
                return -EINVAL;
        ret_descriptors[0] = lock->object.region.fd;
        return 0;
}

void brood_rwlock_free(brood_rwlock *lock)
{
        if (lock == NULL)
                return;
        object_drop(&lock->object);
        free(lock);
}

/* ---- acquiring ---- */

struct call {
        uint32_t owner;
        bool claimed; /* this call has made its process the writer */
};

static int look_read(void *object, void *context)
{
        struct brood_rwlock *lock = object;
        struct call *call = context;
        struct users users;
        uint64_t word;

        do {
                word = ledger_read(&lock->ledger);
                users = users_of(word);
                if (users.writer != 0 || users.readers == BROOD_RWLOCK_READERS_MAX)
                        return -EAGAIN;
                users.readers++;
        } while (!ledger_change(&lock->ledger, word, payload_of(users), EFFECT_ADD, call->owner));
        return acquired(users);
}

static int look_write(void *object, void *context)
{
        struct brood_rwlock *lock = object;
        struct call *call = context;
        struct users users;
        uint64_t word;
        bool alone;

        do {
                word = ledger_read(&lock->ledger);
                users = users_of(word);
                alone = users.readers == 0;
                if (call->claimed ? !alone : users.writer != 0)
                        return -EAGAIN;
                users.writer = index_of(call->owner);
        } while (!ledger_change(&lock->ledger, word, payload_of(users), alone ? EFFECT_ADD : EFFECT_NONE,
                                alone ? call->owner : OWNER_NONE));
        call->claimed = true;
        return alone ? acquired(users) : -EAGAIN;
}

/* This process is no longer the writer: it lets go of what it has taken (EFFECT_TAKE), or withdraws a claim. */
static void end_writing(struct brood_rwlock *lock, enum effect effect, uint32_t owner)
{
        struct users users;
        uint64_t word;

        do {
                word = ledger_read(&lock->ledger);
                users = users_of(word);
                users.writer = 0;
        } while (!ledger_change(&lock->ledger, word, payload_of(users), effect, owner));
        user_wake_all(&lock->object.user, &lock->shared->sleepers);
}

static int acquire(struct brood_rwlock *lock, int (*look)(void *object, void *call), int timeout_ms)
{
        struct user *user = &lock->object.user;
        struct call call = { 0 };
        int r = user_own(user, &call.owner);

        if (r < 0)
                return r;
        r = look(lock, &call);
        if (r != -EAGAIN)
                return r;
        /* A claim is withdrawn before whoever frees the handle goes on. */
        user_enter(user);
        const struct wait wait = { .look = look, .word = &lock->shared->sleepers };
        r = user_wait(user, &wait, &call, deadline_after_ms(timeout_ms));
        if (r < 0 && call.claimed)
                end_writing(lock, EFFECT_NONE, OWNER_NONE);
        user_leave(user);
        return r;
}

int brood_rwlock_acquire_read(brood_rwlock *lock, int timeout_ms)
{
        return lock == NULL ? -EINVAL : acquire(lock, look_read, timeout_ms);
}

int brood_rwlock_acquire_write(brood_rwlock *lock, int timeout_ms)
{
        return lock == NULL ? -EINVAL : acquire(lock, look_write, timeout_ms);
}

/* ---- releasing, asking ---- */

/* Whether this process has it to write. */
static bool is_writer(struct brood_rwlock *lock)
{
        uint64_t word = ledger_read(&lock->ledger);
        struct users users = users_of(word);
        uint32_t owner = user_owner(&lock->object.user);

        return owner != OWNER_NONE && users.writer == index_of(owner) && users.readers == 0 &&
               ledger_count(&lock->ledger, word, owner) > 0;
}

int brood_rwlock_release(brood_rwlock *lock)
{
        struct users users;
        uint64_t word;

        if (lock == NULL)
                return -EINVAL;
        uint32_t owner = user_owner(&lock->object.user);
        if (owner == OWNER_NONE)
                return -EPERM;
        if (is_writer(lock)) {
                end_writing(lock, EFFECT_TAKE, owner);
                return 0;
        }
        do {
                bool reads;
                do {
                        word = ledger_read(&lock->ledger);
                        users = users_of(word);
                        reads = ledger_count(&lock->ledger, word, owner) > 0 && users.readers > 0;
                } while (ledger_read(&lock->ledger) != word);
                if (!reads)
                        return -EPERM;
                users.readers--;
        } while (!ledger_change(&lock->ledger, word, payload_of(users), EFFECT_TAKE, owner));
        if ((users.readers == 0 && users.writer != 0) || users.readers + 1 == BROOD_RWLOCK_READERS_MAX)
                user_wake_all(&lock->object.user, &lock->shared->sleepers);
        return 0;
}

int brood_rwlock_consistent(brood_rwlock *lock)
{
        if (lock == NULL)
                return -EINVAL;
        if (!is_writer(lock))
                return -EPERM;
        struct users users;
        uint64_t word;
        do {
                word = ledger_read(&lock->ledger);
                users = users_of(word);
                users.inconsistent = 0;
        } while (!ledger_change(&lock->ledger, word, payload_of(users), EFFECT_NONE, OWNER_NONE));
        return 0;
}

int brood_rwlock_death(brood_rwlock *lock, brood_death *ret_death)
{
        if (lock == NULL || ret_death == NULL)
                return -EINVAL;
        uint64_t word = ledger_read(&lock->ledger);
        uint32_t owner = user_owner(&lock->object.user);
        if (owner == OWNER_NONE || ledger_count(&lock->ledger, word, owner) == 0)
                return -EPERM;
        if (!users_of(word).inconsistent)
                return -ENODATA;
        *ret_death = death_read(&lock->shared->death);
        return 0;
}
