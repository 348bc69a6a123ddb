/* SPDX-License-Identifier: MIT
 *
 * brood/barrier.h: Barrier: processes (or threads) wait for one another.
 *
 *     brood_barrier *barrier;
 *     brood_barrier_new(&barrier, 3, NULL);
 *     ... in each of three processes ...
 *     int i = brood_barrier_wait(barrier, BROOD_FOREVER);     // 0, 1 or 2, and for each of them another number
 *
 * The last of `parties` to arrive releases all, and when they have left, the barrier is as new.  A barrier can break: by
 * brood_barrier_abort(), by a wait that times out, or by an action that fails.  Then all who wait, and all who come, get -EPIPE,
 * until brood_barrier_reset().  That is what Python's BrokenBarrierError says; the one whose time was up is told that instead.
 *
 * Death.  The arrival of a process that dies while it waits is given back: the others wait for another one to come in its
 * place (or, with `.break_on_death`, get -EPIPE).  One that died in the last quarter of a second may still count as one that waits
 * when the last arrives.  A process that dies when it has been released, and has not left yet, is not waited for.  If the one that
 * runs the action dies in it, the barrier is broken.  Who waits learns of these within half a second.
 *
 * A thread that waits while another frees the handle gets -ECANCELED, and its arrival is given back.  All users must be in one
 * PID namespace; nothing checks that.
 */
#ifndef BROOD_BARRIER_H
#define BROOD_BARRIER_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_barrier brood_barrier;

#define BROOD_BARRIER_PARTIES_MAX 2047
#define BROOD_BARRIER_DESCRIPTORS 1

typedef struct brood_barrier_options {
        /* Called by the last to arrive, before anybody is released; a negative errno breaks the barrier, and is what that one's
         * wait returns.  It must not wait at this barrier.  It belongs to the handle: one that attaches says which is its own. */
        int (*action)(void *arg);
        void *arg;

        /* Not 0: the death of one that waits breaks the barrier. */
        int break_on_death;
} brood_barrier_options;

/* Make a barrier.
 * Returns 0; -EINVAL (ret_barrier NULL; parties below 1 or above BROOD_BARRIER_PARTIES_MAX); -E2BIG (options from a newer brood);
 *   -ENOMEM; -EMFILE, -ENFILE (no descriptor left).  Threads: any. */
BROOD_API int brood_barrier_new_sized(brood_barrier **ret_barrier, int parties, const brood_barrier_options *options,
                                      size_t options_size);

static inline int brood_barrier_new(brood_barrier **ret_barrier, int parties, const brood_barrier_options *options)
{
        return brood_barrier_new_sized(ret_barrier, parties, options, sizeof(brood_barrier_options));
}

/* End this process's use of the barrier.
 * Threads: those that wait in a call on it get -ECANCELED, and this call returns after they have left; no other may be
 * inside a call, or begin one.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_barrier_free(brood_barrier *barrier);

/* Arrive, and wait for the others.
 * Returns a number from 0 to parties - 1, in no particular order; no two of a round get the same, and if none of them dies, each
 *   is somebody's; -EPIPE (the barrier is broken, or was reset meanwhile); -EAGAIN, -ETIMEDOUT (not all came in time, or the action
 *   had not ended: that breaks the barrier.  Or those who were released before have not all left in time: that does not); the
 *   action's own negative errno; -EINVAL (NULL); -EUSERS (1,023 processes use it already); -ENOMEM; -ECANCELED (freed by another
 *   thread).
 * Threads: any; each is one party.  Fork: usable in the child.  Signals: restarts after EINTR.
 * Death: killed here, it has not arrived; or its arrival is given back; or the others were released. */
BROOD_API int brood_barrier_wait(brood_barrier *barrier, int timeout_ms);

/* Who waits gets -EPIPE, and the barrier is as new; it is no longer broken.  Returns 0; -EINVAL (NULL).  Never waits. */
BROOD_API int brood_barrier_reset(brood_barrier *barrier);

/* Break it.  Returns 0; -EINVAL (NULL).  Never waits. */
BROOD_API int brood_barrier_abort(brood_barrier *barrier);

/* How many must arrive; how many wait now; whether it is broken (1 or 0).  -EINVAL (NULL). */
BROOD_API int brood_barrier_parties(const brood_barrier *barrier);
BROOD_API int brood_barrier_n_waiting(brood_barrier *barrier);
BROOD_API int brood_barrier_broken(brood_barrier *barrier);

/* The descriptors by which another process can attach to it; they belong to the handle.  Returns 0; -EINVAL (NULL). */
BROOD_API int brood_barrier_descriptors(brood_barrier *barrier, int ret_descriptors[BROOD_BARRIER_DESCRIPTORS]);

/* A handle for the barrier behind these descriptors, which are duplicated and stay the caller's; `action` (may be NULL) is what
 * this process calls when it is the last to arrive.  Everything is checked first.
 * Returns 0; -EINVAL (NULL; not a memfd); -EBADF; -EPERM (a memfd that could shrink); -EACCES (opened for reading only); -EUCLEAN
 *   (not one of a barrier, or damaged); -EPROTONOSUPPORT (of another version of brood); -ENOMEM; -EMFILE, -ENFILE. */
BROOD_API int brood_barrier_attach(brood_barrier **ret_barrier, const int descriptors[BROOD_BARRIER_DESCRIPTORS],
                                   int (*action)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
