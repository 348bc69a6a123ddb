/* SPDX-License-Identifier: MIT
 *
 * pool/progress.c: a line that says how far a job is.
 */
#include <brood/progress.h>

#include <brood/stats.h>

#include "os/child.h"
#include "os/clock.h"
#include "os/options.h"
#include "os/terminal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        WIDTH_DEFAULT = 80,
        WIDTH_MOST = 500,
        BAR_LEAST = 8, /* a shorter one is left out */
        RATE_OVER_MS = 3000,
        NUMBERS_SIZE = 192,
};

struct brood_progress {
        char label[BROOD_PROGRESS_LABEL_MAX];
        uint64_t total, done, failed;
        int64_t interval, started; /* ns */
        int64_t next;              /* when a line is due; DEADLINE_NEVER: nobody sees it */
        int64_t measured;          /* when `rate` was computed last... */
        uint64_t measured_done;    /* ...and how much was done then */
        double rate;               /* a second */
        size_t drawn;              /* columns of the line that is there */
        pid_t owner;
        bool terminal, total_given;
};

int brood_progress_new_sized(brood_progress **ret_progress, const brood_progress_options *options, size_t options_size)
{
        brood_progress_options known;

        if (ret_progress == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        if (known.interval_ms < 0)
                return -EINVAL;
        brood_progress *progress = calloc(1, sizeof *progress);
        if (progress == NULL)
                return -ENOMEM;
        progress->terminal = terminal_there();
        brood_progress_set_total(progress, known.total);
        progress->interval = (known.interval_ms > 0 ? known.interval_ms : BROOD_PROGRESS_INTERVAL_DEFAULT) * NS_PER_MS;
        progress->started = progress->measured = clock_now();
        progress->next = progress->terminal || known.always ? progress->started + progress->interval : DEADLINE_NEVER;
        progress->owner = child_pid();
        if (known.label != NULL)
                snprintf(progress->label, sizeof progress->label, "%s", known.label);
        for (char *c = progress->label; *c != '\0'; c++)
                if ((unsigned char)*c < ' ')
                        *c = ' ';
        *ret_progress = progress;
        return 0;
}

/* ---- numbers for people ---- */

static void print_rate(char *text, size_t room, double rate)
{
        if (rate >= 1e7)
                snprintf(text, room, "%.1fM/s", rate / 1e6);
        else if (rate >= 1e4)
                snprintf(text, room, "%.1fk/s", rate / 1e3);
        else
                snprintf(text, room, "%.*f/s", rate < 100 ? 1 : 0, rate);
}

static void print_time(char *text, size_t room, double seconds)
{
        const double most = 99.0 * 3600;
        unsigned s = (unsigned)(seconds < most ? seconds + 0.5 : most);

        if (s >= 3600)
                snprintf(text, room, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
        else
                snprintf(text, room, "%u:%02u", s / 60, s % 60);
}

/* The rate of the last seconds: what is older counts less and less. */
static void measure_rate(brood_progress *progress, int64_t now)
{
        double passed = (double)(now - progress->measured), more = 0;

        if (now <= progress->measured)
                return;
        if (progress->done > progress->measured_done)
                more = (double)(progress->done - progress->measured_done);
        double weight =
            progress->measured == progress->started ? 1 : passed / (passed + (double)RATE_OVER_MS * NS_PER_MS);
        progress->rate += weight * (more * NS_PER_S / passed - progress->rate);
        progress->measured = now;
        progress->measured_done = progress->done;
}

/* What stands behind the bar. */
static void print_numbers(const brood_progress *progress, bool last, int64_t now, char text[NUMBERS_SIZE])
{
        char of[32] = "", rate[32], left[32] = "", failed[32] = "";
        double took = (double)(now - progress->started) / NS_PER_S;
        const char *what = "  in ";

        print_rate(rate, sizeof rate, !last ? progress->rate : took > 0 ? (double)progress->done / took : 0);
        if (progress->total > 0)
                snprintf(of, sizeof of, "/%" PRIu64, progress->total);
        if (last) {
                print_time(left, sizeof left, took);
        } else if (progress->total > progress->done && progress->rate > 0) {
                what = "  ETA ";
                print_time(left, sizeof left, (double)(progress->total - progress->done) / progress->rate);
        } else {
                what = "";
        }
        if (progress->failed > 0)
                snprintf(failed, sizeof failed, "  %" PRIu64 " failed", progress->failed);
        snprintf(text, NUMBERS_SIZE, "%" PRIu64 "%s  %s%s%s%s", progress->done, of, rate, what, left, failed);
}

/* ---- the line ---- */

static double part_done(const brood_progress *progress)
{
        return progress->done < progress->total ? (double)progress->done / (double)progress->total : 1;
}

/* "[====>   ] ", `width` columns with all of it. */
static void print_bar(char *text, size_t width, double part)
{
        size_t inside = width - 3, full = (size_t)(part * (double)inside);

        *text++ = '[';
        for (size_t i = 0; i < inside; i++)
                *text++ = i < full ? '=' : i == full ? '>' : ' ';
        *text++ = ']';
        *text++ = ' ';
        *text = '\0';
}

/* At most `width` columns: how many it has.  `text` has room for more than that. */
static size_t compose(const brood_progress *progress, bool last, int64_t now, char *text, size_t width)
{
        char numbers[NUMBERS_SIZE], percent[8] = "", bar[WIDTH_MOST + 1] = "";

        print_numbers(progress, last, now, numbers);
        if (progress->total > 0)
                snprintf(percent, sizeof percent, "%3d%% ", (int)(part_done(progress) * 100));
        size_t others = strlen(progress->label) + (progress->label[0] != '\0') + strlen(percent) + strlen(numbers);
        if (progress->total > 0 && others + BAR_LEAST <= width)
                print_bar(bar, width - others < WIDTH_MOST ? width - others : WIDTH_MOST, part_done(progress));
        snprintf(text, width + 1, "%s%s%s%s%s", progress->label, progress->label[0] != '\0' ? " " : "", percent, bar,
                 numbers);
        return strlen(text);
}

/* Write a line over the one that is there, which may have been longer. */
static void draw(brood_progress *progress, bool last, int64_t now)
{
        char text[2 * WIDTH_MOST + 8];
        size_t width = progress->terminal ? terminal_width() : 0, size = 0;

        width = width == 0 ? WIDTH_DEFAULT : width < WIDTH_MOST ? width : WIDTH_MOST;
        if (progress->terminal)
                text[size++] = '\r';
        /* The last column is left free: some terminals go on to the next line after it. */
        size_t columns = compose(progress, last, now, text + size, width - 1);
        size += columns;
        for (size_t i = columns; progress->terminal && i < progress->drawn && i < width - 1; i++)
                text[size++] = ' ';
        if (last || !progress->terminal)
                text[size++] = '\n';
        terminal_write(text, size);
        progress->drawn = columns;
        progress->next = now + progress->interval;
}

void brood_progress_update(brood_progress *progress, uint64_t done, uint64_t failed)
{
        if (progress == NULL)
                return;
        progress->done = done;
        progress->failed = failed;
        if (progress->next == DEADLINE_NEVER)
                return;
        int64_t now = clock_now();
        if (now < progress->next)
                return;
        if (child_pid() != progress->owner) {
                progress->next = DEADLINE_NEVER;
                return;
        }
        measure_rate(progress, now);
        draw(progress, false, now);
}

void brood_progress_follow(brood_progress *progress, const brood_pool *pool)
{
        brood_pool_statistics s;

        if (progress == NULL || progress->next == DEADLINE_NEVER || brood_pool_stats(pool, &s) < 0)
                return;
        if (!progress->total_given)
                progress->total = s.submitted;
        brood_progress_update(progress, s.ended, s.ended - s.outcomes[BROOD_OUTCOME_OK]);
}

void brood_progress_set_total(brood_progress *progress, uint64_t total)
{
        if (progress == NULL)
                return;
        progress->total = total;
        progress->total_given = total > 0;
}

void brood_progress_clear(brood_progress *progress)
{
        char text[WIDTH_MOST + 2];

        if (progress == NULL || progress->drawn == 0 || !progress->terminal || child_pid() != progress->owner)
                return;
        memset(text, ' ', sizeof text);
        text[0] = '\r';
        text[progress->drawn + 1] = '\r';
        terminal_write(text, progress->drawn + 2);
        progress->drawn = 0;
}

void brood_progress_free(brood_progress *progress)
{
        if (progress == NULL)
                return;
        if (progress->next != DEADLINE_NEVER && child_pid() == progress->owner)
                draw(progress, true, clock_now());
        free(progress);
}
