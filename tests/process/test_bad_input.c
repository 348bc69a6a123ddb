/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_bad_input.c: what cannot be done with a process, and what a machine without room does to a start.  Each has
 * the documented error, and leaves no child, no zombie and no descriptor; afterwards all works.  Options that no call takes are
 * in test_process.c, test_setup.c and test_methods.c, beside what they are options of.
 */
#include "check.h"
#include "setting.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define NOBODY 65534

/* ---- the books of a host ---- */

static bool nothing_runs(void *unused)
{
        (void)unused;
        reap_adopted();
        return support_count_children(getpid()) == 0;
}

/* No child and no zombie; the fork server, which is one, is stopped.  Only PID 1 may have to wait for that: its server's children
 * are its own when the server has ended. */
static bool is_alone(void)
{
        if (brood_forkserver_stop() != 0 || brood_wait(NULL, 0) != -ECHILD)
                return false;
        return host_is_init() ? support_until(nothing_runs, NULL, 10000) : nothing_runs(NULL);
}

static void expect_nothing_left(int descriptors)
{
        assert_true(is_alone());
        assert_int_equal(support_count_descriptors(), descriptors);
}

static void expect_all_works(void)
{
        brood_process *p = start(return_number, &(int){ 7 });
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 7);
        brood_process_free(p);
}

/* ---- handles ---- */

static void test_start_twice(void **state)
{
        (void)state;
        int descriptors = support_count_descriptors();
        brood_process *p = start_bare(wait_for_ever);
        pid_t pid = brood_process_pid(p);
        for (int i = 0; i < 3; i++)
                assert_int_equal(brood_process_start(p), -EALREADY);
        assert_int_equal(brood_process_pid(p), pid);
        assert_int_equal(brood_active_children(NULL, 0), 1);
        assert_int_equal(brood_process_kill(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        assert_int_equal(brood_process_start(p), -EALREADY);
        expect_exitcode(p, -SIGKILL);
        brood_process_free(p);
        expect_nothing_left(descriptors);
}

static int join_as_a_stranger(void *process)
{
        brood_process *p = process;
        ask(brood_process_join(p, 0) == -ECHILD);
        ask(brood_process_join(p, BROOD_FOREVER) == -ECHILD);
        ask(brood_process_start(p) == -EPERM);
        brood_process_free(p); /* of the memory only */
        return 0;
}

static void test_join_by_another(void **state)
{
        (void)state;
        int descriptors = support_count_descriptors();
        brood_process *p = start_bare(wait_for_ever);
        assert_int_equal(in_child(join_as_a_stranger, p), 0);
        assert_int_equal(brood_process_is_alive(p), 1);
        brood_process_free(p);
        expect_nothing_left(descriptors);
}

static int join_myself(void *unused)
{
        brood_process *myself = brood_current_process();
        (void)unused;
        ask(brood_process_join(myself, 0) == -EDEADLK);
        ask(brood_process_join(myself, BROOD_FOREVER) == -EDEADLK);
        ask(brood_process_kill(myself) == -EDEADLK);
        return 7;
}

static void test_join_yourself(void **state)
{
        (void)state;
        int descriptors = support_count_descriptors();
        brood_process *p = start_bare(join_myself);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, 7);
        brood_process_free(p);
        expect_nothing_left(descriptors);
}

/* Defined: it is killed and reaped, and nothing but that; the program too. */
static void test_free_while_alive(void **state)
{
        (void)state;
        int descriptors = support_count_descriptors();
        brood_process *p = start_bare(wait_for_ever), *program = NULL;
        assert_int_equal(brood_process_exec(&program, (const char *const[]){ "sleep", "1000", NULL }, NULL, NULL), 0);
        brood_process_free(p);
        brood_process_free(program);
        expect_nothing_left(descriptors);
}

/* ---- what cannot be made ---- */

static int run_nothing(brood_process *process)
{
        (void)process;
        return 0;
}

static void test_nothing_to_run(void **state)
{
        (void)state;
        static const brood_process_class absurd[] = {
                { .run = run_nothing, .size = BROOD_PROCESS_STATE_MAX + 1 },
                { .run = run_nothing, .size = SIZE_MAX },
                { .run = run_nothing, .size = SIZE_MAX / 2 + 1 },
                { .size = 8 }, /* no run() */
        };
        int descriptors = support_count_descriptors();
        brood_process *untouched = (void *)0x10, *p = untouched;
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ METHOD, .target = NULL }), -EINVAL);
        assert_int_equal(brood_process_new(&p, NULL), -EINVAL);
        for (size_t i = 0; i < ARRAY_LENGTH(absurd); i++)
                assert_int_equal(brood_process_new(&p, &(brood_process_options){ METHOD, .process_class = &absurd[i] }),
                                 -EINVAL);
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ NULL }, NULL, NULL), -EINVAL);
        assert_ptr_equal(p, untouched);
        expect_nothing_left(descriptors);
}

/* ---- what is not there ---- */

static void test_missing_program(void **state)
{
        (void)state;
        static const struct {
                const char *program;
                int error;
        } all[] = {
                { "/no/such/program", -ENOENT },   { "brood-has-no-such-program", -ENOENT },
                { "/dev/null", -EACCES },          { "/", -EACCES },
                { "/dev/null/program", -ENOTDIR },
        };
        int descriptors = support_count_descriptors();
        for (size_t i = 0; i < ARRAY_LENGTH(all); i++) {
                brood_process *untouched = (void *)0x10, *p = untouched;
                const char *step = "";
                const char *const argv[] = { all[i].program, NULL };
                assert_int_equal(brood_process_exec(&p, argv, NULL, &step), all[i].error);
                assert_string_equal(step, "program");
                assert_ptr_equal(p, untouched);
                expect_nothing_left(descriptors);
        }
        expect_all_works();
        expect_nothing_left(descriptors);
}

static void test_missing_directory(void **state)
{
        (void)state;
        int descriptors = support_count_descriptors();
        const brood_process_options options = { .target = wait_for_ever,
                                                .start_method = method,
                                                .setup = { .directory = "/no/such/directory" } };
        for (int detached = 0; detached < 2; detached++) {
                brood_process_options some = options;
                some.detached = detached;
                brood_process *p = NULL;
                assert_int_equal(brood_process_new(&p, &some), 0);
                for (int i = 0; i < 2; i++) { /* it may be tried again */
                        assert_int_equal(brood_process_start(p), -ENOENT);
                        assert_string_equal(brood_process_failed_step(p), "directory");
                        assert_int_equal(brood_process_pid(p), 0);
                        assert_int_equal(brood_process_join(p, BROOD_FOREVER), -EINVAL);
                }
                brood_process_free(p);
                expect_nothing_left(descriptors);
        }
        brood_process *untouched = (void *)0x10, *p = untouched;
        const brood_process_options for_program = { .setup = options.setup };
        const char *step = "";
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "true", NULL }, &for_program, &step), -ENOENT);
        assert_string_equal(step, "directory");
        assert_ptr_equal(p, untouched);
        expect_nothing_left(descriptors);
}

/* ---- limits: whatever a start is, and what it is that it lacks ---- */

enum kind {
        PLAIN,
        DETACHED,
        CAPTURED, /* with three pipes to the host */
        PROGRAM,
        FORKED, /* brood_fork() */
        KINDS,
};

static int attempt(enum kind kind, brood_process **ret_process)
{
        brood_process_options options = { .setup.input.kind =
                                              kind == CAPTURED ? BROOD_STREAM_CAPTURE : BROOD_STREAM_INHERIT };
        options.setup.output.kind = options.setup.errors.kind = options.setup.input.kind;
        if (kind == FORKED) {
                pid_t pid = brood_fork(ret_process);
                if (pid == 0)
                        wait_for_ever(NULL);
                return pid < 0 ? pid : 0;
        }
        if (kind == PROGRAM)
                return brood_process_exec(ret_process, (const char *const[]){ "sleep", "1000", NULL }, &options, NULL);
        options.target = wait_for_ever;
        options.start_method = method;
        options.detached = kind == DETACHED;
        int r = brood_process_new(ret_process, &options);
        if (r == 0 && (r = brood_process_start(*ret_process)) < 0)
                brood_process_free(*ret_process);
        return r;
}

/* A detached one is no longer ours when it is free. */
static int give_up(brood_process *p)
{
        int r = brood_process_kill(p);
        ask(r == 0 || r == -ESRCH); /* a program that found no descriptor for its libraries */
        ask(brood_process_join(p, 20000) == 0);
        brood_process_free(p);
        return 0;
}

/* An attempt with and without a limit, which `impose` sets, in a host that has started nothing before; and once more. */
struct scarcity {
        enum kind kind;
        int room;
        void (*impose)(const struct scarcity *scarcity);
        int resource;
        int errors[2]; /* either is right */
};

static int attempt_under(const struct scarcity *s, int *ret_result)
{
        brood_process *untouched = (void *)0x10, *p = untouched;
        struct rlimit limit;
        ask(getrlimit(s->resource, &limit) == 0);
        s->impose(s);
        int r = attempt(s->kind, &p);
        ask(setrlimit(s->resource, &limit) == 0);
        if (r == 0)
                ask(give_up(p) == 0);
        else if (s->kind == PROGRAM || s->kind == FORKED)
                ask(p == untouched);
        if (r != 0 && r != s->errors[0] && r != s->errors[1])
                fprintf(stderr, "kind %d, room %d: %d\n", s->kind, s->room, r);
        ask(r == 0 || r == s->errors[0] || r == s->errors[1]);
        ask(is_alone());
        *ret_result = r;
        return 0;
}

/* Returns 0 if the second one was refused, 1 if it was not, or a line. */
static int suffer(void *scarcity)
{
        const struct scarcity *s = scarcity;
        int r = 0;
        for (int again = 0; again < 2; again++) {
                int before = support_count_descriptors();
                ask(attempt_under(s, &r) == 0);
                if (again) /* the first time the registry may have been made */
                        ask(support_count_descriptors() == before);
                brood_process *p = NULL;
                ask(attempt(s->kind, &p) == 0);
                ask(give_up(p) == 0);
                ask(is_alone());
        }
        return r == 0;
}

static void set_soft_limit(int resource, rlim_t limit)
{
        struct rlimit some;
        getrlimit(resource, &some);
        some.rlim_cur = limit;
        setrlimit(resource, &some);
}

/* `room` descriptors may be made. */
static void leave_descriptors(const struct scarcity *s)
{
        int lowest = dup(STDERR_FILENO), room = s->room;
        close(lowest);
        int fd = lowest;
        for (; room > 0; fd++)
                room -= fcntl(fd, F_GETFD) < 0;
        set_soft_limit(RLIMIT_NOFILE, (rlim_t)fd);
}

/* Each descriptor that a start makes is the one that there is no room for, once. */
static void test_no_descriptor_left(void **state)
{
        (void)state;
        enum { MOST = 100, ENOUGH = 8 };
        int descriptors = support_count_descriptors();
        for (int kind = 0; kind < KINDS; kind++) {
                int refused = 0, worked = 0;
                /* A child that finds no room for its libraries has been started all the same; so one that works is not enough. */
                for (int room = 0; worked < ENOUGH && room < MOST; room++) {
                        struct scarcity s = { (enum kind)kind, room, leave_descriptors, RLIMIT_NOFILE, { -EMFILE } };
                        /* A server that has no room for its libraries dies. */
                        s.errors[1] = method == BROOD_START_FORKSERVER ? -EPIPE : -EMFILE;
                        int r = in_child(suffer, &s);
                        assert_in_range(r, 0, 1);
                        refused += r == 0;
                        worked = r == 0 ? 0 : worked + 1;
                }
                assert_true(refused > 0);
                assert_int_equal(worked, ENOUGH);
                expect_nothing_left(descriptors);
        }
}

static void leave_no_process(const struct scarcity *s)
{
        (void)s;
        set_soft_limit(RLIMIT_NPROC, 0);
}

/* Root has no limit of processes. */
static int become_nobody(void)
{
        if (geteuid() != 0)
                return 0;
        ask(setgroups(0, NULL) == 0);
        ask(setresgid(NOBODY, NOBODY, NOBODY) == 0);
        ask(setresuid(NOBODY, NOBODY, NOBODY) == 0);
        return 0;
}

static int suffer_as_nobody(void *scarcity)
{
        int r = become_nobody();
        return r != 0 ? r : suffer(scarcity);
}

static void test_no_process_left(void **state)
{
        (void)state;
        int descriptors = support_count_descriptors();
        for (int kind = 0; kind < KINDS; kind++) {
                struct scarcity s = { (enum kind)kind, 0, leave_no_process, RLIMIT_NPROC, { -EAGAIN, -EAGAIN } };
                assert_int_equal(in_child(suffer_as_nobody, &s), 0);
        }
        expect_nothing_left(descriptors);
}

/* Room for the first-level child of a detached start, and not for the second: found by trying, as others may run under this
 * user. */
static int start_without_the_second_level(void *unused)
{
        enum { MOST = 500 };
        brood_process *p = NULL;
        (void)unused;
        ask(become_nobody() == 0);
        ask(brood_wait(NULL, 0) == -ECHILD); /* makes the registry */
        int descriptors = support_count_descriptors(), r = -EAGAIN;
        for (int room = 0; r == -EAGAIN && room < MOST; room++) {
                set_soft_limit(RLIMIT_NPROC, (rlim_t)room);
                r = attempt(DETACHED, &p);
                ask(support_count_children(getpid()) == 0);
                ask(r == 0 || support_count_descriptors() == descriptors);
        }
        ask(r == 0);
        ask(give_up(p) == 0);
        ask(support_count_descriptors() == descriptors);
        return 0;
}

static void test_no_process_left_for_the_second_level(void **state)
{
        (void)state;
        assert_int_equal(in_child(start_without_the_second_level, NULL), 0);
}

/* ---- rights ---- */

/* What brood has made for a host belongs to whom the host was.  The first process takes a branch of the lifeline that another had
 * before; the second needs one of its own. */
static int give_up_rights_between_starts(void *unused)
{
        brood_process *p = NULL, *q = NULL;
        (void)unused;
        ask(brood_process_new(&p, &(brood_process_options){ .target = wait_for_ever, METHOD }) == 0);
        ask(brood_process_start(p) == 0);
        brood_process_free(p);
        ask(become_nobody() == 0);
        ask(brood_process_new(&p, &(brood_process_options){ .target = wait_for_ever, METHOD }) == 0);
        ask(brood_process_new(&q, &(brood_process_options){ .target = wait_for_ever, METHOD }) == 0);
        ask(brood_process_start(p) == 0);
        ask(brood_process_start(q) == 0);
        ask(brood_process_is_alive(p) == 1 && brood_process_is_alive(q) == 1);
        brood_process_free(p);
        brood_process_free(q);
        return 0;
}

static void test_rights_given_up(void **state)
{
        (void)state;
        if (geteuid() != 0)
                skip();
        assert_int_equal(in_child(give_up_rights_between_starts, NULL), 0);
}

/* ---- memory ---- */

#if !CHECK_ASAN /* its allocator ends the process instead */

static void leave_no_memory(const struct scarcity *s)
{
        (void)s;
        set_soft_limit(RLIMIT_AS, 1);
}

/* Not a page more; what is in the heap is still there, and may be enough. */
static void test_no_memory_left(void **state)
{
        (void)state;
        int descriptors = support_count_descriptors();
        for (int kind = 0; kind < KINDS; kind++) {
                struct scarcity s = { (enum kind)kind, 0, leave_no_memory, RLIMIT_AS, { -ENOMEM } };
                s.errors[1] = method == BROOD_START_FORKSERVER ? -EPIPE : -ENOMEM; /* a server that cannot be loaded */
                assert_in_range(in_child(suffer, &s), 0, 1);
        }
        expect_nothing_left(descriptors);
}

static int make_large_ones(void *unused)
{
        static const brood_process_class large = { .run = run_nothing, .size = BROOD_PROCESS_STATE_MAX };
        brood_process *untouched = (void *)0x10, *p = untouched;
        char byte = 0;
        (void)unused;
        ask(brood_wait(NULL, 0) == -ECHILD); /* makes the registry */
        int descriptors = support_count_descriptors();
        struct rlimit limit;
        ask(getrlimit(RLIMIT_AS, &limit) == 0);
        set_soft_limit(RLIMIT_AS, (rlim_t)256 << 20);
        ask(brood_process_new(&p, &(brood_process_options){ METHOD, .process_class = &large }) == -ENOMEM);
        brood_process_options options = { .target = wait_for_ever, METHOD };
        options.bytes = &byte; /* which nobody reads before there is room for a copy */
        options.size = BROOD_PROCESS_BYTES_MAX;
        ask(brood_process_new(&p, &options) == -ENOMEM);
        ask(setrlimit(RLIMIT_AS, &limit) == 0);
        ask(p == untouched);
        ask(support_count_descriptors() == descriptors);
        ask(is_alone());
        return 0;
}

static void test_no_memory_for_a_handle(void **state)
{
        (void)state;
        assert_int_equal(in_child(make_large_ones, NULL), 0);
}

/* A limit under which the child cannot live: by fork it still can, with what it has; a program ends while it is loaded. */
static void test_memory_limit_too_small(void **state)
{
        (void)state;
        int descriptors = support_count_descriptors();
        const brood_process_setup setup = { .memory_limit = 1 };
        brood_process *p = NULL;
        const brood_process_options options = { .target = wait_for_ever, .start_method = method, .setup = setup };
        assert_int_equal(brood_process_new(&p, &options), 0);
        int r = brood_process_start(p);
        assert_true(r == 0 || r == -ENOMEM);
        if (r == 0) {
                r = brood_process_kill(p);
                assert_true(r == 0 || r == -ESRCH);
                assert_int_equal(brood_process_join(p, 20000), 0);
        }
        brood_process_free(p);
        expect_nothing_left(descriptors);
        r = brood_process_exec(&p, (const char *const[]){ "true", NULL }, &(brood_process_options){ .setup = setup },
                               NULL);
        assert_true(r == 0 || r == -ENOMEM);
        if (r == 0) {
                int code = 0;
                assert_int_equal(brood_process_join(p, 20000), 0);
                r = brood_process_exitcode(p, &code);
                assert_true(r == -ENODATA || code != 0);
                brood_process_free(p);
        }
        expect_nothing_left(descriptors);
        expect_all_works();
        expect_nothing_left(descriptors);
}

#endif

/* ---- processes that close all their descriptors, as a daemon does, and fill the numbers with others ---- */

enum { REUSED = 200 };

static bool all_are_open(void)
{
        for (int fd = 3; fd < REUSED; fd++)
                if (fcntl(fd, F_GETFD) < 0)
                        return false;
        return true;
}

static int counts_if_all_are_open(void *shared)
{
        *(int *)shared += all_are_open();
        return 0;
}

static bool reuse_all_numbers(void)
{
        for (int fd = 3; fd < REUSED + 100; fd++)
                close(fd);
        for (int fd = 3; fd < REUSED; fd++)
                if (open("/dev/null", O_RDONLY) != fd)
                        return false;
        return true;
}

static int run_here(int (*target)(void *), void *arg)
{
        brood_process_options options = { .target = target, .arg = arg, .start_method = BROOD_START_FORK };
        brood_process *p = NULL;
        require(brood_process_new(&p, &options) == 0);
        require(brood_process_start(p) == 0);
        require(brood_process_join(p, 10000) == 0);
        brood_process_free(p);
        return 0;
}

/* A fork of ours, by brood or not, has all that we have.  How it has ended may be a stranger's to know. */
static int start_with_numbers_reused(void *unused)
{
        int *open_in = mmap(NULL, sizeof *open_in, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        (void)unused;
        require(open_in != MAP_FAILED);
        require(reuse_all_numbers());
        pid_t pid = fork();
        if (pid == 0)
                _exit(counts_if_all_are_open(open_in));
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        require(pid > 0 && *open_in == 1);
        for (int i = 0; i < 2; i++) {
                require(run_here(counts_if_all_are_open, open_in) == 0);
                require(*open_in == 2 + i && all_are_open());
        }
        munmap(open_in, sizeof *open_in);
        return 7;
}

static void test_a_child_that_has_closed_all(void **state)
{
        (void)state;
        brood_process *p = start(start_with_numbers_reused, &(int){ 0 });
        assert_int_equal(brood_process_join(p, 10000), 0);
        expect_exitcode(p, 7);
        brood_process_free(p);
}

static int sleeps(void *unused)
{
        (void)unused;
        for (;;)
                pause();
        return 0;
}

static int does_nothing(void *unused)
{
        (void)unused;
        return 0;
}

/* The same in a process that had children before.  Its next ones are tied to it as they would be to any other. */
static int host_that_closes_all(pid_t *ret_tied)
{
        brood_process_options options = { .target = sleeps, .start_method = BROOD_START_FORK };
        brood_process *tied = NULL;
        require(run_here(does_nothing, NULL) == 0);
        require(start_with_numbers_reused(NULL) == 7);
        require(brood_process_new(&tied, &options) == 0);
        require(brood_process_start(tied) == 0);
        *ret_tied = brood_process_pid(tied);
        return 0;
}

static void test_a_host_that_has_closed_all(void **state)
{
        (void)state;
        pid_t *tied = mmap(NULL, sizeof *tied, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(tied, MAP_FAILED);
        pid_t pid = fork();
        if (pid == 0)
                _exit(host_that_closes_all(tied));
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        assert_true(*tied > 0);
        assert_true(support_until(is_fully_gone, tied, 10000));
        munmap(tied, sizeof *tied);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                process_test(test_start_twice),
                process_test(test_join_by_another),
                process_test(test_join_yourself),
                process_test(test_free_while_alive),
                process_test(test_nothing_to_run),
                process_test(test_missing_program),
                process_test(test_missing_directory),
                process_test(test_no_descriptor_left),
                process_test(test_no_process_left),
                fork_test(test_no_process_left_for_the_second_level),
                fork_test(test_rights_given_up),
#if !CHECK_ASAN
                process_test(test_no_memory_left),
                process_test(test_no_memory_for_a_handle),
                process_test(test_a_child_that_has_closed_all),
                fork_test(test_a_host_that_has_closed_all),
                process_test(test_memory_limit_too_small),
#endif
        };
        return setting_main(argc, argv, "bad_input", tests, ARRAY_LENGTH(tests), 80);
}
