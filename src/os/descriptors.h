/* SPDX-License-Identifier: MIT
 *
 * os/descriptors.h: small helpers around file descriptors.
 */
#ifndef BROOD_OS_DESCRIPTORS_H
#define BROOD_OS_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Close a descriptor and forget it; -1 is fine. */
void descriptor_close(int *fd);

/* In a forked child: close some, each another, and forget them; those that lie side by side at one stroke. */
void descriptors_leave(int *const fds[], size_t count);

/* Descriptors that a forked child is to close, however many: a bit for each number.  Zero is the empty set. */
struct descriptor_set {
        uint64_t *words;
        size_t count;
};
int descriptor_set_add(struct descriptor_set *set, int fd); /* 0 or -ENOMEM */
void descriptor_set_remove(struct descriptor_set *set, int fd);
void descriptor_set_close(const struct descriptor_set *set); /* at one stroke where they lie side by side */

/* The open descriptor `number` becomes what *fd is, which is closed, whatever comes of it.  0, or a negative errno: it is as it
 * was. */
int descriptor_become(int number, int *fd);

/* A descriptor whose number is none of the three streams', close-on-exec: this one, or a duplicate for which it is closed.  A
 * negative errno, also if it is given one. */
int descriptor_above_streams(int fd);

/* Whether it is open; whether it stays open in a program that this process executes. */
bool descriptor_is_open(int fd);
int descriptor_set_inherited(int fd, bool inherited);

/* The directory that this process works in, as a descriptor; and to work in the one of a descriptor. */
int directory_open(void);
int directory_enter(int fd);

/* Give `count` descriptors the numbers that are wanted for them, inherited by programs; before, those of `others` that have
 * one of these numbers get another.  0 or a negative errno. */
int descriptors_place(int *fds, const int *wanted, size_t count, int *others, size_t others_count);

/* Read a small file (of /proc or /sys) as a string: its length, or a negative errno. */
ssize_t file_read(const char *path, char *buffer, size_t size);

/* Write all of it, however often it takes: 0 or a negative errno. */
int descriptor_write(int fd, const void *bytes, size_t size);

/* An event descriptor: readable once raised, until lowered.  Close-on-exec, non-blocking. */
int eventfd_new(void);

/* The same, counting: each raise must be met by one eventfd_lower(). */
int eventfd_new_counting(void);

/* Marks of brood's own, by which a descriptor is known, also in a child that has inherited it, from whatever else may have got its
 * number since.  A pidfd, an eventfd or an end of a pipe can be marked; 0 or a negative errno. */
int descriptor_mark(int fd);
bool descriptor_is_marked(int fd);
int eventfd_new_marked(void);

/* The number by which the kernel knows an eventfd, the same in every process; -EBADF, -EINVAL (it is none), -ENOENT (no /proc). */
int64_t eventfd_id(int fd);

/* The number by which the kernel knows what is behind a descriptor of its kind, the same in every process; -EBADF. */
int64_t descriptor_id(int fd);

/* A duplicate, close-on-exec: the descriptor or a negative errno. */
int descriptor_duplicate(int fd);

/* Whether it can be read from now. */
bool descriptor_readable(int fd);
void eventfd_raise(int fd);
void eventfd_lower(int fd);

#endif
