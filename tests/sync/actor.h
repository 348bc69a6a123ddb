/* SPDX-License-Identifier: MIT
 *
 * tests/sync/actor.h: processes that get somewhere, say so, and are then stopped, killed, or told to go on.
 */
#ifndef BROOD_TESTS_ACTOR_H
#define BROOD_TESTS_ACTOR_H

#include "check.h"

#include <brood/common.h>

enum { SHORT_MS = 30 };

/* What the test and its children share; zeroed by stage_new(). */
struct stage {
        atomic_int reached; /* how far the child has got; the test raises nothing here */
        atomic_int go;      /* how far it may go */
        atomic_int tid;
        atomic_int numbers[60];
};

static inline struct stage *stage_new(void)
{
        return check_shared(sizeof(struct stage));
}

static inline void stage_free(struct stage *stage)
{
        munmap(stage, sizeof *stage);
}

/* In the child: this far; then, if `until` is not 0, wait for the test to say so. */
static inline void reach(struct stage *stage)
{
        atomic_fetch_add(&stage->reached, 1);
}

static inline void await_go(struct stage *stage, int until)
{
        while (atomic_load(&stage->go) < until)
                usleep(200);
}

/* In the child: here it stays until it is killed. */
static inline _Noreturn void stay(struct stage *stage)
{
        reach(stage);
        for (;;)
                pause();
}

/* In the test. */
static inline void await_reached(struct stage *stage, int wanted)
{
        assert_true(check_reaches(&stage->reached, wanted, CHECK_HANG_MS));
}

/* Start a child and wait until it has got as far as `stay()`, or has reached one more. */
static inline pid_t start_actor(int (*function)(void *arg), void *arg, struct stage *stage)
{
        int before = atomic_load(&stage->reached);
        pid_t pid = check_start(function, arg);
        await_reached(stage, before + 1);
        return pid;
}

/* Killed, and not yet buried: it can still be asked how it ended. */
static inline void kill_unburied(pid_t pid)
{
        kill(pid, SIGKILL);
        assert_true(support_process_gone(pid, CHECK_HANG_MS));
}

static inline void bury(pid_t pid)
{
        assert_int_equal(check_wait_for(pid, CHECK_HANG_MS), -SIGKILL);
}

static inline bool is_stopped(void *arg)
{
        return support_process_state(*(pid_t *)arg) == 'T';
}

static inline void stop_actor(pid_t pid)
{
        assert_int_equal(kill(pid, SIGSTOP), 0);
        assert_true(support_until(is_stopped, &pid, CHECK_HANG_MS));
}

#endif
