/* SPDX-License-Identifier: MIT
 *
 * process/start.h: the birth of a child.
 */
#ifndef BROOD_PROCESS_START_H
#define BROOD_PROCESS_START_H

#include "process/registry.h"
#include "process/setup.h"

/* What both sides of a birth know. */
struct birth {
        struct gate *gate;
        uint32_t ticket;
        int branch; /* of the parent's lifeline */
        bool
            fitted; /* something may still fail in the child: the parent waits for its word before it lets it through */
        bool second_level; /* it is the child of a child that ends at once */
        struct fitting fitting;
        sigset_t mask; /* the parent's, and the child's from its first own instruction on */
};

/* In the parent: let the ticket through, or have whoever has it exit.  In the child: wait for that; the lifeline is armed, so a
 * parent that dies meanwhile ends the wait with SIGKILL. */
void gate_release(const struct birth *birth, bool refuse);
void gate_wait(const struct birth *birth);

/* Start a (new) handle's child by its method: its pid in the parent, 0 in a forked child, or a negative errno and
 * process->failed_step. */
pid_t process_begin(brood_process *process);

/* Run a program, for a new handle: its pid, or a negative errno and process->failed_step. */
pid_t process_spawn(brood_process *process, const char *const *argv);

/* In the child, up to the moment at which it becomes the user's. */
void birth_enter(struct birth *birth, brood_process *process);

/* In the child: what it starts with is not to be had.  Tell the parent, which has it exit. */
_Noreturn void birth_fail(struct birth *birth, enum outfit_step step, int error);

/* In the child: run what it is for, and end with that. */
_Noreturn void process_run(brood_process *process);

#endif
