/* SPDX-License-Identifier: MIT
 *
 * brood/rwlock.h: a reader/writer lock between processes: many may read, or one may write.  (Python has none.)
 *
 *     brood_rwlock *lock;
 *     brood_rwlock_new(&lock);
 *     ...
 *     if (brood_rwlock_acquire_read(lock, BROOD_FOREVER) >= 0) {
 *             look_up(table);
 *             brood_rwlock_release(lock);
 *     }
 *
 * A lock is held by a process (any of its threads may release it), in one of the two ways.  A writer that waits keeps new readers
 * out, so that it is not starved; therefore a thread that reads must not acquire it again before it has released it, in neither
 * way.
 *
 * Death.  Readers that die are no longer counted.  When a writer dies with the lock in its hands, or frees the handle, everyone who
 * acquires it afterwards, to read or to write, gets BROOD_HOLDER_DIED, until a writer calls brood_rwlock_consistent().  One that
 * dies while it waits leaves no trace.  Who waits learns of a death within half a second; who may not wait (a time limit of 0) may
 * hear -EAGAIN for a quarter of a second after it.  Killed at any instruction, a process holds it or does not, and is counted so.
 *
 * A thread that waits while another frees the handle gets -ECANCELED.  All users must be in one PID namespace; nothing checks that.
 */
#ifndef BROOD_RWLOCK_H
#define BROOD_RWLOCK_H

#include <brood/lock.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_rwlock brood_rwlock;

#define BROOD_RWLOCK_READERS_MAX 8191 /* at once; the next one waits */
#define BROOD_RWLOCK_DESCRIPTORS 1

/* Make a reader/writer lock.  Returns 0; -EINVAL (NULL); -ENOMEM; -EMFILE, -ENFILE (no descriptor left).  Threads: any. */
BROOD_API int brood_rwlock_new(brood_rwlock **ret_lock);

/* End this process's use of the lock; what it holds is given up as by its death.
 * Threads: those that wait in a call on it get -ECANCELED, and this call returns after they have left; no other may be
 * inside a call, or begin one.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_rwlock_free(brood_rwlock *lock);

/* Take it, to read or to write; waits while that may not be.
 * Returns 0; BROOD_HOLDER_DIED (1: acquired; a writer died, and what the lock protects may be half changed); -EAGAIN, -ETIMEDOUT;
 *   -EINVAL (NULL); -EUSERS (1,023 processes use it already); -ENOMEM; -ECANCELED (freed by another thread).
 * Threads: any.  Fork: usable in the child, which holds nothing.  Signals: restarts after EINTR.
 * Death: killed here, it is the dead process's, or it is not taken. */
BROOD_API int brood_rwlock_acquire_read(brood_rwlock *lock, int timeout_ms);
BROOD_API int brood_rwlock_acquire_write(brood_rwlock *lock, int timeout_ms);

/* Let go of it, however it was acquired.  Never waits.  Returns 0; -EPERM (this process does not hold it); -EINVAL (NULL). */
BROOD_API int brood_rwlock_release(brood_rwlock *lock);

/* What the lock protects has been put right.  Returns 0; -EPERM (this process does not hold it to write); -EINVAL (NULL). */
BROOD_API int brood_rwlock_consistent(brood_rwlock *lock);

/* Which writer was the last to die with the lock in its hands.
 * Returns 0; -ENODATA (it is not marked); -EPERM (this process does not hold it); -EINVAL (NULL). */
BROOD_API int brood_rwlock_death(brood_rwlock *lock, brood_death *ret_death);

/* The descriptors by which another process can attach to it; they belong to the handle.  Returns 0; -EINVAL (NULL). */
BROOD_API int brood_rwlock_descriptors(brood_rwlock *lock, int ret_descriptors[BROOD_RWLOCK_DESCRIPTORS]);

/* A handle for the lock behind these descriptors, which are duplicated and stay the caller's.  Everything is checked first.
 * Returns 0; -EINVAL (NULL; not a memfd); -EBADF; -EPERM (a memfd that could shrink); -EACCES (opened for reading only); -EUCLEAN
 *   (not one of such a lock, or damaged); -EPROTONOSUPPORT (of another version of brood); -ENOMEM; -EMFILE, -ENFILE. */
BROOD_API int brood_rwlock_attach(brood_rwlock **ret_lock, const int descriptors[BROOD_RWLOCK_DESCRIPTORS]);

#ifdef __cplusplus
}
#endif

#endif
