/* SPDX-License-Identifier: MIT
 *
 * brood/brood.h: all of brood.
 *
 *     common.h    errors, time limits, options
 *     process.h   processes, process classes, fork, wait
 *     queue.h     a bounded queue of messages between processes
 *     pool.h      a pool of worker processes
 *     result.h    the result of a task
 *     shared.h    memory that processes share, and that can grow
 *     value.h     values and arrays that processes share
 *     atomic.h    counting and flagging in shared memory without a lock
 */
#ifndef BROOD_BROOD_H
#define BROOD_BROOD_H

#include <brood/atomic.h>
#include <brood/common.h>
#include <brood/pool.h>
#include <brood/process.h>
#include <brood/queue.h>
#include <brood/result.h>
#include <brood/shared.h>
#include <brood/value.h>

#endif
