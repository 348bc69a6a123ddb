/* SPDX-License-Identifier: MIT
 *
 * brood/condition.h: Condition: processes wait until another says that something has changed.
 *
 *     brood_condition *changed;
 *     brood_condition_new(&changed, NULL);            // with a lock of its own, an RLock as Python's
 *     ...
 *     brood_condition_acquire(changed, BROOD_FOREVER);
 *     while (!ready(state))                           // or brood_condition_wait_for()
 *             brood_condition_wait(changed, BROOD_FOREVER);
 *     use(state);
 *     brood_condition_release(changed);
 *     ... and elsewhere, with the lock held: change(state), brood_condition_notify(changed, 1) ...
 *
 * Who waits lets go of the lock and sleeps, and has it again when the call returns.  A wait may end without a notification:
 * look at the state again.  Those who wait are notified in the order in which they came.
 *
 * Death.  Who dies while it waits is no longer counted, and a notification that it had got and not used goes to the next one.
 * If the lock's holder dies, those who wait are woken and get BROOD_HOLDER_DIED with the lock, one after the other, for what they
 * wait for may never come; as long as the lock is marked, no wait lasts.  Both within about half a second.  Killed in notify, a
 * process has notified the first of those that it was to notify, or none, or all.
 *
 * A thread that waits while another frees the handle gets -ECANCELED, without the lock, and a notification that it had got goes to
 * the next one.  All users must be in one PID namespace; nothing checks that.
 */
#ifndef BROOD_CONDITION_H
#define BROOD_CONDITION_H

#include <brood/lock.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_condition brood_condition;

#define BROOD_CONDITION_WAITERS 4096 /* at once */
#define BROOD_CONDITION_DESCRIPTORS 2

/* Make a condition with the given lock, which must stay until the condition is freed; NULL: with an RLock of its own.
 * Returns 0; -EINVAL (ret_condition NULL; the lock of an array); -ENOMEM; -EMFILE, -ENFILE (no descriptor left).  Threads: any. */
BROOD_API int brood_condition_new(brood_condition **ret_condition, brood_lock *lock);

/* End this process's use of the condition, and of a lock of its own; not of one that was given, which the caller may hold.
 * Threads: those that wait in a call on it get -ECANCELED, and this call returns after they have left; no other may be
 * inside a call, or begin one.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_condition_free(brood_condition *condition);

/* The condition's lock, for what brood/lock.h offers; it belongs to the condition, or is the one that was given. NULL for NULL. */
BROOD_API brood_lock *brood_condition_lock(brood_condition *condition);

/* Acquire and release the condition's lock: as brood_lock_acquire() and brood_lock_release(). */
BROOD_API int brood_condition_acquire(brood_condition *condition, int timeout_ms);
BROOD_API int brood_condition_release(brood_condition *condition);

/* Let go of the lock (an RLock: altogether, however often the thread has acquired it), wait for a notification, and take the lock
 * back.  The time limit is for the notification: taking the lock back may last longer.
 * Returns 0; BROOD_HOLDER_DIED (1: as for brood_lock_acquire; notified or not); -EAGAIN, -ETIMEDOUT (not notified); -EPERM (the
 *   caller does not hold the lock); -EINVAL (NULL); -ENOBUFS (BROOD_CONDITION_WAITERS wait already); -EUSERS (1,023 processes
 *   use it already); -ENOMEM: with these the lock is held as before; -ECANCELED (freed by another thread; the lock is not held).
 * Threads: any.  Fork: usable in the child.  Signals: restarts after EINTR.
 * Death: killed here, it waits no longer; what it was told goes to the next one; and if it had the lock again, it is a dead
 * holder. */
BROOD_API int brood_condition_wait(brood_condition *condition, int timeout_ms);

/* Wait until predicate(arg) is true; it is called with the lock held, first before any waiting.  The time limit is for all of it.
 * Returns 0 (it is true); the errors of brood_condition_wait(); BROOD_HOLDER_DIED as soon as a wait returns that, whatever the
 *   predicate may say.  -EINVAL also for predicate NULL. */
BROOD_API int brood_condition_wait_for(brood_condition *condition, bool (*predicate)(void *arg), void *arg,
                                       int timeout_ms);

/* Notify up to `count` of those who wait, or all; with the lock held.  Never waits.
 * Returns how many, one that has died unnoticed included; -EPERM (the caller does not hold the lock); -EINVAL (NULL; count
 *   negative). */
BROOD_API int brood_condition_notify(brood_condition *condition, int count);
BROOD_API int brood_condition_notify_all(brood_condition *condition);

/* The descriptors by which another process can attach to the condition and its lock; they belong to the handles.  Returns 0;
 * -EINVAL (NULL). */
BROOD_API int brood_condition_descriptors(brood_condition *condition, int ret_descriptors[BROOD_CONDITION_DESCRIPTORS]);

/* A handle for the condition behind these descriptors, which are duplicated and stay the caller's; with a lock of its own, or with
 * `lock`, a handle that this process has for the lock that the condition was made with.  Everything is checked first.
 * Returns 0; -EINVAL (NULL; not a memfd; a lock that is another); -EBADF; -EPERM (a memfd that could shrink); -EACCES (opened for
 *   reading only); -EUCLEAN (not one of a condition or lock, or damaged); -EPROTONOSUPPORT (of another version of brood);
 *   -ENOMEM; -EMFILE, -ENFILE. */
BROOD_API int brood_condition_attach(brood_condition **ret_condition,
                                     const int descriptors[BROOD_CONDITION_DESCRIPTORS], brood_lock *lock);

#ifdef __cplusplus
}
#endif

#endif
