/* SPDX-License-Identifier: MIT
 *
 * brood/connection.h: messages of bytes between two ends, in the wire format of Python's multiprocessing.connection.
 *
 *     brood_connection *here, *there;
 *     brood_pipe(&here, &there, true);
 *     ... fork: the parent frees `there` and uses `here`, the child the other way round ...
 *     r = brood_connection_send(here, "ping", 4, BROOD_FOREVER);
 *     n = brood_connection_recv(there, buf, sizeof buf, 8000);   // 4; -ETIMEDOUT after 8 s; -EPIPE when the other end is gone
 *
 * Messages are byte strings of any size, 0 included; each comes out whole, once, and in order.  The other end may be a stock
 * Python program: what one side sends with send_bytes() the other receives here, and the other way round.  How to come by a
 * connection to another program is in <brood/listener.h>, how to send a queue over one in <brood/pass.h>.
 *
 *     multiprocessing                      here
 *     Pipe(), Pipe(duplex=False)           brood_pipe(&a, &b, true), (&a, &b, false)
 *     Connection(handle)                   brood_connection_new(&c, fd, NULL)
 *     send_bytes(b)                        brood_connection_send(c, b, size, BROOD_FOREVER)
 *     recv_bytes_into(b)                   brood_connection_recv(c, b, room, BROOD_FOREVER)
 *     recv_bytes()                         brood_connection_recv_alloc(c, &b, BROOD_FOREVER)
 *     recv_bytes(maxlength)                .max_message = maxlength
 *     poll(), poll(t)                      brood_connection_poll(c, 0), (c, milliseconds)
 *     EOFError, BufferTooShort             -EPIPE; -EMSGSIZE, and the message stays
 *     reduction.send_handle, recv_handle   brood_connection_send_descriptors(), brood_connection_recv_descriptors()
 *     send(object), recv()                 pickles are Python's own: use send_bytes() and recv_bytes() there
 *
 * On the wire, a message is its length and then its bytes.  The length is four bytes, a signed number, the most significant
 * byte first; for more than 0x7fffffff bytes it is -1, and eight bytes with the unsigned length follow.  Nothing is read
 * beyond the end of a message: what comes next is still in the kernel, for poll(2), for a child, or for another program.
 *
 * Time limits.  A message that has come in part when the time is over is no loss: what has come is kept, and the next recv
 * goes on with it.  A send that could put only a part of its message on the way returns -EINPROGRESS, keeps a copy of the rest
 * and sends that before anything else; see brood_connection_send().  A time limit is kept on sockets; on a pipe
 * (brood_connection_new()) only while no other process uses the same end of it.
 *
 * A peer may send what it likes.  A length beyond `max_message` or below -1 is -EPROTO, and a stream that ends inside a
 * message is -ECONNRESET; from then on each call that receives says so again.  However long a message is said to be, memory
 * is taken only for what has arrived.
 *
 * Threads.  Any may send and any may receive, at the same time; messages do not mix.  To wake a thread that waits without a
 * limit, have the peer close, or call shutdown(2) on the descriptor.
 *
 * Fork.  Both processes have the connection then, and it is one stream: only one of them at a time should send through an end,
 * and only one receive, and with no message half received.  Let each free the end that it does not use: a stream is at its end
 * when the last process has closed.  If another thread was inside a call when the process forked, the child cannot know how far
 * that had come, and its own calls in that direction return -EPERM.
 *
 * Death.  A message that was being sent when its sender was killed arrives whole, or the stream ends inside it: -ECONNRESET.
 * No call waits for a dead peer: its end of the stream is closed by the kernel.
 *
 * Signals.  A handler that runs does not end a wait.  Nobody gets SIGPIPE from here; its disposition is left alone.
 */
#ifndef BROOD_CONNECTION_H
#define BROOD_CONNECTION_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_connection brood_connection;

#define BROOD_CONNECTION_MESSAGE_DEFAULT ((size_t)0x7fffffff)
#define BROOD_CONNECTION_MESSAGE_LIMIT (SIZE_MAX / 4)
#define BROOD_CONNECTION_DESCRIPTORS 253 /* the most that one call sends */
#define BROOD_OBJECT_DESCRIPTORS 16      /* the most that an object has */

/* Make two connected ends.  If `duplex`, both send and receive; otherwise `a` receives and `b` sends, as in Python.  Both forms
 * are a pair of stream sockets.
 * Returns 0; -EINVAL (an output is NULL); -ENOMEM; -EMFILE, -ENFILE (no descriptor left).
 * Threads: any.  Signals: not async-signal-safe. */
BROOD_API int brood_pipe(brood_connection **ret_a, brood_connection **ret_b, bool duplex);

typedef struct brood_connection_options {
        /* Bytes of the largest message, either way, up to BROOD_CONNECTION_MESSAGE_LIMIT; 0: BROOD_CONNECTION_MESSAGE_DEFAULT,
         * which is the most that the short form of the length can say. */
        size_t max_message;

        /* Not 0: it is for one direction only.  Of a pipe(2) that is known without asking. */
        int receive_only;
        int send_only;
} brood_connection_options;

/* Make a connection of a descriptor that was inherited or passed: a stream socket that is connected, or an end of a pipe(2).
 * From then on the descriptor belongs to the connection, and is closed with it; it is made close-on-exec.  On failure it is left
 * alone.
 * Returns 0; -EINVAL (ret_connection NULL; neither a stream socket nor a pipe; receive_only and send_only, or one that is not
 *   the pipe's direction; max_message beyond its limit); -EBADF (not open); -E2BIG (options from a newer brood); -ENOMEM. */
BROOD_API int brood_connection_new_sized(brood_connection **ret_connection, int fd,
                                         const brood_connection_options *options, size_t options_size);

static inline int brood_connection_new(brood_connection **ret_connection, int fd,
                                       const brood_connection_options *options)
{
        return brood_connection_new_sized(ret_connection, fd, options, sizeof(brood_connection_options));
}

/* Close this process's descriptor.  Each later call on the handle, but brood_connection_free(), returns -EBADF.  A rest that
 * -EINPROGRESS has left behind is lost.  Closing again does nothing.  Returns 0; -EINVAL (NULL).
 * Threads: no other may be inside a call.  Fork: the other process's descriptor stays open. */
BROOD_API int brood_connection_close(brood_connection *connection);

/* Close it, and free the handle. */
BROOD_API void brood_connection_free(brood_connection *connection);

/* ---- messages ---- */

/* Send a message of `size` bytes; waits while the way to the other end is full.
 * Returns 0: it is on its way;
 *   -EAGAIN, -ETIMEDOUT   nothing of it has been sent: there was no room, or another thread was sending, or the rest of the message
 *                         before it was still in the way
 *   -EINPROGRESS          the time is over, and a part is sent: a copy of the rest is kept, and goes out before anything else in
 *                         the next send or flush; do not send the message again
 *   -EPIPE                nobody is there to receive it; what was sent before may not have been received either
 *   -EMSGSIZE             size is beyond max_message
 *   -EINVAL               NULL connection, or NULL data with size > 0
 *   -EBADF                closed, or made for receiving only
 *   -ENOMEM               the kernel has none: nothing is sent; or there was none for the rest, and each later send returns -EPIPE
 *   -EPERM                another thread was sending when this process was forked
 * Threads: any.  Fork: one process at a time.  Signals: restarts after EINTR.
 * Death: killed here, the message arrives whole or the stream ends inside it. */
BROOD_API int brood_connection_send(brood_connection *connection, const void *data, size_t size, int timeout_ms);

/* Send what -EINPROGRESS has left behind.
 * Returns 0 (there is nothing left); -EAGAIN, -ETIMEDOUT (there is still some); -EPIPE, -EBADF, -EINVAL, -ENOMEM, -EPERM as for
 *   send. */
BROOD_API int brood_connection_flush(brood_connection *connection, int timeout_ms);

/* Receive the next message into `buf` of `room` bytes; waits for it.
 * Returns its size in bytes, which may be 0;
 *   -EAGAIN, -ETIMEDOUT   it is not here, or not as a whole: what has come is kept; or another thread is receiving
 *   -EMSGSIZE             it is larger than room, and stays: brood_connection_next_size() tells its size
 *   -EPIPE                the stream has ended, and every message was received (Python raises EOFError)
 *   -ECONNRESET           it ended inside a message, or was cut off with messages of ours still unread
 *   -EPROTO               what the other end sent is no message, or one beyond max_message
 *   -EINVAL               NULL connection, or NULL buf with room > 0
 *   -EBADF                closed, or made for sending only
 *   -ENOMEM               for what has come in part: it is kept, unless it is this call's own part, and then each later call
 *                         returns -EPROTO
 *   -EPERM                another thread was receiving when this process was forked
 * After -EAGAIN, -ETIMEDOUT, -ECONNRESET and -ENOMEM a part of the message may have been written to `buf`; on any other failure it
 * is untouched.
 * Threads: any.  Fork: one process at a time.  Signals: restarts after EINTR.
 * Death: killed here, the message is gone with the killed process, in part or as a whole. */
BROOD_API ssize_t brood_connection_recv(brood_connection *connection, void *buf, size_t room, int timeout_ms);

/* The same into memory of the message's size, which grows with what arrives and not with what is announced.  End it with
 * free(3); it is not NULL for an empty message either.
 * Returns as brood_connection_recv() but -EMSGSIZE; -EINVAL also for ret_data NULL. *ret_data is written on success only. */
BROOD_API ssize_t brood_connection_recv_alloc(brood_connection *connection, void **ret_data, int timeout_ms);

/* Wait for the next message, and tell its size.  It stays.  An empty one has then left the kernel: brood_connection_poll() knows
 * of it, poll(2) on the descriptor does not.
 * Returns the size in bytes; the errors of brood_connection_recv() but -EMSGSIZE. */
BROOD_API ssize_t brood_connection_next_size(brood_connection *connection, int timeout_ms);

/* Wait until there is something to receive: a message or its beginning, the end of the stream, or an error.
 * Returns 1; 0 (not within the time limit); -EINVAL (NULL); -EBADF, -EPERM as for recv; -ENOMEM (the kernel has none).
 * Threads: any; another thread may receive it first. */
BROOD_API int brood_connection_poll(brood_connection *connection, int timeout_ms);

/* The descriptor, for poll(2), epoll(7) or an event loop: readable when brood_connection_recv() with a time limit of 0 may get
 * something.  It belongs to the handle.  Returns it; -EINVAL (NULL); -EBADF (closed). */
BROOD_API int brood_connection_fileno(brood_connection *connection);

/* ---- descriptors ---- */

/* Send `count` descriptors, 1 to BROOD_CONNECTION_DESCRIPTORS: copies of ours, which we keep.  With them goes one byte that is
 * their number and no message, as in Python's reduction module; so the receiver must know that they are what comes next.
 * Returns 0; -EAGAIN, -ETIMEDOUT, -EPIPE, -ENOMEM, -EPERM as for send; -EINVAL (NULL; count 0 or too large); -EBADF (closed, for
 *   receiving only, or one of the descriptors is not open); -EOPNOTSUPP (not a Unix socket); -ETOOMANYREFS (too many are on
 *   their way).
 * Death: killed here, they are all on their way, or none is. */
BROOD_API int brood_connection_send_descriptors(brood_connection *connection, const int *descriptors, size_t count,
                                                int timeout_ms);

/* Receive what one call of the function before sent (or Python's send_handle()): up to `room` descriptors, close-on-exec, which
 * are the caller's from then on.  On failure none of them is left open.
 * Returns how many came; -EAGAIN, -ETIMEDOUT; -ENOMSG (a message comes next, and stays); -EBUSY (a message has come in part, or
 *   its size was asked: receive it first); -EMSGSIZE (more than room came, and are lost); -EMFILE (this process has no
 *   descriptors left for them, and they are lost); -EPROTO (what came is not what that function sends: so says each later
 *   call, too); -EPIPE, -ECONNRESET, -ENOMEM, -EPERM as for recv; -EINVAL (NULL; room 0); -EBADF (closed, or for sending only);
 *   -EOPNOTSUPP (not a Unix socket). */
BROOD_API ssize_t brood_connection_recv_descriptors(brood_connection *connection, int *ret_descriptors, size_t room,
                                                    int timeout_ms);

/* ---- objects ---- */

/* Send an object that consists of descriptors: a message of 16 bytes that names its kind, and `count` descriptors, 1 to
 * BROOD_OBJECT_DESCRIPTORS, with it.  What <brood/pass.h> is made of.
 * Returns as brood_connection_send_descriptors(). */
BROOD_API int brood_connection_send_object(brood_connection *connection, uint32_t kind, const int *descriptors,
                                           size_t count, int timeout_ms);

/* Receive an object of that kind, which has `count` descriptors.  They are close-on-exec, and the caller's from then on; what they
 * are is not looked at here.
 * Returns 0; -EAGAIN, -ETIMEDOUT (what has come is kept); -ENOMSG (something else comes next, a message or an object of another
 *   kind, and stays; if it is received as a message, its descriptors are closed); -EPROTO (such an object, but with other
 *   descriptors than it says: they are closed, and it is gone; or no message at all, and so says each later call); -EMFILE (no
 *   descriptors left for it: it is gone); -EINVAL (NULL; count 0 or too large); -EPIPE, -ECONNRESET, -ENOMEM, -EPERM, -EBADF as for
 *   recv; -EOPNOTSUPP (not a Unix socket). */
BROOD_API int brood_connection_recv_object(brood_connection *connection, uint32_t kind, int *ret_descriptors,
                                           size_t count, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
