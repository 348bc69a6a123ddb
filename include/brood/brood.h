/* SPDX-License-Identifier: MIT
 *
 * brood/brood.h: all of brood.
 *
 *     common.h      errors, time limits, options
 *     process.h     processes, process classes, fork, wait
 *     queue.h       a bounded queue of messages between processes
 *     connection.h  a pipe or socket between two ends, for messages
 *     listener.h    connections between programs that are no relatives
 *     pass.h        objects sent over a connection
 *     pool.h        a pool of worker processes
 *     result.h      the result of a task
 */
#ifndef BROOD_BROOD_H
#define BROOD_BROOD_H

#include <brood/common.h>
#include <brood/connection.h>
#include <brood/listener.h>
#include <brood/pass.h>
#include <brood/pool.h>
#include <brood/process.h>
#include <brood/queue.h>
#include <brood/result.h>

#endif
