/* SPDX-License-Identifier: MIT
 *
 * tests/support/support.c: the watcher, the leak checks, and the small tools of the test programs.
 *
 * Two processes.  The watcher is the program as it was started; it forks the test process, which runs the cmocka
 * tests in a process group of its own.  The watcher is the child subreaper: whatever loses its parent below the test
 * process comes to the watcher, which reaps what has ended and can see what still runs.  (Were the test process the
 * subreaper, an orphan that ended would look there like a zombie that brood forgot, and a detached child would be the
 * child of the process that it was detached from.)
 *
 * cmocka catches SIGSEGV and its like, and jumps out of the handler into its own runner.  In a forked child this would
 * go on with the tests in the child.  So each test is called through run_one(), which puts back the dispositions that
 * the program was started with; a crash of the test process ends it, and the watcher says so.  A child that comes back
 * into the runner by a failed assertion is stopped in tear_down().
 */
#include "support.h"
#include "check.h"
#include "namespace.h"

#include <brood/process.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TREE_MAX 4096        /* processes that a look at /proc can hold */
#define FD_MAX 1024          /* descriptors that a baseline can hold */
#define ORPHAN_GRACE_MS 2000 /* what was told to die with its parent gets this long to be gone */
#define GDB_LIMIT_MS 10000
#define GDB_MAX 12 /* backtraces in one report */

static _Atomic uint64_t random_state;
static int rounds_given;  /* 0: not given */
static pid_t test_pid;    /* the process that runs the tests */
static pid_t watcher_pid; /* 0 with --no-fork, and if it is in another namespace */
static bool is_init;      /* the test process is PID 1: it adopts what loses its parent, and reaps it */

/* ---- time, chance ---- */

int64_t support_now_ms(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(int ms)
{
        struct timespec pause = { ms / 1000, (ms % 1000) * 1000000L };
        nanosleep(&pause, NULL);
}

/* splitmix64: the state is a counter, so that threads may draw without a lock. */
uint64_t support_random(uint64_t bound)
{
        uint64_t z = atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u) + 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        return bound ? z % bound : 0;
}

int support_rounds(int normal)
{
        return rounds_given > 0 ? rounds_given : normal;
}

bool support_until(bool (*condition)(void *arg), void *arg, int limit_ms)
{
        int64_t end = support_now_ms() + limit_ms;
        for (;;) {
                if (condition(arg))
                        return true;
                if (support_now_ms() >= end)
                        return false;
                pause_ms(1);
        }
}

/* ---- /proc ---- */

/* Read a small file of /proc into `buf` as a string; returns its length, -1 when it cannot be read. */
static ssize_t read_proc(const char *path, char *buf, size_t room)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        size_t have = 0;
        ssize_t n;
        while (have < room - 1 && (n = read(fd, buf + have, room - 1 - have)) != 0) {
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        close(fd);
                        return -1;
                }
                have += (size_t)n;
        }
        close(fd);
        buf[have] = '\0';
        return (ssize_t)have;
}

struct process {
        pid_t pid, ppid, pgrp, session;
        char state; /* of its first thread */
        int threads;
        char comm[32];
};

static bool look_at(pid_t pid, struct process *p)
{
        char path[64], stat[1024];
        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        if (read_proc(path, stat, sizeof stat) <= 0)
                return false;
        char *open = strchr(stat, '('), *close = strrchr(stat, ')'); /* the name may hold both */
        /* The state, whose child, group and session; 13 that are of no use here; the number of threads. */
        static const char fields[] = " %c %d %d %d %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %d";
        int ppid, pgrp, session;
        if (!open || !close || sscanf(close + 1, fields, &p->state, &ppid, &pgrp, &session, &p->threads) != 5)
                return false;
        p->pid = pid;
        p->ppid = ppid;
        p->pgrp = pgrp;
        p->session = session;
        *close = '\0';
        snprintf(p->comm, sizeof p->comm, "%s", open + 1);
        return true;
}

/* All processes of the system; returns how many. */
static int look_around(struct process *all, int room)
{
        DIR *dir = opendir("/proc");
        if (!dir)
                return 0;
        int n = 0;
        struct dirent *entry;
        while (n < room && (entry = readdir(dir)))
                if (isdigit((unsigned char)entry->d_name[0]) && look_at((pid_t)atoi(entry->d_name), &all[n]))
                        n++;
        closedir(dir);
        return n;
}

char support_process_state(pid_t pid)
{
        struct process p;
        return pid > 0 && look_at(pid, &p) ? p.state : 0;
}

static bool is_gone(void *arg)
{
        struct process p;
        if (!look_at(*(pid_t *)arg, &p) || p.state == 'X')
                return true;
        /* The first of several threads may be a zombie before the others have ended. */
        return p.state == 'Z' && p.threads <= 1;
}

bool support_process_gone(pid_t pid, int limit_ms)
{
        return support_until(is_gone, &pid, limit_ms);
}

pid_t support_parent_of(pid_t pid)
{
        struct process p;
        return pid > 0 && look_at(pid, &p) ? p.ppid : -1;
}

/* The children of a process; `room` of them are written. */
static int children_of(pid_t pid, struct process *children, int room)
{
        DIR *dir = opendir("/proc");
        if (!dir)
                return -1;
        int n = 0;
        struct dirent *entry;
        struct process p;
        while ((entry = readdir(dir))) {
                if (!isdigit((unsigned char)entry->d_name[0]) || !look_at((pid_t)atoi(entry->d_name), &p) ||
                    p.ppid != pid)
                        continue;
                if (n < room)
                        children[n] = p;
                n++;
        }
        closedir(dir);
        return n;
}

int support_count_children(pid_t pid)
{
        return children_of(pid, NULL, 0);
}

int support_zombies(pid_t *ret_pids, int room)
{
        static struct process children[256];
        int n = 0, count = children_of(getpid(), children, 256);
        for (int i = 0; i < count && i < 256; i++)
                if (children[i].state == 'Z' && n < room)
                        ret_pids[n++] = children[i].pid;
        return n;
}

int support_children(pid_t pid, pid_t *ret_pids, int room)
{
        static struct process children[TREE_MAX];
        int n = children_of(pid, children, TREE_MAX);
        for (int i = 0; i < n && i < room && i < TREE_MAX; i++)
                ret_pids[i] = children[i].pid;
        return n;
}

int support_count_descriptors(void)
{
        DIR *dir = opendir("/proc/self/fd");
        if (!dir)
                return -1;
        int n = 0;
        struct dirent *entry;
        while ((entry = readdir(dir)))
                if (isdigit((unsigned char)entry->d_name[0]) && atoi(entry->d_name) != dirfd(dir))
                        n++;
        closedir(dir);
        return n;
}

/* Counts the lines of /proc/self/maps that contain `text`, without touching the heap, which would change the count. */
static int count_maps(const char *text, bool print)
{
        static char line[4096 + 256];
        int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        char buf[4096];
        size_t have = 0;
        int count = 0;
        ssize_t n;
        while ((n = read(fd, buf, sizeof buf)) != 0) {
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        break;
                }
                for (ssize_t i = 0; i < n; i++) {
                        if (buf[i] != '\n') {
                                if (have < sizeof line - 1)
                                        line[have++] = buf[i];
                                continue;
                        }
                        line[have] = '\0';
                        have = 0;
                        if (!strstr(line, text))
                                continue;
                        count++;
                        if (print)
                                fprintf(stderr, "    %s\n", line);
                }
        }
        close(fd);
        return count;
}

int support_count_mappings(void)
{
        return count_maps("", false);
}

int support_count_shared_mappings(void)
{
        return count_maps("-s ",
                          false); /* the end of the permissions, as in "rw-s"; nothing of brood's is executable */
}

/* ---- leak checks ---- */

struct baseline {
        bool taken;
        bool fds[FD_MAX];
        int memfd_mappings;
        int shm_names;
        pid_t children[64]; /* those that ran before the test began */
        int child_count;
        int orphan_count;
        pid_t orphans[64];
};

static struct baseline baseline;

static void look_at_fds(bool fds[FD_MAX])
{
        memset(fds, 0, FD_MAX * sizeof fds[0]);
        DIR *dir = opendir("/proc/self/fd");
        if (!dir)
                return;
        struct dirent *entry;
        while ((entry = readdir(dir))) {
                int fd = atoi(entry->d_name);
                if (isdigit((unsigned char)entry->d_name[0]) && fd != dirfd(dir) && fd < FD_MAX)
                        fds[fd] = true;
        }
        closedir(dir);
}

static int count_shm_names(bool print)
{
        DIR *dir = opendir("/dev/shm");
        if (!dir)
                return 0;
        int n = 0;
        struct dirent *entry;
        while ((entry = readdir(dir))) {
                if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
                        continue;
                n++;
                if (print)
                        fprintf(stderr, "    /dev/shm/%s\n", entry->d_name);
        }
        closedir(dir);
        return n;
}

static int warm_up_target(void *arg)
{
        (void)arg;
        return 0;
}

int support_warm_up(void)
{
        brood_process *p;
        /* By fork, whatever the default is: a fork server would be a child that stays. */
        int r = brood_process_new(
            &p, &(brood_process_options){ .target = warm_up_target, .start_method = BROOD_START_FORK });
        if (r == 0) {
                r = brood_process_start(p);
                if (r == 0) {
                        pid_t ended = brood_wait(NULL, BROOD_FOREVER);
                        r = ended < 0 ? ended : 0;
                }
                brood_process_free(p);
        }
        if (r == -ENOSYS) {
                /* valgrind 3.19 knows no pidfd; what does without processes can be tested there all the same. */
                fprintf(stderr, "support: no pidfds here, so no brood process\n");
                return 0;
        }
        if (r < 0) {
                fprintf(stderr, "support: the first brood process failed: %s\n", strerror(-r));
                return -1;
        }
        pid_t nobody = brood_wait(NULL, 0);
        if (nobody != -ECHILD) {
                fprintf(stderr, "support: brood_wait() with no child returned %d instead of -ECHILD\n", (int)nobody);
                return -1;
        }
        return 0;
}

static bool listed(pid_t pid, const pid_t *list, int count)
{
        for (int i = 0; i < count; i++)
                if (list[i] == pid)
                        return true;
        return false;
}

/* What runs now and did not run when the baseline was taken.  Zombies of the watcher are about to be reaped there. */
static int new_processes(struct process *found, int room)
{
        int n = 0;
        struct process some[64];
        int count = children_of(getpid(), some, 64);
        for (int i = 0; i < count && i < 64; i++) {
                if (is_init && waitpid(some[i].pid, NULL, WNOHANG | __WALL) == some[i].pid)
                        continue;
                if (n < room && !listed(some[i].pid, baseline.children, baseline.child_count))
                        found[n++] = some[i];
        }
        if (!watcher_pid)
                return n;
        count = children_of(watcher_pid, some, 64);
        for (int i = 0; i < count && i < 64; i++)
                if (n < room && some[i].pid != getpid() && some[i].state != 'Z' && some[i].state != 'X' &&
                    !listed(some[i].pid, baseline.orphans, baseline.orphan_count))
                        found[n++] = some[i];
        return n;
}

static bool no_new_orphan(void *arg)
{
        (void)arg;
        struct process found[64];
        int n = new_processes(found, 64);
        for (int i = 0; i < n; i++)
                if (is_init || found[i].ppid == watcher_pid)
                        return false;
        return true;
}

int support_setup(void **state)
{
        (void)state;
        static bool warm;
        if (!warm && support_warm_up() < 0)
                return -1;
        warm = true;

        struct process some[64];
        int n = children_of(getpid(), some, 64);
        baseline.child_count = n < 64 ? n : 64;
        for (int i = 0; i < baseline.child_count; i++)
                baseline.children[i] = some[i].pid;
        baseline.orphan_count = 0;
        if (watcher_pid) {
                n = children_of(watcher_pid, some, 64);
                baseline.orphan_count = n < 64 ? n : 64;
                for (int i = 0; i < baseline.orphan_count; i++)
                        baseline.orphans[i] = some[i].pid;
        }
        look_at_fds(baseline.fds);
        baseline.memfd_mappings = count_maps("/memfd:", false);
        baseline.shm_names = count_shm_names(false);
        baseline.taken = true;
        return 0;
}

int support_teardown(void **state)
{
        (void)state;
        if (!baseline.taken)
                return 0;
        int leaks = 0;

        /* An orphan may still be on its way out; a child of this process must have been reaped by now. */
        support_until(no_new_orphan, NULL, ORPHAN_GRACE_MS);
        struct process found[64];
        int n = new_processes(found, 64);
        for (int i = 0; i < n; i++) {
                fprintf(stderr, "leak: process %d (%s), state %c, %s\n", (int)found[i].pid, found[i].comm,
                        found[i].state, found[i].ppid == getpid() ? "a child of the test" : "an orphan");
                kill(found[i].pid, SIGKILL);
                if (found[i].ppid == getpid())
                        waitpid(found[i].pid, NULL, __WALL);
                else
                        support_process_gone(found[i].pid, ORPHAN_GRACE_MS);
                leaks++;
        }

        bool fds[FD_MAX];
        look_at_fds(fds);
        for (int fd = 0; fd < FD_MAX; fd++) {
                if (fds[fd] == baseline.fds[fd])
                        continue;
                char path[64], target[256] = "";
                snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
                ssize_t length = readlink(path, target, sizeof target - 1);
                target[length > 0 ? length : 0] = '\0';
                fprintf(stderr, fds[fd] ? "leak: descriptor %d is %s\n" : "leak: descriptor %d was closed%s\n", fd,
                        target);
                leaks++;
        }

        int mappings = count_maps("/memfd:", false);
        if (mappings != baseline.memfd_mappings) {
                fprintf(stderr, "leak: %d mappings of memfds, %d before the test:\n", mappings,
                        baseline.memfd_mappings);
                count_maps("/memfd:", true);
                leaks++;
        }
        if (count_shm_names(false) > baseline.shm_names) {
                fprintf(stderr, "leak: a new name in /dev/shm:\n");
                count_shm_names(true);
                leaks++;
        }
        baseline.taken = false;
        return leaks ? -1 : 0;
}

/* ---- the runner ---- */

static const int crash_signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS };
#define CRASH_SIGNALS (sizeof crash_signals / sizeof crash_signals[0])
static struct sigaction crash_actions[CRASH_SIGNALS];

static const struct CMUnitTest *current;
static int begun, returned; /* a test that skips or fails begins and does not return */

static int set_up(void **state)
{
        current = *state;
        *state = current->initial_state;
        return current->setup_func ? current->setup_func(state) : 0;
}

static void run_one(void **state)
{
        for (size_t i = 0; i < CRASH_SIGNALS; i++)
                sigaction(crash_signals[i], &crash_actions[i], NULL);
        begun++;
        current->test_func(state);
        returned++;
}

static int tear_down(void **state)
{
        if (getpid() != test_pid) {
                fprintf(stderr, "support: an assertion failed in the forked child %d\n", (int)getpid());
                _exit(99);
        }
        return current->teardown_func ? current->teardown_func(state) : 0;
}

static int run_all(const char *suite, const struct CMUnitTest *tests, size_t count)
{
        struct CMUnitTest *wrapped = calloc(count ? count : 1, sizeof *wrapped);
        if (!wrapped)
                return 1;
        for (size_t i = 0; i < count; i++)
                wrapped[i] =
                    (struct CMUnitTest){ tests[i].name, run_one, set_up, tear_down, (void *)(uintptr_t)&tests[i] };
        for (size_t i = 0; i < CRASH_SIGNALS; i++)
                sigaction(crash_signals[i], NULL, &crash_actions[i]);
        int failed = _cmocka_run_group_tests(suite, wrapped, count, NULL, NULL);
        free(wrapped);
        if (failed)
                return 1;
        if (begun == 0) {
                fprintf(stderr, "support: no test ran\n");
                return 1;
        }
        return returned == 0 ? 77 : 0;
}

/* ---- the watcher ---- */

static struct process around[TREE_MAX];

/* The processes that belong to the test: below the watcher, or in the group of the test process, or in a session that
 * one of those leads.  They come first in `around`. */
static int find_family(void)
{
        static bool family[TREE_MAX];
        int n = look_around(around, TREE_MAX);
        memset(family, 0, sizeof family);
        for (bool grew = true; grew;) {
                grew = false;
                for (int i = 0; i < n; i++) {
                        if (family[i] || around[i].pid == getpid())
                                continue;
                        bool belongs = around[i].ppid == getpid() || around[i].pgrp == test_pid;
                        for (int j = 0; j < n && !belongs; j++)
                                belongs = family[j] &&
                                          (around[i].ppid == around[j].pid || around[i].session == around[j].pid);
                        if (belongs)
                                family[i] = grew = true;
                }
        }
        int count = 0;
        for (int i = 0; i < n; i++)
                if (family[i])
                        around[count++] = around[i];
        return count;
}

static void print_proc(pid_t pid, const char *name, const char *label)
{
        char path[64], text[4096];
        snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
        ssize_t n = read_proc(path, text, sizeof text);
        if (n <= 0)
                return;
        while (n > 0 && isspace((unsigned char)text[n - 1]))
                text[--n] = '\0';
        fprintf(stderr, "    %-8s ", label);
        for (char *c = text; *c; c++) {
                fputc(*c, stderr);
                if (*c == '\n')
                        fprintf(stderr, "             ");
        }
        fputc('\n', stderr);
}

static void print_backtrace(pid_t pid)
{
        char number[16];
        snprintf(number, sizeof number, "%d", (int)pid);
        fflush(NULL);
        pid_t gdb = fork();
        if (gdb < 0)
                return;
        if (gdb == 0) {
                sigset_t none;
                sigemptyset(&none);
                sigprocmask(SIG_SETMASK, &none, NULL);
                setpgid(0, 0);
                int null = open("/dev/null", O_RDWR);
                dup2(null, STDIN_FILENO);
                dup2(STDERR_FILENO, STDOUT_FILENO);
                dup2(null, STDERR_FILENO); /* it complains about every library without symbols */
                execlp("gdb", "gdb", "-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex",
                       "thread apply all bt", "-p", number, (char *)NULL);
                _exit(127);
        }
        int64_t end = support_now_ms() + GDB_LIMIT_MS;
        while (waitpid(gdb, NULL, WNOHANG) == 0) {
                if (support_now_ms() >= end) {
                        fprintf(stderr, "    gdb took too long\n");
                        kill(gdb, SIGKILL);
                        waitpid(gdb, NULL, 0);
                        break;
                }
                pause_ms(10);
        }
}

static void report(bool with_gdb)
{
        int count = find_family();
        fprintf(stderr, "---- %d processes of the test ----\n", count);
        for (int i = 0; i < count; i++) {
                pid_t pid = around[i].pid;
                fprintf(stderr, "process %d (%s): state %c, parent %d, group %d, session %d%s\n", (int)pid,
                        around[i].comm, around[i].state, (int)around[i].ppid, (int)around[i].pgrp,
                        (int)around[i].session, pid == test_pid ? " [the test process]" : "");
                if (around[i].state == 'Z')
                        continue;
                print_proc(pid, "wchan", "wchan");
                print_proc(pid, "syscall", "syscall");
                print_proc(pid, "stack", "stack");
        }
        fflush(stderr);
        for (int i = 0, shown = 0; with_gdb && i < count && shown < GDB_MAX; i++) {
                if (around[i].state == 'Z')
                        continue;
                fprintf(stderr, "---- backtrace of process %d (%s) ----\n", (int)around[i].pid, around[i].comm);
                print_backtrace(around[i].pid);
                shown++;
        }
        fprintf(stderr, "---- end of report ----\n");
        fflush(stderr);
}

/* Kill the test's processes until none is found; they may be forking meanwhile. */
static void kill_family(void)
{
        int64_t end = support_now_ms() + 10000;
        for (;;) {
                int alive = 0, count = find_family();
                for (int i = 0; i < count; i++) {
                        if (around[i].state == 'Z' || around[i].state == 'X')
                                continue;
                        kill(around[i].pid, SIGKILL);
                        alive++;
                }
                while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
                        ;
                if (!alive)
                        return;
                if (support_now_ms() >= end) {
                        fprintf(stderr, "support: %d processes cannot be killed\n", alive);
                        return;
                }
                pause_ms(5);
        }
}

static int watch(const char *suite, int limit_seconds, int signals)
{
        int64_t end = support_now_ms() + (int64_t)limit_seconds * 1000;
        int status = 0;
        for (bool ended = false; !ended;) {
                int64_t left = end - support_now_ms();
                struct pollfd pfd = { .fd = signals, .events = POLLIN };
                int r = poll(&pfd, 1, left > 0 ? (int)left : 0);
                struct signalfd_siginfo info = { 0 };
                if (r > 0 && read(signals, &info, sizeof info) == sizeof info && info.ssi_signo != SIGCHLD) {
                        fprintf(stderr, "support: %s: the watcher got signal %u\n", suite, info.ssi_signo);
                        /* No gdb: who sends the signal (meson's time limit) follows up with SIGKILL a second later. */
                        report(false);
                        kill_family();
                        return 1;
                }
                pid_t pid;
                int one;
                while ((pid = waitpid(-1, &one, WNOHANG | __WALL)) > 0) {
                        if (pid != test_pid)
                                continue;
                        status = one;
                        ended = true;
                }
                if (!ended && support_now_ms() >= end) {
                        fprintf(stderr, "support: %s: not done after %d seconds\n", suite, limit_seconds);
                        report(true);
                        kill_family();
                        return 1;
                }
        }

        int result = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        if (WIFSIGNALED(status))
                fprintf(stderr, "support: %s: the test process was killed by signal %d (%s)\n", suite, WTERMSIG(status),
                        strsignal(WTERMSIG(status)));
        int64_t grace = support_now_ms() + ORPHAN_GRACE_MS;
        int left;
        do {
                while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
                        ;
                left = find_family();
        } while (left && support_now_ms() < grace && (pause_ms(5), true));
        if (left) {
                fprintf(stderr, "support: %s: the test process left processes behind\n", suite);
                report(true);
                kill_family();
                result = 1;
        }
        return result;
}

static int usage(const char *program)
{
        fprintf(stderr, "usage: %s [--seed N] [--rounds N] [--filter PATTERN] [--no-fork]\n", program);
        return 2;
}

static bool read_number(const char *text, uint64_t *ret_value)
{
        char *rest;
        errno = 0;
        unsigned long long value = strtoull(text, &rest, 0);
        if (errno || rest == text || *rest)
                return false;
        *ret_value = value;
        return true;
}

static void become_init(void)
{
        int r = namespace_mount_proc();
        if (r < 0) {
                fprintf(stderr, "support: no /proc of one's own here: %s\n", strerror(-r));
                _exit(77);
        }
        is_init = true;
        watcher_pid = 0;
}

int support_main(int argc, char **argv, const char *suite, const struct CMUnitTest *tests, size_t count,
                 int limit_seconds)
{
        uint64_t seed = 0, rounds = 0;
        const char *text;
        bool fork_off = getenv("BROOD_TEST_NO_FORK") == NULL;
        if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
                seed = (uint64_t)support_now_ms();
        seed &= 0xffffffffu; /* short enough to type */
        if ((text = getenv("BROOD_TEST_SEED")) && *text && !read_number(text, &seed))
                return usage(argv[0]);
        if ((text = getenv("BROOD_TEST_ROUNDS")) && *text && !read_number(text, &rounds))
                return usage(argv[0]);
        for (int i = 1; i < argc; i++) {
                if (!strcmp(argv[i], "--no-fork"))
                        fork_off = false;
                else if (!strcmp(argv[i], "--seed") && i + 1 < argc && read_number(argv[i + 1], &seed))
                        i++;
                else if (!strcmp(argv[i], "--rounds") && i + 1 < argc && read_number(argv[i + 1], &rounds))
                        i++;
                else if (!strcmp(argv[i], "--filter") && i + 1 < argc)
                        cmocka_set_test_filter(argv[++i]);
                else
                        return usage(argv[0]);
        }
        atomic_store(&random_state, seed);
        rounds_given = rounds < 1000000000 ? (int)rounds : 1000000000;
        if (CHECK_ASAN || CHECK_TSAN)
                limit_seconds *= 4;
        setvbuf(stdout, NULL, _IOLBF, 0);
        printf("%s: --seed %llu\n", suite, (unsigned long long)seed);
        fflush(stdout);

        signal(SIGCHLD, SIG_DFL); /* whoever started this program may have had it ignored */
        if (!fork_off) {
                test_pid = getpid();
                return run_all(suite, tests, count);
        }

        sigset_t wanted, before;
        sigemptyset(&wanted);
        sigaddset(&wanted, SIGCHLD);
        sigaddset(&wanted, SIGTERM);
        sigaddset(&wanted, SIGINT);
        sigaddset(&wanted, SIGHUP);
        sigprocmask(SIG_BLOCK, &wanted, &before);
        int signals = signalfd(-1, &wanted, SFD_CLOEXEC);
        if (signals < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
                perror("support: signalfd or prctl");
                return 1;
        }
        watcher_pid = getpid();
        bool as_init = getenv("BROOD_TEST_INIT") != NULL;
        int refused = as_init ? namespace_begin() : 0;
        if (refused < 0) {
                fprintf(stderr, "support: no PID namespace here: %s\n", strerror(-refused));
                return 77;
        }
        test_pid = fork();
        if (test_pid < 0) {
                perror("support: fork");
                return 1;
        }
        if (test_pid == 0) {
                close(signals);
                test_pid = getpid();
                setpgid(0, 0);
                prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
                if (getppid() != (as_init ? 0 : watcher_pid))
                        _exit(1);
                if (as_init)
                        become_init();
                sigprocmask(SIG_SETMASK, &before, NULL);
                int result = run_all(suite, tests, count);
                if (getpid() != test_pid) /* a child that left its test some other way than by an assertion */
                        _exit(99);
                exit(result);
        }
        if (as_init)
                namespace_end();
        setpgid(test_pid, test_pid); /* in both, as a shell does: whoever comes first */
        int result = watch(suite, limit_seconds, signals);
        close(signals);
        return result;
}
