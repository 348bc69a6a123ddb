/* SPDX-License-Identifier: MIT */
#include "os/channel.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <string.h>
#include <sys/socket.h>

int channel_pair(int ret_ends[2])
{
        KEEP_ERRNO;
        int ends[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
                return -errno;
        for (int i = 0; i < 2; i++)
                ends[i] = descriptor_above_streams(ends[i]);
        if (ends[0] < 0 || ends[1] < 0) {
                int r = ends[0] < 0 ? ends[0] : ends[1];
                for (int i = 0; i < 2; i++)
                        descriptor_close(&ends[i]);
                return r;
        }
        memcpy(ret_ends, ends, sizeof ends);
        return 0;
}

/* Room for the descriptors of a message, aligned as the kernel wants it. */
union control {
        char room[CMSG_SPACE(CHANNEL_DESCRIPTORS_MAX * sizeof(int))];
        struct cmsghdr align;
};

int channel_send(int channel, const void *message, size_t size, const int *fds, size_t count)
{
        KEEP_ERRNO;
        union control control;
        struct iovec content = { (void *)(uintptr_t)message, size };
        struct msghdr header = { .msg_iov = &content, .msg_iovlen = 1 };

        if (count > CHANNEL_DESCRIPTORS_MAX)
                return -E2BIG;
        if (count > 0) {
                header.msg_control = control.room;
                header.msg_controllen = CMSG_SPACE(count * sizeof *fds);
                memset(control.room, 0, header.msg_controllen);
                struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
                rights->cmsg_level = SOL_SOCKET;
                rights->cmsg_type = SCM_RIGHTS;
                rights->cmsg_len = CMSG_LEN(count * sizeof *fds);
                memcpy(CMSG_DATA(rights), fds, count * sizeof *fds);
        }
        while (sendmsg(channel, &header, MSG_NOSIGNAL) < 0)
                if (errno != EINTR)
                        return errno == ECONNRESET ? -EPIPE : -errno;
        return 0;
}

ssize_t channel_receive(int channel, void *message, size_t size, bool wait, int *fds, size_t room, size_t *ret_count,
                        bool *ret_truncated)
{
        KEEP_ERRNO;
        union control control;
        struct iovec content = { message, size };
        struct msghdr header = {
                .msg_iov = &content,
                .msg_iovlen = 1,
                .msg_control = control.room,
                .msg_controllen = sizeof control.room,
        };
        ssize_t n;
        size_t count = 0;

        while ((n = recvmsg(channel, &header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT))) < 0)
                if (errno != EINTR)
                        return errno == ECONNRESET ? 0 : -errno;
        for (struct cmsghdr *part = CMSG_FIRSTHDR(&header); part != NULL; part = CMSG_NXTHDR(&header, part)) {
                if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t carried = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < carried; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
                        if (count < room)
                                fds[count++] = fd;
                        else
                                descriptor_close(&fd);
                }
        }
        *ret_count = count;
        *ret_truncated = (header.msg_flags & MSG_CTRUNC) != 0;
        return n;
}
