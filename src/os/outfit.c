/* SPDX-License-Identifier: MIT */
#include "os/outfit.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/syscall.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- the steps: each 0, or -1 with errno ---- */

static int wear_session(const struct outfit *outfit, int kept[OUTFIT_KEPT])
{
        (void)kept;
        if (outfit->new_session)
                return setsid() < 0 ? -1 : 0;
        return outfit->new_group ? setpgid(0, 0) : 0;
}

static int wear_cgroup(const struct outfit *outfit, int kept[OUTFIT_KEPT])
{
        (void)kept;
        if (outfit->cgroup == NULL)
                return 0;
        int at = open(outfit->cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (at < 0)
                return -1;
        int fd = openat(at, "cgroup.procs", O_WRONLY | O_CLOEXEC);
        close(at);
        if (fd < 0)
                return -1;
        ssize_t n = write(fd, "0", 1); /* the kernel takes it for whoever writes it */
        int error = errno;
        close(fd);
        errno = error;
        return n == 1 ? 0 : -1;
}

static int limit(int resource, uint64_t value)
{
        struct rlimit before, now;

        if (value == 0)
                return 0;
        if (getrlimit(resource, &before) < 0)
                return -1;
        now.rlim_cur = (rlim_t)value;
        /* Of CPU time the soft limit is a signal that can be caught, and the hard one the end: a second later. */
        now.rlim_max = (rlim_t)(resource == RLIMIT_CPU ? value + 1 : value);
        if (before.rlim_max != RLIM_INFINITY && now.rlim_max > before.rlim_max)
                now.rlim_max = before.rlim_max;
        if (now.rlim_cur > now.rlim_max)
                now.rlim_cur = now.rlim_max;
        return setrlimit(resource, &now);
}

static int wear_limits(const struct outfit *outfit, int kept[OUTFIT_KEPT])
{
        (void)kept;
        if (limit(RLIMIT_AS, outfit->memory_limit) < 0 || limit(RLIMIT_CPU, outfit->cpu_seconds) < 0)
                return -1;
        return limit(RLIMIT_NOFILE, outfit->file_limit) < 0 || limit(RLIMIT_NPROC, outfit->process_limit) < 0 ? -1 : 0;
}

static int wear_nice(const struct outfit *outfit, int kept[OUTFIT_KEPT])
{
        (void)kept;
        errno = 0;
        return outfit->nice != 0 && nice(outfit->nice) == -1 && errno != 0 ? -1 : 0;
}

static int wear_cpus(const struct outfit *outfit, int kept[OUTFIT_KEPT])
{
        cpu_set_t set;

        (void)kept;
        if (outfit->cpus == NULL)
                return 0;
        CPU_ZERO(&set);
        for (size_t i = 0; i < outfit->cpus_count; i++) {
                if (outfit->cpus[i] < 0 || outfit->cpus[i] >= CPU_SETSIZE) {
                        errno = EINVAL;
                        return -1;
                }
                CPU_SET(outfit->cpus[i], &set);
        }
        return sched_setaffinity(0, sizeof set, &set);
}

static int wear_directory(const struct outfit *outfit, int kept[OUTFIT_KEPT])
{
        (void)kept;
        return outfit->directory != NULL ? chdir(outfit->directory) : 0;
}

/* A descriptor with one of the three numbers that are about to be given away gets another. */
static int move_up(int *fd)
{
        if (*fd < 0 || *fd > 2)
                return 0;
        int copy = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
        if (copy < 0)
                return -1;
        *fd = copy;
        return 0;
}

static int wear_streams(const struct outfit *outfit, int kept[OUTFIT_KEPT])
{
        int streams[3];

        for (int i = 0; i < OUTFIT_KEPT; i++)
                if (move_up(&kept[i]) < 0)
                        return -1;
        for (int i = 0; i < 3; i++) {
                streams[i] = outfit->streams[i];
                if (streams[i] != i && move_up(&streams[i]) < 0)
                        return -1;
        }
        for (int i = 0; i < 3; i++) {
                if (streams[i] < 0)
                        continue;
                /* dup2() of a descriptor onto itself would leave it close-on-exec. */
                if (streams[i] == i ? fcntl(i, F_SETFD, 0) < 0 : dup2(streams[i], i) < 0)
                        return -1;
                if (streams[i] != i && streams[i] != outfit->streams[i])
                        close(streams[i]); /* a copy that was moved up */
        }
        return 0;
}

static int close_between(int first, int last)
{
        return first <= last ? (int)syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0) : 0;
}

static int lowest_from(int from, const int *fds, size_t count, int found)
{
        for (size_t i = 0; i < count; i++)
                if (fds[i] >= from && (found < 0 || fds[i] < found))
                        found = fds[i];
        return found;
}

static int wear_descriptors(const struct outfit *outfit, int kept[OUTFIT_KEPT])
{
        /* What is kept is kept across an exec, too. */
        for (size_t i = 0; i < outfit->keep_count; i++)
                if (fcntl(outfit->keep[i], F_SETFD, 0) < 0)
                        return -1;
        if (!outfit->close_others)
                return 0;
        for (int from = 3;;) {
                int next = lowest_from(from, outfit->keep, outfit->keep_count, -1);

                next = lowest_from(from, outfit->handed, outfit->handed_count, next);
                next = lowest_from(from, kept, OUTFIT_KEPT, next);
                if (next < 0)
                        return close_between(from, INT_MAX);
                if (close_between(from, next - 1) < 0)
                        return -1;
                from = next + 1;
        }
}

int outfit_wear(const struct outfit *outfit, int kept[OUTFIT_KEPT], enum outfit_step *ret_step)
{
        KEEP_ERRNO;
        static int (*const steps[])(const struct outfit *outfit, int kept[OUTFIT_KEPT]) = {
                [OUTFIT_SESSION] = wear_session, [OUTFIT_CGROUP] = wear_cgroup,
                [OUTFIT_LIMITS] = wear_limits,   [OUTFIT_NICE] = wear_nice,
                [OUTFIT_CPUS] = wear_cpus,       [OUTFIT_DIRECTORY] = wear_directory,
                [OUTFIT_STREAMS] = wear_streams, [OUTFIT_DESCRIPTORS] = wear_descriptors,
        };

        for (int step = OUTFIT_SESSION; step <= OUTFIT_DESCRIPTORS; step++) {
                if (steps[step](outfit, kept) < 0) {
                        *ret_step = (enum outfit_step)step;
                        return -errno;
                }
        }
        return 0;
}

const char *outfit_step_name(enum outfit_step step)
{
        static const char *const names[] = {
                [OUTFIT_NONE] = "",
                [OUTFIT_SESSION] = "session",
                [OUTFIT_CGROUP] = "control group",
                [OUTFIT_LIMITS] = "limits",
                [OUTFIT_NICE] = "nice",
                [OUTFIT_CPUS] = "CPUs",
                [OUTFIT_DIRECTORY] = "directory",
                [OUTFIT_STREAMS] = "streams",
                [OUTFIT_DESCRIPTORS] = "descriptors",
                [OUTFIT_PROGRAM] = "program",
                [OUTFIT_FUNCTION] = "function",
                [OUTFIT_PRELOAD] = "preload",
                [OUTFIT_TREE] = "tree",
        };

        return (size_t)step < sizeof names / sizeof names[0] ? names[step] : "";
}

int null_open(bool write)
{
        KEEP_ERRNO;
        int fd = open("/dev/null", (write ? O_WRONLY : O_RDONLY) | O_CLOEXEC);

        return descriptor_above_streams(fd < 0 ? -errno : fd);
}

int streams_to_null(void)
{
        KEEP_ERRNO;
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC), r = fd < 0 ? -errno : 0;

        for (int i = 0; i < 3 && r == 0; i++)
                if (fd == i ? fcntl(fd, F_SETFD, 0) < 0 : dup2(fd, i) < 0)
                        r = -errno;
        if (fd > 2)
                close(fd);
        return r;
}

int stream_pipe(int *ret_read, int *ret_write)
{
        KEEP_ERRNO;
        int ends[2];

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        ends[0] = descriptor_above_streams(ends[0]);
        ends[1] = descriptor_above_streams(ends[1]);
        if (ends[0] < 0 || ends[1] < 0) {
                int r = ends[0] < 0 ? ends[0] : ends[1];
                for (int i = 0; i < 2; i++)
                        if (ends[i] >= 0)
                                close(ends[i]);
                return r;
        }
        *ret_read = ends[0];
        *ret_write = ends[1];
        return 0;
}
