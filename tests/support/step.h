/* SPDX-License-Identifier: MIT
 *
 * tests/support/step.h: a process that is run one machine instruction at a time, so that it can be killed after each.
 *
 *     struct step_mark *mark = ...;                   in memory that both share
 *     pid_t pid = step_start(&victim);                it has prepared itself, and stands before the call
 *     step_run(pid, mark, k, ...)                     k instructions of the call have been executed
 *     step_kill(pid);                                 and it has been reaped
 *
 * What is counted are the instructions between the two stores into the mark, the libc's among them.  The tracer is the parent, and
 * one thread of it; the victim dies with its tracer.
 */
#ifndef BROOD_TESTS_STEP_H
#define BROOD_TESTS_STEP_H

#include "check.h"

struct step_mark {
        atomic_int begun, ended; /* the call */
};

struct step_victim {
        int (*prepare)(void *arg); /* before the marker, at full speed; may be NULL; not 0: it failed */
        void (*call)(void *arg);   /* what is stepped through */
        void *arg;
        struct step_mark *mark;
};

enum step_end {
        STEP_THERE,   /* all instructions were executed, and the call goes on */
        STEP_ENDED,   /* the call returned before */
        STEP_ASLEEP,  /* the last instruction is a system call that sleeps; step_await() to go on */
        STEP_CRASHED, /* a signal that nobody sent, or an exit */
};

/* Where the victim was: at[i] is the address of the instruction after the first i.  One that repeats itself (rep movsb) is there
 * as often as it was stopped in.  forks[] are the first instructions that make a process, by their numbers: one that is made while
 * a breakpoint is set has it, too, and nobody to catch it. */
struct step_path {
        uintptr_t *at;
        long count, room;
        long forks[4];
        int forks_count;
};

/* Whether instructions can be stepped through here: a machine that we know, and a kernel that lets us.  If not, *ret_why says. */
bool step_possible(const char **ret_why);

/* Fork a victim and have it run up to the marker: its pid; -1 if its preparation failed. */
pid_t step_start(const struct step_victim *victim);

/* Stop a process that runs already, a descendant but no child, to be stepped from where it stands: false if it cannot be traced.
 * To let go of it again, where it is to live on. */
bool step_attach(pid_t pid);
void step_detach(pid_t pid);

/* Execute up to `count` instructions of the call; *ret_count says how many were.  With `patient`, wait for as long as a system call
 * sleeps; else return STEP_ASLEEP.  A path that is not NULL and not full is extended. */
enum step_end step_run(pid_t pid, const struct step_mark *mark, long count, bool patient, struct step_path *path,
                       long *ret_count);

/* Add where it stands now to the path: after a step_await(), the steps of which are not noted. */
void step_note(pid_t pid, struct step_path *path);

/* From instruction `from` of a path, go to the instruction `to` of it, and get there faster than by steps: with a breakpoint where
 * the path comes by for the first time since `from`, as near to the end as there is such a place; from there likewise, and by steps
 * where that would be no faster, or where a process is made.  Should the victim
 * take another way this time, it stops where it comes to the breakpoint, or has ended.  If it falls asleep on the way, `wake`
 * is called (unless it is NULL); if in the last instruction, the result is STEP_ASLEEP. */
enum step_end step_go(pid_t pid, const struct step_mark *mark, const struct step_path *path, long from, long to,
                      void (*wake)(void *arg), void *arg);

/* After STEP_ASLEEP: wait until the system call has returned.  False if it does not within limit_ms. */
bool step_await(pid_t pid, int limit_ms);

/* Kill it where it stands, and reap it; or leave it a zombie, which can still be asked how it ended, until it is reaped. */
void step_kill(pid_t pid);
void step_kill_unreaped(pid_t pid);
void step_reap(pid_t pid);

/* Let it go on by itself: whether its call has ended within limit_ms. */
bool step_finish(pid_t pid, const struct step_mark *mark, int limit_ms);

#endif
