/* SPDX-License-Identifier: MIT
 *
 * os/socket.h: stream sockets by address: listening, accepting, connecting.  All are close-on-exec.
 *
 * The text of an address is that of <brood/listener.h>: "127.0.0.1:6000", "[::1]:6000", "/path", "./path", "@abstract".
 */
#ifndef BROOD_OS_SOCKET_H
#define BROOD_OS_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "os/stream.h"

/* Room for the text of any address: a path of 107 bytes, and its end. */
#define SOCKET_TEXT 112

/* A path that a listener made, so that it can be known again. */
struct socket_path {
        uint64_t device, inode; /* 0, 0: none */
};

/* Listen at the address; NULL: at a free name in the abstract name space.  The text of where it listens goes to `ret_text`.
 * A descriptor that does not block, or a negative errno (-EINVAL: this is no address). */
int socket_listen(const char *text, int backlog, char ret_text[SOCKET_TEXT], struct socket_path *ret_path);

/* Remove the path of such a text, if it is still the one that was made. */
void socket_unlink(const char *text, const struct socket_path *path);

/* Take in who has connected: 0; -EAGAIN (nobody waits, or only somebody who is gone already); -EMFILE, -ENFILE, -ENOMEM. */
int socket_accept(int fd, struct stream *ret_stream);

/* Connect: 0; -EAGAIN (deadline now), -ETIMEDOUT; or a negative errno. */
int socket_connect(const char *text, struct stream *ret_stream, int64_t deadline);

#endif
