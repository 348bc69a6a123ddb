/* SPDX-License-Identifier: MIT
 *
 * report.c: the books of the example casualties, and what is printed of them.
 */
#include "casualties.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the books ---- */

static int note_ending(struct books *books, const char *path, const brood_result_report *report)
{
        size_t count = books->failed + books->casualties;
        if (count == books->endings_room) {
                size_t room = count > 0 ? 2 * count : 16;
                struct ending *endings = realloc(books->endings, room * sizeof *endings);
                if (endings == NULL)
                        return -ENOMEM;
                books->endings = endings;
                books->endings_room = room;
        }
        books->endings[count] = (struct ending){ path, *report };
        if (report->outcome == BROOD_OUTCOME_ERROR)
                books->failed++;
        else
                books->casualties++;
        return 0;
}

static void note_image(struct books *books, const struct image *image, const brood_result_report *report)
{
        books->decoded++;
        books->later += report->attempts > 1;
        books->bytes += image->bytes;
        books->pixels += (uint64_t)image->width * image->height;
}

int books_enter(struct books *books, const char *path, brood_result *result)
{
        struct image image;
        brood_result_report report;
        int r = brood_result_get_report(result, &report);
        ssize_t size = brood_result_get(result, &image, sizeof image, 0);
        brood_result_free(result);
        if (r < 0)
                return r;

        /* One of the ends that are nobody's in particular: the run is over, and none of the files is to blame. */
        if (report.outcome == BROOD_OUTCOME_BROKEN || report.outcome == BROOD_OUTCOME_CANCELED)
                return report.error;
        if (report.outcome == BROOD_OUTCOME_OK) {
                if (size != sizeof image)
                        return -EBADMSG;
                note_image(books, &image, &report);
                return 0;
        }
        return note_ending(books, path, &report);
}

void books_free(struct books *books)
{
        free(books->endings);
        *books = (struct books){ 0 };
}

/* ---- the report ---- */

static const char *what_happened(const brood_result_report *report, char *text, size_t room)
{
        switch (report->outcome) {
        case BROOD_OUTCOME_SIGNALED:
                snprintf(text, room, "signal %d (%s)", -report->exitcode, strsignal(-report->exitcode));
                return text;
        case BROOD_OUTCOME_EXITED:
                snprintf(text, room, "exit code %d", report->exitcode);
                return text;
        case BROOD_OUTCOME_TIME:
                return "time limit";
        case BROOD_OUTCOME_CPU:
                return "CPU time limit";
        case BROOD_OUTCOME_MEMORY:
                return "memory limit";
        default:
                return report->message[0] != 0 ? report->message : brood_strerror(report->error);
        }
}

static int compare_endings(const void *a, const void *b)
{
        return strcmp(((const struct ending *)a)->path, ((const struct ending *)b)->path);
}

static void print_failures(const struct ending *endings, size_t count)
{
        char text[64];
        puts("\nFailed:");
        for (size_t i = 0; i < count; i++)
                if (endings[i].report.outcome == BROOD_OUTCOME_ERROR)
                        printf("  %s: %s\n", endings[i].path, what_happened(&endings[i].report, text, sizeof text));
}

static void print_casualty(const struct ending *ending)
{
        const brood_result_report *report = &ending->report;
        char text[64];
        printf("  %-30s %5d %8d %9.3f %9.3f %7.1f  %s\n", what_happened(report, text, sizeof text), report->attempts,
               (int)report->worker, (double)(report->ended_ns - report->started_ns) / 1e9, (double)report->cpu_ns / 1e9,
               (double)report->peak_memory / (1 << 20), ending->path);
}

static void print_casualties(const struct ending *endings, size_t count)
{
        printf("\nCasualties:\n  %-30s %5s %8s %9s %9s %7s  %s\n", "what happened", "tries", "worker", "seconds", "CPU",
               "MiB", "file");
        for (size_t i = 0; i < count; i++)
                if (endings[i].report.outcome != BROOD_OUTCOME_ERROR)
                        print_casualty(&endings[i]);
}

void books_print(struct books *books, double seconds, int processes)
{
        size_t count = books->failed + books->casualties;
        if (count > 0)
                qsort(books->endings, count, sizeof *books->endings, compare_endings);
        if (books->failed > 0)
                print_failures(books->endings, count);
        if (books->casualties > 0)
                print_casualties(books->endings, count);
        if (count > 0)
                putchar('\n');
        printf("files: %zu, decoded: %zu, failed: %zu, casualties: %zu\n", books->files, books->decoded, books->failed,
               books->casualties);
        printf("decoded at a later try: %zu\n", books->later);
        printf("bytes: %llu, pixels: %llu\n", (unsigned long long)books->bytes, (unsigned long long)books->pixels);
        printf("%d workers: %.3f s, %.0f files/s, %.1f MB/s, %.1f million pixels/s\n", processes, seconds,
               (double)books->decoded / seconds, (double)books->bytes / 1e6 / seconds,
               (double)books->pixels / 1e6 / seconds);
}
