/* SPDX-License-Identifier: MIT
 *
 * brood/lock.h: Lock and RLock between processes, which survive their holder.
 *
 *     brood_lock *lock;
 *     brood_lock_new(&lock);
 *     ... fork, or start processes: they have the same lock under the same handle ...
 *     r = brood_lock_acquire(lock, BROOD_FOREVER);
 *     if (r == BROOD_HOLDER_DIED) {
 *             put_right(state);                       // it may have been left half changed
 *             brood_lock_consistent(lock);
 *     }
 *     if (r >= 0) {
 *             change(state);
 *             brood_lock_release(lock);
 *     }
 *
 *     multiprocessing          here
 *     Lock()                   brood_lock_new(&lock)
 *     RLock()                  brood_rlock_new(&lock): the thread that holds it may acquire it again
 *     acquire(), release()     brood_lock_acquire(), brood_lock_release()
 *
 * Who holds it.  A Lock is held by a process: any of its threads may release it; another process may not (Python's may be
 * released by anybody, which would leave nobody to ask whether the holder lives).  An RLock is held by one thread.  What is held is
 * held through the handle: a forked child, whose handle is its own, holds nothing.  A thread that ends with an RLock in its hands
 * leaves it to nobody: its process holds it until it ends, too.
 *
 * Death.  When the holder dies, or frees the handle while it holds it, the next one gets the lock with BROOD_HOLDER_DIED, and so
 * does every later one, until somebody who holds it calls brood_lock_consistent().  A stopped process is not a dead one.  Who
 * sleeps learns of a death within half a second; who may not wait (a time limit of 0) may hear -EAGAIN for a quarter of a second
 * after it.  A holder that is killed in its release has released it, or has not and is a dead holder.
 *
 * Waiting costs no CPU; a lock that nobody waits for costs no system call.  A thread that waits in a call while another thread
 * frees the handle gets -ECANCELED.  Locks are not handed over in the order of the waits.
 *
 * All users must be in one PID namespace; nothing checks that.  exec(2) does not end a process: before it, release what you
 * hold.
 */
#ifndef BROOD_LOCK_H
#define BROOD_LOCK_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_lock brood_lock;

/* What a call that acquires returns instead of 0: acquired; but a process died while it held this, and nobody has said since then
 * that what it protects is consistent. */
#define BROOD_HOLDER_DIED 1

/* Who died, and how. */
typedef struct brood_death {
        pid_t pid;
        int exitcode; /* 0 to 255; -N: killed by signal N; BROOD_EXITCODE_UNKNOWN: its parent had reaped it before anybody asked, or
                       * it lives and only gave its handle up */
} brood_death;

#define BROOD_LOCK_DESCRIPTORS 1

/* Make a lock, or one that its thread may acquire again and again.
 * Returns 0; -EINVAL (NULL); -ENOMEM; -EMFILE, -ENFILE (no descriptor left).  Threads: any. */
BROOD_API int brood_lock_new(brood_lock **ret_lock);
BROOD_API int brood_rlock_new(brood_lock **ret_lock);

/* End this process's use of the lock.  If it holds it, the next one is told BROOD_HOLDER_DIED.
 * Threads: those that wait in a call on it get -ECANCELED, and this call returns after they have left; no other may be
 * inside a call, or begin one.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_lock_free(brood_lock *lock);

/* Take the lock; waits while another holds it.
 * Returns 0; BROOD_HOLDER_DIED (1: the lock is yours, and what it protects may be half changed); -EAGAIN, -ETIMEDOUT (another
 *   holds it; without a limit, a thread of this process that holds a Lock and acquires it again waits for ever);
 *   -EOVERFLOW (an RLock, acquired 2^31 - 1 times); -EINVAL (NULL); -EUSERS (1,023 processes use it already); -ENOMEM;
 *   -ECANCELED (freed by another thread).
 * Threads: any.  Fork: usable in the child, which holds nothing.  Signals: restarts after EINTR.
 * Death: killed here, it is the dead process's, or it is not taken. */
BROOD_API int brood_lock_acquire(brood_lock *lock, int timeout_ms);

/* Let go of it; of an RLock, once for each time it was acquired.  Never waits.
 * Returns 0; -EPERM (nobody holds it, or another process does, or an RLock's other thread); -EINVAL (NULL).
 * Threads: any of the process that holds a Lock; the one that holds an RLock.
 * Death: killed here, it is released, or the next one is told BROOD_HOLDER_DIED. */
BROOD_API int brood_lock_release(brood_lock *lock);

/* Whether somebody holds it, by the time of asking: 1 or 0; -EINVAL (NULL).  A holder that died counts until the next acquire. */
BROOD_API int brood_lock_locked(brood_lock *lock);

/* What the lock protects has been put right, says who holds it: later ones are told nothing any more.
 * Returns 0 (also if it was not marked); -EPERM (as for release); -EINVAL (NULL). */
BROOD_API int brood_lock_consistent(brood_lock *lock);

/* Who was the last to die with the lock in its hands.
 * Returns 0; -ENODATA (it is not marked); -EPERM (as for release); -EINVAL (NULL). */
BROOD_API int brood_lock_death(brood_lock *lock, brood_death *ret_death);

/* The descriptors by which another process can attach to the lock (SCM_RIGHTS, or inherited across an exec).  They belong to the
 * handle.  Returns 0; -EINVAL (NULL; the lock of an array, which goes with the array). */
BROOD_API int brood_lock_descriptors(brood_lock *lock, int ret_descriptors[BROOD_LOCK_DESCRIPTORS]);

/* A handle for the lock behind these descriptors, which are duplicated and stay the caller's.  Everything is checked first.
 * Returns 0; -EINVAL (NULL; not a memfd); -EBADF; -EPERM (a memfd that could shrink); -EACCES (opened for reading only); -EUCLEAN
 *   (not one of a lock, or damaged); -EPROTONOSUPPORT (of another version of brood); -ENOMEM; -EMFILE, -ENFILE. */
BROOD_API int brood_lock_attach(brood_lock **ret_lock, const int descriptors[BROOD_LOCK_DESCRIPTORS]);

#ifdef __cplusplus
}
#endif

#endif
