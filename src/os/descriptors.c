/* SPDX-License-Identifier: MIT */
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/syscall.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

CHILD_CODE void descriptor_close(int *fd)
{
        if (*fd >= 0)
                kernel_call(SYS_close, *fd);
        *fd = -1;
}

CHILD_CODE void descriptors_leave(int *const fds[], size_t count)
{
        int lowest = INT_MAX, highest = -1;
        size_t open = 0;

        for (size_t i = 0; i < count; i++) {
                int fd = *fds[i];

                if (fd < 0)
                        continue;
                open++;
                lowest = fd < lowest ? fd : lowest;
                highest = fd > highest ? fd : highest;
        }
        bool closed =
            open > 1 && (size_t)(highest - lowest) == open - 1 && kernel_call(SYS_close_range, lowest, highest) == 0;
        for (size_t i = 0; i < count; i++) {
                if (*fds[i] >= 0 && !closed)
                        kernel_call(SYS_close, *fds[i]);
                *fds[i] = -1;
        }
}

enum { WORD_BITS = 64 };

int descriptor_set_add(struct descriptor_set *set, int fd)
{
        size_t word = (size_t)fd / WORD_BITS;

        if (word >= set->count) {
                size_t count = 2 * word + 1;
                uint64_t *words = realloc(set->words, count * sizeof *words);
                if (words == NULL)
                        return -ENOMEM;
                memset(words + set->count, 0, (count - set->count) * sizeof *words);
                set->words = words;
                set->count = count;
        }
        set->words[word] |= UINT64_C(1) << fd % WORD_BITS;
        return 0;
}

void descriptor_set_remove(struct descriptor_set *set, int fd)
{
        if (fd >= 0 && (size_t)fd / WORD_BITS < set->count)
                set->words[fd / WORD_BITS] &= ~(UINT64_C(1) << fd % WORD_BITS);
}

/* The first number from here on that is in the set, or that is not; the set's end if there is none. */
static size_t next_that(const struct descriptor_set *set, size_t fd, bool is_in)
{
        for (; fd < set->count * WORD_BITS; fd = (fd / WORD_BITS + 1) * WORD_BITS) {
                uint64_t word = set->words[fd / WORD_BITS];
                uint64_t left = (is_in ? word : ~word) >> fd % WORD_BITS;
                if (left != 0)
                        return fd + (size_t)__builtin_ctzll(left);
        }
        return fd;
}

void descriptor_set_close(const struct descriptor_set *set)
{
        KEEP_ERRNO;
        size_t end = set->count * WORD_BITS, last;

        for (size_t first = next_that(set, 0, true); first < end; first = next_that(set, last, true)) {
                last = next_that(set, first, false);
                if (kernel_call(SYS_close_range, first, last - 1) == 0)
                        continue;
                for (size_t fd = first; fd < last; fd++)
                        close((int)fd);
        }
}

int descriptor_become(int number, int *fd)
{
        KEEP_ERRNO;
        int r = dup3(*fd, number, O_CLOEXEC) < 0 ? -errno : 0;

        descriptor_close(fd);
        return r;
}

int descriptor_above_streams(int fd)
{
        KEEP_ERRNO;
        if (fd < 0 || fd > 2)
                return fd;
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), r = copy < 0 ? -errno : copy;
        close(fd);
        return r;
}

bool descriptor_is_open(int fd)
{
        KEEP_ERRNO;
        return fcntl(fd, F_GETFD) >= 0;
}

int descriptor_set_inherited(int fd, bool inherited)
{
        KEEP_ERRNO;
        return fcntl(fd, F_SETFD, inherited ? 0 : FD_CLOEXEC) < 0 ? -errno : 0;
}

int directory_open(void)
{
        KEEP_ERRNO;
        int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

int directory_enter(int fd)
{
        KEEP_ERRNO;
        return fchdir(fd) < 0 ? -errno : 0;
}

static bool is_one_of(int fd, const int *fds, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (fds[i] == fd)
                        return true;
        return false;
}

/* Move a descriptor to a number that nobody wants. */
static int move_away(int *fd, const int *wanted, size_t count)
{
        for (int from = 3; is_one_of(*fd, wanted, count);) {
                int copy = fcntl(*fd, F_DUPFD_CLOEXEC, from);

                if (copy < 0)
                        return -errno;
                close(*fd);
                *fd = copy;
                from = copy + 1;
        }
        return 0;
}

int descriptors_place(int *fds, const int *wanted, size_t count, int *others, size_t others_count)
{
        KEEP_ERRNO;
        int r = 0;

        for (size_t i = 0; i < others_count && r == 0; i++)
                r = move_away(&others[i], wanted, count);
        for (size_t i = 0; i < count && r == 0; i++)
                r = move_away(&fds[i], wanted, count);
        for (size_t i = 0; i < count && r == 0; i++) {
                if (dup2(fds[i], wanted[i]) < 0)
                        return -errno;
                close(fds[i]);
                fds[i] = wanted[i];
        }
        return r;
}

ssize_t file_read(const char *path, char *buffer, size_t size)
{
        KEEP_ERRNO;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        size_t length = 0;
        ssize_t n = 0;

        if (fd < 0)
                return -errno;
        while (length < size - 1) {
                n = read(fd, buffer + length, size - 1 - length);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                length += (size_t)n;
        }
        int r = n < 0 ? -errno : 0;
        close(fd);
        buffer[length] = '\0';
        return r < 0 ? r : (ssize_t)length;
}

int descriptor_write(int fd, const void *bytes, size_t size)
{
        KEEP_ERRNO;
        const char *at = bytes;

        while (size > 0) {
                ssize_t n = write(fd, at, size);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                at += n;
                size -= (size_t)n;
        }
        return 0;
}

int eventfd_new(void)
{
        KEEP_ERRNO;
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        return fd < 0 ? -errno : fd;
}

int eventfd_new_counting(void)
{
        KEEP_ERRNO;
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);

        return fd < 0 ? -errno : fd;
}

/* All eventfds, and other descriptors that are no files, have one inode.  What a description keeps for itself is the signal of
 * O_ASYNC, which is not in use here; and nobody else would choose this one. */
enum { MARK = SIGTTOU };

int descriptor_mark(int fd)
{
        return (int)kernel_call(SYS_fcntl, fd, F_SETSIG, MARK);
}

CHILD_CODE bool descriptor_is_marked(int fd)
{
        return kernel_call(SYS_fcntl, fd, F_GETSIG) == MARK;
}

int eventfd_new_marked(void)
{
        int fd = eventfd_new(), r = fd < 0 ? fd : descriptor_mark(fd);

        if (r < 0)
                descriptor_close(&fd);
        return r < 0 ? r : fd;
}

int64_t eventfd_id(int fd)
{
        KEEP_ERRNO;
        char path[48], text[1024];

        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
        ssize_t n = file_read(path, text, sizeof text);
        if (n < 0)
                return n == -ENOENT && fcntl(fd, F_GETFD) < 0 ? -EBADF : n;
        const char *at = strstr(text, "eventfd-id:");
        return at == NULL ? -EINVAL : strtoll(at + strlen("eventfd-id:"), NULL, 10);
}

int64_t descriptor_id(int fd)
{
        KEEP_ERRNO;
        struct stat about;

        return fstat(fd, &about) < 0 ? -errno : (int64_t)about.st_ino;
}

int descriptor_duplicate(int fd)
{
        KEEP_ERRNO;
        int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

        return copy < 0 ? -errno : copy;
}

bool descriptor_readable(int fd)
{
        KEEP_ERRNO;
        struct pollfd entry = { .fd = fd, .events = POLLIN };

        return poll(&entry, 1, 0) == 1 && entry.revents & POLLIN;
}

void eventfd_raise(int fd)
{
        KEEP_ERRNO;
        uint64_t one = 1;

        /* The only failure is a counter at its limit, which is raised already. */
        while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
                ;
}

void eventfd_lower(int fd)
{
        KEEP_ERRNO;
        uint64_t count;

        while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
                ;
}
