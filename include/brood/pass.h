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
 * Each pair is inline over brood_connection_send_object() and the noun's own functions for descriptors, and returns their errors.
 */
#ifndef BROOD_PASS_H
#define BROOD_PASS_H

#include <brood/connection.h>
#include <brood/queue.h>

#include <errno.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What an object is, on the wire: numbers that are never used again for something else.  Yours begin at BROOD_OBJECT_USER. */
enum brood_object { BROOD_OBJECT_CONNECTION = 1, BROOD_OBJECT_QUEUE = 2, BROOD_OBJECT_USER = 0x10000 };

/* Send a queue.  Returns 0; -EINVAL (NULL); or as brood_connection_send_object(). */
static inline int brood_connection_send_queue(brood_connection *connection, brood_queue *queue, int timeout_ms)
{
        int fds[BROOD_QUEUE_DESCRIPTORS];
        int r = brood_queue_descriptors(queue, fds);

        return r < 0 ? r
                     : brood_connection_send_object(connection, BROOD_OBJECT_QUEUE, fds, BROOD_QUEUE_DESCRIPTORS,
                                                    timeout_ms);
}

/* Receive a queue; free it with brood_queue_free().
 * Returns 0; -EINVAL (NULL); the errors of brood_connection_recv_object(), and then, when the object is gone, those of
 *   brood_queue_attach(): -EINVAL, -EPERM, -EUCLEAN, -EPROTONOSUPPORT, -ENOMEM, -EMFILE, -ENFILE. *ret_queue is written on
 *   success only. */
static inline int brood_connection_recv_queue(brood_connection *connection, brood_queue **ret_queue, int timeout_ms)
{
        int fds[BROOD_QUEUE_DESCRIPTORS];

        if (ret_queue == NULL)
                return -EINVAL;
        int r = brood_connection_recv_object(connection, BROOD_OBJECT_QUEUE, fds, BROOD_QUEUE_DESCRIPTORS, timeout_ms);
        if (r < 0)
                return r;
        r = brood_queue_attach(ret_queue, fds);
        for (int i = 0; i < BROOD_QUEUE_DESCRIPTORS; i++)
                close(fds[i]);
        return r;
}

/* Send a connection.  Our own handle stays open: close it, or the stream does not end when the receiver closes.  Returns 0;
 * -EINVAL (NULL); -EBADF (closed); or as brood_connection_send_object(). */
static inline int brood_connection_send_connection(brood_connection *connection, brood_connection *sent, int timeout_ms)
{
        int fd = brood_connection_fileno(sent);

        return fd < 0 ? fd : brood_connection_send_object(connection, BROOD_OBJECT_CONNECTION, &fd, 1, timeout_ms);
}

/* Receive a connection.  The options are for brood_connection_new().
 * Returns 0; -EINVAL (NULL); the errors of brood_connection_recv_object(), and then, when the object is gone, those of
 *   brood_connection_new(): -EINVAL, -E2BIG, -ENOMEM. *ret_connection is written on success only. */
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

#ifdef __cplusplus
}
#endif

#endif
