/* SPDX-License-Identifier: MIT
 *
 * os/oom.h: whether the kernel has killed in a control group because memory ran out there.
 *
 * The kernel counts such kills for each group: "oom_kill" in memory.events.local (version 2) and in memory.oom_control (version 1,
 * in the hierarchy of the memory controller).  It counts one before it sends the signal (mm/oom_kill.c), so that whoever has seen
 * the victim's end sees the count, too.  A kill by the whole system's want of memory is counted in the victim's group as well.
 */
#ifndef BROOD_OS_OOM_H
#define BROOD_OS_OOM_H

#include <stdbool.h>
#include <stdint.h>

struct oom_watch {
        int group; /* its directory: one that is removed meanwhile, and made anew, is another one; -1: not watched */
        uint64_t kills; /* when the watch began */
};

/* Watch a group, unless somebody is in it, or it does not count: then nothing could be proved of who comes in next. */
void oom_watch_begin(struct oom_watch *watch, const char *directory);

/* End the watch: whether there has been a kill meanwhile.  False where nothing was watched. */
bool oom_watch_end(struct oom_watch *watch);

#endif
