/* SPDX-License-Identifier: MIT
 *
 * pool_idle.c: what a pool costs that has nothing to do, and one that has very much.
 *
 *     idle-wakeups  voluntary context switches of all processes of a pool of 64 workers within --count ms
 *     idle-memory   private memory of the one of 64 workers that has the most, after each of them has run a task; KiB
 *     task-memory   bytes for each of --count outstanding tasks: what the host has taken, the pool's own and its memory of tables
 *                   of pages, beyond the 8 bytes of each argument.  The array of results, which is the caller's, is not counted.
 */
#include "pool_brood.h"
#include "proc_number.h"

#include <dirent.h>
#include <sys/stat.h>

#define IDLE_WORKERS 64
#define BUSY_WORKERS 2
#define PROCESSES_MOST 256
#define SETTLE_NS 300000000u

static uint64_t process_number(pid_t pid, const char *file, const char *name)
{
        uint64_t number = 0;
        char path[64];

        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
        if (!proc_number(path, name, &number))
                bench_skip("%s has no %s", path, name);
        return number;
}

/* All that descend from this process, each of which has one thread. */
static size_t descendants(pid_t *ret_pids)
{
        size_t count = 0, asked = 0;
        char path[64];
        pid_t pid = getpid();

        for (;;) {
                snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
                FILE *f = fopen(path, "re");
                if (!f)
                        bench_skip("there is no %s", path);
                while (count < PROCESSES_MOST && fscanf(f, "%d", &ret_pids[count]) == 1)
                        count++;
                fclose(f);
                if (asked == count)
                        return count;
                pid = ret_pids[asked++];
        }
}

/* No task ends before all workers have one. */
static ssize_t meet(const void *arg, size_t size, void *out, size_t room)
{
        struct bench_line *line;

        (void)size;
        (void)out;
        (void)room;
        memcpy(&line, arg, sizeof line);
        bench_line_wait(line, IDLE_WORKERS);
        return 0;
}

static brood_pool *idle_pool(void)
{
        struct bench_line *line = bench_shared(sizeof *line);
        brood_pool *pool = brood_start_with(&(brood_pool_options){ .processes = IDLE_WORKERS });
        brood_result *result[IDLE_WORKERS];

        for (int i = 0; i < IDLE_WORKERS; i++)
                result[i] = brood_submit_to(pool, meet, &line, sizeof line);
        for (int i = 0; i < IDLE_WORKERS; i++)
                brood_take(result[i], NULL, 0);
        bench_sleep_ns(SETTLE_NS);
        return pool;
}

static uint64_t wakeups(const pid_t *pids, size_t count)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < count; i++)
                sum += process_number(pids[i], "status", "voluntary_ctxt_switches");
        return sum;
}

static double idle_wakeups(uint64_t ms)
{
        pid_t pids[PROCESSES_MOST], again[PROCESSES_MOST];
        brood_pool *pool = idle_pool();
        size_t count = descendants(pids);
        uint64_t before = wakeups(pids, count), after;

        bench_sleep_ns(ms * 1000000u);
        after = wakeups(pids, count);
        if (count <= IDLE_WORKERS || descendants(again) != count || memcmp(pids, again, count * sizeof *pids) != 0)
                bench_die("%zu processes at first, and not the same ones later", count);
        brood_end(pool);
        return (double)(after - before);
}

static double idle_memory(void)
{
        pid_t pids[IDLE_WORKERS];
        brood_pool *pool = idle_pool();
        uint64_t most = 0;

        if (brood_pool_workers(pool, pids, IDLE_WORKERS) != IDLE_WORKERS)
                bench_die("not all workers are there");
        for (int i = 0; i < IDLE_WORKERS; i++) {
                uint64_t kib = process_number(pids[i], "smaps_rollup", "Private_Clean") +
                               process_number(pids[i], "smaps_rollup", "Private_Dirty");

                most = kib > most ? kib : most;
        }
        brood_end(pool);
        return (double)most;
}

/* What the kernel has given to brood's files, whatever any process has mapped of them. */
static uint64_t files_bytes(void)
{
        static const char ours[] = "/memfd:brood";
        DIR *fds = opendir("/proc/self/fd");
        struct dirent *entry;
        struct stat st;
        char name[64];
        uint64_t sum = 0;

        if (!fds)
                bench_skip("there is no /proc/self/fd");
        while ((entry = readdir(fds)) != NULL) {
                ssize_t n = readlinkat(dirfd(fds), entry->d_name, name, sizeof name);

                if (n >= (ssize_t)strlen(ours) && !memcmp(name, ours, strlen(ours)) &&
                    fstatat(dirfd(fds), entry->d_name, &st, 0) == 0)
                        sum += (uint64_t)st.st_blocks * 512;
        }
        closedir(fds);
        return sum;
}

static uint64_t memory_bytes(void)
{
        pid_t self = getpid();

        return files_bytes() +
               (process_number(self, "status", "RssAnon") + process_number(self, "status", "VmPTE")) * 1024;
}

/* A task that lasts until the host says so, by a byte in a pipe. */
static ssize_t hold(const void *arg, size_t size, void *out, size_t room)
{
        int fd;
        char byte;

        (void)size;
        (void)out;
        (void)room;
        memcpy(&fd, arg, sizeof fd);
        return read(fd, &byte, 1) == 1 ? 0 : -EIO;
}

static uint64_t next_number(uint64_t value)
{
        return value + 1;
}

static ssize_t brood_next_number(const void *arg, size_t size, void *out, size_t room)
{
        return brood_answer(next_number, arg, size, out, room);
}

static double task_memory(uint64_t count)
{
        brood_result **result = bench_shared(count * sizeof(brood_result *)), *held[BUSY_WORKERS];
        uint64_t before, used, value;
        int hold_pipe[2];
        brood_pool *pool;

        if (pipe2(hold_pipe, O_CLOEXEC) < 0)
                bench_die("pipe: %s", strerror(errno));
        pool = brood_start_with(&(brood_pool_options){
            .processes = BUSY_WORKERS, .result_size = sizeof(uint64_t), .max_tasks = count + BUSY_WORKERS });
        for (int i = 0; i < BUSY_WORKERS; i++)
                held[i] = brood_submit_to(pool, hold, &hold_pipe[0], sizeof hold_pipe[0]);
        before = memory_bytes();
        for (uint64_t i = 0; i < count; i++)
                result[i] = brood_submit_to(pool, brood_next_number, &i, sizeof i);
        used = memory_bytes() - before;

        if (write(hold_pipe[1], "ab", BUSY_WORKERS) != BUSY_WORKERS)
                bench_die("write: %s", strerror(errno));
        for (int i = 0; i < BUSY_WORKERS; i++)
                brood_take(held[i], NULL, 0);
        for (uint64_t i = 0; i < count; i++) {
                brood_take(result[i], &value, sizeof value);
                if (value != i + 1)
                        bench_die("result %" PRIu64 " is %" PRIu64, i, value);
        }
        brood_end(pool);
        return (double)used / (double)count - sizeof value;
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);

        if (strcmp(o.peer, "brood") != 0)
                bench_options_unknown(&o, "those of brood");
        else if (!strcmp(o.figure, "idle-wakeups"))
                bench_report("pool", &o, idle_wakeups(o.count), "wake-ups");
        else if (!strcmp(o.figure, "idle-memory"))
                bench_report("pool", &o, idle_memory(), "KiB");
        else if (!strcmp(o.figure, "task-memory"))
                bench_report("pool", &o, task_memory(o.count), "bytes");
        else
                bench_options_unknown(&o, "idle-wakeups, idle-memory, task-memory");
        return 0;
}
