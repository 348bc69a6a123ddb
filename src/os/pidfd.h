/* SPDX-License-Identifier: MIT
 *
 * os/pidfd.h: a process by its descriptor.  Exit codes are Python's: 0 to 255 as given to exit, -N for signal N.
 */
#ifndef BROOD_OS_PIDFD_H
#define BROOD_OS_PIDFD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A close-on-exec descriptor of process `pid`, or a negative errno (-ESRCH: there is none). */
int pidfd_of(pid_t pid);
/* The same with a mark (os/descriptors.h). */
int pidfd_of_marked(pid_t pid);

/* Send a signal: 0, -ESRCH (it has been reaped), -EPERM. */
int pidfd_signal(int pidfd, int signal);

/* Wait until it has ended (a zombie has): 0, -EAGAIN (deadline now), -ETIMEDOUT. */
int pidfd_wait(int pidfd, int64_t deadline);

static inline bool pidfd_ended(int pidfd)
{
        return pidfd_wait(pidfd, INT64_MIN) == 0;
}

/* After it has ended: wait (for a moment) until whoever is reaping it has done so.  0; looks again at least every 2 ms. */
int pidfd_wait_reaped(int pidfd);

/* How a process ended. */
struct ending {
        int exitcode;
        bool core_dumped;
        bool measured; /* the rest is known: to whoever reaps it, and to nobody else */
        int64_t user_ns, system_ns, peak_memory;
};

/* Reap it if it is our child and has ended; tell how in any case where the kernel knows it.
 * 0 and *ret_ending; -EAGAIN (it runs, or it is another's child and that has not reaped it yet); -ENODATA (it was reaped by
 * somebody else, and the kernel, before 6.15, cannot tell). */
int pidfd_reap(int pidfd, struct ending *ret_ending);

/* The same of a child that nobody but the calling thread reaps, so that its pid is nobody else's: 0, -EAGAIN (it runs), -ECHILD. */
int pid_reap(pid_t pid, struct ending *ret_ending);

/* The same, from what waitid(2), the system call, tells of an ended child. */
struct rusage;
struct ending ending_of(const siginfo_t *info, const struct rusage *usage);

/* Wait until it has ended and, if it is our child, reap it (which a debugger may delay); and close the descriptor. */
void pidfd_bury(int *pidfd);

/* The exit code that a status of wait(2) tells: 0 to 255, or -N for signal N. */
int exitcode_of_status(int status);

#endif
