/* SPDX-License-Identifier: MIT */
#include "os/terminal.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool terminal_there(void)
{
        KEEP_ERRNO;
        return isatty(STDERR_FILENO);
}

size_t terminal_width(void)
{
        KEEP_ERRNO;
        struct winsize size;

        return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

void terminal_write(const char *text, size_t size)
{
        KEEP_ERRNO;
        struct pollfd entry = { .fd = STDERR_FILENO, .events = POLLOUT };

        if (poll(&entry, 1, 0) == 1 && entry.revents == POLLOUT)
                descriptor_write(STDERR_FILENO, text, size);
}
