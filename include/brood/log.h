/* SPDX-License-Identifier: MIT
 *
 * brood/log.h: a small log, off by default: what brood does with processes, and whatever the program adds.
 *
 *     brood_log_to_stderr(BROOD_LOG_INFO);
 *     ...
 *     [INFO/MainProcess/4711] started Process-1, pid 4712, by fork
 *     [INFO/Process-1/4712] child process calling its target
 *     [INFO/Process-1/4712] process exiting with exit code 0
 *     [INFO/MainProcess/4711] Process-1, pid 4712, ended with exit code 0
 *
 * as multiprocessing.log_to_stderr() does, with the pid besides.  brood logs starts and ends (with the fork server's, and those of
 * a pool's processes) as information, and as warnings what may be wrong with them: a fork beside other threads, and an
 * end for want of memory.  What fails is not logged but returned.
 *
 * A message is one line, and is written to stderr by one write(2), so that the lines of several processes do not mix.  A line that
 * would be longer than BROOD_LOG_LINE_MAX is cut, and ends with "...".  A stderr that is a full pipe makes who logs wait, as any
 * other output does.
 *
 * Off, a message costs the look at one word.
 *
 * Children.  A forked child logs as its parent did when it was forked; so do the processes of a pool, under their own names.
 * By spawn and forkserver the level goes along if the log goes to stderr; a callback cannot, and such a child's log is off, until
 * it says otherwise.  So is that of a child that a callback forks; and brood's own helpers (the fork server, and a pool's keeper
 * with its workers) call no callback, either.  A name is that of brood_process_name(); of a process that brood has not started,
 * that of its parent, or "MainProcess".
 */
#ifndef BROOD_LOG_H
#define BROOD_LOG_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BROOD_PRINTF_(text, first) __attribute__((format(printf, text, first)))
#else
#define BROOD_PRINTF_(text, first)
#endif

/* How much a message matters: the numbers are Python's. */
typedef enum brood_log_level {
        BROOD_LOG_DEBUG = 10,
        BROOD_LOG_INFO = 20,
        BROOD_LOG_WARNING = 30,
        BROOD_LOG_ERROR = 40,
        BROOD_LOG_OFF = 100, /* of no message: to log from here on is to log nothing */
} brood_log_level;

#define BROOD_LOG_LINE_MAX 1024 /* bytes of a line, with what comes before the message and the newline */

/* A message, as a callback is given it; all of it lives as long as the call. */
typedef struct brood_log_record {
        brood_log_level level;
        pid_t pid;
        const char *process; /* its name */
        const char *message; /* without a newline */
} brood_log_record;

typedef void (*brood_log_function)(const brood_log_record *record, void *arg);

/* Log messages of this level and those that matter more to stderr: to descriptor 2, whatever is behind it.  BROOD_LOG_OFF: none.
 * Returns 0; -EINVAL (there is no such level); -ENOMEM.
 * Threads: any.  Fork: the child has the same.  Death: killed here, some lines may be missing; none is torn. */
BROOD_API int brood_log_to_stderr(brood_log_level level);

/* Give them to a callback instead.  It is called by the thread that logs, in whatever call of brood that is, but with no lock of
 * brood's held: it may call brood, and wait for other threads that do.  What its own thread logs while it runs is dropped.  It may
 * be called by several threads at once; and once more by a thread that was on its way to it, after the log was sent elsewhere.  It
 * must return.
 * Returns 0; -EINVAL (function NULL; there is no such level); -ENOMEM.
 * Threads: any.  Fork: the child has the same callback, with its own copy of what `arg` points to. */
BROOD_API int brood_log_to(brood_log_function function, void *arg, brood_log_level level);

/* The level from which on messages are logged; BROOD_LOG_OFF: none are.  Threads: any.  Never fails. */
BROOD_API brood_log_level brood_log_get_level(void);

/* Log a message of the program's own, as printf(3) would print it.  A level that there is not, and BROOD_LOG_OFF, log nothing; nor
 * does a NULL format.  errno stays what it was, and %m prints it.
 * Threads: any.  Signals: not async-signal-safe. */
BROOD_API void brood_log(brood_log_level level, const char *format, ...) BROOD_PRINTF_(2, 3);

#ifdef __cplusplus
}
#endif

#endif
