/* SPDX-License-Identifier: MIT
 *
 * brood/queue.h: a queue of byte messages between processes.
 *
 *     struct pair { int x, y; };
 *     brood_queue *q;
 *     brood_queue_new(&q, &(brood_queue_options){ .maxsize = 3 });
 *     ... fork, or start processes: they have the same queue under the same handle ...
 *     r = brood_queue_put(q, &(struct pair){ 1, 2 }, sizeof(struct pair), BROOD_FOREVER);
 *     n = brood_queue_get(q, &pair, sizeof pair, 8000);       // its size; -ETIMEDOUT after 8 s
 *
 * Any number of processes and threads may put and get.  Messages are byte strings of any size up to `message_size`; they
 * come out whole and in the order in which their puts claimed their places (but for those that come back); the puts of one
 * thread stay in order.  Two queues made apart share nothing.  One made before a fork is the same queue in both processes.
 *
 *     multiprocessing          here
 *     Queue(n), Queue()        .maxsize = n; 0: no bound
 *     SimpleQueue()            brood_queue_new(&q, NULL)
 *     JoinableQueue()          .joinable = 1, brood_queue_task_done(), brood_queue_join()
 *
 * Three ways to take a message:
 *
 *     get                      copied out; it is gone when the call returns
 *     peek ... release         read where it lies, without a copy; its place is free again at the release
 *     lease ... acknowledge    yours until you acknowledge it; if you give it back, or die, it goes to another
 *
 * and two ways to put one: put copies it in, reserve ... commit has you write it in place.
 *
 * The queue lives in anonymous shared memory: nothing has a name in the file system, and the memory is gone with the last
 * process that uses it.  Put and get make no system call while the queue is neither empty nor full.
 *
 * Death.  Any process may be killed at any instruction; the others go on.  Killed inside put: the message is in the queue as
 * a whole, or not at all.  Killed inside get: the message is still in the queue (and is delivered to another), or the call
 * had done its work and the message is gone with the killed process.  What a dead process left half done is repaired by
 * whoever meets it, on proof of death only: a stopped process is not a dead one, and a message behind one that a stopped
 * process is writing waits for it.  A call that sleeps notices a death within about 300 ms; while nobody sleeps, who gets
 * messages looks for leases of the dead every few hundred of them.
 *
 * Waiting.  A thread that waits in a call while another thread frees the handle gets -ECANCELED.  Of several processes that put,
 * or that get, as fast as they can, none is left out: a call that would have to wait may be kept up to 4 ms longer than the
 * queue is full, or empty, while another process that has waited for long, and has put or got less, goes first.
 *
 * What is held (reservations, views, leases, tasks) is held by the handle: another process may not end it, nor may a forked
 * child, whose handle is its own.  Any thread of the process may.  The structs may be copied.
 *
 * All users must be in one PID namespace; nothing checks that. exec(2) does not end a process: before it, end what you
 * hold, and have no thread inside a call.
 */
#ifndef BROOD_QUEUE_H
#define BROOD_QUEUE_H

#include <brood/common.h>

#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_queue brood_queue;

#define BROOD_QUEUE_MAXSIZE_LIMIT ((size_t)1 << 20)
#define BROOD_QUEUE_UNBOUNDED_MESSAGES ((size_t)1 << 25) /* what a queue without a bound holds all the same */
#define BROOD_QUEUE_MESSAGE_SIZE_DEFAULT ((size_t)256 << 20)
#define BROOD_QUEUE_MESSAGE_SIZE_LIMIT ((size_t)16 << 30)
#define BROOD_QUEUE_MEMORY_DEFAULT ((size_t)4 << 30)
#define BROOD_QUEUE_MEMORY_LIMIT ((size_t)1 << 40)
#define BROOD_QUEUE_LEASES 4096 /* leases that may be held at once, by all processes together */
#define BROOD_QUEUE_DELIVERIES_LIMIT 200
#define BROOD_QUEUE_DESCRIPTORS 2

typedef struct brood_queue_options {
        /* Messages it holds, up to BROOD_QUEUE_MAXSIZE_LIMIT; 0: no bound (but for BROOD_QUEUE_UNBOUNDED_MESSAGES), and the
         * memory of a burst is given back after it. */
        size_t maxsize;

        /* Bytes of the largest message; 0: BROOD_QUEUE_MESSAGE_SIZE_DEFAULT. */
        size_t message_size;

        /* Bytes that messages larger than 128 bytes may fill at once, in each size class (a factor of 4); who puts one
         * beyond that waits as in a full queue.  Address space, used as needed. 0: BROOD_QUEUE_MEMORY_DEFAULT, or
         * message_size if that is more. */
        size_t memory;

        /* How often a message is delivered before it becomes a dead letter, up to BROOD_QUEUE_DELIVERIES_LIMIT; 0: no limit. */
        int max_deliveries;

        /* Not 0: every message that is got must be followed by brood_queue_task_done(). */
        int joinable;
} brood_queue_options;

/* Make a queue.
 * Returns 0; -EINVAL (ret_queue NULL; max_deliveries negative; an option beyond its limit; memory below message_size, the
 *   default included); -E2BIG (options from a newer brood, or sizes beyond the address space); -ENOMEM; -EMFILE, -ENFILE
 *   (no descriptor left).
 * Threads: any.  Signals: not async-signal-safe.  Memory: the ring of a queue with a bound is committed at once (24 to 144
 * bytes a message of maxsize), so that a shortage is an error here; that of others, and the room of larger messages, when
 * it is first used, so that a shortage is -ENOMEM from put. */
BROOD_API int brood_queue_new_sized(brood_queue **ret_queue, const brood_queue_options *options, size_t options_size);

static inline int brood_queue_new(brood_queue **ret_queue, const brood_queue_options *options)
{
        return brood_queue_new_sized(ret_queue, options, sizeof(brood_queue_options));
}

/* End this process's use of the queue.  The messages stay for the others; with the last process they are gone.  Leases that
 * the handle still holds, and what was peeked at, go back to the queue; its open reservations are dropped.
 * Threads: those that wait in a call on it get -ECANCELED, and this call returns after they have left; no other may be
 * inside a call, or begin one.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_queue_free(brood_queue *queue);

/* ---- put and get ---- */

/* Put a copy of `size` bytes at the end of the queue; waits while it is full.
 * Returns 0; -EAGAIN, -ETIMEDOUT (it was full); -EPIPE (closed); -EMSGSIZE (size beyond the queue's message_size);
 *   -EINVAL (NULL queue, or NULL data with size > 0); -ENOMEM (no memory for the message); -EUSERS (1,023 processes
 *   use it already); -ECANCELED (freed by another thread); -EUCLEAN (the shared memory holds what no brood wrote).
 * Threads: any.  Processes: any number.  Fork: usable in the child.  Signals: restarts after EINTR.
 * Death: killed here, the message is in the queue as a whole or not at all. */
BROOD_API int brood_queue_put(brood_queue *queue, const void *data, size_t size, int timeout_ms);

/* The same as brood_queue_put() with timeout 0. */
BROOD_API int brood_queue_put_nowait(brood_queue *queue, const void *data, size_t size);

/* Take the oldest message into `buf` of `room` bytes; waits while the queue is empty.
 * Returns its size in bytes (which may be 0); -EAGAIN, -ETIMEDOUT (it was empty); -EPIPE (closed, and all messages taken;
 *   while another process holds leases, which may come back, a process that holds none waits for them); -EMSGSIZE (the
 *   message is larger than room, and stays in the queue: peek at it, or come back with more room); -EINVAL (NULL queue, or
 *   NULL buf with room > 0); -ENOBUFS (joinable: BROOD_QUEUE_LEASES messages are not done); -EUSERS, -ECANCELED, -EUCLEAN
 *   as for put.  On failure `buf` is untouched.
 * Threads: any.  Processes: any number.  Fork: usable in the child.  Signals: restarts after EINTR.
 * Death: killed here, the message is either still in the queue or gone with the killed process (joinable: see task_done). */
BROOD_API ssize_t brood_queue_get(brood_queue *queue, void *buf, size_t room, int timeout_ms);

/* The same as brood_queue_get() with timeout 0. */
BROOD_API ssize_t brood_queue_get_nowait(brood_queue *queue, void *buf, size_t room);

/* Put `count` messages, each as brood_queue_put(): messages[i].iov_base and .iov_len.  Cheaper than as many puts, and they
 * stay together if nobody else puts meanwhile.  Waits until all are put; the time limit is for the whole call.
 * Returns how many of them, from the first on, were put (0 for count 0); if none was, the error.  Fewer than count: the next
 *   one failed; try it alone to learn why. -EINVAL (NULL queue; NULL messages with count > 0; a NULL iov_base with iov_len
 *   > 0: then none is put); the other errors of put, -EMSGSIZE when it is that message's turn.
 * Threads: any.  Death: each message is there as a whole or not at all; a first part of them may be. */
BROOD_API ssize_t brood_queue_put_many(brood_queue *queue, const struct iovec *messages, size_t count, int timeout_ms);

/* Take up to `count` messages: the first as brood_queue_get(), then those that are there, without waiting for more.
 * messages[i].iov_base has room for .iov_len bytes, which is set to the message's size: set it anew before the next call.
 * Stops before one that does not fit.
 * Returns how many were taken; 0 for count 0; otherwise, if none was, the error; -EINVAL as for put_many.  The other
 *   .iov_len are untouched.
 * Threads: any.  Death: those that were taken are gone with the killed process; up to eight that it had claimed are
 * delivered again. */
BROOD_API ssize_t brood_queue_get_many(brood_queue *queue, struct iovec *messages, size_t count, int timeout_ms);

/* ---- in place ---- */

/* A place in the queue that is yours to write in.  `hidden` is brood's. */
typedef struct brood_reservation {
        void *data;  /* aligned to 16 bytes if size is 16 or more */
        size_t size; /* bytes at data */
        uint64_t hidden[3];
} brood_reservation;

/* Reserve the next place for a message of up to `size` bytes; waits while the queue is full.  Messages that are put later
 * wait behind it until it is committed or canceled, or its process dies: hold it for as long as it takes to write, not
 * longer.  A thread that holds a reservation or a view, and waits without a limit for the place that these take up, waits
 * for ever.
 * Returns and waits as brood_queue_put(); -EINVAL also for ret_reservation NULL. *ret_reservation is written on success
 *   only. */
BROOD_API int brood_queue_reserve(brood_queue *queue, brood_reservation *ret_reservation, size_t size, int timeout_ms);

/* Publish what was written: the first `size` bytes.  Returns 0; -EINVAL (NULL; size beyond the reservation's; committed or
 * canceled before); -EPERM (made by another process).  Never waits.  A queue that was closed meanwhile takes the message all
 * the same.
 * Threads: any.  Death: the message is there as a whole or not at all. */
BROOD_API int brood_queue_commit(brood_queue *queue, const brood_reservation *reservation, size_t size);

/* Drop a reservation.  The same errors as commit. */
BROOD_API int brood_queue_cancel(brood_queue *queue, const brood_reservation *reservation);

/* A message that you read where it lies. */
typedef struct brood_view {
        const void *data; /* aligned to 16 bytes if size is 16 or more; must not be written to */
        size_t size;
        uint64_t hidden[3];
} brood_view;

/* Claim the oldest message without copying it; nobody else gets it meanwhile.  It keeps its place in a queue with a bound,
 * and those who put wait when they come round to it: release it soon.
 * Returns 0; the errors of brood_queue_get() but -EMSGSIZE and -ENOBUFS; -EINVAL also for ret_view NULL, and for a joinable
 *   queue.
 * Death: killed before the release, the message is delivered to another. */
BROOD_API int brood_queue_peek(brood_queue *queue, brood_view *ret_view, int timeout_ms);

/* The message is done with, and view->data no longer valid.  Returns 0; -EINVAL (NULL; released or put back before); -EPERM
 * (peeked at by another process).  Never waits. */
BROOD_API int brood_queue_release(brood_queue *queue, const brood_view *view);

/* Put the message back where it was, before all later ones.  The same errors as release.  (If this handle peeks at it again,
 * the old view and the new one are the same.) */
BROOD_API int brood_queue_unpeek(brood_queue *queue, const brood_view *view);

/* ---- leases ---- */

/* A message that is yours until you acknowledge it or give it back. */
typedef struct brood_lease {
        const void *data; /* aligned to 16 bytes if size is 16 or more; must not be written to */
        size_t size;
        unsigned deliveries; /* how often it has been leased, this time included: 1 for a fresh one */
        unsigned reserved;
        uint64_t hidden[2];
} brood_lease;

/* Lease the oldest message.  It leaves its place in the queue at once (maxsize does not count it), but is not gone before
 * brood_queue_acknowledge(): if this process dies or gives it back, it is delivered again, before all messages that are
 * still in the queue, the oldest first.  When it comes back from its max_deliveries-th lease, it is dropped and counted as a
 * dead letter.
 * Returns 0; the errors of brood_queue_get() but -EMSGSIZE; -ENOBUFS (BROOD_QUEUE_LEASES are held: at once, without waiting
 *   for one); -EINVAL also for ret_lease NULL, and for a joinable queue. */
BROOD_API int brood_queue_lease(brood_queue *queue, brood_lease *ret_lease, int timeout_ms);

/* The work is done: the message is gone, and lease->data no longer valid.
 * Returns 0; -EINVAL (NULL; acknowledged or given back before); -EPERM (another process holds it).  Never waits.
 * Death: killed here, it is acknowledged, or it is delivered again. */
BROOD_API int brood_queue_acknowledge(brood_queue *queue, const brood_lease *lease);

/* Give it back, to be delivered again; to a closed queue too, where those find it who have not been told yet that it is at
 * its end.  The same errors.  Threads: any. */
BROOD_API int brood_queue_give_back(brood_queue *queue, const brood_lease *lease);

/* Joinable queues: the oldest message that was got through this handle and not reported yet is done (threads that finish
 * out of order report each other's; if that matters, use leases).  A message that a process had not reported when it died is
 * delivered again, to another, up to max_deliveries; so join waits for that one, never for the dead.
 * Returns 0; -EINVAL (not joinable, or called more often than messages were got here: Python raises ValueError). */
BROOD_API int brood_queue_task_done(brood_queue *queue);

/* Wait until every message that was put has been taken, and every lease acknowledged (joinable: every task done). A dead
 * letter counts as done; a message that was peeked at does not before its release; a reservation is no message yet.
 * Returns 0; -EAGAIN, -ETIMEDOUT; -ECANCELED; -EUSERS; -EUCLEAN; -EINVAL (NULL). What this process itself holds counts too. */
BROOD_API int brood_queue_join(brood_queue *queue, int timeout_ms);

/* ---- closing, asking ---- */

/* Close the queue for everybody: puts fail with -EPIPE from now on; gets take what is left and then fail with -EPIPE.
 * Whoever waits is woken.  Closing again does nothing.  Returns 0; -EINVAL (NULL).
 * Death: killed here, the queue is closed or it is not; sleepers notice a close within about 300 ms. */
BROOD_API int brood_queue_close(brood_queue *queue);

/* The number of messages that a get could take, those that came back included (which do not count for maxsize); exact while
 * nobody else is at work, and a snapshot otherwise.  Takes time in proportion to that number. -EINVAL (NULL); -EUCLEAN.
 * Threads: any. */
BROOD_API ssize_t brood_queue_qsize(brood_queue *queue);

/* Whether there is no message to take, or no place to put a small one: 1 or 0, a snapshot; -EINVAL (NULL); -EUCLEAN. */
BROOD_API int brood_queue_empty(brood_queue *queue);
BROOD_API int brood_queue_full(brood_queue *queue);

/* What the queue was made with (maxsize 0: no bound); 0 for NULL. */
BROOD_API size_t brood_queue_maxsize(const brood_queue *queue);
BROOD_API size_t brood_queue_message_size(const brood_queue *queue);

typedef struct brood_queue_statistics {
        uint64_t puts;         /* messages put */
        uint64_t gets;         /* messages that are gone: got, released, acknowledged, dead letters */
        uint64_t leased;       /* leases held now; in a joinable queue, tasks not done */
        uint64_t deliveries;   /* leases (or tasks) ever given */
        uint64_t redeliveries; /* leases that came back, from the dead or given back, to be delivered again */
        uint64_t dead_letters; /* messages that reached max_deliveries; exact */
        uint64_t waits;        /* calls that had to sleep */
        uint64_t repairs;      /* claims of dead processes that were undone */
        uint64_t high_water;   /* the most messages at once, to within 32; exact where it reaches maxsize */
} brood_queue_statistics;

/* Read the counters; stops nobody.  Exact while nobody is at work, but for one count each that a killed process may have
 * missed (not dead_letters).  Returns 0; -EINVAL (NULL); -EUCLEAN; -E2BIG (a newer brood's struct). */
BROOD_API int brood_queue_stats_sized(brood_queue *queue, brood_queue_statistics *ret_statistics, size_t size);

static inline int brood_queue_stats(brood_queue *queue, brood_queue_statistics *ret_statistics)
{
        return brood_queue_stats_sized(queue, ret_statistics, sizeof(brood_queue_statistics));
}

/* ---- descriptors ---- */

/* A descriptor for poll(2), epoll(7) or an event loop: readable while a message may be there, or the queue is closed. Then
 * call brood_queue_get_nowait() (or another call that takes, with timeout 0) until it says -EAGAIN: that is what makes the
 * descriptor quiet again; at the end of a closed queue it stays readable, so take it out of the loop. Do not read from it
 * or close it. It may be readable for nothing, and all who poll it are woken. From the first call on, each put into an
 * empty queue costs a system call.
 * Death: what a killed process held comes back when some call notices, which a process asleep in poll does not: where
 * processes may be killed, let poll return every few hundred milliseconds, and try a get; or use brood_wait_many().
 * Returns the descriptor, which belongs to the handle; -EINVAL (NULL). */
BROOD_API int brood_queue_fileno(brood_queue *queue);

/* The descriptors that another process needs to attach: [0] the memory, [1] the event.  Send both in one SCM_RIGHTS message,
 * or let both be inherited across exec (clear FD_CLOEXEC).  They belong to the handle.  Returns 0; -EINVAL. */
BROOD_API int brood_queue_descriptors(brood_queue *queue, int ret_descriptors[BROOD_QUEUE_DESCRIPTORS]);

/* Use a queue that another process has made.  Duplicates the descriptors; the caller keeps its own.
 * Whoever holds the memory can write into it: what it says is checked before it is believed, here and in every call, so that
 * damage is -EUCLEAN and not a crash; but a hostile process can always spoil the messages themselves.
 * Returns 0; -EINVAL (NULL; the memory is not a memfd, or the other one not the queue's eventfd); -EBADF; -EPERM (the
 *   memory is not sealed against shrinking, so that reading it could crash); -EUCLEAN (it holds no queue, is truncated, or
 *   contradicts itself); -EPROTONOSUPPORT (a queue of another version or layout of brood); -ENOMEM; -EMFILE, -ENFILE. */
BROOD_API int brood_queue_attach(brood_queue **ret_queue, const int descriptors[BROOD_QUEUE_DESCRIPTORS]);

#ifdef __cplusplus
}
#endif

#endif
