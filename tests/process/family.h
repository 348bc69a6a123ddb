/* SPDX-License-Identifier: MIT
 *
 * tests/process/family.h: a target and what it starts past brood, and who of them is there.
 *
 * A family is a target and its strays: a child, a grandchild, a daemon that has left its session and closed all of its descriptors,
 * and one that halts itself.  All of them have a name by which they are found, since in a namespace their pids mean nothing here.
 */
#ifndef BROOD_TESTS_PROCESS_FAMILY_H
#define BROOD_TESTS_PROCESS_FAMILY_H

#include "setting.h"

/* The levels that have a guardian. */
enum { LEVELS = 3 };
extern const brood_tree_level levels[LEVELS];

/* Whether this level is to be had; if not, that is said as it should be. */
bool level_possible(brood_tree_level level);

/* ---- who is there ---- */

struct search {
        char name[16];     /* of a family, as ps shows it; or, */
        char argument[24]; /* of a program, its second argument */
        int signal;        /* sent to whom is found */
};

/* How many there are, zombies included. */
int count_found(const struct search *search);
void expect_none_soon(const struct search *search);

/* The control groups that hosts with this pid, *host, have made for their children; and those of this process. */
bool no_group_is_left(void *host);
void expect_no_group(void);

/* What a host that was killed had, comes to the watcher, or to this process if that is PID 1; and has ended when it has as many
 * children as before. */
void note_adopted(void);
void expect_no_orphans(void);

/* ---- families ---- */

enum { STRAYS = 4, CODE = 5 };

struct family {
        struct search who;
        int ready[2], go[2];
        bool stays; /* or it ends with CODE when it is told to go: say(go[1]) */
};

void family_make(struct family *family, bool stays);
void family_free(struct family *family);

/* Start one, and wait until all of it is there. */
int start_family(brood_process **ret_process, const struct family *family, brood_tree_level level);

/* A byte. */
void say(int fd);

/* A command of a shell that says "ready" once it has what the search finds: programs in the background, in a session of their own,
 * and in a pipeline; and is the last of them itself. */
void search_for(struct search *search, char command[512]);

#endif
