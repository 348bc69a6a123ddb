/* SPDX-License-Identifier: MIT
 *
 * brood/exit.h: functions that a process calls when it ends, as those of multiprocessing.util.Finalize and, in Python's children,
 * of atexit are.
 *
 *     static int work(void *path)                         // a target, in the child
 *     {
 *             brood_at_exit(remove_file, path);
 *             ...                                         // whichever way it returns, the file is removed
 *             return 0;
 *     }
 *
 * atexit(3) does not do for a child of brood: it ends with _exit(2), so that its parent's handlers, which a fork inherits, do not
 * run in it.  What is registered here is of the process that registered it, and of no child of it, however that was made.
 *
 * The functions are called, the last registered one first, in the process's ordinary end:
 *
 * - in a child that was started by brood_process_start(), when its target (or its class's run()) has returned, before stdout and
 *   stderr are flushed; the exit code stays what the target has returned.  The same is true of a pool's worker, when the pool has
 *   been closed and all tasks are done;
 * - in any process, when main() returns or somebody calls exit(3): as one handler of atexit(3), which was registered with the first
 *   function that the process, or a parent that it is a fork of, registered here.
 *
 * They are not called where nothing of the process's own is: after _exit(2), quick_exit(3) and abort(3), when a signal kills it
 * (its parent's end, a pool that is terminated), and when it executes another program.  What must not be left behind then should
 * be so made that it goes by itself.
 *
 * If brood is unloaded with dlclose(3), they are called then.
 */
#ifndef BROOD_EXIT_H
#define BROOD_EXIT_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Have `function` called with `arg` when this process ends.  It may call whatever the process may, register others (which are
 * called next), and call exit(3); it is called once.  The same pair may be registered several times.  There are no priorities: who
 * needs an order registers in it.
 * Returns 0; -EINVAL (function NULL); -ENOMEM.
 * Threads: any; what other threads register while the functions are being called may still be called.  Fork: the child has none of
 *   its parent's.  Signals: not async-signal-safe.  Death: see above. */
BROOD_API int brood_at_exit(void (*function)(void *arg), void *arg);

/* Take back the last registration of this pair by this process.
 * Returns 0; -ENOENT (there is none, or it is being called, or was); -EINVAL (function NULL).
 * Threads: any.  Fork: a child cannot take back its parent's.  Signals: not async-signal-safe. */
BROOD_API int brood_at_exit_cancel(void (*function)(void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
