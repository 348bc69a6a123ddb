/* SPDX-License-Identifier: MIT
 *
 * pipe/connection.h: how the listener and the client make a connection.
 */
#ifndef BROOD_PIPE_CONNECTION_H
#define BROOD_PIPE_CONNECTION_H

#include <brood/connection.h>

#include "os/stream.h"

/* Make a connection of a stream, which belongs to it from then on (on failure it does not); max_message 0: the default.
 * 0, or -ENOMEM. */
int connection_make(brood_connection **ret_connection, struct stream stream, size_t max_message, bool receives,
                    bool sends);

/* The option of that name: 0, or -EINVAL. */
int connection_check_max_message(size_t max_message);

#endif
