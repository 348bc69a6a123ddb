/* SPDX-License-Identifier: MIT */
#include "os/pidfd.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/syscall.h"

#include <assert.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#define WAITID_PIDFD ((idtype_t)3) /* P_PIDFD, Linux 5.4 */

/* PIDFD_GET_INFO of <linux/pidfd.h> (6.13), which older headers lack; the first published size. */
struct process_info {
        uint64_t mask;
        uint64_t cgroup;
        uint32_t pid, tgid, ppid;
        uint32_t ids[8];
        int32_t exit_status;
};
static_assert(sizeof(struct process_info) == 64, "the kernel's PIDFD_INFO_SIZE_VER0");

#define PROCESS_INFO_EXIT (UINT64_C(1) << 3) /* 6.15 */
#define PROCESS_GET_INFO _IOWR(0xFF, 11, struct process_info)

int pidfd_of(pid_t pid)
{
        return (int)kernel_call(SYS_pidfd_open, pid, 0);
}

int pidfd_of_marked(pid_t pid)
{
        int fd = pidfd_of(pid), r = fd < 0 ? fd : descriptor_mark(fd);

        if (r < 0)
                descriptor_close(&fd);
        return r < 0 ? r : fd;
}

int pidfd_signal(int pidfd, int signal)
{
        return (int)kernel_call(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
}

int pidfd_wait(int pidfd, int64_t deadline)
{
        KEEP_ERRNO;
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        for (;;) {
                int left = deadline_left_ms(deadline);
                int r = poll(&p, 1, left);

                if (r > 0)
                        return p.revents & POLLNVAL ? -EBADF : 0;
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r == 0 && left == 0)
                        return deadline == DEADLINE_NOW ? -EAGAIN : -ETIMEDOUT;
        }
}

int pidfd_wait_reaped(int pidfd)
{
        KEEP_ERRNO;
        struct pollfd p = { .fd = pidfd, .events = 0 }; /* POLLHUP is told unasked */

        poll(&p, 1, 2);
        return 0;
}

int exitcode_of_status(int status)
{
        return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Ask the kernel for the exit status of a process that has been reaped already, by somebody else. */
static int ending_after_reaping(int pidfd, struct ending *ret_ending)
{
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        if (poll(&p, 1, 0) <= 0)
                return -EAGAIN;

        struct process_info info = { .mask = PROCESS_INFO_EXIT };
        int r = ioctl(pidfd, PROCESS_GET_INFO, &info) == 0 ? 0 : -errno;
        if (r == 0 && (info.mask & PROCESS_INFO_EXIT)) {
                *ret_ending = (struct ending){
                        .exitcode = exitcode_of_status(info.exit_status),
                        .core_dumped = WCOREDUMP(info.exit_status),
                };
                return 0;
        }
        /* Between a process's end and its reaping the kernel says nothing yet; POLLHUP (6.9) tells that the reaping is over.
         * -ESRCH without it: the reaping came between the two calls.  A kernel that does not know the question never
         * tells, and an answer that may never come is no answer. */
        return !(p.revents & POLLHUP) && (r == 0 || r == -ESRCH) ? -EAGAIN : -ENODATA;
}

static int64_t ns_of(struct timeval time)
{
        return time.tv_sec * NS_PER_S + time.tv_usec * 1000;
}

struct ending ending_of(const siginfo_t *info, const struct rusage *usage)
{
        return (struct ending){
                .exitcode = info->si_code == CLD_EXITED ? info->si_status : -info->si_status,
                .core_dumped = info->si_code == CLD_DUMPED,
                .measured = true,
                .user_ns = ns_of(usage->ru_utime),
                .system_ns = ns_of(usage->ru_stime),
                .peak_memory = (int64_t)usage->ru_maxrss * 1024,
        };
}

/* The system call, unlike the function, tells what the process has used. */
static int reap(idtype_t type, id_t id, struct ending *ret_ending)
{
        siginfo_t info = { 0 };
        struct rusage usage = { 0 };
        long r;

        do
                r = kernel_call(SYS_waitid, type, id, &info, WEXITED | WNOHANG | __WALL, &usage);
        while (r == -EINTR);
        if (r < 0)
                return (int)r;
        if (info.si_pid == 0)
                return -EAGAIN;
        *ret_ending = ending_of(&info, &usage);
        return 0;
}

int pidfd_reap(int pidfd, struct ending *ret_ending)
{
        KEEP_ERRNO;
        int r = reap(WAITID_PIDFD, (id_t)pidfd, ret_ending);

        return r == -ECHILD ? ending_after_reaping(pidfd, ret_ending) : r;
}

int pid_reap(pid_t pid, struct ending *ret_ending)
{
        return reap(P_PID, (id_t)pid, ret_ending);
}

void pidfd_bury(int *pidfd)
{
        KEEP_ERRNO;
        siginfo_t info;

        pidfd_wait(*pidfd, DEADLINE_NEVER);
        /* A tracer is told first, and until it has listened there is nothing to reap. */
        while (waitid(WAITID_PIDFD, (id_t)*pidfd, &info, WEXITED | __WALL) < 0 && errno == EINTR)
                ;
        descriptor_close(pidfd);
}
