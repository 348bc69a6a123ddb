/* SPDX-License-Identifier: MIT
 *
 * process/process.c: the process object: made, joined, asked, freed.  Its birth is in start.c.
 */
#include "process/process.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/options.h"
#include "os/pidfd.h"
#include "os/syscall.h"
#include "process/main.h"
#include "process/registry.h"
#include "process/setup.h"
#include "process/start.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_class(const brood_process_class *class)
{
        static const brood_process_class zero;

        if (class->run == NULL || class->size > BROOD_PROCESS_STATE_MAX)
                return -EINVAL;
        return memcmp(class->reserved, zero.reserved, sizeof zero.reserved) == 0 ? 0 : -EINVAL;
}

/* Copy the given name, or make the next default one. */
static int set_name(brood_process *process)
{
        const char *name = process->options.name;
        const brood_process_class *class = process->options.process_class;
        struct registry *registry;

        if (name != NULL) {
                size_t length = strnlen(name, sizeof process->name);
                if (length == 0 || length == sizeof process->name)
                        return -EINVAL;
                memcpy(process->name, name, length);
                return 0;
        }
        int r = registry_lock(&registry);
        if (r < 0)
                return r;
        const char *kind = class != NULL && class->name != NULL ? class->name : "Process";
        snprintf(process->name, sizeof process->name, "%.48s-%u", kind, ++registry->names);
        registry_unlock();
        return 0;
}

static void process_release(brood_process *process)
{
        free(process->self);
        free(process->bytes);
        free(process->handed);
        free(process->group);
        free(process);
}

brood_process *process_alloc(const brood_process_options *options)
{
        size_t handed_size = options->hand_over_count * sizeof *options->hand_over;
        brood_process *process = malloc(sizeof *process);

        if (process == NULL)
                return NULL;
        *process = (brood_process){ .options = *options };
        process->owner = child_pid();
        process->pidfd = process->channel = process->guardian = process->oom.group = -1;
        for (int i = 0; i < 3; i++)
                process->captured[i] = -1;
        if (options->bytes != NULL)
                process->bytes = aligned_alloc(BROOD_BYTES_ALIGNMENT,
                                               (options->size / BROOD_BYTES_ALIGNMENT + 1) * BROOD_BYTES_ALIGNMENT);
        if (handed_size > 0)
                process->handed = malloc(handed_size);
        if ((options->bytes != NULL && process->bytes == NULL) || (handed_size > 0 && process->handed == NULL)) {
                process_release(process);
                return NULL;
        }
        if (options->size > 0)
                memcpy(process->bytes, options->bytes, options->size);
        if (handed_size > 0)
                memcpy(process->handed, options->hand_over, handed_size);
        process->options.hand_over = NULL;
        return process;
}

/* A process of the fork server's has that between itself and us already; and a spawned one must find its parent by the pid that it
 * is told, which means nothing in another namespace. */
static int check_tree(const brood_process_options *options)
{
        brood_tree_level tree = options->setup.tree;

        if (tree == BROOD_TREE_BROOD)
                return 0;
        if (options->detached)
                return -EINVAL;
        return options->start_method == BROOD_START_FORKSERVER ||
                       (options->start_method == BROOD_START_SPAWN && tree == BROOD_TREE_NAMESPACE)
                   ? -ENOTSUP
                   : 0;
}

/* What says how a process is started, and on what. */
static int check_start(const brood_process_options *options)
{
        bool fork = options->start_method == BROOD_START_FORK;

        if ((unsigned)options->start_method > BROOD_START_FORKSERVER)
                return -EINVAL;
        if ((options->bytes == NULL && options->size > 0) || options->size > BROOD_PROCESS_BYTES_MAX ||
            (options->bytes != NULL && (options->arg != NULL || options->target == NULL)) ||
            (options->arg != NULL && options->target != NULL && !fork))
                return -EINVAL;
        size_t kept = options->start_method == BROOD_START_FORKSERVER ? options->setup.keep_count : 0;
        if ((options->hand_over == NULL && options->hand_over_count > 0) ||
            options->hand_over_count > BROOD_PROCESS_DESCRIPTORS_MAX ||
            kept > BROOD_PROCESS_DESCRIPTORS_MAX - options->hand_over_count)
                return -EINVAL;
        for (size_t i = 0; i < options->hand_over_count; i++)
                if (options->hand_over[i] < 3)
                        return -EINVAL;
        int r = check_tree(options);
        if (r < 0)
                return r;
        return fork || main_arguments() != NULL ? 0 : -ENOTSUP;
}

int brood_process_new_sized(brood_process **ret_process, const brood_process_options *options, size_t options_size)
{
        brood_process_options known;

        if (ret_process == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        const brood_process_class *class = known.process_class;
        if ((known.target == NULL) == (class == NULL))
                return -EINVAL;
        r = class == NULL ? 0 : check_class(class);
        known.start_method = start_method_of(known.start_method);
        if (r == 0)
                r = setup_check(&known.setup);
        if (r == 0)
                r = check_start(&known);
        if (r < 0)
                return r;

        brood_process *process = process_alloc(&known);
        if (process == NULL)
                return -ENOMEM;
        r = set_name(process);
        if (r < 0)
                goto fail;
        if (class != NULL && class->size > 0) {
                process->self = calloc(1, class->size);
                if (process->self == NULL) {
                        r = -ENOMEM;
                        goto fail;
                }
        }
        if (class != NULL && class->init != NULL) {
                r = class->init(process, known.arg);
                if (r < 0)
                        goto fail;
        }
        *ret_process = process;
        return 0;
fail:
        process_release(process);
        return r;
}

void brood_process_free(brood_process *process)
{
        struct registry *registry;

        if (process == NULL)
                return;
        if (process->owner == child_pid()) {
                const brood_process_class *class = process->options.process_class;

                if (load_acquire(&process->state) == PROCESS_RUNNING && !process->options.detached) {
                        pidfd_signal(process->pidfd, SIGKILL);
                        brood_process_join(process, BROOD_FOREVER);
                }
                /* The registry was made by the start, so that the lock cannot fail. */
                if (load_acquire(&process->state) != PROCESS_NEW && registry_lock(&registry) == 0) {
                        registry_report(registry, process);
                        registry_unlock();
                }
                if (class != NULL && class->fini != NULL)
                        class->fini(process);
        }
        descriptor_close(&process->pidfd);
        for (int i = 0; i < 3; i++)
                descriptor_close(&process->captured[i]);
        descriptor_close(&process->channel);
        descriptor_close(&process->guardian);
        descriptor_close(&process->oom.group);
        process_release(process);
}

void *brood_process_self(brood_process *process)
{
        return process == NULL ? NULL : process->self;
}

CHILD_CODE int brood_process_start(brood_process *process)
{
        if (process == NULL)
                return -EINVAL;
        if (process->owner != child_pid())
                return -EPERM;
        pid_t pid = process_begin(process);
        if (pid != 0)
                return pid < 0 ? pid : 0;
        process_run(process);
}

pid_t brood_fork(brood_process **ret_process)
{
        static const brood_process_options none;

        if (ret_process == NULL)
                return -EINVAL;
        brood_process *process = process_alloc(&none);
        if (process == NULL)
                return -ENOMEM;
        int r = set_name(process);
        pid_t pid = r < 0 ? r : process_begin(process);
        if (pid < 0)
                process_release(process);
        else
                *ret_process = pid == 0 ? NULL : process; /* the child keeps it as its current process */
        return pid;
}

/* The name of a program's process: what it is called without its directory, as far as there is room. */
static void set_program_name(brood_process *process, const char *program)
{
        const char *slash = strrchr(program, '/');

        snprintf(process->name, sizeof process->name, "%s", slash == NULL ? program : slash + 1);
}

int brood_process_exec_sized(brood_process **ret_process, const char *const argv[],
                             const brood_process_options *options, size_t options_size, const char **ret_failed_step)
{
        brood_process_options known;

        if (ret_process == NULL || argv == NULL || argv[0] == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        if (known.target != NULL || known.arg != NULL || known.process_class != NULL ||
            known.start_method != BROOD_START_DEFAULT || known.bytes != NULL || known.size != 0 ||
            known.hand_over != NULL || known.hand_over_count != 0 || setup_check(&known.setup) < 0)
                return -EINVAL;
        brood_process *process = process_alloc(&known);
        if (process == NULL)
                return -ENOMEM;
        if (known.name != NULL)
                r = set_name(process);
        else
                set_program_name(process, argv[0]);
        if (r == 0)
                r = process_spawn(process, argv);
        if (r < 0) {
                if (ret_failed_step != NULL)
                        *ret_failed_step = outfit_step_name(process->failed_step);
                brood_process_free(process);
                return r;
        }
        *ret_process = process;
        return 0;
}

/* Whether this handle is of a child of the calling process: 0, -EINVAL, -ECHILD, -EDEADLK. */
static int check_child(const brood_process *process)
{
        if (process == NULL || load_acquire(&process->state) == PROCESS_NEW)
                return -EINVAL;
        if (process->owner == child_pid())
                return 0;
        return process == registry_in_child()->current ? -EDEADLK : -ECHILD;
}

int brood_process_join(brood_process *process, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);
        enum { ADOPTER_LOOKS = 25 }; /* about 50 ms */
        struct registry *registry;
        int looks = 0;
        int r = check_child(process);

        while (r == 0) {
                r = pidfd_wait(process->pidfd, deadline);
                if (r < 0)
                        break;
                registry_await_told(process);
                r = registry_lock(&registry);
                if (r < 0)
                        break;
                r = registry_reap(registry, process);
                bool served = process->channel >= 0 && !process->orphaned;
                if (r == -EAGAIN && process->options.detached && !served && ++looks > ADOPTER_LOOKS)
                        r = 0; /* it has ended; its reaping is another's business */
                if (r == 0)
                        registry_report(registry, process);
                registry_unlock();
                if (r != -EAGAIN)
                        break;
                /* Ended, but not yet reaped by the one whose business it is, who should be doing so right now. */
                r = served ? pidfd_wait(process->channel, deadline) : pidfd_wait_reaped(process->pidfd);
        }
        return r;
}

int brood_process_exitcode(brood_process *process, int *ret_exitcode)
{
        struct registry *registry;
        int r = check_child(process);

        if (r < 0 || ret_exitcode == NULL)
                return r < 0 ? (r == -EDEADLK ? -ECHILD : r) : -EINVAL;
        registry_await_told(process);
        r = registry_lock(&registry);
        if (r < 0)
                return r;
        r = registry_reap(registry, process);
        if (r == 0 && process->ending.exitcode == BROOD_EXITCODE_UNKNOWN)
                r = -ENODATA;
        if (r == 0)
                *ret_exitcode = process->ending.exitcode;
        registry_unlock();
        return r;
}

int brood_process_is_alive(brood_process *process)
{
        if (process == NULL)
                return -EINVAL;
        if (load_acquire(&process->state) != PROCESS_RUNNING)
                return 0;
        if (process->pidfd < 0)
                return 1; /* the process itself asks */
        if (!pidfd_ended(process->pidfd))
                return 1;
        if (process->owner == child_pid()) {
                int code;
                brood_process_exitcode(process, &code); /* reaps it */
        }
        return 0;
}

static int process_signal(brood_process *process, int signal)
{
        if (process == NULL || load_acquire(&process->state) == PROCESS_NEW)
                return -EINVAL;
        if (process->pidfd < 0)
                return -EDEADLK;
        if (!brood_process_is_alive(process))
                return -ESRCH;
        if (signal == SIGKILL)
                store_relaxed(&process->killed, 1); /* before it is, so that it is known once it has ended */
        return pidfd_signal(process->pidfd, signal);
}

int brood_process_terminate(brood_process *process)
{
        return process_signal(process, SIGTERM);
}

int brood_process_kill(brood_process *process)
{
        return process_signal(process, SIGKILL);
}

int brood_process_interrupt(brood_process *process)
{
        return process_signal(process, SIGINT);
}

int brood_process_suspend(brood_process *process)
{
        return process_signal(process, SIGSTOP);
}

int brood_process_resume(brood_process *process)
{
        return process_signal(process, SIGCONT);
}

/* One step of an end: 0 (it has ended), -EAGAIN (it still runs), or another error. */
static int end_step(brood_process *process, int signal, int timeout_ms)
{
        int r = process_signal(process, signal);

        if (r == 0 && signal != SIGKILL)
                r = process_signal(process, SIGCONT); /* a halted process would not hear it */
        if (r < 0 && r != -ESRCH)
                return r;
        r = brood_process_join(process, timeout_ms);
        return r == -ETIMEDOUT ? -EAGAIN : r;
}

int brood_process_end(brood_process *process, int interrupt_ms, int terminate_ms)
{
        const struct {
                int signal, timeout_ms;
        } steps[] = { { SIGINT, interrupt_ms }, { SIGTERM, terminate_ms }, { SIGKILL, BROOD_FOREVER } };

        if (interrupt_ms < 0 || terminate_ms < 0)
                return -EINVAL;
        int last = 0, r = brood_process_join(process, 0);
        for (size_t i = 0; i < sizeof steps / sizeof steps[0] && r == -EAGAIN; i++) {
                if (steps[i].timeout_ms == 0)
                        continue;
                last = steps[i].signal;
                r = end_step(process, last, steps[i].timeout_ms);
        }
        return r < 0 ? r : last;
}

int brood_process_report_sized(brood_process *process, brood_process_report *ret_report, size_t size)
{
        struct registry *registry;
        int r = check_child(process);

        if (r < 0 || ret_report == NULL)
                return r < 0 ? (r == -EDEADLK ? -ECHILD : r) : -EINVAL;
        if (size > sizeof *ret_report)
                return -E2BIG;
        registry_await_told(process);
        r = registry_lock(&registry);
        if (r < 0)
                return r;
        r = registry_reap(registry, process);
        if (r == 0) {
                const brood_process_report report = {
                        .pid = process->pid,
                        .exitcode = process->ending.exitcode,
                        .core_dumped = process->ending.core_dumped,
                        .measured = process->ending.measured,
                        .user_ns = process->ending.user_ns,
                        .system_ns = process->ending.system_ns,
                        .peak_memory = process->ending.peak_memory,
                        .started_ns = process->started_ns,
                        .ended_ns = process->ended_ns,
                        .out_of_memory = process->out_of_memory,
                };
                memcpy(ret_report, &report, size);
        }
        registry_unlock();
        return r;
}

pid_t brood_process_pid(const brood_process *process)
{
        return process == NULL ? -EINVAL : process->pid;
}

const char *brood_process_name(const brood_process *process)
{
        return process == NULL ? "" : process->name;
}

int brood_process_sentinel(const brood_process *process)
{
        return process == NULL || process->pidfd < 0 ? -EINVAL : process->pidfd;
}

/* ---- the tree ---- */

brood_process *brood_current_process(void)
{
        brood_process *current = registry_in_child()->current;

        /* A plain fork of a child of ours inherits what its parent was. */
        return current != NULL && current->pid == child_pid() ? current : NULL;
}

pid_t brood_parent_pid(void)
{
        brood_process *current = brood_current_process();

        return current == NULL ? -ESRCH : current->owner;
}

int brood_parent_sentinel(void)
{
        return brood_current_process() == NULL ? -ESRCH : registry_in_child()->parent_sentinel;
}

ssize_t brood_active_children(brood_process **ret_processes, size_t room)
{
        struct registry *registry;
        size_t count = 0;

        if (ret_processes == NULL && room > 0)
                return -EINVAL;
        int r = registry_lock(&registry);
        if (r < 0)
                return r;
        registry_sweep(registry);
        for (brood_process *process = registry->running; process != NULL; process = process->running_next)
                if (count++ < room)
                        ret_processes[count - 1] = process;
        registry_unlock();
        return (ssize_t)count;
}

int brood_handed_descriptor(size_t index)
{
        const brood_process *current = brood_current_process();

        if (current == NULL)
                return -ESRCH;
        return index < current->options.hand_over_count ? current->handed[index] : -EINVAL;
}

int brood_process_warnings(const brood_process *process)
{
        return process == NULL ? -EINVAL : (int)process->warnings;
}

const char *brood_process_failed_step(const brood_process *process)
{
        return process == NULL ? "" : outfit_step_name(process->failed_step);
}

static bool is_stream(const brood_process *process, int number)
{
        return process != NULL && number >= 0 && number < 3;
}

int brood_process_stream(const brood_process *process, int number)
{
        if (!is_stream(process, number))
                return -EINVAL;
        return process->captured[number] < 0 ? -ENOENT : process->captured[number];
}

int brood_process_close_stream(brood_process *process, int number)
{
        int r = brood_process_stream(process, number);

        if (r < 0)
                return r;
        descriptor_close(&process->captured[number]);
        return 0;
}

/* ---- for other rooms ---- */

void process_hide(brood_process *process)
{
        process->hidden = true;
}

int process_adopt(brood_process **ret_process, const char *name, pid_t pid, struct oom_watch *watch)
{
        struct registry *registry;
        brood_process *process =
            process_alloc(&(brood_process_options){ .name = name, .start_method = BROOD_START_FORK });

        if (process == NULL)
                return -ENOMEM;
        process_hide(process);
        int r = set_name(process);
        if (r == 0)
                r = process->pidfd = pidfd_of(pid);
        if (r >= 0)
                r = registry_lock(&registry);
        if (r >= 0) {
                process->pid = pid;
                process->oom = *watch;
                watch->group = -1;
                process->started_ns = clock_wall();
                r = registry_add(registry, process);
                if (r == 0)
                        store_release(&process->state, PROCESS_RUNNING);
                registry_unlock();
        }
        if (r < 0) {
                brood_process_free(process);
                return r;
        }
        *ret_process = process;
        return 0;
}

void process_make_helper(brood_process *process)
{
        process->hidden = true;
        process->signals_stay = true;
}

CHILD_CODE const sigset_t *process_parent_mask(const brood_process *process)
{
        return &process->mask;
}
