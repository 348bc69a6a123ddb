/* SPDX-License-Identifier: MIT
 *
 * brood/semaphore.h: Semaphore and BoundedSemaphore between processes, which get the units of the dead back.
 *
 *     brood_semaphore *slots;
 *     brood_bounded_semaphore_new(&slots, 4);                 // at most four at once
 *     ...
 *     if (brood_semaphore_acquire(slots, BROOD_FOREVER) == 0) {
 *             use_one();
 *             brood_semaphore_release(slots);
 *     }
 *
 *     multiprocessing          here
 *     Semaphore(n)             brood_semaphore_new(&semaphore, n, NULL)
 *     BoundedSemaphore(n)      brood_bounded_semaphore_new(&semaphore, n)
 *
 * Who holds what.  A unit belongs to the process that acquired it until that process releases one.  Any process may release:
 * one that holds none adds a fresh unit, as in Python (a bounded semaphore has no room for it, unless another process holds one).
 *
 * Death.  What a process holds when it dies, or when it frees its handle, goes back; who sleeps gets it within half a second.
 * Killed at any instruction of acquire or release, a process has done it or not, and its units are counted so.
 * A semaphore that counts events (one side only releases, the other only acquires) has nothing to give back: say so
 * with `.events`, or a consumer's death repeats all the events that it ever took.  The same where units are taken by one process
 * and given back by another.
 *
 * A thread that waits while another frees the handle gets -ECANCELED.  Units are not handed over in the order of the waits.
 * All users must be in one PID namespace; nothing checks that.
 */
#ifndef BROOD_SEMAPHORE_H
#define BROOD_SEMAPHORE_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_semaphore brood_semaphore;

#define BROOD_SEMAPHORE_VALUE_MAX 16777215
#define BROOD_SEMAPHORE_DESCRIPTORS 1

typedef struct brood_semaphore_options {
        /* Not 0: it may not be released above its first value. */
        int bounded;

        /* Not 0: a unit that was acquired is used up; nobody holds it, and no death gives it back. */
        int events;
} brood_semaphore_options;

/* Make a semaphore with `value` units.
 * Returns 0; -EINVAL (ret_semaphore NULL; value negative or above BROOD_SEMAPHORE_VALUE_MAX; both bounded and events); -E2BIG
 *   (options from a newer brood); -ENOMEM; -EMFILE, -ENFILE (no descriptor left).  Threads: any. */
BROOD_API int brood_semaphore_new_sized(brood_semaphore **ret_semaphore, int value,
                                        const brood_semaphore_options *options, size_t options_size);

static inline int brood_semaphore_new(brood_semaphore **ret_semaphore, int value,
                                      const brood_semaphore_options *options)
{
        return brood_semaphore_new_sized(ret_semaphore, value, options, sizeof(brood_semaphore_options));
}

/* Make one that may not be released above `value`.  The same errors. */
BROOD_API int brood_bounded_semaphore_new(brood_semaphore **ret_semaphore, int value);

/* End this process's use of the semaphore; what it holds goes back.
 * Threads: those that wait in a call on it get -ECANCELED, and this call returns after they have left; no other may be
 * inside a call, or begin one.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_semaphore_free(brood_semaphore *semaphore);

/* Take one unit; waits while there is none.
 * Returns 0; -EAGAIN, -ETIMEDOUT (there was none); -EINVAL (NULL); -EUSERS (1,023 processes use it already); -ENOMEM;
 *   -ECANCELED (freed by another thread).
 * Threads: any.  Fork: usable in the child, which holds nothing.  Signals: restarts after EINTR.
 * Death: killed here, the unit is the dead process's, and goes back, or was not taken. */
BROOD_API int brood_semaphore_acquire(brood_semaphore *semaphore, int timeout_ms);

/* Give one unit back, or add one.  Never waits.
 * Returns 0; -EOVERFLOW (bounded: it has all its units; or BROOD_SEMAPHORE_VALUE_MAX); -EINVAL (NULL); -EUSERS, -ENOMEM.
 * Threads: any.  Fork: usable in the child, which holds nothing.
 * Death: killed here, it is done, and counted so, or not. */
BROOD_API int brood_semaphore_release(brood_semaphore *semaphore);

/* How many units there are, by the time of asking: 0 or more; -EINVAL (NULL).  Those of the dead are counted once they are
 * back. */
BROOD_API int brood_semaphore_get_value(brood_semaphore *semaphore);

/* The descriptors by which another process can attach to it; they belong to the handle.  Returns 0; -EINVAL (NULL). */
BROOD_API int brood_semaphore_descriptors(brood_semaphore *semaphore, int ret_descriptors[BROOD_SEMAPHORE_DESCRIPTORS]);

/* A handle for the semaphore behind these descriptors, which are duplicated and stay the caller's.  Everything is checked first.
 * Returns 0; -EINVAL (NULL; not a memfd); -EBADF; -EPERM (a memfd that could shrink); -EACCES (opened for reading only); -EUCLEAN
 *   (not one of a semaphore, or damaged); -EPROTONOSUPPORT (of another version of brood); -ENOMEM; -EMFILE, -ENFILE. */
BROOD_API int brood_semaphore_attach(brood_semaphore **ret_semaphore,
                                     const int descriptors[BROOD_SEMAPHORE_DESCRIPTORS]);

#ifdef __cplusplus
}
#endif

#endif
