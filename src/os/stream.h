/* SPDX-License-Identifier: MIT
 *
 * os/stream.h: bytes, and descriptors among them, through a stream socket or a pipe(2), with a deadline.
 *
 * The descriptor may be shared with other processes, which may rely on its flags: O_NONBLOCK is neither needed nor touched.
 * On a socket MSG_DONTWAIT and poll(2) keep the deadline.  On a pipe there is no such flag: poll(2) tells whether a page may be
 * written or something read, and that holds only until another process comes first.
 */
#ifndef BROOD_OS_STREAM_H
#define BROOD_OS_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum stream_kind {
        STREAM_UNIX, /* a Unix socket: carries descriptors */
        STREAM_SOCKET,
        STREAM_PIPE_READ,
        STREAM_PIPE_WRITE,
};

struct stream {
        int fd;
        enum stream_kind kind;
};

/* The most descriptors that the kernel carries at once (SCM_MAX_FD). */
#define STREAM_DESCRIPTORS 253

/* Descriptors that came with some bytes; close-on-exec. */
struct stream_descriptors {
        int fds[STREAM_DESCRIPTORS];
        size_t count;
        bool lost; /* there were more, for which this process had no descriptors left */
};

void stream_descriptors_close(struct stream_descriptors *descriptors);

/* What a descriptor is, made close-on-exec: 0; -EBADF, -EINVAL (neither a stream socket nor a pipe). */
int stream_of(struct stream *ret_stream, int fd);

/* Two connected Unix sockets; if `one_way`, only from the second to the first. */
int stream_pair(struct stream ret_ends[2], bool one_way);

/* Send some of the bytes, at least one, as soon as there is room; with the first of them go `count` descriptors.
 * How many; -EAGAIN (deadline now), -ETIMEDOUT; -EPIPE; -ENOMEM; with descriptors: -EBADF, -ETOOMANYREFS.  No SIGPIPE. */
ssize_t stream_send(const struct stream *stream, const struct iovec *parts, size_t part_count, const int *fds,
                    size_t count, int64_t deadline);

/* Receive some bytes, at least one, as soon as there are some.  Without `ret_descriptors`, descriptors that come along are
 * closed by the kernel; with it, the bytes end behind the first that carries some.
 * How many; 0 at the end of the stream; -EAGAIN, -ETIMEDOUT; -ECONNRESET; -ENOMEM. */
ssize_t stream_recv(const struct stream *stream, void *bytes, size_t size, struct stream_descriptors *ret_descriptors,
                    int64_t deadline);

/* Wait until there is something to receive, or the end: 0; -EAGAIN, -ETIMEDOUT. */
int stream_wait(const struct stream *stream, int64_t deadline);

#endif
