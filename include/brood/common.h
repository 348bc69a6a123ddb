/* SPDX-License-Identifier: MIT
 *
 * brood/common.h: what every brood header shares: how errors and time limits are written.
 *
 * Errors.  A function returns 0 or a count on success and a negative errno on failure; brood never touches
 *   `errno`, prints, aborts or exits, and logs only if asked to (brood/log.h).  Outputs are written only on success.
 * Time limits.  `int timeout_ms`, as in poll(2): BROOD_FOREVER (or any negative number) waits without a limit,
 *   0 does not wait.  A call that would have to wait and may not returns -EAGAIN; one that waited in vain
 *   returns -ETIMEDOUT.  A signal handler that runs during a wait does not end the wait.
 * Options.  A struct of options whose zero value is the default; a NULL pointer means all defaults.  Options
 *   structs may grow in later versions: the inline functions that take them pass the size that the program
 *   was compiled with, and non-zero bytes that the library does not know are refused with -E2BIG.
 * Freeing.  Every `_free` takes NULL.  A handle must not be used after it was freed, nor freed while another
 *   thread is inside a call on it.
 */
#ifndef BROOD_COMMON_H
#define BROOD_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#if defined(__GNUC__)
#define BROOD_API __attribute__((visibility("default")))
#else
#define BROOD_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define BROOD_VERSION_MAJOR 0
#define BROOD_VERSION_MINOR 1
#define BROOD_VERSION_PATCH 0

/* Wait without a time limit. */
#define BROOD_FOREVER (-1)

/* An exit code that nobody can tell any more. */
#define BROOD_EXITCODE_UNKNOWN 256

/* Bytes of any size somewhere: an item of an array of them. */
typedef struct brood_bytes {
        const void *data;
        size_t size;
} brood_bytes;

/* The version of the library that is linked, as "0.1.0".  Threads: any.  Never fails. */
BROOD_API const char *brood_version(void);

/* What a negative errno (or a positive one) means when brood returns it, in one English phrase.
 * Returns a string that lives as long as the program; an unknown number gives "unknown error".
 * Threads: any.  Fork: usable in the child.  Signals: not async-signal-safe. */
BROOD_API const char *brood_strerror(int error);

/* The number of CPUs that this process may use: its affinity mask, cut down by the CPU quota of its control
 * group where there is one (a quota of 150 % counts as 2).  At least 1.  Threads: any.  Never fails. */
BROOD_API int brood_cpu_count(void);

#ifdef __cplusplus
}
#endif

#endif
