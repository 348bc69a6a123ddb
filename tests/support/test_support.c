/* SPDX-License-Identifier: MIT
 *
 * tests/support/test_support.c: the harness itself under test.  A check that cannot fail is worth nothing, so each one
 * is shown a program that deserves to fail it (sample.c), and must catch it.
 */
#include "check.h"
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *sample_path;
static char output[1 << 18];

/* Run sample.c with these arguments; what it prints goes to `output`.  Returns its exit code, or -N for signal N.  With
 * `interrupt`, it gets that signal once it says "hanging". */
static int run_sample(const char *const *arguments, int interrupt)
{
        int fds[2];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0) {
                char *argv[8] = { (char *)(uintptr_t)sample_path };
                for (int i = 0; i < 6 && arguments[i]; i++)
                        argv[i + 1] = (char *)(uintptr_t)arguments[i];
                dup2(fds[1], STDOUT_FILENO);
                dup2(fds[1], STDERR_FILENO);
                unsetenv("BROOD_TEST_SEED");
                unsetenv("BROOD_TEST_ROUNDS");
                execv(sample_path, argv);
                _exit(127);
        }
        close(fds[1]);
        size_t have = 0;
        ssize_t n;
        while ((n = read(fds[0], output + have, sizeof output - 1 - have)) > 0) {
                have += (size_t)n;
                output[have] = '\0';
                if (interrupt && strstr(output, "hanging")) {
                        kill(pid, interrupt);
                        interrupt = 0;
                }
        }
        output[have] = '\0';
        close(fds[0]);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#define run(...) run_sample((const char *const[]){ __VA_ARGS__, NULL }, 0)

/* Whether the output has all of these words; shows the output if not. */
static void expect_output(const char *word)
{
        if (strstr(output, word))
                return;
        print_message("no \"%s\" in:\n%s\n", word, output);
        fail();
}

/* Every process that said "hanging <pid>" is gone; returns how many did. */
static int expect_all_gone(void)
{
        int count = 0;
        for (const char *at = output; (at = strstr(at, "hanging ")); at++, count++)
                assert_true(support_process_gone((pid_t)atoi(at + strlen("hanging ")), 5000));
        return count;
}

static void test_pass(void **state)
{
        (void)state;
        assert_int_equal(run("pass"), 0);
        expect_output("[ RUN      ] pass");
        expect_output("--seed ");
        expect_output("rounds 7");
        assert_int_equal(run("short-orphan"), 0);
}

static void test_failure(void **state)
{
        (void)state;
        assert_int_equal(run("fail"), 1);
        expect_output("1 != 0x2");
}

static void test_options(void **state)
{
        (void)state;
        static char first[sizeof output];
        assert_int_equal(run("pass", "--seed", "42", "--rounds", "3"), 0);
        expect_output("--seed 42");
        expect_output("rounds 3");
        const char *drawn = strstr(output, "random ");
        assert_non_null(drawn);
        snprintf(first, sizeof first, "%.*s", (int)strcspn(drawn, "\n"), drawn);
        assert_int_equal(run("pass", "--seed", "42"), 0);
        expect_output(first);
        assert_int_equal(run("pass", "--no-fork"), 0);
        assert_int_equal(run("pass", "--seed", "x"), 2);
        assert_int_equal(run("pass", "--unknown"), 2);
        assert_int_equal(run("pass", "--filter", "nothing has this name"), 1);
}

static void test_skip(void **state)
{
        (void)state;
        assert_int_equal(run("skip"), 77);
}

static void test_hang(void **state)
{
        (void)state;
        int64_t start = support_now_ms();
        assert_int_equal(run("hang"), 1);
        assert_true(support_now_ms() - start >= 1900);
        expect_output("not done after");
        expect_output("3 processes of the test");
        expect_output("[the test process]");
        expect_output("syscall");
        if (access("/usr/bin/gdb", X_OK) == 0)
                expect_output("backtrace of process");
        assert_int_equal(expect_all_gone(), 3);
}

static void test_interrupted(void **state)
{
        (void)state;
        assert_int_equal(run_sample((const char *const[]){ "hang", NULL }, SIGTERM), 1);
        expect_output("the watcher got signal 15");
        expect_output("processes of the test");
        assert_true(expect_all_gone() >= 1);
        assert_int_equal(run_sample((const char *const[]){ "hang", NULL }, SIGINT), 1);
        assert_true(expect_all_gone() >= 1);
}

static void test_crash(void **state)
{
        (void)state;
        assert_int_not_equal(run("crash"), 0);
#if !CHECK_ASAN /* whose handler reports and exits */
        expect_output("killed by signal 11");
#endif
        assert_int_equal(run("crash-with-child"), 1);
        expect_output("killed by signal 9");
        expect_output("left processes behind");
        assert_int_equal(expect_all_gone(), 1);
}

static void test_leaks(void **state)
{
        (void)state;
        static const struct {
                const char *name, *message;
        } leaks[] = {
                { "leak-process", "state S, a child of the test" },
                { "leak-zombie", "state Z, a child of the test" },
                { "leak-orphan", "an orphan" },
                { "leak-descriptor", "is /dev/null" },
                { "close-descriptor", "was closed" },
                { "leak-mapping", "/memfd:sample" },
        };
        for (size_t i = 0; i < sizeof leaks / sizeof leaks[0]; i++) {
                assert_int_equal(run(leaks[i].name), 1);
                expect_output("leak: ");
                expect_output(leaks[i].message);
                /* The next test of the same program is not blamed. */
                const char *leak = strstr(output, "leak: ");
                const char *next = strstr(output, "[ RUN      ] skip_it");
                assert_non_null(next);
                assert_true(leak < next || !strstr(next, "leak: "));
                expect_all_gone();
        }
}

static void test_leaked_name(void **state)
{
        (void)state;
        if (access("/dev/shm", W_OK) < 0)
                skip();
        char name[64];
        snprintf(name, sizeof name, "/dev/shm/brood-test-%d", (int)getpid());
        setenv("SAMPLE_SHM_NAME", name, 1);
        int result = run("leak-name");
        unlink(name);
        assert_int_equal(result, 1);
        expect_output(name);
}

static void test_child_assertion(void **state)
{
        (void)state;
        assert_int_equal(run("child-fails"), 0);
        expect_output("an assertion failed in the forked child");
}

static void test_process_table(void **state)
{
        (void)state;
        assert_int_equal(support_process_state(getpid()), 'R');
        assert_int_equal(support_parent_of(getpid()), getppid());
        int before = support_count_children(getpid());
        pid_t pid = fork();
        if (pid == 0) {
                pause();
                _exit(0);
        }
        assert_int_equal(support_count_children(getpid()), before + 1);
        assert_int_equal(support_parent_of(pid), getpid());
        assert_false(support_process_gone(pid, 20));
        kill(pid, SIGKILL);
        assert_true(support_process_gone(pid, 5000));
        assert_int_equal(support_process_state(pid), 'Z');
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        assert_int_equal(support_process_state(pid), 0);
        assert_int_equal(support_parent_of(pid), -1);
        assert_int_equal(support_count_children(getpid()), before);
}

static void test_counts(void **state)
{
        (void)state;
        int before = support_count_descriptors();
        int fd = open("/dev/null", O_RDONLY);
        assert_int_equal(support_count_descriptors(), before + 1);
        close(fd);
        assert_int_equal(support_count_descriptors(), before);
        assert_int_equal(support_count_mappings(), support_count_mappings());
        assert_true(support_count_mappings() > 3);
        int shared = support_count_shared_mappings();
        void *private = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_int_equal(support_count_shared_mappings(), shared);
        void *memory = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_int_equal(support_count_shared_mappings(), shared + 1);
        munmap(memory, 1);
        munmap(private, 1);
        assert_int_equal(support_count_shared_mappings(), shared);
        for (int i = 0; i < 1000; i++)
                assert_true(support_random(10) < 10);
        assert_int_equal(support_random(1), 0);
}

int main(int argc, char **argv)
{
        sample_path = getenv("BROOD_TEST_SAMPLE");
        if (!sample_path) {
                fprintf(stderr, "BROOD_TEST_SAMPLE must name the program that sample.c is\n");
                return 2;
        }
        static const struct CMUnitTest tests[] = {
                support_test(test_pass),          support_test(test_failure),
                support_test(test_options),       support_test(test_skip),
                support_test(test_hang),          support_test(test_interrupted),
                support_test(test_crash),         support_test(test_leaks),
                support_test(test_leaked_name),   support_test(test_child_assertion),
                support_test(test_process_table), support_test(test_counts),
        };
        return support_main(argc, argv, "support", tests, sizeof tests / sizeof tests[0], 100);
}
