/* SPDX-License-Identifier: MIT
 *
 * brood/process.h: processes, process classes, fork and wait.
 *
 * A brood_process is one child process: made with brood_process_new(), begun with brood_process_start(), awaited
 * with brood_process_join(), given up with brood_process_free().
 *
 *     static int work(void *arg) { ...; return 0; }          // runs in the child; its value is the exit code
 *
 *     brood_process *p;
 *     int r = brood_process_new(&p, &(brood_process_options){ .target = work, .arg = &thing });
 *     if (r == 0 && (r = brood_process_start(p)) == 0)
 *             r = brood_process_join(p, BROOD_FOREVER);
 *     brood_process_free(p);
 *
 * What brood promises about a child:
 *
 * - It is reaped exactly once, through its own pidfd.  brood installs no signal handler, changes no signal
 *   disposition, and never waits for a child that was not started through it; it works when the host ignores
 *   SIGCHLD, and when the host reaps every child itself in a handler.  (A stranger that reaps the child first
 *   takes its exit status along; Linux 6.15 and later tell it all the same, older ones do not: -ENODATA.)
 * - It does not outlive its parent.  When the parent ends, in whatever way, the kernel kills the child.  Who wants a
 *   child that lives on says so: `.detached = true`.
 * - It cannot become a forgotten zombie: brood_process_free() on a child that still runs kills and reaps it.
 *
 * A child that has ended and that nobody has joined stays a zombie until the next brood_process_start() or brood_wait(), or
 * until its own handle is asked (join, exitcode, is_alive, terminate, kill, free); those reap it and keep its exit code in
 * the handle.
 *
 * Fork.  A forked child inherits its parent's handles, but not its children: join and wait on them give -ECHILD,
 * free releases only the memory.  Threads.  All calls may come from any thread; several may join one process.
 * What a child can do to outlive its parent all the same: close the descriptor by which the kernel would kill it (a daemon's
 * closing of all descriptors; it is inherited by a program that the child executes, and has a number from 100 on), or execute a
 * set-user-id program.  And a child made past the fork hooks, by a raw clone or _Fork(3),
 * keeps its siblings alive for as long as it lives itself.
 *
 * brood needs /proc mounted (it opens /proc/self/fd).  A fork copies only the calling thread; what the target may then
 * safely call in a program with threads is what fork(2) says: brood_process_warnings() tells whether that was so.
 *
 * The tree.  What a child has started through brood ends with it, and the child with its parent.  What it has started past brood
 * (system(3), fork(2), another program that forks) lives on, unless the setup's `.tree` says otherwise:
 *
 *     BROOD_TREE_BROOD         nothing is done about it; the default
 *     BROOD_TREE_WALK          a guardian, a process between this one and the child, adopts all orphans below the child
 *                              (PR_SET_CHILD_SUBREAPER), looks through /proc for what is below itself, and kills it.  Works
 *                              everywhere.  What has become another user's is not killed, nor waited for
 *     BROOD_TREE_CGROUP        besides, all of it is in a control group (version 2) of its own, in this process's or in the one
 *                              that the setup names, and is killed at once (cgroup.kill); needs a group that was delegated
 *     BROOD_TREE_NAMESPACE     a PID namespace, with a /proc of its own.  Nothing gets out of it, and it goes in any case, the
 *                              guardian's own death too.  Needs CAP_SYS_ADMIN, or a kernel that lets everybody make user
 *                              namespaces; in such a one there are no other users and groups than the child's own
 *     BROOD_TREE_BEST          CGROUP, or WALK where that is not possible
 *
 * With the last four, when the child ends, in whatever way, all that is left below it is killed, and join returns, and the exit
 * code is known, when it is gone; when this process ends, in whatever way, all of it is killed.  All else is as for any child,
 * but for this: getppid(2) in the child is the guardian, and there is no SIGCHLD for the child (there is one for the guardian).
 * The child is killed with its parent even when it has closed all of its descriptors.  If a stranger kills the guardian, the
 * child goes on as at BROOD_TREE_BROOD.  The guardian is a fork of this process; it keeps none of its descriptors, but pages that
 * this process changes afterwards are kept twice.  It starts later than another child does: two births, and the making of a group
 * or a namespace.
 *
 * In a namespace the child has pid 2, and getppid(2) is 0.  brood works in it, but objects that wait for one another (queues,
 * locks, pools) must not be shared between inside and outside: those of one side would take those of the other for dead.  The
 * child's mounts are its own.  Where a user namespace was needed, a target that was forked has all capabilities(7) in that
 * namespace (it may mount, and make namespaces), and none outside of it; a program has them only if the user is root.
 *
 * Start methods.  Where a child comes from is chosen with `.start_method`, or for all with brood_set_start_method():
 *
 *     BROOD_START_FORK         it is a copy of this process, with all of its memory; the default
 *     BROOD_START_SPAWN        it is this program, executed again, with none of its memory
 *     BROOD_START_FORKSERVER   it is a fork of a small server, which is spawned when it is first needed: as clean as by spawn,
 *                              and quicker, whatever this process has in memory, and however many threads it has
 *
 * The last two need one call at the head of main(), before anything else:
 *
 *     int main(int argc, char **argv)
 *     {
 *             if (brood_main(argc, argv) < 0)             // does not return in a spawned process
 *                     return 1;
 *             ...
 *
 * Their children share no memory with this process, so that a pointer means nothing there: `.arg` is refused, a target gets a
 * copy of `.bytes`, and a process of a class a copy of its state, as it was at the start.  The target, or the class, which must be
 * static data that nobody changes, is found again by the build-id of the program or library that it is in.  Descriptors are handed
 * over, and with them whatever has an `_attach` function:
 *
 *     int d[BROOD_QUEUE_DESCRIPTORS];
 *     brood_queue_descriptors(queue, d);
 *     brood_process_new(&p, &(brood_process_options){ .target = work, .bytes = &job, .size = sizeof job,
 *                                                     .hand_over = d, .hand_over_count = BROOD_QUEUE_DESCRIPTORS,
 *                                                     .start_method = BROOD_START_SPAWN });
 *
 *     static int work(void *job)                          // in the child
 *     {
 *             const int d[] = { brood_handed_descriptor(0), brood_handed_descriptor(1) };
 *             brood_queue *queue;
 *             int r = brood_queue_attach(&queue, d);
 *             ...
 *
 * All of this works with fork, too.  A spawned process has the caller's environment, directory, streams, limits and signal mask;
 * signals that the caller handles are at their defaults, ignored ones stay ignored; of other descriptors it has those that are not
 * close-on-exec.  A child of the fork server has the caller's environment, directory, streams, mask and ignored signals; the rest
 * (limits, niceness, user, control group, umask) is as it was when the server was started, but for what `.setup` says, and it has
 * no other descriptors than those.  Such a child is a child of the server's, which reaps it and tells how it ended; so there is no
 * SIGCHLD for it, and getppid(2) is the server.  It dies with this process all the same, and so does the server.  Should the server
 * be killed, its children live on; the next start makes a new one.
 */
#ifndef BROOD_PROCESS_H
#define BROOD_PROCESS_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_process brood_process;

/* A process class: a kind of process with state of its own, as a subclass of multiprocessing.Process is.
 * Each process of the class has `size` bytes of state, zeroed, aligned for any type: brood_process_self().
 * A derived class puts its base's struct first in its own and calls the base's functions. */
typedef struct brood_process_class {
        const char *name;                               /* for default names, "MyProcess-1"; NULL: "Process" */
        size_t size;                                    /* bytes of state, 0 to BROOD_PROCESS_STATE_MAX */
        int (*init)(brood_process *process, void *arg); /* may be NULL; in the parent, by brood_process_new() */
        int (*run)(brood_process *process);             /* in the child; its value is the exit code */
        void (*fini)(brood_process *process);           /* may be NULL; in the parent, by brood_process_free() */
        void *reserved[4];                              /* zero */
} brood_process_class;

#define BROOD_PROCESS_STATE_MAX ((size_t)1 << 30)
#define BROOD_PROCESS_NAME_MAX 63 /* bytes of a name; a longer one is refused */

/* Where one of a child's standard streams leads. */
typedef enum brood_stream_kind {
        BROOD_STREAM_INHERIT = 0, /* where this process's does */
        BROOD_STREAM_NULL,        /* nowhere: /dev/null */
        BROOD_STREAM_DESCRIPTOR,  /* to `descriptor`, which stays the caller's */
        BROOD_STREAM_CAPTURE,     /* into a pipe, whose other end is brood_process_stream() */
        BROOD_STREAM_STDOUT,      /* stderr only: where the child's stdout does */
} brood_stream_kind;

typedef struct brood_stream {
        brood_stream_kind kind;
        int descriptor;
} brood_stream;

/* What happens to that which a child has started itself (by fork(2), system(3), another program), when the child ends, however it
 * does, or when its parent ends.  See "The tree" above. */
typedef enum brood_tree_level {
        BROOD_TREE_BROOD = 0, /* what was made through brood ends with it; the rest lives on */
        BROOD_TREE_WALK,      /* a guardian adopts whoever is orphaned below the child, and kills what it finds there */
        BROOD_TREE_CGROUP,    /* besides, they are in a control group of their own, which the kernel kills at once */
        BROOD_TREE_NAMESPACE, /* they are in a PID namespace of their own, all of which the kernel kills */
        BROOD_TREE_BEST,      /* CGROUP where that is possible, else WALK: the best that the child does not notice */
} brood_tree_level;

/* What a child starts with, where that is not what its parent has.  All that it points to must stay until the start has
 * returned. */
typedef struct brood_process_setup {
        const char *directory;              /* its working directory */
        const char *const *environment;     /* "NAME=value" strings and a NULL: instead of the parent's */
        brood_stream input, output, errors; /* stdin, stdout, stderr */
        bool close_others; /* no descriptors but 0, 1, 2 and those to keep.  (brood's objects have descriptors, too.) */
        bool new_session, new_group; /* it leads a session (and so a group), or a group, of its own; one of the two */
        const int *keep;             /* descriptors that the child keeps, and a program that it executes */
        size_t keep_count;
        const int *cpus; /* the CPUs that it may use */
        size_t cpus_count;
        uint64_t
            memory_limit; /* bytes of address space; all four limits: 0 is the parent's, and none is raised above the parent's */
        uint64_t cpu_seconds;   /* SIGXCPU then, SIGKILL a second later */
        uint64_t file_limit;    /* open descriptors */
        uint64_t process_limit; /* of its user, when it makes one */
        int nice;               /* added to the parent's */
        const char *cgroup;     /* the directory of a control group (version 2; or 1, of one hierarchy) that it joins */
        brood_tree_level tree;  /* what becomes of its own children */
} brood_process_setup;

/* How a child comes to be. */
typedef enum brood_start_method {
        BROOD_START_DEFAULT = 0, /* as brood_set_start_method() says */
        BROOD_START_FORK,
        BROOD_START_SPAWN,
        BROOD_START_FORKSERVER,
} brood_start_method;

#define BROOD_PROCESS_BYTES_MAX ((size_t)1 << 30)
#define BROOD_BYTES_ALIGNMENT 16
#define BROOD_PROCESS_DESCRIPTORS_MAX 200 /* handed over; with the fork server, together with those of setup.keep */

typedef struct brood_process_options {
        int (*target)(void *arg);                 /* what the child runs; its value & 255 is the exit code */
        void *arg;                                /* given to the target, or to the class's init() */
        const brood_process_class *process_class; /* instead of a target; must outlive the process object */
        const char *name;                         /* copied; NULL: "Process-1", "Process-2", ... */
        bool detached;                            /* a second-level child, see brood_process_start() */
        brood_start_method start_method;          /* how it comes to be */
        const void *bytes;         /* instead of arg: `size` bytes, which are copied; the target gets a copy, */
        size_t size;               /* aligned to BROOD_BYTES_ALIGNMENT */
        const int *hand_over;      /* descriptors (3 or more) that the child has: brood_handed_descriptor(). */
        size_t hand_over_count;    /* They must stay open until the start has returned. */
        brood_process_setup setup; /* what it starts with (always the last member) */
} brood_process_options;

/* Make a process object; nothing runs yet.
 * Returns 0; -EINVAL (ret_process NULL; neither or both of target and process_class; a class without run() or with
 *   reserved members set; a name that is empty or too long; a state larger than BROOD_PROCESS_STATE_MAX; a setup that cannot be: a
 *   kind of stream that there is not, a negative descriptor, NULL with a count, session and group both, a level of the tree that
 *   there is not, or one for a detached process; an unknown start method; a
 *   target's arg with another method than fork; bytes for a class, or with an arg, or more than BROOD_PROCESS_BYTES_MAX; NULL with
 *   a size; a descriptor to hand over below 3, or more than BROOD_PROCESS_DESCRIPTORS_MAX of them);
 *   -ENOTSUP (spawn or forkserver, and main() has not called brood_main(), or this is a set-user-id program; a level of the tree
 *   with forkserver, or a namespace with spawn);
 *   -E2BIG (options from a newer brood); -ENOMEM; without a name, where nothing has been started before, also -EMFILE, -ENFILE,
 *   -ENOENT (no /proc); or what the class's init() returned, if that was negative.
 * Threads: any.  Processes: the object belongs to the calling process.  Signals: not async-signal-safe. */
BROOD_API int brood_process_new_sized(brood_process **ret_process, const brood_process_options *options,
                                      size_t options_size);

static inline int brood_process_new(brood_process **ret_process, const brood_process_options *options)
{
        return brood_process_new_sized(ret_process, options, sizeof(brood_process_options));
}

/* Give up a process object.  A child of this process that still runs is killed with SIGKILL and reaped first, so this
 * may block until the kernel has ended it; a detached child, or an inherited handle's, is left alone.
 * Threads: none may be using the handle.  Fork: in a forked child this only frees memory. */
BROOD_API void brood_process_free(brood_process *process);

/* The state of a process of a class (zeroed memory of the class's size); NULL for NULL and for a process
 * without one.  What the parent writes there before the start, the child finds; after it, the two are apart.
 * Threads: any (the memory is the caller's to guard).  Never fails otherwise. */
BROOD_API void *brood_process_self(brood_process *process);

/* Start the process: fork (or spawn), and run its target (or its class's run()) in the child.
 *
 * stdout and stderr are flushed before the fork and, in the child, after the target; then the child ends
 * with _exit(2): exit handlers do not run in it; what it has registered with brood_at_exit() (brood/exit.h) does.  The child has
 * the caller's signal mask and, by fork, its dispositions.
 *
 * A detached process is a second-level child: started by a child that ends at once, so that it is not a child of this
 * process, never its zombie, and not killed at its end.  Its pid is known here, it can be signalled and joined (which
 * waits for its end); its exit code is known where the kernel tells it (Linux 6.15), else -ENODATA.
 *
 * With a level of the tree: -EPERM (this process may not), -ENOTSUP (the machine has not what it takes), with the step "tree".
 *
 * Returns 0; -EALREADY (it was started before); -EINVAL (NULL); -EPERM (an inherited handle); -EAGAIN, -ENOMEM (fork
 *   failed; a later call may succeed); -EMFILE, -ENFILE (no descriptor left); -ENOENT (no /proc); or what went wrong with the
 *   setup, and brood_process_failed_step() tells with which step of it.  Spawn and forkserver, with the step "function":
 *   -ENOEXEC (the target or class is in no module that has a build-id; or the class was changed while the program ran);
 *   -ELIBACC (the child has not loaded the module that it is in, as when this process has done so with dlopen(3));
 *   -EPROTONOSUPPORT (brood's library has been replaced by another version's meanwhile).  Forkserver: -EPIPE (three
 *   servers have died before they had answered); with the step "preload", what its preload returned, or -ENOEXEC,
 *   -ELIBACC for that; and as brood_process_exec() for the server's own start.  On failure nothing runs, and no child is left over.
 * Threads: any; one start at a time goes through.  Signals: all are blocked while it forks, none is lost.
 * Death: if the parent dies in here, the child never reaches its target.  A spawned process that ends before its target, as when a
 * library is missing, has started, and its exit code tells. */
BROOD_API int brood_process_start(brood_process *process);

/* Run a program: make a process and start it, in one.  argv[0] is looked for in PATH if it has no slash; the array ends with
 * NULL.  The options' target, arg and process_class are not for a program; its name is argv[0] without the directory if none is
 * given.  The program has the caller's signal mask; signals that the caller handles are back at their defaults, ignored ones stay
 * ignored.  It dies with its parent like any child of brood, by a descriptor that it inherits (a program that closes all of its
 * descriptors, or changes its user, gets away).
 * A detached program is a second-level child, as a detached process is, and from its first instruction on nobody's end is its own.
 * No memory is copied: as quick as posix_spawn(3), however large this process is.
 * Returns 0; -EINVAL (NULL; no argv[0]; options that are not for a program; and as for new); -E2BIG (options from a newer brood;
 *   too many arguments); -ENOENT (there is no such program; no /proc), -EACCES, -ENOEXEC, or what else execve(2) or the setup says:
 *   then *ret_failed_step (may be NULL) says with what, "program" or a step of the setup; -EAGAIN, -ENOMEM, -EMFILE, -ENFILE.
 *   On failure nothing runs, and no child is left over.  (But if it is detached, and other threads take the last descriptors in the
 *   moment in which it begins, it runs in spite of -EMFILE.)
 * Threads: any; the others go on meanwhile.  Signals: all are blocked in the calling thread, none is lost.  Death: if the parent
 * dies in here, the program does not begin, or dies with it; a detached one does not begin, or lives on. */
BROOD_API int brood_process_exec_sized(brood_process **ret_process, const char *const argv[],
                                       const brood_process_options *options, size_t options_size,
                                       const char **ret_failed_step);

static inline int brood_process_exec(brood_process **ret_process, const char *const argv[],
                                     const brood_process_options *options, const char **ret_failed_step)
{
        return brood_process_exec_sized(ret_process, argv, options, sizeof(brood_process_options), ret_failed_step);
}

/* Which step of the setup made the start fail: "session", "control group", "limits", "nice", "CPUs", "directory", "streams",
 * "descriptors"; "tree", "function", "preload" (see start); "" if none did, and for NULL.  The string is static.  Threads: any. */
BROOD_API const char *brood_process_failed_step(const brood_process *process);

/* The other end of a captured stream: of stdin (0) to write, of stdout (1) or stderr (2) to read.  It belongs to the handle; who
 * wants to close it does so with brood_process_close_stream(), after which the child reads the end of its input.
 * Returns the descriptor; -EINVAL (NULL; not 0, 1 or 2); -ENOENT (not captured, not started, or closed). */
BROOD_API int brood_process_stream(const brood_process *process, int number);
BROOD_API int brood_process_close_stream(brood_process *process, int number);

/* Wait until the process has ended, and reap it.  Joining again returns 0 again.
 * Returns 0; -EAGAIN (timeout 0 and it runs), -ETIMEDOUT; -EINVAL (NULL, or never started); -ECHILD (it is another
 *   process's child: an inherited handle); -EDEADLK (it is the calling process itself).
 * Threads: any number at once.  Signals: restarts after EINTR.  Death: nothing is shared; no effect on others. */
BROOD_API int brood_process_join(brood_process *process, int timeout_ms);

/* What there is to know about the start of a process that has started, as bits; 0: nothing.  -EINVAL (NULL).  Threads: any.
 * BROOD_WARNING_THREADS: this process had other threads when it was forked.  The child has none of them, but may have found
 * what they were changing, half changed: it may safely call async-signal-safe functions, and what the libc makes whole at a
 * fork (glibc: malloc(3) and stdio); spawn and forkserver have no such trouble. */
#define BROOD_WARNING_THREADS 1
BROOD_API int brood_process_warnings(const brood_process *process);

/* The exit code: 0 to 255 as the target returned it or as given to exit(3); -N if signal N killed the process.
 * Returns 0 and sets *ret_exitcode; -EAGAIN (it still runs; or it is detached, and whoever adopted it has not reaped it yet);
 *   -EINVAL (NULL, or never started); -ECHILD (an inherited handle); -ENODATA (it has ended, but a stranger reaped it and the
 *   kernel is too old to tell).
 * Threads: any.  Never blocks, but for the moment (a second at most) in which the fork server tells how a child ended. */
BROOD_API int brood_process_exitcode(brood_process *process, int *ret_exitcode);

/* Whether it runs: 1 or 0 (not yet started, ended); -EINVAL (NULL).  Works on inherited handles too.
 * Threads: any.  Never blocks. */
BROOD_API int brood_process_is_alive(brood_process *process);

/* Ask it to end (SIGTERM), or end it (SIGKILL).  Through the pidfd: never a stranger with a recycled pid.
 * Returns 0; -ESRCH (it has ended); -EINVAL (NULL, or never started); -EDEADLK (it is the calling process itself);
 *   -EPERM (it has become another user's).  Threads: any. */
BROOD_API int brood_process_terminate(brood_process *process);
BROOD_API int brood_process_kill(brood_process *process);

/* Ask it to end as Ctrl-C does (SIGINT); halt it (SIGSTOP), and have it go on (SIGCONT).  A process that is halted is not dead:
 * who waits for what it holds, waits.  Through the pidfd.  Errors as for terminate.  (The kernel tells a parent of halts by
 * SIGCHLD, unless its handler says SA_NOCLDSTOP.) */
BROOD_API int brood_process_interrupt(brood_process *process);
BROOD_API int brood_process_suspend(brood_process *process);
BROOD_API int brood_process_resume(brood_process *process);

/* End it by steps, each harder than the one before, and join it: SIGINT and up to interrupt_ms of waiting; SIGTERM and up to
 * terminate_ms; SIGKILL and as long as it takes.  A step with a time of 0 is passed over.  A halted process is made to go on, so
 * that it can hear the first two.
 * Returns by what it ended: 0 (by itself, before the first step), SIGINT, SIGTERM or SIGKILL: the last signal that was sent,
 *   though it may have ended for a reason of its own; -EINVAL (NULL, or never started; a negative time); -ECHILD (an inherited
 *   handle); -EDEADLK (it is the calling process itself); -EPERM (it has become another user's).
 * Threads: any. */
BROOD_API int brood_process_end(brood_process *process, int interrupt_ms, int terminate_ms);

/* How a process ended, and what it used. */
typedef struct brood_process_report {
        pid_t pid;
        int exitcode;        /* as brood_process_exitcode() tells it; BROOD_EXITCODE_UNKNOWN */
        bool core_dumped;    /* it left a core dump */
        bool measured;       /* the next three are known: brood has reaped it, and no stranger */
        int64_t user_ns;     /* CPU time, its own and that of the children that it had waited for */
        int64_t system_ns;   /* the same, in the kernel */
        int64_t peak_memory; /* bytes that it had in memory at most; its largest child's, if that is more */
        int64_t started_ns;  /* time of day, in nanoseconds since 1970 */
        int64_t ended_ns; /* when brood learned of its end: at once, if somebody was waiting in join or brood_wait() */
        bool out_of_memory; /* the kernel has killed it because memory ran out, and that is proved (see below) */
} brood_process_report;

/* The report of a process that has ended.
 *
 * `out_of_memory` is true where there is a proof, and false also where there is none: the process was ended by SIGKILL, and not
 * through this handle; its `.setup.cgroup` is a group in which the kernel counts such kills (version 2 with the memory controller,
 * or version 1 in that controller's hierarchy); nobody was in that group when it was started; and the kernel has killed in it, for
 * want of the group's memory or of the system's, before its end was noticed.  So give each process that is to be judged a group of
 * its own: if others come in later, such as its own children, the proof does not know which of them it was.
 *
 * Returns 0; -EAGAIN (it still runs; or it is detached, and whoever adopted it has not reaped it yet); -EINVAL (NULL, or never
 *   started); -ECHILD (an inherited handle); -E2BIG (ret_report is of a newer brood).  Threads: any.  Never blocks, as exitcode. */
BROOD_API int brood_process_report_sized(brood_process *process, brood_process_report *ret_report, size_t size);

static inline int brood_process_get_report(brood_process *process, brood_process_report *ret_report)
{
        return brood_process_report_sized(process, ret_report, sizeof *ret_report);
}

/* The process id: positive once started, also after its end; 0 before; -EINVAL (NULL).  Threads: any. */
BROOD_API pid_t brood_process_pid(const brood_process *process);

/* Its name; "" for NULL.  Lives as long as the handle.  Threads: any. */
BROOD_API const char *brood_process_name(const brood_process *process);

/* A descriptor for poll/epoll that becomes readable when the process has ended: its pidfd.  It belongs to the
 * handle: neither close nor read it.  -EINVAL (NULL, or never started).  Threads: any. */
BROOD_API int brood_process_sentinel(const brood_process *process);

/* fork(2) with a handle: returns 0 in the child, the child's pid in the parent, where *ret_process is its handle (for
 * join, kill, brood_wait() ...; free it in the end).  In the child *ret_process is NULL.  stdout and stderr are flushed
 * first.  The child goes on as any forked process does, and should end with exit(3) or _exit(2).  Like every child of
 * brood it dies with its parent.
 * Returns -EINVAL (NULL); -EAGAIN, -ENOMEM, -EMFILE, -ENFILE, -ENOENT as brood_process_start(). */
BROOD_API pid_t brood_fork(brood_process **ret_process);

/* The handle by which this process was started: for its name and its state; NULL if it was not started through brood.  It is
 * the parent's handle in this process's own memory: do not free it. */
BROOD_API brood_process *brood_current_process(void);

/* Who started this process: its pid, and a descriptor for poll/epoll that becomes readable when that process has ended (do not
 * close it; a process that is not detached is killed in that moment, and has no use for it).
 * Return -ESRCH if this process was not started through brood.  Threads: any. */
BROOD_API pid_t brood_parent_pid(void);
BROOD_API int brood_parent_sentinel(void);

/* The children of this process that run: those that brood_wait() waits for, and that have not ended.  Up to `room` handles, the
 * youngest first; those that have ended are reaped.
 * Returns how many there are, which may be more than room; -EINVAL (room > 0, but NULL); -ENOMEM; -EMFILE, -ENFILE.
 * Threads: any; a handle that another thread frees is no longer valid. */
BROOD_API ssize_t brood_active_children(brood_process **ret_processes, size_t room);

/* Wait for any child of this process that was started through brood, is not detached, and was not yet joined or
 * returned from here.  Its handle stays valid and tells the same exit code.
 * Returns its pid, and *ret_exitcode (may be NULL) as brood_process_exitcode() tells it: if a stranger reaped it and the
 *   kernel cannot tell, BROOD_EXITCODE_UNKNOWN; -ECHILD (there is none); -EAGAIN, -ETIMEDOUT.
 * Threads: any; each child is returned to one of them.  Signals: restarts after EINTR. */
BROOD_API pid_t brood_wait(int *ret_exitcode, int timeout_ms);

/* ---- the tree ---- */

/* The level that holds for what is below a process: that which was asked for, or which BROOD_TREE_BEST came to; BROOD_TREE_BROOD if
 * its guardian has been killed, and before the start.  It stays after the end.
 * -EINVAL (NULL).  Threads: any. */
BROOD_API int brood_process_tree(const brood_process *process);

/* Whether a level is possible here and now, for a child by fork or a program: it is tried, with a child that does nothing, and
 * costs a start and a join.
 * Returns the level (for BROOD_TREE_BEST the one that it comes to); -EINVAL (there is no such level); -EPERM (this process may
 *   not), -ENOTSUP (the machine has not what it takes); or what else a start fails with.  Threads: any. */
BROOD_API int brood_tree_possible(brood_tree_level level);

/* ---- start methods ---- */

/* To be called first in main(), before threads are made, arguments looked at, or anything is printed.  In an ordinary start it
 * returns at once.  In a process that was started by spawn, and in the fork server, it does not return: the process does there
 * what it was started for, and ends.  `argv` must stay, as main()'s does; spawned processes are given the same.  (The
 * environment variable BROOD_SPAWNED tells such a process of itself, and is removed here.)
 * Returns 0; -EINVAL (argc negative, argv NULL); -EUCLEAN (the environment says that this is a spawned process, but it has not been
 *   given what such a process is given: the program should end).
 * Threads: none yet.  Fork: not in a forked child. */
BROOD_API int brood_main(int argc, char **argv);

/* Choose the start method for all processes that are made from now on and choose none themselves; here, and in children of this
 * process; also for pools.  (brood_fork() always forks.)
 * Returns 0; -EINVAL (there is no such method; BROOD_START_DEFAULT is fork again); -ENOTSUP (spawn or forkserver, and main()
 *   has not called brood_main(), or this is a set-user-id program).  Threads: any. */
BROOD_API int brood_set_start_method(brood_start_method method);

/* The method that is chosen so; never BROOD_START_DEFAULT.  Threads: any. */
BROOD_API brood_start_method brood_get_start_method(void);

/* In a child: the descriptor that was handed over at this index.  It is the child's, and stays open until the child closes it.
 * By fork it is as it was in the parent; by spawn and forkserver it is close-on-exec, and may have another number.
 * Returns the descriptor; -EINVAL (there are not so many); -ESRCH (this process was not started through brood).  Threads: any. */
BROOD_API int brood_handed_descriptor(size_t index);

/* Have the fork server call this function once, when it is started: to load, once for all of its children, what they need.  It
 * runs with all signals blocked, and must leave no thread behind.  If it returns less than 0, the start of the server fails
 * with that.  NULL: none.
 * Returns 0; -EALREADY (the server runs); or what makes the first start of a process fail.  Threads: any. */
BROOD_API int brood_set_forkserver_preload(int (*function)(void));

/* End the fork server, if there is one: its children live on, as when it is killed.  The next start makes a new one.
 * Returns 0; or what makes the first start of a process fail.  Threads: any. */
BROOD_API int brood_forkserver_stop(void);

#ifdef __cplusplus
}
#endif

#endif
