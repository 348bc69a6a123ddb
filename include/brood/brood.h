/* SPDX-License-Identifier: MIT
 *
 * brood/brood.h: all of brood.
 *
 *     common.h       errors, time limits, options
 *     process.h      processes, process classes, fork, wait, programs
 *     exit.h         functions that a process calls when it ends
 *     lock.h         Lock, RLock
 *     log.h          a log of what happens to processes
 *     rwlock.h       a reader/writer lock
 *     semaphore.h    Semaphore, BoundedSemaphore
 *     condition.h    Condition
 *     event.h        Event
 *     barrier.h      Barrier
 *     shared.h       memory that processes share, and that can grow
 *     value.h        values and arrays that processes share
 *     atomic.h       counting and flagging in shared memory without a lock
 *     queue.h        a queue of messages between processes
 *     connection.h   pipes, and messages over a stream
 *     listener.h     connections between programs that are no relatives
 *     pass.h         queues, locks and all the others over a connection
 *     wait.h         waiting for many things at once
 *     pool.h         a pool of worker processes
 *     result.h       the result of a task
 *     completions.h  which of many results is there next
 *     map.h          one function over many items, while the host goes on
 *     imap.h         one function over items that come one after the other
 *     stats.h        what a pool is doing, in numbers
 *     trace.h        which task of a pool ran when, and where
 *     progress.h     how far a job is, in one line of a terminal
 */
#ifndef BROOD_BROOD_H
#define BROOD_BROOD_H

#include <brood/atomic.h>
#include <brood/barrier.h>
#include <brood/common.h>
#include <brood/completions.h>
#include <brood/condition.h>
#include <brood/connection.h>
#include <brood/event.h>
#include <brood/exit.h>
#include <brood/imap.h>
#include <brood/listener.h>
#include <brood/lock.h>
#include <brood/log.h>
#include <brood/map.h>
#include <brood/pass.h>
#include <brood/pool.h>
#include <brood/process.h>
#include <brood/progress.h>
#include <brood/queue.h>
#include <brood/result.h>
#include <brood/rwlock.h>
#include <brood/semaphore.h>
#include <brood/shared.h>
#include <brood/stats.h>
#include <brood/trace.h>
#include <brood/value.h>
#include <brood/wait.h>

#endif
