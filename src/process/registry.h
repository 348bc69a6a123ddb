/* SPDX-License-Identifier: MIT
 *
 * process/registry.h: the one piece of per-process state that brood has, and the process object.
 *
 * The registry of a process holds what its starts need (the lifeline, the gate) and which children may still be waited for.  It
 * is made by the first start, guarded by the process-wide lock (os/atfork.h), and forgotten in a forked child, which makes its
 * own at its own first start.
 */
#ifndef BROOD_PROCESS_REGISTRY_H
#define BROOD_PROCESS_REGISTRY_H

#include <brood/process.h>

#include "os/atomic.h"
#include "os/lifeline.h"
#include "os/oom.h"
#include "os/outfit.h"
#include "os/pidfd.h"

#include <signal.h>

/* The gate: a page shared between a process and the children that it is starting.
 *
 * A child must not run its target, let alone end, before its parent has a pidfd for it: a host's handler could reap it, and
 * the pid would be another's.  So each start takes a ticket, and its child waits at the gate until that ticket is released.
 *
 *   word         written by                         read by
 *   released     the parent, in ticket order        children waiting at the gate
 *   refused      the parent, before it releases     the child whose ticket it is: it exits
 *   grandchild   the first-level child of a         the parent, after that child's end
 *                detached start, once
 *   detached     the second-level child, once       the parent, before its start returns
 *   outfit       the child, once, before it waits   the parent, before it releases
 *   failure      the same, before `outfit`          the parent, after it
 */
struct gate {
        atomic_u32 released;
        atomic_u32 refused;
        atomic_u32 grandchild; /* its pid, or a negative errno, or 0 */
        atomic_u32 detached;   /* the ticket of the last one that has let go of its lifeline */
        atomic_u32 outfit;     /* the ticket of the last one that has all that it starts with, or has failed... */
        atomic_u32 failure;    /* ...with an errno (low half), in a step of it (high half); 0: put on */
};

enum process_state {
        PROCESS_NEW,
        PROCESS_RUNNING,
        PROCESS_ENDED, /* and reaped, or out of our reach */
};

/* All members but the first four are guarded by the process-wide lock once the process was started. */
struct brood_process {
        brood_process_options options; /* but what `bytes` and `hand_over` point to: see below */
        char name[BROOD_PROCESS_NAME_MAX + 1];
        void *self;
        pid_t owner; /* the process that made this handle */
        void *bytes; /* for the target */
        int *handed; /* options.hand_over_count descriptors */

        atomic_u32 state; /* an enum process_state; read without the lock too */
        pid_t pid;
        int pidfd;
        struct ending ending; /* once ENDED; the exit code may be BROOD_EXITCODE_UNKNOWN */
        int64_t started_ns, ended_ns;
        struct oom_watch oom; /* over its control group, while it runs */
        atomic_u32 killed;    /* by SIGKILL through this handle; written without the lock */
        bool out_of_memory;
        int captured[3]; /* our ends of its captured streams; -1 */
        enum outfit_step failed_step;
        int channel;           /* where the fork server, or its guardian, tells how it has ended; -1: it has neither */
        unsigned looks;        /* taken in vain at how it has ended */
        bool orphaned;         /* it has, but that one has ended */
        brood_tree_level tree; /* what holds what is below it */
        int guardian;          /* the pidfd of its guardian, which is at the other end of the channel; -1 */
        char *group;           /* the control group that was made for it; NULL */
        bool polled; /* in the registry's poller, where a child comes only when there is reason to look for its end */
        bool is_server; /* the fork server itself */
        int (*preload)(void);
        unsigned warnings; /* about its start */
        bool hidden;       /* one of brood's own helpers: brood_wait() does not return it */
        bool signals_stay; /* in the child: all signals stay blocked, the mask is in `mask` */
        bool waitable;     /* counted in the registry: a child that was neither joined nor returned by brood_wait() */
        brood_process **ended_at, *ended_next;     /* in the registry's list of ended ones, if waitable */
        brood_process **running_at, *running_next; /* in its list of those that run */
        sigset_t mask;
};

struct registry {
        /* Descriptors; -1: none. */
        struct lifeline line;
        int branch;         /* one that is used again and again, by one child at a time */
        int giving;         /* the branch of the child that is being forked */
        int poller;         /* the pidfds of running children, named by their handles; made for the first of them */
        int none_left;      /* an event that wakes brood_wait()s when `waitable` becomes 0; in the poller, named NULL */
        int server_channel; /* to ask the fork server for children */
        int self;           /* our own pidfd, which our children inherit as their parent's... */
        int parent_sentinel; /* ...and this is what we have inherited so */
        int tie;             /* our branch of our parent's lifeline: no child needs it */

        pid_t owner;                      /* whose it is; 0: nobody's yet.  From here on all is 0 then, but `current` */
        const brood_process *branch_user; /* the child that has the branch, until that is reaped; or NULL */
        struct gate *gate;
        uint32_t tickets;
        unsigned depth;                    /* of registry_lock() */
        struct news *news;                 /* to be logged when it is unlocked (process/news.h) */
        bool starting;                     /* a start is forking: its child still needs the gate */
        bool capturing;                    /* there have been children with captured streams */
        bool none_told;                    /* the event is raised */
        unsigned sleepers;                 /* threads in brood_wait() that sleep in the poller */
        unsigned waitable;                 /* children that brood_wait() may still return */
        unsigned unpolled;                 /* children in `running` that are not in the poller */
        unsigned names;                    /* default names given so far */
        brood_process *ended, **ended_end; /* waitable ones that have ended, oldest first */
        brood_process *running;            /* waitable ones that have not ended, the youngest first */
        brood_process *server;             /* the fork server, or NULL; it may have ended */
        brood_process *current;            /* the handle of the process that we are, if we are one of a parent's */
};

/* A handle with checked options, no name and no state yet. */
brood_process *process_alloc(const brood_process_options *options);

/* Take the process-wide lock, with the registry of this process made: 0, or a negative errno without the lock. */
int registry_lock(struct registry **ret_registry);
void registry_unlock(void);

/* For the child of a start: the registry that fork has just emptied. */
struct registry *registry_in_child(void);

/* All with the lock held: a started child comes in, is looked at, is reported (joined or waited for). */
int registry_add(struct registry *registry, brood_process *process);
void registry_report(struct registry *registry, brood_process *process);

/* A branch of the lifeline for a child: the descriptor or a negative errno.  Leave it once the child has its own copy; and say in
 * the end whether the child was born. */
int registry_take_branch(struct registry *registry, const brood_process *process);
void registry_leave_branch(const struct registry *registry, int *branch);
void registry_put_branch(struct registry *registry, const brood_process *process, int *branch, bool born);

/* Have all that run in the poller: 0 or a negative errno. */
int registry_poll_all(struct registry *registry);

/* Without the lock: if it is the fork server's child and has ended, wait a moment until the server has told how. */
void registry_await_told(const brood_process *process);

/* Reap this process if it has ended.  0 (it is ENDED now), -EAGAIN. */
int registry_reap(struct registry *registry, brood_process *process);

/* Reap whichever children have ended. */
void registry_sweep(struct registry *registry);

#endif
