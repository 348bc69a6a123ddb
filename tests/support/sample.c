/* SPDX-License-Identifier: MIT
 *
 * tests/support/sample.c: a test program that misbehaves in the way that its first argument names.  test_support.c runs
 * it and looks at what the harness makes of it.
 */
#include "support.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_SECONDS 2

static void wait_for_ever(void)
{
        for (;;)
                pause();
}

static void tell_pid(const char *who)
{
        printf("%s %d\n", who, (int)getpid());
        fflush(stdout);
}

static void pass(void **state)
{
        (void)state;
        printf("random %llu\n", (unsigned long long)support_random(1000000));
        printf("rounds %d\n", support_rounds(7));
}

static void fail_plainly(void **state)
{
        (void)state;
        assert_int_equal(1, 2);
}

/* A child, and one that has left group, session and parent, hang with the test. */
static void hang(void **state)
{
        (void)state;
        tell_pid("hanging");
        if (fork() == 0) {
                tell_pid("hanging");
                wait_for_ever();
        }
        pid_t middle = fork();
        if (middle == 0) {
                if (fork() == 0) {
                        setsid();
                        tell_pid("hanging");
                        wait_for_ever();
                }
                _exit(0);
        }
        waitpid(middle, NULL, 0);
        wait_for_ever();
}

static void crash(void **state)
{
        (void)state;
        raise(SIGSEGV);
}

static void crash_with_child(void **state)
{
        (void)state;
        if (fork() == 0) {
                tell_pid("hanging");
                wait_for_ever();
        }
        raise(SIGKILL);
}

static void leak_process(void **state)
{
        (void)state;
        if (fork() == 0) {
                tell_pid("hanging");
                wait_for_ever();
        }
}

static void leak_zombie(void **state)
{
        (void)state;
        pid_t pid = fork();
        if (pid == 0)
                _exit(0);
        siginfo_t info;
        waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
}

static void leak_orphan(void **state)
{
        (void)state;
        pid_t middle = fork();
        if (middle == 0) {
                if (fork() == 0) {
                        tell_pid("hanging");
                        wait_for_ever();
                }
                _exit(0);
        }
        waitpid(middle, NULL, 0);
}

/* An orphan that ends is nobody's leak. */
static void short_orphan(void **state)
{
        (void)state;
        pid_t middle = fork();
        if (middle == 0) {
                if (fork() == 0)
                        _exit(0);
                _exit(0);
        }
        waitpid(middle, NULL, 0);
}

static void leak_descriptor(void **state)
{
        (void)state;
        assert_true(open("/dev/null", O_RDONLY) >= 0);
}

static int spare = -1;

static void close_descriptor(void **state)
{
        (void)state;
        close(spare);
}

static void leak_mapping(void **state)
{
        (void)state;
        int fd = memfd_create("sample", MFD_CLOEXEC);
        assert_int_equal(ftruncate(fd, 4096), 0);
        assert_true(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
        close(fd);
}

static void leak_name(void **state)
{
        (void)state;
        close(open(getenv("SAMPLE_SHM_NAME"), O_CREAT | O_RDWR, 0600));
}

static void child_fails(void **state)
{
        (void)state;
        pid_t pid = fork();
        if (pid == 0)
                assert_int_equal(1, 2);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 99);
}

static void skip_it(void **state)
{
        (void)state;
        skip();
}

static const struct {
        const char *name;
        CMUnitTestFunction function;
} samples[] = {
        { "pass", pass },
        { "fail", fail_plainly },
        { "hang", hang },
        { "crash", crash },
        { "crash-with-child", crash_with_child },
        { "leak-process", leak_process },
        { "leak-zombie", leak_zombie },
        { "leak-orphan", leak_orphan },
        { "short-orphan", short_orphan },
        { "leak-descriptor", leak_descriptor },
        { "close-descriptor", close_descriptor },
        { "leak-mapping", leak_mapping },
        { "leak-name", leak_name },
        { "child-fails", child_fails },
        { "skip", skip_it },
};

int main(int argc, char **argv)
{
        spare = open("/dev/null", O_RDONLY);
        for (size_t i = 0; argc > 1 && i < sizeof samples / sizeof samples[0]; i++) {
                if (strcmp(argv[1], samples[i].name) != 0)
                        continue;
                /* The second test shows that the first one's leak is not counted again. */
                const struct CMUnitTest tests[] = {
                        { samples[i].name, samples[i].function, support_setup, support_teardown, NULL },
                        support_test(skip_it),
                };
                return support_main(argc - 1, argv + 1, samples[i].name, tests, 2, LIMIT_SECONDS);
        }
        fprintf(stderr, "usage: %s SAMPLE\n", argv[0]);
        return 2;
}
