/* SPDX-License-Identifier: MIT
 *
 * os/usage.h: what a process uses, and a limit on it that can be lifted again.
 */
#ifndef BROOD_OS_USAGE_H
#define BROOD_OS_USAGE_H

#include <stdint.h>
#include <sys/types.h>

/* The CPU time that this process has used, or another that has not been reaped, in nanoseconds; or a negative errno. */
int64_t usage_cpu(void);
int64_t usage_cpu_of(pid_t pid);

/* The most that this process has had in memory, in bytes. */
int64_t usage_peak_memory(void);

/* Let this process have `more` bytes of private, writable memory beyond what it has now.  0 and what the limit was, for
 * usage_unlimit_memory(); or a negative errno. */
int usage_limit_memory(uint64_t more, uint64_t *ret_before);
void usage_unlimit_memory(uint64_t before);

#endif
