/* SPDX-License-Identifier: MIT
 *
 * process/process.h: what other rooms may ask of a process beyond the public header.
 */
#ifndef BROOD_PROCESS_PROCESS_H
#define BROOD_PROCESS_PROCESS_H

#include <brood/process.h>

#include "os/oom.h"

#include <signal.h>

/* Make this, before its start, one of brood's own helpers: brood_wait() never returns it, and all signals stay blocked in it. */
void process_make_helper(brood_process *process);

/* The same, but its signals come back as those of any child. */
void process_hide(brood_process *process);

/* A handle for a child of this process that another process has started, and that nobody but its holder will reap; it is hidden.
 * It takes the watch over its control group along, if there is one.  0, or a negative errno. */
int process_adopt(brood_process **ret_process, const char *name, pid_t pid, struct oom_watch *watch);

/* In a helper: the mask that its parent had when it was started. */
const sigset_t *process_parent_mask(const brood_process *process);

#endif
