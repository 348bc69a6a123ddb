/* SPDX-License-Identifier: MIT */
#include "os/stream.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool is_socket(const struct stream *stream)
{
        return stream->kind == STREAM_UNIX || stream->kind == STREAM_SOCKET;
}

void stream_descriptors_close(struct stream_descriptors *descriptors)
{
        for (size_t i = 0; i < descriptors->count; i++)
                descriptor_close(&descriptors->fds[i]);
        descriptors->count = 0;
}

/* ---- making ---- */

static int kind_of_socket(int fd, enum stream_kind *ret_kind)
{
        int type, domain, listens;
        socklen_t size = sizeof(int);

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0)
                return -errno;
        *ret_kind = domain == AF_UNIX ? STREAM_UNIX : STREAM_SOCKET;
        return type == SOCK_STREAM && !listens ? 0 : -EINVAL;
}

int stream_of(struct stream *ret_stream, int fd)
{
        KEEP_ERRNO;
        struct stat status;
        int flags = fcntl(fd, F_GETFL);

        if (flags < 0 || fstat(fd, &status) < 0)
                return -errno;
        *ret_stream = (struct stream){ .fd = fd };
        if (S_ISSOCK(status.st_mode)) {
                int r = kind_of_socket(fd, &ret_stream->kind);
                if (r < 0)
                        return r;
        } else if (S_ISFIFO(status.st_mode) && (flags & O_ACCMODE) == O_RDONLY) {
                ret_stream->kind = STREAM_PIPE_READ;
        } else if (S_ISFIFO(status.st_mode) && (flags & O_ACCMODE) == O_WRONLY) {
                ret_stream->kind = STREAM_PIPE_WRITE;
        } else {
                return -EINVAL;
        }
        flags = fcntl(fd, F_GETFD);
        return flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0 ? -errno : 0;
}

/* How many bytes may be on their way, as setsockopt(2) counts them: what Debian's kernels allow everybody, and twice what they
 * give unasked.  A receiver who is a little late then holds nobody up. */
enum { PAIR_BUFFER = 212992 };

int stream_pair(struct stream ret_ends[2], bool one_way)
{
        KEEP_ERRNO;
        int fds[2], room = PAIR_BUFFER;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        if (one_way)
                shutdown(fds[0], SHUT_WR); /* of a connected pair, which cannot fail */
        for (int i = 0; i < 2; i++) {
                setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
                ret_ends[i] = (struct stream){ .fd = fds[i], .kind = STREAM_UNIX };
        }
        return 0;
}

/* ---- waiting ---- */

static int wait_for(int fd, short events, int64_t deadline)
{
        struct pollfd entry = { .fd = fd, .events = events };

        for (;;) {
                int left = deadline_left_ms(deadline);
                int n = poll(&entry, 1, left);

                if (n > 0)
                        return 0;
                if (n < 0 && errno != EINTR && errno != EAGAIN)
                        return -ENOMEM;
                if (n == 0 && left == 0)
                        return deadline == DEADLINE_NOW ? -EAGAIN : -ETIMEDOUT;
        }
}

int stream_wait(const struct stream *stream, int64_t deadline)
{
        KEEP_ERRNO;
        return wait_for(stream->fd, POLLIN, deadline);
}

/* ---- sending ---- */

/* A pipe knows no MSG_NOSIGNAL.  The signal that a write raises goes to the thread that writes: block it, and take it away again,
 * unless one was waiting before. */
static ssize_t write_without_signal(int fd, const struct iovec *parts, int count)
{
        sigset_t set, before, waiting;
        const struct timespec none = { 0 };

        sigemptyset(&set);
        sigaddset(&set, SIGPIPE);
        sigpending(&waiting);
        pthread_sigmask(SIG_BLOCK, &set, &before);
        ssize_t n = writev(fd, parts, count);
        int error = errno;
        if (n < 0 && error == EPIPE && !sigismember(&waiting, SIGPIPE))
                while (sigtimedwait(&set, NULL, &none) < 0 && errno == EINTR)
                        ;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        errno = error;
        return n;
}

/* With time to wait, as much as there is; otherwise no more than what a pipe that is ready for writing takes without waiting. */
static ssize_t pipe_send(int fd, const struct iovec *parts, size_t count, int64_t deadline)
{
        struct iovec few[2];
        size_t room = PIPE_BUF, n = 0;

        if (deadline == DEADLINE_NEVER)
                return write_without_signal(fd, parts, (int)count);
        int r = wait_for(fd, POLLOUT, deadline);
        if (r < 0) {
                errno = r == -ENOMEM ? ENOMEM : EAGAIN;
                return -1;
        }
        for (; n < count && n < 2 && room > 0; n++) {
                few[n] = parts[n];
                if (few[n].iov_len > room)
                        few[n].iov_len = room;
                room -= few[n].iov_len;
        }
        return write_without_signal(fd, few, (int)n);
}

static ssize_t socket_send(int fd, const struct iovec *parts, size_t part_count, const int *fds, size_t count,
                           int64_t deadline)
{
        alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int) * STREAM_DESCRIPTORS)];
        struct msghdr message = { .msg_iov = (struct iovec *)parts, .msg_iovlen = part_count };
        int flags = MSG_NOSIGNAL | (deadline == DEADLINE_NEVER ? 0 : MSG_DONTWAIT);

        if (count == 0)
                return sendmsg(fd, &message, flags);
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        memset(control, 0, message.msg_controllen);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * count);
        /* musl's function takes less than the kernel does: no more than 1,024 bytes of control data.  Its struct has the kernel's
         * layout, with members of 32 bits and padding, which is zero here, where the kernel has one of 64. */
        return syscall(SYS_sendmsg, fd, &message, flags);
}

/* Whatever else may be wrong with the way to the other end (a timeout of TCP, an unreachable network): it is no more. */
static int send_error(int error)
{
        switch (error) {
        case ENOBUFS:
        case ENOMEM:
                return -ENOMEM;
        case EBADF:
        case ETOOMANYREFS:
                return -error;
        default:
                return -EPIPE;
        }
}

ssize_t stream_send(const struct stream *stream, const struct iovec *parts, size_t part_count, const int *fds,
                    size_t count, int64_t deadline)
{
        KEEP_ERRNO;
        for (;;) {
                ssize_t n = is_socket(stream) ? socket_send(stream->fd, parts, part_count, fds, count, deadline)
                                              : pipe_send(stream->fd, parts, part_count, deadline);
                if (n >= 0)
                        return n;
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return send_error(errno);
                int r = wait_for(stream->fd, POLLOUT, deadline);
                if (r < 0)
                        return r;
        }
}

/* ---- receiving ---- */

static void take_descriptors(struct msghdr *message, struct stream_descriptors *descriptors)
{
        for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head != NULL; head = CMSG_NXTHDR(message, head)) {
                if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                memcpy(descriptors->fds + descriptors->count, CMSG_DATA(head), count * sizeof(int));
                descriptors->count += count;
        }
        descriptors->lost = message->msg_flags & MSG_CTRUNC;
}

static ssize_t socket_recv(int fd, void *bytes, size_t size, struct stream_descriptors *descriptors, int64_t deadline)
{
        if (descriptors == NULL) /* with time to wait, until all of it is there */
                return recv(fd, bytes, size, deadline == DEADLINE_NEVER ? MSG_WAITALL : MSG_DONTWAIT);

        alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int) * STREAM_DESCRIPTORS)];
        struct iovec part = { .iov_base = bytes, .iov_len = size };
        struct msghdr message = {
                .msg_iov = &part,
                .msg_iovlen = 1,
                .msg_control = control,
                .msg_controllen = sizeof control,
        };
        ssize_t n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (deadline == DEADLINE_NEVER ? 0 : MSG_DONTWAIT));
        if (n >= 0)
                take_descriptors(&message, descriptors);
        return n;
}

static ssize_t pipe_recv(int fd, void *bytes, size_t size, int64_t deadline)
{
        int r = deadline == DEADLINE_NEVER ? 0 : wait_for(fd, POLLIN, deadline);

        if (r < 0) {
                errno = r == -ENOMEM ? ENOMEM : EAGAIN;
                return -1;
        }
        return read(fd, bytes, size);
}

ssize_t stream_recv(const struct stream *stream, void *bytes, size_t size, struct stream_descriptors *ret_descriptors,
                    int64_t deadline)
{
        KEEP_ERRNO;
        if (ret_descriptors != NULL) {
                ret_descriptors->count = 0;
                ret_descriptors->lost = false;
        }
        for (;;) {
                ssize_t n = is_socket(stream) ? socket_recv(stream->fd, bytes, size, ret_descriptors, deadline)
                                              : pipe_recv(stream->fd, bytes, size, deadline);
                if (n >= 0)
                        return n;
                if (errno == EINTR)
                        continue;
                if (errno != EAGAIN)
                        return errno == EBADF || errno == ENOMEM ? -errno : -ECONNRESET;
                int r = wait_for(stream->fd, POLLIN, deadline);
                if (r < 0)
                        return r;
        }
}
