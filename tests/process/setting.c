/* SPDX-License-Identifier: MIT
 *
 * tests/process/setting.c: the host's SIGCHLD setting, and small hosts: see setting.h.
 */
#include "setting.h"
#include "check.h"
#include "company.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum setting setting;
static bool in_company;

brood_start_method method;
const char fork_only[] = "about fork only";

static const char *const method_names[] = { "", "fork", "spawn", "forkserver" };

/* The number of a name in a list; the first that counts, if the variable is not there. */
static int chosen(const char *variable, const char *const *names, int first, int count)
{
        const char *name = getenv(variable);
        if (!name || !*name)
                return first;
        for (int i = first; i < count; i++)
                if (!strcmp(name, names[i]))
                        return i;
        fprintf(stderr, "%s cannot be %s\n", variable, name);
        exit(2);
}

int setting_main(int argc, char **argv, const char *stem, const struct CMUnitTest *tests, size_t count,
                 int limit_seconds)
{
        static const char *const names[] = { "default", "ignore", "reap" };
        static char suite[64];
        setting = (enum setting)chosen("BROOD_TEST_SIGCHLD", names, 0, 3);
        method = (brood_start_method)chosen("BROOD_TEST_START_METHOD", method_names, BROOD_START_FORK, 4);
        in_company = getenv("BROOD_TEST_THREADS") != NULL;
        if (brood_main(argc, argv) < 0)
                return 1;
        if (in_company && CHECK_ASAN) {
                /* A child that ends by exit(3) looks for leaks, and cannot stop the threads that it does not have. */
                puts("the address sanitizer is not whole after a fork beside other threads");
                return 77;
        }
        snprintf(suite, sizeof suite, "%s-%s-%s%s%s", stem, names[setting], method_names[method],
                 in_company ? "-threads" : "", getenv("BROOD_TEST_INIT") ? "-init" : "");
        static struct CMUnitTest some[64];
        size_t left = 0;
        if (count > sizeof some / sizeof some[0])
                return 1;
        for (size_t i = 0; i < count; i++) {
                bool about_fork = tests[i].initial_state == (void *)(uintptr_t)fork_only;
                if (about_fork && method != BROOD_START_FORK)
                        continue;
                some[left] = tests[i];
                some[left++].initial_state = NULL;
        }
        if (left < count)
                printf("%s: without %zu tests that are about fork only\n", suite, count - left);
        return support_main(argc, argv, suite, some, left, limit_seconds);
}

/* ---- descriptors that children have ---- */

static int kept[32];
static size_t kept_count;

void keep_descriptor(int fd)
{
        assert_true(kept_count < sizeof kept / sizeof kept[0]);
        kept[kept_count++] = fd;
}

void forget_descriptor(int fd)
{
        for (size_t i = 0; i < kept_count; i++)
                if (kept[i] == fd) {
                        kept[i] = kept[--kept_count];
                        return;
                }
}

/* A forked child has them anyway, and is to be one without a setup. */
brood_process_setup setting_kept(void)
{
        if (method == BROOD_START_FORK || kept_count == 0)
                return (brood_process_setup){ 0 };
        return (brood_process_setup){ .keep = kept, .keep_count = kept_count };
}

bool host_has_company(void)
{
        return in_company;
}

bool host_is_init(void)
{
        return getpid() == 1;
}

static bool is_brood_child(pid_t pid, brood_process *const *children, ssize_t count)
{
        for (ssize_t i = 0; i < count; i++)
                if (brood_process_pid(children[i]) == pid)
                        return true;
        return false;
}

void reap_adopted(void)
{
        enum { ROOM = 256 };
        static brood_process *children[ROOM];
        static pid_t ended[ROOM];
        if (!host_is_init())
                return;
        /* Looked at first: what has ended then and is brood's is reaped by the call after it. */
        int zombies = support_zombies(ended, ROOM);
        ssize_t count = brood_active_children(children, ROOM);
        for (int i = 0; i < zombies && count >= 0; i++)
                if (!is_brood_child(ended[i], children, count))
                        waitpid(ended[i], NULL, WNOHANG | __WALL);
}

static bool is_alone(void *unused)
{
        (void)unused;
        reap_adopted();
        return support_count_children(getpid()) == 0;
}

void expect_no_children(void)
{
        assert_int_equal(brood_forkserver_stop(), 0);
        if (host_is_init()) /* then these may be some that the server had, and has not reaped any more */
                support_until(is_alone, NULL, 10000);
        assert_int_equal(support_count_children(getpid()), 0);
}

static void reap_all(int signal)
{
        (void)signal;
        int before = errno;
        while (waitpid(-1, NULL, WNOHANG) > 0)
                ;
        errno = before;
}

static void set(enum setting wanted)
{
        struct sigaction action = { .sa_handler = SIG_DFL };
        if (wanted == SETTING_IGNORE)
                action.sa_handler = SIG_IGN;
        else if (wanted == SETTING_REAP)
                action.sa_handler = reap_all; /* without SA_RESTART, so that it also interrupts what it can */
        sigaction(SIGCHLD, &action, NULL);
}

int setting_setup(void **state)
{
        if (in_company && !company_begin())
                return -1;
        if (support_setup(state) < 0)
                return -1;
        set(setting);
        return 0;
}

int setting_teardown(void **state)
{
        set(SETTING_DEFAULT);
        brood_forkserver_stop();
        kept_count = 0;
        int r = support_teardown(state);
        company_end();
        return r;
}

/* linux/pidfd.h of 6.13; the headers of the build may be older. */
struct exit_info {
        uint64_t mask, cgroup;
        uint32_t ids[11];
        int32_t exit_code;
};

bool kernel_tells(void)
{
        static int known = -1;
        if (known >= 0)
                return known;
        set(SETTING_DEFAULT);
        pid_t pid = fork();
        if (pid == 0)
                _exit(7);
        int fd = (int)syscall(SYS_pidfd_open, pid, 0);
        waitpid(pid, NULL, 0);
        struct exit_info info = { .mask = 1 << 3 };
        known = ioctl(fd, _IOWR(0xff, 11, struct exit_info), &info) == 0 && (info.mask & (1 << 3)) &&
                info.exit_code == 7 << 8;
        close(fd);
        set(setting);
        print_message("the kernel tells the exit status of reaped processes: %s\n", known ? "yes" : "no");
        return known;
}

static void expect_code(brood_process *process, int code, bool certain)
{
        int told = 1234;
        int r = brood_process_exitcode(process, &told);
        if (r == -ENODATA && !certain && !kernel_tells()) {
                assert_int_equal(told, 1234);
                return;
        }
        assert_int_equal(r, 0);
        assert_int_equal(told, code);
}

void expect_exitcode(brood_process *process, int code)
{
        expect_code(process, code, setting == SETTING_DEFAULT || method == BROOD_START_FORKSERVER);
}

void expect_detached_exitcode(brood_process *process, int code)
{
        expect_code(process, code, method == BROOD_START_FORKSERVER);
}

bool is_fully_gone(void *pid)
{
        reap_adopted();
        return support_process_state(*(pid_t *)pid) == 0;
}

static bool is_reaped(void *pid)
{
        reap_adopted();
        pid_t r = waitpid(*(pid_t *)pid, NULL, WNOHANG | __WALL);
        return r > 0 || (r < 0 && errno == ECHILD);
}

/* Wait until a plain child has been reaped, by us or by the setting. */
static void await_plain_child(pid_t pid)
{
        if (host_is_init()) {
                support_until(is_reaped, &pid, 3600 * 1000); /* the hang limit is the harness's */
                return;
        }
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
}

void end_plain_child(pid_t pid)
{
        kill(pid, SIGKILL);
        await_plain_child(pid);
}

int in_child(int (*function)(void *arg), void *arg)
{
        int fds[2], value = HOST_DIED;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                close(fds[0]);
                value = function(arg);
                if (write(fds[1], &value, sizeof value) != sizeof value)
                        _exit(1);
                fflush(NULL);
                _exit(0);
        }
        close(fds[1]);
        /* Not by the end of the pipe: a detached process that the child started holds the write end too. */
        await_plain_child(pid);
        struct pollfd pfd = { .fd = fds[0], .events = POLLIN };
        bool told = poll(&pfd, 1, 0) == 1 && read(fds[0], &value, sizeof value) == sizeof value;
        close(fds[0]);
        return told ? value : HOST_DIED;
}

void gate_make(struct gate *gate)
{
        assert_int_equal(pipe2(gate->fds, O_CLOEXEC), 0);
        for (int i = 0; i < 2; i++)
                keep_descriptor(gate->fds[i]);
}

int gate_pass(struct gate *gate)
{
        char c;
        ssize_t n;
        while ((n = read(gate->fds[0], &c, 1)) < 0 && errno == EINTR)
                ;
        return n == 1 ? 0 : -1;
}

void gate_open(struct gate *gate)
{
        /* A byte for each who may wait: an end of file would need all the children to have closed the write end. */
        static const char bytes[4096];
        assert_int_equal(write(gate->fds[1], bytes, sizeof bytes), sizeof bytes);
        for (int i = 0; i < 2; i++) {
                forget_descriptor(gate->fds[i]);
                close(gate->fds[i]);
        }
}

int return_number(void *number)
{
        return *(int *)number;
}

int wait_for_gate(void *gate)
{
        return gate_pass(gate) == 0 ? 7 : 1;
}

int wait_for_ever(void *unused)
{
        (void)unused;
        for (;;)
                pause();
}

brood_process *start_with(const brood_process_options *options)
{
        brood_process *process = NULL;
        assert_int_equal(brood_process_new(&process, options), 0);
        assert_int_equal(brood_process_start(process), 0);
        return process;
}
