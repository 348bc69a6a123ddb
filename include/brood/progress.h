/* SPDX-License-Identifier: MIT
 *
 * brood/progress.h: how far a job is, in one line of a terminal.
 *
 *     brood_progress *progress;
 *     brood_progress_new(&progress, &(brood_progress_options){ .label = "thumbnails", .total = n });
 *     while (brood_completions_next(completions, &result, BROOD_FOREVER) == 0) {
 *             ...
 *             brood_progress_update(progress, ++done, failed);
 *     }
 *     brood_progress_free(progress);
 *
 *     thumbnails  42% [===========>               ] 4210/10000  1.2k/s  ETA 0:05  3 failed
 *
 * The line goes to stderr, and only if that is a terminal; otherwise nothing is written, and nothing costs anything.  No thread
 * draws it: the calls do, at most every interval_ms, and between two lines a call costs a look at the clock.  It is as wide
 * as the terminal is then.  The rate is that of the last seconds, and what is left (ETA) is computed from it; the last line has the
 * rate of the whole, and how long it took.  A terminal that takes nothing (it was stopped by Ctrl-S) is not waited for.
 *
 * NULL is a progress that nobody sees: all calls take it, so that a program goes on if brood_progress_new() has failed.
 *
 * Threads: one at a time.  Fork: a forked child that has inherited it draws nothing, and may free it.  Signals: not
 * async-signal-safe.  Death: a process that is killed leaves its line as it was, without the newline at its end.
 */
#ifndef BROOD_PROGRESS_H
#define BROOD_PROGRESS_H

#include <brood/common.h>
#include <brood/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_progress brood_progress;

#define BROOD_PROGRESS_LABEL_MAX 48 /* bytes, with the 0 at its end; the rest is cut off */
#define BROOD_PROGRESS_INTERVAL_DEFAULT 100

typedef struct brood_progress_options {
        const char *label; /* of what; ASCII; NULL: nothing */
        uint64_t total;    /* how much there is; 0: not known, and then there is neither a bar nor an ETA */
        int interval_ms;   /* between two lines; 0: BROOD_PROGRESS_INTERVAL_DEFAULT */
        bool always;       /* also if stderr is no terminal: then each line stands by itself, 80 columns wide */
} brood_progress_options;

/* Make one.  The clock starts now; the first line is drawn an interval later.
 * Returns 0; -EINVAL (NULL, a negative interval); -E2BIG (options from a newer brood); -ENOMEM. */
BROOD_API int brood_progress_new_sized(brood_progress **ret_progress, const brood_progress_options *options,
                                       size_t options_size);

static inline int brood_progress_new(brood_progress **ret_progress, const brood_progress_options *options)
{
        return brood_progress_new_sized(ret_progress, options, sizeof(brood_progress_options));
}

/* So much is done, and so much of that has failed.  Cheap enough for each item. */
BROOD_API void brood_progress_update(brood_progress *progress, uint64_t done, uint64_t failed);

/* The same from the counters of a pool (brood/stats.h): tasks that have ended, and those that ended without a result.  If no total
 * was given, it is what was handed in.  Costs a look at the counters of each worker, if there is anybody to see it. */
BROOD_API void brood_progress_follow(brood_progress *progress, const brood_pool *pool);

/* There is more, or less, to do; 0: not known. */
BROOD_API void brood_progress_set_total(brood_progress *progress, uint64_t total);

/* Wipe the line, so that something else can be written; it is back with the next one. */
BROOD_API void brood_progress_clear(brood_progress *progress);

/* Draw the last line, with what the last update said, and a newline; and free it. */
BROOD_API void brood_progress_free(brood_progress *progress);

#ifdef __cplusplus
}
#endif

#endif
