/* SPDX-License-Identifier: MIT
 *
 * bench.h: what the bench programs share: a clock, options, children that cannot be left behind, a start line.
 *
 * A bench program measures one figure of one peer and prints one line, `figure.peer value unit`.  It warms up first, times
 * with the monotonic clock, and proves that the work was done: a program whose books do not balance exits with 1 and
 * prints no figure.  run.py calls the programs in turn, so that every number has its peer's beside it.
 *
 * A peer that is not to be had on this machine is a skip: bench_skip() says why, and run.py tells it.
 *
 * Only the public headers of brood are used in the bench programs, as a user of the library would use them.  This one is C++ as
 * well, for the peers that are.
 */
#ifndef BENCH_H
#define BENCH_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifndef __cplusplus
#include <stdatomic.h>
#endif

#define BENCH_CACHE_PAIR 128 /* x86 fetches cache lines in pairs: what two processes write lies this far apart */
#define BENCH_SKIP 77
#define BENCH_SPINS 64

/* Loops are inlined into each peer's own copy with its functions and sizes known, so that no peer pays for an indirect call. */
#define EACH_PEER static inline __attribute__((always_inline))

__attribute__((noreturn, format(printf, 1, 2))) static inline void bench_die(const char *format, ...)
{
        va_list ap;

        fputs("bench: ", stderr);
        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
        exit(1);
}

/* What is not to be had here is neither measured nor a failure. */
__attribute__((noreturn, format(printf, 1, 2))) static inline void bench_skip(const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
        exit(BENCH_SKIP);
}

static inline uint64_t bench_clock_ns(clockid_t clock)
{
        struct timespec ts;

        clock_gettime(clock, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline uint64_t bench_now_ns(void)
{
        return bench_clock_ns(CLOCK_MONOTONIC);
}

/* What all threads of this process have used, in user mode and in the kernel. */
static inline uint64_t bench_cpu_ns(void)
{
        return bench_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static inline void bench_sleep_ns(uint64_t ns)
{
        struct timespec ts = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };

        while (clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, &ts) == EINTR)
                ;
}

static inline void bench_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
}

/* One step of waiting for another process without sleeping: it may be at work on the other CPU, or have none to work on. */
static inline void bench_relax(unsigned *tries)
{
        if (++*tries < BENCH_SPINS)
                bench_pause();
        else
                sched_yield();
}

/* Keep this process on the n-th of the CPUs that it may use, for figures about two CPUs; does nothing where there is one. */
static inline void bench_pin(int n)
{
        cpu_set_t usable, one;

        if (sched_getaffinity(0, sizeof usable, &usable) < 0 || CPU_COUNT(&usable) < 2)
                return;
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
                if (!CPU_ISSET(cpu, &usable) || n-- > 0)
                        continue;
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                sched_setaffinity(0, sizeof one, &one);
                return;
        }
}

struct bench_options {
        const char *figure;
        const char *peer;
        uint64_t count;
};

/* --figure NAME --peer NAME --count N, all three required. */
static inline struct bench_options bench_options_parse(int argc, char **argv)
{
        static const struct option known[] = {
                { "figure", required_argument, NULL, 'f' },
                { "peer", required_argument, NULL, 'p' },
                { "count", required_argument, NULL, 'c' },
                { NULL, 0, NULL, 0 },
        };
        struct bench_options o = { NULL, NULL, 0 };
        char *end = NULL;
        int c;

        while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
                if (c == 'f') {
                        o.figure = optarg;
                } else if (c == 'p') {
                        o.peer = optarg;
                } else if (c == 'c') {
                        errno = 0;
                        o.count = strtoull(optarg, &end, 10);
                        if (errno || end == optarg || *end || *optarg == '-' || o.count > 1000000000u)
                                bench_die("--count %s: want a number from 1 to 1000000000", optarg);
                } else {
                        exit(2);
                }
        }
        if (!o.figure || !o.peer || !o.count || optind != argc) {
                fprintf(stderr, "usage: %s --figure NAME --peer NAME --count N\n", argv[0]);
                exit(2);
        }
        return o;
}

__attribute__((noreturn)) static inline void bench_options_unknown(const struct bench_options *o, const char *known)
{
        fprintf(stderr, "bench: no figure '%s' of peer '%s'; known: %s\n", o->figure, o->peer, known);
        exit(2);
}

/* The program's one line of output. */
static inline void bench_report(const char *stem, const struct bench_options *o, double value, const char *unit)
{
        printf("%s.%s.%s %.6g %s\n", stem, o->figure, o->peer, value, unit);
}

/* What a figure does before it is timed: a tenth of the count, at least one. */
static inline uint64_t bench_warmup(uint64_t count)
{
        return count / 10 ? count / 10 : 1;
}

static inline int bench_compare(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

/* The median of `count` numbers, which are sorted by that. */
static inline double bench_median(double *each, size_t count)
{
        qsort(each, count, sizeof *each, bench_compare);
        return count % 2 ? each[count / 2] : (each[count / 2 - 1] + each[count / 2]) / 2;
}

/* Shared anonymous memory, zeroed and already touched: no timed run pays for a first page fault. */
static inline void *bench_shared(size_t size)
{
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

        if (p == MAP_FAILED)
                bench_die("mmap of %zu bytes: %s", size, strerror(errno));
        return p;
}

/* fork() for the bench's own roles: the child dies with the program. */
static inline pid_t bench_fork(void)
{
        pid_t parent = getpid(), pid;

        fflush(NULL);
        pid = fork();
        if (pid < 0)
                bench_die("fork: %s", strerror(errno));
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent)
                        _exit(1);
        }
        return pid;
}

static inline void bench_reap(pid_t pid)
{
        siginfo_t si;
        int r;

        do {
                memset(&si, 0, sizeof si);
                r = waitid(P_PID, (id_t)pid, &si, WEXITED);
        } while (r < 0 && errno == EINTR);
        if (r < 0 || si.si_code != CLD_EXITED || si.si_status != 0)
                bench_die("a child failed (status %d)", r < 0 ? -errno : si.si_status);
}

/* A start line in shared memory: everybody who comes waits until `parties` have come.  Used outside of what is timed. */
struct bench_line {
        uint32_t arrived;
};

static inline void bench_line_wait(struct bench_line *line, uint32_t parties)
{
        __atomic_fetch_add(&line->arrived, 1, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&line->arrived, __ATOMIC_SEQ_CST) < parties)
                sched_yield();
}

#endif
