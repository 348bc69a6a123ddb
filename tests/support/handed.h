/* SPDX-License-Identifier: MIT
 *
 * tests/support/handed.h: shared memory that is handed to another process by its descriptor, and copies of it that somebody has
 * tampered with.
 */
#ifndef BROOD_TESTS_HANDED_H
#define BROOD_TESTS_HANDED_H

#include "check.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* A copy of a memfd, `more` bytes longer, and sealed like that. */
static inline int handed_copy(int from, off_t more, unsigned seals)
{
        struct stat status;

        assert_int_equal(fstat(from, &status), 0);
        int fd = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_true(fd >= 0);
        off_t size = status.st_size + more;
        assert_int_equal(ftruncate(fd, size), 0);
        unsigned char *bytes = calloc(1, (size_t)size);
        assert_non_null(bytes);
        ssize_t n = pread(from, bytes, (size_t)(size < status.st_size ? size : status.st_size), 0);
        assert_true(n >= 0);
        assert_int_equal(pwrite(fd, bytes, (size_t)n, 0), n);
        free(bytes);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
        return fd;
}

/* A copy in which the low `size` bytes of `value` stand at `at`. */
static inline int handed_patched(int from, off_t at, uint64_t value, size_t size)
{
        int fd = handed_copy(from, 0, ALL_SEALS);

        assert_int_equal(pwrite(fd, &value, size, at), size);
        return fd;
}

/* A memfd of that size, full of noise at the beginning, or of zeros. */
static inline int handed_noise(off_t size, bool noise)
{
        int fd = memfd_create("noise", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, size), 0);
        for (off_t at = 0; noise && at + 8 <= size && at < 8192; at += 8)
                assert_int_equal(pwrite(fd, &(uint64_t){ support_random(UINT64_MAX) }, 8, at), 8);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, ALL_SEALS), 0);
        return fd;
}

/* Overwrite a few of the first `size` bytes with numbers of all magnitudes. */
static inline void handed_tamper(int fd, size_t size)
{
        for (uint64_t n = 1 + support_random(4); n > 0; n--) {
                uint64_t value = support_random(UINT64_MAX) >> support_random(64);
                value = support_random(2) ? value : ~value;
                assert_true(pwrite(fd, &value, 1 + support_random(8), (off_t)support_random(size)) > 0);
        }
}

/* What a process does with the descriptor that was sent to it: 0, or 1 and a complaint. */
struct handed_to {
        int socket;
        int (*use)(int fd);
};

static inline int handed_receive(void *arg)
{
        struct handed_to *to = arg;
        int fd;
        char byte, control[CMSG_SPACE(sizeof fd)];
        struct iovec data = { &byte, 1 };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
        };

        require_int(recvmsg(to->socket, &message, MSG_CMSG_CLOEXEC), 1);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        return to->use(fd);
}

/* Send a descriptor to a child in an SCM_RIGHTS message, and have it used there: what `use` returned. */
static inline int handed_by_message(int fd, int (*use)(int fd))
{
        char control[CMSG_SPACE(sizeof fd)] = "";
        struct iovec data = { (char[]){ "b" }, 1 };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
        };
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        pid_t pid = check_start(handed_receive, &(struct handed_to){ pair[1], use });
        *CMSG_FIRSTHDR(&message) =
            (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd) };
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &fd, sizeof fd);
        assert_int_equal(sendmsg(pair[0], &message, 0), 1);
        close(pair[0]);
        close(pair[1]);
        return check_wait(pid);
}

static inline int handed_exec(void *arg)
{
        int fd = *(int *)arg;
        char number[16];

        require_int(fcntl(fd, F_SETFD, 0), 0);
        snprintf(number, sizeof number, "%d", fd);
        execl("/proc/self/exe", "/proc/self/exe", "--attach", number, (char *)NULL);
        return 1;
}

/* Hand a descriptor across an exec to this very program, whose main() begins with handed_main(): what `use` returned there. */
static inline int handed_across_exec(int fd)
{
        return check_wait(check_start(handed_exec, &fd));
}

/* The other end of it, which ends as a process that dies: not even a leak is looked for. */
static inline void handed_main(int argc, char **argv, int (*use)(int fd))
{
        if (argc == 3 && strcmp(argv[1], "--attach") == 0)
                _exit(use(atoi(argv[2])));
}

#endif
