/* SPDX-License-Identifier: MIT */
#include "os/spawn.h"
#include "os/atfork.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/lifeline.h"

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

enum {
        STACK_SIZE =
            128 << 10, /* execvpe() puts a path on it, and with a script as the program a copy of the arguments */
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
        int kept[OUTFIT_KEPT] = { spawn->branch, spawn->letter };
        enum outfit_step step = OUTFIT_NONE;

        int r = lifeline_arm(spawn->branch);
        if (r == 0 && spawn->parent != 0 && getppid() != spawn->parent)
                r = -ESRCH;
        if (r == 0)
                r = outfit_wear(spawn->outfit, kept, &step);
        if (r == 0)
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

/* The stack of the child, which is kept for the next one.  A fork does not copy it.  NULL: errno tells. */
static char *stack_of_child(void)
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
        stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        if (stack == MAP_FAILED)
                return NULL;
        if (madvise(stack, STACK_SIZE, MADV_DONTFORK) < 0) {
                int error = errno;
                munmap(stack, STACK_SIZE);
                errno = error;
                return NULL;
        }
        owner = process_mark();
        return stack;
}

pid_t child_spawn(struct spawn *spawn, int *ret_pidfd)
{
        KEEP_ERRNO;
        int pidfd = -1;
        char *stack = stack_of_child();

        if (stack == NULL)
                return -errno;
        spawn->error = 0;
        spawn->step = OUTFIT_NONE;
        pid_t pid = clone(run, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, spawn, &pidfd);
        int r = pid < 0 ? -errno : spawn->error;
        if (pid < 0)
                return r;
        if (r < 0) {
                while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                        ;
                close(pidfd);
                return r;
        }
        *ret_pidfd = pidfd;
        return pid;
}
