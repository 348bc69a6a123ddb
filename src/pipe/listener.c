/* SPDX-License-Identifier: MIT
 *
 * pipe/listener.c: those who connect, side by side until each has proven that it knows the key.
 *
 * A listener has one epoll set: of its own socket, and of each peer in the middle of its handshake.  Accept waits for the set, and
 * goes on with whoever has said something, until somebody is done.  Each step of a handshake takes what is there and does not
 * wait, so one silent peer keeps nobody.
 *
 * The set and the peers belong to the process that began with them.  A forked child that uses the listener closes its copies, and
 * begins with a set of its own.  It cannot know how far a thread of its parent had come that was inside accept then: so the peers
 * lie in an array that stays where it is, and in whatever state, closing those that are there is right (see drop()).
 */
#include "os/atfork.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/options.h"
#include "os/poller.h"
#include "os/socket.h"
#include "pipe/connection.h"
#include "pipe/handshake.h"
#include "pipe/turn.h"

#include <brood/listener.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
        AT_ONCE_MOST = 256, /* so many things are dealt with by an accept that may not wait */
};

struct peer {
        bool there;
        struct stream stream;
        int64_t deadline;
        struct handshake handshake;
};
static_assert(sizeof(struct peer) <= 1024, "what the header says of a peer's cost");

struct brood_listener {
        struct turn turn; /* for what follows, but for the constants */
        atomic_u64 mark;  /* of the process whose set and peers these are */
        int poller;
        struct peer *peers;
        size_t peer_count;
        int64_t left_at; /* when nobody was inside accept any more */

        atomic_u64 refused;

        uint64_t maker_mark;
        int fd;
        char address[SOCKET_TEXT];
        struct socket_path path;
        struct secret *secret;
        size_t max_message, max_pending;
        int auth_timeout_ms;
        bool refuse_md5;
};

/* ---- making and ending ---- */

static int check_options(brood_listener_options *options)
{
        if (options->auth_timeout_ms < 0 || options->max_pending < 0 ||
            options->max_pending > BROOD_LISTENER_PENDING_LIMIT || options->backlog < 0 ||
            options->backlog > BROOD_LISTENER_BACKLOG_LIMIT)
                return -EINVAL;
        if (options->auth_timeout_ms == 0)
                options->auth_timeout_ms = BROOD_LISTENER_AUTH_TIMEOUT_DEFAULT;
        if (options->max_pending == 0)
                options->max_pending = BROOD_LISTENER_PENDING_DEFAULT;
        if (options->backlog == 0)
                options->backlog = BROOD_LISTENER_BACKLOG_DEFAULT;
        return connection_check_max_message(options->max_message);
}

/* A set with nobody but the listener in it. */
static int open_poller(brood_listener *listener)
{
        int poller = poller_new();

        if (poller < 0)
                return poller;
        int r = poller_add(poller, listener->fd, NULL);
        if (r < 0) {
                descriptor_close(&poller);
                return r;
        }
        listener->poller = poller;
        return 0;
}

static int make(brood_listener *listener, const brood_listener_options *options)
{
        int r = process_mark_init();

        if (r < 0)
                return r;
        r = secret_new(&listener->secret, options->key, options->key_size);
        if (r < 0)
                return r;
        listener->max_pending = (size_t)options->max_pending;
        listener->max_message = options->max_message;
        listener->auth_timeout_ms = options->auth_timeout_ms;
        listener->refuse_md5 = options->refuse_md5 != 0;
        listener->maker_mark = process_mark();
        store_relaxed(&listener->mark, process_mark());
        if (listener->secret != NULL) {
                listener->peers = calloc(listener->max_pending, sizeof *listener->peers);
                if (listener->peers == NULL)
                        return -ENOMEM;
        }
        listener->fd = socket_listen(options->address, options->backlog, listener->address, &listener->path);
        return listener->fd < 0 ? listener->fd : open_poller(listener);
}

int brood_listener_new_sized(brood_listener **ret_listener, const brood_listener_options *options, size_t options_size)
{
        brood_listener_options known;

        if (ret_listener == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        r = check_options(&known);
        if (r < 0)
                return r;
        brood_listener *listener = calloc(1, sizeof *listener);
        if (listener == NULL)
                return -ENOMEM;
        listener->fd = listener->poller = -1;
        r = make(listener, &known);
        if (r < 0) {
                brood_listener_free(listener);
                return r;
        }
        *ret_listener = listener;
        return 0;
}

/* Give up a peer.  A child that was forked in the middle of this has at worst a descriptor too many. */
static void drop(brood_listener *listener, struct peer *peer)
{
        peer->there = false;
        listener->peer_count--;
        /* Not by closing alone: a forked child may have a copy, and then the kernel keeps it in the set. */
        poller_remove(listener->poller, peer->stream.fd);
        descriptor_close(&peer->stream.fd);
}

static void refuse(brood_listener *listener, struct peer *peer)
{
        fetch_add_relaxed(&listener->refused, 1);
        drop(listener, peer);
}

/* Close everything of the set; in a child, our copies of it. */
static void leave(brood_listener *listener)
{
        for (size_t i = 0; listener->peers != NULL && i < listener->max_pending; i++) {
                if (listener->peers[i].there)
                        descriptor_close(&listener->peers[i].stream.fd);
                listener->peers[i].there = false;
        }
        listener->peer_count = 0;
        descriptor_close(&listener->poller);
}

void brood_listener_free(brood_listener *listener)
{
        if (listener == NULL)
                return;
        leave(listener);
        if (listener->maker_mark == process_mark())
                socket_unlink(listener->address, &listener->path);
        descriptor_close(&listener->fd);
        secret_free(listener->secret);
        free(listener->peers);
        free(listener);
}

/* A peer's time runs while somebody is in accept: who is kept waiting because the host is busy elsewhere is not to blame. */
static void go_on_counting(brood_listener *listener)
{
        int64_t away = clock_now() - listener->left_at;

        for (size_t i = 0; listener->peer_count > 0 && i < listener->max_pending; i++)
                listener->peers[i].deadline += away;
}

/* Take the turn, in a process that has a set of its own. */
static int begin(brood_listener *listener, int64_t deadline)
{
        int r = turn_take(&listener->turn, deadline);

        if (r < 0)
                return r;
        if (load_relaxed(&listener->mark) == process_mark()) {
                go_on_counting(listener);
                return 0;
        }
        leave(listener);
        r = open_poller(listener);
        if (r < 0)
                turn_give(&listener->turn);
        else
                store_release(&listener->mark, process_mark()); /* R1: pairs with A1 in brood_listener_fileno */
        return r;
}

static void end(brood_listener *listener)
{
        if (listener->peer_count > 0)
                listener->left_at = clock_now();
        turn_give(&listener->turn);
}

/* ---- accepting ---- */

/* The peer that has been at it for longest; NULL if there is none.  They are few, and at the front. */
static struct peer *oldest(const brood_listener *listener)
{
        struct peer *found = NULL, *peer = listener->peers;

        for (size_t seen = 0; seen < listener->peer_count; peer++) {
                if (!peer->there)
                        continue;
                seen++;
                if (found == NULL || peer->deadline < found->deadline)
                        found = peer;
        }
        return found;
}

/* Somebody is in: 0, or what keeps us from making a connection of him. */
static int admit(const brood_listener *listener, struct stream stream, brood_connection **ret_connection)
{
        int r = connection_make(ret_connection, stream, listener->max_message, true, true);

        if (r < 0)
                descriptor_close(&stream.fd);
        return r;
}

/* Go on with a peer: 0 (he is in); -EAGAIN (not yet, or never); -ENOMEM. */
static int go_on(brood_listener *listener, struct peer *peer, brood_connection **ret_connection)
{
        int r = handshake_drive(&peer->handshake, &peer->stream, DEADLINE_NOW);

        if (r == -EAGAIN)
                return r;
        if (r < 0) {
                refuse(listener, peer);
                return r == -ENOMEM ? r : -EAGAIN;
        }
        struct stream stream = peer->stream;
        peer->stream.fd = -1;
        poller_remove(listener->poller, stream.fd);
        peer->there = false;
        listener->peer_count--;
        return admit(listener, stream, ret_connection);
}

static struct peer *free_place(brood_listener *listener)
{
        if (listener->peer_count == listener->max_pending)
                refuse(listener, oldest(listener));
        for (struct peer *peer = listener->peers;; peer++)
                if (!peer->there)
                        return peer;
}

/* Take in one who has connected.  The same results; -EMFILE, -ENFILE. */
static int take_in(brood_listener *listener, brood_connection **ret_connection)
{
        struct stream stream;
        int r = socket_accept(listener->fd, &stream);

        if (r < 0)
                return r;
        if (listener->secret == NULL)
                return admit(listener, stream, ret_connection);
        struct peer *peer = free_place(listener);
        peer->stream = stream;
        peer->deadline = deadline_after_ms(listener->auth_timeout_ms);
        r = handshake_begin(&peer->handshake, listener->secret, true, listener->refuse_md5);
        if (r == 0)
                r = poller_add(listener->poller, stream.fd, peer);
        if (r < 0) {
                descriptor_close(&peer->stream.fd);
                return -ENOMEM; /* whatever the kernel is short of */
        }
        peer->there = true;
        listener->peer_count++;
        return go_on(listener, peer, ret_connection);
}

/* With the turn.  However many connect, and whatever they say, the time limit holds. */
static int accept_one(brood_listener *listener, brood_connection **ret_connection, int64_t deadline)
{
        for (int dealt = 0;; dealt++) {
                struct peer *peer = oldest(listener);
                int64_t until = peer != NULL && peer->deadline < deadline ? peer->deadline : deadline;
                void *name;

                if (peer != NULL && peer->deadline <= clock_now()) {
                        refuse(listener, peer);
                        continue;
                }
                int r = poller_wait(listener->poller, &name, 1, until);
                if (r > 0) {
                        r = name == NULL ? take_in(listener, ret_connection) : go_on(listener, name, ret_connection);
                        if (r != -EAGAIN)
                                return r;
                } else if (r != -ETIMEDOUT) {
                        return r;
                }
                if (deadline == DEADLINE_NOW) {
                        if (dealt == AT_ONCE_MOST)
                                return -EAGAIN;
                } else if (deadline != DEADLINE_NEVER && clock_now() >= deadline) {
                        return -ETIMEDOUT;
                }
        }
}

int brood_listener_accept(brood_listener *listener, brood_connection **ret_connection, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (listener == NULL || ret_connection == NULL)
                return -EINVAL;
        int r = begin(listener, deadline);
        if (r < 0)
                return r;
        r = accept_one(listener, ret_connection, deadline);
        end(listener);
        return r;
}

/* ---- asking ---- */

uint64_t brood_listener_refused(const brood_listener *listener)
{
        return listener == NULL ? 0 : load_relaxed(&listener->refused);
}

const char *brood_listener_address(const brood_listener *listener)
{
        return listener == NULL ? NULL : listener->address;
}

int brood_listener_fileno(brood_listener *listener)
{
        if (listener == NULL)
                return -EINVAL;
        /* A thread may be inside accept; what it does never exchanges the set. */
        if (load_acquire(&listener->mark) != process_mark()) { /* A1: pairs with R1 in begin */
                int r = begin(listener, DEADLINE_NEVER);
                if (r < 0)
                        return r;
                end(listener);
        }
        return listener->poller;
}

/* ---- the other side ---- */

static int prove(struct stream stream, const struct secret *secret, bool refuse_md5, int64_t deadline)
{
        struct handshake handshake;

        if (secret == NULL)
                return 0;
        int r = handshake_begin(&handshake, secret, false, refuse_md5);
        return r < 0 ? r : handshake_drive(&handshake, &stream, deadline);
}

int brood_client_sized(brood_connection **ret_connection, const char *address, const brood_client_options *options,
                       size_t options_size, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);
        brood_client_options known;
        struct stream stream = { .fd = -1 };
        struct secret *secret;

        if (ret_connection == NULL || address == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        r = connection_check_max_message(known.max_message);
        if (r < 0)
                return r;
        r = secret_new(&secret, known.key, known.key_size);
        if (r < 0)
                return r;
        r = socket_connect(address, &stream, deadline);
        if (r == 0)
                r = prove(stream, secret, known.refuse_md5 != 0, deadline);
        if (r == 0)
                r = connection_make(ret_connection, stream, known.max_message, true, true);
        if (r < 0)
                descriptor_close(&stream.fd);
        secret_free(secret);
        return r;
}
