/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_log.c: the log: off by default, its lines and levels, in children by each start method, what is too long, many
 * who write at once, and callbacks, which may call brood and wait for others who do.
 */
#include "setting.h"

#include <brood/log.h>
#include <brood/pool.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* ---- what comes out of stderr ---- */

static int original = -1, lines_fd = -1;
static char text[1 << 16];

/* From here on stderr is a file. */
static void catch_stderr(void)
{
        lines_fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC | O_APPEND, 0600);
        assert_true(lines_fd >= 0);
        fflush(stderr);
        original = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(original >= 0 && dup2(lines_fd, STDERR_FILENO) == STDERR_FILENO);
}

/* Up to here; what was written is in `text`. */
static const char *caught(void)
{
        assert_int_equal(brood_log_to_stderr(BROOD_LOG_OFF), 0);
        dup2(original, STDERR_FILENO);
        close(original);
        ssize_t n = pread(lines_fd, text, sizeof text - 1, 0);
        assert_true(n >= 0);
        text[n] = '\0';
        close(lines_fd);
        return text;
}

/* Each line as it should be is taken out, once. */
__attribute__((format(printf, 1, 2))) static void expect_line(const char *format, ...)
{
        char line[256];
        va_list arguments;
        va_start(arguments, format);
        size_t length = (size_t)vsnprintf(line, sizeof line, format, arguments);
        va_end(arguments);
        char *at = strstr(text, line);
        if (at == NULL)
                print_message("not there: %s\nin: %s\n", line, text);
        assert_non_null(at);
        assert_true(at == text || at[-1] == '\n');
        memmove(at, at + length, strlen(at + length) + 1);
}

/* ---- stderr ---- */

static int say(void *unused)
{
        (void)unused;
        brood_log(BROOD_LOG_WARNING, "said %d", 7);
        brood_log(BROOD_LOG_DEBUG, "whispered");
        return 3;
}

static int level_as_code(void *unused)
{
        (void)unused;
        brood_log(BROOD_LOG_ERROR, "here");
        return (int)brood_log_get_level();
}

static int pid_of(brood_process *p)
{
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        int pid = brood_process_pid(p);
        brood_process_free(p);
        return pid;
}

static void test_off_by_default(void **state)
{
        (void)state;
        assert_int_equal(brood_log_get_level(), BROOD_LOG_OFF);
        catch_stderr();
        say(NULL);
        pid_of(start_bare(say));
        assert_string_equal(caught(), "");
}

static const char *how(void)
{
        return method == BROOD_START_FORK ? "fork" : method == BROOD_START_SPAWN ? "spawn" : "forkserver";
}

static bool code_is_known(void)
{
        return setting == SETTING_DEFAULT || method == BROOD_START_FORKSERVER || kernel_tells();
}

static void test_lines(void **state)
{
        (void)state;
        bool known = code_is_known();
        catch_stderr();
        assert_int_equal(brood_log_to_stderr(BROOD_LOG_INFO), 0);
        assert_int_equal(brood_log_get_level(), BROOD_LOG_INFO);
        int self = getpid();
        brood_process *p = start_with(&(brood_process_options){ .target = say, .name = "talker", METHOD });
        int pid = pid_of(p);
        p = start_with(&(brood_process_options){ .target = wait_for_ever, .name = "sleeper", METHOD });
        brood_process_kill(p);
        int sleeper = pid_of(p);
        say(NULL);
        brood_forkserver_stop();
        caught();
        expect_line("[INFO/MainProcess/%d] started talker, pid %d, by %s\n", self, pid, how());
        expect_line("[INFO/talker/%d] child process calling its target\n", pid);
        expect_line("[WARNING/talker/%d] said 7\n", pid);
        expect_line("[INFO/talker/%d] process exiting with exit code 3\n", pid);
        expect_line("[INFO/MainProcess/%d] started sleeper, pid %d, by %s\n", self, sleeper, how());
        expect_line("[WARNING/MainProcess/%d] said 7\n", self);
        if (host_has_company() && method == BROOD_START_FORK) {
                expect_line("[WARNING/MainProcess/%d] talker, pid %d, was forked beside other threads\n", self, pid);
                expect_line("[WARNING/MainProcess/%d] sleeper, pid %d, was forked beside other threads\n", self,
                            sleeper);
        }
        if (known) {
                expect_line("[INFO/MainProcess/%d] talker, pid %d, ended with exit code 3\n", self, pid);
                expect_line("[INFO/MainProcess/%d] sleeper, pid %d, was ended by SIGKILL\n", self, sleeper);
        }
        char calling[80];
        snprintf(calling, sizeof calling, "[INFO/sleeper/%d] child process calling its target\n", sleeper);
        if (strstr(text, calling))
                expect_line("%s", calling); /* the signal may have been quicker */
        if (method == BROOD_START_FORKSERVER) {
                int server = -1;
                const char *at = strstr(text, "started forkserver, pid ");
                assert_true(at && sscanf(at, "started forkserver, pid %d", &server) == 1);
                expect_line("[INFO/MainProcess/%d] started forkserver, pid %d, by spawn\n", self, server);
                assert_non_null(strstr(text, "forkserver, pid "));
        } else if (known) {
                assert_string_equal(text, "");
        }
}

static void *pass_gate(void *gate)
{
        gate_pass(gate);
        return NULL;
}

static void test_warning_of_threads(void **state)
{
        (void)state;
        struct gate gate;
        pthread_t thread;
        gate_make(&gate);
        catch_stderr();
        brood_log_to_stderr(BROOD_LOG_WARNING);
        assert_int_equal(pthread_create(&thread, NULL, pass_gate, &gate), 0);
        int pid = pid_of(start_with(&(brood_process_options){ .target = level_as_code, .name = "copy", METHOD }));
        gate_open(&gate);
        pthread_join(thread, NULL);
        caught();
        expect_line("[ERROR/copy/%d] here\n", pid);
        expect_line("[WARNING/MainProcess/%d] copy, pid %d, was forked beside other threads\n", getpid(), pid);
        assert_string_equal(text, "");
}

static void test_levels(void **state)
{
        (void)state;
        static const brood_log_level levels[] = { BROOD_LOG_DEBUG, BROOD_LOG_INFO, BROOD_LOG_WARNING, BROOD_LOG_ERROR };
        static const char *const names[] = { "DEBUG", "INFO", "WARNING", "ERROR" };
        for (size_t from = 0; from < ARRAY_LENGTH(levels); from++) {
                catch_stderr();
                assert_int_equal(brood_log_to_stderr(levels[from]), 0);
                assert_int_equal(brood_log_get_level(), levels[from]);
                for (size_t i = 0; i < ARRAY_LENGTH(levels); i++)
                        brood_log(levels[i], "number %zu", i);
                brood_log(BROOD_LOG_OFF, "never");
                brood_log((brood_log_level)77, "never");
                brood_log(BROOD_LOG_ERROR, NULL);
                caught();
                for (size_t i = from; i < ARRAY_LENGTH(levels); i++)
                        expect_line("[%s/MainProcess/%d] number %zu\n", names[i], getpid(), i);
                assert_string_equal(text, "");
        }
        assert_int_equal(brood_log_to_stderr((brood_log_level)15), -EINVAL);
        assert_int_equal(brood_log_to_stderr((brood_log_level)0), -EINVAL);
        assert_int_equal(brood_log_to(NULL, NULL, BROOD_LOG_INFO), -EINVAL);
        assert_int_equal(brood_log_get_level(), BROOD_LOG_OFF);
}

static void test_long_messages_are_cut(void **state)
{
        (void)state;
        static char message[3 * BROOD_LOG_LINE_MAX];
        char before[64];
        int head = snprintf(before, sizeof before, "[ERROR/MainProcess/%d] ", getpid());
        size_t room = BROOD_LOG_LINE_MAX - 1 - (size_t)head; /* and a newline */
        for (size_t length = room - 2; length < room + 3; length++) {
                memset(message, 'x', length);
                message[length] = '\0';
                catch_stderr();
                assert_int_equal(brood_log_to_stderr(BROOD_LOG_ERROR), 0);
                brood_log(BROOD_LOG_ERROR, "%s", message);
                size_t wanted = length < room ? (size_t)head + length + 1 : BROOD_LOG_LINE_MAX;
                assert_int_equal(strlen(caught()), wanted);
                assert_int_equal(text[wanted - 1], '\n');
                assert_int_equal(text[wanted - 2], length <= room ? 'x' : '.');
                assert_int_equal(text[wanted - 4], length <= room ? 'x' : '.');
                assert_int_equal(text[wanted - 5], 'x');
        }
}

static void test_errno(void **state)
{
        (void)state;
        catch_stderr();
        brood_log_to_stderr(BROOD_LOG_ERROR);
        errno = ENOENT;
        brood_log(BROOD_LOG_ERROR, "%m");
        int now = errno;
        close(STDERR_FILENO);
        errno = EACCES;
        brood_log(BROOD_LOG_ERROR, "into nowhere");
        int then = errno;
        caught();
        expect_line("[ERROR/MainProcess/%d] %s\n", getpid(), strerror(ENOENT));
        assert_int_equal(now, ENOENT);
        assert_int_equal(then, EACCES);
}

enum { WRITERS = 4, LINES = 100 };

static int say_often(void *unused)
{
        (void)unused;
        for (int i = 0; i < LINES; i++)
                brood_log(BROOD_LOG_ERROR, "line %d of many", i);
        return 0;
}

static void test_lines_do_not_mix(void **state)
{
        (void)state;
        brood_process *p[WRITERS];
        int pids[WRITERS];
        catch_stderr();
        brood_log_to_stderr(BROOD_LOG_ERROR);
        for (int i = 0; i < WRITERS; i++)
                p[i] = start_bare(say_often);
        for (int i = 0; i < WRITERS; i++)
                pids[i] = pid_of(p[i]);
        caught();
        for (int i = 0; i < LINES * WRITERS; i++) {
                char *end = strchr(text, '\n');
                int pid, number;
                assert_non_null(end);
                assert_int_equal(sscanf(text, "[ERROR/Process-%*d/%d] line %d of many\n", &pid, &number), 2);
                int writer = 0;
                while (writer < WRITERS && pids[writer] != pid)
                        writer++;
                assert_in_range(writer, 0, WRITERS - 1);
                assert_in_range(number, 0, LINES - 1);
                memmove(text, end + 1, strlen(end + 1) + 1);
        }
        assert_string_equal(text, "");
}

static ssize_t say_as_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        return say(NULL) == 3 ? getpid() : 0;
}

/* A pool's keeper says what becomes of its workers. */
static void test_pool(void **state)
{
        (void)state;
        brood_pool *pool = NULL;
        catch_stderr();
        brood_log_to_stderr(BROOD_LOG_INFO);
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1 }), 0);
        pid_t worker = 0;
        assert_int_equal(brood_pool_workers(pool, &worker, 1), 1);
        assert_int_equal(brood_pool_apply(pool, say_as_task, NULL, 0, NULL, 0, BROOD_FOREVER), -EMSGSIZE);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, BROOD_FOREVER), 0);
        brood_pool_free(pool);
        caught();
        expect_line("[WARNING/brood-worker/%d] said 7\n", worker);
        expect_line("[INFO/brood-worker/%d] process exiting with exit code 0\n", worker);
        char started[80], ended[80];
        snprintf(started, sizeof started, "] started brood-worker, pid %d, by fork\n", worker);
        snprintf(ended, sizeof ended, "] brood-worker, pid %d, ended with exit code 0\n", worker);
        assert_non_null(strstr(text, started));
        assert_non_null(strstr(text, ended));
}

/* ---- callbacks ---- */

static pid_t host; /* a forked child has its callback, too */

struct seen {
        int calls, depth, deepest;
        pid_t pid;
        char process[64], first[128], last[128];
        int (*then)(void); /* what it does besides */
        int result;
};

static void see(const brood_log_record *record, void *arg)
{
        struct seen *seen = arg;
        if (++seen->depth > seen->deepest)
                seen->deepest = seen->depth;
        snprintf(seen->calls == 0 ? seen->first : seen->last, sizeof seen->last, "%d %s", (int)record->level,
                 record->message);
        snprintf(seen->process, sizeof seen->process, "%s", record->process);
        seen->pid = record->pid;
        seen->calls++;
        if (seen->then != NULL && seen->result == 0 && getpid() == host)
                seen->result = seen->then();
        seen->depth--;
}

static void test_callback(void **state)
{
        (void)state;
        static char message[3 * BROOD_LOG_LINE_MAX];
        struct seen seen = { 0 };
        catch_stderr();
        assert_int_equal(brood_log_to(see, &seen, BROOD_LOG_INFO), 0);
        brood_log(BROOD_LOG_WARNING, "one and %s", "two");
        brood_log(BROOD_LOG_DEBUG, "nothing");
        assert_int_equal(seen.calls, 1);
        assert_string_equal(seen.first, "30 one and two");
        assert_string_equal(seen.process, "MainProcess");
        assert_int_equal(seen.pid, getpid());
        memset(message, 'x', sizeof message - 1);
        brood_log(BROOD_LOG_WARNING, "%s", message);
        assert_int_equal(seen.calls, 2);
        /* It tells what stderr would. */
        int pid = pid_of(start_with(&(brood_process_options){ .target = say, .name = "talker", METHOD }));
        char wanted[64];
        snprintf(wanted, sizeof wanted, "20 talker, pid %d, ended with exit code 3", pid);
        if (code_is_known())
                assert_string_equal(seen.last, wanted);
        assert_string_equal(caught(), "");
        int calls = seen.calls;
        brood_log(BROOD_LOG_ERROR, "nothing any more");
        assert_int_equal(seen.calls, calls);
}

/* What a callback forks has no callback: it would fork, too. */
static int start_silent(void)
{
        brood_process *p = start_bare(level_as_code);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, BROOD_LOG_OFF);
        brood_process_free(p);
        brood_log(BROOD_LOG_ERROR, "not to be passed on");
        return 0;
}

static int seven = 7;

static int start_one(void)
{
        brood_process *p;
        int r = brood_process_new(&p, &(brood_process_options){ .target = return_number, GIVEN(&seven) });
        if (r == 0) {
                r = brood_process_start(p);
                if (r == 0)
                        r = brood_process_join(p, BROOD_FOREVER);
                brood_process_free(p);
        }
        return r;
}

static void *start_one_in_thread(void *result)
{
        *(int *)result = start_one();
        return NULL;
}

/* If a lock were held meanwhile, the other thread would wait for it, and this one for the other thread. */
static int have_another_thread_start_one(void)
{
        pthread_t thread;
        int result = 0;
        if (pthread_create(&thread, NULL, start_one_in_thread, &result) != 0)
                return -EAGAIN;
        pthread_join(thread, NULL);
        return result;
}

static void test_callback_that_calls_brood(void **state)
{
        (void)state;
        struct seen seen = { .then = start_silent };
        host = getpid();
        assert_int_equal(brood_log_to(see, &seen, BROOD_LOG_INFO), 0);
        assert_int_equal(start_one(), 0);
        assert_int_equal(brood_log_to_stderr(BROOD_LOG_OFF), 0);
        /* The start, and mostly the end: if a call in the callback has noticed that, it is dropped. */
        assert_true(seen.calls >= 1);
        assert_int_equal(seen.result, 0);
        assert_int_equal(seen.deepest, 1);
        assert_int_equal(brood_active_children(NULL, 0), 0);
}

static pthread_mutex_t of_callback = PTHREAD_MUTEX_INITIALIZER;
static int waits;

static void wait_for_another_thread(const brood_log_record *record, void *result)
{
        (void)record;
        pthread_mutex_lock(&of_callback);
        bool first = waits++ == 0 && getpid() == host;
        pthread_mutex_unlock(&of_callback);
        if (first)
                *(int *)result = have_another_thread_start_one();
}

static void test_callback_that_waits_for_others(void **state)
{
        (void)state;
        int result = 1;
        waits = 0;
        host = getpid();
        assert_int_equal(brood_log_to(wait_for_another_thread, &result, BROOD_LOG_INFO), 0);
        assert_int_equal(start_one(), 0);
        assert_int_equal(brood_log_to_stderr(BROOD_LOG_OFF), 0);
        assert_int_equal(result, 0);
        assert_true(waits > 3);
}

/* What a forked child's callback is, and what the others have. */
static void tell_fd(const brood_log_record *record, void *fd)
{
        dprintf(*(int *)fd, "%s: %s\n", record->process, record->message);
}

static void test_callback_in_children(void **state)
{
        (void)state;
        bool forked = method == BROOD_START_FORK;
        int ends[2];
        char told[256] = "";
        assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
        assert_int_equal(brood_log_to(tell_fd, &ends[1], BROOD_LOG_ERROR), 0);
        brood_process *p = start_with(&(brood_process_options){ .target = level_as_code, .name = "talker", METHOD });
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        expect_exitcode(p, forked ? BROOD_LOG_ERROR : BROOD_LOG_OFF);
        brood_process_free(p);
        assert_int_equal(brood_log_to_stderr(BROOD_LOG_OFF), 0);
        ssize_t n = read(ends[0], told, sizeof told - 1);
        assert_true(forked ? n > 0 : n < 0);
        assert_string_equal(told, forked ? "talker: here\n" : "");
        close(ends[0]);
        close(ends[1]);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                process_test(test_off_by_default),
                process_test(test_lines),
                fork_test(test_warning_of_threads),
                process_test(test_levels),
                process_test(test_long_messages_are_cut),
                process_test(test_errno),
                process_test(test_lines_do_not_mix),
                fork_test(test_pool),
                process_test(test_callback),
                process_test(test_callback_that_calls_brood),
                process_test(test_callback_that_waits_for_others),
                process_test(test_callback_in_children),
        };
        return setting_main(argc, argv, "log", tests, ARRAY_LENGTH(tests), 80);
}
