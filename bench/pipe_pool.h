/* SPDX-License-Identifier: MIT
 *
 * pipe_pool.h: the prefork pool of the textbooks, over two pipes, as the mark to measure brood's pool against.
 *
 * The host writes tasks of 16 bytes into one pipe that all workers read, and reads results of 16 bytes from another that
 * all workers write; both are whole, because 16 divides the page size.  One write a task, as it is handed in; a worker
 * reads one task at a time, so that a long one does not hold up others behind it; the host, who is the only reader of
 * results, reads as many as there are.
 *
 * No deadlock: the host never has more tasks in flight than either pipe surely holds, so that no write ever waits; it
 * collects results first when that window is full.  The pipes are made large where the kernel allows it.
 *
 * What it leaves out: a dead worker (its task is lost and the host waits for ever), errors, arguments and results of any
 * other size, and everything else.
 */
#ifndef BENCH_PIPE_POOL_H
#define BENCH_PIPE_POOL_H

#include "bench.h"

#define PIPE_POOL_WORKERS_MAX 64
#define PIPE_POOL_ROOM (256 << 10) /* bytes of a pipe, when the kernel allows it */
#define PIPE_POOL_BATCH 1024

struct pipe_task {
        uint64_t id;    /* the host's: where the result goes */
        uint64_t value; /* the argument, and on the way back the result */
};

typedef uint64_t (*pipe_pool_function)(uint64_t value);

struct pipe_pool {
        int task_fd, result_fd;
        uint32_t workers, in_flight, window;
        pid_t pid[PIPE_POOL_WORKERS_MAX];
        uint64_t *results; /* results[id] */
};

static inline void pipe_pool_work(int task_fd, int result_fd, pipe_pool_function function)
{
        struct pipe_task t;

        while (read(task_fd, &t, sizeof t) == (ssize_t)sizeof t) {
                t.value = function(t.value);
                if (write(result_fd, &t, sizeof t) != (ssize_t)sizeof t)
                        _exit(1);
        }
        _exit(0); /* the host has closed the pipe of tasks */
}

/* Each worker calls `begin` first; it may be NULL. */
static inline void pipe_pool_start(struct pipe_pool *pool, uint32_t workers, void (*begin)(void),
                                   pipe_pool_function function, uint64_t *results)
{
        int tasks[2], done[2], room, room_done;

        if (workers > PIPE_POOL_WORKERS_MAX)
                bench_die("too many workers");
        if (pipe2(tasks, O_CLOEXEC) < 0 || pipe2(done, O_CLOEXEC) < 0)
                bench_die("pipe: %s", strerror(errno));
        fcntl(tasks[1], F_SETPIPE_SZ, PIPE_POOL_ROOM);
        fcntl(done[1], F_SETPIPE_SZ, PIPE_POOL_ROOM);
        room = fcntl(tasks[1], F_GETPIPE_SZ);
        room_done = fcntl(done[1], F_GETPIPE_SZ);
        if (room_done < room)
                room = room_done;

        *pool = (struct pipe_pool){ .task_fd = tasks[1], .result_fd = done[0], .workers = workers, .results = results };
        /* A page that is read in part still counts as full, so one page less than there is. */
        pool->window = room > (8 << 10) ? (uint32_t)(room - (4 << 10)) / sizeof(struct pipe_task) : 1;

        for (uint32_t i = 0; i < workers; i++) {
                pool->pid[i] = bench_fork();
                if (pool->pid[i] == 0) {
                        close(tasks[1]);
                        close(done[0]);
                        if (begin)
                                begin();
                        pipe_pool_work(tasks[0], done[1], function);
                }
        }
        close(tasks[0]);
        close(done[1]);
}

/* Wait for some results, and store all that are there. */
static inline void pipe_pool_collect(struct pipe_pool *pool)
{
        struct pipe_task t[PIPE_POOL_BATCH];
        ssize_t n = read(pool->result_fd, t, sizeof t);

        if (n <= 0 || n % (ssize_t)sizeof *t)
                bench_die("pipe pool: %s", n < 0 ? strerror(errno) : "the workers are gone");
        for (ssize_t i = 0; i < n / (ssize_t)sizeof *t; i++)
                pool->results[t[i].id] = t[i].value;
        pool->in_flight -= (uint32_t)(n / (ssize_t)sizeof *t);
}

static inline void pipe_pool_submit(struct pipe_pool *pool, uint64_t id, uint64_t value)
{
        struct pipe_task t = { .id = id, .value = value };

        while (pool->in_flight == pool->window)
                pipe_pool_collect(pool);
        if (write(pool->task_fd, &t, sizeof t) != (ssize_t)sizeof t)
                bench_die("pipe pool: write: %s", strerror(errno));
        pool->in_flight++;
}

static inline void pipe_pool_finish(struct pipe_pool *pool)
{
        while (pool->in_flight)
                pipe_pool_collect(pool);
}

static inline void pipe_pool_stop(struct pipe_pool *pool)
{
        close(pool->task_fd);
        for (uint32_t i = 0; i < pool->workers; i++)
                bench_reap(pool->pid[i]);
        close(pool->result_fd);
}

#endif
