/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_detached_program.c: programs that are no children of their host and live on after it; their failures, which
 * must come back as those of any program; and hosts and first-level children that are killed in the middle of a start.
 */
#include "setting.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static const char *const cat[] = { "cat", NULL };

/* A detached cat, whose streams are ours. */
static brood_process *start_cat(void)
{
        brood_process *p = NULL;
        const brood_process_options options = {
                .detached = true,
                .setup = { .input = { .kind = BROOD_STREAM_CAPTURE }, .output = { .kind = BROOD_STREAM_CAPTURE } },
        };
        assert_int_equal(brood_process_exec(&p, cat, &options, NULL), 0);
        return p;
}

static void test_it_is_no_child(void **state)
{
        (void)state;
        char text[8] = "";
        brood_process *p = start_cat();
        pid_t pid = brood_process_pid(p);
        assert_true(pid > 0);
        assert_string_equal(brood_process_name(p), "cat");
        assert_int_equal(support_count_children(getpid()), 0);
        assert_int_not_equal(support_parent_of(pid), getpid());
        assert_int_equal(brood_active_children(NULL, 0), 0);
        assert_int_equal(brood_wait(NULL, BROOD_FOREVER), -ECHILD);
        assert_int_equal(brood_process_is_alive(p), 1);
        assert_int_equal(brood_process_join(p, 0), -EAGAIN);
        /* It is the program that the pid means. */
        assert_int_equal(write(brood_process_stream(p, 0), "hallo", 5), 5);
        assert_int_equal(read(brood_process_stream(p, 1), text, sizeof text), 5);
        assert_string_equal(text, "hallo");
        assert_int_equal(brood_process_close_stream(p, 0), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_detached_exitcode(p, 0);
        brood_process_free(p);
}

static void test_exit_codes(void **state)
{
        (void)state;
        brood_process *p = NULL;
        const brood_process_options options = { .detached = true, .name = "lemming" };
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "sh", "-c", "exit 42", NULL }, &options, NULL),
                         0);
        assert_string_equal(brood_process_name(p), "lemming");
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_detached_exitcode(p, 42);
        brood_process_free(p);
        p = start_cat();
        assert_int_equal(brood_process_end(p, 0, 20000), SIGTERM);
        expect_detached_exitcode(p, -SIGTERM);
        brood_process_free(p);
}

static void test_it_outlives_its_handle(void **state)
{
        (void)state;
        brood_process *p = start_cat();
        pid_t pid = brood_process_pid(p);
        int input = dup(brood_process_stream(p, 0));
        brood_process_free(p);
        assert_false(support_process_gone(pid, 20));
        close(input);
        assert_true(support_process_gone(pid, 20000));
}

static int start_and_end(void *arg)
{
        const int *fds = arg;
        brood_process *p = NULL;
        const brood_process_options options = {
                .detached = true,
                .setup = { .input = { BROOD_STREAM_DESCRIPTOR, fds[0] },
                           .output = { BROOD_STREAM_DESCRIPTOR, fds[1] } },
        };
        ask(brood_process_exec(&p, cat, &options, NULL) == 0);
        int pid = brood_process_pid(p);
        brood_process_free(p);
        return pid;
}

static int start_and_die(void *arg)
{
        start_and_end(arg);
        return raise(SIGKILL);
}

/* Whatever is written to cat comes back, and then its end; -1 if something else comes. */
static int answer(int input, int output)
{
        char text[8];
        ssize_t n;
        int count = write(input, "x", 1) == 1 ? 0 : -1;
        close(input);
        while (count >= 0 && (n = read(output, text, sizeof text)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                count = n > 0 ? count + (int)n : -1;
        }
        close(output);
        return count;
}

static void test_it_outlives_its_host(void **state)
{
        (void)state;
        for (int die = 0; die < 2; die++) {
                int in[2], out[2];
                assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
                int pid = in_child(die ? start_and_die : start_and_end, (int[]){ in[0], out[1] });
                assert_true(die ? pid == HOST_DIED : pid > 0);
                assert_true(die || !support_process_gone(pid, 20));
                close(in[0]);
                close(out[1]);
                assert_int_equal(answer(in[1], out[0]), 1);
        }
}

/* Its streams, and nothing by which anybody's end would be its own. */
static void test_it_has_few_descriptors(void **state)
{
        (void)state;
        char text[64] = "";
        brood_process *p = NULL;
        const brood_process_options options = {
                .detached = true,
                .setup = { .output = { .kind = BROOD_STREAM_CAPTURE }, .close_others = true },
        };
        assert_int_equal(brood_process_exec(&p, (const char *const[]){ "ls", "/proc/self/fd", NULL }, &options, NULL),
                         0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        assert_true(read(brood_process_stream(p, 1), text, sizeof text - 1) > 0);
        assert_string_equal(text, "0\n1\n2\n3\n"); /* 3: the directory that it reads */
        brood_process_free(p);
}

/* The first-level child's end is no event of the host's. */
static atomic_int signals;

static void count_signal(int signal)
{
        (void)signal;
        signals++;
}

static void test_no_signal(void **state)
{
        (void)state;
        struct sigaction action = { .sa_handler = count_signal }, before;
        sigaction(SIGCHLD, &action, &before);
        signals = 0;
        brood_process *p = start_cat();
        assert_int_equal(brood_process_kill(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        brood_process_free(p);
        assert_int_equal(signals, 0);
        sigaction(SIGCHLD, &before, NULL);
}

static void test_failures(void **state)
{
        (void)state;
        static const int closed = 987654;
        static const struct {
                const char *program;
                brood_process_setup setup;
                int error;
                const char *step;
        } failures[] = {
                { "brood-has-no-such-program", { 0 }, -ENOENT, "program" },
                { "/dev/null", { 0 }, -EACCES, "program" },
                { "true", { .directory = "/no/such/directory" }, -ENOENT, "directory" },
                { "true", { .cgroup = "/no/such/group" }, -ENOENT, "control group" },
                { "true", { .keep = &closed, .keep_count = 1 }, -EBADF, "descriptors" },
                { "true", { .output = { BROOD_STREAM_DESCRIPTOR, closed } }, -EBADF, "streams" },
        };
        for (size_t i = 0; i < ARRAY_LENGTH(failures); i++) {
                const brood_process_options options = { .detached = true, .setup = failures[i].setup };
                const char *const argv[] = { failures[i].program, NULL }, *step = "";
                brood_process *p = NULL;
                assert_int_equal(brood_process_exec(&p, argv, &options, &step), failures[i].error);
                assert_string_equal(step, failures[i].step);
                assert_null(p);
                assert_int_equal(support_count_children(getpid()), 0);
        }
}

/* ---- killed in the middle ---- */

static void nap(uint64_t ns)
{
        nanosleep(&(struct timespec){ .tv_nsec = (long)ns }, NULL);
}

/* A host that is killed at any moment leaves a program that runs, or nothing: no process that is neither. */
static void test_hosts_that_are_killed(void **state)
{
        (void)state;
        int ran = 0, rounds = support_rounds(100);
        for (int i = 0; i < rounds; i++) {
                int in[2], out[2];
                assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
                pid_t host = fork();
                assert_true(host >= 0);
                if (host == 0) {
                        close(in[1]);
                        start_and_end((int[]){ in[0], out[1] });
                        wait_for_ever(NULL);
                }
                nap(support_random(1500000));
                end_plain_child(host);
                close(in[0]);
                close(out[1]);
                /* The write may have no reader. */
                signal(SIGPIPE, SIG_IGN);
                int told = answer(in[1], out[0]);
                signal(SIGPIPE, SIG_DFL);
                assert_true(told == 0 || told == 1 || told == -1);
                ran += told == 1;
        }
        print_message("%d of %d programs ran\n", ran, rounds);
}

/* Whatever child `host` has is killed, now and then. */
static void kill_children_of(pid_t host)
{
        char path[64], text[64];
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)host, (int)host);
        for (;;) {
                nap(support_random(1000000));
                int fd = open(path, O_RDONLY | O_CLOEXEC);
                ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
                if (n < 0)
                        _exit(0);
                close(fd);
                text[n] = '\0';
                for (char *at = text, *end; n > 0; at = end) {
                        long pid = strtol(at, &end, 10);
                        if (end == at)
                                break;
                        if (pid != getpid())
                                kill((pid_t)pid, SIGKILL);
                }
        }
}

/* A first-level child that is killed: the start says so, or the program runs. */
static void test_first_level_children_that_are_killed(void **state)
{
        (void)state;
        pid_t host = getpid(), killer = fork();
        assert_true(killer >= 0);
        if (killer == 0)
                kill_children_of(host);
        int failed = 0, rounds = support_rounds(200);
        errno = EINVAL; /* the libc's word is shared, too: what is in it must not come back as an error */
        for (int i = 0; i < rounds; i++) {
                brood_process *p = NULL;
                const brood_process_options options = { .detached = true,
                                                        .setup = { .output = { .kind = BROOD_STREAM_CAPTURE } } };
                int r = brood_process_exec(&p, (const char *const[]){ "echo", "ran", NULL }, &options, NULL);
                if (r == 0) {
                        char text[8] = "";
                        assert_int_equal(read(brood_process_stream(p, 1), text, sizeof text), 4);
                        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                        brood_process_free(p);
                } else {
                        assert_int_equal(r, -EAGAIN);
                        assert_null(p);
                        failed++;
                }
        }
        end_plain_child(killer);
        print_message("%d of %d starts failed\n", failed, rounds);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                process_test(test_it_is_no_child),
                process_test(test_exit_codes),
                process_test(test_it_outlives_its_handle),
                process_test(test_it_outlives_its_host),
                process_test(test_it_has_few_descriptors),
                process_test(test_no_signal),
                process_test(test_failures),
                process_test(test_hosts_that_are_killed),
                process_test(test_first_level_children_that_are_killed),
        };
        return setting_main(argc, argv, "detached-program", tests, ARRAY_LENGTH(tests), 80);
}
