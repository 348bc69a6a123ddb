/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_setup.c: what a child starts with (brood_process_setup), for targets and for programs, and programs
 * themselves (brood_process_exec).  Each failure must come back as an errno with its step, and leave no child.
 */
#include "setting.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* The target is given `size` bytes, or nothing if `bytes` is NULL. */
static brood_process *start_with_setup(int (*target)(void *arg), const void *bytes, size_t size,
                                       const brood_process_setup *setup)
{
        brood_process *p = NULL;
        const brood_process_options options = {
                .target = target,
                .start_method = method,
                .bytes = bytes,
                .size = size,
                .setup = *setup,
        };
        assert_int_equal(brood_process_new(&p, &options), 0);
        assert_int_equal(brood_process_start(p), 0);
        assert_string_equal(brood_process_failed_step(p), "");
        return p;
}

static void join_and_free(brood_process *p, int code)
{
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, code);
        brood_process_free(p);
}

/* What a program or a target wrote, up to its end, as a string. */
static const char *read_all(brood_process *p, int number)
{
        static char text[1 << 16];
        size_t length = 0;
        ssize_t n;
        int fd = brood_process_stream(p, number);
        assert_true(fd >= 0);
        while (length + 1 < sizeof text &&
               ((n = read(fd, text + length, sizeof text - 1 - length)) > 0 || errno == EINTR))
                length += n > 0 ? (size_t)n : 0;
        text[length] = 0;
        return text;
}

/* ---- targets ---- */

static int see_directory(void *expected)
{
        char path[256];
        ask(getcwd(path, sizeof path) != NULL);
        ask(strcmp(path, expected) == 0);
        return 5;
}

static void test_directory(void **state)
{
        (void)state;
        char before[256], after[256], root[] = "/";
        assert_non_null(getcwd(before, sizeof before));
        join_and_free(start_with_setup(see_directory, root, sizeof root, &(brood_process_setup){ .directory = "/" }),
                      5);
        join_and_free(start_with_setup(see_directory, before, sizeof before, &(brood_process_setup){ .nice = 1 }), 5);
        assert_non_null(getcwd(after, sizeof after));
        assert_string_equal(before, after);
}

static int see_environment(void *unused)
{
        (void)unused;
        ask(getenv("HOME") == NULL && getenv("PATH") == NULL);
        ask(strcmp(getenv("BROOD_A"), "1") == 0);
        ask(setenv("BROOD_B", "2", 1) == 0); /* it can be changed as any other */
        ask(strcmp(getenv("BROOD_B"), "2") == 0);
        return 5;
}

static void test_environment(void **state)
{
        (void)state;
        const char *const environment[] = { "BROOD_A=1", NULL };
        join_and_free(start_with_setup(see_environment, NULL, 0, &(brood_process_setup){ .environment = environment }),
                      5);
        assert_null(getenv("BROOD_A"));
}

static int talk(void *unused)
{
        char line[64];
        (void)unused;
        ask(fgets(line, sizeof line, stdin) != NULL);
        printf("out: %s", line);
        fprintf(stderr, "err: %s", line);
        ask(fgets(line, sizeof line, stdin) == NULL); /* the parent has closed it */
        return 5;
}

static void test_captured_streams(void **state)
{
        (void)state;
        const brood_process_setup setup = {
                .input = { .kind = BROOD_STREAM_CAPTURE },
                .output = { .kind = BROOD_STREAM_CAPTURE },
                .errors = { .kind = BROOD_STREAM_CAPTURE },
        };
        brood_process *p = start_with_setup(talk, NULL, 0, &setup);
        /* A sibling that is started now inherits the parent's ends, and must not keep them. */
        brood_process *sibling = start_bare(wait_for_ever);
        assert_int_equal(write(brood_process_stream(p, 0), "hallo\n", 6), 6);
        assert_true(fcntl(brood_process_stream(p, 1), F_GETFD) & FD_CLOEXEC);
        assert_int_equal(brood_process_close_stream(p, 0), 0);
        assert_int_equal(brood_process_stream(p, 0), -ENOENT);
        assert_int_equal(brood_process_close_stream(p, 0), -ENOENT);
        assert_string_equal(read_all(p, 1), "out: hallo\n");
        assert_string_equal(read_all(p, 2), "err: hallo\n");
        join_and_free(p, 5);
        assert_int_equal(brood_process_is_alive(sibling), 1);
        brood_process_free(sibling);
}

static int write_both(void *unused)
{
        (void)unused;
        printf("1");
        fflush(stdout);
        fprintf(stderr, "2");
        return 5;
}

static void test_streams_elsewhere(void **state)
{
        (void)state;
        FILE *file = tmpfile();
        assert_non_null(file);
        const brood_process_setup both = {
                .input = { .kind = BROOD_STREAM_NULL },
                .output = { .kind = BROOD_STREAM_DESCRIPTOR, .descriptor = fileno(file) },
                .errors = { .kind = BROOD_STREAM_STDOUT },
        };
        char text[8] = "";
        join_and_free(start_with_setup(write_both, NULL, 0, &both), 5);
        assert_int_equal(pread(fileno(file), text, sizeof text, 0), 2);
        assert_string_equal(text, "12");
        fclose(file);
        /* stdout and stderr change places. */
        int out[2], err[2], saved[2] = { dup(1), dup(2) };
        assert_int_equal(pipe(out), 0);
        assert_int_equal(pipe(err), 0);
        fflush(NULL);
        dup2(out[1], 1);
        dup2(err[1], 2);
        const brood_process_setup swapped = {
                .output = { .kind = BROOD_STREAM_DESCRIPTOR, .descriptor = 2 },
                .errors = { .kind = BROOD_STREAM_DESCRIPTOR, .descriptor = 1 },
        };
        brood_process *p = start_with_setup(write_both, NULL, 0, &swapped);
        dup2(saved[0], 1);
        dup2(saved[1], 2);
        join_and_free(p, 5);
        char from_out, from_err;
        assert_int_equal(read(out[0], &from_out, 1), 1);
        assert_int_equal(read(err[0], &from_err, 1), 1);
        assert_int_equal(from_out, '2');
        assert_int_equal(from_err, '1');
        for (int i = 0; i < 2; i++) {
                close(out[i]);
                close(err[i]);
                close(saved[i]);
        }
}

/* A host without standard streams: the pipes that are made have their numbers. */
static int host_without_streams(void *unused)
{
        (void)unused;
        brood_process *p;
        char text[16] = "";
        for (int i = 0; i < 3; i++)
                close(i);
        brood_process_options options = { .target = write_both, .start_method = method };
        options.setup.output.kind = options.setup.errors.kind = options.setup.input.kind = BROOD_STREAM_CAPTURE;
        int ok = brood_process_new(&p, &options) == 0 && brood_process_start(p) == 0 &&
                 brood_process_join(p, BROOD_FOREVER) == 0 && read(brood_process_stream(p, 1), text, 15) == 1 &&
                 text[0] == '1' && read(brood_process_stream(p, 2), text, 15) == 1 && text[0] == '2';
        for (int number = 0; number < 3; number++)
                ok = ok && brood_process_stream(p, number) > 2;
        brood_process_free(p);
        const char *const argv[] = { "sh", "-c", "read a; echo $a; echo $a$a >&2", NULL };
        options.target = NULL;
        options.start_method = BROOD_START_DEFAULT;
        ok = ok && brood_process_exec(&p, argv, &options, NULL) == 0 &&
             write(brood_process_stream(p, 0), "x\n", 2) == 2 && brood_process_join(p, BROOD_FOREVER) == 0 &&
             read(brood_process_stream(p, 1), text, 15) == 2 && text[0] == 'x' &&
             read(brood_process_stream(p, 2), text, 15) == 3;
        brood_process_free(p);
        return ok ? 0 : __LINE__;
}

static void test_no_standard_streams(void **state)
{
        (void)state;
        assert_int_equal(in_child(host_without_streams, NULL), 0);
}

static int see_descriptors(void *kept)
{
        const int *fds = kept;
        ask(fcntl(fds[0], F_GETFD) == 0); /* and a program would have it, too */
        ask(fcntl(fds[1], F_GETFD) == 0);
        /* Elsewhere the number may have come to mean something of brood's own. */
        ask(method != BROOD_START_FORK || (fcntl(fds[2], F_GETFD) < 0 && errno == EBADF));
        ask(brood_parent_sentinel() >= 0 && fcntl(brood_parent_sentinel(), F_GETFD) >= 0);
        /* A process of its own can be started without all that. */
        brood_process *p;
        static int number = 6;
        ask(brood_process_new(&p, &(brood_process_options){ .target = return_number, GIVEN(&number) }) == 0);
        ask(brood_process_start(p) == 0);
        ask(brood_process_join(p, BROOD_FOREVER) == 0);
        brood_process_free(p);
        return 5;
}

static void test_descriptors(void **state)
{
        (void)state;
        int fds[3];
        for (int i = 0; i < 3; i++)
                fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        const int keep[] = { fds[1], fds[0] };
        join_and_free(start_with_setup(see_descriptors, fds, sizeof fds,
                                       &(brood_process_setup){ .close_others = true, .keep = keep, .keep_count = 2 }),
                      5);
        for (int i = 0; i < 3; i++)
                close(fds[i]);
}

/* Closing all descriptors but a few is no way to outlive one's parent. */
static int host_of_a_closer(void *pid)
{
        brood_process *p;
        brood_process_options options = { .target = wait_for_ever,
                                          .start_method = method,
                                          .setup = { .close_others = true } };
        ask(brood_process_new(&p, &options) == 0);
        ask(brood_process_start(p) == 0);
        *(volatile pid_t *)pid = brood_process_pid(p);
        return 0;
}

static int host_of_a_program(void *pid)
{
        brood_process *p;
        const char *const argv[] = { "sleep", "1000", NULL };
        ask(brood_process_exec(&p, argv, NULL, NULL) == 0);
        *(volatile pid_t *)pid = brood_process_pid(p);
        return 0;
}

static void test_children_die_with_their_parent(void **state)
{
        (void)state;
        int (*const hosts[])(void *) = { host_of_a_closer, host_of_a_program };
        for (size_t i = 0; i < ARRAY_LENGTH(hosts); i++) {
                pid_t *pid = mmap(NULL, sizeof *pid, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
                assert_true(pid != MAP_FAILED);
                assert_int_equal(in_child(hosts[i], pid), 0);
                assert_true(*pid > 0);
                assert_true(support_process_gone(*pid, 10000));
                munmap(pid, sizeof *pid);
        }
}

static int see_limits(void *unused)
{
        struct rlimit limit;
        cpu_set_t cpus;
        (void)unused;
        ask(getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 77 && limit.rlim_max == 77);
        ask(getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur == (rlim_t)1 << 46);
        ask(getrlimit(RLIMIT_CPU, &limit) == 0 && limit.rlim_cur == 1000 && limit.rlim_max == 1001);
        ask(sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) == 1);
        ask(getsid(0) == getpid());
        errno = 0;
        ask(getpriority(PRIO_PROCESS, 0) > 0 && errno == 0);
        return 5;
}

static int first_cpu(void)
{
        cpu_set_t cpus;
        int cpu = 0;
        assert_int_equal(sched_getaffinity(0, sizeof cpus, &cpus), 0);
        while (!CPU_ISSET(cpu, &cpus))
                cpu++;
        return cpu;
}

static void test_limits(void **state)
{
        (void)state;
        const int cpu = first_cpu();
        const brood_process_setup setup = {
                .file_limit = 77,
                .memory_limit = UINT64_C(1) << 46 /* a sanitizer needs much */,
                .cpu_seconds = 1000,
                .process_limit = 100000,
                .cpus = &cpu,
                .cpus_count = 1,
                .nice = 3,
                .new_session = true,
        };
        join_and_free(start_with_setup(see_limits, NULL, 0, &setup), 5);
}

static int use_cpu(void *unused)
{
        (void)unused;
        for (volatile unsigned n = 1; n != 0; n |= 1)
                ;
        return 0;
}

static void test_cpu_limit(void **state)
{
        (void)state;
        join_and_free(start_with_setup(use_cpu, NULL, 0, &(brood_process_setup){ .cpu_seconds = 1 }), -SIGXCPU);
}

static int see_group(void *unused)
{
        (void)unused;
        return getpgrp() == getpid() && getsid(0) != getpid() ? 5 : 6;
}

static void test_group(void **state)
{
        (void)state;
        join_and_free(start_with_setup(see_group, NULL, 0, &(brood_process_setup){ .new_group = true }), 5);
}

/* ---- detached ---- */

static int say_directory(void *fd)
{
        char path[64] = "";
        return getcwd(path, sizeof path) != NULL && write(*(int *)fd, path, strlen(path)) > 0 ? 0 : 1;
}

static void test_detached(void **state)
{
        (void)state;
        int ends[2];
        char path[64] = "";
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        keep_descriptor(ends[1]);
        brood_process *p = NULL;
        brood_process_options options = {
                .target = say_directory,
                .detached = true,
                GIVEN(&ends[1]),
        };
        options.setup.directory = "/proc";
        assert_int_equal(brood_process_new(&p, &options), 0);
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(read(ends[0], path, sizeof path), 5);
        assert_string_equal(path, "/proc");
        brood_process_join(p, BROOD_FOREVER);
        brood_process_free(p);
        options.setup.directory = "/no/such";
        assert_int_equal(brood_process_new(&p, &options), 0);
        assert_int_equal(brood_process_start(p), -ENOENT);
        assert_string_equal(brood_process_failed_step(p), "directory");
        brood_process_free(p);
        close(ends[0]);
        close(ends[1]);
}

/* ---- failures ---- */

static const int no_cpu[] = { 100000 };
static const int closed_descriptor[] = { 987654 };

static const struct failure {
        brood_process_setup setup;
        int error;
        const char *step;
} failures[] = {
        { { .directory = "/no/such/directory" }, -ENOENT, "directory" },
        { { .directory = "/dev/null" }, -ENOTDIR, "directory" },
        { { .cgroup = "/no/such/group" }, -ENOENT, "control group" },
        { { .cgroup = "/" }, -ENOENT, "control group" },
        { { .cpus = no_cpu, .cpus_count = 1 }, -EINVAL, "CPUs" },
        { { .keep = closed_descriptor, .keep_count = 1 }, -EBADF, "descriptors" },
        { { .output = { BROOD_STREAM_DESCRIPTOR, 987654 } }, -EBADF, "streams" },
};

static int not_to_be_run(void *unused)
{
        (void)unused;
        return 99;
}

static void test_failures(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(failures); i++) {
                const struct failure *f = &failures[i];
                brood_process *p = NULL, *program = (brood_process *)&p;
                const brood_process_options options = { .target = not_to_be_run,
                                                        .start_method = method,
                                                        .setup = f->setup };
                assert_int_equal(brood_process_new(&p, &options), 0);
                assert_int_equal(brood_process_start(p), f->error);
                assert_string_equal(brood_process_failed_step(p), f->step);
                assert_int_equal(brood_process_pid(p), 0);
                assert_int_equal(brood_process_join(p, 0), -EINVAL); /* it has never started */
                brood_process_free(p);

                const brood_process_options for_program = { .setup = f->setup };
                const char *step = NULL;
                assert_int_equal(
                    brood_process_exec(&program, (const char *const[]){ "true", NULL }, &for_program, &step), f->error);
                assert_string_equal(step, f->step);
                assert_ptr_equal(program, &p);
                assert_int_equal(brood_wait(NULL, 0), -ECHILD);
                expect_no_children();
        }
}

/* ---- programs ---- */

static void test_program(void **state)
{
        (void)state;
        brood_process *p = NULL;
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "sh", "-c", "exit 42", NULL }, NULL, NULL), 0);
        assert_string_equal(brood_process_name(p), "sh");
        assert_true(brood_process_pid(p) > 0);
        join_and_free(p, 42);
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "/bin/sh", "-c", "kill -9 $$", NULL },
                                            &(brood_process_options){ .name = "lemming" }, NULL),
                         0);
        assert_string_equal(brood_process_name(p), "lemming");
        join_and_free(p, -SIGKILL);
        /* It is a child like any other. */
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "sleep", "1000", NULL }, NULL, NULL), 0);
        brood_process *found;
        assert_int_equal(brood_active_children(&found, 1), 1);
        assert_ptr_equal(found, p);
        assert_int_equal(brood_process_join(p, 10), -ETIMEDOUT);
        assert_int_equal(brood_process_end(p, 0, 20000), SIGTERM);
        join_and_free(p, -SIGTERM);
}

static void test_program_with_setup(void **state)
{
        (void)state;
        brood_process *p = NULL;
        const char *const environment[] = { "GREETING=hallo", NULL };
        const brood_process_options options = {
                .setup = {
                        .directory = "/proc",
                        .environment = environment,
                        .input = { .kind = BROOD_STREAM_NULL },
                        .output = { .kind = BROOD_STREAM_CAPTURE },
                        .errors = { .kind = BROOD_STREAM_STDOUT },
                        .file_limit = 200,
                        .close_others = true,
                },
        };
        const char *const argv[] = { "/bin/sh", "-c", "echo $GREETING; pwd; ulimit -n; cat; echo end >&2", NULL };
        assert_int_equal(brood_process_exec(&p, argv, &options, NULL), 0);
        assert_string_equal(read_all(p, 1), "hallo\n/proc\n200\nend\n");
        join_and_free(p, 0);
}

/* A program has the standard streams, what it was given, and one descriptor more: the lifeline. */
static void test_program_has_few_descriptors(void **state)
{
        (void)state;
        brood_process *p = NULL;
        brood_process_options options = { .setup = { .output = { .kind = BROOD_STREAM_CAPTURE },
                                                     .close_others = true } };
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "ls", "/proc/self/fd", NULL }, &options, NULL),
                         0);
        assert_string_equal(read_all(p, 1), "0\n1\n100\n2\n3\n"); /* 3: the directory that it reads */
        join_and_free(p, 0);
}

static void handle(int signal)
{
        (void)signal;
}

static void test_program_has_the_signals(void **state)
{
        (void)state;
        brood_process *p = NULL;
        sigset_t mask, before;
        struct sigaction action = { .sa_handler = handle }, usr1;
        sigemptyset(&mask);
        sigaddset(&mask, SIGUSR2);
        sigprocmask(SIG_BLOCK, &mask, &before);
        sigaction(SIGUSR1, &action, &usr1);
        brood_process_options options = { .setup = { .output = { .kind = BROOD_STREAM_CAPTURE } } };
        const char *const argv[] = { "grep", "-E", "^Sig(Blk|Cgt)", "/proc/self/status", NULL };
        assert_int_equal(brood_process_exec(&p, argv, &options, NULL), 0);
        unsigned long long blocked = 1, caught = 1;
        const char *text = read_all(p, 1);
        assert_int_equal(sscanf(text, "SigBlk: %llx SigCgt: %llx", &blocked, &caught), 2);
        assert_int_equal(blocked, 1ULL << (SIGUSR2 - 1));
        assert_int_equal(caught & 1ULL << (SIGUSR1 - 1), 0);
        join_and_free(p, 0);
        sigset_t now;
        sigprocmask(SIG_SETMASK, &before, &now);
        assert_true(sigismember(&now, SIGUSR2) && !sigismember(&now, SIGUSR1)); /* ours are as they were */
        sigaction(SIGUSR1, &usr1, &action);
        assert_ptr_equal(action.sa_handler, handle);
}

static void test_no_such_program(void **state)
{
        (void)state;
        brood_process *p = NULL;
        const char *step = "";
        assert_int_equal(
            brood_process_exec(&p, (const char *const[]){ "brood-has-no-such-program", NULL }, NULL, &step), -ENOENT);
        assert_string_equal(step, "program");
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "/dev/null", NULL }, NULL, &step), -EACCES);
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "/no/such", NULL }, NULL, NULL), -ENOENT);
        assert_null(p);
        assert_int_equal(support_count_children(getpid()), 0);
}

/* ---- bad input ---- */

static void test_bad_input(void **state)
{
        (void)state;
        static const int number = 0, negative = -1;
        static const brood_process_setup bad[] = {
                { .input = { .kind = BROOD_STREAM_STDOUT } },
                { .output = { .kind = BROOD_STREAM_STDOUT } },
                { .output = { .kind = (brood_stream_kind)77 } },
                { .errors = { .kind = BROOD_STREAM_DESCRIPTOR, .descriptor = -1 } },
                { .keep_count = 1 },
                { .keep = &negative, .keep_count = 1 },
                { .cpus_count = 1 },
                { .cpus = &number },
                { .new_session = true, .new_group = true },
        };
        const char *const argv[] = { "true", NULL }, *const nothing[] = { NULL };
        brood_process *p = NULL;
        for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
                const brood_process_options options = { .target = wait_for_ever, .setup = bad[i] };
                const brood_process_options for_program = { .setup = bad[i] };
                assert_int_equal(brood_process_new(&p, &options), -EINVAL);
                assert_int_equal(brood_process_exec(&p, argv, &for_program, NULL), -EINVAL);
        }
        assert_int_equal(brood_process_exec(NULL, argv, NULL, NULL), -EINVAL);
        assert_int_equal(brood_process_exec(&p, NULL, NULL, NULL), -EINVAL);
        assert_int_equal(brood_process_exec(&p, nothing, NULL, NULL), -EINVAL);
        assert_int_equal(brood_process_exec(&p, argv, &(brood_process_options){ .target = wait_for_ever }, NULL),
                         -EINVAL);
        assert_int_equal(brood_process_exec(&p, argv, &(brood_process_options){ .name = "" }, NULL), -EINVAL);
        assert_null(p);
        assert_string_equal(brood_process_failed_step(NULL), "");
        assert_int_equal(brood_process_stream(NULL, 0), -EINVAL);
        assert_int_equal(brood_process_close_stream(NULL, 0), -EINVAL);
        p = start_bare(wait_for_ever);
        assert_int_equal(brood_process_stream(p, 3), -EINVAL);
        assert_int_equal(brood_process_stream(p, -1), -EINVAL);
        assert_int_equal(brood_process_stream(p, 1), -ENOENT);
        brood_process_free(p);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                process_test(test_directory),
                process_test(test_environment),
                process_test(test_captured_streams),
                process_test(test_streams_elsewhere),
                process_test(test_no_standard_streams),
                process_test(test_descriptors),
                process_test(test_children_die_with_their_parent),
                process_test(test_limits),
                process_test(test_cpu_limit),
                process_test(test_group),
                process_test(test_detached),
                process_test(test_failures),
                process_test(test_program),
                process_test(test_program_with_setup),
                process_test(test_program_has_few_descriptors),
                process_test(test_program_has_the_signals),
                process_test(test_no_such_program),
                process_test(test_bad_input),
        };
        return setting_main(argc, argv, "setup", tests, ARRAY_LENGTH(tests), 80);
}
