/* SPDX-License-Identifier: MIT
 *
 * sync/lock.h: the handle of a Lock or RLock, for those who need one inside: conditions let go of it while they wait.
 */
#ifndef BROOD_SYNC_LOCK_H
#define BROOD_SYNC_LOCK_H

#include "sync/hold.h"
#include "sync/object.h"

#include <brood/lock.h>

struct lock_shared {
        struct hold_shared hold;
        uint32_t recursive; /* written once, before anybody else can see it */
        uint32_t reserved;
};
static_assert(sizeof(struct lock_shared) == 24, "shared");

/* Which thread of the process holds an RLock, and how often, is the process's own affair: nobody else asks for it, and with the
 * process it is gone.  `thread` is the thread's mark while one holds it, and 0 before it lets go; `times` is that thread's. */
struct brood_lock {
        struct object object;
        struct lock_shared *shared;
        bool recursive;
        bool inside; /* another object's region, whose it is to pass on and to end */
        atomic_u64 thread;
        uint32_t times;
};

/* What a lock inside another object's region needs there, beside a table of owners; zeros are a Lock that is free. */
struct lock_place {
        struct user_shared user;
        struct lock_shared lock;
};

/* A handle for such a lock: 0 or -ENOMEM; and its end. */
int lock_open(struct brood_lock **ret_lock, struct lock_place *place, struct owners *owners);
void lock_close(struct brood_lock *lock);

/* Whether the caller may release it. */
bool lock_is_mine(struct brood_lock *lock);

/* Let go of it altogether, however often the thread has acquired it; and take it back so often, however long that lasts:
 * -ECANCELED once `canceled` is set and the sleepers have been woken. */
uint32_t lock_let_go(struct brood_lock *lock);
int lock_take_back(struct brood_lock *lock, uint32_t times, atomic_u32 *canceled);

#endif
