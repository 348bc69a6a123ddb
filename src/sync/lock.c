/* SPDX-License-Identifier: MIT */
#include "sync/lock.h"
#include "os/clock.h"

#include <errno.h>
#include <stdlib.h>

/* An address that no other living thread of this process has. */
static uint64_t thread_mark(void)
{
        static _Thread_local char here __attribute__((tls_model("initial-exec")));

        return (uint64_t)(uintptr_t)&here;
}

/* ---- making ---- */

static void recover(void *object, uint32_t owner)
{
        struct brood_lock *lock = object;
        struct user *user = &lock->object.user;

        if (hold_recover(&lock->shared->hold, user, owner))
                user_wake_one(user, &lock->shared->hold.sleepers);
}

static void wake_all(void *object)
{
        waitword_wake_all(&((struct brood_lock *)object)->shared->hold.sleepers);
}

/* A forked child holds nothing, whatever its copy of the parent's handle says. */
static void join(void *object, uint32_t owner)
{
        (void)owner;
        store_relaxed(&((struct brood_lock *)object)->thread, 0);
}

static const struct object_kind lock_kind = {
        .kind = REGION_LOCK,
        .name = "brood-lock",
        .words = sizeof(struct lock_shared),
        .hooks = { .join = join, .recover = recover, .wake_all = wake_all },
};

static int make(brood_lock **ret_lock, bool recursive)
{
        if (ret_lock == NULL)
                return -EINVAL;
        brood_lock *lock = calloc(1, sizeof *lock);
        if (lock == NULL)
                return -ENOMEM;
        int r = object_new(&lock->object, &lock_kind);
        if (r < 0) {
                free(lock);
                return r;
        }
        lock->shared = lock->object.words;
        lock->shared->recursive = lock->recursive = recursive;
        *ret_lock = lock;
        return 0;
}

int brood_lock_new(brood_lock **ret_lock)
{
        return make(ret_lock, false);
}

int brood_rlock_new(brood_lock **ret_lock)
{
        return make(ret_lock, true);
}

int brood_lock_attach(brood_lock **ret_lock, const int descriptors[BROOD_LOCK_DESCRIPTORS])
{
        if (ret_lock == NULL || descriptors == NULL)
                return -EINVAL;
        brood_lock *lock = calloc(1, sizeof *lock);
        if (lock == NULL)
                return -ENOMEM;
        int r = object_attach(&lock->object, &lock_kind, descriptors[0]);
        if (r < 0) {
                free(lock);
                return r;
        }
        lock->shared = lock->object.words;
        lock->recursive = lock->shared->recursive != 0;
        *ret_lock = lock;
        return 0;
}

int lock_open(struct brood_lock **ret_lock, struct lock_place *place, struct owners *owners)
{
        struct brood_lock *lock = calloc(1, sizeof *lock);

        if (lock == NULL)
                return -ENOMEM;
        lock->object.region = (struct region)REGION_NONE;
        lock->object.words = lock->shared = &place->lock;
        lock->recursive = place->lock.recursive != 0;
        lock->inside = true;
        user_init(&lock->object.user, &place->user, owners, &lock_kind.hooks, lock);
        *ret_lock = lock;
        return 0;
}

void lock_close(struct brood_lock *lock)
{
        if (lock == NULL)
                return;
        object_drop(&lock->object);
        free(lock);
}

int brood_lock_descriptors(brood_lock *lock, int ret_descriptors[BROOD_LOCK_DESCRIPTORS])
{
        if (lock == NULL || ret_descriptors == NULL || lock->inside)
                return -EINVAL;
        ret_descriptors[0] = lock->object.region.fd;
        return 0;
}

void brood_lock_free(brood_lock *lock)
{
        if (lock != NULL && !lock->inside)
                lock_close(lock);
}

/* ---- acquiring ---- */

struct call {
        uint32_t owner, times;
        atomic_u32 *canceled; /* somebody else than the lock's user may send the caller away; or NULL */
};

/* Everything that a call does with the handle after it has waited is done here, for whoever frees it waits no longer than that. */
static inline int take(struct brood_lock *lock, uint32_t owner, uint32_t times)
{
        int r = hold_try(&lock->shared->hold, owner);

        if (r >= 0 && lock->recursive) {
                lock->times = times;
                store_relaxed(&lock->thread, thread_mark());
        }
        return r;
}

static int look(void *object, void *context)
{
        const struct call *call = context;
        int r = take(object, call->owner, call->times);

        return r == -EAGAIN && call->canceled != NULL && load_seq_cst(call->canceled) ? -ECANCELED : r;
}

static __attribute__((noinline)) int wait_for_it(struct brood_lock *lock, uint32_t owner, uint32_t times,
                                                 atomic_u32 *canceled, int timeout_ms)
{
        const struct wait wait = { .look = look, .word = &lock->shared->hold.sleepers };
        struct call call = { .owner = owner, .times = times, .canceled = canceled };

        return user_wait(&lock->object.user, &wait, &call, deadline_after_ms(timeout_ms));
}

static inline int acquire(struct brood_lock *lock, uint32_t times, atomic_u32 *canceled, int timeout_ms)
{
        uint32_t owner;
        int r = user_own(&lock->object.user, &owner);

        if (r < 0)
                return r;
        r = take(lock, owner, times);
        return __builtin_expect(r == -EAGAIN, 0) ? wait_for_it(lock, owner, times, canceled, timeout_ms) : r;
}

/* Only this thread writes its own mark, and only while the process holds the lock; so a thread that reads it as its own has written
 * it, and holds the lock.  In this order: what a child has inherited is wiped before it can hold anything (join). */
static bool is_recursion(struct brood_lock *lock)
{
        return lock->recursive && hold_is_mine(&lock->shared->hold, &lock->object.user) &&
               load_relaxed(&lock->thread) == thread_mark();
}

int brood_lock_acquire(brood_lock *lock, int timeout_ms)
{
        if (lock == NULL)
                return -EINVAL;
        if (is_recursion(lock)) {
                if (lock->times == INT32_MAX)
                        return -EOVERFLOW;
                lock->times++;
                return load_relaxed(&lock->shared->hold.word) & HOLD_INCONSISTENT ? BROOD_HOLDER_DIED : 0;
        }
        return acquire(lock, 1, NULL, timeout_ms);
}

int lock_take_back(struct brood_lock *lock, uint32_t times, atomic_u32 *canceled)
{
        return acquire(lock, times, canceled, BROOD_FOREVER);
}

/* ---- releasing ---- */

bool lock_is_mine(struct brood_lock *lock)
{
        return lock->recursive ? is_recursion(lock) : hold_is_mine(&lock->shared->hold, &lock->object.user);
}

static void drop(struct brood_lock *lock)
{
        hold_drop(&lock->shared->hold);
        user_wake_one(&lock->object.user, &lock->shared->hold.sleepers);
}

uint32_t lock_let_go(struct brood_lock *lock)
{
        uint32_t times = lock->times;

        store_relaxed(&lock->thread, 0);
        drop(lock);
        return times;
}

int brood_lock_release(brood_lock *lock)
{
        if (lock == NULL)
                return -EINVAL;
        if (!lock_is_mine(lock))
                return -EPERM;
        if (!lock->recursive)
                drop(lock);
        else if (--lock->times == 0)
                lock_let_go(lock);
        return 0;
}

/* ---- asking ---- */

int brood_lock_locked(brood_lock *lock)
{
        return lock == NULL ? -EINVAL : hold_owner(&lock->shared->hold) != OWNER_NONE;
}

int brood_lock_consistent(brood_lock *lock)
{
        if (lock == NULL)
                return -EINVAL;
        if (!lock_is_mine(lock))
                return -EPERM;
        hold_consistent(&lock->shared->hold);
        return 0;
}

int brood_lock_death(brood_lock *lock, brood_death *ret_death)
{
        if (lock == NULL || ret_death == NULL)
                return -EINVAL;
        if (!lock_is_mine(lock))
                return -EPERM;
        if (!(load_relaxed(&lock->shared->hold.word) & HOLD_INCONSISTENT))
                return -ENODATA;
        *ret_death = death_read(&lock->shared->hold.death);
        return 0;
}
