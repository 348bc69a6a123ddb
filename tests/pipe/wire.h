/* SPDX-License-Identifier: MIT
 *
 * tests/pipe/wire.h: the other end of a connection by hand: raw bytes on a socket.  The wire format is stated here a second time,
 * so that a change of it is noticed.
 */
#ifndef BROOD_TESTS_WIRE_H
#define BROOD_TESTS_WIRE_H

#include "check.h"

#include <brood/connection.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

enum { SHORT_MS = 30 };

/* A connection, and the bare socket at its other end. */
static inline brood_connection *wire_pair(int *ret_raw, const brood_connection_options *options)
{
        brood_connection *c = NULL;
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(brood_connection_new(&c, fds[0], options), 0);
        *ret_raw = fds[1];
        return c;
}

static inline void wire_put(int fd, const void *bytes, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = send(fd, (const char *)bytes + done, size - done, MSG_NOSIGNAL);
                assert_true(n > 0);
                done += (size_t)n;
        }
}

static inline void wire_get(int fd, void *bytes, size_t size)
{
        for (size_t done = 0; done < size;) {
                ssize_t n = recv(fd, (char *)bytes + done, size - done, 0);
                assert_true(n > 0);
                done += (size_t)n;
        }
}

/* The short form of a length. */
static inline void wire_put_length(int fd, int32_t length)
{
        uint32_t number = (uint32_t)length;
        unsigned char head[4] = { (unsigned char)(number >> 24), (unsigned char)(number >> 16),
                                  (unsigned char)(number >> 8), (unsigned char)number };
        wire_put(fd, head, sizeof head);
}

/* The long one. */
static inline void wire_put_long_length(int fd, uint64_t length)
{
        unsigned char head[12] = { 0xff, 0xff, 0xff, 0xff };
        for (int i = 0; i < 8; i++)
                head[4 + i] = (unsigned char)(length >> (56 - 8 * i));
        wire_put(fd, head, sizeof head);
}

static inline void wire_put_message(int fd, const void *bytes, size_t size)
{
        wire_put_length(fd, (int32_t)size);
        if (size > 0)
                wire_put(fd, bytes, size);
}

static inline bool wire_readable(int fd)
{
        return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 1;
}

static inline bool wire_closes_on_exec(int fd)
{
        int flags = fcntl(fd, F_GETFD);
        return flags >= 0 && flags & FD_CLOEXEC;
}

/* Bytes that tell where in the message they belong, and in which. */
static inline unsigned char wire_byte(uint64_t seed, size_t at)
{
        return (unsigned char)(check_mix(seed + at / 8) >> (8 * (at % 8)));
}

static inline void wire_fill(unsigned char *bytes, size_t size, uint64_t seed)
{
        for (size_t i = 0; i < size; i++)
                bytes[i] = wire_byte(seed, i);
}

static inline bool wire_filled(const unsigned char *bytes, size_t size, uint64_t seed)
{
        for (size_t i = 0; i < size; i++)
                if (bytes[i] != wire_byte(seed, i))
                        return false;
        return true;
}

#endif
