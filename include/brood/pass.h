/* SPDX-License-Identifier: MIT
 *
 * brood/pass.h: brood's objects sent over a connection, to a process that has not inherited them.
 *
 *     r = brood_connection_send_queue(c, queue, BROOD_FOREVER);    // one side; its own handle stays what it was
 *     r = brood_connection_recv_queue(c, &queue, BROOD_FOREVER);   // the other
 *
 * The connection must be a Unix socket, see <brood/connection.h>, and so is that of brood_pipe().  A process that receives an
 * object may do with it whatever the sender may: send it to those only who may have it.  The receiver checks what it gets.
 *
 * Outputs are written on success only.  Each pair is inline over brood_connection_send_object() and the noun's own functions
 * for descriptors, and returns their errors.
 */
#ifndef BROOD_PASS_H
#define BROOD_PASS_H

#include <brood/barrier.h>
#include <brood/condition.h>
#include <brood/connection.h>
#include <brood/event.h>
#include <brood/lock.h>
#include <brood/queue.h>
#include <brood/rwlock.h>
#include <brood/semaphore.h>
#include <brood/shared.h>
#include <brood/value.h>

#include <errno.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What an object is, on the wire: numbers that are never used again for something else.  Yours begin at BROOD_OBJECT_USER. */
enum brood_object {
        BROOD_OBJECT_CONNECTION = 1,
        BROOD_OBJECT_QUEUE,
        BROOD_OBJECT_LOCK,
        BROOD_OBJECT_RWLOCK,
        BROOD_OBJECT_SEMAPHORE,
        BROOD_OBJECT_CONDITION,
        BROOD_OBJECT_EVENT,
        BROOD_OBJECT_BARRIER,
        BROOD_OBJECT_SHARED,
        BROOD_OBJECT_ARRAY,
        BROOD_OBJECT_USER = 0x10000
};

/* An object has said which its descriptors are, or failed to: send them. */
static inline int brood_pass_described_(int described, brood_connection *connection, uint32_t kind,
                                        const int *descriptors, size_t count, int timeout_ms)
{
        return described < 0 ? described
                             : brood_connection_send_object(connection, kind, descriptors, count, timeout_ms);
}

/* An attach has duplicated what it needs, or failed: what was received is closed.  Returns what the attach did. */
static inline int brood_pass_received_(int attached, const int *descriptors, size_t count)
{
        for (size_t i = 0; i < count; i++)
                close(descriptors[i]);
        return attached;
}

/* Send a connection.  Our own handle stays open: close it, or the stream does not end when the receiver closes.  Returns 0;
 * -EINVAL (NULL); -EBADF (closed); or as brood_connection_send_object(). */
static inline int brood_connection_send_connection(brood_connection *connection, brood_connection *sent, int timeout_ms)
{
        int fd = brood_connection_fileno(sent);

        return fd < 0 ? fd : brood_connection_send_object(connection, BROOD_OBJECT_CONNECTION, &fd, 1, timeout_ms);
}

/* Receive a connection.  The options are for brood_connection_new().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_connection_new(). */
static inline int brood_connection_recv_connection(brood_connection *connection, brood_connection **ret_connection,
                                                   const brood_connection_options *options, int timeout_ms)
{
        int fd;

        if (ret_connection == NULL)
                return -EINVAL;
        int r = brood_connection_recv_object(connection, BROOD_OBJECT_CONNECTION, &fd, 1, timeout_ms);
        if (r < 0)
                return r;
        r = brood_connection_new(ret_connection, fd, options);
        if (r < 0)
                close(fd);
        return r;
}

/* Send a queue.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_queue(brood_connection *connection, brood_queue *queue, int timeout_ms)
{
        int fds[BROOD_QUEUE_DESCRIPTORS];

        return brood_pass_described_(brood_queue_descriptors(queue, fds), connection, BROOD_OBJECT_QUEUE, fds,
                                     BROOD_QUEUE_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_queue_free().
 * Returns 0; -EINVAL (NULL); the errors of brood_connection_recv_object(), and then, when the object is gone, those of
 *   brood_queue_attach(): -EINVAL, -EPERM, -EUCLEAN, -EPROTONOSUPPORT, -ENOMEM, -EMFILE, -ENFILE. */
static inline int brood_connection_recv_queue(brood_connection *connection, brood_queue **ret_queue, int timeout_ms)
{
        int fds[BROOD_QUEUE_DESCRIPTORS];
        int r = ret_queue == NULL ? -EINVAL
                                  : brood_connection_recv_object(connection, BROOD_OBJECT_QUEUE, fds,
                                                                 BROOD_QUEUE_DESCRIPTORS, timeout_ms);

        return r < 0 ? r : brood_pass_received_(brood_queue_attach(ret_queue, fds), fds, BROOD_QUEUE_DESCRIPTORS);
}

/* Send a Lock or RLock.
 * Returns 0; -EINVAL (NULL; the lock of an array, which goes with it); or as brood_connection_send_object(). */
static inline int brood_connection_send_lock(brood_connection *connection, brood_lock *lock, int timeout_ms)
{
        int fds[BROOD_LOCK_DESCRIPTORS];

        return brood_pass_described_(brood_lock_descriptors(lock, fds), connection, BROOD_OBJECT_LOCK, fds,
                                     BROOD_LOCK_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_lock_free().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_lock_attach(). */
static inline int brood_connection_recv_lock(brood_connection *connection, brood_lock **ret_lock, int timeout_ms)
{
        int fds[BROOD_LOCK_DESCRIPTORS];
        int r = ret_lock == NULL ? -EINVAL
                                 : brood_connection_recv_object(connection, BROOD_OBJECT_LOCK, fds,
                                                                BROOD_LOCK_DESCRIPTORS, timeout_ms);

        return r < 0 ? r : brood_pass_received_(brood_lock_attach(ret_lock, fds), fds, BROOD_LOCK_DESCRIPTORS);
}

/* Send a reader/writer lock.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_rwlock(brood_connection *connection, brood_rwlock *rwlock, int timeout_ms)
{
        int fds[BROOD_RWLOCK_DESCRIPTORS];

        return brood_pass_described_(brood_rwlock_descriptors(rwlock, fds), connection, BROOD_OBJECT_RWLOCK, fds,
                                     BROOD_RWLOCK_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_rwlock_free().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_rwlock_attach(). */
static inline int brood_connection_recv_rwlock(brood_connection *connection, brood_rwlock **ret_rwlock, int timeout_ms)
{
        int fds[BROOD_RWLOCK_DESCRIPTORS];
        int r = ret_rwlock == NULL ? -EINVAL
                                   : brood_connection_recv_object(connection, BROOD_OBJECT_RWLOCK, fds,
                                                                  BROOD_RWLOCK_DESCRIPTORS, timeout_ms);

        return r < 0 ? r : brood_pass_received_(brood_rwlock_attach(ret_rwlock, fds), fds, BROOD_RWLOCK_DESCRIPTORS);
}

/* Send a semaphore.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_semaphore(brood_connection *connection, brood_semaphore *semaphore,
                                                  int timeout_ms)
{
        int fds[BROOD_SEMAPHORE_DESCRIPTORS];

        return brood_pass_described_(brood_semaphore_descriptors(semaphore, fds), connection, BROOD_OBJECT_SEMAPHORE,
                                     fds, BROOD_SEMAPHORE_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_semaphore_free().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_semaphore_attach(). */
static inline int brood_connection_recv_semaphore(brood_connection *connection, brood_semaphore **ret_semaphore,
                                                  int timeout_ms)
{
        int fds[BROOD_SEMAPHORE_DESCRIPTORS];
        int r = ret_semaphore == NULL ? -EINVAL
                                      : brood_connection_recv_object(connection, BROOD_OBJECT_SEMAPHORE, fds,
                                                                     BROOD_SEMAPHORE_DESCRIPTORS, timeout_ms);

        return r < 0
                   ? r
                   : brood_pass_received_(brood_semaphore_attach(ret_semaphore, fds), fds, BROOD_SEMAPHORE_DESCRIPTORS);
}

/* Send a condition, with its lock.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_condition(brood_connection *connection, brood_condition *condition,
                                                  int timeout_ms)
{
        int fds[BROOD_CONDITION_DESCRIPTORS];

        return brood_pass_described_(brood_condition_descriptors(condition, fds), connection, BROOD_OBJECT_CONDITION,
                                     fds, BROOD_CONDITION_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_condition_free().  `lock` as for brood_condition_attach().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_condition_attach(). */
static inline int brood_connection_recv_condition(brood_connection *connection, brood_condition **ret_condition,
                                                  brood_lock *lock, int timeout_ms)
{
        int fds[BROOD_CONDITION_DESCRIPTORS];
        int r = ret_condition == NULL ? -EINVAL
                                      : brood_connection_recv_object(connection, BROOD_OBJECT_CONDITION, fds,
                                                                     BROOD_CONDITION_DESCRIPTORS, timeout_ms);

        return r < 0 ? r
                     : brood_pass_received_(brood_condition_attach(ret_condition, fds, lock), fds,
                                            BROOD_CONDITION_DESCRIPTORS);
}

/* Send an event.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_event(brood_connection *connection, brood_event *event, int timeout_ms)
{
        int fds[BROOD_EVENT_DESCRIPTORS];

        return brood_pass_described_(brood_event_descriptors(event, fds), connection, BROOD_OBJECT_EVENT, fds,
                                     BROOD_EVENT_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_event_free().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_event_attach(). */
static inline int brood_connection_recv_event(brood_connection *connection, brood_event **ret_event, int timeout_ms)
{
        int fds[BROOD_EVENT_DESCRIPTORS];
        int r = ret_event == NULL ? -EINVAL
                                  : brood_connection_recv_object(connection, BROOD_OBJECT_EVENT, fds,
                                                                 BROOD_EVENT_DESCRIPTORS, timeout_ms);

        return r < 0 ? r : brood_pass_received_(brood_event_attach(ret_event, fds), fds, BROOD_EVENT_DESCRIPTORS);
}

/* Send a barrier.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_barrier(brood_connection *connection, brood_barrier *barrier, int timeout_ms)
{
        int fds[BROOD_BARRIER_DESCRIPTORS];

        return brood_pass_described_(brood_barrier_descriptors(barrier, fds), connection, BROOD_OBJECT_BARRIER, fds,
                                     BROOD_BARRIER_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_barrier_free().  `action` and `arg` as for brood_barrier_attach().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_barrier_attach(). */
static inline int brood_connection_recv_barrier(brood_connection *connection, brood_barrier **ret_barrier,
                                                int (*action)(void *arg), void *arg, int timeout_ms)
{
        int fds[BROOD_BARRIER_DESCRIPTORS];
        int r = ret_barrier == NULL ? -EINVAL
                                    : brood_connection_recv_object(connection, BROOD_OBJECT_BARRIER, fds,
                                                                   BROOD_BARRIER_DESCRIPTORS, timeout_ms);

        return r < 0 ? r
                     : brood_pass_received_(brood_barrier_attach(ret_barrier, fds, action, arg), fds,
                                            BROOD_BARRIER_DESCRIPTORS);
}

/* Send a piece of shared memory.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_shared(brood_connection *connection, const brood_shared *shared, int timeout_ms)
{
        int fds[BROOD_SHARED_DESCRIPTORS];

        return brood_pass_described_(brood_shared_descriptors(shared, fds), connection, BROOD_OBJECT_SHARED, fds,
                                     BROOD_SHARED_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_shared_free().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_shared_attach(). */
static inline int brood_connection_recv_shared(brood_connection *connection, brood_shared **ret_shared, int timeout_ms)
{
        int fds[BROOD_SHARED_DESCRIPTORS];
        int r = ret_shared == NULL ? -EINVAL
                                   : brood_connection_recv_object(connection, BROOD_OBJECT_SHARED, fds,
                                                                  BROOD_SHARED_DESCRIPTORS, timeout_ms);

        return r < 0 ? r : brood_pass_received_(brood_shared_attach(ret_shared, fds), fds, BROOD_SHARED_DESCRIPTORS);
}

/* Send an array, or a value.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_array(brood_connection *connection, const brood_array *array, int timeout_ms)
{
        int fds[BROOD_ARRAY_DESCRIPTORS];

        return brood_pass_described_(brood_array_descriptors(array, fds), connection, BROOD_OBJECT_ARRAY, fds,
                                     BROOD_ARRAY_DESCRIPTORS, timeout_ms);
}

/* Receive one; end it with brood_array_free().  `item_size` as for brood_array_attach().
 * Returns 0; -EINVAL (NULL); or as brood_connection_recv_object(), then brood_array_attach(). */
static inline int brood_connection_recv_array(brood_connection *connection, brood_array **ret_array, size_t item_size,
                                              int timeout_ms)
{
        int fds[BROOD_ARRAY_DESCRIPTORS];
        int r = ret_array == NULL ? -EINVAL
                                  : brood_connection_recv_object(connection, BROOD_OBJECT_ARRAY, fds,
                                                                 BROOD_ARRAY_DESCRIPTORS, timeout_ms);

        return r < 0
                   ? r
                   : brood_pass_received_(brood_array_attach(ret_array, fds, item_size), fds, BROOD_ARRAY_DESCRIPTORS);
}

#ifdef __cplusplus
}
#endif

#endif
