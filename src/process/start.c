/* SPDX-License-Identifier: MIT
 *
 * process/start.c: the birth of a child.
 *
 *     parent                                          child
 *     ticket; branch of the lifeline
 *     signals blocked
 *     fork  ----------------------------------------> lifeline armed: from here the parent's end is ours
 *     pidfd of the child, which waits                 waits at the gate
 *     counted among the children
 *     ticket released ------------------------------> signal mask restored, target
 *
 * A detached process is the child of a child: the first one forks it, tells its pid in the gate, and ends; the second waits at
 * the gate under the parent's lifeline like any child, and gives the lifeline up once it is let through; only then does the start
 * return.
 *
 * Killed here -> what is left.  The parent, anywhere: the kernel kills a child that is armed; one that is not yet armed finds
 * the lifeline cut and exits.  The child, before its target: it has ended with that signal, and join says so.  The first-level
 * child: the parent finds no pid, refuses the ticket, and a grandchild that waits there exits.
 */
#include "process/start.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/futex.h"
#include "os/log.h"
#include "os/memfd.h"
#include "os/pidfd.h"
#include "os/signals.h"
#include "os/spawn.h"
#include "os/syscall.h"
#include "process/exit.h"
#include "process/guardian.h"
#include "process/letter.h"
#include "process/main.h"
#include "process/news.h"
#include "process/server.h"
#include "process/setup.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

void gate_release(const struct birth *birth, bool refuse)
{
        if (refuse)
                store_relaxed(&birth->gate->refused, birth->ticket);
        store_release(&birth->gate->released, birth->ticket); /* R1: pairs with A1 in gate_wait */
        futex_wake(&birth->gate->released, INT_MAX);
}

CHILD_CODE void gate_wait(const struct birth *birth)
{
        for (;;) {
                uint32_t released = load_acquire(&birth->gate->released); /* A1 */
                if ((int32_t)(released - birth->ticket) >= 0)
                        break;
                futex_wait(&birth->gate->released, released, DEADLINE_NEVER);
        }
        if (load_relaxed(&birth->gate->refused) == birth->ticket)
                child_exit(255);
}

/* The fork hook has left the line already. */
CHILD_CODE static void arm_or_exit(const struct birth *birth)
{
        if (lifeline_arm(birth->branch) < 0)
                child_exit(255);
}

static bool is_guarded(const brood_process *process)
{
        return process->options.setup.tree != BROOD_TREE_BROOD;
}

/* In the child: have all that it starts with, or have failed in a step; the parent will then have it exit at the gate. */
static void tell(const struct birth *birth, enum outfit_step step, int error)
{
        store_relaxed(&birth->gate->failure, error < 0 ? (uint32_t)step << 16 | (uint32_t)-error : 0);
        store_release(&birth->gate->outfit, birth->ticket); /* R4: pairs with A4 in await_outfit */
        futex_wake(&birth->gate->outfit, 1);
}

static void put_on(struct birth *birth, const brood_process *process)
{
        int kept[OUTFIT_KEPT] = { birth->branch, registry_in_child()->parent_sentinel };
        enum outfit_step step = OUTFIT_NONE;
        int r = outfit_wear(&birth->fitting.outfit, kept, &step);

        birth->branch = kept[0];
        registry_in_child()->parent_sentinel = kept[1];
        if (r == 0 && process->options.setup.environment != NULL)
                child_set_environment(process->options.setup.environment);
        tell(birth, step, r);
}

/* The gate's page is the parent's, and is let go. */
CHILD_CODE void birth_enter(struct birth *birth, brood_process *process)
{
        arm_or_exit(birth);
        if (birth->second_level) {
                /* The first-level child: its own ticket is the parent's first, the grandchild's is the next. */
                gate_wait(birth);
                birth->ticket++;
                pid_t pid = child_fork();
                if (pid != 0) {
                        store_release(&birth->gate->grandchild,
                                      (uint32_t)pid); /* R2: pairs with A2 in find_grandchild */
                        child_exit(0);
                }
                arm_or_exit(birth);
        }
        if (birth->fitted) {
                /* The parent's ends of pipes are the parent's, and so is the watch; ours have their numbers after this. */
                for (int i = 0; i < 3; i++)
                        descriptor_close(&birth->fitting.parents[i]);
                descriptor_close(&process->oom.group);
                put_on(birth, process);
                fitting_close(&birth->fitting, NULL);
        }
        gate_wait(birth);
        if (!process->options.detached) {
                lifeline_keep(birth->branch);
                registry_in_child()->tie = birth->branch;
        } else {
                lifeline_disarm(birth->branch); /* the fork server may still have a copy */
                descriptor_close(&birth->branch);
                store_release(&birth->gate->detached, birth->ticket); /* R3: pairs with A3 in await_detached */
                futex_wake(&birth->gate->detached, 1);
        }
        memory_leave(birth->gate, sizeof *birth->gate);
        process->pid = child_pid();
        store_release(&process->state, PROCESS_RUNNING);
        registry_in_child()->current = process;
        process->mask = birth->mask;
        log_enter_process(process->name);
        if (process->signals_stay)
                log_leave_callback();
        else
                signals_restore(&birth->mask);
}

void birth_fail(struct birth *birth, enum outfit_step step, int error)
{
        tell(birth, step, error);
        gate_wait(birth);
        child_exit(255);
}

CHILD_CODE void process_run(brood_process *process)
{
        const brood_process_options *options = &process->options;

        if (log_wants(BROOD_LOG_INFO))
                brood_log(BROOD_LOG_INFO, "child process calling its %s",
                          options->process_class != NULL ? "class's run()" : "target");
        int code = options->process_class != NULL
                       ? options->process_class->run(process)
                       : options->target(options->bytes != NULL ? process->bytes : options->arg);
        exit_functions_call();
        if (log_wants(BROOD_LOG_INFO))
                brood_log(BROOD_LOG_INFO, "process exiting with exit code %d", code & 255);
        child_flush();
        child_exit(code & 255);
}

/* In the parent: wait for the first-level child, and find the grandchild. */
static int find_grandchild(struct birth *birth, brood_process *process)
{
        pidfd_bury(&process->pidfd);
        birth->ticket++;
        int32_t pid = (int32_t)load_acquire(&birth->gate->grandchild); /* A2 */
        if (pid <= 0)
                return pid < 0 ? pid : -EAGAIN;
        int pidfd = pidfd_of(pid);
        if (pidfd < 0)
                return pidfd == -ESRCH ? -EAGAIN : pidfd;
        process->pid = pid;
        process->pidfd = pidfd;
        return 0;
}

/* In the parent, after the release: a detached process is detached only once it has let go of the lifeline.  A parent that ended
 * between its start's return and that moment would take it along. */
static void await_detached(const struct birth *birth, const brood_process *process)
{
        enum { LOOK_MS = 10 };
        uint32_t seen;

        while ((seen = load_acquire(&birth->gate->detached)) != birth->ticket && !pidfd_ended(process->pidfd)) /* A3 */
                futex_wait(&birth->gate->detached, seen, deadline_after_ms(LOOK_MS));
}

/* In the parent, before the release: 0 once the outfit is on, or the child has ended, which join will tell; or how it failed. */
static int await_outfit(const struct birth *birth, brood_process *process)
{
        enum { LOOK_MS = 10 };
        uint32_t seen;

        while ((seen = load_acquire(&birth->gate->outfit)) != birth->ticket) { /* A4 */
#ifndef BROOD_FAULT_TRUSTING /* for a build that shows that the kill tests notice it (tests/kill/meson.build) */
                if (pidfd_ended(process->pidfd))
                        return 0;
#endif
                futex_wait(&birth->gate->outfit, seen, deadline_after_ms(LOOK_MS));
        }
        uint32_t failure = load_relaxed(&birth->gate->failure);
        process->failed_step = (enum outfit_step)(failure >> 16);
        return -(int)(failure & 0xffff);
}

/* In the parent, once there is a child: take the child in, or have it exit at the gate. */
static int admit(struct registry *registry, struct birth *birth, brood_process *process, pid_t pid)
{
        /* The branch goes first: the descriptor that it frees is the one that the pidfd needs. */
        registry_leave_branch(registry, &birth->branch);
        if (process->pidfd < 0)
                process->pidfd = pidfd_of(pid);
        if (process->pidfd < 0) {
                /* -ESRCH: somebody killed it at the gate, and the host ignores SIGCHLD. */
                int r = process->pidfd == -ESRCH ? -EAGAIN : process->pidfd;
                process->pidfd = -1;
                gate_release(birth, true);
                child_reap(pid);
                return r;
        }

        int r = 0;
        process->pid = pid;
        if (birth->second_level) {
                gate_release(birth, false);
                r = find_grandchild(birth, process);
        }
        if (r == 0 && birth->fitted)
                r = await_outfit(birth, process);
        if (r == 0)
                r = registry_add(registry, process);
        gate_release(birth, r < 0);
        if (r == 0) {
                if (process->options.detached)
                        await_detached(birth, process);
                store_release(&process->state, PROCESS_RUNNING);
                return 0;
        }
        if (process->pidfd >= 0)
                pidfd_bury(&process->pidfd);
        process->pid = 0;
        return r;
}

/* ---- the methods: each 0; 0 and *ret_in_child, in the child of a fork; or a negative errno ---- */

CHILD_CODE static pid_t fork_here(struct registry *registry, const struct birth *birth)
{
        registry->starting = true;
        registry->giving = birth->branch;
        pid_t pid = child_fork();
        if (pid != 0) {
                registry->starting = false;
                registry->giving = -1;
        }
        return pid;
}

CHILD_CODE static int by_fork(struct registry *registry, struct birth *birth, brood_process *process,
                              bool *ret_in_child)
{
        birth->gate = registry->gate;
        birth->ticket = ++registry->tickets;
        if (birth->second_level)
                registry->tickets++;
        store_relaxed(&birth->gate->grandchild, 0);
        if (child_threads() > 1)
                process->warnings |= BROOD_WARNING_THREADS;
        pid_t pid = is_guarded(process) ? guardian_bear(registry, process, birth, NULL) : fork_here(registry, birth);
        if (pid == 0) {
                birth_enter(birth, process);
                *ret_in_child = true;
                return 0;
        }
        if (pid < 0) {
                gate_release(birth, true);
                return pid;
        }
        return admit(registry, birth, process, pid);
}

/* This program's environment, or the one that the child is to have, and the number of the letter. */
static const char **environment_with(const char *const *environment, const char *variable)
{
        size_t count = 0;

        if (environment == NULL)
                environment = child_environment();
        while (environment != NULL && environment[count] != NULL)
                count++;
        const char **with = calloc(count + 2, sizeof *with);
        if (with != NULL) {
                with[0] = variable;
                for (size_t i = 0; i < count; i++)
                        with[i + 1] = environment[i];
        }
        return with;
}

static pid_t spawn_here(struct registry *registry, brood_process *process, struct birth *birth, struct spawn *spawn)
{
        if (is_guarded(process))
                return guardian_bear(registry, process, birth, spawn);
        pid_t pid = child_spawn(spawn, &process->pidfd);
        process->failed_step = spawn->step;
        return pid;
}

static int by_spawn(struct registry *registry, struct birth *birth, brood_process *process, struct letter *letter)
{
        char variable[sizeof LETTER_VARIABLE + 12];

        snprintf(variable, sizeof variable, "%s=%d", LETTER_VARIABLE, letter->memfd);
        const char **environment = environment_with(process->options.setup.environment, variable);
        if (environment == NULL)
                return -ENOMEM;
        struct spawn spawn = {
                .argv = main_arguments(),
                .environment = environment,
                .outfit = &birth->fitting.outfit,
                .branch = birth->branch,
                .letter = letter->memfd,
        };
        sigfillset(&spawn.mask); /* until the child is through the gate */
        pid_t pid = spawn_here(registry, process, birth, &spawn);
        free(environment);
        return pid < 0 ? pid : admit(registry, birth, process, pid);
}

static int by_server(struct registry *registry, struct birth *birth, brood_process *process, struct letter *letter)
{
        pid_t pid = server_ask(registry, process, birth, letter);

        if (pid > 0)
                return admit(registry, birth, process, pid);
        gate_release(birth, true); /* the server may have died after the fork */
        return pid;
}

/* Both tell the child by a letter who it is.  A letter is for one child: its gate is not opened any more once it was refused. */
static int try_by_letter(struct registry *registry, struct birth *birth, brood_process *process, bool served)
{
        struct letter letter;

        int r = letter_write(&letter, process, birth->branch, &birth->mask, served ? &birth->fitting : NULL);
        if (r < 0) {
                process->failed_step = r == -ENOEXEC ? OUTFIT_FUNCTION : OUTFIT_NONE;
                return r;
        }
        birth->gate = letter.gate;
        birth->ticket = 1;
        r = served ? by_server(registry, birth, process, &letter) : by_spawn(registry, birth, process, &letter);
        letter_close(&letter);
        return r;
}

static int by_letter(struct registry *registry, struct birth *birth, brood_process *process)
{
        bool served = process->options.start_method == BROOD_START_FORKSERVER;
        enum { SERVERS_MOST = 3 };
        int r = -EPIPE;

        /* A server that was killed, maybe in this moment, is not the last one; but one that dies in its preload would be for
         * ever. */
        for (int i = 0; i < SERVERS_MOST && r == -EPIPE; i++)
                r = try_by_letter(registry, birth, process, served);
        return r;
}

/* What the parent has of a fitting when the child is born, or is not. */
static void keep_captured(struct registry *registry, brood_process *process, struct fitting *fitting, bool born)
{
        fitting_close(fitting, born ? process->captured : NULL);
        for (int i = 0; i < 3; i++)
                registry->capturing |= process->captured[i] >= 0;
}

CHILD_CODE int process_begin(brood_process *process)
{
        static const char *const method_names[] = { "fork", "fork", "spawn", "forkserver" };
        brood_start_method method = process->options.start_method;
        struct registry *registry;
        bool in_child = false;

        child_flush();
        int r = registry_lock(&registry);
        if (r < 0)
                return r;
        if (load_acquire(&process->state) != PROCESS_NEW) {
                r = -EALREADY;
                goto out;
        }
        registry_sweep(registry);

        bool by_copy = method == BROOD_START_FORK || method == BROOD_START_DEFAULT;
        struct birth birth = {
                .second_level = process->options.detached && method != BROOD_START_FORKSERVER,
                .fitted = !by_copy || is_guarded(process) || !setup_is_plain(&process->options.setup),
        };
        if (birth.fitted) {
                r = fitting_open(&birth.fitting, &process->options.setup);
                if (r < 0)
                        goto out;
                fitting_hand_over(&birth.fitting, process->handed, process->options.hand_over_count);
        }
        birth.branch = r = registry_take_branch(registry, process);
        if (r < 0)
                goto no_child;
        if (process->options.setup.cgroup != NULL)
                oom_watch_begin(&process->oom, process->options.setup.cgroup);
        process->started_ns = clock_wall();
        signals_block_all(&birth.mask);
        r = by_copy ? by_fork(registry, &birth, process, &in_child) : by_letter(registry, &birth, process);
        if (in_child)
                return 0;
        signals_restore(&birth.mask);
        registry_put_branch(registry, process, &birth.branch, r == 0);
        if (r < 0) {
                guardian_end(process);
                descriptor_close(&process->channel);
                descriptor_close(&process->oom.group);
        } else {
                r = process->pid;
                news_started(registry, process, method_names[method]);
        }
no_child:
        if (birth.fitted)
                keep_captured(registry, process, &birth.fitting, r > 0);
out:
        registry_unlock();
        return r;
}

pid_t process_spawn(brood_process *process, const char *const *argv)
{
        struct registry *registry;
        struct birth birth = { 0 };

        int r = registry_lock(&registry);
        if (r < 0)
                return r;
        registry_sweep(registry);
        r = fitting_open(&birth.fitting, &process->options.setup);
        if (r < 0)
                goto out;
        birth.branch = r = registry_take_branch(registry, process);
        if (r >= 0) {
                if (process->options.setup.cgroup != NULL)
                        oom_watch_begin(&process->oom, process->options.setup.cgroup);
                struct spawn spawn = {
                        .argv = argv,
                        .environment = process->options.setup.environment,
                        .outfit = &birth.fitting.outfit,
                        .branch = birth.branch,
                        .letter = -1,
                        .left = process->options.detached ? &registry->line : NULL,
                };
                process->started_ns = clock_wall();
                signals_block_all(&spawn.mask);
                r = spawn_here(registry, process, &birth, &spawn);
                signals_restore(&spawn.mask);
                registry_put_branch(registry, process, &birth.branch, r > 0);
        }
        if (r > 0) {
                process->pid = r;
                store_release(&process->state, PROCESS_RUNNING);
                news_started(registry, process, "exec");
                int error = registry_add(registry, process);
                if (error < 0) {
                        pidfd_signal(process->pidfd, SIGKILL);
                        pidfd_wait(process->pidfd, DEADLINE_NEVER);
                        registry_await_told(process);
                        registry_reap(registry, process);
                        r = error;
                }
        }
        keep_captured(registry, process, &birth.fitting, r > 0);
out:
        registry_unlock();
        return r;
}
