/* SPDX-License-Identifier: MIT
 *
 * prefork: a web server of processes.
 *
 *     prefork [OPTION...] [DIRECTORY]
 *
 * The parent reads the files below DIRECTORY into memory, opens the socket, and forks a worker for each slot.  It serves nothing
 * itself: it waits, for a worker's end, for what a worker says, for a signal.  A worker that dies costs the connections that
 * it had; a new one takes its slot at once, and the socket, which belongs to all, has lost nobody who was still waiting.
 *
 * GET /stats tells what all of them have done.  With --allow-crash, GET /crash kills the worker that answers it.
 *
 * SIGTERM or SIGINT ends it in order: the workers accept nothing more, finish what they are answering, say good-bye, and end.
 * SIGKILL ends it, too, and the workers with it: that is brood's doing.
 *
 * Exit codes: 0, ended in order; 1, a worker had to be killed in the end, or all died at birth; 2, it could not begin.
 */
#include "prefork.h"
#include "http.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOG_TICK_MS 100  /* how late a line may be: the parent is not woken for each */
#define AGAIN_MS 100     /* after a birth that has failed, until the next */
#define PATIENCE_MS 5000 /* with workers that are to end, beyond the time that they have */
#define DEATHS_AT_BIRTH_MAX 10

struct parent {
        struct server server;
        const char *host, *port, *log_path;
        int signals;         /* a signalfd */
        int deaths_at_birth; /* in a row */
        uint64_t cut;
        bool stopping, failed;
};

_Noreturn static void fail(const char *what, int r)
{
        fprintf(stderr, "prefork: %s: %s\n", what, brood_strerror(r));
        exit(2);
}

static int64_t now_ms(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the beginning ---- */

static int listen_at(const struct addrinfo *address)
{
        int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
        if (bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, 1024) == 0)
                return fd;
        int r = -errno;
        close(fd);
        return r;
}

static void open_listener(struct parent *self)
{
        struct addrinfo *addresses, hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
        int r = getaddrinfo(self->host, self->port, &hints, &addresses);
        if (r != 0) {
                fprintf(stderr, "prefork: %s: %s\n", self->host, gai_strerror(r));
                exit(2);
        }
        self->server.listener = listen_at(addresses);
        freeaddrinfo(addresses);
        if (self->server.listener < 0)
                fail("listen", self->server.listener);
}

/* Port 0 was the kernel's to choose. */
static void tell_address(const struct parent *self)
{
        struct sockaddr_storage address = { 0 };
        socklen_t size = sizeof address;
        char host[NI_MAXHOST], port[NI_MAXSERV];
        if (getsockname(self->server.listener, (struct sockaddr *)&address, &size) < 0 ||
            getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                        NI_NUMERICHOST | NI_NUMERICSERV) != 0)
                return;
        printf(address.ss_family == AF_INET6 ? "http://[%s]:%s/\n" : "http://%s:%s/\n", host, port);
        fflush(stdout);
}

static void open_signals(struct parent *self)
{
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigprocmask(SIG_BLOCK, &set, NULL);
        self->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (self->signals < 0)
                fail("signals", -errno);
}

/* ---- births ---- */

/* The worker's end goes with it: the parent closes its own copy, so that the stream ends when the worker does. */
static int start_worker(struct parent *self, int index)
{
        struct slot *slot = &self->server.slots[index];
        brood_connection *there;
        int r = brood_pipe(&slot->control, &there, true);
        if (r < 0)
                return r;
        slot->ready = false;
        struct worker_place place = { &self->server, index, there };
        r = brood_process_new(&slot->process,
                              &(brood_process_options){ .process_class = &worker_class, .arg = &place });
        if (r == 0)
                r = brood_process_start(slot->process);
        brood_connection_free(there);
        if (r == 0) {
                brood_atomic_fetch_add(&board_of(&self->server)->births, 1);
                return 0;
        }
        brood_process_free(slot->process);
        brood_connection_free(slot->control);
        *slot = (struct slot){ 0 };
        return r;
}

/* Returns whether all slots have a worker. */
static bool fill_slots(struct parent *self)
{
        bool all = true;
        for (int i = 0; i < self->server.workers; i++) {
                int r = self->server.slots[i].process == NULL ? start_worker(self, i) : 0;
                if (r < 0)
                        fprintf(stderr, "prefork: no worker for slot %d: %s\n", i, brood_strerror(r));
                all = all && r == 0;
        }
        return all;
}

/* ---- what workers say, and their ends ---- */

static void hear(struct parent *self, struct slot *slot)
{
        struct control control;
        while (slot->control != NULL &&
               brood_connection_recv(slot->control, &control, sizeof control, 0) == sizeof control) {
                if (control.word == WORD_READY) {
                        slot->ready = true;
                        self->deaths_at_birth = 0;
                } else if (control.word == WORD_BYE) {
                        self->cut += control.cut;
                }
        }
}

static void note_death(struct parent *self, int index)
{
        struct slot *slot = &self->server.slots[index];
        int exitcode = BROOD_EXITCODE_UNKNOWN;
        brood_process_exitcode(slot->process, &exitcode);
        struct score *score = score_of(&self->server, index);
        uint64_t lost = brood_atomic_exchange(&score->open, 0);
        brood_atomic_store(&score->pid, 0);
        if (self->stopping && exitcode == 0)
                return;
        self->failed = self->failed || self->stopping;
        brood_atomic_fetch_add(&board_of(&self->server)->deaths, 1);
        brood_atomic_fetch_add(&board_of(&self->server)->lost_connections, lost);
        self->deaths_at_birth += !slot->ready;
        fprintf(stderr, "prefork: worker %d of slot %d has died with %d, and %llu connections with it\n",
                (int)brood_process_pid(slot->process), index, exitcode, (unsigned long long)lost);
}

static void bury(struct parent *self, int index)
{
        struct slot *slot = &self->server.slots[index];
        hear(self, slot); /* its last words */
        note_death(self, index);
        brood_process_free(slot->process);
        brood_connection_free(slot->control);
        *slot = (struct slot){ 0 };
}

/* ---- waiting ---- */

/* Sleeps until something has happened, or the time is up; buries who has died, and hears who has something to say. */
static void wait_a_while(struct parent *self, int timeout_ms)
{
        brood_waitable what[1 + 2 * WORKERS_MAX] = { brood_waitable_fd(self->signals) };
        int slots[1 + 2 * WORKERS_MAX];
        size_t count = 1;
        for (int i = 0; i < self->server.workers; i++) {
                if (self->server.slots[i].process == NULL)
                        continue;
                slots[count] = i;
                what[count++] = brood_waitable_process(self->server.slots[i].process);
                if (self->server.slots[i].ready && !self->stopping)
                        continue; /* it has no more to say */
                slots[count] = i;
                what[count++] = brood_waitable_connection(self->server.slots[i].control);
        }
        if (self->server.log != NULL && (timeout_ms < 0 || timeout_ms > LOG_TICK_MS))
                timeout_ms = LOG_TICK_MS;
        int r = brood_wait_many(what, count, timeout_ms);
        if (r < 0 && r != -ETIMEDOUT && r != -EAGAIN)
                fail("wait", r);
        for (size_t i = 1; r > 0 && i < count; i++) {
                if (!what[i].ready)
                        continue;
                if (what[i].kind == BROOD_WAITABLE_PROCESS)
                        bury(self, slots[i]);
                else
                        hear(self, &self->server.slots[slots[i]]);
        }
        log_write(&self->server);
}

static bool is_signaled(const struct parent *self)
{
        struct signalfd_siginfo info;
        return read(self->signals, &info, sizeof info) == sizeof info;
}

static void serve(struct parent *self)
{
        while (!is_signaled(self)) {
                bool all = fill_slots(self);
                wait_a_while(self, all ? BROOD_FOREVER : AGAIN_MS);
                if (self->deaths_at_birth > DEATHS_AT_BIRTH_MAX) {
                        fprintf(stderr, "prefork: the workers die before they are ready\n");
                        self->failed = true;
                        break;
                }
        }
}

/* ---- the end ---- */

static int count_workers(const struct parent *self)
{
        int count = 0;
        for (int i = 0; i < self->server.workers; i++)
                count += self->server.slots[i].process != NULL;
        return count;
}

static void tell_workers_to_stop(struct parent *self)
{
        struct control control = { .word = WORD_STOP };
        for (int i = 0; i < self->server.workers; i++)
                if (self->server.slots[i].process != NULL)
                        brood_connection_send(self->server.slots[i].control, &control, sizeof control, 0);
}

/* A second signal, or the end of patience, ends those that are left. */
static void stop(struct parent *self)
{
        int64_t end = now_ms() + self->server.grace_ms + PATIENCE_MS;
        self->stopping = true;
        close(self->server.listener);
        tell_workers_to_stop(self);
        while (count_workers(self) > 0 && now_ms() < end && !is_signaled(self))
                wait_a_while(self, (int)(end - now_ms()) + 1);
        for (int i = 0; i < self->server.workers; i++) {
                if (self->server.slots[i].process == NULL)
                        continue;
                brood_process_kill(self->server.slots[i].process);
                brood_process_join(self->server.slots[i].process, BROOD_FOREVER);
                bury(self, i);
        }
        log_write(&self->server);
}

static void close_all(struct parent *self)
{
        int r = log_close(&self->server);
        if (r < 0)
                fail(self->log_path, r);
        figures_close(&self->server);
        close(self->signals);
        http_unload();
}

/* ---- the options ---- */

static const char usage[] =
    "usage: prefork [OPTION...] [DIRECTORY]\n"
    "Serves the files below DIRECTORY (without one: a page of its own) over HTTP/1.1.\n"
    "\n"
    "  --host HOST     listen at this address (127.0.0.1)\n"
    "  --port PORT     and this port; 0: one of the kernel's choice (8080)\n"
    "  --workers N     so many processes, up to 64 (one for each CPU)\n"
    "  --timeout MS    a request must come, and an answer be taken, within this time (5000)\n"
    "  --grace MS      what is being answered at the end may take so long (2000)\n"
    "  --log FILE      append a line for each request; -: to stdout\n"
    "  --allow-crash   GET /crash kills the worker that answers it\n"
    "  --help          this text\n"
    "\n"
    "SIGTERM or SIGINT ends it in order.\n"
    "Exit codes: 0, ended in order; 1, a worker had to be killed in the end, or all died at birth;\n"
    "2, it could not begin.\n";

static int number(const char *text, int lowest, int limit)
{
        char *end;
        long value = strtol(text, &end, 10);
        if (*text == 0 || *end != 0 || value < lowest || value > limit) {
                fprintf(stderr, "prefork: not a number from %d to %d: %s\n", lowest, limit, text);
                exit(2);
        }
        return (int)value;
}

static void read_options(struct parent *self, int argc, char **argv)
{
        static const struct option options[] = {
                { "host", required_argument, NULL, 'h' },
                { "port", required_argument, NULL, 'p' },
                { "workers", required_argument, NULL, 'w' },
                { "timeout", required_argument, NULL, 't' },
                { "grace", required_argument, NULL, 'g' },
                { "log", required_argument, NULL, 'l' },
                { "allow-crash", no_argument, NULL, 'c' },
                { "help", no_argument, NULL, '?' + 1 },
                { 0 },
        };
        int option;
        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (option) {
                case 'h':
                        self->host = optarg;
                        break;
                case 'p':
                        number(optarg, 0, 65535);
                        self->port = optarg;
                        break;
                case 'w':
                        self->server.workers = number(optarg, 1, WORKERS_MAX);
                        break;
                case 't':
                        self->server.timeout_ms = number(optarg, 1, 3600000);
                        break;
                case 'g':
                        self->server.grace_ms = number(optarg, 0, 3600000);
                        break;
                case 'l':
                        self->log_path = optarg;
                        break;
                case 'c':
                        self->server.allow_crash = true;
                        break;
                case '?':
                        fputs(usage, stderr);
                        exit(2);
                default:
                        fputs(usage, stdout);
                        exit(0);
                }
        }
        if (argc - optind > 1) {
                fputs(usage, stderr);
                exit(2);
        }
}

int main(int argc, char **argv)
{
        int cpus = brood_cpu_count();
        struct parent self = {
                .host = "127.0.0.1",
                .port = "8080",
                .server = { .workers = cpus < WORKERS_MAX ? cpus : WORKERS_MAX, .timeout_ms = 5000, .grace_ms = 2000 }
        };
        read_options(&self, argc, argv);
        int r = http_load(optind < argc ? argv[optind] : NULL);
        if (r < 0)
                fail(optind < argc ? argv[optind] : "memory", r);
        open_signals(&self);
        open_listener(&self);
        r = figures_open(&self.server);
        if (r < 0)
                fail("figures", r);
        r = self.log_path != NULL ? log_open(&self.server, self.log_path) : 0;
        if (r < 0)
                fail(self.log_path, r);
        tell_address(&self);

        serve(&self);
        stop(&self);
        figures_print(&self.server, self.cut);
        close_all(&self);
        return self.failed;
}
