/* SPDX-License-Identifier: MIT */
#include "process/server.h"
#include "os/channel.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/lifeline.h"
#include "os/log.h"
#include "os/poller.h"
#include "os/signals.h"
#include "process/main.h"
#include "process/process.h"
#include "process/told.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is said ---- */

/* The descriptors of a request, in this order; then those that are handed over, then those to keep. */
enum { SENT_CHANNEL, SENT_LETTER, SENT_DIRECTORY, SENT_BRANCH, SENT_STREAMS, SENT_HANDED = SENT_STREAMS + 3 };
static_assert((int)SENT_HANDED + (int)BROOD_PROCESS_DESCRIPTORS_MAX <= (int)CHANNEL_DESCRIPTORS_MAX, "one message");

struct request {
        uint32_t handed, kept;
};

/* ---- the host ---- */

static int (*preload_wanted)(void); /* guarded by the process-wide lock */

/* Make a server: 0, or a negative errno and the step with which it failed. */
static int server_make(struct registry *registry, enum outfit_step *ret_step)
{
        int ends[2];

        int r = channel_pair(ends);
        if (r < 0)
                return r;
        /* Whatever else the host has open would stay open for as long as the server lives. */
        brood_process *server = process_alloc(&(brood_process_options){
            .start_method = BROOD_START_SPAWN,
            .hand_over = &ends[1],
            .hand_over_count = 1,
            .setup = { .close_others = true },
        });
        if (server == NULL) {
                r = -ENOMEM;
        } else {
                process_make_helper(server);
                server->is_server = true;
                server->preload = preload_wanted;
                memcpy(server->name, "forkserver", sizeof "forkserver");
                r = process_begin(server);
                *ret_step = server->failed_step == OUTFIT_FUNCTION ? OUTFIT_PRELOAD : server->failed_step;
        }
        descriptor_close(&ends[1]);
        if (r < 0) {
                descriptor_close(&ends[0]);
                brood_process_free(server);
                return r;
        }
        registry->server = server;
        registry->server_channel = ends[0];
        return 0;
}

static void server_end(struct registry *registry)
{
        descriptor_close(&registry->server_channel);
        brood_process_free(registry->server);
        registry->server = NULL;
}

/* Send it to the server, which is made if there is none. */
static int send_request(struct registry *registry, brood_process *process, const struct request *request,
                        const int *fds)
{
        size_t count = (size_t)SENT_HANDED + request->handed + request->kept;
        int r = 0;

        if (registry->server != NULL && pidfd_ended(registry->server->pidfd))
                server_end(registry);
        if (registry->server == NULL)
                r = server_make(registry, &process->failed_step);
        if (r == 0)
                r = channel_send(registry->server_channel, request, sizeof *request, fds, count);
        return r;
}

/* Whether all that the child is to have is open; the socket would say that something is not, but not what. */
static int check_open(const struct outfit *outfit, enum outfit_step *ret_step)
{
        bool open = true;

        *ret_step = OUTFIT_STREAMS;
        for (int i = 0; i < 3 && open; i++)
                open = outfit->streams[i] == OUTFIT_INHERIT || descriptor_is_open(outfit->streams[i]);
        if (open)
                *ret_step = OUTFIT_DESCRIPTORS;
        for (size_t i = 0; i < outfit->handed_count && open; i++)
                open = descriptor_is_open(outfit->handed[i]);
        for (size_t i = 0; i < outfit->keep_count && open; i++)
                open = descriptor_is_open(outfit->keep[i]);
        if (!open)
                return -EBADF;
        *ret_step = OUTFIT_NONE;
        return 0;
}

pid_t server_ask(struct registry *registry, brood_process *process, const struct birth *birth,
                 const struct letter *letter)
{
        const struct outfit *outfit = &birth->fitting.outfit;
        const struct request request = { (uint32_t)outfit->handed_count, (uint32_t)outfit->keep_count };
        int fds[CHANNEL_DESCRIPTORS_MAX], ends[2], null = -1;

        int r = check_open(outfit, &process->failed_step);
        if (r < 0)
                return r;
        int directory = directory_open();
        if (directory < 0)
                return directory;
        r = channel_pair(ends);
        if (r < 0) {
                descriptor_close(&directory);
                return r;
        }
        fds[SENT_CHANNEL] = ends[1];
        fds[SENT_LETTER] = letter->memfd;
        fds[SENT_DIRECTORY] = directory;
        fds[SENT_BRANCH] = birth->branch;
        for (int i = 0; i < 3; i++) {
                int fd = outfit->streams[i] == OUTFIT_INHERIT ? i : outfit->streams[i];
                /* A stream that this process has closed leads nowhere. */
                if (outfit->streams[i] == OUTFIT_INHERIT && !descriptor_is_open(fd)) {
                        if (null < 0)
                                null = null_open(true);
                        fd = null;
                }
                fds[SENT_STREAMS + i] = fd;
        }
        if (outfit->handed_count > 0)
                memcpy(&fds[SENT_HANDED], outfit->handed, outfit->handed_count * sizeof *fds);
        if (outfit->keep_count > 0)
                memcpy(&fds[SENT_HANDED + outfit->handed_count], outfit->keep, outfit->keep_count * sizeof *fds);
        r = send_request(registry, process, &request, fds);
        descriptor_close(&ends[1]);
        descriptor_close(&directory);
        descriptor_close(&null);
        if (r == 0)
                r = hear_birth(ends[0], &process->pidfd, &process->failed_step);
        if (r < 0)
                descriptor_close(&ends[0]);
        else
                process->channel = ends[0];
        if (r == -EPIPE && registry->server != NULL)
                server_end(registry);
        return r;
}

int brood_set_forkserver_preload(int (*function)(void))
{
        struct registry *registry;

        int r = registry_lock(&registry);
        if (r < 0)
                return r;
        if (registry->server != NULL && !pidfd_ended(registry->server->pidfd))
                r = -EALREADY;
        else
                preload_wanted = function;
        registry_unlock();
        return r;
}

int brood_forkserver_stop(void)
{
        struct registry *registry;

        int r = registry_lock(&registry);
        if (r < 0)
                return r;
        if (registry->server != NULL)
                server_end(registry);
        registry_unlock();
        return 0;
}

/* ---- the server ---- */

/* A child of the server, which alone reaps it: until then its pid is nobody else's.  To hold a pidfd of each besides the channel
 * would make every further child inherit and close twice as many.  So only the host has it, and the poller watches it all the same;
 * when the host lets go of it, and so of the channel, the server opens one of its own. */
struct ward {
        pid_t pid; /* 0: none has a channel of this number */
        int pidfd; /* -1: the host's does */
};

struct server {
        int control, poller;
        struct ward *wards; /* by the number of the server's end of their channel, which is their name in the poller */
        size_t room;
        struct descriptor_set open; /* their channels and pidfds */
        struct sigaction sigchld;   /* as the preload left it: a child's */
};

/* In a child of the server: what is the server's goes, its other children's channels above all. */
static void leave_server(struct server *server)
{
        descriptor_close(&server->control);
        descriptor_close(&server->poller);
        descriptor_set_close(&server->open);
        signals_restore_sigchld(&server->sigchld);
}

/* In a child of the server: give each descriptor that came with the request its place. */
static int place_descriptors(struct birth *birth, brood_process *process, struct contents *contents, int *fds)
{
        size_t count = (size_t)SENT_HANDED + contents->handed_count;
        struct registry *registry = registry_in_child();
        int *sentinel = &fds[SENT_DIRECTORY]; /* of the place that is free */

        *sentinel = registry->parent_sentinel;
        int r = descriptors_place(&fds[count], contents->keep, contents->keep_count, &fds[SENT_DIRECTORY],
                                  count - SENT_DIRECTORY);
        registry->parent_sentinel = *sentinel;
        birth->branch = fds[SENT_BRANCH];
        for (int i = 0; i < 3; i++)
                birth->fitting.outfit.streams[i] = birth->fitting.childs[i] = fds[SENT_STREAMS + i];
        process->handed = &fds[SENT_HANDED];
        birth->fitting.outfit.handed = process->handed;
        birth->fitting.outfit.handed_count = contents->handed_count;
        birth->fitting.outfit.keep = contents->keep;
        birth->fitting.outfit.keep_count = contents->keep_count;
        return r;
}

/* The life of a child of the server.  `fds` stay. */
static _Noreturn void live(const struct request *request, int *fds)
{
        struct birth birth = { .ticket = 1, .fitted = true, .branch = fds[SENT_BRANCH] };
        struct contents contents;
        brood_process *process;
        struct letter letter;

        main_set_name();
        descriptor_close(&fds[SENT_CHANNEL]);
        if (letter_open(&letter, fds[SENT_LETTER]) < 0 || lifeline_arm(birth.branch) < 0)
                child_exit(255);
        lifeline_move_up(&fds[SENT_BRANCH]);
        birth.branch = fds[SENT_BRANCH];
        birth.gate = letter.gate;
        int r = letter_read(&letter, &contents, &process);
        if (r == 0 &&
            (contents.is_server || contents.handed_count != request->handed || contents.keep_count != request->kept))
                r = -EUCLEAN;
        if (r < 0)
                birth_fail(&birth, OUTFIT_FUNCTION, r);
        descriptor_close(&fds[SENT_LETTER]);
        r = directory_enter(fds[SENT_DIRECTORY]);
        if (r < 0)
                birth_fail(&birth, OUTFIT_DIRECTORY, r);
        descriptor_close(&fds[SENT_DIRECTORY]);
        birth.mask = contents.mask;
        birth.fitting = (struct fitting){ .outfit = contents.outfit, .parents = { -1, -1, -1 } };
        r = place_descriptors(&birth, process, &contents, fds);
        if (r < 0)
                birth_fail(&birth, OUTFIT_DESCRIPTORS, r);
        process->options.setup.environment = contents.environment;
        signals_ignore(&contents.ignored);
        brood_set_start_method(contents.start_method);
        log_take_over(contents.log_level);
        birth_enter(&birth, process);
        process_run(process);
}

static void *name_of(int fd)
{
        return (void *)(uintptr_t)fd;
}

static int make_room(struct server *server, int channel)
{
        if ((size_t)channel < server->room)
                return 0;
        size_t room = 2 * (size_t)channel;
        struct ward *wards = realloc(server->wards, room * sizeof *wards);
        if (wards == NULL)
                return -ENOMEM;
        memset(wards + server->room, 0, (room - server->room) * sizeof *wards);
        server->wards = wards;
        server->room = room;
        return 0;
}

/* Tell the host of a child, and give it the pidfd. */
static int introduce(struct server *server, pid_t pid, int channel)
{
        int pidfd = pidfd_of(pid);

        if (pidfd < 0)
                return pidfd;
        int r = poller_add_once(server->poller, pidfd, name_of(channel));
        if (r == 0)
                r = tell_birth(channel, pid, pidfd);
        descriptor_close(&pidfd);
        return r;
}

/* The channel is the ward's if that succeeds. */
static int ward_begin(struct server *server, pid_t pid, int channel)
{
        int r = make_room(server, channel);

        if (r == 0)
                r = descriptor_set_add(&server->open, channel);
        if (r == 0)
                r = poller_add(server->poller, channel, name_of(channel)); /* readable: the host has closed its end */
        if (r == 0)
                r = introduce(server, pid, channel);
        if (r == 0) {
                server->wards[channel] = (struct ward){ pid, -1 };
        } else {
                poller_remove(server->poller, channel);
                descriptor_set_remove(&server->open, channel);
        }
        return r;
}

static void ward_close(struct server *server, int *fd)
{
        poller_remove(server->poller, *fd);
        descriptor_set_remove(&server->open, *fd);
        descriptor_close(fd);
}

static void ward_end(struct server *server, int channel)
{
        struct ward *ward = &server->wards[channel];

        ward->pid = 0;
        if (ward->pidfd >= 0)
                ward_close(server, &ward->pidfd);
        ward_close(server, &channel);
}

/* Watch it by a pidfd of the server's own.  If there is no descriptor left, the channel is still watched, and tells again. */
static void ward_watch(struct server *server, int channel)
{
        struct ward *ward = &server->wards[channel];

        if (ward->pidfd >= 0)
                return;
        int pidfd = pidfd_of(ward->pid);
        if (pidfd < 0)
                return;
        int r = descriptor_set_add(&server->open, pidfd);
        if (r == 0)
                r = poller_add(server->poller, pidfd, name_of(channel));
        if (r < 0) {
                descriptor_set_remove(&server->open, pidfd);
                descriptor_close(&pidfd);
                return;
        }
        poller_remove(server->poller, channel);
        ward->pidfd = pidfd;
}

/* Fork a child, and tell the host of it. */
static void bear(struct server *server, const struct request *request, int *fds)
{
        pid_t pid = child_fork();
        if (pid == 0) {
                leave_server(server);
                live(request, fds);
        }
        int r = pid < 0 ? pid : ward_begin(server, pid, fds[SENT_CHANNEL]);
        if (r == 0) {
                fds[SENT_CHANNEL] = -1;
                return;
        }
        tell_failure(fds[SENT_CHANNEL], r, OUTFIT_NONE);
        descriptor_close(&fds[SENT_CHANNEL]);
        if (pid > 0)
                child_reap(pid); /* the host has it exit at the gate */
}

static void take_request(struct server *server)
{
        static int fds[CHANNEL_DESCRIPTORS_MAX]; /* a child keeps them */
        struct request request;
        bool truncated;
        size_t count = 0;

        ssize_t n = channel_receive(server->control, &request, sizeof request, true, fds, CHANNEL_DESCRIPTORS_MAX,
                                    &count, &truncated);
        if (n == 0)
                child_exit(0); /* the host wants no more children */
        if (n == sizeof request && !truncated && request.handed < count && request.kept < count &&
            count == (size_t)SENT_HANDED + request.handed + request.kept)
                bear(server, &request, fds);
        else if (count > 0)
                tell_failure(fds[SENT_CHANNEL], truncated ? -EMFILE : -EUCLEAN, OUTFIT_NONE);
        for (size_t i = 0; i < count; i++)
                descriptor_close(&fds[i]);
}

/* A child may have ended: then reap it, and tell the host how.  Else the host has let go of it; or a tracer is told first, for whom
 * we wait; or it was another one's end, and it does no harm to watch this one, too. */
static void look_after(struct server *server, int channel)
{
        struct ending ending;

        if (server->wards[channel].pid == 0)
                return;
        int r = pid_reap(server->wards[channel].pid, &ending);
        if (r == -EAGAIN) {
                ward_watch(server, channel);
                return;
        }
        if (r == 0)
                tell_ending(channel, &ending);
        ward_end(server, channel);
}

void server_live(struct birth *birth, brood_process *process, int (*preload)(void))
{
        struct server server = { .control = -1, .poller = -1 };
        enum { READY_MAX = 64 };

        child_set_name("brood-server");
        process->signals_stay = true;
        signals_ignore_none();
        int r = preload == NULL ? 0 : preload();
        if (r < 0)
                birth_fail(birth, OUTFIT_PRELOAD, r);
        /* What is buffered is the server's, and its children would write it each. */
        child_flush();
        signals_default_sigchld(&server.sigchld);
        r = streams_to_null();
        if (r == 0 && process->options.hand_over_count != 1)
                r = -EUCLEAN;
        if (r == 0)
                r = server.poller = poller_new();
        if (r >= 0) {
                server.control = process->handed[0];
                r = poller_add(server.poller, server.control, name_of(server.control));
        }
        if (r < 0)
                birth_fail(birth, OUTFIT_NONE, r);
        birth_enter(birth, process);
        for (;;) {
                void *ready[READY_MAX];

                int n = poller_wait(server.poller, ready, READY_MAX, DEADLINE_NEVER);
                bool asked = false;
                for (int i = 0; i < n; i++) {
                        int fd = (int)(uintptr_t)ready[i];
                        if (fd == server.control)
                                asked = true;
                        else
                                look_after(&server, fd);
                }
                if (asked)
                        take_request(&server);
        }
}
