/* SPDX-License-Identifier: MIT
 *
 * os/outfit.h: what a child is given before it begins: directory, environment, streams, descriptors, limits, CPUs, session.
 *
 * Runs in the child of a fork, or in one that shares its parent's memory until it executes a program (child_spawn); so it
 * allocates nothing, changes no memory but its own stack and what it is told to, and uses system calls only.
 */
#ifndef BROOD_OS_OUTFIT_H
#define BROOD_OS_OUTFIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What failed, in the order in which it is done. */
enum outfit_step {
        OUTFIT_NONE,
        OUTFIT_SESSION,
        OUTFIT_CGROUP,
        OUTFIT_LIMITS,
        OUTFIT_NICE,
        OUTFIT_CPUS,
        OUTFIT_DIRECTORY,
        OUTFIT_STREAMS,
        OUTFIT_DESCRIPTORS,
        OUTFIT_PROGRAM,
        OUTFIT_FUNCTION,
        OUTFIT_PRELOAD,
        OUTFIT_TREE,
};

enum {
        OUTFIT_INHERIT = -1,
        OUTFIT_KEPT = 2, /* descriptors of brood's own that a child keeps */
};

struct outfit {
        const char *directory; /* NULL: the parent's */
        int streams[3];        /* the descriptors that become 0, 1 and 2; OUTFIT_INHERIT */
        const int *keep;       /* if the others are closed: but for 0, 1, 2 and these */
        size_t keep_count;
        const int *handed; /* the same, but these are not for a program that the child executes */
        size_t handed_count;
        const int *cpus; /* NULL: the parent's */
        size_t cpus_count;
        const char *cgroup; /* the directory of a control group; NULL: the parent's */
        uint64_t memory_limit, cpu_seconds, file_limit, process_limit; /* 0: the parent's */
        int nice;
        bool new_session, new_group, close_others;
};

/* Put it on: 0, or a negative errno and the step.  `kept` are brood's own (-1: none), which may get other numbers. */
int outfit_wear(const struct outfit *outfit, int kept[OUTFIT_KEPT], enum outfit_step *ret_step);

/* A name for people. */
const char *outfit_step_name(enum outfit_step step);

/* The null device, to read or to write, close-on-exec and not one of 0, 1 and 2: a descriptor or a negative errno. */
int null_open(bool write);

/* Have the three standard streams of this process lead nowhere: 0 or a negative errno. */
int streams_to_null(void);

/* A pipe for a stream, the same: 0 or a negative errno. */
int stream_pipe(int *ret_read, int *ret_write);

#endif
