/* SPDX-License-Identifier: MIT
 *
 * tests/support/trace.h: a process and all that it begins, of whom one is stepped and killed.
 *
 *     pid_t parent = step_start(&victim);             it stands before the call
 *     struct trace trace = { .parent = parent, .mark = mark, .nth = 1, .calls = LONG_MAX, ... };
 *     trace_run(&trace);                              all have ended; trace.calls_done tells how long the way was
 *
 * The parent runs through its call, at full speed, and is ended after it.  The nth process that is begun meanwhile, by it or by
 * those that it has begun, is the victim: it goes on by `calls` system calls (each counts twice, at its entry and at its exit) and
 * then by `steps` instructions.  There it is killed; or the parent is, and the victim goes on once that one is gone.
 *
 * The tracer must be the child subreaper, and have no other children.
 */
#ifndef BROOD_TESTS_TRACE_H
#define BROOD_TESTS_TRACE_H

#include "step.h"

enum { TRACE_FAMILY = 32 };

struct trace {
        pid_t parent;
        const struct step_mark *mark;
        pid_t other;     /* a process that is there already and is traced, too; the victim, if nth is 0; 0: none */
        int nth;         /* which is the victim */
        bool from_exec;  /* it is stepped from its exec on, and not from its birth... */
        bool until_exec; /* ...or until its exec, */
        const atomic_int *until; /* or until this is not 0 (not looked at if NULL) */
        bool alone;              /* whoever has made it is held back until the victim sleeps, or is killed */
        bool parent_dies;        /* and not the victim */
        bool parent_last;        /* it is ended only when all the others have: they hang if one does not */
        long calls, steps;
        int pause_us; /* now and then it is held so long, or less, at a system call */
        int limit_ms; /* if nothing happens for so long, they hang */

        /* What has become of them. */
        long calls_done, steps_done;
        bool killed, hung;
        int parent_code, victim_code; /* as they ended */

        pid_t victim, held, waits;
        bool stepping, parent_is_through;
        int born;
        struct trace_member {
                pid_t pid;
                int number;         /* 0: not known yet */
                bool stopped, gone; /* for the first time */
                int code;           /* as it ended */
        } family[TRACE_FAMILY];
        int count;
};

void trace_run(struct trace *trace);

#endif
