/* SPDX-License-Identifier: MIT */
#include "process/guardian.h"
#include "os/cgroup.h"
#include "os/channel.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descendants.h"
#include "os/descriptors.h"
#include "os/lifeline.h"
#include "os/namespace.h"
#include "os/poller.h"
#include "os/signals.h"
#include "process/process.h"
#include "process/told.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the guardian ---- */

struct guardian {
        brood_tree_level level;
        const char *group;
        int channel, branch;
        int sigchld;               /* readable when there is somebody to reap */
        int floor;                 /* a namespace's first process; -1 */
        struct sigaction disposed; /* SIGCHLD's, as the host has it */
        pid_t target;
        bool ended;
        struct ending ending;
};

static int prepare(struct guardian *guardian)
{
        signals_default_sigchld(&guardian->disposed);
        int r = descendants_adopt();
        if (r == 0 && guardian->level == BROOD_TREE_CGROUP)
                r = cgroup_make(guardian->group);
        if (r == 0 && guardian->level == BROOD_TREE_NAMESPACE)
                r = guardian->floor = namespace_enter();
        if (r >= 0)
                r = guardian->sigchld = signals_sigchld_descriptor();
        return r < 0 ? r : 0;
}

/* Whom the target is to have as its parent.  From a namespace it does not see that one, but does not outlive it either. */
static pid_t parent_seen(const struct guardian *guardian)
{
        return guardian->level == BROOD_TREE_NAMESPACE ? 0 : child_pid();
}

/* In the target: what is the guardian's goes.  If that was killed before the target owned the branch, the host has looked for an
 * owner in vain, and takes it that there is no child. */
static void leave(struct guardian *guardian, pid_t parent)
{
        if (lifeline_arm(guardian->branch) < 0 || child_parent() != parent)
                child_exit(255);
        descriptor_close(&guardian->channel);
        descriptor_close(&guardian->sigchld);
        descriptor_close(&guardian->floor);
        signals_restore_sigchld(&guardian->disposed);
}

/* Reap all that have ended, the target among them: whether there are more. */
static bool reap(struct guardian *guardian)
{
        struct ending ending;
        pid_t pid;

        signals_sigchld_clear(guardian->sigchld);
        while ((pid = descendants_reap(&ending)) > 0) {
                if (pid != guardian->target || guardian->ended)
                        continue;
                guardian->ended = true;
                guardian->ending = ending;
        }
        return pid == 0;
}

static const char guardian_name[] = "brood-guardian";

/* Kill whom one look finds: whether there was somebody who could be killed. */
static bool kill_some(struct guardian *guardian, bool spare)
{
        if (guardian->level == BROOD_TREE_NAMESPACE)
                return pidfd_signal(guardian->floor, SIGKILL) == 0;
        /* Whoever may do so can have left the group. */
        if (guardian->level == BROOD_TREE_CGROUP)
                cgroup_kill(guardian->group);
        return descendants_kill(spare ? guardian_name : NULL) > 0;
}

/* Kill until nobody is left.  The guardians among those below have a while to tidy up as this one does.  Who has become another
 * user's cannot be killed, and is not waited for. */
static void sweep(struct guardian *guardian)
{
        enum { LOOK_MS = 10, SPARING_LOOKS = 500, VAIN_LOOKS_MOST = 50 };
        unsigned char ready;

        for (int looks = 0, vain = 0; vain < VAIN_LOOKS_MOST; looks++) {
                bool spare = looks < SPARING_LOOKS;
                vain = kill_some(guardian, spare) || spare ? 0 : vain + 1;
                if (!reap(guardian))
                        break;
                poll_readable(&guardian->sigchld, 1, &ready, deadline_after_ms(LOOK_MS));
        }
        if (guardian->level == BROOD_TREE_CGROUP)
                cgroup_remove(guardian->group, deadline_after_ms(VAIN_LOOKS_MOST * LOOK_MS));
}

/* Whatever else is open came from the host, where somebody may wait for the end of it. */
static int keep_little(struct guardian *guardian, int *pidfd)
{
        const int own[] = { guardian->channel, guardian->branch, guardian->sigchld, guardian->floor, *pidfd };
        const struct outfit bare = {
                .streams = { OUTFIT_INHERIT, OUTFIT_INHERIT, OUTFIT_INHERIT },
                .close_others = true,
                .handed = own,
                .handed_count = sizeof own / sizeof *own,
        };
        int none[OUTFIT_KEPT] = { -1, -1 };
        enum outfit_step step;

        int r = streams_to_null();
        return r < 0 ? r : outfit_wear(&bare, none, &step);
}

static void watch(struct guardian *guardian)
{
        const int fds[] = { guardian->branch, guardian->sigchld };
        unsigned char ready[2] = { 0, 0 };

        while (!guardian->ended && !ready[0]) {
                poll_readable(fds, 2, ready, DEADLINE_NEVER);
                if (ready[1])
                        reap(guardian);
        }
}

static _Noreturn void fail(struct guardian *guardian, int error, enum outfit_step step)
{
        if (guardian->sigchld >= 0)
                sweep(guardian);
        tell_failure(guardian->channel, error, step);
        child_exit(255);
}

static _Noreturn void live(struct guardian *guardian, int pidfd)
{
        child_set_name(guardian_name);
        int r = pidfd < 0 ? pidfd : keep_little(guardian, &pidfd);
        if (r < 0)
                fail(guardian, r, OUTFIT_TREE);
        /* A host that has ended meanwhile is noticed at once. */
        tell_birth(guardian->channel, guardian->target, pidfd);
        descriptor_close(&pidfd);
        watch(guardian);
        sweep(guardian);
        if (guardian->ended)
                tell_ending(guardian->channel, &guardian->ending);
        child_exit(0);
}

static int spawn_target(struct guardian *guardian, struct spawn *spawn)
{
        int pidfd = -1;

        spawn->parent = parent_seen(guardian);
        spawn->ignore_sigchld = guardian->disposed.sa_handler == SIG_IGN;
        pid_t pid = child_spawn(spawn, &pidfd);
        if (pid < 0)
                fail(guardian, pid, spawn->step);
        guardian->target = pid;
        return pidfd;
}

/* Begin as a guardian.  Returns in the child of the fork only. */
static void guard(struct guardian *guardian, const struct birth *own, struct spawn *spawn)
{
        if (lifeline_arm(guardian->branch) < 0)
                child_exit(255);
        gate_wait(own);
        lifeline_disarm(guardian->branch);
        int r = prepare(guardian);
        if (r < 0)
                fail(guardian, r, OUTFIT_TREE);
        if (spawn != NULL)
                live(guardian, spawn_target(guardian, spawn));
        pid_t parent = parent_seen(guardian), pid = child_fork();
        if (pid == 0) {
                leave(guardian, parent);
                return;
        }
        if (pid < 0)
                fail(guardian, pid, OUTFIT_NONE);
        guardian->target = pid;
        live(guardian, pidfd_of(pid));
}

/* ---- the host ---- */

/* Give the child a group of its own to be born in: below the one that it is to join, or below ours. */
static int name_group(brood_process *process, struct outfit *outfit)
{
        char path[PATH_MAX];
        const char *above = process->options.setup.cgroup;

        int r = above == NULL ? cgroup_own(path, sizeof path) : 0;
        if (r < 0)
                return r;
        if (asprintf(&process->group, "%s/brood-%d-%llx", above == NULL ? path : above, (int)process->owner,
                     (unsigned long long)process->started_ns) < 0) {
                process->group = NULL;
                return -ENOMEM;
        }
        outfit->cgroup = process->group;
        return 0;
}

/* No guardian has told of a birth, but there may have been one: whoever owns the branch is the child. */
static void kill_unborn(const struct birth *birth)
{
        int pidfd = lifeline_owner(birth->branch);

        if (pidfd < 0)
                return;
        pidfd_signal(pidfd, SIGKILL);
        pidfd_wait(pidfd, DEADLINE_NEVER);
        descriptor_close(&pidfd);
}

/* Fork the guardian, and hear of the birth. */
static pid_t bear(struct registry *registry, brood_process *process, struct birth *birth, struct spawn *spawn)
{
        struct birth own = { .gate = registry->gate, .ticket = ++registry->tickets };
        int ends[2];

        if (birth->gate == registry->gate)
                birth->ticket = ++registry->tickets; /* the child is let through after the guardian */
        int r = channel_pair(ends);
        if (r < 0)
                return r;
        registry->starting = true;
        registry->giving = birth->branch;
        pid_t pid = child_fork();
        if (pid == 0) {
                struct guardian guardian = {
                        .level = process->tree,
                        .group = process->group,
                        .channel = ends[1],
                        .branch = birth->branch,
                        .sigchld = -1,
                        .floor = -1,
                };
                descriptor_close(&ends[0]);
                guard(&guardian, &own, spawn);
                return 0;
        }
        registry->starting = false;
        registry->giving = -1;
        descriptor_close(&ends[1]);
        r = process->guardian = pid < 0 ? pid : pidfd_of(pid);
        gate_release(&own, r < 0);
        if (r < 0 && pid > 0)
                child_reap(pid);
        if (r >= 0)
                r = hear_birth(ends[0], &process->pidfd, &process->failed_step);
        if (r > 0) {
                process->channel = ends[0];
                return r;
        }
        descriptor_close(&ends[0]);
        kill_unborn(birth);
        guardian_end(process);
        /* Its guardian, or the child itself, was killed by somebody. */
        return r == -EPIPE || r == -ESRCH ? -EAGAIN : r;
}

static pid_t bear_at(struct registry *registry, brood_process *process, struct birth *birth, struct spawn *spawn,
                     brood_tree_level level)
{
        struct outfit *outfit = &birth->fitting.outfit;

        process->tree = level;
        outfit->cgroup = process->options.setup.cgroup;
        process->failed_step = OUTFIT_TREE;
        pid_t pid = level == BROOD_TREE_CGROUP ? name_group(process, outfit) : 0;
        if (pid < 0)
                return pid;
        process->failed_step = OUTFIT_NONE;
        return bear(registry, process, birth, spawn);
}

pid_t guardian_bear(struct registry *registry, brood_process *process, struct birth *birth, struct spawn *spawn)
{
        brood_tree_level level = process->options.setup.tree;

        if (level != BROOD_TREE_BEST)
                return bear_at(registry, process, birth, spawn, level);
        pid_t pid = bear_at(registry, process, birth, spawn, BROOD_TREE_CGROUP);
        if (process->failed_step == OUTFIT_TREE && (pid == -EPERM || pid == -ENOTSUP))
                pid = bear_at(registry, process, birth, spawn, BROOD_TREE_WALK);
        return pid;
}

static void reap_guardian(brood_process *process)
{
        struct ending ending;

        if (process->guardian < 0)
                return;
        pidfd_signal(process->guardian, SIGKILL);
        pidfd_wait(process->guardian, DEADLINE_NEVER);
        pidfd_reap(process->guardian, &ending);
        descriptor_close(&process->guardian);
}

void guardian_end(brood_process *process)
{
        enum { MOST_MS = 1000 };

        if (process->guardian >= 0 && process->channel >= 0)
                pidfd_wait(process->channel, deadline_after_ms(MOST_MS));
        reap_guardian(process);
        if (process->group == NULL)
                return;
        cgroup_kill(process->group);
        cgroup_remove(process->group, deadline_after_ms(MOST_MS));
        free(process->group);
        process->group = NULL;
}

void guardian_lost(brood_process *process)
{
        reap_guardian(process);
        process->tree = BROOD_TREE_BROOD;
}

/* ---- what can be asked ---- */

int brood_process_tree(const brood_process *process)
{
        struct registry *registry;

        if (process == NULL)
                return -EINVAL;
        int r = registry_lock(&registry);
        if (r < 0)
                return r;
        r = process->guardian >= 0 && pidfd_ended(process->guardian) &&
                    load_acquire(&process->state) == PROCESS_RUNNING && !pidfd_ended(process->pidfd)
                ? (int)BROOD_TREE_BROOD
                : (int)process->tree;
        registry_unlock();
        return r;
}

static int nothing(void *unused)
{
        (void)unused;
        return 0;
}

int brood_tree_possible(brood_tree_level level)
{
        brood_process *process;

        /* What is possible is known for certain when it has been done. */
        int r = brood_process_new(&process, &(brood_process_options){
                                                .target = nothing,
                                                .start_method = BROOD_START_FORK,
                                                .setup = { .tree = level },
                                            });
        if (r < 0)
                return r;
        process_hide(process);
        r = brood_process_start(process);
        if (r == 0)
                r = (int)process->tree;
        brood_process_free(process);
        return r;
}
