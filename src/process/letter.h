/* SPDX-License-Identifier: MIT
 *
 * process/letter.h: what a process is told that is no fork of its parent: who it is, what it runs and on which bytes.
 *
 * A letter is a sealed memfd.  The parent writes it before the birth; the child, which finds it among its descriptors (spawn) or is
 * given it by the fork server, reads it once into memory of its own, and checks it there before it believes it.
 *
 *   part    written by                          read by                   frozen
 *   gate    both, during the birth (registry.h) both                      -
 *   head    the parent                          the child, once, a copy   when the child is made
 *   rest    the parent                          the child, once, a copy   when the child is made
 *
 * The gate has the first page, which both map; a child lets go of it when it is let through.
 */
#ifndef BROOD_PROCESS_LETTER_H
#define BROOD_PROCESS_LETTER_H

#include "process/registry.h"
#include "process/setup.h"

/* How a program that is run again learns of its letter: "BROOD_SPAWNED=5", a descriptor. */
#define LETTER_VARIABLE "BROOD_SPAWNED"

struct letter {
        int memfd;
        struct gate *gate; /* mapped; the births' own from then on */
        size_t size;
};

/* In the parent: write one.  For a child of the fork server `fitting` is what it is to put on; else NULL, since it is on before.
 * 0; -ENOEXEC (the target or class is in no module that has a build-id); -ENOMEM, -EMFILE, -ENFILE. */
int letter_write(struct letter *ret_letter, const brood_process *process, int branch, const sigset_t *mask,
                 const struct fitting *fitting);

/* The descriptor and the gate of a letter that was written. */
void letter_close(struct letter *letter);

/* In the child: what a letter says.  All of it lies in memory that stays. */
struct contents {
        bool is_server;
        uint32_t start_method; /* for the children of the child */
        uint32_t log_level;    /* of its log to stderr */
        int branch;            /* a spawned one's */
        sigset_t mask, ignored;
        size_t handed_count, keep_count;
        const int *keep; /* their numbers in the parent; those of what is handed over are in the handle */
        struct outfit outfit;
        const char *const *environment; /* NULL: as it is */
        int (*preload)(void);           /* a server's; NULL: none */
};

/* Map a letter's gate: 0; -EUCLEAN, -EBADF (it is no letter); a negative errno. */
int letter_open(struct letter *ret_letter, int memfd);

/* Read it: 0, with a handle for this process; -EUCLEAN (it contradicts itself); -EPROTONOSUPPORT (another version's); -ELIBACC,
 * -ENOEXEC (what it is to run is not here); -ENOMEM. */
int letter_read(const struct letter *letter, struct contents *ret_contents, brood_process **ret_process);

#endif
