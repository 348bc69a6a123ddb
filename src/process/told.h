/* SPDX-License-Identifier: MIT
 *
 * process/told.h: what is told of a child by a process that reaps it in the host's stead: the fork server, or a guardian.
 *
 * Each such child has a channel of its own (os/channel.h), and in it are at most two messages: who it is, and how it has ended.  A
 * channel that ends without a word: whoever was to speak has ended.
 */
#ifndef BROOD_PROCESS_TOLD_H
#define BROOD_PROCESS_TOLD_H

#include "os/outfit.h"
#include "os/pidfd.h"

/* Say that it is born; or with what, a negative errno, and in which step that failed. */
int tell_birth(int channel, pid_t pid, int pidfd);
void tell_failure(int channel, int error, enum outfit_step step);

/* Say how it has ended; nobody may be listening. */
void tell_ending(int channel, const struct ending *ending);

/* In the host: wait for the first message.  The pid, and the pidfd; what was said to have failed; -EPIPE (nothing was said);
 * -EMFILE (there was no room for the pidfd). */
pid_t hear_birth(int channel, int *ret_pidfd, enum outfit_step *ret_step);

/* Look for the second: 0; -EAGAIN (nothing is told yet); -EPIPE (nobody will tell). */
int hear_ending(int channel, struct ending *ret_ending);

#endif
