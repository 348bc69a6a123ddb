/* SPDX-License-Identifier: MIT
 *
 * tests/support/kills.h: a call that is killed after each of its instructions, again and again, and what the survivors say.
 *
 *     kills_set_up(&kills, &books->verdict)
 *     for each call:
 *             a fresh scene; a victim (step.h); kills_step(&kills, &run, KILLS_STEPS_MOST, true, ...); step_kill()
 *             for each k of kills_find_points(): a fresh scene; a victim; kills_step(&kills, &run, k, false, ...); step_kill();
 *                     the survivors use the object, and complain of what they find; kills_note()
 *     kills_conclude(&kills, "putting")
 *
 * The first run of a call is stepped to its end and gives the path; the later ones go along it.
 */
#ifndef BROOD_TESTS_KILLS_H
#define BROOD_TESTS_KILLS_H

#include "step.h"

enum { KILLS_STEPS_MOST = 200000 }; /* a call that is longer does not end */

/* What is wrong, and how long somebody had to wait; in shared memory. */
struct verdict {
        atomic_int longest_ms;
        atomic_int complaints;
        char complaint[200]; /* the first one */
};

/* The first complaint stays.  Any process may complain. */
void verdict_complain(struct verdict *verdict, const char *format, ...) __attribute__((format(printf, 2, 3)));
void verdict_vcomplain(struct verdict *verdict, const char *format, va_list arguments);

/* A call that began at `start` has returned: it should have within limit_ms. */
void verdict_note_wait(struct verdict *verdict, int64_t start, int limit_ms);

/* Nobody has complained of this scene yet. */
void verdict_clear(struct verdict *verdict);

struct kills {
        struct verdict *verdict;
        struct step_path path; /* of the call that is being looked at */
        long *points;          /* where on it to kill */
        int kills, calls, failures;
        int longest_ms;
};

/* Skip the test where nothing can be stepped. */
void kills_skip_if_impossible(void);

void kills_set_up(struct kills *kills, struct verdict *verdict);
void kills_tear_down(struct kills *kills);

/* Tear down, print the sums, and fail if anything has. */
void kills_conclude(struct kills *kills, const char *what);

/* Whether each kill is to be tried: --rounds 100000. */
bool kills_is_thorough(void);

/* A victim in its scene. */
struct kills_run {
        pid_t pid;
        const struct step_mark *mark;
        void (*wake)(void *arg);           /* it falls asleep, and this wakes it; NULL: it is waited for */
        long (*next_act)(void *arg, long); /* after which instruction the test process acts next; NULL: it does not */
        void (*act)(void *arg);
        void *arg;
};

/* The victim's call, up to the k-th instruction: by steps, noting the path; or along the path of the first run. */
enum step_end kills_step(struct kills *kills, const struct kills_run *run, long k, bool is_first, long *ret_steps);

/* Two victims go on in turns, a few instructions each, up to k[i] of them. */
void kills_step_both(struct kills *kills, const pid_t pids[2], const struct step_mark *const marks[2], const long k[2],
                     uint64_t *chance);

/* The kill points of the path, which is `steps` long: how many are in kills->points. */
long kills_find_points(struct kills *kills, long steps);

/* One kill is over: whether nobody complained. */
bool kills_note(struct kills *kills);

#endif
