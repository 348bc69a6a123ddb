/* SPDX-License-Identifier: MIT
 *
 * pipe/connection.c: messages through a stream.
 *
 * The two directions of a connection know nothing of each other.  Each has a turn (pipe/turn.h), which a thread holds for the whole
 * of a call, and what has to be remembered between two calls: of the sending one the rest of a message, of the receiving one what
 * has come of a message.
 *
 * A message that is received goes straight into the caller's memory.  Only if the time is over before it is whole does what has
 * come move into the stash, where it grows until the message is whole: so that a peer that sends a byte a second costs no copy of
 * all the others a second, and one that announces 2 GiB and sends nothing costs nothing.
 */
#include "pipe/connection.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/options.h"
#include "pipe/frame.h"
#include "pipe/turn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
        STASH_FIRST = 16384,
        OBJECT_SIZE = 16,
};

/* What an object's message begins with; its kind and the number of its descriptors follow. */
static const unsigned char object_mark[8] = { 'b', 'r', 'o', 'o', 'd', 0, 0, 1 };

struct sender {
        struct turn turn;
        int error; /* what each call returns from now on */
        unsigned char *rest;
        size_t rest_size, rest_sent;
};

struct receiver {
        struct turn turn;
        int error;
        unsigned char head[FRAME_LONG];
        size_t head_have;
        bool headed; /* the size of the message is known */
        size_t size;
        size_t have; /* bytes of it in the stash... */
        unsigned char *stash;
        size_t room;                       /* ...which has room for that many */
        int fds[BROOD_OBJECT_DESCRIPTORS]; /* that came with its head */
        size_t fd_count;
        bool fds_lost; /* there were more than any object has */
};

struct brood_connection {
        struct stream stream;
        size_t max_message;
        bool receives, sends;
        struct sender sender;
        struct receiver receiver;
};

/* ---- making and ending ---- */

int connection_check_max_message(size_t max_message)
{
        return max_message > BROOD_CONNECTION_MESSAGE_LIMIT ? -EINVAL : 0;
}

int connection_make(brood_connection **ret_connection, struct stream stream, size_t max_message, bool receives,
                    bool sends)
{
        brood_connection *connection = calloc(1, sizeof *connection);

        if (connection == NULL)
                return -ENOMEM;
        connection->stream = stream;
        connection->max_message = max_message == 0 ? BROOD_CONNECTION_MESSAGE_DEFAULT : max_message;
        connection->receives = receives;
        connection->sends = sends;
        *ret_connection = connection;
        return 0;
}

int brood_pipe(brood_connection **ret_a, brood_connection **ret_b, bool duplex)
{
        struct stream ends[2];
        brood_connection *a, *b;

        if (ret_a == NULL || ret_b == NULL)
                return -EINVAL;
        int r = stream_pair(ends, !duplex);
        if (r < 0)
                return r;
        r = connection_make(&a, ends[0], 0, true, duplex);
        if (r < 0)
                goto fail;
        r = connection_make(&b, ends[1], 0, duplex, true);
        if (r < 0) {
                free(a);
                goto fail;
        }
        *ret_a = a;
        *ret_b = b;
        return 0;
fail:
        descriptor_close(&ends[0].fd);
        descriptor_close(&ends[1].fd);
        return r;
}

int brood_connection_new_sized(brood_connection **ret_connection, int fd, const brood_connection_options *options,
                               size_t options_size)
{
        brood_connection_options known;
        struct stream stream;

        if (ret_connection == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        r = connection_check_max_message(known.max_message);
        if (r < 0)
                return r;
        r = stream_of(&stream, fd);
        if (r < 0)
                return r;
        bool receives = !known.send_only && stream.kind != STREAM_PIPE_WRITE;
        bool sends = !known.receive_only && stream.kind != STREAM_PIPE_READ;
        if ((!receives && !sends) || (known.send_only && !sends) || (known.receive_only && !receives))
                return -EINVAL;
        return connection_make(ret_connection, stream, known.max_message, receives, sends);
}

/* Forget what there is of a message. */
static void receiver_reset(struct receiver *receiver)
{
        for (size_t i = 0; i < receiver->fd_count; i++)
                descriptor_close(&receiver->fds[i]);
        free(receiver->stash);
        receiver->stash = NULL;
        receiver->head_have = receiver->size = receiver->have = receiver->room = receiver->fd_count = 0;
        receiver->headed = receiver->fds_lost = false;
}

int brood_connection_close(brood_connection *connection)
{
        if (connection == NULL)
                return -EINVAL;
        descriptor_close(&connection->stream.fd);
        /* What another thread was changing when this process was forked is not to be followed anywhere. */
        if (!turn_is_foreign(&connection->receiver.turn) && connection->receiver.error != -EPERM)
                receiver_reset(&connection->receiver);
        if (!turn_is_foreign(&connection->sender.turn) && connection->sender.error != -EPERM) {
                free(connection->sender.rest);
                connection->sender.rest = NULL;
        }
        return 0;
}

void brood_connection_free(brood_connection *connection)
{
        if (connection == NULL)
                return;
        brood_connection_close(connection);
        free(connection);
}

int brood_connection_fileno(brood_connection *connection)
{
        if (connection == NULL)
                return -EINVAL;
        return connection->stream.fd < 0 ? -EBADF : connection->stream.fd;
}

/* ---- sending ---- */

static int sender_begin(brood_connection *connection, int64_t deadline)
{
        struct sender *sender = &connection->sender;

        if (connection->stream.fd < 0 || !connection->sends)
                return -EBADF;
        int r = turn_take(&sender->turn, deadline);
        if (r < 0)
                return r;
        if (r > 0)
                sender->error = -EPERM;
        if (sender->error == 0)
                return 0;
        turn_give(&sender->turn);
        return sender->error;
}

static int send_rest(brood_connection *connection, int64_t deadline)
{
        struct sender *sender = &connection->sender;

        while (sender->rest_sent < sender->rest_size) {
                struct iovec part = { sender->rest + sender->rest_sent, sender->rest_size - sender->rest_sent };
                ssize_t n = stream_send(&connection->stream, &part, 1, NULL, 0, deadline);

                if (n == -EPIPE)
                        sender->error = -EPIPE;
                if (n < 0)
                        return (int)n;
                sender->rest_sent += (size_t)n;
        }
        free(sender->rest);
        sender->rest = NULL;
        sender->rest_size = sender->rest_sent = 0;
        return 0;
}

/* Skip `n` bytes of the parts. */
static void parts_skip(struct iovec *parts, size_t count, size_t n)
{
        for (size_t i = 0; i < count; i++) {
                size_t step = parts[i].iov_len < n ? parts[i].iov_len : n;

                if (step == 0)
                        continue;
                parts[i].iov_base = (unsigned char *)parts[i].iov_base + step;
                parts[i].iov_len -= step;
                n -= step;
        }
}

/* The time is over, and the receiver has a part of the message: what is left is sent before anything else. */
static int keep_rest(struct sender *sender, const struct iovec parts[2])
{
        size_t size = parts[0].iov_len + parts[1].iov_len;

        assert(size > 0);
        sender->rest = malloc(size);
        if (sender->rest == NULL) {
                sender->error = -EPIPE;
                return -ENOMEM;
        }
        sender->rest_size = sender->rest_sent = 0;
        for (size_t i = 0; i < 2; i++) {
                if (parts[i].iov_len == 0)
                        continue;
                memcpy(sender->rest + sender->rest_size, parts[i].iov_base, parts[i].iov_len);
                sender->rest_size += parts[i].iov_len;
        }
        return -EINPROGRESS;
}

/* Send what is in two parts, the second not empty, and with their first byte the descriptors. */
static int send_parts(brood_connection *connection, struct iovec parts[2], const int *fds, size_t count,
                      int64_t deadline)
{
        struct sender *sender = &connection->sender;
        size_t left = parts[0].iov_len + parts[1].iov_len;
        bool begun = false;

        int r = send_rest(connection, deadline);
        while (r == 0 && left > 0) {
                struct iovec *first = parts[0].iov_len > 0 ? parts : parts + 1;
                ssize_t n = stream_send(&connection->stream, first, (size_t)(parts + 2 - first), begun ? NULL : fds,
                                        begun ? 0 : count, deadline);

                if (n > 0) {
                        begun = true;
                        left -= (size_t)n;
                        parts_skip(parts, 2, (size_t)n);
                } else if (begun && n != -EPIPE) {
                        return keep_rest(sender, parts);
                } else {
                        r = n == 0 ? -EPIPE : (int)n;
                }
        }
        if (begun && r < 0)
                sender->error = r;
        return r;
}

int brood_connection_send(brood_connection *connection, const void *data, size_t size, int timeout_ms)
{
        unsigned char head[FRAME_LONG];
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (connection == NULL || (data == NULL && size > 0))
                return -EINVAL;
        if (size > connection->max_message)
                return -EMSGSIZE;
        int r = sender_begin(connection, deadline);
        if (r < 0)
                return r;
        struct iovec parts[2] = { { head, frame_write(head, size) }, { (void *)data, size } };
        r = send_parts(connection, parts, NULL, 0, deadline);
        turn_give(&connection->sender.turn);
        return r;
}

int brood_connection_flush(brood_connection *connection, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (connection == NULL)
                return -EINVAL;
        int r = sender_begin(connection, deadline);
        if (r < 0)
                return r;
        r = send_rest(connection, deadline);
        turn_give(&connection->sender.turn);
        return r;
}

/* ---- receiving ---- */

static int receiver_begin(brood_connection *connection, int64_t deadline)
{
        struct receiver *receiver = &connection->receiver;

        if (connection->stream.fd < 0 || !connection->receives)
                return -EBADF;
        int r = turn_take(&receiver->turn, deadline);
        if (r < 0)
                return r;
        if (r > 0)
                receiver->error = -EPERM;
        if (receiver->error == 0)
                return 0;
        turn_give(&receiver->turn);
        return receiver->error;
}

/* No message will come any more. */
static int receiver_break(struct receiver *receiver, int error)
{
        receiver_reset(receiver);
        receiver->error = error;
        return error;
}

/* Descriptors that came with a head wait for the message's end: only then is it clear what they are. */
static void keep_descriptors(struct receiver *receiver, struct stream_descriptors *came)
{
        if (came->lost || receiver->fd_count + came->count > BROOD_OBJECT_DESCRIPTORS) {
                receiver->fds_lost = true;
                stream_descriptors_close(came);
        }
        for (size_t i = 0; i < came->count; i++)
                receiver->fds[receiver->fd_count++] = came->fds[i];
}

/* Receive the head of the next message, unless it is there already; `descriptors`: and keep those that come with it. */
static int take_head(brood_connection *connection, bool descriptors, int64_t deadline)
{
        struct receiver *receiver = &connection->receiver;
        struct stream_descriptors came;
        uint64_t size = 0;
        int more;

        if (receiver->headed)
                return 0;
        while ((more = frame_read(receiver->head, receiver->head_have, connection->max_message, &size)) > 0) {
                ssize_t n = stream_recv(&connection->stream, receiver->head + receiver->head_have, (size_t)more,
                                        descriptors ? &came : NULL, deadline);
                if (n == 0 && receiver->head_have == 0)
                        return -EPIPE;
                if (n == 0 || n == -ECONNRESET)
                        return receiver_break(receiver, -ECONNRESET);
                if (n < 0)
                        return (int)n;
                receiver->head_have += (size_t)n;
                if (descriptors)
                        keep_descriptors(receiver, &came);
                if (receiver->fd_count > 0 && receiver->head[0] != 0) /* descriptors that are no object's */
                        more = -EPROTO;
                if (more < 0)
                        break;
        }
        if (more < 0)
                return receiver_break(receiver, -EPROTO);
        receiver->size = (size_t)size;
        receiver->headed = true;
        return 0;
}

/* Receive the rest of the body into memory that has room for it; `*have` counts. */
static int take_body(brood_connection *connection, unsigned char *body, size_t size, size_t *have, int64_t deadline)
{
        while (*have < size) {
                ssize_t n = stream_recv(&connection->stream, body + *have, size - *have, NULL, deadline);

                if (n == 0 || n == -ECONNRESET)
                        return receiver_break(&connection->receiver, -ECONNRESET);
                if (n < 0)
                        return (int)n;
                *have += (size_t)n;
        }
        return 0;
}

/* Receive the body into the stash, which grows as it fills.  It ends with the size of the message, and is then not NULL. */
static int fill_stash(brood_connection *connection, int64_t deadline)
{
        struct receiver *receiver = &connection->receiver;
        int r = 0;

        while (r == 0 && (receiver->stash == NULL || receiver->have < receiver->size)) {
                if (receiver->stash == NULL || receiver->have == receiver->room) {
                        size_t room = receiver->have < STASH_FIRST ? STASH_FIRST : 2 * receiver->have;
                        if (room > receiver->size)
                                room = receiver->size > 0 ? receiver->size : 1;
                        unsigned char *larger = realloc(receiver->stash, room);
                        if (larger == NULL)
                                return -ENOMEM;
                        receiver->stash = larger;
                        receiver->room = room;
                }
                size_t end = receiver->size < receiver->room ? receiver->size : receiver->room;
                r = take_body(connection, receiver->stash, end, &receiver->have, deadline);
        }
        return r;
}

/* The time is over, and a part of the body lies in the caller's memory: it moves to the stash. */
static int keep_body(struct receiver *receiver, const void *body, size_t have, int r)
{
        if (have == 0)
                return r;
        receiver->stash = malloc(have);
        if (receiver->stash == NULL) {
                receiver_break(receiver, -EPROTO);
                return -ENOMEM;
        }
        memcpy(receiver->stash, body, have);
        receiver->have = receiver->room = have;
        return r;
}

/* With the turn: the next message into `buf`. */
static int take_message(brood_connection *connection, void *buf, size_t room, int64_t deadline)
{
        struct receiver *receiver = &connection->receiver;
        size_t have = 0;
        int r = take_head(connection, false, deadline);

        if (r < 0)
                return r;
        if (receiver->size > room)
                return -EMSGSIZE;
        if (receiver->stash == NULL) {
                r = take_body(connection, buf, receiver->size, &have, deadline);
                return r < 0 && receiver->error == 0 ? keep_body(receiver, buf, have, r) : r;
        }
        r = fill_stash(connection, deadline);
        if (r == 0 && receiver->size > 0)
                memcpy(buf, receiver->stash, receiver->size);
        return r;
}

ssize_t brood_connection_recv(brood_connection *connection, void *buf, size_t room, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (connection == NULL || (buf == NULL && room > 0))
                return -EINVAL;
        ssize_t r = receiver_begin(connection, deadline);
        if (r < 0)
                return r;
        r = take_message(connection, buf, room, deadline);
        if (r == 0) {
                r = (ssize_t)connection->receiver.size;
                receiver_reset(&connection->receiver);
        }
        turn_give(&connection->receiver.turn);
        return r;
}

ssize_t brood_connection_recv_alloc(brood_connection *connection, void **ret_data, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (connection == NULL || ret_data == NULL)
                return -EINVAL;
        ssize_t r = receiver_begin(connection, deadline);
        if (r < 0)
                return r;
        struct receiver *receiver = &connection->receiver;
        r = take_head(connection, false, deadline);
        if (r == 0)
                r = fill_stash(connection, deadline);
        if (r == 0) {
                r = (ssize_t)receiver->size;
                *ret_data = receiver->stash;
                receiver->stash = NULL;
                receiver_reset(receiver);
        }
        turn_give(&receiver->turn);
        return r;
}

ssize_t brood_connection_next_size(brood_connection *connection, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (connection == NULL)
                return -EINVAL;
        ssize_t r = receiver_begin(connection, deadline);
        if (r < 0)
                return r;
        /* It may be an object, and then it stays one. */
        r = take_head(connection, connection->stream.kind == STREAM_UNIX, deadline);
        if (r == 0)
                r = (ssize_t)connection->receiver.size;
        turn_give(&connection->receiver.turn);
        return r;
}

int brood_connection_poll(brood_connection *connection, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (connection == NULL)
                return -EINVAL;
        /* The turn is given back before the wait: a thread that polls keeps nobody from receiving.  If another thread has it, it is
         * that thread's message that is being waited for, and only the kernel can tell of the next. */
        int r = receiver_begin(connection, DEADLINE_NOW);
        if (r == 0) {
                const struct receiver *receiver = &connection->receiver;
                bool whole = receiver->headed && receiver->have == receiver->size;

                turn_give(&connection->receiver.turn);
                if (whole)
                        return 1;
        } else if (r != -EAGAIN) {
                return r == -EPROTO || r == -ECONNRESET ? 1 : r;
        }
        r = stream_wait(&connection->stream, deadline);
        return r == 0 ? 1 : r == -EAGAIN || r == -ETIMEDOUT ? 0 : r;
}

/* ---- descriptors ---- */

static bool is_unix(const brood_connection *connection)
{
        return connection->stream.kind == STREAM_UNIX;
}

static int send_with_descriptors(brood_connection *connection, void *data, size_t size, const int *fds, size_t count,
                                 int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);
        struct iovec parts[2] = { { NULL, 0 }, { data, size } };
        int r = sender_begin(connection, deadline);

        if (r < 0)
                return r;
        r = is_unix(connection) ? send_parts(connection, parts, fds, count, deadline) : -EOPNOTSUPP;
        turn_give(&connection->sender.turn);
        return r;
}

int brood_connection_send_descriptors(brood_connection *connection, const int *descriptors, size_t count,
                                      int timeout_ms)
{
        unsigned char number = (unsigned char)count;

        if (connection == NULL || descriptors == NULL || count == 0 || count > BROOD_CONNECTION_DESCRIPTORS)
                return -EINVAL;
        return send_with_descriptors(connection, &number, 1, descriptors, count, timeout_ms);
}

/* With the turn, and nothing of a message here. */
static ssize_t take_descriptors(brood_connection *connection, int *ret_descriptors, size_t room, int64_t deadline)
{
        struct receiver *receiver = &connection->receiver;
        struct stream_descriptors came;
        unsigned char number;
        ssize_t n = stream_recv(&connection->stream, &number, 1, &came, deadline);
        ssize_t r;

        if (n == 0)
                return -EPIPE;
        if (n == -ECONNRESET)
                return receiver_break(receiver, -ECONNRESET);
        if (n < 0)
                return n;
        if (number == 0 || (came.count == 0 && !came.lost)) {
                /* The beginning of a message, perhaps of an object. */
                receiver->head[0] = number;
                receiver->head_have = 1;
                keep_descriptors(receiver, &came);
                return -ENOMSG;
        }
        if (came.lost)
                r = -EMFILE;
        else if (came.count != number)
                r = receiver_break(receiver, -EPROTO);
        else if (came.count > room)
                r = -EMSGSIZE;
        else
                r = (ssize_t)came.count;
        if (r < 0)
                stream_descriptors_close(&came);
        else
                memcpy(ret_descriptors, came.fds, came.count * sizeof *ret_descriptors);
        return r;
}

ssize_t brood_connection_recv_descriptors(brood_connection *connection, int *ret_descriptors, size_t room,
                                          int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (connection == NULL || ret_descriptors == NULL || room == 0)
                return -EINVAL;
        ssize_t r = receiver_begin(connection, deadline);
        if (r < 0)
                return r;
        if (!is_unix(connection))
                r = -EOPNOTSUPP;
        else if (connection->receiver.head_have > 0)
                r = -EBUSY;
        else
                r = take_descriptors(connection, ret_descriptors, room, deadline);
        turn_give(&connection->receiver.turn);
        return r;
}

/* ---- objects ---- */

static_assert(BROOD_CONNECTION_DESCRIPTORS == STREAM_DESCRIPTORS, "what the kernel carries at once");
static_assert(sizeof object_mark + 8 == OBJECT_SIZE, "a mark and two numbers");

int brood_connection_send_object(brood_connection *connection, uint32_t kind, const int *descriptors, size_t count,
                                 int timeout_ms)
{
        unsigned char message[FRAME_SHORT + OBJECT_SIZE], *at = message + FRAME_SHORT;

        if (connection == NULL || descriptors == NULL || count == 0 || count > BROOD_OBJECT_DESCRIPTORS)
                return -EINVAL;
        frame_put(message, OBJECT_SIZE, FRAME_SHORT);
        memcpy(at, object_mark, sizeof object_mark);
        frame_put(at + sizeof object_mark, kind, 4);
        frame_put(at + sizeof object_mark + 4, count, 4);
        return send_with_descriptors(connection, message, sizeof message, descriptors, count, timeout_ms);
}

/* With the turn.  What is no such object is kept as the message that it is. */
static int take_object(brood_connection *connection, uint32_t kind, int *ret_descriptors, size_t count,
                       int64_t deadline)
{
        struct receiver *receiver = &connection->receiver;
        int r = take_head(connection, true, deadline);

        if (r < 0)
                return r;
        if (receiver->size != OBJECT_SIZE)
                return -ENOMSG;
        r = fill_stash(connection, deadline);
        if (r < 0)
                return r;
        const unsigned char *at = receiver->stash + sizeof object_mark;
        if (memcmp(receiver->stash, object_mark, sizeof object_mark) != 0 || frame_get(at, 4) != kind)
                return -ENOMSG;
        if (receiver->fds_lost)
                r = -EMFILE;
        else if (receiver->fd_count != count || frame_get(at + 4, 4) != count)
                r = -EPROTO;
        if (r == 0) {
                memcpy(ret_descriptors, receiver->fds, count * sizeof *ret_descriptors);
                receiver->fd_count = 0;
        }
        receiver_reset(receiver);
        return r;
}

int brood_connection_recv_object(brood_connection *connection, uint32_t kind, int *ret_descriptors, size_t count,
                                 int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (connection == NULL || ret_descriptors == NULL || count == 0 || count > BROOD_OBJECT_DESCRIPTORS)
                return -EINVAL;
        int r = receiver_begin(connection, deadline);
        if (r < 0)
                return r;
        r = is_unix(connection) ? take_object(connection, kind, ret_descriptors, count, deadline) : -EOPNOTSUPP;
        turn_give(&connection->receiver.turn);
        return r;
}
