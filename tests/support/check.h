/* SPDX-License-Identifier: MIT
 *
 * tests/support/check.h: checks outside the test process, and the small tools of tests that fork.
 *
 * cmocka's assertions jump back into the runner, which only the test's own thread may do.  What runs in a child or in
 * another thread is a function that returns 0, or says what was wrong and returns 1: that is what require() is for.  One such
 * function can run as a thread and as a process.
 */
#ifndef BROOD_TESTS_CHECK_H
#define BROOD_TESTS_CHECK_H

#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* 1 under the sanitizer of addresses, or of threads: gcc defines a macro for each, clang has a feature. */
#if defined(__SANITIZE_ADDRESS__)
#define CHECK_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define CHECK_TSAN 1
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(CHECK_ASAN)
#define CHECK_ASAN 1
#endif
#if __has_feature(thread_sanitizer) && !defined(CHECK_TSAN)
#define CHECK_TSAN 1
#endif
#endif
#ifndef CHECK_ASAN
#define CHECK_ASAN 0
#endif
#ifndef CHECK_TSAN
#define CHECK_TSAN 0
#endif

#define array_length(a) (sizeof(a) / sizeof((a)[0]))

/* Nothing in a test should need this long; who waits longer calls it a hang. */
#define CHECK_HANG_MS 10000

#define require(condition)                                                                                             \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: [%d] not so: %s\n", __FILE__, __LINE__, (int)getpid(), #condition);    \
                        return 1;                                                                                      \
                }                                                                                                      \
        } while (0)

#define require_int(expression, wanted)                                                                                \
        do {                                                                                                           \
                long long require_is = (long long)(expression), require_want = (long long)(wanted);                    \
                if (require_is != require_want) {                                                                      \
                        fprintf(stderr, "%s:%d: [%d] %s is %lld and not %lld\n", __FILE__, __LINE__, (int)getpid(),    \
                                #expression, require_is, require_want);                                                \
                        return 1;                                                                                      \
                }                                                                                                      \
        } while (0)

/* Something waits for ever: have the watcher say where every process stands, and end the test program. */
static inline _Noreturn void check_hang(const char *what)
{
        fprintf(stderr, "hang: %s\n", what);
        fflush(NULL);
        if (getpgrp() == getpid() && kill(getppid(), SIGHUP) == 0)
                sleep(60);
        abort();
}

/* Zeroed memory that forked children share. */
static inline void *check_shared(size_t size)
{
        void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(page != MAP_FAILED);
        return page;
}

static inline pid_t check_start(int (*function)(void *arg), void *arg)
{
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int result = function(arg);
                fflush(NULL);
                _exit(result);
        }
        return pid;
}

/* The exit code of a child, or minus the signal that killed it. */
static inline int check_code(int status)
{
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline int check_wait_for(pid_t pid, int limit_ms)
{
        int status;
        int64_t end = support_now_ms() + limit_ms;
        for (useconds_t pause = 50;; pause = pause < 2000 ? pause * 2 : pause) {
                pid_t got = waitpid(pid, &status, WNOHANG);
                if (got == pid)
                        return check_code(status);
                if (got < 0 && errno != EINTR)
                        return 1000;
                if (support_now_ms() > end)
                        check_hang("a child does not end");
                usleep(pause);
        }
}

static inline int check_wait(pid_t pid)
{
        return check_wait_for(pid, 6 * CHECK_HANG_MS);
}

static inline int check_kill(pid_t pid)
{
        kill(pid, SIGKILL);
        return check_wait_for(pid, CHECK_HANG_MS);
}

/* Run a function in a child, and expect it to return 0. */
#define check_in_child(function, arg) assert_int_equal(check_wait(check_start((function), (arg))), 0)

struct check_thread {
        pthread_t id;
        int (*function)(void *arg);
        void *arg;
        int result;
};

static inline void *check_thread_main(void *arg)
{
        struct check_thread *thread = arg;
        thread->result = thread->function(thread->arg);
        return NULL;
}

static inline void check_thread_start(struct check_thread *thread, int (*function)(void *arg), void *arg)
{
        *thread = (struct check_thread){ .function = function, .arg = arg, .result = 1 };
        assert_int_equal(pthread_create(&thread->id, NULL, check_thread_main, thread), 0);
}

static inline int check_thread_join(struct check_thread *thread)
{
        assert_int_equal(pthread_join(thread->id, NULL), 0);
        return thread->result;
}

/* Wait until an atomic number that others raise is at least `wanted`. */
static inline bool check_reaches(atomic_int *number, int wanted, int limit_ms)
{
        for (int64_t end = support_now_ms() + limit_ms; atomic_load(number) < wanted; usleep(100))
                if (support_now_ms() > end)
                        return false;
        return true;
}

/* Wait until a child that has nothing else to do sleeps inside the call under test. */
static inline bool check_asleep(pid_t pid)
{
        for (int64_t end = support_now_ms() + CHECK_HANG_MS; support_now_ms() < end; usleep(100))
                if (support_process_state(pid) == 'S')
                        return true;
        return false;
}

/* A small generator of a child's own: support_random() would give all children the same numbers. */
static inline uint64_t check_mix(uint64_t z)
{
        z += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
}

static inline uint64_t check_random(uint64_t *state, uint64_t bound)
{
        *state += 0x9e3779b97f4a7c15u;
        return check_mix(*state) % bound;
}

/* Lower the limit of descriptors so that none is left; returns what to give to check_descriptors_restore(). */
static inline struct rlimit check_descriptors_exhaust(void)
{
        struct rlimit before, none;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        int first_free = dup(0);
        assert_true(first_free >= 0);
        close(first_free);
        none = before;
        none.rlim_cur = (rlim_t)first_free;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        return before;
}

static inline void check_descriptors_restore(const struct rlimit *before)
{
        assert_int_equal(setrlimit(RLIMIT_NOFILE, before), 0);
}

#endif
