/* SPDX-License-Identifier: MIT
 *
 * os/log.h: the log, for the rooms.
 *
 * Whoever logs with brood_log() must not hold the process-wide lock: the message may go to a callback of the user's.  What is to be
 * told under the lock is collected there, and told after it (process/news.h).
 */
#ifndef BROOD_OS_LOG_H
#define BROOD_OS_LOG_H

#include <brood/log.h>

#include "os/atomic.h"

extern atomic_u32 log_level_now; /* a brood_log_level */

/* Whether messages of this level are logged: before anything is done for one. */
static inline bool log_wants(brood_log_level level)
{
        return (uint32_t)level >= load_relaxed(&log_level_now);
}

/* In a child: it is called so from now on.  The name must stay. */
void log_enter_process(const char *name);

/* In a helper of brood's: log to stderr only, if at all. */
void log_leave_callback(void);

/* The level that a child without this process's memory is to log from; and to have it so in the child, on stderr. */
uint32_t log_level_passed_on(void);
void log_take_over(uint32_t level);

/* Whether it is one of the levels; BROOD_LOG_OFF is. */
bool log_is_level(uint32_t level);

#endif
