/* SPDX-License-Identifier: MIT */
#include "os/cgroup.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* In a directory's path, "\040" and its like stand for blanks. */
static void unescape(char *text)
{
        char *to = text;

        for (const char *at = text; *at != '\0'; at++) {
                if (at[0] == '\\' && at[1] != '\0' && at[2] != '\0' && at[3] != '\0') {
                        *to++ = (char)((at[1] - '0') << 6 | (at[2] - '0') << 3 | (at[3] - '0'));
                        at += 3;
                } else {
                        *to++ = *at;
                }
        }
        *to = '\0';
}

/* Where the group is, seen through one line of mountinfo: "ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS... - TYPE ...". */
static int place_in(char *line, const char *group, char *path, size_t size)
{
        const char *type = strstr(line, " - ");
        char *fields[5], *rest = line;

        if (type == NULL || strncmp(type, " - cgroup2 ", strlen(" - cgroup2 ")) != 0)
                return -ENOTSUP;
        for (int i = 0; i < 5; i++)
                if ((fields[i] = strtok_r(i == 0 ? line : NULL, " ", &rest)) == NULL)
                        return -ENOTSUP;
        char *root = fields[3], *mount = fields[4];
        unescape(root);
        unescape(mount);
        size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
        /* Only a part of the tree may be mounted; and a group outside of this process's view begins with "/..". */
        if (strncmp(group, root, length) != 0 || (group[length] != '/' && group[length] != '\0') ||
            strncmp(group, "/..", 3) == 0)
                return -ENOTSUP;
        const char *below = strcmp(group + length, "/") == 0 ? "" : group + length;
        int n = snprintf(path, size, "%s%s", mount, below);
        return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* The line of /proc/self/cgroup that begins with "0::". */
static int own_group(char group[PATH_MAX])
{
        char text[2 * PATH_MAX];

        ssize_t n = file_read("/proc/self/cgroup", text, sizeof text);
        if (n < 0)
                return -ENOTSUP;
        for (char *at = text; at != NULL; at = strchr(at, '\n')) {
                at += *at == '\n';
                if (strncmp(at, "0::", 3) != 0)
                        continue;
                size_t length = strcspn(at + 3, "\n");
                if (length >= PATH_MAX)
                        return -ENAMETOOLONG;
                memcpy(group, at + 3, length);
                group[length] = '\0';
                return 0;
        }
        return -ENOTSUP;
}

int cgroup_own(char *path, size_t size)
{
        KEEP_ERRNO;
        char group[PATH_MAX], *line = NULL;
        size_t room = 0;

        int r = own_group(group);
        if (r < 0)
                return r;
        FILE *mounts = fopen("/proc/self/mountinfo", "re");
        if (mounts == NULL)
                return -ENOTSUP;
        r = -ENOTSUP;
        while (r == -ENOTSUP && getline(&line, &room, mounts) >= 0) {
                r = place_in(line, group, path, size);
                if (r == 0 && access(path, F_OK) < 0)
                        r = -ENOTSUP;
        }
        free(line);
        fclose(mounts);
        return r;
}

/* A file of a group: its path. */
static int file_of(const char *path, const char *name, char file[PATH_MAX])
{
        int n = snprintf(file, PATH_MAX, "%s/%s", path, name);

        return n >= 0 && n < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int refusal(int error)
{
        switch (error) {
        case EACCES:
        case EPERM:
        case EROFS:
                return -EPERM;
        case ENOENT:
        case ENOTDIR:
                return -ENOTSUP;
        default:
                return -error;
        }
}

int cgroup_make(const char *path)
{
        KEEP_ERRNO;
        char file[PATH_MAX];

        if (mkdir(path, 0755) < 0)
                return refusal(errno);
        /* Whoever goes in must be allowed to leave where it is: to write to the group above. */
        int r = file_of(path, "../cgroup.procs", file);
        if (r == 0 && faccessat(AT_FDCWD, file, W_OK, AT_EACCESS) < 0)
                r = refusal(errno);
        if (r == 0)
                r = file_of(path, "cgroup.kill", file);
        if (r == 0 && faccessat(AT_FDCWD, file, W_OK, AT_EACCESS) < 0)
                r = refusal(errno);
        if (r < 0)
                rmdir(path);
        return r;
}

int cgroup_make_plain(const char *path)
{
        KEEP_ERRNO;

        return mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : refusal(errno);
}

int cgroup_kill(const char *path)
{
        KEEP_ERRNO;
        char file[PATH_MAX];

        int r = file_of(path, "cgroup.kill", file);
        if (r < 0)
                return r;
        int fd = open(file, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = write(fd, "1", 1) == 1 ? 0 : -errno;
        close(fd);
        return r;
}

/* The groups in a group go first.  Whoever was in there has made them, and they may be many levels deep. */
static int remove_all(const char *path, int depth)
{
        enum { DEPTH_MOST = 64 };
        char below[PATH_MAX];

        if (rmdir(path) == 0 || errno == ENOENT)
                return 0;
        int error = errno;
        if (error != EBUSY && error != ENOTEMPTY)
                return -error;
        DIR *directory = depth < DEPTH_MOST ? opendir(path) : NULL;
        if (directory == NULL)
                return -error;
        for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
                if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && file_of(path, entry->d_name, below) == 0)
                        remove_all(below, depth + 1);
        closedir(directory);
        return rmdir(path) == 0 || errno == ENOENT ? 0 : -errno;
}

int cgroup_remove(const char *path, int64_t deadline)
{
        KEEP_ERRNO;
        char file[PATH_MAX];
        enum { LOOK_MS = 20 };

        int r = remove_all(path, 0);
        if (r != -EBUSY || file_of(path, "cgroup.events", file) < 0)
                return r;
        /* Whether somebody is in it is told by this file, whose reader is woken when that changes. */
        struct pollfd events = { .fd = open(file, O_RDONLY | O_CLOEXEC), .events = POLLPRI };
        while (r == -EBUSY && deadline_left_ms(deadline) != 0) {
                int left = deadline_left_ms(deadline);
                poll(&events, 1, left < 0 || left > LOOK_MS ? LOOK_MS : left);
                r = remove_all(path, 0);
        }
        descriptor_close(&events.fd);
        return r;
}
