/* SPDX-License-Identifier: MIT
 *
 * pool_death.c: what it takes until a dead worker is told of and made good.
 *
 * A pool of one worker runs a task, and has another one waiting.  The worker is killed by SIGKILL; from that on are counted
 *
 *     death-report      the time until the host has the report of the first task; the median in ms
 *     death-replaced    the time until it has the result of the second, which a new worker ran; the median in ms
 *     large-host        death-replaced in a pool that was made in a host of 4 GiB, over one of 10 MiB; brood's is made by the
 *                       fork server, brood_fork's by fork
 *     large-host-grown  the same where the pool was made before the host has grown
 *
 * Making the pool and handing in the tasks is not counted.
 */
#include "large_host.h"
#include "pool_brood.h"

#include <brood/process.h>

#include <fcntl.h>

static _Atomic pid_t *begun; /* shared: who runs the first task; 0: not yet */
static int begun_fd;

static ssize_t hang(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg;
        (void)size;
        (void)out;
        (void)room;
        atomic_store(begun, getpid());
        while (pause() < 0)
                ;
        return 0;
}

static ssize_t tell_pid(const void *arg, size_t size, void *out, size_t room)
{
        pid_t pid = getpid();

        (void)arg;
        (void)size;
        if (room < sizeof pid)
                return -EMSGSIZE;
        memcpy(out, &pid, sizeof pid);
        return sizeof pid;
}

static brood_pool *pool_of_one(void)
{
        return brood_start_with(&(brood_pool_options){ .processes = 1, .start_method = BROOD_START_FORK });
}

struct took {
        double report, replaced; /* ms */
};

static struct took kill_one(brood_pool *pool)
{
        brood_result *first, *second;
        struct took took;
        unsigned tries = 0;
        uint64_t began;
        ssize_t said;
        pid_t pid, other;

        atomic_store(begun, 0);
        first = brood_submit_to(pool, hang, NULL, 0);
        second = brood_submit_to(pool, tell_pid, NULL, 0);
        while ((pid = atomic_load(begun)) == 0)
                bench_relax(&tries);

        began = bench_now_ns();
        kill(pid, SIGKILL);
        said = brood_result_get(first, NULL, 0, BROOD_FOREVER);
        took.report = (double)(bench_now_ns() - began) / 1e6;
        brood_take(second, &other, sizeof other);
        took.replaced = (double)(bench_now_ns() - began) / 1e6;

        if (said != -EOWNERDEAD || brood_result_outcome(first) != BROOD_OUTCOME_SIGNALED)
                bench_die("a killed worker's task gave %zd", said);
        if (other == pid)
                bench_die("the dead worker ran a task");
        brood_result_free(first);
        return took;
}

static struct took kill_many(brood_pool *pool, uint64_t count)
{
        double *report = bench_shared(count * sizeof *report), *replaced = bench_shared(count * sizeof *replaced);
        struct took took;

        for (uint64_t i = 0; i < count; i++) {
                took = kill_one(pool);
                report[i] = took.report;
                replaced[i] = took.replaced;
        }
        took = (struct took){ bench_median(report, count), bench_median(replaced, count) };
        munmap(report, count * sizeof *report);
        munmap(replaced, count * sizeof *replaced);
        return took;
}

/* Where the first task says who runs it, for workers that are no copies of this process. */
static int take_begun(void *path)
{
        int fd = open((const char *)path, O_RDWR | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        begun = (_Atomic pid_t *)mmap(NULL, sizeof *begun, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        return begun == MAP_FAILED ? -ENOMEM : 0;
}

static double replaced_in_new_pool(const void *method, uint64_t count)
{
        brood_pool_options options = { .processes = 1, .start_method = *(const int *)method };
        char path[64];

        if (options.start_method != BROOD_START_FORK) {
                snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), begun_fd);
                options.initializer = take_begun;
                options.initarg = path;
                options.initarg_size = sizeof path;
        }
        brood_pool *pool = brood_start_with(&options);
        double ms = kill_many(pool, count).replaced;

        brood_end(pool);
        return ms;
}

static double replaced_in(const void *pool, uint64_t count)
{
        return kill_many(*(brood_pool *const *)pool, count).replaced;
}

static void share_begun(void)
{
        begun_fd = memfd_create("begun", MFD_CLOEXEC);
        if (begun_fd < 0 || ftruncate(begun_fd, sizeof *begun) < 0)
                bench_die("memfd: %s", strerror(errno));
        begun = (_Atomic pid_t *)mmap(NULL, sizeof *begun, PROT_READ | PROT_WRITE, MAP_SHARED, begun_fd, 0);
        if (begun == MAP_FAILED)
                bench_die("mmap: %s", strerror(errno));
}

int main(int argc, char **argv)
{
        brood_check("brood_main", brood_main(argc, argv));
        struct bench_options o = bench_options_parse(argc, argv);
        bool report = !strcmp(o.figure, "death-report"), by_fork = !strcmp(o.peer, "brood_fork");
        int method = by_fork ? BROOD_START_FORK : BROOD_START_FORKSERVER;
        struct took took;
        brood_pool *pool;

        share_begun();
        if (!strcmp(o.figure, "large-host") && (by_fork || !strcmp(o.peer, "brood"))) {
                bench_report("pool", &o, large_host_times(replaced_in_new_pool, &method, o.count), "times");
        } else if (strcmp(o.peer, "brood") != 0) {
                bench_options_unknown(&o, "those of brood; large-host of brood_fork");
        } else if (!strcmp(o.figure, "large-host-grown")) {
                pool = pool_of_one();
                bench_report("pool", &o, large_host_times(replaced_in, &pool, o.count), "times");
                brood_end(pool);
        } else if (report || !strcmp(o.figure, "death-replaced")) {
                pool = pool_of_one();
                took = kill_many(pool, o.count);
                bench_report("pool", &o, report ? took.report : took.replaced, "ms");
                brood_end(pool);
        } else {
                bench_options_unknown(&o, "death-report, death-replaced, large-host, large-host-grown");
        }
        return 0;
}
