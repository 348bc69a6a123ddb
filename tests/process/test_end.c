/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_end.c: how children end, and what is told of it; the calls that end them by steps; and the tree: who this
 * process is, who its parent, and which children run.
 */
#include "group.h"
#include "setting.h"

#include <brood/log.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define MS INT64_C(1000000)

/* ---- reports ---- */

static int64_t wall(void)
{
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        return now.tv_sec * 1000 * MS + now.tv_nsec;
}

static int64_t cpu_used(void)
{
        struct timespec now;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return now.tv_sec * 1000 * MS + now.tv_nsec;
}

enum { BURNT_MS = 60, TOUCHED_MIB = 48 };

static int burn(void *unused)
{
        (void)unused;
        size_t size = (size_t)TOUCHED_MIB << 20;
        char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return 1;
        memset(memory, 1, size);
        while (cpu_used() < BURNT_MS * MS)
                ;
        return 9;
}

static void test_report(void **state)
{
        (void)state;
        brood_process_report report;
        int64_t before = wall();
        brood_process *p = start_bare(burn);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        int64_t after = wall();
        assert_int_equal(brood_process_get_report(p, &report), 0);
        assert_int_equal(report.pid, brood_process_pid(p));
        assert_false(report.core_dumped);
        assert_in_range(report.started_ns, before, after);
        assert_in_range(report.ended_ns, report.started_ns, after);
        expect_exitcode(p, 9);
        if (setting == SETTING_DEFAULT || method == BROOD_START_FORKSERVER)
                assert_true(report.measured); /* elsewhere a stranger may have been quicker */
        if (report.measured) {
                assert_int_equal(report.exitcode, 9);
                /* A clock of ticks may be some of them behind. */
                assert_true(report.user_ns + report.system_ns >= BURNT_MS / 2 * MS);
                assert_true(report.peak_memory >= (int64_t)TOUCHED_MIB << 20);
        } else {
                assert_int_equal(report.user_ns, 0);
                assert_int_equal(report.peak_memory, 0);
        }
        brood_process_free(p);
}

static void test_report_of_one_that_runs(void **state)
{
        (void)state;
        brood_process_report report;
        memset(&report, 0x55, sizeof report);
        const brood_process_report before = report;
        brood_process *p = NULL;
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = wait_for_ever, METHOD }), 0);
        assert_int_equal(brood_process_get_report(p, &report), -EINVAL);
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_get_report(p, &report), -EAGAIN);
        assert_int_equal(brood_process_get_report(NULL, &report), -EINVAL);
        assert_int_equal(brood_process_get_report(p, NULL), -EINVAL);
        assert_int_equal(brood_process_report_sized(p, &report, sizeof report + 8), -E2BIG);
        assert_memory_equal(&report, &before, sizeof report);
        assert_int_equal(brood_process_kill(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        /* A program that was built with a smaller struct gets what it knows. */
        assert_int_equal(brood_process_report_sized(p, &report, sizeof report.pid), 0);
        assert_int_equal(report.pid, brood_process_pid(p));
        assert_memory_equal((char *)&report + sizeof report.pid, (const char *)&before + sizeof report.pid,
                            sizeof report - sizeof report.pid);
        brood_process_free(p);
}

/* ---- out of memory ---- */

static char group[GROUP_PATH]; /* a control group with a limit of memory; "": none can be made here */

static int touch_too_much(void *unused)
{
        (void)unused;
        return group_touch_too_much();
}

static int outlive_a_child(void *unused)
{
        pid_t pid = fork();
        if (pid == 0)
                _exit(touch_too_much(unused));
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return 0;
}

static brood_process *start_in_group(int (*target)(void *arg))
{
        brood_process_options options = { .target = target, METHOD };
        options.setup.cgroup = group[0] ? group : NULL;
        return start_with(&options);
}

/* Join it: whether it was killed for want of memory. */
static bool out_of_memory(brood_process *p, int code)
{
        brood_process_report report;
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        assert_int_equal(brood_process_get_report(p, &report), 0);
        if (report.exitcode != BROOD_EXITCODE_UNKNOWN || setting == SETTING_DEFAULT)
                assert_int_equal(report.exitcode, code);
        brood_process_free(p);
        return report.out_of_memory && report.exitcode == code;
}

static void count_warnings(const brood_log_record *record, void *count)
{
        if (record->level == BROOD_LOG_WARNING && strstr(record->message, "out of memory"))
                ++*(int *)count;
}

static brood_process *exec_in_group(bool detached)
{
        brood_process *p = NULL;
        const char *const dd[] = { "dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1", NULL };
        const brood_process_options options = { .detached = detached, .setup = { .cgroup = group } };
        assert_int_equal(brood_process_exec(&p, dd, &options, NULL), 0);
        return p;
}

static void test_out_of_memory(void **state)
{
        (void)state;
        int r;
        group_make(group);
        bool certain = setting == SETTING_DEFAULT || kernel_tells();
        for (int i = 0; i < 2 && group[0]; i++) {
                r = out_of_memory(start_in_group(touch_too_much), -SIGKILL);
                assert_true(r || !certain);
                /* What was counted before it was there is none of its business. */
                brood_process *p = start_in_group(wait_for_ever);
                kill(brood_process_pid(p), SIGKILL);
                assert_false(out_of_memory(p, -SIGKILL));
                assert_false(out_of_memory(start_in_group(outlive_a_child), 0));
        }
        if (group[0]) {
                int warnings = 0;
                assert_int_equal(brood_log_to(count_warnings, &warnings, BROOD_LOG_WARNING), 0);
                r = out_of_memory(exec_in_group(false), -SIGKILL);
                assert_int_equal(brood_log_to_stderr(BROOD_LOG_OFF), 0);
                assert_true(r || !certain);
                assert_int_equal(warnings, r);
                r = out_of_memory(exec_in_group(true), -SIGKILL);
                assert_true(r || !kernel_tells());
                /* It is not alone: it may have been the other one. */
                brood_process *other = start_in_group(wait_for_ever);
                assert_false(out_of_memory(start_in_group(touch_too_much), -SIGKILL));
                /* By our own hand. */
                assert_int_equal(brood_process_kill(other), 0);
                assert_false(out_of_memory(other, -SIGKILL));
                assert_int_equal(brood_forkserver_stop(), 0);
                assert_true(support_until(group_remove, group, 20000));
        }
        /* No group, no proof. */
        group[0] = '\0';
        brood_process *p = start_in_group(wait_for_ever);
        kill(brood_process_pid(p), SIGKILL);
        assert_false(out_of_memory(p, -SIGKILL));
}

/* ---- ends ---- */

/* What a child does about the signals that ask it to end; it writes a byte when it does so. */
struct manner {
        bool deaf_to_interrupt, deaf_to_terminate;
        int ready;
};

static int behave(void *arg)
{
        struct manner *manner = arg;
        signal(SIGINT, manner->deaf_to_interrupt ? SIG_IGN : SIG_DFL);
        signal(SIGTERM, manner->deaf_to_terminate ? SIG_IGN : SIG_DFL);
        ask(write(manner->ready, "x", 1) == 1);
        return wait_for_ever(NULL);
}

static brood_process *start_with_manner(const struct manner *manner, int ready)
{
        char c;
        brood_process *p = start(behave, manner);
        ssize_t n;
        while ((n = read(ready, &c, 1)) < 0 && errno == EINTR)
                ;
        assert_int_equal(n, 1);
        return p;
}

static bool is_stopped(void *process)
{
        return support_process_state(brood_process_pid(process)) == 'T';
}

static void test_end(void **state)
{
        (void)state;
        enum { LONG_MS = 20000, SHORT_MS = 20 };
        int ready[2];
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        keep_descriptor(ready[1]);
        static const struct {
                bool deaf_to_interrupt, deaf_to_terminate, stopped;
                int interrupt_ms, terminate_ms, by;
        } cases[] = {
                { false, false, false, LONG_MS, LONG_MS, SIGINT },
                { true, false, false, SHORT_MS, LONG_MS, SIGTERM },
                { true, true, false, SHORT_MS, SHORT_MS, SIGKILL },
                { false, false, false, 0, LONG_MS, SIGTERM },
                { false, false, false, 0, 0, SIGKILL },
                { false, false, true, LONG_MS, LONG_MS, SIGINT },
                { true, false, true, 0, LONG_MS, SIGTERM },
                { true, true, true, SHORT_MS, SHORT_MS, SIGKILL },
        };
        for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
                const struct manner manner = { cases[i].deaf_to_interrupt, cases[i].deaf_to_terminate, ready[1] };
                brood_process *p = start_with_manner(&manner, ready[0]);
                if (cases[i].stopped) {
                        assert_int_equal(brood_process_suspend(p), 0);
                        assert_true(support_until(is_stopped, p, 20000));
                }
                assert_int_equal(brood_process_end(p, cases[i].interrupt_ms, cases[i].terminate_ms), cases[i].by);
                expect_exitcode(p, -cases[i].by);
                assert_int_equal(brood_process_end(p, 1, 1), 0); /* it has ended before */
                brood_process_free(p);
        }
        close(ready[0]);
        close(ready[1]);
}

static void test_suspend_and_resume(void **state)
{
        (void)state;
        struct gate gate;
        gate_make(&gate);
        brood_process *p = start(wait_for_gate, &gate);
        assert_int_equal(brood_process_suspend(p), 0);
        assert_true(support_until(is_stopped, p, 20000));
        gate_open(&gate);
        assert_int_equal(brood_process_is_alive(p), 1);
        assert_int_equal(brood_process_join(p, 50), -ETIMEDOUT);
        assert_int_equal(brood_process_resume(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 7);
        assert_int_equal(brood_process_suspend(p), -ESRCH);
        assert_int_equal(brood_process_resume(p), -ESRCH);
        assert_int_equal(brood_process_interrupt(p), -ESRCH);
        brood_process_free(p);
}

static void test_end_bad_input(void **state)
{
        (void)state;
        brood_process *p = NULL;
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = wait_for_ever, METHOD }), 0);
        assert_int_equal(brood_process_end(NULL, 1, 1), -EINVAL);
        assert_int_equal(brood_process_end(p, 1, 1), -EINVAL); /* never started */
        assert_int_equal(brood_process_interrupt(p), -EINVAL);
        assert_int_equal(brood_process_suspend(NULL), -EINVAL);
        assert_int_equal(brood_process_resume(NULL), -EINVAL);
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_end(p, -1, 1), -EINVAL);
        assert_int_equal(brood_process_end(p, 1, -1), -EINVAL);
        assert_int_equal(brood_process_is_alive(p), 1);
        brood_process_free(p);
}

/* ---- the tree ---- */

static int know_yourself(void *expected_parent)
{
        brood_process *self = brood_current_process();
        ask(self != NULL);
        ask(brood_process_pid(self) == getpid());
        ask(strcmp(brood_process_name(self), "Isaac") == 0);
        ask(brood_parent_pid() == *(pid_t *)expected_parent);
        struct pollfd parent = { .fd = brood_parent_sentinel(), .events = POLLIN };
        ask(parent.fd >= 0);
        ask(poll(&parent, 1, 0) == 0); /* it lives */
        ask(fcntl(parent.fd, F_GETFD) & FD_CLOEXEC);
        ask(brood_active_children(NULL, 0) == 0);
        return 5;
}

static void test_current_process(void **state)
{
        (void)state;
        assert_null(brood_current_process());
        assert_int_equal(brood_parent_pid(), -ESRCH);
        assert_int_equal(brood_parent_sentinel(), -ESRCH);
        pid_t self = getpid();
        brood_process *p = NULL;
        assert_int_equal(
            brood_process_new(&p, &(brood_process_options){ .target = know_yourself, GIVEN(&self), .name = "Isaac" }),
            0);
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 5);
        brood_process_free(p);
}

/* A plain fork of a child of brood is nobody's process. */
static int fork_plainly(void *unused)
{
        (void)unused;
        pid_t pid = fork();
        if (pid == 0)
                _exit(brood_current_process() == NULL && brood_parent_sentinel() == -ESRCH ? 0 : 1);
        siginfo_t info = { 0 };
        while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR)
                ;
        return setting != SETTING_DEFAULT ? 5 : info.si_status == 0 ? 5 : 6;
}

static void test_current_process_after_a_plain_fork(void **state)
{
        (void)state;
        brood_process *p = start_bare(fork_plainly);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 5);
        brood_process_free(p);
}

/* A detached process sees its parent's end; the others do not live to see it. */
static int report_parents_end(void *pipe_end)
{
        struct pollfd parent = { .fd = brood_parent_sentinel(), .events = POLLIN };
        char seen = poll(&parent, 1, 20000) == 1 ? 'y' : 'n';
        return write(*(int *)pipe_end, &seen, 1) == 1 ? 0 : 1;
}

static int host_that_ends(void *pipe_end)
{
        brood_process *p;
        ask(brood_process_new(&p, &(brood_process_options){
                                      .target = report_parents_end, GIVEN((int *)pipe_end), .detached = true }) == 0);
        ask(brood_process_start(p) == 0);
        return 0;
}

static void test_parent_sentinel(void **state)
{
        (void)state;
        int ends[2];
        char seen = 0;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        keep_descriptor(ends[1]);
        assert_int_equal(in_child(host_that_ends, &ends[1]), 0);
        ssize_t n;
        while ((n = read(ends[0], &seen, 1)) < 0 && errno == EINTR)
                ; /* by the end of an orphan */
        assert_int_equal(n, 1);
        assert_int_equal(seen, 'y');
        close(ends[0]);
        close(ends[1]);
}

static void test_active_children(void **state)
{
        (void)state;
        enum { N = 5 };
        struct gate gate;
        brood_process *p[N], *found[N + 2];
        assert_int_equal(brood_active_children(NULL, 0), 0);
        assert_int_equal(brood_active_children(NULL, 1), -EINVAL);
        gate_make(&gate);
        for (int i = 0; i < N; i++)
                p[i] = start(wait_for_gate, &gate);
        assert_int_equal(brood_active_children(found, N + 2), N);
        for (int i = 0; i < N; i++)
                assert_ptr_equal(found[i], p[N - 1 - i]);
        /* One from the middle, the first and the last go. */
        static const int order[] = { 2, 0, 4 };
        for (int i = 0; i < 3; i++) {
                assert_int_equal(brood_process_kill(p[order[i]]), 0);
                assert_int_equal(brood_process_join(p[order[i]], BROOD_FOREVER), 0);
                assert_int_equal(brood_active_children(found, 1), N - 1 - i);
        }
        assert_int_equal(brood_active_children(found, N), 2);
        assert_ptr_equal(found[0], p[3]);
        assert_ptr_equal(found[1], p[1]);
        /* One is freed while it runs. */
        brood_process_free(p[3]);
        p[3] = NULL;
        assert_int_equal(brood_active_children(found, N), 1);
        gate_open(&gate);
        for (int i = 0; i < N; i++) {
                if (p[i] != NULL)
                        assert_int_equal(brood_process_join(p[i], BROOD_FOREVER), 0);
                brood_process_free(p[i]);
        }
        assert_int_equal(brood_active_children(NULL, 0), 0);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                process_test(test_report),
                process_test(test_report_of_one_that_runs),
                process_test(test_out_of_memory),
                process_test(test_end),
                process_test(test_suspend_and_resume),
                process_test(test_end_bad_input),
                process_test(test_current_process),
                process_test(test_current_process_after_a_plain_fork),
                process_test(test_parent_sentinel),
                process_test(test_active_children),
        };
        return setting_main(argc, argv, "end", tests, ARRAY_LENGTH(tests), 80);
}
