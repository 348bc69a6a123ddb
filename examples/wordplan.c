/* SPDX-License-Identifier: MIT
 *
 * wordplan.c: how the example wordcount cuts its work into tasks, and how a task is done.
 */
#include "wordplan.h"

#include <brood/brood.h>

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_COST 4096 /* what opening a file costs, in bytes of counting */

void fail(const char *what, int r)
{
        fprintf(stderr, "wordcount: %s: %s\n", what, brood_strerror(r));
        exit(1);
}

/* An array with room for one more. */
static void *grow(void *array, size_t used, size_t *room, size_t size)
{
        if (used < *room)
                return array;
        *room = used + used / 2 + 16;
        array = realloc(array, *room * size);
        if (!array)
                fail("plan", -ENOMEM);
        return array;
}

void plan_note_failure(struct plan *plan, uint32_t file, int error)
{
        if (file >= plan->n_files || plan->files[file].error)
                return;
        plan->files[file].error = error;
        fprintf(stderr, "wordcount: %s: %s\n", plan->files[file].path, strerror(error));
}

static void end_group(struct plan *plan)
{
        if (plan->group_pieces == 0)
                return;
        plan->tasks = grow(plan->tasks, plan->n_tasks, &plan->tasks_room, sizeof *plan->tasks);
        plan->tasks[plan->n_tasks++] = (struct task){ .bytes = plan->group, .size = plan->group_size };
        plan->group = NULL;
        plan->group_size = plan->group_room = plan->group_pieces = 0;
        plan->group_cost = 0;
}

static void plan_piece(struct plan *plan, uint32_t file, uint64_t offset, uint64_t length)
{
        const char *path = plan->files[file].path;
        size_t path_size = (strlen(path) + 8) / 8 * 8;
        struct piece piece = { offset, length, file, (uint32_t)path_size };
        size_t need = plan->group_size + sizeof piece + path_size;
        if (need > plan->group_room) {
                plan->group_room = need + need / 2;
                plan->group = realloc(plan->group, plan->group_room);
                if (!plan->group)
                        fail("plan", -ENOMEM);
        }
        char *to = plan->group + plan->group_size;
        memcpy(to, &piece, sizeof piece);
        strncpy(to + sizeof piece, path, path_size);
        plan->group_size = need;
        plan->group_pieces++;
        plan->group_cost += length + FILE_COST;
}

static uint32_t plan_path(struct plan *plan, const char *path)
{
        plan->files = grow(plan->files, plan->n_files, &plan->files_room, sizeof *plan->files);
        struct file *file = &plan->files[plan->n_files];
        *file = (struct file){ .path = strdup(path) };
        if (!file->path || plan->n_files >= UINT32_MAX)
                fail("plan", -ENOMEM);
        return (uint32_t)plan->n_files++;
}

static void plan_file(struct plan *plan, const char *path, uint64_t size)
{
        uint32_t file = plan_path(plan, path);
        if (size <= TASK_BYTES - FILE_COST) {
                if (plan->group_cost + size + FILE_COST > TASK_BYTES || plan->group_pieces == PIECES_MAX)
                        end_group(plan);
                plan_piece(plan, file, 0, size);
                return;
        }
        uint64_t ranges = (size + TASK_BYTES - 1) / TASK_BYTES;
        uint64_t length = (size + ranges - 1) / ranges;
        for (uint64_t offset = 0; offset < size; offset += length) {
                end_group(plan);
                plan_piece(plan, file, offset, size - offset < length ? size - offset : length);
        }
        end_group(plan);
}

void plan_make(struct plan *plan, char **paths)
{
        FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
        if (!walk)
                fail("walk", -errno);
        for (;;) {
                errno = 0;
                FTSENT *entry = fts_read(walk);
                if (!entry)
                        break;
                switch (entry->fts_info) {
                case FTS_F:
                        plan_file(plan, entry->fts_path, (uint64_t)entry->fts_statp->st_size);
                        break;
                case FTS_DNR:
                case FTS_ERR:
                case FTS_NS:
                        plan_note_failure(plan, plan_path(plan, entry->fts_path), entry->fts_errno);
                        break;
                case FTS_SLNONE: /* a given path, a link to nothing */
                        plan_note_failure(plan, plan_path(plan, entry->fts_path), ENOENT);
                        break;
                }
        }
        if (errno)
                fail("walk", -errno);
        fts_close(walk);
        end_group(plan);
}

void plan_free(struct plan *plan)
{
        for (size_t i = 0; i < plan->n_files; i++)
                free(plan->files[i].path);
        for (size_t i = 0; i < plan->n_tasks; i++)
                free(plan->tasks[i].bytes);
        free(plan->files);
        free(plan->tasks);
        *plan = (struct plan){ 0 };
}

/* Counts the words that start in the range.  An error of the file goes to *ret_error; returns those of the table. */
static int count_range(struct wordtable *table, int fd, const struct piece *piece, uint64_t *bytes, int *ret_error)
{
        static unsigned char buffer[256 << 10];
        uint64_t at = piece->offset, end = piece->offset + piece->length;
        bool skip = false; /* at the start: in a word that is the previous range's */
        int r = 0;

        if (at > 0)
                skip = pread(fd, buffer, 1, (off_t)at - 1) == 1 && wordtable_run(buffer, buffer + 1) == 1;
        while (r == 0 && (at < end || table->pending > 0)) {
                size_t want = at >= end ? 4096 : end - at < sizeof buffer ? end - at : sizeof buffer;
                ssize_t n = pread(fd, buffer, want, (off_t)at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        *ret_error = errno;
                if (n <= 0) /* 0: the file has become shorter, or its last word ends with it */
                        break;

                const unsigned char *p = buffer, *stop = buffer + n;
                if (at >= end) { /* the rest of the last word, and no more */
                        p += wordtable_run(p, stop);
                        r = wordtable_feed(table, buffer, (size_t)(p - buffer));
                        if (p < stop)
                                break;
                } else {
                        if (skip) {
                                p += wordtable_run(p, stop);
                                skip = p == stop;
                        }
                        r = wordtable_feed(table, p, (size_t)(stop - p));
                        *bytes += (uint64_t)n;
                }
                at += (uint64_t)n;
        }
        return r == 0 ? wordtable_end(table) : r;
}

int plan_count(struct wordtable *table, struct tally *tally, const char *arg, size_t size)
{
        tally->bytes = tally->failed = 0;
        for (const char *end = arg + size; arg < end;) {
                struct piece piece;
                struct stat st;
                int error = 0, r = 0;
                memcpy(&piece, arg, sizeof piece);
                /* Not blocking, for the case that it has become a FIFO. */
                int fd = open(arg + sizeof piece, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                if (fd < 0 || fstat(fd, &st) < 0)
                        error = errno;
                else if (!S_ISREG(st.st_mode))
                        error = EINVAL;
                else
                        r = count_range(table, fd, &piece, &tally->bytes, &error);
                if (fd >= 0)
                        close(fd);
                if (r < 0)
                        return r;
                if (error) {
                        tally->failures[tally->failed].file = piece.file;
                        tally->failures[tally->failed++].error = error;
                }
                arg += sizeof piece + piece.path_size;
        }
        return 0;
}
