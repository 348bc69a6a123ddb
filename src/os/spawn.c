/* SPDX-License-Identifier: MIT */
#include "os/spawn.h"
#include "os/atfork.h"
#include "os/channel.h"
#include "os/child.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/pidfd.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

enum {
        STACK_SIZE =
            128 << 10, /* execvpe() puts a path on it, and with a script as the program a copy of the arguments */
        FIRST_STACK_SIZE = 16 << 10, /* above it: a first-level child's */
        STACKS_SIZE = STACK_SIZE + FIRST_STACK_SIZE,
};

/* Handlers are the parent's code, in memory that is the parent's, too. */
static void forget_handlers(void)
{
        for (int signal = 1; signal < _NSIG; signal++) {
                struct sigaction action;

                if (sigaction(signal, NULL, &action) < 0 || action.sa_handler == SIG_DFL ||
                    action.sa_handler == SIG_IGN)
                        continue;
                action = (struct sigaction){ .sa_handler = SIG_DFL };
                sigaction(signal, &action, NULL);
        }
}

/* For this program again, which is told the numbers. */
static int pass_on(const struct spawn *spawn)
{
        int r = descriptor_set_inherited(spawn->letter, true);

        for (size_t i = 0; i < spawn->outfit->handed_count && r == 0; i++)
                r = descriptor_set_inherited(spawn->outfit->handed[i], true);
        return r;
}

/* By its own hand, so that nobody else can have the pid: its parent is not ours, and may reap it as soon as it has ended. */
static int send_pidfd(int channel)
{
        int32_t pid = child_pid();
        int pidfd = pidfd_of(pid);

        int r = pidfd < 0 ? pidfd : channel_send(channel, &pid, sizeof pid, &pidfd, 1);
        descriptor_close(&pidfd);
        return r;
}

/* Their copies of the lifeline's write end would hide the parent's end from those who are to die of it. */
static void leave(const struct lifeline *line)
{
        struct lifeline copy = *line;

        lifeline_leave(&copy);
}

static int fail(struct spawn *spawn, enum outfit_step step, int error)
{
        spawn->step = step;
        spawn->error = error;
        return 127;
}

/* A frame that is never left, on memory that is used again: a sanitizer would take what it noted of it for true. */
__attribute__((no_sanitize_address)) static int run(void *arg)
{
        struct spawn *spawn = arg;
        bool detached = spawn->left != NULL;
        int kept[OUTFIT_KEPT] = { spawn->branch, detached ? spawn->channel : spawn->letter };
        enum outfit_step step = OUTFIT_NONE;

        if (detached)
                leave(spawn->left);
        int r = lifeline_arm(spawn->branch);
        if (r == 0 && spawn->parent != 0 && getppid() != spawn->parent)
                r = -ESRCH;
        if (r == 0 && detached)
                r = send_pidfd(spawn->channel);
        if (r == 0)
                r = outfit_wear(spawn->outfit, kept, &step);
        if (r == 0 && !detached)
                r = lifeline_keep(kept[0]);
        if (r == 0 && spawn->letter >= 0 && (r = pass_on(spawn)) < 0)
                step = OUTFIT_DESCRIPTORS;
        if (r < 0)
                return fail(spawn, step, r);
        forget_handlers();
        if (spawn->ignore_sigchld)
                sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL);
        sigprocmask(SIG_SETMASK, &spawn->mask, NULL);
        char *const *argv = (char *const *)(uintptr_t)spawn->argv;
        char *const *environment = spawn->environment == NULL ? environ : (char *const *)(uintptr_t)spawn->environment;
        /* The file may have been replaced meanwhile, or removed; this is the one that we run. */
        if (spawn->letter >= 0)
                execve("/proc/self/exe", argv, environment);
        else
                execvpe(argv[0], argv, environment);
        return fail(spawn, OUTFIT_PROGRAM, -errno);
}

/* The stacks of the children, which are kept for the next one.  A fork does not copy them.  NULL: errno tells. */
static char *stacks_of_children(void)
{
        static char *stack;
        static uint64_t owner;

        int r = process_mark_init();
        if (r < 0) {
                errno = -r;
                return NULL;
        }
        if (owner == process_mark())
                return stack;
        stack = mmap(NULL, STACKS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (stack == MAP_FAILED)
                return NULL;
        if (madvise(stack, STACKS_SIZE, MADV_DONTFORK) < 0) {
                int error = errno;
                munmap(stack, STACKS_SIZE);
                errno = error;
                return NULL;
        }
        owner = process_mark();
        return stack;
}

static pid_t spawn_attached(struct spawn *spawn, int *ret_pidfd)
{
        int pidfd = -1;
        pid_t pid = clone(run, spawn->stack, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, spawn, &pidfd);

        if (pid < 0)
                return -errno;
        if (spawn->error < 0) {
                child_reap(pid);
                close(pidfd);
                return spawn->error;
        }
        *ret_pidfd = pidfd;
        return pid;
}

/* The first-level child of a detached program. */
__attribute__((no_sanitize_address)) static int run_first(void *arg)
{
        struct spawn *spawn = arg;

        leave(spawn->left);
        pid_t pid = clone(run, spawn->stack, CLONE_VM | CLONE_VFORK | SIGCHLD, spawn);
        if (pid < 0)
                return fail(spawn, OUTFIT_NONE, -errno);
        if (spawn->error < 0)
                child_reap(pid); /* else it would be for whoever adopts it to do */
        return 0;
}

/* In the parent of a detached program, after the channel's end: the program's pid and pidfd. */
static pid_t find_program(const struct spawn *spawn, int *channel, int *ret_pidfd)
{
        int32_t pid = 0, said;
        int pidfd = -1;
        size_t count = 0;
        bool truncated;

        while (channel_receive(*channel, &said, sizeof said, true, &pidfd, 1, &count, &truncated) > 0)
                pid = said;
        descriptor_close(channel);
        if (spawn->error < 0) {
                descriptor_close(&pidfd);
                return spawn->error;
        }
        if (pid == 0)
                return -EAGAIN;
        if (pidfd < 0)
                pidfd = pidfd_of(pid); /* other threads had taken the last descriptor meanwhile */
        if (pidfd < 0)
                return pidfd;
        *ret_pidfd = pidfd;
        return pid;
}

static pid_t spawn_detached(struct spawn *spawn, int *ret_pidfd)
{
        int ends[2];
        int r = channel_pair(ends);

        if (r < 0)
                return r;
        spawn->channel = ends[1];
        /* Its end is nobody's business: no SIGCHLD, no wait(2) for any child. */
        pid_t first = clone(run_first, spawn->stack + FIRST_STACK_SIZE, CLONE_VM | CLONE_VFORK, spawn);
        r = first < 0 ? -errno : 0;
        close(ends[1]); /* the descriptor that this frees is the one that the pidfd needs */
        if (r == 0) {
                /* If the first-level child was killed, the second one may still be on its way to the program, in our memory, errno
                 * included: write none before the channel's end, as these two do not while they succeed. */
                struct pollfd end = { .fd = ends[0] };
                poll(&end, 1, -1);
                child_reap(first);
                r = find_program(spawn, &ends[0], ret_pidfd);
        }
        descriptor_close(&ends[0]);
        return r;
}

pid_t child_spawn(struct spawn *spawn, int *ret_pidfd)
{
        KEEP_ERRNO;
        char *stacks = stacks_of_children();

        if (stacks == NULL)
                return -errno;
        spawn->error = 0;
        spawn->step = OUTFIT_NONE;
        spawn->stack = stacks + STACK_SIZE;
        return spawn->left == NULL ? spawn_attached(spawn, ret_pidfd) : spawn_detached(spawn, ret_pidfd);
}
