/* SPDX-License-Identifier: MIT
 *
 * process/server.h: the fork server: a small process that forks children for its host, reaps them, and tells how they ended.
 *
 *     host                                          server
 *     spawns it, with one end of a socket
 *     for a birth: a pair of sockets, the channel
 *     letter, branch, streams, ... and the channel's other end  -->  fork; the child reads the letter, waits at its gate
 *     pid and pidfd  <------------------------------------------------  by the channel
 *     counted among the children; gate
 *     ...                                           the child has ended: it is reaped
 *     how it ended  <-------------------------------------------------  by the channel, which is closed then
 *
 * A channel that ends without a word: the server has ended.
 */
#ifndef BROOD_PROCESS_SERVER_H
#define BROOD_PROCESS_SERVER_H

#include "process/letter.h"
#include "process/start.h"

/* In the host, with the lock held: have the server, which is started if there is none, fork a child that reads this letter.
 * Its pid, with process->pidfd and process->channel; -EPIPE (the server has died meanwhile, and another try would be with a new
 * one); what its start, or the fork, failed with. */
pid_t server_ask(struct registry *registry, brood_process *process, const struct birth *birth,
                 const struct letter *letter);

/* The life of the server, in it. */
_Noreturn void server_live(struct birth *birth, brood_process *process, int (*preload)(void));

#endif
