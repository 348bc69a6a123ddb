/* SPDX-License-Identifier: MIT
 *
 * process/setup.h: from what a user asks for to what a child puts on (os/outfit.h).
 */
#ifndef BROOD_PROCESS_SETUP_H
#define BROOD_PROCESS_SETUP_H

#include <brood/process.h>

#include "os/outfit.h"

/* Descriptors that are opened for one birth. */
struct fitting {
        struct outfit outfit;
        int childs[3];  /* for the child's streams; closed in the parent after the birth */
        int parents[3]; /* the other ends of pipes */
};

/* 0, or -EINVAL. */
int setup_check(const brood_process_setup *setup);

/* Whether there is anything to do. */
bool setup_is_plain(const brood_process_setup *setup);

/* Open what is needed: 0, or a negative errno with nothing open. */
int fitting_open(struct fitting *fitting, const brood_process_setup *setup);

/* What is handed over is kept, too. */
static inline void fitting_hand_over(struct fitting *fitting, const int *fds, size_t count)
{
        fitting->outfit.handed = fds;
        fitting->outfit.handed_count = count;
}

/* After the birth: the child's ends go, and the parent's too unless it succeeded, when they are given to `ret_parents`. */
void fitting_close(struct fitting *fitting, int *ret_parents);

#endif
