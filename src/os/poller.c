/* SPDX-License-Identifier: MIT */
#include "os/poller.h"
#include "os/clock.h"
#include "os/errno.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>

int poller_new(void)
{
        KEEP_ERRNO;
        int fd = epoll_create1(EPOLL_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

static int control(int poller, int what, int fd, uint32_t events, void *name)
{
        KEEP_ERRNO;
        struct epoll_event event = { .events = events, .data.ptr = name };

        return epoll_ctl(poller, what, fd, &event) < 0 ? -errno : 0;
}

int poller_add(int poller, int fd, void *name)
{
        return control(poller, EPOLL_CTL_ADD, fd, EPOLLIN, name);
}

int poller_add_edge(int poller, int fd, void *name)
{
        return control(poller, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, name);
}

int poller_edge_to_level(int poller, int fd, void *name)
{
        return control(poller, EPOLL_CTL_MOD, fd, EPOLLIN, name);
}

int poller_add_once(int poller, int fd, void *name)
{
        return control(poller, EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT, name);
}

void poller_remove(int poller, int fd)
{
        control(poller, EPOLL_CTL_DEL, fd, 0, NULL);
}

void poller_clear(int poller)
{
        KEEP_ERRNO;
        struct epoll_event events[16];

        while (epoll_wait(poller, events, 16, 0) < 0 && errno == EINTR)
                ;
}

int poller_wait(int poller, void **ready, size_t room, int64_t deadline)
{
        KEEP_ERRNO;
        struct epoll_event events[64];
        int most = room < 64 ? (int)room : 64;

        for (;;) {
                int left = deadline_left_ms(deadline);
                int n = epoll_wait(poller, events, most, left);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        for (int i = 0; i < n; i++)
                                ready[i] = events[i].data.ptr;
                        return n;
                }
                if (n == 0 && left == 0)
                        return deadline == DEADLINE_NOW ? -EAGAIN : -ETIMEDOUT;
        }
}

int poll_readable(const int *fds, size_t count, unsigned char *ready, int64_t deadline)
{
        KEEP_ERRNO;
        struct pollfd few[16];
        struct pollfd *entries = count <= 16 ? few : malloc(count * sizeof *entries);
        size_t used = 0;

        if (entries == NULL)
                return -ENOMEM;
        /* The kernel takes no more entries than descriptors may be open, so those that are passed over are left out. */
        for (size_t i = 0; i < count; i++)
                if (fds[i] >= 0)
                        entries[used++] = (struct pollfd){ .fd = fds[i], .events = POLLIN };

        int n, left;
        do {
                left = deadline_left_ms(deadline);
                n = poll(entries, used, left);
        } while ((n < 0 && errno == EINTR) || (n == 0 && left != 0));
        int r = n < 0 ? -errno : n;
        for (size_t i = 0; i < used && r >= 0; i++)
                if (entries[i].revents & POLLNVAL)
                        r = -EBADF;
        for (size_t i = 0, next = 0; i < count && r >= 0; i++)
                ready[i] = fds[i] >= 0 && entries[next++].revents != 0;
        if (entries != few)
                free(entries);
        return r;
}
