/* SPDX-License-Identifier: MIT
 *
 * tests/kill/births.h: births that are killed at an instruction, and what must be true of those who are left.
 *
 * The test process is the child subreaper: whoever loses his parent comes to it, and it sees each of them end.  What the parties
 * tell is in one page, which they all share: a forked child has it, and others are handed its descriptor.
 */
#ifndef BROOD_TESTS_BIRTHS_H
#define BROOD_TESTS_BIRTHS_H

#include "kills.h"

#include <brood/process.h>

enum {
        BIRTHS_CODE = 5 /* of a target, or a program, that returns */
};

/* What is started. */
struct kind {
        const char *name;
        brood_start_method method;
        bool detached;
        bool fitted;  /* with a directory, streams that are captured, limits, a group of its own, and all else closed */
        bool program; /* by brood_process_exec() */
};

/* What it does then. */
enum role {
        ROLE_RETURNS,  /* at once */
        ROLE_STAYS,    /* for ever */
        ROLE_INSISTS,  /* for ever, and does not hear SIGINT and SIGTERM */
        ROLE_OUTLIVES, /* until its parent has ended */
        ROLE_COUNT,
};

/* How a process was seen to be born and to end, by its parent. */
struct life {
        int start, join, told, code; /* `told`: the result of the question for the code */
        int arrived;                 /* the pid of who has reached the target; 0: nobody */
};

struct stage {
        struct step_mark mark; /* of the parent */
        struct verdict verdict;
        atomic_int arrived; /* the pid of who has reached a target */
        atomic_int its_parent;
        atomic_int returned; /* of the process whose start has, with success: its pid */
        struct life lives[2];
        atomic_int lived;          /* how many lives[] are over */
        int descriptors, children; /* what the parent had more in the end than before */
};

extern struct stage *stage;
extern int births_hang_ms; /* who is not gone by then stays */

void births_set_up(void);
void births_tear_down(void);
/* Before each kill: nobody has arrived, and nobody has complained. */
void births_clear(void);
void births_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Make a process, and start it: 0, or a negative errno and nothing to free. */
int births_begin(const struct kind *kind, enum role role, brood_process **ret_process);
/* One whole life of a process that returns; whoever wants to know how it went is told. */
int births_live(const struct kind *kind, struct life *ret_life);

/* The places where a call is killed: of `total`, every n-th, n a prime, from a random one on.  So runs with other seeds try others,
 * and none is left out for ever. */
struct sweep {
        long at, stride, total;
};
struct sweep births_sweep(long total, long most);

/* Kill all children of the test process, and reap them. */
void births_clean_up(void);

/* The parent is killed at instructions of what it calls (births_parents.c), or a process that it has begun, from its birth on
 * (births_children.c): all that there are; the number of failures.  With `fast_to_fail`, until the first one. */
int births_kill_parents(bool fast_to_fail);
int births_kill_children(bool fast_to_fail);

#endif
