/* SPDX-License-Identifier: MIT
 *
 * brood/queue.h: a bounded queue of byte messages between processes.
 *
 *     struct pair { int x, y; };
 *     brood_queue *q;
 *     brood_queue_new(&q, &(brood_queue_options){ .maxsize = 3 });
 *     ... fork, or start processes: they have the same queue under the same handle ...
 *     r = brood_queue_put(q, &(struct pair){ 1, 2 }, sizeof(struct pair), BROOD_FOREVER);
 *     n = brood_queue_get(q, &pair, sizeof pair, 8000);       // its size; -ETIMEDOUT after 8 s
 *
 * Any number of processes and threads may put and get.  Messages are byte strings of 0 to `message_size` bytes; they come
 * out whole and in the order in which their puts claimed their places; the puts of one thread stay in order.  Two queues
 * made apart share nothing.  One made before a fork is the same queue in both processes.
 *
 * The queue lives in anonymous shared memory: nothing has a name in the file system, and the memory is gone with the
 * last process that uses it.  Put and get make no system call while the queue is neither empty nor full.
 *
 * Death.  Any process may be killed at any instruction; the others go on.  Killed inside put: the message is in the queue
 * as a whole, or not at all.  Killed inside get: the message is still in the queue (and is delivered to another), or the
 * call had done its work and the message is gone with the killed process.  What a dead process left half done is
 * repaired by whoever meets it, on proof of death only: a stopped process is not a dead one, and a message behind one
 * that a stopped process is writing waits for it.  A call that sleeps notices a death within about 300 ms.
 *
 * All users must be in one PID namespace.  A process must not exec(2) while another of its threads is inside a call.
 */
#ifndef BROOD_QUEUE_H
#define BROOD_QUEUE_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_queue brood_queue;

#define BROOD_QUEUE_MAXSIZE_DEFAULT 1024
#define BROOD_QUEUE_MAXSIZE_LIMIT ((size_t)1 << 20)
#define BROOD_QUEUE_MESSAGE_SIZE_DEFAULT ((size_t)64 << 10)
#define BROOD_QUEUE_MESSAGE_SIZE_LIMIT ((size_t)1 << 30)

typedef struct brood_queue_options {
        size_t maxsize;      /* messages it holds; 0: BROOD_QUEUE_MAXSIZE_DEFAULT */
        size_t message_size; /* bytes of the largest message; 0: BROOD_QUEUE_MESSAGE_SIZE_DEFAULT */
} brood_queue_options;

/* Make a queue.
 * Returns 0; -EINVAL (ret_queue NULL, or an option beyond its limit); -E2BIG (options from a newer brood, or maxsize times
 *   message_size beyond the address space); -ENOMEM; -EMFILE, -ENFILE (no descriptor left).
 * Threads: any.  Signals: not async-signal-safe.  Memory: the ring's own part is committed at once (32 to 128 bytes
 *   a message of maxsize), so that a shortage is an error here; the room of larger messages when it is first used. */
BROOD_API int brood_queue_new_sized(brood_queue **ret_queue, const brood_queue_options *options, size_t options_size);

static inline int brood_queue_new(brood_queue **ret_queue, const brood_queue_options *options)
{
        return brood_queue_new_sized(ret_queue, options, sizeof(brood_queue_options));
}

/* End this process's use of the queue.  The messages stay for the others; with the last process they are gone.
 * Threads: none may be using the handle.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_queue_free(brood_queue *queue);

/* Put a copy of `size` bytes at the end of the queue; waits while it is full.
 * Returns 0; -EAGAIN, -ETIMEDOUT (it was full); -EPIPE (closed); -EMSGSIZE (size beyond the queue's message_size);
 *   -EINVAL (NULL queue, or NULL data with size > 0); -ENOMEM (no memory for a large message); -EUSERS (1,023 processes
 *   use it already); -EUCLEAN (the shared memory holds what no brood wrote).
 * Threads: any.  Processes: any number.  Fork: usable in the child.  Signals: restarts after EINTR.
 * Death: killed here, the message is in the queue as a whole or not at all. */
BROOD_API int brood_queue_put(brood_queue *queue, const void *data, size_t size, int timeout_ms);

/* The same as brood_queue_put() with timeout 0. */
BROOD_API int brood_queue_put_nowait(brood_queue *queue, const void *data, size_t size);

/* Take the oldest message into `buf` of `room` bytes; waits while the queue is empty.
 * Returns its size in bytes (which may be 0); -EAGAIN, -ETIMEDOUT (it was empty); -EPIPE (closed, and all messages taken);
 *   -EMSGSIZE (the message is larger than room, and stays in the queue; a buffer of brood_queue_message_size() bytes
 *   always suffices); -EINVAL (NULL queue, or NULL buf with room > 0); -EUSERS, -EUCLEAN as for put.
 *   On failure `buf` is untouched.
 * Threads: any.  Processes: any number.  Fork: usable in the child.  Signals: restarts after EINTR.
 * Death: killed here, the message is either still in the queue or gone with the killed process. */
BROOD_API ssize_t brood_queue_get(brood_queue *queue, void *buf, size_t room, int timeout_ms);

/* The same as brood_queue_get() with timeout 0. */
BROOD_API ssize_t brood_queue_get_nowait(brood_queue *queue, void *buf, size_t room);

/* Close the queue for everybody: puts fail with -EPIPE from now on; gets take what is left and then fail with -EPIPE.
 * Whoever waits is woken.  Closing again does nothing.  Returns 0; -EINVAL (NULL).
 * Death: killed here, the queue is closed or it is not; sleepers notice a close within about 300 ms. */
BROOD_API int brood_queue_close(brood_queue *queue);

/* The number of messages that a get could take; exact while nobody else is at work, and a snapshot otherwise.  Takes
 * time in proportion to that number.  -EINVAL (NULL); -EUCLEAN.  Threads: any. */
BROOD_API ssize_t brood_queue_qsize(brood_queue *queue);

/* Whether there is no message to take, or no place to put one: 1 or 0, a snapshot; -EINVAL (NULL); -EUCLEAN. */
BROOD_API int brood_queue_empty(brood_queue *queue);
BROOD_API int brood_queue_full(brood_queue *queue);

/* What the queue was made with; 0 for NULL. */
BROOD_API size_t brood_queue_maxsize(const brood_queue *queue);
BROOD_API size_t brood_queue_message_size(const brood_queue *queue);

#ifdef __cplusplus
}
#endif

#endif
