/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_init.c: a host that is PID 1 of a PID namespace, as the one program of a container is: it adopts what loses
 * its parent, the kernel keeps signals from it for which it has no handler, and its end is the end of all.  With a /proc of the
 * namespace, and with the one of the machine, in which no pid is what the host takes it for.
 */
#include "namespace.h"
#include "setting.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

enum { NOT_ALLOWED = -77 };

struct init {
        int (*live)(void *arg);
        void *arg;
        bool fresh_proc;
};

static int be_init(const struct init *init)
{
        if (init->fresh_proc && namespace_mount_proc() < 0)
                return NOT_ALLOWED;
        ask(getpid() == 1);
        return init->live(init->arg);
}

/* In a plain child: what PID 1 returned, by a pipe; the launcher waits for its end. */
static int launch(void *arg)
{
        const struct init *init = arg;
        int ends[2], value = HOST_DIED;
        ask(pipe2(ends, O_CLOEXEC) == 0);
        if (namespace_begin() < 0)
                return NOT_ALLOWED;
        pid_t pid = fork();
        if (pid == 0) {
                value = be_init(init);
                _exit(write(ends[1], &value, sizeof value) == sizeof value ? 0 : 1);
        }
        close(ends[1]);
        ask(pid > 0);
        ssize_t n;
        while ((n = read(ends[0], &value, sizeof value)) < 0 && errno == EINTR)
                ;
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return value;
}

static void as_init(int (*live)(void *arg), void *arg, int expected)
{
        for (int fresh = 0; fresh < 2; fresh++) {
                struct init init = { live, arg, fresh };
                int value = in_child(launch, &init);
                if (value == NOT_ALLOWED) {
                        print_message("not allowed here: a PID namespace%s\n", fresh ? " with a /proc of its own" : "");
                        skip();
                }
                assert_int_equal(value, expected);
        }
}

/* ---- a host's life, as PID 1 ---- */

static brood_process *begin(int (*target)(void *arg), const void *bytes, size_t size, bool detached)
{
        const brood_process_options options = {
                .target = target, METHOD, .bytes = bytes, .size = size, .detached = detached
        };
        brood_process *p = NULL;
        if (brood_process_new(&p, &options) == 0 && brood_process_start(p) == 0)
                return p;
        brood_process_free(p);
        return NULL;
}

/* Join it; whether it has ended with this code. */
static bool finish(brood_process *p, int expected)
{
        int code = -1;
        if (p == NULL || brood_process_join(p, 20000) != 0)
                return false;
        int r = brood_process_exitcode(p, &code);
        brood_process_free(p);
        return (r == 0 && code == expected) || (r == -ENODATA && setting != SETTING_DEFAULT);
}

/* Whether no child is left but the fork server, which is stopped and is reaped at the next look. */
static bool is_alone(void)
{
        if (brood_forkserver_stop() != 0 || brood_wait(NULL, 0) != -ECHILD)
                return false;
        return waitpid(-1, NULL, WNOHANG | __WALL) < 0 && errno == ECHILD;
}

static int live(void *unused)
{
        int number = 7;
        (void)unused;
        ask(finish(begin(return_number, &number, sizeof number, false), 7));
        ask(finish(begin(return_number, &number, sizeof number, true), 7));
        brood_process *p = begin(wait_for_ever, NULL, 0, false);
        ask(p != NULL && brood_process_is_alive(p) == 1);
        ask(brood_process_join(p, 0) == -EAGAIN);
        ask(brood_process_terminate(p) == 0); /* the child is not PID 1 */
        ask(brood_wait(NULL, 20000) == brood_process_pid(p));
        ask(finish(p, -SIGTERM));
        brood_process_free(begin(wait_for_ever, NULL, 0, false)); /* killed */
        p = begin(wait_for_ever, NULL, 0, true);
        ask(p != NULL && brood_process_kill(p) == 0);
        ask(finish(p, -SIGKILL)); /* adopted here, and reaped here by the join */
        ask(is_alone());
        return 5;
}

static void test_life_as_init(void **state)
{
        (void)state;
        as_init(live, NULL, 5);
}

static int program(void *unused)
{
        const char *const argv[] = { "sh", "-c", "exit 6", NULL };
        brood_process *p = NULL;
        (void)unused;
        ask(brood_process_exec(&p, argv, NULL, NULL) == 0);
        ask(finish(p, 6));
        const char *const nothing[] = { "/no/such/program", NULL };
        ask(brood_process_exec(&p, nothing, NULL, NULL) == -ENOENT);
        ask(is_alone());
        return 5;
}

static void test_program_as_init(void **state)
{
        (void)state;
        as_init(program, NULL, 5);
}

/* Make an orphan, which PID 1 adopts; it ends with 9 when `go` is closed. */
static pid_t make_orphan(int *ret_go)
{
        int told[2], go[2];
        pid_t orphan = -1;
        if (pipe2(told, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
                return -1;
        pid_t parent = fork();
        if (parent == 0) {
                pid_t pid = fork();
                if (pid != 0)
                        _exit(write(told[1], &pid, sizeof pid) == sizeof pid ? 0 : 1);
                char c;
                close(go[1]);
                while (read(go[0], &c, 1) < 0 && errno == EINTR)
                        ;
                _exit(9);
        }
        while (waitpid(parent, NULL, 0) < 0 && errno == EINTR)
                ;
        while (read(told[0], &orphan, sizeof orphan) < 0 && errno == EINTR)
                ;
        close(told[0]);
        close(told[1]);
        close(go[0]);
        *ret_go = go[1];
        return orphan;
}

/* Strangers: brood neither waits for them nor reaps them, nor is it disturbed by them. */
static int adopt(void *unused)
{
        int go, number = 7, status = 0;
        (void)unused;
        pid_t orphan = make_orphan(&go);
        ask(orphan > 1);
        ask(brood_wait(NULL, BROOD_FOREVER) == -ECHILD);
        ask(finish(begin(return_number, &number, sizeof number, false), 7));
        siginfo_t info = { 0 };
        close(go);
        if (setting == SETTING_DEFAULT) {
                ask(waitid(P_PID, (id_t)orphan, &info, WEXITED | WNOWAIT) == 0);
        } else { /* then the host, or the kernel, reaps it */
                while (waitpid(orphan, &status, 0) < 0 && errno == EINTR)
                        ;
        }
        brood_process *p = begin(return_number, &number, sizeof number, false);
        ask(p != NULL && brood_wait(NULL, 20000) == brood_process_pid(p));
        ask(finish(p, 7));
        ask(brood_wait(NULL, BROOD_FOREVER) == -ECHILD);
        ask(brood_active_children(NULL, 0) == 0);
        if (setting == SETTING_DEFAULT)
                ask(waitpid(orphan, &status, WNOHANG) == orphan && WIFEXITED(status) && WEXITSTATUS(status) == 9);
        ask(is_alone());
        return 5;
}

static void test_adopted_strangers(void **state)
{
        (void)state;
        as_init(adopt, NULL, 5);
}

/* Signals that would end another host do not reach PID 1; its children have them at their defaults all the same. */
static int get_signals(void *unused)
{
        static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGALRM };
        (void)unused;
        for (size_t i = 0; i < ARRAY_LENGTH(signals); i++) {
                ask(signal(signals[i], SIG_DFL) != SIG_ERR);
                ask(kill(getpid(), signals[i]) == 0);
        }
        brood_process *p = begin(wait_for_ever, NULL, 0, false);
        ask(p != NULL && brood_process_end(p, 10000, 10000) == SIGINT);
        ask(finish(p, -SIGINT));
        ask(is_alone());
        return 5;
}

static void test_signals_of_init(void **state)
{
        (void)state;
        as_init(get_signals, NULL, 5);
}

/* With PID 1 all of its namespace ends, detached ones too. */
static int end_with_children(void *arg)
{
        const int *ends = arg;
        for (int detached = 0; detached < 2; detached++) {
                brood_process *p = begin(wait_for_ever, NULL, 0, detached);
                ask(p != NULL && brood_process_is_alive(p) == 1);
        }
        ask(write(ends[1], "x", 1) == 1);
        _exit(0);
}

static void test_end_of_init(void **state)
{
        (void)state;
        int ends[2];
        char c;
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        keep_descriptor(ends[1]);
        as_init(end_with_children, ends, HOST_DIED);
        close(ends[1]);
        for (int i = 0; i < 2; i++)
                assert_int_equal(read(ends[0], &c, 1), 1);
        /* The children have the other end: it is gone when they are. */
        struct pollfd end = { .fd = ends[0], .events = POLLIN };
        int r;
        while ((r = poll(&end, 1, 10000)) < 0 && errno == EINTR)
                ;
        assert_int_equal(r, 1);
        assert_int_equal(read(ends[0], &c, 1), 0);
        close(ends[0]);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                process_test(test_life_as_init),      process_test(test_program_as_init),
                process_test(test_adopted_strangers), process_test(test_signals_of_init),
                process_test(test_end_of_init),
        };
        return setting_main(argc, argv, "init", tests, ARRAY_LENGTH(tests), 60);
}
