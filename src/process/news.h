/* SPDX-License-Identifier: MIT
 *
 * process/news.h: what is to be logged of processes.
 *
 * It happens under the process-wide lock, and the log may be a callback of the user's, which must not be called with it held.  So
 * the news are kept in the registry, and told when it has been unlocked.
 */
#ifndef BROOD_PROCESS_NEWS_H
#define BROOD_PROCESS_NEWS_H

#include "process/registry.h"

/* With the lock held: a child has started, or has ended (registry_reap).  Nothing is kept of it where it is not to be logged, or
 * memory is short. */
void news_started(struct registry *registry, const brood_process *process, const char *method);
void news_ended(struct registry *registry, const brood_process *process);

/* Without the lock: tell what was kept, the oldest first.  Or with it, forget it: in a forked child, whose news it is not. */
void news_tell(struct news *news);
void news_forget(struct news **news);

#endif
