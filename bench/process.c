/* SPDX-License-Identifier: MIT
 *
 * process.c: what one process costs from its start to its end, in us, from a small parent; and how much more from a large one.
 *
 *     start-join                    new, start, join and free of a process with a trivial target
 *         brood                     by fork
 *         fork                      fork, _exit, waitid: what nobody can beat who forks
 *     start-join-spawn              the same by spawn
 *         brood
 *         posix_spawn               this program again, which ends at once in main: the least that an exec of it costs
 *     start-join-forkserver         the same by the fork server, which is there
 *         brood
 *     exec                          a program that does nothing, /bin/true
 *         brood                     brood_process_exec, join, free
 *         posix_spawn               posix_spawn, waitpid
 *     fork-in-turn                  brood by fork over a bare fork, in turn in one process: the ratio of their medians
 *     exec-in-turn                  the same of brood_process_exec and posix_spawn, of /bin/true
 *     large-host                    times that a start takes longer from a parent that has touched 4 GiB than from one of 10 MiB
 *         brood                     by the fork server
 *         fork                      fork, _exit, waitid
 *     start-join-many               times that one takes longer beside 2,000 children that are alive than beside 10
 *         brood                     by fork
 *         brood_forkserver          by the fork server
 *         fork                      fork, _exit, waitid, beside children of a bare fork: what the kernel makes of it
 *         fork_pidfd                the same, beside children for each of which there is a pidfd
 */
#include "bench_brood.h"
#include "large_host.h"

#include <brood/process.h>

#include <spawn.h>
#include <sys/resource.h>
#include <sys/syscall.h>

extern char **environ;

static int target(void *arg)
{
        (void)arg;
        return 7;
}

static void check(int code, int expected)
{
        if (code != expected)
                bench_die("the exit code is %d instead of %d", code, expected);
}

static void one_by(brood_start_method method)
{
        brood_process *p;
        int code = 0;

        brood_check("brood_process_new",
                    brood_process_new(&p, &(brood_process_options){ .target = target, .start_method = method }));
        brood_check("brood_process_start", brood_process_start(p));
        brood_check("brood_process_join", brood_process_join(p, BROOD_FOREVER));
        brood_check("brood_process_exitcode", brood_process_exitcode(p, &code));
        check(code, 7);
        brood_process_free(p);
}

static void one_brood(void)
{
        one_by(BROOD_START_FORK);
}

static void one_spawn(void)
{
        one_by(BROOD_START_SPAWN);
}

static void one_forkserver(void)
{
        one_by(BROOD_START_FORKSERVER);
}

static void one_exec(void)
{
        static const char *const argv[] = { "/bin/true", NULL };
        brood_process *p;
        int code = -1;

        brood_check("brood_process_exec", brood_process_exec(&p, argv, NULL, NULL));
        brood_check("brood_process_join", brood_process_join(p, BROOD_FOREVER));
        brood_check("brood_process_exitcode", brood_process_exitcode(p, &code));
        check(code, 0);
        brood_process_free(p);
}

static void await(pid_t pid, int expected)
{
        siginfo_t si;

        if (waitid(P_PID, (id_t)pid, &si, WEXITED) < 0)
                bench_die("waitid: %s", strerror(errno));
        if (si.si_code != CLD_EXITED)
                bench_die("killed by signal %d", si.si_status);
        check(si.si_status, expected);
}

static void one_fork(void)
{
        pid_t pid = fork();

        if (pid < 0)
                bench_die("fork: %s", strerror(errno));
        if (pid == 0)
                _exit(target(NULL));
        await(pid, 7);
}

static void posix_spawn_of(const char *path, const char *argument, int expected)
{
        const char *const argv[] = { path, argument, NULL };
        pid_t pid;

        int error = posix_spawn(&pid, path, NULL, NULL, (char *const *)(uintptr_t)argv, environ);
        if (error != 0)
                bench_die("posix_spawn: %s", strerror(error));
        await(pid, expected);
}

static void one_true(void)
{
        posix_spawn_of("/bin/true", NULL, 0);
}

#define NOTHING "--nothing"

static void one_itself(void)
{
        posix_spawn_of("/proc/self/exe", NOTHING, 7);
}

static double us_of_one(void (*one)(void))
{
        uint64_t began = bench_now_ns();

        one();
        return (double)(bench_now_ns() - began) / 1e3;
}

static double us_of(void (*one)(void), uint64_t count)
{
        uint64_t began;

        for (uint64_t i = 0; i < bench_warmup(count); i++)
                one();
        began = bench_now_ns();
        for (uint64_t i = 0; i < count; i++)
                one();
        return (double)(bench_now_ns() - began) / 1e3 / (double)count;
}

/* How many times as long the one takes as the other.  They are done in turn, in random order: a figure of one alone depends on the
 * CPU on which the scheduler has come to put the child. */
static double times_in_turn(void (*one)(void), void (*other)(void), uint64_t count)
{
        double *each[2];
        uint64_t done[2] = { 0 };
        void (*const both[2])(void) = { one, other };

        for (int i = 0; i < 2; i++)
                if ((each[i] = malloc(count * sizeof *each[i])) == NULL)
                        bench_die("no memory");
        one();
        other();
        while (done[0] < count || done[1] < count) {
                int i = done[0] == count || (done[1] < count && (rand() & 1));
                each[i][done[i]++] = us_of_one(both[i]);
        }
        double medians[2];
        for (int i = 0; i < 2; i++) {
                medians[i] = bench_median(each[i], count);
                free(each[i]);
        }
        return medians[0] / medians[1];
}

/* The median: where the scheduler puts three processes on two CPUs changes the mean by more than what is looked for. */
static double median_us_of(const void *what, uint64_t count)
{
        void (*const *one)(void) = what;
        double *each = malloc(count * sizeof *each);

        if (each == NULL)
                bench_die("no memory");
        (*one)();
        for (uint64_t i = 0; i < count; i++)
                each[i] = us_of_one(*one);
        double median = bench_median(each, count);
        free(each);
        return median;
}

/* ---- many alive ---- */

enum { FEW = 10, MANY = 2000, MANY_SMOKE = 50 };

static int stay(void *arg)
{
        (void)arg;
        while (pause() < 0)
                ;
        return 0;
}

/* A child that stays until it is ended: a handle, or a pid with or without a pidfd. */
struct alive {
        brood_process *process;
        pid_t pid;
        int pidfd;
};

static void alive_by(struct alive *a, brood_start_method method)
{
        brood_check("brood_process_new",
                    brood_process_new(&a->process, &(brood_process_options){ .target = stay, .start_method = method }));
        brood_check("brood_process_start", brood_process_start(a->process));
}

static void alive_by_brood(struct alive *a)
{
        alive_by(a, BROOD_START_FORK);
}

static void alive_by_forkserver(struct alive *a)
{
        alive_by(a, BROOD_START_FORKSERVER);
}

static void alive_by_fork(struct alive *a)
{
        a->pid = fork();
        if (a->pid < 0)
                bench_die("fork: %s", strerror(errno));
        if (a->pid > 0)
                return;
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        stay(NULL);
}

static void alive_by_fork_pidfd(struct alive *a)
{
        alive_by_fork(a);
        a->pidfd = (int)syscall(SYS_pidfd_open, a->pid, 0);
        if (a->pidfd < 0)
                bench_die("pidfd_open: %s", strerror(errno));
}

static void end_alive(struct alive *a)
{
        brood_process_free(a->process);
        if (a->pid > 0) {
                kill(a->pid, SIGKILL);
                waitpid(a->pid, NULL, 0);
        }
        if (a->pidfd > 0)
                close(a->pidfd);
}

static double us_beside(int alive, void (*make)(struct alive *), void (*one)(void), uint64_t count)
{
        struct alive *all = calloc((size_t)alive, sizeof *all);

        if (all == NULL)
                bench_die("no memory");
        for (int i = 0; i < alive; i++)
                make(&all[i]);
        double median = median_us_of(&one, count);
        for (int i = 0; i < alive; i++)
                end_alive(&all[i]);
        free(all);
        return median;
}

static void allow_descriptors(rlim_t count)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_max < count)
                bench_skip("fewer than %d descriptors allowed", (int)count);
        if (limit.rlim_cur >= count)
                return;
        limit.rlim_cur = count;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
                bench_die("setrlimit: %s", strerror(errno));
}

static double times_of_many(const char *peer, uint64_t count)
{
        static const struct {
                const char *peer;
                void (*make)(struct alive *), (*one)(void);
        } all[] = {
                { "brood", alive_by_brood, one_brood },
                { "brood_forkserver", alive_by_forkserver, one_forkserver },
                { "fork", alive_by_fork, one_fork },
                { "fork_pidfd", alive_by_fork_pidfd, one_fork },
        };
        size_t i = 0;

        while (strcmp(all[i].peer, peer) != 0)
                i++;
        allow_descriptors(3 * MANY);
        double before = us_beside(FEW, all[i].make, all[i].one, count);
        double many = us_beside(count < 20 ? MANY_SMOKE : MANY, all[i].make, all[i].one, count);
        double after = us_beside(FEW, all[i].make, all[i].one, count);
        return 2 * many / (before + after);
}

int main(int argc, char **argv)
{
        if (argc > 1 && !strcmp(argv[1], NOTHING))
                return 7;
        brood_check("brood_main", brood_main(argc, argv));

        struct bench_options o = bench_options_parse(argc, argv);
        static const struct {
                const char *figure, *peer;
                void (*one)(void), (*other)(void);
        } all[] = {
                { "start-join", "brood", one_brood, NULL },
                { "start-join", "fork", one_fork, NULL },
                { "start-join-spawn", "brood", one_spawn, NULL },
                { "start-join-spawn", "posix_spawn", one_itself, NULL },
                { "start-join-forkserver", "brood", one_forkserver, NULL },
                { "exec", "brood", one_exec, NULL },
                { "exec", "posix_spawn", one_true, NULL },
                { "fork-in-turn", "brood", one_brood, one_fork },
                { "exec-in-turn", "brood", one_exec, one_true },
                { "large-host", "brood", one_forkserver, NULL },
                { "large-host", "fork", one_fork, NULL },
                { "start-join-many", "brood", NULL, NULL },
                { "start-join-many", "brood_forkserver", NULL, NULL },
                { "start-join-many", "fork", NULL, NULL },
                { "start-join-many", "fork_pidfd", NULL, NULL },
        };

        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
                if (strcmp(o.figure, all[i].figure) != 0 || strcmp(o.peer, all[i].peer) != 0)
                        continue;
                if (all[i].other != NULL)
                        bench_report("process", &o, times_in_turn(all[i].one, all[i].other, o.count), "times");
                else if (!strcmp(o.figure, "start-join-many"))
                        bench_report("process", &o, times_of_many(o.peer, o.count), "times");
                else if (!strcmp(o.figure, "large-host"))
                        bench_report("process", &o, large_host_times(median_us_of, &all[i].one, o.count), "times");
                else
                        bench_report("process", &o, us_of(all[i].one, o.count), "us");
                return 0;
        }
        bench_options_unknown(
            &o, "start-join of brood, fork; start-join-spawn of brood, posix_spawn; start-join-forkserver of "
                "brood; exec of brood, posix_spawn; fork-in-turn, exec-in-turn of brood; large-host of brood, fork; "
                "start-join-many of "
                "brood, brood_forkserver, fork, fork_pidfd");
        return 1;
}
