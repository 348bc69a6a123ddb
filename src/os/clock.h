/* SPDX-License-Identifier: MIT
 *
 * os/clock.h: monotonic time in nanoseconds, and deadlines: a time limit is turned into one absolute moment at the start of a
 * call, so that interrupted and repeated waits do not add up.
 */
#ifndef BROOD_OS_CLOCK_H
#define BROOD_OS_CLOCK_H

#include <stdint.h>
#include <time.h>

#define DEADLINE_NEVER INT64_MAX
#define DEADLINE_NOW INT64_MIN

#define NS_PER_MS INT64_C(1000000)
#define NS_PER_S INT64_C(1000000000)

int64_t clock_now(void);

/* The time of day, in nanoseconds since 1970. */
int64_t clock_wall(void);

/* The deadline of a `timeout_ms` argument: never for a negative one; DEADLINE_NOW for 0. */
int64_t deadline_after_ms(int timeout_ms);

/* The time left in milliseconds for poll(2), rounded up: -1 for never, 0 once it has passed. */
int deadline_left_ms(int64_t deadline);

/* The earlier of the deadline and `ns` from now. */
int64_t deadline_slice(int64_t deadline, int64_t ns);

struct timespec deadline_timespec(int64_t deadline);

#endif
