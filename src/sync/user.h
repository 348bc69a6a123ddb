/* SPDX-License-Identifier: MIT
 *
 * sync/user.h: this process as a user of an object in shared memory, and the one loop in which it waits for others.
 *
 * A handle knows its process by an owner number (shm/owners.h), which it takes at the first use, and anew in a forked child: what
 * the parent holds, the child does not.  It counts the threads that are inside a waiting call, so that whoever frees the
 * handle can send them away and see them off.
 *
 *   struct user (process-private)   written by                                  read by
 *   mark, owner                     user_own_slow, under process_lock           any thread; owner after mark (A7)
 *   inside                          each thread that waits                      user_end
 *   canceled                        user_cancel                                 each thread that waits
 *   fences                          user_own_slow                               any thread
 *
 *   struct user_shared              written by                                  read by
 *   fenced                          who could not fence for all; only ever 1    all, before they look for sleepers
 *   checked                         who looks for the dead (CAS)                who would
 */
#ifndef BROOD_SYNC_USER_H
#define BROOD_SYNC_USER_H

#include "os/atfork.h"
#include "os/fence.h"
#include "shm/owners.h"
#include "sync/spin.h"
#include "sync/waitword.h"

struct user_shared {
        atomic_u32 fenced;
        uint32_t reserved;
        atomic_u64 checked; /* when somebody last looked for the dead, in ns of the monotonic clock */
};
static_assert(sizeof(struct user_shared) == 16, "shared");

/* What an object has to do with its users; each may be NULL. */
struct user_hooks {
        void (*join)(void *object, uint32_t owner); /* prepare what the object keeps of a new owner */
        void (*recover)(void *object,
                        uint32_t owner); /* repair what a dead one has left, after which its number is free */
        void (*watch)(void *object);     /* look for the dead elsewhere, too */
        void (*wake_all)(void *object);  /* wake whoever sleeps on the object */
};

struct user {
        struct user_shared *shared;
        struct owners *owners;
        atomic_u64 mark; /* of the process that `owner` stands for */
        uint32_t owner;
        atomic_u32 inside;
        atomic_u32 canceled;
        atomic_u32 fences; /* this process cannot be fenced by others, or has not said yet that it can */
        struct spin spin;

        const struct user_hooks *hooks;
        void *object;
};

void user_init(struct user *user, struct user_shared *shared, struct owners *owners, const struct user_hooks *hooks,
               void *object);

int user_own_slow(struct user *user);

/* The owner number of this process, registering it first if need be: 0, -EUSERS (the table is full), -ENOMEM. */
static inline int user_own(struct user *user, uint32_t *ret_owner)
{
        /* A7: pairs with R7 in user_own_slow, which wrote the owner before. */
        if (__builtin_expect(load_acquire(&user->mark) != process_mark() || process_mark() == 0, 0)) {
                int r = user_own_slow(user);
                if (r < 0)
                        return r;
        }
        *ret_owner = user->owner;
        return 0;
}

/* The same without registering: OWNER_NONE if this process has not, and so holds nothing. */
static inline uint32_t user_owner(struct user *user)
{
        return load_acquire(&user->mark) == process_mark() && process_mark() != 0 ? user->owner : OWNER_NONE;
}

/* A call that may wait begins and ends, for whoever frees the handle meanwhile: the two enclose all that it does with the object
 * after it has waited.  They may be nested. */
void user_enter(struct user *user);
void user_leave(struct user *user);

/* Threads that wait, or will, return -ECANCELED. */
void user_cancel(struct user *user);

/* End the handle: threads that wait are sent away, and awaited; what the process holds is repaired as if it had died. */
void user_end(struct user *user);

/* Between a change of the state and the look for sleepers who wait for it: orders the two.  The other half is in
 * user_wait(): the sleeper fences for everybody. */
static inline void user_fence(struct user *user)
{
        if (__builtin_expect(load_relaxed(&user->fences) | load_relaxed(&user->shared->fenced), 0))
                fence_full();
        else
                fence_light();
}

/* After a change that one of those who sleep on the word can use; or all of them. */
static inline void user_wake_one(struct user *user, atomic_u32 *word)
{
        user_fence(user);
        if (__builtin_expect(load_relaxed(word) & WAITWORD_SLEEPERS, 0))
                waitword_wake_slow(word, 1);
}

void user_wake_all(struct user *user, atomic_u32 *word);

/* What a call waits for.  `look` says how the call ends: 0 or more, or an error; -EAGAIN: not yet.  It is called again and
 * again, also after this process has said that it sleeps.  `more` (may be NULL) says whether there is something left for another
 * sleeper, after this one has got what it came for. */
struct wait {
        int (*look)(void *object, void *call);
        bool (*more)(void *object);
        atomic_u32 *word;
};

/* Wait: what `look` ended with; -EAGAIN (deadline now), -ETIMEDOUT; -ECANCELED.
 *
 * Nobody watches over the dead but those who wait: no sleep is longer than WATCH_MS, and after each, and before the first, one
 * of them (by the shared time `checked`) asks for each owner in the table whether it lives, and repairs.  So a death is seen
 * within two slices. */
int user_wait(struct user *user, const struct wait *wait, void *call, int64_t deadline);

enum { WATCH_MS = 250, WATCH_SLACK_MS = 50 };

/* Repair what the dead have left: if nobody has asked for a while; or now. */
void user_watch(struct user *user);
void user_recover_all(struct user *user);

#endif
