/* SPDX-License-Identifier: MIT
 *
 * worker.c: a worker of the example prefork.
 *
 * The listening socket is inherited, and the kernel gives each connection to one of those who wait for it.  A worker has many
 * connections at once and one loop over them, so that a client that is slow, or silent, costs it a descriptor and not its time.
 *
 * A client has a deadline.  It is not moved by every byte that comes: a request must be there as a whole, in time.
 */
#include "http.h"
#include "prefork.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 512 /* of one worker */
#define TICK_MS 100     /* how late a deadline may be noticed */
#define LINGER_MS 1000  /* how long the rest of what a client sends is thrown away, before it is cut off */

enum state { READING, ANSWERING, LINGERING };

struct client {
        int fd;
        size_t index; /* in the worker's clients */
        enum state state;
        bool keep_alive; /* after the answer */
        int64_t deadline;
        size_t in_size, head_size, body_size, sent;
        const char *body;
        char head[HTTP_HEAD_MAX];
        char in[HTTP_REQUEST_MAX];
        char text[FIGURES_MAX]; /* a body that is made up for a request */
};

struct worker {
        struct worker_place place;
        struct score *score;
        int epoll;
        bool listening, told_to_stop, stopping, failed;
        int64_t end; /* once it stops: nobody's deadline is later */
        uint32_t cut;
        size_t n_clients;
        struct client *clients[CLIENTS_MAX];
};

static int64_t now_ms(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void set_deadline(const struct worker *self, struct client *client, int ms)
{
        client->deadline = now_ms() + ms;
        if (self->stopping && client->deadline > self->end)
                client->deadline = self->end;
}

static void watch(const struct worker *self, int operation, int fd, uint32_t events, void *who)
{
        epoll_ctl(self->epoll, operation, fd, &(struct epoll_event){ .events = events, .data.ptr = who });
}

/* ---- clients come and go ---- */

/* Listen or not: not while there is no room for more. */
static void set_listening(struct worker *self, bool on)
{
        if (self->listening == on)
                return;
        self->listening = on;
        /* EPOLLEXCLUSIVE: one of the workers is woken for a connection, and not all. */
        watch(self, on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, self->place.server->listener, EPOLLIN | EPOLLEXCLUSIVE,
              &self->listening);
}

static void drop(struct worker *self, struct client *client)
{
        struct client *last = self->clients[--self->n_clients];
        self->clients[client->index] = last;
        last->index = client->index;
        close(client->fd); /* which takes it out of the epoll, too */
        free(client);
        brood_atomic_store(&self->score->open, self->n_clients);
}

/* Takes one connection: the next one may be another worker's. */
static void accept_one(struct worker *self)
{
        int fd = accept4(self->place.server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
                        set_listening(self, false); /* until the next look: perhaps somebody has gone by then */
                return;
        }
        struct client *client = malloc(sizeof *client);
        if (client == NULL) {
                close(fd);
                return;
        }
        client->fd = fd;
        client->index = self->n_clients;
        client->state = READING;
        set_deadline(self, client, self->place.server->timeout_ms);
        client->in_size = 0;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
        self->clients[self->n_clients++] = client;
        brood_atomic_fetch_add_relaxed(&self->score->connections, 1);
        brood_atomic_store(&self->score->open, self->n_clients);
        watch(self, EPOLL_CTL_ADD, fd, EPOLLIN, client);
        if (self->n_clients == CLIENTS_MAX)
                set_listening(self, false);
}

/* ---- what is answered ---- */

static void answer(struct worker *self, struct client *client, const struct http_request *request, int status,
                   const char *type, const char *body, size_t size)
{
        client->keep_alive = request->keep_alive && !self->stopping;
        client->head_size = http_head(client->head, status, type, size, client->keep_alive);
        client->body = body;
        client->body_size = request->head ? 0 : size;
        client->sent = 0;
        client->state = ANSWERING;
        set_deadline(self, client, self->place.server->timeout_ms);
        brood_atomic_fetch_add_relaxed(&self->score->requests, 1);
        log_hit(self->place.server, self->place.index, request, status, client->body_size);
}

static void answer_error(struct worker *self, struct client *client, const struct http_request *request, int status)
{
        int size = snprintf(client->text, sizeof client->text, "%d %s\n", status, http_reason(status));
        answer(self, client, request, status, "text/plain", client->text, (size_t)size);
}

/* What a bug would do, in one member of a struct at NULL. */
static void crash(void)
{
        volatile uintptr_t nowhere = 16;
        signal(SIGSEGV, SIG_DFL);
        *(volatile int *)nowhere = 1;
}

static void answer_request(struct worker *self, struct client *client, const struct http_request *request)
{
        const struct http_file *file;
        if (strcmp(request->path, "/crash") == 0 && self->place.server->allow_crash)
                crash();
        if (strcmp(request->path, "/stats") == 0)
                answer(self, client, request, 200, "application/json", client->text,
                       figures_write(self->place.server, self->place.index, client->text));
        else if ((file = http_find(request->path)) != NULL)
                answer(self, client, request, 200, file->type, file->data, file->size);
        else
                answer_error(self, client, request, 404);
}

/* ---- one client ---- */

/* After an error's answer the client may still be sending, and a plain close would throw away the answer on its way.  So the
 * stream is ended, and what comes is read until the client closes, too. */
static void linger(const struct worker *self, struct client *client)
{
        shutdown(client->fd, SHUT_WR);
        client->state = LINGERING;
        set_deadline(self, client, LINGER_MS);
}

/* Sends what goes.  Returns 0 (all of it), -EAGAIN, or an error that is the connection's end. */
static int send_answer(struct worker *self, struct client *client)
{
        size_t size = client->head_size + client->body_size;
        while (client->sent < size) {
                size_t head = client->sent < client->head_size ? client->sent : client->head_size,
                       body = client->sent - head;
                struct iovec parts[] = {
                        { client->head + head, client->head_size - head },
                        { (char *)client->body + body, client->body_size - body },
                };
                struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
                ssize_t n = sendmsg(client->fd, &message, MSG_NOSIGNAL);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                client->sent += (size_t)n;
                set_deadline(self, client, self->place.server->timeout_ms);
                brood_atomic_fetch_add_relaxed(&self->score->bytes, (uint64_t)n);
        }
        return 0;
}

/* Answers the requests that have come as a whole.  False: the connection is to be dropped. */
static bool serve(struct worker *self, struct client *client)
{
        for (;;) {
                if (client->state == ANSWERING) {
                        int r = send_answer(self, client);
                        if (r == -EAGAIN)
                                watch(self, EPOLL_CTL_MOD, client->fd, EPOLLOUT, client);
                        if (r < 0)
                                return r == -EAGAIN;
                        client->state = READING;
                        if (!client->keep_alive)
                                linger(self, client);
                }
                if (client->state == LINGERING)
                        return true;
                struct http_request request;
                int size = http_parse(client->in, client->in_size, &request);
                if (size == 0)
                        return true;
                if (size < 0) {
                        request.keep_alive = false;
                        answer_error(self, client, &request, -size);
                        continue;
                }
                client->in_size -= (size_t)size;
                memmove(client->in, client->in + size, client->in_size);
                answer_request(self, client, &request);
        }
}

/* Reads what has come.  False: it is the end of the stream. */
static bool receive(struct worker *self, struct client *client)
{
        if (client->state == LINGERING)
                client->in_size = 0;
        ssize_t n = recv(client->fd, client->in + client->in_size, sizeof client->in - client->in_size, 0);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        if (client->in_size == 0 && client->state == READING)
                set_deadline(self, client, self->place.server->timeout_ms); /* a request has begun */
        client->in_size += (size_t)n;
        return n > 0;
}

static void look_at(struct worker *self, struct client *client, uint32_t events)
{
        bool stays = true;
        if (events & EPOLLOUT)
                watch(self, EPOLL_CTL_MOD, client->fd, EPOLLIN, client);
        else
                stays = receive(self, client);
        if (stays && client->state != LINGERING)
                stays = serve(self, client);
        if (!stays)
                drop(self, client);
}

/* ---- the loop ---- */

/* Who has sent half a request is told that it came too late; who has sent nothing knows. */
static void be_late(struct worker *self, struct client *client)
{
        struct http_request none = { 0 };
        if (client->state == READING && client->in_size > 0 && !self->stopping) {
                answer_error(self, client, &none, 408);
                if (serve(self, client))
                        return;
        }
        self->cut += self->stopping && client->state == ANSWERING;
        drop(self, client);
}

static void drop_late(struct worker *self)
{
        int64_t now = now_ms();
        for (size_t i = self->n_clients; i > 0;
             i--) /* backwards: whoever takes the place of one that goes was looked at */
                if (self->clients[i - 1]->deadline <= now)
                        be_late(self, self->clients[i - 1]);
}

/* No more connections, and no request after the one at work. */
static void stop(struct worker *self)
{
        self->stopping = true;
        self->end = now_ms() + self->place.server->grace_ms;
        set_listening(self, false);
        close(self->place.server->listener); /* the last one to do so ends it for those who were not accepted */
        for (size_t i = self->n_clients; i > 0; i--) {
                struct client *client = self->clients[i - 1];
                if (client->state == READING && client->in_size == 0)
                        drop(self, client);
                else if (client->deadline > self->end)
                        client->deadline = self->end;
        }
}

static void hear_parent(struct worker *self)
{
        struct control control;
        ssize_t n = brood_connection_recv(self->place.control, &control, sizeof control, 0);
        if (n == -EAGAIN)
                return;
        self->failed = n != sizeof control || control.word != WORD_STOP;
        self->told_to_stop = true;
        watch(self, EPOLL_CTL_DEL, brood_connection_fileno(self->place.control), 0, NULL);
}

static int tell_parent(const struct worker *self, enum word word)
{
        struct control control = { .word = word, .cut = self->cut };
        return brood_connection_send(self->place.control, &control, sizeof control, 1000);
}

static void look_at_all(struct worker *self, int timeout_ms)
{
        struct epoll_event events[64];
        int n = epoll_wait(self->epoll, events, 64, timeout_ms);
        for (int i = 0; i < n; i++) {
                void *who = events[i].data.ptr;
                if (who == &self->listening)
                        accept_one(self);
                else if (who == &self->place)
                        hear_parent(self);
                else
                        look_at(self, who, events[i].events);
        }
}

static void loop(struct worker *self)
{
        int64_t looked = now_ms();
        while (!self->stopping || self->n_clients > 0) {
                look_at_all(self, self->n_clients > 0 || !self->listening ? TICK_MS : -1);
                if (self->told_to_stop && !self->stopping)
                        stop(self);
                if (now_ms() - looked < TICK_MS)
                        continue;
                looked = now_ms();
                drop_late(self);
                if (!self->stopping)
                        set_listening(self, self->n_clients < CLIENTS_MAX);
        }
}

/* ---- the class ---- */

static int worker_init(brood_process *process, void *arg)
{
        struct worker *self = brood_process_self(process);
        self->place = *(const struct worker_place *)arg;
        return 0;
}

/* A fork has all that its parent had: the others' connections are not for it.  SIGTERM ends it; what Ctrl-C means is the
 * parent's business, who has both blocked. */
static void leave_to_parent(struct worker *self)
{
        sigset_t terminate;
        sigemptyset(&terminate);
        sigaddset(&terminate, SIGTERM);
        sigprocmask(SIG_UNBLOCK, &terminate, NULL);
        for (int i = 0; i < self->place.server->workers; i++)
                brood_connection_free(self->place.server->slots[i].control);
}

static int worker_run(brood_process *process)
{
        struct worker *self = brood_process_self(process);
        leave_to_parent(self);
        self->score = score_of(self->place.server, self->place.index);
        self->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (self->epoll < 0)
                return 1;
        set_listening(self, true);
        watch(self, EPOLL_CTL_ADD, brood_connection_fileno(self->place.control), EPOLLIN, &self->place);
        brood_atomic_store(&self->score->pid, getpid());
        if (tell_parent(self, WORD_READY) < 0)
                return 1;
        loop(self);
        return tell_parent(self, WORD_BYE) < 0 || self->failed;
}

const brood_process_class worker_class = {
        .name = "Worker",
        .size = sizeof(struct worker),
        .init = worker_init,
        .run = worker_run,
};
