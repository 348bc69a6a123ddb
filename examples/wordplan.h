/* SPDX-License-Identifier: MIT
 *
 * wordplan.h: how the example wordcount cuts its work into tasks, and how a task is done.
 *
 * A task is bytes: a list of pieces, each a path and a range of the file.  Small files share a task, large ones are
 * cut.  A range's owner counts the words that *start* in it, and reads on behind its end to finish the last: so the
 * cuts need no look at the text.
 */
#ifndef WORDPLAN_H
#define WORDPLAN_H

#include "wordtable.h"

struct brood_result;

#define TASK_BYTES ((uint64_t)2 << 20) /* of text in a task */
#define PIECES_MAX 1024                /* in a task */

struct file {
        char *path;
        int error; /* 0, or why it could not be read */
};

/* In a task's bytes, each followed by its path and a NUL, filled up to a multiple of 8. */
struct piece {
        uint64_t offset, length;
        uint32_t file;
        uint32_t path_size;
};

struct task {
        char *bytes;
        size_t size;
        unsigned attempts;
        struct brood_result *result; /* while it is in flight */
};

/* What a task found besides words; its result begins with it. */
struct tally {
        uint64_t bytes;
        uint64_t failed;
        struct {
                uint32_t file;
                int32_t error;
        } failures[PIECES_MAX];
};

struct plan {
        struct file *files;
        size_t n_files, files_room;
        struct task *tasks;
        size_t n_tasks, tasks_room;
        char *group; /* the task in the making */
        size_t group_size, group_room, group_pieces;
        uint64_t group_cost;
};

/* Ends the program with a message. */
_Noreturn void fail(const char *what, int r);

/* Finds all regular files below the paths, which end with NULL, and makes the tasks. */
void plan_make(struct plan *plan, char **paths);
void plan_free(struct plan *plan);

/* Reports, once for a file, that it could not be read. */
void plan_note_failure(struct plan *plan, uint32_t file, int error);

/* Counts all pieces of a task.  The files may have changed since the plan was made: what is there now is counted.
 * What cannot be read is noted in the tally.  Returns 0, or an error of the table. */
int plan_count(struct wordtable *table, struct tally *tally, const char *arg, size_t size);

#endif
