/* SPDX-License-Identifier: MIT */
#include "os/descriptors.h"
#include "os/errno.h"

#include <fcntl.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

void descriptor_close(int *fd)
{
        KEEP_ERRNO;
        if (*fd >= 0)
                close(*fd);
        *fd = -1;
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

int eventfd_new(void)
{
        KEEP_ERRNO;
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

        return fd < 0 ? -errno : fd;
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
