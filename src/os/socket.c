/* SPDX-License-Identifier: MIT */
#include "os/socket.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

union address {
        struct sockaddr any;
        struct sockaddr_un un;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
};

static_assert(sizeof(((struct sockaddr_un *)NULL)->sun_path) < SOCKET_TEXT, "room for a path and its end");

/* ---- text ---- */

/* Not every libc has a sun_path that may end without a zero; and Python, for one, writes none behind an abstract name. */
static int parse_unix(const char *text, union address *ret, socklen_t *ret_size)
{
        size_t length = strlen(text), head = offsetof(struct sockaddr_un, sun_path);
        bool abstract = text[0] == '@';

        if (length >= sizeof ret->un.sun_path || (abstract && length < 2))
                return -EINVAL;
        ret->un.sun_family = AF_UNIX;
        memcpy(ret->un.sun_path, text, length);
        if (abstract)
                ret->un.sun_path[0] = '\0';
        *ret_size = (socklen_t)(head + length + !abstract);
        return 0;
}

/* A decimal number and nothing else; -1 if it is none. */
static int parse_port(const char *text)
{
        int port = 0;

        if (*text == '\0')
                return -1;
        for (; *text != '\0'; text++) {
                if (*text < '0' || *text > '9' || (port = port * 10 + *text - '0') > 65535)
                        return -1;
        }
        return port;
}

static int parse_inet(const char *text, union address *ret, socklen_t *ret_size)
{
        char host[INET6_ADDRSTRLEN];
        const char *colon = strrchr(text, ':');
        int port = colon == NULL ? -1 : parse_port(colon + 1);

        if (port < 0)
                return -EINVAL;
        bool six = text[0] == '[' && colon[-1] == ']'; /* with a '[' before it, the colon is not the first character */
        size_t length = (size_t)(colon - text) - (six ? 2 : 0);
        if (length >= sizeof host)
                return -EINVAL;
        memcpy(host, text + six, length);
        host[length] = '\0';
        if (six) {
                ret->in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
                *ret_size = sizeof ret->in6;
                return inet_pton(AF_INET6, host, &ret->in6.sin6_addr) == 1 ? 0 : -EINVAL;
        }
        ret->in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
        *ret_size = sizeof ret->in;
        return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &ret->in.sin_addr) == 1
                   ? 0
                   : -EINVAL;
}

static int parse(const char *text, union address *ret, socklen_t *ret_size)
{
        if (text[0] == '/' || text[0] == '@' || (text[0] == '.' && strchr(text, '/') != NULL))
                return parse_unix(text, ret, ret_size);
        return parse_inet(text, ret, ret_size);
}

/* Where a socket is bound.  A path is what it was called. */
static int print_bound(int fd, char text[SOCKET_TEXT])
{
        union address address;
        socklen_t size = sizeof address;
        size_t head = offsetof(struct sockaddr_un, sun_path);
        char host[INET6_ADDRSTRLEN];

        if (getsockname(fd, &address.any, &size) < 0)
                return -errno;
        switch (address.any.sa_family) {
        case AF_INET:
                inet_ntop(AF_INET, &address.in.sin_addr, host, sizeof host);
                snprintf(text, SOCKET_TEXT, "%s:%d", host, ntohs(address.in.sin_port));
                break;
        case AF_INET6:
                inet_ntop(AF_INET6, &address.in6.sin6_addr, host, sizeof host);
                snprintf(text, SOCKET_TEXT, "[%s]:%d", host, ntohs(address.in6.sin6_port));
                break;
        default:
                if (size > head && address.un.sun_path[0] == '\0')
                        snprintf(text, SOCKET_TEXT, "@%.*s", (int)(size - head - 1), address.un.sun_path + 1);
                else
                        snprintf(text, SOCKET_TEXT, "%.*s", (int)(size - head), address.un.sun_path);
        }
        return 0;
}

/* ---- listening ---- */

int socket_listen(const char *text, int backlog, char ret_text[SOCKET_TEXT], struct socket_path *ret_path)
{
        KEEP_ERRNO;
        /* A Unix address without a name has the kernel choose one. */
        union address address = { .un.sun_family = AF_UNIX };
        socklen_t size = offsetof(struct sockaddr_un, sun_path);
        struct stat status;
        int on = 1, r = text == NULL ? 0 : parse(text, &address, &size);

        if (r < 0)
                return r;
        bool path = text != NULL && address.any.sa_family == AF_UNIX && text[0] != '@';
        int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return errno == EAFNOSUPPORT ? -EOPNOTSUPP : -errno;
        *ret_path = (struct socket_path){ 0 };
        if (address.any.sa_family != AF_UNIX)
                setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* a server may come back at once */
        if (bind(fd, &address.any, size) < 0) {
                r = -errno;
                goto fail;
        }
        if (path && lstat(text, &status) == 0)
                *ret_path = (struct socket_path){ .device = status.st_dev, .inode = status.st_ino };
        r = listen(fd, backlog) < 0 ? -errno : print_bound(fd, ret_text);
        if (r == 0)
                return fd;
        socket_unlink(text, ret_path);
fail:
        close(fd);
        return r;
}

void socket_unlink(const char *text, const struct socket_path *path)
{
        KEEP_ERRNO;
        struct stat status;

        if (path->inode != 0 && lstat(text, &status) == 0 && S_ISSOCK(status.st_mode) && status.st_ino == path->inode &&
            status.st_dev == path->device)
                unlink(text);
}

/* ---- connecting ---- */

/* Messages go out whole, so waiting for more of them would only be waiting. */
static struct stream stream_new(int fd, sa_family_t family)
{
        int on = 1;

        if (family == AF_UNIX)
                return (struct stream){ .fd = fd, .kind = STREAM_UNIX };
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        return (struct stream){ .fd = fd, .kind = STREAM_SOCKET };
}

int socket_accept(int fd, struct stream *ret_stream)
{
        KEEP_ERRNO;
        union address peer = { .any.sa_family = AF_UNSPEC };
        socklen_t size = sizeof peer;
        int taken = accept4(fd, &peer.any, &size, SOCK_CLOEXEC);

        if (taken >= 0) {
                *ret_stream = stream_new(taken, peer.any.sa_family);
                return 0;
        }
        switch (errno) {
        case EMFILE:
        case ENFILE:
                return -errno;
        case ENOMEM:
        case ENOBUFS:
                return -ENOMEM;
        default: /* what befell a peer on its way, or a network that is away: see accept(2) */
                return -EAGAIN;
        }
}

/* Over a Unix socket, connect(2) waits while the listener's backlog is full, and poll(2) cannot wait for that; but the socket may
 * be given a time limit of its own. */
static int connect_unix(int fd, const union address *address, socklen_t size, int64_t deadline)
{
        for (;;) {
                int left = deadline_left_ms(deadline);
                struct timeval limit = { .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000L };

                if (left == 0)
                        fcntl(fd, F_SETFL, O_NONBLOCK);
                else if (left > 0)
                        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
                if (connect(fd, &address->any, size) == 0)
                        break;
                if (errno != EINTR && errno != EAGAIN)
                        return errno == EPROTOTYPE ? -ECONNREFUSED
                                                   : -errno; /* a socket, but no stream: nobody listens */
                if (errno == EAGAIN && left == 0)
                        return deadline == DEADLINE_NOW ? -EAGAIN : -ETIMEDOUT;
        }
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ 0 }, sizeof(struct timeval));
        return fcntl(fd, F_SETFL, 0) < 0 ? -errno : 0;
}

static int connect_inet(int fd, const union address *address, socklen_t size, int64_t deadline)
{
        struct pollfd entry = { .fd = fd, .events = POLLOUT };
        int error = 0;
        socklen_t error_size = sizeof error;

        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || (connect(fd, &address->any, size) < 0 && errno != EINPROGRESS))
                return -errno;
        for (int n = 0; n <= 0;) {
                int left = deadline_left_ms(deadline);

                n = poll(&entry, 1, left);
                if (n < 0 && errno != EINTR && errno != EAGAIN)
                        return -ENOMEM;
                if (n == 0 && left == 0)
                        return deadline == DEADLINE_NOW ? -EAGAIN : -ETIMEDOUT;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) < 0)
                return -errno;
        if (error != 0)
                return error == ETIMEDOUT ? -EHOSTUNREACH : -error; /* the kernel's patience, not the caller's */
        return fcntl(fd, F_SETFL, 0) < 0 ? -errno : 0;
}

int socket_connect(const char *text, struct stream *ret_stream, int64_t deadline)
{
        KEEP_ERRNO;
        union address address = { 0 };
        socklen_t size;
        int r = parse(text, &address, &size);

        if (r < 0)
                return r;
        int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return errno == EAFNOSUPPORT ? -EOPNOTSUPP : -errno;
        r = address.any.sa_family == AF_UNIX ? connect_unix(fd, &address, size, deadline)
                                             : connect_inet(fd, &address, size, deadline);
        if (r < 0) {
                close(fd);
                return r;
        }
        *ret_stream = stream_new(fd, address.any.sa_family);
        return 0;
}
