/* SPDX-License-Identifier: MIT
 *
 * brood/listener.h: connections between programs that are no relatives, as Python's Listener and Client make them.
 *
 *     brood_listener *l;                                                    // the server
 *     brood_listener_new(&l, &(brood_listener_options){ .address = "127.0.0.1:6000", .key = "secret", .key_size = 6 });
 *     r = brood_listener_accept(l, &c, BROOD_FOREVER);
 *
 *     r = brood_client(&c, "127.0.0.1:6000",                                // the client, in another program
 *                      &(brood_client_options){ .key = "secret", .key_size = 6 }, 5000);
 *
 * Either side may be a stock Python program: Listener(('127.0.0.1', 6000), authkey=b'secret') and Client(...).  What is sent over
 * the connection is in <brood/connection.h>.
 *
 * Addresses:
 *
 *     "127.0.0.1:6000", "[::1]:6000"   TCP; with port 0 the listener takes a free one.  "localhost" is 127.0.0.1.  Names are not
 *                                      looked up, for that takes as long as it takes: call getaddrinfo(3), and give the number
 *     "/run/x/socket", "./socket"      a Unix socket in the file system; in Python the same string
 *     "@name"                          one in the abstract name space, which leaves no file; in Python "\0name"
 *     NULL                             for a listener: a free name in the abstract name space, as brood_listener_address() tells
 *
 * With a key, each side proves to the other that it knows the key, without telling it: each sends 40 random bytes, and the
 * other answers with their HMAC under the key.  The listener asks first and answers nothing before it has its answer.  The
 * digest is SHA-256.  A Python before 3.12 knows MD5 only; it is answered with that, and its answers are accepted, unless
 * `refuse_md5` is set.  (No way is known to forge an HMAC-MD5; but who finds it worth recording and guessing at a weak key
 * does so faster.)  The digests SHA-384, SHA3-256 and SHA3-384, which a Python since 3.12 may ask for, are answered too.
 *
 * What this gives and what not: nobody without the key gets a connection, and no answer can be used twice, for each is about
 * another 40 bytes.  But what is sent over TCP afterwards is neither secret nor guarded against whoever sits on the wire, and one
 * who sits there can hand question and answer on between two who know the key.  Give no two services the same key, and use TLS
 * or SSH where the wire is not yours.  Over Unix sockets the permissions of the path decide who may try; a name in the abstract
 * name space has none: whoever is on this machine, in the same network name space, may connect.
 *
 * A peer that says something else is dropped at once, and one that says nothing after auth_timeout_ms; meanwhile it stops nobody:
 * accept deals with up to `max_pending` peers side by side, each of which costs less than 1 KiB, whatever it sends.  All of that
 * happens inside accept: call it again soon.
 *
 * Built without a library for HMAC, brood refuses keys with -EOPNOTSUPP.
 */
#ifndef BROOD_LISTENER_H
#define BROOD_LISTENER_H

#include <brood/connection.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_listener brood_listener;

#define BROOD_LISTENER_BACKLOG_DEFAULT 128
#define BROOD_LISTENER_BACKLOG_LIMIT 65536
#define BROOD_LISTENER_PENDING_DEFAULT 64
#define BROOD_LISTENER_PENDING_LIMIT 4096
#define BROOD_LISTENER_AUTH_TIMEOUT_DEFAULT 5000 /* ms */
#define BROOD_KEY_LIMIT 4096

typedef struct brood_listener_options {
        const char *address; /* see above */

        /* The key, 1 to BROOD_KEY_LIMIT bytes; a copy is kept.  NULL: everybody is let in. */
        const void *key;
        size_t key_size;

        /* Bytes of the largest message of its connections; as in brood_connection_options. */
        size_t max_message;

        /* How long a peer may take to prove that it knows the key, while accept is being called; 0:
         * BROOD_LISTENER_AUTH_TIMEOUT_DEFAULT. */
        int auth_timeout_ms;

        /* How many peers may be at that at once, up to BROOD_LISTENER_PENDING_LIMIT; 0: BROOD_LISTENER_PENDING_DEFAULT.  When one
         * more comes, the one that has been at it for longest is dropped. */
        int max_pending;

        /* How many may wait for accept in the kernel, up to BROOD_LISTENER_BACKLOG_LIMIT, and as many as the kernel allows; 0:
         * BROOD_LISTENER_BACKLOG_DEFAULT. */
        int backlog;

        /* Not 0: have nothing to do with peers that know MD5 only: every Python before 3.12. */
        int refuse_md5;
} brood_listener_options;

/* Make a listener; from then on clients can connect, and wait for accept.
 * Returns 0; -EINVAL (ret_listener NULL; an address that is none of the above; key_size 0 with a key, or the other way round, or
 *   beyond its limit; a number that is negative or beyond its limit); -E2BIG (options from a newer brood); -EOPNOTSUPP (a key, but
 *   brood was built without HMAC; or the kernel has no such sockets); -EADDRINUSE (somebody listens there; or, for a path, a file
 *   is there, which may be left over from a process that was killed); -EADDRNOTAVAIL (the address is not this machine's);
 *   -EACCES (a port or a path that this process may not use); -ENOENT, -ENOTDIR, -ELOOP (the directory of the path); -EROFS,
 *   -ENOSPC (the file system); -ENOMEM; -EMFILE, -ENFILE.
 * Threads: any.  Death: the listener ends with the last process that has it; a path stays in the file system. */
BROOD_API int brood_listener_new_sized(brood_listener **ret_listener, const brood_listener_options *options,
                                       size_t options_size);

static inline int brood_listener_new(brood_listener **ret_listener, const brood_listener_options *options)
{
        return brood_listener_new_sized(ret_listener, options, sizeof(brood_listener_options));
}

/* End this process's use of it.  Peers that are not authenticated yet are dropped.  In the process that made it, its path is
 * removed, if what is there is still its own socket.  The key is wiped from memory.
 * Threads: no other may be inside a call.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_listener_free(brood_listener *listener);

/* Wait for the next peer that connects and knows the key.  Those who fail are dropped; accept goes on, and
 * brood_listener_refused() counts them.
 * Returns 0; -EAGAIN, -ETIMEDOUT (none yet; those who are on the way stay on it, and the next accept goes on with them); -EINVAL
 *   (NULL); -EMFILE, -ENFILE (no descriptor left: the peer stays in the backlog); -ENOMEM.
 * Threads: any; one works, the others wait.  Fork: usable in the child, beside the parent; with a key, a peer on its way stays with
 *   the process that took it in, which should come back to accept soon.  Signals: restarts after EINTR.
 * Death: killed here, a client's call returns an error: its connection is closed. */
BROOD_API int brood_listener_accept(brood_listener *listener, brood_connection **ret_connection, int timeout_ms);

/* How many peers were dropped because they did not prove to know the key: it was another, they said something else, left,
 * were silent, or had to make room.  0 for NULL.  Threads: any. */
BROOD_API uint64_t brood_listener_refused(const brood_listener *listener);

/* Where it listens, in the form that brood_client() takes, with the port or the name that the kernel has chosen.  Lives as long as
 * the handle.  NULL for NULL. */
BROOD_API const char *brood_listener_address(const brood_listener *listener);

/* A descriptor for poll(2), epoll(7) or an event loop: readable when accept has something to do.  Then call
 * brood_listener_accept() with a time limit of 0, until it says -EAGAIN.  Belongs to the handle; do not read from it.
 * Fork: ask again in the child.  Returns it; -EINVAL (NULL); -EMFILE, -ENFILE, -ENOMEM (in a forked child that asks first). */
BROOD_API int brood_listener_fileno(brood_listener *listener);

typedef struct brood_client_options {
        /* As for the listener; NULL: nothing is asked and nothing answered. */
        const void *key;
        size_t key_size;
        size_t max_message;
        int refuse_md5;
} brood_client_options;

/* Connect to a listener, and wait until each has proven to the other that it knows the key.  The time limit is for all of it.
 * Returns 0;
 *   -EAGAIN, -ETIMEDOUT          the listener has not taken us in, or says nothing: perhaps it has no key
 *   -ECONNREFUSED                nobody listens there
 *   -ENOENT, -ENOTDIR, -ELOOP    no such path
 *   -EACCES, -EPERM              this process may not
 *   -EHOSTUNREACH, -ENETUNREACH, -EADDRNOTAVAIL   there is no way to it, or no port left
 *   -EKEYREJECTED                it does not take our answer, or does not know the key (Python raises AuthenticationError)
 *   -EPROTO                      it says what is no part of the protocol, or wants what refuse_md5 refuses
 *   -ECONNRESET                  it has hung up
 *   -EINVAL                      ret_connection or address NULL, or an address that is none of the above; a key that the listener
 *                                would refuse too; max_message beyond its limit
 *   -E2BIG                       options from a newer brood
 *   -EOPNOTSUPP                  as for the listener
 *   -ENOMEM; -EMFILE, -ENFILE    no descriptor left
 * Threads: any.  Signals: restarts after EINTR. */
BROOD_API int brood_client_sized(brood_connection **ret_connection, const char *address,
                                 const brood_client_options *options, size_t options_size, int timeout_ms);

static inline int brood_client(brood_connection **ret_connection, const char *address,
                               const brood_client_options *options, int timeout_ms)
{
        return brood_client_sized(ret_connection, address, options, sizeof(brood_client_options), timeout_ms);
}

#ifdef __cplusplus
}
#endif

#endif
