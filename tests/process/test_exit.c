/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_exit.c: what a process calls when it ends (brood/exit.h): in children by each way in which they end, in
 * programs, in plain forks, and in the workers of a pool; and that what is buffered is written once.
 */
#include "setting.h"

#include <brood/exit.h>
#include <brood/pool.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Each function that is called writes its letter here, which is a descriptor of the test's. */
static int tell_fd = -1;

static void *at(char c)
{
        static char letters[128];
        letters[(int)c] = c;
        return &letters[(int)c];
}

static void tell(void *letter)
{
        if (write(tell_fd, letter, 1) != 1)
                _exit(90);
}

static void tell_and_register(void *letter)
{
        tell(letter);
        if (brood_at_exit(tell, at('x')) < 0 || brood_at_exit(tell, at('y')) < 0)
                _exit(91);
}

static void tell_and_exit(void *letter)
{
        tell(letter);
        exit(5);
}

/* How a child ends. */
enum way { WAY_RETURN, WAY_EXIT, WAY_EXIT_IN_FUNCTION, WAY_UNDERSCORE, WAY_SIGNAL };

struct job {
        enum way way;
        int fd;
};

static int register_and_end(void *arg)
{
        const struct job *job = arg;
        tell_fd = job->fd;
        ask(brood_at_exit(tell, at('a')) == 0);
        ask(brood_at_exit(tell_and_register, at('b')) == 0);
        ask(brood_at_exit(tell, at('c')) == 0);
        ask(brood_at_exit(tell, at('d')) == 0);
        ask(brood_at_exit(tell, at('c')) == 0);
        ask(brood_at_exit_cancel(tell, at('d')) == 0);
        ask(brood_at_exit_cancel(tell, at('d')) == -ENOENT);
        ask(brood_at_exit_cancel(tell_and_register, at('a')) == -ENOENT);
        switch (job->way) {
        case WAY_EXIT:
                exit(7);
        case WAY_EXIT_IN_FUNCTION:
                ask(brood_at_exit(tell_and_exit, at('e')) == 0);
                break;
        case WAY_UNDERSCORE:
                _exit(7);
        case WAY_SIGNAL:
                raise(SIGKILL);
                break;
        default:
                break;
        }
        return 7;
}

/* All that was written, when nobody has the write end any more. */
static void expect_told(int pipe_end, const char *expected)
{
        char text[64] = "";
        size_t length = 0;
        ssize_t n;
        while ((n = read(pipe_end, text + length, sizeof text - 1 - length)) > 0)
                length += (size_t)n;
        assert_int_equal(n, 0);
        assert_string_equal(text, expected);
}

static void make_pipe(int ends[2])
{
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        tell_fd = ends[1];
        keep_descriptor(ends[1]);
}

static void close_and_expect(int ends[2], const char *expected)
{
        forget_descriptor(ends[1]);
        close(ends[1]);
        expect_told(ends[0], expected);
        close(ends[0]);
        tell_fd = -1;
}

static void test_children(void **state)
{
        (void)state;
        static const struct {
                const char *told;
                int code;
        } wanted[] = {
                [WAY_RETURN] = { "ccbyxa", 7 },
                [WAY_EXIT] = { "ccbyxa", 7 },
                [WAY_EXIT_IN_FUNCTION] = { "eccbyxa", 5 },
                [WAY_UNDERSCORE] = { "", 7 },
                [WAY_SIGNAL] = { "", -SIGKILL },
        };
        /* This process's own: no child calls it. */
        assert_int_equal(brood_at_exit(tell, at('P')), 0);
        for (int way = WAY_RETURN; way <= WAY_SIGNAL; way++) {
                int ends[2];
                make_pipe(ends);
                struct job job = { (enum way)way, ends[1] };
                brood_process *p = start(register_and_end, &job);
                assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                expect_exitcode(p, wanted[way].code);
                brood_process_free(p);
                close_and_expect(ends, wanted[way].told);
        }
        assert_int_equal(brood_at_exit_cancel(tell, at('P')), 0);
        assert_int_equal(brood_at_exit_cancel(tell, at('P')), -ENOENT);
}

static void test_detached_child(void **state)
{
        (void)state;
        int ends[2];
        make_pipe(ends);
        struct job job = { WAY_RETURN, ends[1] };
        brood_process *p = start_detached(register_and_end, &job);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        brood_process_free(p);
        close_and_expect(ends, "ccbyxa");
}

/* A child has none of its parent's, also when it cannot know by a fork hook that it is one. */
static int end_by_exit(void *how)
{
        ask(brood_at_exit(tell, at('P')) == 0);
        for (int i = 0; i < 3; i++) {
                bool by_brood = strcmp(how, "brood") == 0;
                brood_process *p = NULL;
                pid_t pid = by_brood ? brood_fork(&p) : strcmp(how, "hooks") == 0 ? fork() : _Fork();
                ask(pid >= 0);
                if (pid == 0) {
                        if (i >= 1 && brood_at_exit_cancel(tell, at('P')) != -ENOENT)
                                _exit(92);
                        if (i == 2 && brood_at_exit(tell, at('C')) < 0)
                                _exit(93);
                        exit(0);
                }
                if (by_brood) {
                        ask(brood_process_join(p, BROOD_FOREVER) == 0);
                        brood_process_free(p);
                } else {
                        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                                ;
                }
        }
        exit(0);
}

static void test_forks(void **state)
{
        (void)state;
        static const char *const ways[] = { "brood", "hooks", "no hooks" };
        for (size_t i = 0; i < ARRAY_LENGTH(ways); i++) {
                int ends[2];
                make_pipe(ends);
                assert_int_equal(in_child(end_by_exit, (void *)(uintptr_t)ways[i]), HOST_DIED);
                close_and_expect(ends, "CP");
        }
}

/* ---- programs ---- */

/* This program, when it is run to see what main() calls in the end. */
static int end_as_program(const char *how)
{
        tell_fd = STDOUT_FILENO;
        if (brood_at_exit(tell, at('1')) < 0 || brood_at_exit(tell, at('2')) < 0)
                return 94;
        if (strcmp(how, "exit") == 0)
                exit(3);
        if (strcmp(how, "quick") == 0)
                quick_exit(3);
        return 3;
}

static void test_programs(void **state)
{
        (void)state;
        static const struct {
                const char *how, *told;
        } ways[] = { { "return", "21" }, { "exit", "21" }, { "quick", "" } };
        for (size_t i = 0; i < ARRAY_LENGTH(ways); i++) {
                const char *const argv[] = { "/proc/self/exe", "--end", ways[i].how, NULL };
                const brood_process_options options = { .setup = { .output = { .kind = BROOD_STREAM_CAPTURE } } };
                brood_process *p = NULL;
                assert_int_equal(brood_process_exec(&p, argv, &options, NULL), 0);
                expect_told(brood_process_stream(p, 1), ways[i].told);
                assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                int code = 3;
                int r = brood_process_exitcode(p, &code);
                assert_true(r == 0 || (r == -ENODATA && setting != SETTING_DEFAULT));
                assert_int_equal(code, 3);
                brood_process_free(p);
        }
}

/* ---- pools ---- */

static int register_in_worker(void *letter)
{
        return brood_at_exit(tell, letter);
}

static ssize_t do_nothing(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        return 0;
}

static void test_pool_workers(void **state)
{
        (void)state;
        int ends[2];
        make_pipe(ends);
        assert_int_equal(brood_at_exit(tell, at('P')), 0);
        brood_pool *pool = NULL;
        assert_int_equal(
            brood_pool_new(
                &pool, &(brood_pool_options){ .processes = 3, .initializer = register_in_worker, .initarg = at('w') }),
            0);
        assert_int_equal(brood_pool_apply(pool, do_nothing, NULL, 0, NULL, 0, BROOD_FOREVER), 0);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, BROOD_FOREVER), 0);
        brood_pool_free(pool);
        assert_int_equal(brood_at_exit_cancel(tell, at('P')), 0);
        close_and_expect(ends, "www");
}

/* ---- what is buffered ---- */

static char function_text[] = "<function>";

static void print_last(void *text)
{
        fputs(text, stdout);
}

static int print_and_register(void *unused)
{
        (void)unused;
        fputs("<target>", stdout);
        return brood_at_exit(print_last, function_text);
}

/* A host whose streams are pipes, both with a buffer, in which something is whenever a child is made. */
static int print_around_children(void *arg)
{
        static char buffers[2][4096];
        const int *fds = arg;
        ask(dup2(fds[0], STDOUT_FILENO) == STDOUT_FILENO && dup2(fds[1], STDERR_FILENO) == STDERR_FILENO);
        setvbuf(stdout, buffers[0], _IOFBF, sizeof buffers[0]);
        setvbuf(stderr, buffers[1], _IOFBF, sizeof buffers[1]);
        fputs("<before>", stdout);
        fputs("<before>", stderr);
        brood_process *p;
        ask(brood_process_new(&p, &(brood_process_options){ .target = print_and_register, METHOD }) == 0);
        ask(brood_process_start(p) == 0);
        ask(brood_process_join(p, BROOD_FOREVER) == 0);
        brood_process_free(p);
        fputs("<between>", stdout);
        fputs("<between>", stderr);
        pid_t pid = brood_fork(&p);
        if (pid == 0) {
                fputs("<forked>", stdout);
                fputs("<forked>", stderr);
                exit(print_and_register(NULL));
        }
        ask(brood_process_join(p, BROOD_FOREVER) == 0);
        brood_process_free(p);
        fputs("<after>", stdout);
        fputs("<after>", stderr);
        fflush(NULL);
        return 0;
}

static void test_output_is_written_once(void **state)
{
        (void)state;
        static const char *const wanted[] = {
                "<before><target><function><between><forked><target><function><after>",
                "<before><between><forked><after>",
        };
        int ends[2][2];
        assert_int_equal(pipe2(ends[0], O_CLOEXEC), 0);
        assert_int_equal(pipe2(ends[1], O_CLOEXEC), 0);
        assert_int_equal(in_child(print_around_children, (int[]){ ends[0][1], ends[1][1] }), 0);
        for (int i = 0; i < 2; i++) {
                char text[256] = "";
                close(ends[i][1]);
                ssize_t n = read(ends[i][0], text, sizeof text - 1);
                assert_true(n > 0);
                assert_string_equal(text, wanted[i]);
                close(ends[i][0]);
        }
}

static void test_bad_input(void **state)
{
        (void)state;
        assert_int_equal(brood_at_exit(NULL, at('a')), -EINVAL);
        assert_int_equal(brood_at_exit_cancel(NULL, at('a')), -EINVAL);
        assert_int_equal(brood_at_exit_cancel(tell, at('n')), -ENOENT);
}

int main(int argc, char **argv)
{
        if (argc == 3 && strcmp(argv[1], "--end") == 0)
                return end_as_program(argv[2]);
        const struct CMUnitTest tests[] = {
                process_test(test_children),  process_test(test_detached_child),
                fork_test(test_forks),        process_test(test_programs),
                fork_test(test_pool_workers), process_test(test_output_is_written_once),
                process_test(test_bad_input),
        };
        return setting_main(argc, argv, "exit", tests, ARRAY_LENGTH(tests), 80);
}
