/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_process.c: what brood/process.h promises of one call after another: making, starting, joining,
 * exit codes, names, classes, brood_fork() and brood_wait(), and what each of them makes of bad input.  Hosts that
 * make it hard (threads, signals, limits, sudden death) are in test_hosts.c.
 */
#include "setting.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* ---- exit codes ---- */

static void test_exit_codes(void **state)
{
        (void)state;
        static const int odd[] = { 256, 256 + 7, -1, -256 };
        for (int i = 0; i < 256 + (int)ARRAY_LENGTH(odd); i++) {
                int number = i < 256 ? i : odd[i - 256];
                brood_process *p = start(return_number, &number);
                assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                expect_exitcode(p, number & 255);
                brood_process_free(p);
        }
}

static int end_by_signal(void *number)
{
        signal(*(int *)number, SIG_DFL); /* a sanitizer may have its own */
        raise(*(int *)number);
        return 0;
}

static void test_signals_as_exit_codes(void **state)
{
        (void)state;
        static int signals[] = { SIGKILL, SIGSEGV, SIGTERM, SIGABRT, SIGUSR1, SIGPIPE };
        for (size_t i = 0; i < ARRAY_LENGTH(signals); i++) {
                brood_process *p = start(end_by_signal, &signals[i]);
                assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                expect_exitcode(p, -signals[i]);
                brood_process_free(p);
        }
}

static int call_exit(void *number)
{
        exit(*(int *)number);
}

static int call_quick_exit(void *number)
{
        _exit(*(int *)number);
}

static void test_exit_in_target(void **state)
{
        (void)state;
        int number = 5;
        brood_process *p = start(call_exit, &number), *q = start(call_quick_exit, &number);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        assert_int_equal(brood_process_join(q, BROOD_FOREVER), 0);
        expect_exitcode(p, 5);
        expect_exitcode(q, 5);
        brood_process_free(p);
        brood_process_free(q);
}

/* ---- one life ---- */

static void test_before_start(void **state)
{
        (void)state;
        int number = 0, code = 1234;
        brood_process *p = NULL;
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = return_number, GIVEN(&number) }), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), -EINVAL);
        assert_int_equal(brood_process_join(p, 0), -EINVAL);
        assert_int_equal(brood_process_exitcode(p, &code), -EINVAL);
        assert_int_equal(code, 1234);
        assert_int_equal(brood_process_is_alive(p), 0);
        assert_int_equal(brood_process_terminate(p), -EINVAL);
        assert_int_equal(brood_process_kill(p), -EINVAL);
        assert_int_equal(brood_process_pid(p), 0);
        assert_int_equal(brood_process_sentinel(p), -EINVAL);
        assert_int_equal(brood_wait(NULL, 0), -ECHILD); /* it is not a child yet */
        brood_process_free(p);
}

static void test_life(void **state)
{
        (void)state;
        struct gate gate;
        gate_make(&gate);
        int code = 1234;
        brood_process *p = start(wait_for_gate, &gate);
        pid_t pid = brood_process_pid(p);
        assert_true(pid > 0);
        assert_int_equal(support_parent_of(pid) == getpid(), method != BROOD_START_FORKSERVER);
        assert_int_equal(brood_process_start(p), -EALREADY);
        assert_int_equal(brood_process_is_alive(p), 1);
        assert_int_equal(brood_process_exitcode(p, &code), -EAGAIN);
        assert_int_equal(code, 1234);
        assert_int_equal(brood_process_join(p, 0), -EAGAIN);
        int64_t before = support_now_ms();
        assert_int_equal(brood_process_join(p, 50), -ETIMEDOUT);
        int64_t took = support_now_ms() - before;
        assert_in_range(took, 49, 2000);
        assert_int_equal(brood_process_is_alive(p), 1);

        gate_open(&gate);
        assert_int_equal(brood_process_join(p, -5), 0); /* any negative number waits */
        assert_int_equal(support_process_state(pid), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        assert_int_equal(brood_process_join(p, 0), 0);
        assert_int_equal(brood_process_join(p, 50), 0);
        assert_int_equal(brood_process_is_alive(p), 0);
        expect_exitcode(p, 7);
        expect_exitcode(p, 7);
        assert_int_equal(brood_process_start(p), -EALREADY);
        assert_int_equal(brood_process_terminate(p), -ESRCH);
        assert_int_equal(brood_process_kill(p), -ESRCH);
        assert_int_equal(brood_process_pid(p), pid);
        brood_process_free(p);
}

static void test_join_in_time(void **state)
{
        (void)state;
        int number = 3;
        brood_process *p = start(return_number, &number);
        assert_int_equal(brood_process_join(p, 30000), 0);
        expect_exitcode(p, 3);
        brood_process_free(p);
}

static int ignore_sigterm(void *arg)
{
        int *fds = arg;
        signal(SIGTERM, SIG_IGN);
        if (write(fds[1], "x", 1) != 1)
                return 1;
        return wait_for_ever(NULL);
}

static void test_terminate_and_kill(void **state)
{
        (void)state;
        brood_process *p = start_bare(wait_for_ever);
        assert_int_equal(brood_process_terminate(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, -SIGTERM);
        brood_process_free(p);

        int fds[2];
        char c;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        keep_descriptor(fds[1]);
        p = start(ignore_sigterm, &fds);
        assert_int_equal(read(fds[0], &c, 1), 1);
        assert_int_equal(brood_process_terminate(p), 0);
        assert_int_equal(brood_process_join(p, 50), -ETIMEDOUT);
        assert_int_equal(brood_process_kill(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, -SIGKILL);
        brood_process_free(p);
        close(fds[0]);
        close(fds[1]);
}

static void test_kill_of_ended_unjoined(void **state)
{
        (void)state;
        int number = 3;
        brood_process *p = start(return_number, &number);
        assert_true(support_process_gone(brood_process_pid(p), 10000));
        assert_int_equal(brood_process_terminate(p), -ESRCH);
        assert_int_equal(brood_process_kill(p), -ESRCH);
        assert_int_equal(brood_process_is_alive(p), 0);
        expect_exitcode(p, 3);
        brood_process_free(p);
}

static void test_free_while_running(void **state)
{
        (void)state;
        brood_process *p = start_bare(wait_for_ever);
        pid_t pid = brood_process_pid(p);
        brood_process_free(p);
        assert_int_equal(support_process_state(pid), 0);
        assert_int_equal(brood_wait(NULL, 0), -ECHILD);
        brood_process_free(NULL);
}

static void test_free_in_any_order(void **state)
{
        (void)state;
        enum { COUNT = 12 };
        for (int round = 0; round < 10; round++) {
                brood_process *p[COUNT];
                int number = 1;
                for (int i = 0; i < COUNT; i++) {
                        brood_process_options options = { .target = i % 3 ? wait_for_ever : return_number,
                                                          GIVEN(&number) };
                        assert_int_equal(brood_process_new(&p[i], &options), 0);
                        if (i % 4 == 3)
                                continue; /* never started */
                        assert_int_equal(brood_process_start(p[i]), 0);
                        if (i % 6 == 0)
                                assert_int_equal(brood_process_join(p[i], BROOD_FOREVER), 0);
                }
                for (int left = COUNT; left > 0; left--) {
                        int i = (int)support_random((uint64_t)left);
                        brood_process_free(p[i]);
                        p[i] = p[left - 1];
                }
                expect_no_children();
        }
}

/* What nobody has joined is a zombie only until the next call that may reap it. */
static void test_reaped_by_next_call(void **state)
{
        (void)state;
        int number = 9;
        for (int way = 0; way < 5; way++) {
                brood_process *p = start(return_number, &number);
                pid_t pid = brood_process_pid(p);
                assert_true(support_process_gone(pid, 10000));
                if (setting == SETTING_DEFAULT && method != BROOD_START_FORKSERVER) /* which reaps it at once */
                        assert_int_equal(support_process_state(pid), 'Z');
                brood_process *other = NULL;
                if (way == 0)
                        other = start_bare(wait_for_ever);
                else if (way == 1)
                        assert_int_equal(brood_wait(NULL, method == BROOD_START_FORKSERVER ? 20000 : 0), pid);
                else if (way == 2)
                        assert_int_equal(brood_process_is_alive(p), 0);
                else if (way == 3)
                        expect_exitcode(p, 9);
                else
                        assert_int_equal(brood_process_join(p, 0), 0);
                expect_exitcode(p, 9);
                assert_int_equal(support_process_state(pid), 0);
                brood_process_free(p);
                brood_process_free(other);
        }
}

static void test_sentinel(void **state)
{
        (void)state;
        struct gate gate;
        gate_make(&gate);
        brood_process *p = start(wait_for_gate, &gate);
        int fd = brood_process_sentinel(p);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        assert_int_equal(poll(&pfd, 1, 0), 0);
        gate_open(&gate);
        int r;
        while ((r = poll(&pfd, 1, 10000)) < 0 && errno == EINTR)
                ;
        assert_int_equal(r, 1);
        assert_true(pfd.revents & POLLIN);
        assert_int_equal(brood_process_join(p, 0), 0);
        assert_int_equal(poll(&pfd, 1, 0), 1); /* still readable after the join */
        assert_int_equal(brood_process_sentinel(p), fd);
        expect_exitcode(p, 7);
        brood_process_free(p);
}

static void *join_it(void *process)
{
        return (void *)(intptr_t)brood_process_join(process, BROOD_FOREVER);
}

static void test_join_from_threads(void **state)
{
        (void)state;
        struct gate gate;
        gate_make(&gate);
        brood_process *p = start(wait_for_gate, &gate);
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, join_it, p), 0);
        assert_int_equal(brood_process_join(p, 20), -ETIMEDOUT);
        gate_open(&gate);
        for (int i = 0; i < 4; i++) {
                void *result;
                assert_int_equal(pthread_join(threads[i], &result), 0);
                assert_ptr_equal(result, NULL);
        }
        expect_exitcode(p, 7);
        brood_process_free(p);
}

/* ---- bad input ---- */

static int class_run(brood_process *process)
{
        (void)process;
        return 0;
}

static void test_null(void **state)
{
        (void)state;
        int code = 1234;
        brood_process_options options = { .target = wait_for_ever };
        assert_int_equal(brood_process_new(NULL, &options), -EINVAL);
        assert_int_equal(brood_process_start(NULL), -EINVAL);
        assert_int_equal(brood_process_join(NULL, 0), -EINVAL);
        assert_int_equal(brood_process_join(NULL, BROOD_FOREVER), -EINVAL);
        assert_int_equal(brood_process_exitcode(NULL, &code), -EINVAL);
        assert_int_equal(brood_process_exitcode(NULL, NULL), -EINVAL);
        assert_int_equal(code, 1234);
        assert_int_equal(brood_process_is_alive(NULL), -EINVAL);
        assert_int_equal(brood_process_terminate(NULL), -EINVAL);
        assert_int_equal(brood_process_kill(NULL), -EINVAL);
        assert_int_equal(brood_process_pid(NULL), -EINVAL);
        assert_string_equal(brood_process_name(NULL), "");
        assert_int_equal(brood_process_sentinel(NULL), -EINVAL);
        assert_null(brood_process_self(NULL));
        assert_int_equal(brood_fork(NULL), -EINVAL);
        brood_process_free(NULL);

        brood_process *p = start(return_number, &(int){ 0 });
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        assert_int_equal(brood_process_exitcode(p, NULL), -EINVAL);
        brood_process_free(p);
}

static void expect_refused(const brood_process_options *options, int error)
{
        brood_process *untouched = (void *)0x10, *p = untouched;
        assert_int_equal(brood_process_new(&p, options), error);
        assert_ptr_equal(p, untouched);
}

static void test_bad_options(void **state)
{
        (void)state;
        static const brood_process_class good = { .run = class_run };
        static const brood_process_class without_run = { .name = "X", .size = 8 };
        static const brood_process_class too_large = { .run = class_run, .size = BROOD_PROCESS_STATE_MAX + 1 };
        static const brood_process_class vast = { .run = class_run, .size = SIZE_MAX };
        static const brood_process_class reserved = { .run = class_run, .reserved = { [3] = (void *)1 } };
        char name[BROOD_PROCESS_NAME_MAX + 2];
        memset(name, 'n', sizeof name - 1);
        name[sizeof name - 1] = '\0';

        expect_refused(NULL, -EINVAL);
        expect_refused(&(brood_process_options){ .name = "nothing to run" }, -EINVAL);
        expect_refused(&(brood_process_options){ .target = wait_for_ever, .process_class = &good }, -EINVAL);
        expect_refused(&(brood_process_options){ .process_class = &without_run }, -EINVAL);
        expect_refused(&(brood_process_options){ .process_class = &too_large }, -EINVAL);
        expect_refused(&(brood_process_options){ .process_class = &vast }, -EINVAL);
        expect_refused(&(brood_process_options){ .process_class = &reserved }, -EINVAL);
        expect_refused(&(brood_process_options){ .target = wait_for_ever, .name = "" }, -EINVAL);
        expect_refused(&(brood_process_options){ .target = wait_for_ever, .name = name }, -EINVAL);
}

static void test_options_of_other_versions(void **state)
{
        (void)state;
        struct {
                brood_process_options known;
                unsigned char more[40];
        } newer = { .known = { .target = wait_for_ever } };
        brood_process *untouched = (void *)0x10, *p = untouched;
        for (size_t i = 0; i < sizeof newer.more; i += 13) {
                newer.more[i] = 1;
                assert_int_equal(brood_process_new_sized(&p, &newer.known, sizeof newer), -E2BIG);
                assert_ptr_equal(p, untouched);
                newer.more[i] = 0;
        }
        assert_int_equal(brood_process_new_sized(&p, &newer.known, sizeof newer), 0);
        brood_process_free(p);

        /* An older program, whose struct ended before `name`: what lies beyond is not read. */
        brood_process_options older = { .target = wait_for_ever, .name = "", .detached = true };
        p = NULL;
        assert_int_equal(brood_process_new_sized(&p, &older, offsetof(brood_process_options, name)), 0);
        assert_int_equal(strncmp(brood_process_name(p), "Process-", 8), 0);
        brood_process_free(p);
        p = untouched;
        assert_int_equal(brood_process_new_sized(&p, &older, 0), -EINVAL);
        assert_ptr_equal(p, untouched);
}

/* ---- names ---- */

static unsigned number_in(const char *name, const char *kind)
{
        assert_int_equal(strncmp(name, kind, strlen(kind)), 0);
        char *end;
        unsigned long number = strtoul(name + strlen(kind), &end, 10);
        assert_int_equal(*end, 0);
        assert_true(number > 0);
        return (unsigned)number;
}

static void test_names(void **state)
{
        (void)state;
        static const brood_process_class named = { .name = "MyProcess", .run = class_run };
        static const brood_process_class unnamed = { .run = class_run };
        brood_process *p, *q;
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = wait_for_ever }), 0);
        assert_int_equal(brood_process_new(&q, &(brood_process_options){ .target = wait_for_ever }), 0);
        assert_int_equal(number_in(brood_process_name(q), "Process-"),
                         number_in(brood_process_name(p), "Process-") + 1);
        brood_process_free(p);
        brood_process_free(q);

        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .process_class = &named }), 0);
        number_in(brood_process_name(p), "MyProcess-");
        brood_process_free(p);
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .process_class = &unnamed }), 0);
        number_in(brood_process_name(p), "Process-");
        brood_process_free(p);

        char name[BROOD_PROCESS_NAME_MAX + 1];
        memset(name, 'n', sizeof name - 1);
        name[sizeof name - 1] = '\0';
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .process_class = &named, .name = name }), 0);
        memset(name, 'm', sizeof name - 1); /* it was copied */
        assert_int_equal(strlen(brood_process_name(p)), BROOD_PROCESS_NAME_MAX);
        assert_int_equal(brood_process_name(p)[0], 'n');
        const char *same = brood_process_name(p);
        assert_ptr_equal(same, brood_process_name(p));
        brood_process_free(p);

        /* A class's name may be of any length; the default name made of it may not. */
        char long_name[400];
        memset(long_name, 'c', sizeof long_name - 1);
        long_name[sizeof long_name - 1] = '\0';
        brood_process_class wordy = { .name = long_name, .run = class_run };
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .process_class = &wordy }), 0);
        assert_in_range(strlen(brood_process_name(p)), 1, BROOD_PROCESS_NAME_MAX);
        brood_process_free(p);
}

/* ---- classes ---- */

struct counter {
        int value;
        int from_init;
        int ended;
        long double aligned;
};

static int inits, finis;
static int counter_init(brood_process *process, void *arg)
{
        struct counter *self = brood_process_self(process);
        if (!self || self->value != 0 || self->from_init != 0 || (uintptr_t)self % _Alignof(max_align_t) != 0)
                return -EBADE;
        self->from_init = *(int *)arg;
        inits++;
        return self->from_init < 0 ? self->from_init : self->from_init == 77 ? 1 : 0;
}

/* 0 when all is as the parent left it. */
static int counter_run(brood_process *process)
{
        struct counter *self = brood_process_self(process);
        ask(self->from_init == 40);
        ask(self->value == 2);
        ask(brood_process_pid(process) == getpid());
        ask(strcmp(brood_process_name(process), "worker") == 0);
        self->value = 10000; /* which the parent never sees */
        return self->from_init + 2;
}

static void counter_fini(brood_process *process)
{
        struct counter *self = brood_process_self(process);
        finis += self->value == 2 ? 1 : 100;
}

static const brood_process_class counter_class = {
        .name = "Counter",
        .size = sizeof(struct counter),
        .init = counter_init,
        .run = counter_run,
        .fini = counter_fini,
};

static void test_class(void **state)
{
        (void)state;
        inits = finis = 0;
        brood_process *p;
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .process_class = &counter_class,
                                                                         .arg = &(int){ 40 },
                                                                         METHOD,
                                                                         .name = "worker" }),
                         0);
        assert_int_equal(inits, 1);
        struct counter *self = brood_process_self(p);
        assert_int_equal(self->from_init, 40);
        assert_int_equal(self->value, 0);
        self->value = 2;
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 42);
        assert_ptr_equal(brood_process_self(p), self);
        assert_int_equal(self->value, 2); /* the two were apart */
        assert_int_equal(finis, 0);
        brood_process_free(p);
        assert_int_equal(finis, 1);
        assert_int_equal(inits, 1);
}

static void test_class_init_fails(void **state)
{
        (void)state;
        inits = finis = 0;
        brood_process *untouched = (void *)0x10, *p = untouched;
        brood_process_options options = { .process_class = &counter_class, .arg = &(int){ -ENOKEY } };
        assert_int_equal(brood_process_new(&p, &options), -ENOKEY);
        assert_ptr_equal(p, untouched);
        assert_int_equal(inits, 1);
        assert_int_equal(finis, 0); /* nothing was made, so nothing ends */

        /* A positive value is no failure. */
        options.arg = &(int){ 77 };
        assert_int_equal(brood_process_new(&p, &options), 0);
        ((struct counter *)brood_process_self(p))->value = 2;
        brood_process_free(p);
        assert_int_equal(finis, 1);
}

static void test_class_without_state(void **state)
{
        (void)state;
        static const brood_process_class bare = { .run = class_run };
        brood_process *p;
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .process_class = &bare, METHOD }), 0);
        assert_null(brood_process_self(p));
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 0);
        brood_process_free(p);

        p = start(return_number, &(int){ 0 });
        assert_null(brood_process_self(p));
        brood_process_free(p);
}

/* A derived class: its base first in its struct, and the base's functions called. */
struct derived {
        struct counter base;
        char more[100];
};

static int derived_init(brood_process *process, void *arg)
{
        struct derived *self = brood_process_self(process);
        strcpy(self->more, "derived");
        return counter_init(process, arg);
}

static int derived_run(brood_process *process)
{
        struct derived *self = brood_process_self(process);
        return strcmp(self->more, "derived") == 0 ? counter_run(process) + 1 : 1;
}

static void test_derived_class(void **state)
{
        (void)state;
        brood_process_class class = counter_class; /* what it does not say itself it has from its base */
        class.name = "Derived";
        class.size = sizeof(struct derived);
        class.init = derived_init;
        class.run = derived_run;
        inits = finis = 0;
        brood_process *p;
        assert_int_equal(
            brood_process_new(
                &p, &(brood_process_options){ .process_class = &class, .arg = &(int){ 40 }, .name = "worker" }),
            0);
        ((struct counter *)brood_process_self(p))->value = 2;
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 43);
        brood_process_free(p);
        assert_int_equal(finis, 1);
}

/* The seed's `a`: the child has a copy of the parent's memory. */
static int a = 1;

static int change_a(void *arg)
{
        (void)arg;
        int seen = a;
        a = 10000;
        return seen;
}

static void test_memory_is_apart(void **state)
{
        (void)state;
        a = 1;
        brood_process *p = start_bare(change_a);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 1);
        assert_int_equal(a, 1);
        brood_process_free(p);
}

/* ---- handles in other processes ---- */

static brood_process *running, *unstarted, *ended;

/* What a forked child can do with what it inherited: look, but not join. */
static int use_inherited(void *arg)
{
        (void)arg;
        int code = 1234;
        ask(brood_process_join(running, 0) == -ECHILD);
        ask(brood_process_join(running, BROOD_FOREVER) == -ECHILD);
        ask(brood_process_join(ended, BROOD_FOREVER) == -ECHILD);
        ask(brood_process_exitcode(running, &code) == -ECHILD);
        ask(brood_process_exitcode(ended, &code) == -ECHILD);
        ask(code == 1234);
        ask(brood_process_is_alive(running) == 1);
        ask(brood_process_is_alive(ended) == 0);
        ask(brood_process_is_alive(unstarted) == 0);
        ask(brood_process_start(unstarted) == -EPERM);
        ask(brood_process_kill(ended) == -ESRCH);
        ask(brood_process_pid(running) > 0);
        ask(brood_wait(NULL, BROOD_FOREVER) == -ECHILD);
        brood_process_free(running);
        brood_process_free(ended);
        brood_process_free(unstarted);
        return 0;
}

static void test_inherited_handles(void **state)
{
        (void)state;
        assert_int_equal(brood_process_new(&unstarted, &(brood_process_options){ .target = wait_for_ever }), 0);
        running = start_bare(wait_for_ever);
        ended = start(return_number, &(int){ 4 });
        assert_int_equal(brood_process_join(ended, BROOD_FOREVER), 0);

        assert_int_equal(in_child(use_inherited, NULL), 0);
        brood_process *p = start_bare(use_inherited);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 0);
        brood_process_free(p);
        pid_t pid = brood_fork(&p);
        if (pid == 0)
                _exit(use_inherited(NULL) ? 1 : 0);
        assert_true(pid > 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 0);
        brood_process_free(p);

        /* The frees in the children have killed nobody. */
        assert_int_equal(brood_process_is_alive(running), 1);
        expect_exitcode(ended, 4);
        brood_process_free(running);
        brood_process_free(ended);
        brood_process_free(unstarted);
}

static int kill_inherited(void *arg)
{
        (void)arg;
        return brood_process_kill(running);
}

static void test_kill_inherited(void **state)
{
        (void)state;
        running = start_bare(wait_for_ever);
        assert_int_equal(in_child(kill_inherited, NULL), 0);
        assert_int_equal(brood_process_join(running, BROOD_FOREVER), 0);
        expect_exitcode(running, -SIGKILL);
        brood_process_free(running);
}

static int join_myself(void *arg)
{
        brood_process *myself = brood_current_process();
        (void)arg;
        ask(myself != NULL);
        ask(brood_process_join(myself, 0) == -EDEADLK);
        ask(brood_process_join(myself, BROOD_FOREVER) == -EDEADLK);
        ask(brood_process_is_alive(myself) == 1);
        ask(brood_process_pid(myself) == getpid());
        int code;
        ask(brood_process_exitcode(myself, &code) == -ECHILD);
        ask(brood_process_start(myself) < 0);
        return 0;
}

static int run_join_myself(brood_process *process)
{
        return process == brood_current_process() ? join_myself(NULL) : 1;
}

static void test_join_itself(void **state)
{
        (void)state;
        brood_process *p = start_bare(join_myself);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 0);
        brood_process_free(p);

        static const brood_process_class class = { .run = run_join_myself };
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .process_class = &class, METHOD }), 0);
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 0);
        brood_process_free(p);
}

static int start_a_grandchild(void *arg)
{
        (void)arg;
        brood_process *p;
        int number = 6;
        ask(brood_process_new(&p, &(brood_process_options){ .target = return_number, GIVEN(&number) }) == 0);
        ask(brood_process_start(p) == 0);
        int code = 0;
        ask(brood_wait(&code, BROOD_FOREVER) == brood_process_pid(p));
        ask(code == 6 || (setting != SETTING_DEFAULT && code == BROOD_EXITCODE_UNKNOWN));
        ask(brood_process_join(p, 0) == 0);
        ask(brood_wait(&code, BROOD_FOREVER) == -ECHILD);
        brood_process_free(p);
        return 0;
}

static void test_grandchildren(void **state)
{
        (void)state;
        brood_process *p = start_bare(start_a_grandchild);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 0);
        brood_process_free(p);
        assert_int_equal(in_child(start_a_grandchild, NULL), 0);
}

/* ---- brood_fork ---- */

static void test_fork(void **state)
{
        (void)state;
        pid_t parent = getpid();
        brood_process *p = (void *)0x10;
        pid_t pid = brood_fork(&p);
        if (pid == 0)
                _exit(p == NULL && getppid() == parent && getpid() != parent ? 11 : 12);
        assert_true(pid > 0);
        assert_int_equal(brood_process_pid(p), pid);
        number_in(brood_process_name(p), "Process-");
        assert_int_equal(brood_process_start(p), -EALREADY);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 11);
        brood_process_free(p);

        pid = brood_fork(&p);
        if (pid == 0)
                wait_for_ever(NULL);
        assert_int_equal(brood_process_kill(p), 0);
        int code = 0;
        assert_int_equal(brood_wait(&code, BROOD_FOREVER), pid);
        expect_exitcode(p, -SIGKILL);
        assert_true(code == -SIGKILL || code == BROOD_EXITCODE_UNKNOWN);
        brood_process_free(p);
}

static void test_fork_in_fork(void **state)
{
        (void)state;
        brood_process *p, *q;
        pid_t pid = brood_fork(&p);
        if (pid == 0) {
                pid_t inner = brood_fork(&q);
                if (inner == 0)
                        _exit(brood_wait(NULL, BROOD_FOREVER) == -ECHILD ? 0 : 1);
                if (inner < 0)
                        _exit(2);
                int code = 77;
                bool good = brood_wait(&code, BROOD_FOREVER) == inner &&
                            (code == 0 || (setting != SETTING_DEFAULT && code == BROOD_EXITCODE_UNKNOWN));
                brood_process_free(q);
                _exit(good ? 0 : 3);
        }
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 0);
        brood_process_free(p);
}

/* ---- brood_wait ---- */

static void test_wait(void **state)
{
        (void)state;
        enum { COUNT = 8 };
        brood_process *p[COUNT];
        int numbers[COUNT];
        bool seen[COUNT] = { false };
        int64_t before = support_now_ms();
        assert_int_equal(brood_wait(NULL, 0), -ECHILD);
        assert_int_equal(brood_wait(NULL, 5000), -ECHILD);
        assert_int_equal(brood_wait(NULL, BROOD_FOREVER), -ECHILD);
        assert_true(support_now_ms() - before < 4000);
        for (int i = 0; i < COUNT; i++) {
                numbers[i] = 100 + i;
                p[i] = start(return_number, &numbers[i]);
        }
        assert_int_equal(brood_process_join(p[3], BROOD_FOREVER), 0); /* so that wait does not return it */
        for (int n = 0; n < COUNT - 1; n++) {
                int code = 1234, i = 0;
                pid_t pid = brood_wait(n == 2 ? NULL : &code, n % 2 ? 10000 : BROOD_FOREVER);
                assert_true(pid > 0);
                while (i < COUNT && brood_process_pid(p[i]) != pid)
                        i++;
                assert_true(i < COUNT && i != 3);
                assert_false(seen[i]);
                seen[i] = true;
                expect_exitcode(p[i], 100 + i);
                int told = BROOD_EXITCODE_UNKNOWN;
                brood_process_exitcode(p[i], &told);
                if (n != 2)
                        assert_int_equal(code, told);
                assert_int_equal(support_process_state(pid), 0);
                assert_int_equal(brood_process_join(p[i], 0), 0); /* the handle stays valid */
        }
        int code = 1234;
        assert_int_equal(brood_wait(&code, BROOD_FOREVER), -ECHILD);
        assert_int_equal(code, 1234);
        for (int i = 0; i < COUNT; i++)
                brood_process_free(p[i]);
}

static void test_wait_timeouts(void **state)
{
        (void)state;
        struct gate gate;
        gate_make(&gate);
        brood_process *p = start(wait_for_gate, &gate), *q = start_bare(wait_for_ever);
        int code = 1234;
        assert_int_equal(brood_wait(&code, 0), -EAGAIN);
        int64_t before = support_now_ms();
        assert_int_equal(brood_wait(&code, 50), -ETIMEDOUT);
        assert_in_range(support_now_ms() - before, 49, 2000);
        assert_int_equal(code, 1234);
        gate_open(&gate);
        assert_int_equal(brood_wait(&code, BROOD_FOREVER), brood_process_pid(p));
        expect_exitcode(p, 7);
        assert_int_equal(brood_wait(NULL, 0), -EAGAIN);
        brood_process_free(q); /* a child that was given up is no longer waited for */
        assert_int_equal(brood_wait(NULL, BROOD_FOREVER), -ECHILD);
        brood_process_free(p);
}

static void test_wait_leaves_strangers(void **state)
{
        (void)state;
        if (setting != SETTING_DEFAULT)
                skip(); /* there the host itself reaps them */
        pid_t stranger = fork();
        if (stranger == 0)
                _exit(9);
        pid_t other = fork();
        if (other == 0)
                wait_for_ever(NULL);
        assert_true(support_process_gone(stranger, 10000));
        assert_int_equal(brood_wait(NULL, BROOD_FOREVER), -ECHILD);
        for (int i = 0; i < 5; i++) {
                brood_process *p = start(return_number, &(int){ 3 });
                int code = 0;
                assert_int_equal(brood_wait(&code, BROOD_FOREVER), brood_process_pid(p));
                assert_int_equal(code, 3);
                brood_process_free(p);
        }
        assert_int_equal(brood_wait(NULL, 20), -ECHILD);
        assert_int_equal(support_process_state(stranger), 'Z');
        int status = 0;
        assert_int_equal(waitpid(stranger, &status, WNOHANG), stranger);
        assert_int_equal(WEXITSTATUS(status), 9);
        assert_int_equal(waitpid(other, &status, WNOHANG), 0);
        end_plain_child(other);
}

enum { THREADED = 40 };
static pid_t waited[2][THREADED];

static void *wait_for_all(void *list)
{
        pid_t *pids = list, pid;
        int n = 0;
        while (n < THREADED && (pid = brood_wait(NULL, BROOD_FOREVER)) > 0)
                pids[n++] = pid;
        return (void *)(intptr_t)n;
}

static void test_wait_from_threads(void **state)
{
        (void)state;
        memset(waited, 0, sizeof waited);
        struct gate gate;
        gate_make(&gate);
        brood_process *p[THREADED];
        for (int i = 0; i < THREADED; i++)
                p[i] = start(wait_for_gate, &gate);
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, wait_for_all, waited[i]), 0);
        gate_open(&gate);
        intptr_t sum = 0;
        for (int i = 0; i < 2; i++) {
                void *count;
                assert_int_equal(pthread_join(threads[i], &count), 0);
                sum += (intptr_t)count;
        }
        assert_int_equal(sum, THREADED);
        for (int i = 0; i < THREADED; i++) {
                int times = 0;
                for (int j = 0; j < 2 * THREADED; j++)
                        times += waited[j / THREADED][j % THREADED] == brood_process_pid(p[i]);
                assert_int_equal(times, 1);
                brood_process_free(p[i]);
        }
        assert_int_equal(brood_wait(NULL, BROOD_FOREVER), -ECHILD);
}

/* ---- output, exit handlers, signals of the child ---- */

static void write_mark(void)
{
        if (write(STDOUT_FILENO, "<handler>", 9) != 9)
                _exit(1);
}

static int print_something(void *arg)
{
        (void)arg;
        printf("<child>"); /* no newline, and no flush: brood flushes after the target */
        return 0;
}

/* A host whose stdout is a pipe, and so fully buffered. */
static int print_around_children(void *arg)
{
        ask(dup2(*(int *)arg, STDOUT_FILENO) == STDOUT_FILENO);
        static char buffer[4096];
        setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
        atexit(write_mark);
        printf("<before>");
        brood_process *p;
        ask(brood_process_new(&p, &(brood_process_options){ .target = print_something, METHOD }) == 0);
        ask(brood_process_start(p) == 0);
        ask(brood_process_join(p, BROOD_FOREVER) == 0);
        brood_process_free(p);
        printf("<between>");
        pid_t pid = brood_fork(&p);
        if (pid == 0) {
                printf("<forked>");
                fflush(stdout);
                _exit(0);
        }
        ask(brood_process_join(p, BROOD_FOREVER) == 0);
        brood_process_free(p);
        printf("<after>");
        fflush(stdout);
        return 0;
}

static void test_output(void **state)
{
        (void)state;
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(in_child(print_around_children, &fds[1]), 0);
        char text[512] = "";
        ssize_t n = read(fds[0], text, sizeof text - 1);
        assert_true(n > 0);
        text[n] = '\0';
        assert_string_equal(text, "<before><child><between><forked><after>");
        close(fds[0]);
        close(fds[1]);
}

static void no_op(int signal)
{
        (void)signal;
}

enum { SIGNALS = 65 };
struct signals {
        sigset_t mask;
        struct sigaction actions[SIGNALS];
};

static void look_at_signals(struct signals *signals)
{
        memset(signals, 0, sizeof *signals);
        pthread_sigmask(SIG_SETMASK, NULL, &signals->mask);
        for (int i = 1; i < SIGNALS; i++)
                sigaction(i, NULL, &signals->actions[i]);
}

static bool same_signals(const struct signals *before)
{
        struct signals now;
        look_at_signals(&now);
        for (int i = 1; i < SIGNALS; i++)
                if (sigismember(&before->mask, i) != sigismember(&now.mask, i) ||
                    before->actions[i].sa_handler != now.actions[i].sa_handler ||
                    before->actions[i].sa_flags != now.actions[i].sa_flags)
                        return false;
        return true;
}

static int have_same_signals(void *before)
{
        return same_signals(before) ? 0 : 1;
}

/* Mask and dispositions are the host's: no call changes them, and a child has them as they are. */
static void test_signal_state(void **state)
{
        (void)state;
        static struct signals before;
        sigset_t blocked, old;
        sigemptyset(&blocked);
        sigaddset(&blocked, SIGUSR1);
        sigaddset(&blocked, SIGRTMIN + 3);
        pthread_sigmask(SIG_BLOCK, &blocked, &old);
        signal(SIGUSR2, SIG_IGN);
        signal(SIGHUP, no_op);
        look_at_signals(&before);

        brood_process *p = start(have_same_signals, &before);
        assert_true(same_signals(&before));
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        assert_true(same_signals(&before));
        expect_exitcode(p, 0);
        brood_process_free(p);

        pid_t pid = brood_fork(&p);
        if (pid == 0)
                _exit(have_same_signals(&before));
        assert_true(same_signals(&before));
        assert_int_equal(brood_wait(NULL, BROOD_FOREVER), pid);
        expect_exitcode(p, 0);
        brood_process_free(p);

        p = start_detached(have_same_signals, &before);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_detached_exitcode(p, 0);
        brood_process_free(p);
        assert_true(same_signals(&before));

        p = start_bare(wait_for_ever);
        brood_process_free(p);
        assert_true(same_signals(&before));
        signal(SIGUSR2, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* errno is the host's too. */
static void test_errno_untouched(void **state)
{
        (void)state;
        brood_process *p;
        errno = 4711;
        assert_int_equal(brood_process_new(NULL, NULL), -EINVAL);
        assert_int_equal(errno, 4711);
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = wait_for_ever, METHOD }), 0);
        assert_int_equal(errno, 4711);
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(errno, 4711);
        assert_int_equal(brood_process_join(p, 10), -ETIMEDOUT);
        assert_int_equal(errno, 4711);
        assert_int_equal(brood_wait(NULL, 10), -ETIMEDOUT);
        assert_int_equal(errno, 4711);
        brood_process_free(p);
        assert_int_equal(errno, 4711);
        assert_int_equal(brood_wait(NULL, 0), -ECHILD);
        assert_int_equal(errno, 4711);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                process_test(test_exit_codes),
                process_test(test_signals_as_exit_codes),
                process_test(test_exit_in_target),
                process_test(test_before_start),
                process_test(test_life),
                process_test(test_join_in_time),
                process_test(test_terminate_and_kill),
                process_test(test_kill_of_ended_unjoined),
                process_test(test_free_while_running),
                process_test(test_free_in_any_order),
                process_test(test_reaped_by_next_call),
                process_test(test_sentinel),
                process_test(test_join_from_threads),
                process_test(test_null),
                process_test(test_bad_options),
                process_test(test_options_of_other_versions),
                process_test(test_names),
                process_test(test_class),
                process_test(test_class_init_fails),
                process_test(test_class_without_state),
                fork_test(test_derived_class),
                process_test(test_memory_is_apart),
                fork_test(test_inherited_handles),
                process_test(test_kill_inherited),
                process_test(test_join_itself),
                process_test(test_grandchildren),
                fork_test(test_fork),
                fork_test(test_fork_in_fork),
                process_test(test_wait),
                process_test(test_wait_timeouts),
                process_test(test_wait_leaves_strangers),
                process_test(test_wait_from_threads),
                process_test(test_output),
                fork_test(test_signal_state),
                process_test(test_errno_untouched),
        };
        return setting_main(argc, argv, "process", tests, ARRAY_LENGTH(tests), 60);
}
