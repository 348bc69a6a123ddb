/* SPDX-License-Identifier: MIT
 *
 * process/start.h: the birth of a child.
 */
#ifndef BROOD_PROCESS_START_H
#define BROOD_PROCESS_START_H

#include "process/registry.h"

/* Fork a child for this (new) handle: its pid in the parent, 0 in the child, or a negative errno. */
pid_t process_fork(brood_process *process);

/* Run a program, for a new handle: its pid, or a negative errno and process->failed_step. */
pid_t process_spawn(brood_process *process, const char *const *argv);

#endif
