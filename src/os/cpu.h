/* SPDX-License-Identifier: MIT
 *
 * os/cpu.h: how many CPUs this process may use.
 */
#ifndef BROOD_OS_CPU_H
#define BROOD_OS_CPU_H

/* By affinity and by the quotas of the control groups (version 1 and 2) above this process, rounded up; at least 1. */
int cpu_usable(void);

/* Let another thread that is ready have this CPU. */
void cpu_yield(void);

#endif
