/* SPDX-License-Identifier: MIT */
#include "os/descendants.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/syscall.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int descendants_adopt(void)
{
        KEEP_ERRNO;
        char self[16] = "";

        /* By the pids of another namespace we would kill whoever has them in ours. */
        if (readlink("/proc/self", self, sizeof self - 1) < 0 || atoi(self) != getpid())
                return -ENOTSUP;
        return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0;
}

pid_t descendants_ended(void)
{
        KEEP_ERRNO;
        siginfo_t info = { 0 };

        while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
                if (errno != EINTR)
                        return -errno;
        return info.si_pid;
}

pid_t descendants_reap(struct ending *ret_ending)
{
        siginfo_t info = { 0 };
        struct rusage usage = { 0 };
        long r;

        do
                r = kernel_call(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | __WALL, &usage);
        while (r == -EINTR);
        if (r < 0)
                return (int)r;
        if (info.si_pid > 0)
                *ret_ending = ending_of(&info, &usage);
        return info.si_pid;
}

/* ---- the look: who is whose child ---- */

struct kin {
        pid_t parent, pid;
};

struct look {
        const char *spared;
        struct kin *kin; /* by parent */
        size_t count, room;
};

/* The parent of a process; -1 if it is gone, or has the name `spared`: the fourth field, after a name that may hold anything. */
static pid_t parent_of(pid_t pid, const char *spared)
{
        char path[40], text[1536];

        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        if (file_read(path, text, sizeof text) < 0)
                return -1;
        char *name = strchr(text, '('), *end = strrchr(text, ')');
        int parent;
        if (name == NULL || end == NULL || sscanf(end, ") %*c %d", &parent) != 1)
                return -1;
        *end = '\0';
        return spared != NULL && strcmp(name + 1, spared) == 0 ? -1 : parent;
}

static int note(struct look *look, pid_t pid)
{
        pid_t parent = parent_of(pid, look->spared);

        if (parent <= 0)
                return 0;
        if (look->count == look->room) {
                size_t room = look->room == 0 ? 256 : 2 * look->room;
                struct kin *kin = realloc(look->kin, room * sizeof *kin);
                if (kin == NULL)
                        return -ENOMEM;
                look->kin = kin;
                look->room = room;
        }
        look->kin[look->count++] = (struct kin){ parent, pid };
        return 0;
}

static int by_parent(const void *a, const void *b)
{
        const struct kin *left = a, *right = b;

        return (left->parent > right->parent) - (left->parent < right->parent);
}

static int look_around(struct look *look)
{
        DIR *directory = opendir("/proc");
        int r = 0;

        if (directory == NULL)
                return -errno;
        for (struct dirent *entry; r == 0 && (entry = readdir(directory)) != NULL;) {
                int pid = atoi(entry->d_name);
                if (pid > 0)
                        r = note(look, pid);
        }
        closedir(directory);
        if (look->count > 0)
                qsort(look->kin, look->count, sizeof *look->kin, by_parent);
        return r;
}

/* Where the children of a process begin. */
static size_t first_child(const struct look *look, pid_t parent)
{
        size_t from = 0, to = look->count;

        while (from < to) {
                size_t middle = from + (to - from) / 2;
                if (look->kin[middle].parent < parent)
                        from = middle + 1;
                else
                        to = middle;
        }
        return from;
}

/* ---- the killing ---- */

enum { DEPTH_MOST = 256 }; /* a pidfd each, and a frame; who is deeper comes up when those above have gone */

/* Kill what is below `parent`, which is this process (`pinned` -1), or one that is halted and pinned.
 *
 * A pid that was read may be another's by now, and nobody else's process may be hit.  A pidfd pins whoever has the pid, and what
 * /proc then says of its parent is true of it.  That parent's own pid is pinned in the same way, or is ours.  It must not have
 * ended since; so a process is halted while we are below it, which also keeps it from having more children, and killed after. */
static int kill_below(const struct look *look, pid_t parent, int pinned, int depth)
{
        int count = 0;

        for (size_t i = first_child(look, parent); i < look->count && look->kin[i].parent == parent; i++) {
                pid_t pid = look->kin[i].pid;
                int pidfd = pidfd_of(pid);

                if (pidfd < 0)
                        continue;
                bool still =
                    parent_of(pid, NULL) == parent && !pidfd_ended(pidfd) && (pinned < 0 || !pidfd_ended(pinned));
                if (still && pidfd_signal(pidfd, SIGSTOP) == 0) {
                        if (depth < DEPTH_MOST)
                                count += kill_below(look, pid, pidfd, depth + 1);
                        count += pidfd_signal(pidfd, SIGKILL) == 0;
                }
                descriptor_close(&pidfd);
        }
        return count;
}

int descendants_kill(const char *spared)
{
        KEEP_ERRNO;
        struct look look = { .spared = spared };
        int r = look_around(&look);

        /* Memory may have been too short for all: those that were found are a beginning. */
        if (r == 0 || look.count > 0)
                r = kill_below(&look, getpid(), -1, 0);
        free(look.kin);
        return r;
}
