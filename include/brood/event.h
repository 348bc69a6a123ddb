/* SPDX-License-Identifier: MIT
 *
 * brood/event.h: Event: a flag that processes set, clear and wait for.
 *
 *     brood_event *stop;
 *     brood_event_new(&stop);
 *     ... in a worker ...
 *     while (brood_event_wait(stop, 100) == -ETIMEDOUT)
 *             work_a_little();
 *     ... elsewhere ...
 *     brood_event_set(stop);
 *
 * Who waits when the flag is set is released, even if it is cleared again before the waiter has looked.  The flag has
 * no owner, so no death changes it: killed in set or clear, a process has done it or not, and those who wait learn it within
 * half a second.  It has a descriptor, for poll(2) and for event loops.
 *
 * A thread that waits while another frees the handle gets -ECANCELED.
 */
#ifndef BROOD_EVENT_H
#define BROOD_EVENT_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_event brood_event;

#define BROOD_EVENT_DESCRIPTORS 2

/* Make an event, not set.  Returns 0; -EINVAL (NULL); -ENOMEM; -EMFILE, -ENFILE (no descriptor left); -ENOENT (no /proc).
 * Threads: any. */
BROOD_API int brood_event_new(brood_event **ret_event);

/* End this process's use of the event.
 * Threads: those that wait in a call on it get -ECANCELED, and this call returns after they have left; no other may be
 * inside a call, or begin one.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_event_free(brood_event *event);

/* Set the flag, and release all who wait; clear it.  Setting one that is set, or clearing one that is not, does nothing.
 * Returns 0; -EINVAL (NULL).  Threads: any.  Fork: usable in the child.  Never waits.
 * Death: killed here, it is done or not; who waits learns within half a second that it is. */
BROOD_API int brood_event_set(brood_event *event);
BROOD_API int brood_event_clear(brood_event *event);

/* Whether it is set: 1 or 0; -EINVAL (NULL). */
BROOD_API int brood_event_is_set(brood_event *event);

/* Wait until it is set.
 * Returns 0; -EAGAIN, -ETIMEDOUT; -EINVAL (NULL); -EUSERS (1,023 processes use it already); -ENOMEM; -ECANCELED (freed by another
 *   thread).
 * Threads: any.  Fork: usable in the child.  Signals: restarts after EINTR. */
BROOD_API int brood_event_wait(brood_event *event, int timeout_ms);

/* A descriptor that is readable while the flag is set; for poll only: it belongs to the handle, and must be neither read, written
 * nor closed.  (A process that is killed inside set or clear may leave it readable while the flag is not set, until the next
 * brood_event_is_set(); or, with another inside clear at that moment, the other way round, until the next set or fileno.)
 * Returns the descriptor; -EINVAL (NULL). */
BROOD_API int brood_event_fileno(brood_event *event);

/* The descriptors by which another process can attach to it; they belong to the handle.  Returns 0; -EINVAL (NULL). */
BROOD_API int brood_event_descriptors(brood_event *event, int ret_descriptors[BROOD_EVENT_DESCRIPTORS]);

/* A handle for the event behind these descriptors, which are duplicated and stay the caller's.  Everything is checked first.
 * Returns 0; -EINVAL (NULL; the first is not a memfd, the second not the event's); -EBADF; -EPERM (a memfd that could shrink);
 *   -EACCES (opened for reading only); -EUCLEAN (not one of an event, or damaged); -EPROTONOSUPPORT (of another version of
 *   brood); -ENOMEM; -EMFILE, -ENFILE; -ENOENT (no /proc). */
BROOD_API int brood_event_attach(brood_event **ret_event, const int descriptors[BROOD_EVENT_DESCRIPTORS]);

#ifdef __cplusplus
}
#endif

#endif
