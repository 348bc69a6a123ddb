/* SPDX-License-Identifier: MIT
 *
 * brood/pool.h: a pool of worker processes.
 *
 *     static ssize_t worker(const void *arg, size_t size, void *out, size_t room)
 *     {
 *             ...read size bytes at arg, write at most room bytes at out...
 *             return bytes_written;               // or a negative errno: the task's own error
 *     }
 *
 *     brood_pool *pool;
 *     brood_result *result;
 *     brood_pool_new(&pool, NULL);                // one worker for each CPU that this process may use
 *     brood_pool_apply_async(pool, &result, worker, msg, strlen(msg) + 1);
 *     brood_pool_close(pool);
 *     brood_pool_join(pool, BROOD_FOREVER);
 *     n = brood_result_get(result, &value, sizeof value, BROOD_FOREVER);
 *     brood_result_free(result);
 *     brood_pool_free(pool);
 *
 * A task is a function and bytes; its result is bytes.  Unless another start method is chosen (see below), the workers are forked
 * when the pool is made, so they have a copy of what the program's memory held then, and know every function that the program had
 * loaded then.
 *
 * Between the host (the process that makes the pool) and the workers stands the keeper: a small process that forks the
 * workers, reaps them, and knows from the shared task table what each was doing.  The host has no thread and no signal
 * handler for the pool.
 *
 * Each task ends in exactly one way: its result, its own error, or a report of what became of it.
 * Death.  A worker that dies costs exactly the task that it was running, which is tried again, if brood_pool_submit() was told so,
 * or fails with -EOWNERDEAD and a report that names the signal or the exit code; a new worker takes its place.  If the keeper
 * dies, the workers die with it and the pool is broken: unfinished tasks fail with -EPIPE, finished results stay.  If the host
 * dies, keeper and workers are killed by the kernel.
 *
 * Worker's rules: a task may block, crash, exit; it runs with the signal dispositions and the mask that the
 * host had when it made the pool (by spawn and forkserver, what the host handled is at its default); stdout and stderr are
 * flushed after each task.
 *
 * Start methods (brood/process.h; the last two need brood_main() at the head of main()).  What is started by the chosen method
 * is the keeper; it forks the workers from itself, so they are what it is:
 *
 *     BROOD_START_FORK         copies of the host as it was when the pool was made.  A worker's birth and death then cost what the
 *                              host had in memory: in one of 4 GiB, a tenth of a second
 *     BROOD_START_SPAWN        this program, executed again, with none of the host's memory: a new worker is there in less
 *                              than a millisecond, whatever the host's size
 *     BROOD_START_FORKSERVER   the same by way of the fork server: what that has loaded (brood_set_forkserver_preload()), the
 *                              workers have; and the pool is made sooner
 *
 * With the last two a pointer means nothing in a worker: `initarg` is NULL, or `initarg_size` bytes, which are copied.  Tasks,
 * initializer and finalizer are found again by the build-id of the program or library that they are in.  A function of a library
 * that the new process has not loaded, because the program has done so itself (dlopen(3)), is -ENOEXEC when a task is handed in.
 * Signals, environment, descriptors and the rest are those of any process that is started so.
 *
 * Large results need not be copied: memory that was shared before the pool was made (brood/shared.h) is at the same address in
 * each worker, so a task may be given a pointer into it, and write there.  Tasks may hand in tasks: brood_task_submit().
 *
 * Threads: all calls may come from any thread.  Fork: only the process that made a pool may use it; in a forked child its
 * calls give -EPERM, and free only releases the memory.
 */
#ifndef BROOD_POOL_H
#define BROOD_POOL_H

#include <brood/common.h>
#include <brood/result.h>

#include <signal.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_pool brood_pool;
typedef struct brood_completions brood_completions; /* see brood/completions.h */

/* What a worker runs.  Reads `size` bytes at `arg`, writes at most `room` bytes at `out` (both aligned to 16 bytes); returns
 * the number of bytes written, or a negative errno.  More than `room` counts as -EMSGSIZE. */
typedef ssize_t (*brood_task_function)(const void *arg, size_t size, void *out, size_t room);

#define BROOD_POOL_PROCESSES_LIMIT 512
#define BROOD_POOL_MAX_TASKS_DEFAULT 65536
#define BROOD_POOL_MAX_TASKS_LIMIT ((size_t)1 << 20)
#define BROOD_POOL_RESULT_SIZE_DEFAULT 1024
#define BROOD_POOL_RESULT_SIZE_LIMIT ((size_t)1 << 30)
#define BROOD_POOL_MEMORY_DEFAULT ((size_t)1 << 30)
#define BROOD_POOL_MEMORY_LIMIT ((size_t)1 << 40)
#define BROOD_POOL_TRACE_LIMIT ((size_t)1 << 22)

typedef struct brood_pool_options {
        int processes;                 /* workers, up to BROOD_POOL_PROCESSES_LIMIT; 0: brood_cpu_count() */
        int (*initializer)(void *arg); /* runs first in each worker; non-zero breaks the pool; may be NULL */
        void *initarg;
        size_t result_size;               /* room of a result in bytes; 0: BROOD_POOL_RESULT_SIZE_DEFAULT */
        size_t max_tasks;                 /* tasks with a result not yet freed; 0: BROOD_POOL_MAX_TASKS_DEFAULT */
        size_t memory;                    /* bytes of arguments and results at once; 0: BROOD_POOL_MEMORY_DEFAULT;
                                           an upper bound: it is used as it is needed */
        void (*finalizer)(void *initarg); /* runs last in each worker that ends by itself; may be NULL */
        size_t max_tasks_per_child;       /* after so many tasks a worker ends, and is replaced; 0: never */
        bool timed;                       /* measure how long tasks wait and run: see brood/stats.h */
        size_t trace_tasks;  /* how many tasks of each worker to keep a trace of: see brood/trace.h; 0: none */
        const char *cgroup;  /* a directory: each worker is in a control group in it; NULL: no groups */
        bool warm;           /* the initializer runs once, for all workers */
        int start_method;    /* a brood_start_method (brood/process.h): where the workers come from;
                                           0: as brood_set_start_method() says, which is fork if nothing is chosen */
        size_t initarg_size; /* bytes at `initarg`, of which the workers get a copy; 0: it is only a pointer */
} brood_pool_options;

/* With a `cgroup`, the pool makes a control group in that directory for each worker, so that a worker which the kernel kills for
 * want of memory is known as such (BROOD_OUTCOME_OUT_OF_MEMORY).  The directory is of version 2, delegated to this process, with
 * "memory" in its cgroup.subtree_control, and so with nobody in it but in groups in it; or of version 1, in the hierarchy of the
 * memory controller.  What limits it has, its owner sets; they count for all workers together.  (What a warm pool's template has
 * in memory counts where that is: in the host's group.)  The groups go with brood_pool_free(); those of a host that is killed
 * stay, empty, and are removed with rmdir(1). */

/* A `warm` pool pays for its initializer once: that runs in a process of its own, the template, of which all workers are forks,
 * also those that take the place of others, and those of brood_pool_resize().  They have what it has made in memory, and
 * brood_worker_state().
 *
 * To the initializer this is no worker: brood_worker_id() is -ESRCH, and what it registers with brood_at_exit() never runs.
 * Threads that it starts are not in the workers.  It must leave alone the descriptors that are not its own: without them the
 * template bears no workers, and the pool breaks.  A task that waits for the initializer can be canceled, and the pool terminated.
 * brood_pool_new() returns before the first worker is there.
 *
 * An initializer that fails, or that kills its template again and again, breaks the pool as in other pools.  A template that is
 * killed later is made anew, and the initializer runs again; the workers live on.  The keeper of a warm pool adopts and reaps
 * the orphans of what tasks start. */

/* Make a pool: starts the keeper, and the keeper the workers.
 * Returns 0; -EINVAL (ret_pool NULL, an option negative or beyond its limit, one task's room beyond `memory`); -E2BIG (options
 *   from a newer brood); -ENOMEM; -EMFILE, -ENFILE; -EAGAIN (the keeper or the workers cannot be forked); -ENOENT (no /proc);
 *   -EPERM, -ENOTSUP, -ENAMETOOLONG (no group can be made in `cgroup`, or entered); -ENOTSUP (warm, and /proc is of
 *   another PID namespace).
 *   By spawn and forkserver also -EINVAL for an initarg without a size, and -ENOTSUP (main() has not called brood_main(), or this
 *   is a set-user-id program); -ENOEXEC, -ELIBACC (initializer, finalizer, or brood itself is in no module with a build-id, or in
 *   none that the new process has); or what else brood_process_start() gives.  By any method -EINVAL for initarg_size with a NULL
 *   initarg, or close to BROOD_PROCESS_BYTES_MAX and beyond.  On failure no process is left.
 * An initializer that fails makes later calls fail, not this one: see brood_pool_reason().
 * Threads: any.  Signals: not async-signal-safe. */
BROOD_API int brood_pool_new_sized(brood_pool **ret_pool, const brood_pool_options *options, size_t options_size);

static inline int brood_pool_new(brood_pool **ret_pool, const brood_pool_options *options)
{
        return brood_pool_new_sized(ret_pool, options, sizeof(brood_pool_options));
}

/* Terminate the pool if it was not joined, wait for the keeper's end, and free the handle.  Results that are not yet freed
 * stay valid: finished ones keep their value, the others fail with -ECANCELED. */
BROOD_API void brood_pool_free(brood_pool *pool);

/* ---- in a worker ----
 *
 * A worker ends by itself when the pool is closed and drained, after max_tasks_per_child tasks, after a task that passed its
 * soft time limit, and when the pool shrinks.  Then the finalizer runs.  It does not when a worker is killed or exits in a task,
 * when the pool is terminated, or when its initializer has failed.  A finalizer that never returns holds up brood_pool_join().
 *
 * What a task does to its worker is there for the next one: its directory, its signal mask, its memory, its threads.  After a task
 * that has closed all descriptors the worker goes on, and is replaced when it gets a task that needs them: one with limits, or one
 * whose descriptor is polled.
 * A function that forks, and returns in the child too, is ended there; what else it forks is its own, and outlives the pool if it
 * wants to.  One that exits ends its worker, after the exit handlers that the host had registered.  One that stops itself
 * (SIGSTOP) or blocks its signals is ended by a hard limit, a cancellation, or the pool's end. */

/* The number of this worker: 0 to one less than the number of workers; no two that live have the same, and a new worker has that
 * of the one whose place it takes.  -ESRCH outside of a worker, also in a child that a task has forked. */
BROOD_API int brood_worker_id(void);

/* A pointer of this worker's own, for what its initializer has made; NULL at first.  Outside of a worker it is kept, too, and a
 * worker does not see it.  Threads: any, if the program sees to it that they do not meet. */
BROOD_API void *brood_worker_state(void);
BROOD_API void brood_worker_set_state(void *state);

/* Hand a task to the pool: `function` with a copy of `size` bytes at `arg`.
 * ret_result may be NULL: nobody wants to know.
 * Returns 0; -EINVAL (NULL pool or function; NULL arg with size > 0); -ENOEXEC (the function is in no module that was
 *   loaded when the pool was made, or the workers do not have it by their start method); -ENOBUFS (max_tasks tasks are held: free
 *   results); -ENOMEM (options.memory is used up, or memory is short); -EPIPE (closed, or broken: brood_pool_reason()); -ECANCELED
 *   (terminated); -EPERM (a forked child).  Never waits for a worker.
 * Threads: any.  Death: a host killed in here takes the pool along. */
BROOD_API int brood_pool_apply_async(brood_pool *pool, brood_result **ret_result, brood_task_function function,
                                     const void *arg, size_t size);

#define BROOD_TASK_PRIORITY_MOST 3

/* A task, and the terms on which it runs; what is 0 or NULL is what brood_pool_apply_async() does. */
typedef struct brood_task_options {
        brood_task_function function;
        const void *arg; /* `size` bytes, which are copied */
        size_t size;
        size_t room; /* for the result, in bytes; 0: result_size of the pool's options */

        void (*callback)(brood_result *result, void *arg);       /* run when it has ended well */
        void (*error_callback)(brood_result *result, void *arg); /* run when it has ended otherwise */
        void *callback_arg;             /* the `arg` of both; brood_result_callback_arg() tells it, too */
        brood_completions *completions; /* that the result is to come out of */

        int retries;           /* how often it is tried again */
        int backoff_ms;        /* after this time; before each further time after twice as long, up to an hour */
        int soft_timeout_ms;   /* how long a try may take until the task is warned */
        int timeout_ms;        /* how long a try may take */
        int cpu_ms;            /* the CPU time that a try may use, user and system together */
        bool measured;         /* know its times, CPU time and memory (as it is for any task with a limit or retries) */
        uint64_t memory_limit; /* bytes of private, writable memory beyond what the worker has at the task's start */

        int priority; /* 0 to BROOD_TASK_PRIORITY_MOST: a higher one goes first */

        size_t
            subtasks_size; /* bytes for the tasks that it may hand in, see brood_task_submit(); 0: it hands in none */
} brood_task_options;

/* Signal of the soft limit. */
#define BROOD_SOFT_TIMEOUT_SIGNAL SIGUSR1

/* Hand a task to the pool on terms of its own.
 *
 * The result.  If ret_result is NULL and there are completions, the result belongs to them until it is taken out; if there
 * is a callback, the result is freed after it, and freeing it there does nothing.
 * Retries.  A task whose worker dies (killed, crashed, exited, or beyond a limit) is tried again, from the start, up to `retries`
 * times; another worker begins it, or a new one.  Each try has the limits anew.  What the function returns, error or not, is
 * its result: a function that lives can try again by itself.  Retries go on after brood_pool_close().
 * Soft limit.  The worker, which unblocks it first, is sent BROOD_SOFT_TIMEOUT_SIGNAL.  If the function has installed a handler,
 * it may clean up and return; without one, the signal ends the worker, with the same outcome as the hard limit's.  (If the host
 * handled or ignored the signal when it made the pool, so does the worker.)  Afterwards, the worker is replaced.
 * Hard limit, CPU time.  The worker is killed and replaced; the outcome is BROOD_OUTCOME_TIME or BROOD_OUTCOME_CPU, the error
 * -ETIME.  CPU time is looked at when the limit could first be passed in one thread: in several, a task may use more.
 * Memory.  Allocations fail beyond the limit; a function that then returns -ENOMEM has the outcome BROOD_OUTCOME_MEMORY, one that
 * crashes, that of the crash.  What the function starts has the same limit.
 * Priority.  A worker that is free takes the most urgent task that waits: of the highest priority, the one that was handed in
 * first.  0 is what all tasks have by default.  A task that runs is not interrupted, and one that waits does not age: as long as
 * there are others of a higher priority, it goes on waiting.  One that is tried again keeps its priority, and is the last of that.
 * Death and limits concern this task only.  Time limits cost no wake-up where none is set, and about one in the time of a limit
 * where tasks end before.
 *
 * Returns 0; the errors of brood_pool_apply_async(); -EINVAL, too, for NULL options, a negative number, a room or a
 *   subtasks_size beyond BROOD_POOL_RESULT_SIZE_LIMIT, a limit beyond 2^62, a priority beyond BROOD_TASK_PRIORITY_MOST,
 *   completions of another pool, or completions and a callback; -E2BIG (options from a newer brood).  Never waits for a worker.
 * Threads: any.  Death: of the worker, see retries; of the keeper and the host, as for brood_pool_apply_async(). */
BROOD_API int brood_pool_submit_sized(brood_pool *pool, brood_result **ret_result, const brood_task_options *options,
                                      size_t options_size);

static inline int brood_pool_submit(brood_pool *pool, brood_result **ret_result, const brood_task_options *options)
{
        return brood_pool_submit_sized(pool, ret_result, options, sizeof(brood_task_options));
}

/* In a task: hand in another one, of this pool: `function` with a copy of `size` bytes at `arg`.
 *
 *     static ssize_t walk(const void *path, size_t size, void *out, size_t room)
 *     {
 *             ...for each directory that is in it:
 *                     brood_task_submit(walk, subdirectory, strlen(subdirectory) + 1);
 *             ...
 *     }
 *
 *     brood_pool_submit(pool, NULL, &(brood_task_options){ .function = walk, .arg = "/usr", .size = 5, .retries = 2,
 *                                                          .subtasks_size = 1 << 16, .completions = completions });
 *     while (brood_completions_next(completions, &result, BROOD_FOREVER) == 0)
 *             ...one of them all, however many they become
 *
 * The new task goes with the end of this one: it is handed in when this one has ended well, and not before.  A task that fails,
 * dies, or is canceled has handed in nothing; of one that is tried again, what the last try has handed in counts.  So each new task
 * is there once, however often workers are killed.
 * It has the terms of this one (room, retries, limits, priority, subtasks_size), and its callbacks, or its completions: it is in
 * those before this one comes out of them.
 * It is the host that hands it in, when it finds the end of this one: in the calls in which callbacks are run (see
 * brood_pool_dispatch()), also where there is none, or when it asks for this one's result.
 * A closed pool goes on for as long as it has tasks that may hand in others; brood_pool_join() sees to them.
 * If not all new tasks can be taken up (max_tasks, memory, the pool's end, a function that the host does not know), this one ends
 * with that error, of which brood_result_reason() tells, though its function has returned well; those before the first one that
 * cannot be are taken up.
 * A result that is freed before its task has ended, or whose completions are, takes along what would have been handed in.
 *
 * Returns 0; -EINVAL (NULL function; NULL arg with size > 0); -ENOSPC (subtasks_size is used up: a task takes its argument, rounded
 *   up to 16 bytes, and 16 more); -ENOEXEC (the function is in no module that the host has, too); -ESRCH (outside of a task,
 *   also in a child that it has forked, or in one without subtasks_size).
 * Threads: that which runs the task. */
BROOD_API int brood_task_submit(brood_task_function function, const void *arg, size_t size);

/* In a task: say why it fails, in a message that is kept with its result: up to BROOD_TASK_MESSAGE_MAX - 1 bytes, and no more
 * than the room of the result; the rest is cut off.
 *
 *     return brood_task_fail(-EINVAL, "line %d: no comma", line);
 *
 * Returns `error`, for the function to return; -EINVAL if that is not negative.  What counts is the last call before the function
 * returns an error; outside of a task the message goes nowhere.
 * Threads: that which runs the task.  Death: a worker that dies after it leaves no message. */
BROOD_API ssize_t brood_task_fail(int error, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Run one task and wait for its result: apply_async, get and free in one call.
 * Returns the result's size, or an error of brood_pool_apply_async() or brood_result_get(); when the wait ends with
 * -EAGAIN or -ETIMEDOUT the task goes on, and its result is dropped. */
BROOD_API ssize_t brood_pool_apply(brood_pool *pool, brood_task_function function, const void *arg, size_t size,
                                   void *buf, size_t room, int timeout_ms);

/* Apply `function` to each of `count` items of `item_size` bytes, in chunks; results[i], of `result_size` bytes, is what
 * the function wrote for item i, padded with zeros.  `chunksize` is the number of items a task; 0: about four
 * chunks a worker, of at most 1 MiB each.
 * Returns 0, with all results written; the errors of brood_pool_apply_async(); -EAGAIN, -ETIMEDOUT; the first failed
 *   item's own error (-EMSGSIZE if it wrote more than result_size), or -EOWNERDEAD if a chunk's worker died.  On failure
 *   the results are as before.  -EINVAL also for NULL items or item_size 0 with count > 0, NULL results with result_size > 0, or
 *   sizes whose product overflows.
 * Blocks until all chunks have ended, or one has failed, or the time is up. */
BROOD_API int brood_pool_map(brood_pool *pool, brood_task_function function, const void *items, size_t item_size,
                             size_t count, void *results, size_t result_size, size_t chunksize, int timeout_ms);

/* Run the callbacks of the tasks that have ended, without waiting.
 * The host has no thread for them, so they run in its calls: in this one, and in each that waits for something of the pool,
 * in whichever thread: brood_pool_apply(), _map(), _join(), brood_result_get(), _wait(), brood_map_get(), _wait(),
 * brood_completions_next().  (A call that sleeps already when the first task with a callback is handed in runs it only when
 * it wakes.)
 * Each task's callback runs once: `callback` after a result, else `error_callback`, also for a task that the pool's end has
 * overtaken.  They run one at a time, in the order in which the tasks were seen to end, with no lock held.
 * brood_result_get() and _wait() return only after the result's own callback has begun, and brood_pool_join() only after all
 * have returned.
 * A callback may do what any code of the host may: hand in tasks, free its result, close or terminate the pool, and wait.
 * While it runs no other does, so it must not wait for what another callback is to do.  It must not free the pool.
 * None runs for a result that was freed before, nor once the pool is freed: join before, or dispatch once more.
 * Returns how many were run (0 from within a callback, or while another thread runs them); -EINVAL (NULL); -EPERM.
 * Threads: any. */
BROOD_API int brood_pool_dispatch(brood_pool *pool);

/* A descriptor for poll(2), epoll(7) or an event loop: readable when brood_pool_dispatch() has something to do.  It may be
 * readable for nothing, because another task of the pool has ended; calling brood_pool_dispatch() makes it quiet again.  It
 * belongs to the handle: neither read nor close it, and take it out of the loop before the pool is freed.
 * Returns the descriptor; -EINVAL (NULL); -EPERM; -EMFILE, -ENFILE, -ENOMEM, -ENOSPC (the kernel's limits of epoll). */
BROOD_API int brood_pool_fileno(brood_pool *pool);

/* No more tasks: the workers finish what was handed in, then end.  Closing again does nothing.
 * Returns 0; -EINVAL (NULL); -EPERM. */
BROOD_API int brood_pool_close(brood_pool *pool);

/* Kill the workers now; unfinished tasks fail with -ECANCELED.  Returns 0, also for a pool that has ended; -EINVAL; -EPERM.
 * May be called from any thread while others wait for results: they are woken. */
BROOD_API int brood_pool_terminate(brood_pool *pool);

/* Wait until the workers and the keeper have ended; after close or terminate.
 * Returns 0; -EAGAIN, -ETIMEDOUT; -EPIPE (the pool was broken: brood_pool_reason()); -EINVAL (NULL, or neither closed nor
 *   terminated nor broken); -EPERM. */
BROOD_API int brood_pool_join(brood_pool *pool, int timeout_ms);

/* Why the pool is broken, as a sentence ("the initializer returned -2 (...) in worker 4711"); NULL while it is not broken,
 * and for NULL.  The text lives as long as the handle.  Threads: any. */
BROOD_API const char *brood_pool_reason(brood_pool *pool);

/* The pids of the live workers: writes at most `room` of them, returns how many there are.  A snapshot: by the time it is
 * read, a worker may be gone.  -EINVAL (NULL pool, or NULL pids with room > 0); -EPERM. */
BROOD_API int brood_pool_workers(brood_pool *pool, pid_t *pids, size_t room);

/* Have another number of workers from now on, 1 to BROOD_POOL_PROCESSES_LIMIT.  New ones are forked from the keeper; those that
 * are too many finish the task that they run, and end.  Does not wait for either: brood_pool_workers() tells how far it is.
 * Returns 0; -EINVAL (NULL, or another number); -ENOMEM; -EPIPE (closed, or broken); -ECANCELED (terminated); -EPERM.
 * Threads: any.  Death: as for brood_pool_apply_async(); no task is lost. */
BROOD_API int brood_pool_resize(brood_pool *pool, int processes);

/* The number of workers that the pool was made with, or was last told to have; -EINVAL for NULL. */
BROOD_API int brood_pool_processes(const brood_pool *pool);

#ifdef __cplusplus
}
#endif

#endif
