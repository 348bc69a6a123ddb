/* SPDX-License-Identifier: MIT */
#include "os/random.h"
#include "os/errno.h"

#include <string.h>
#include <sys/random.h>

int random_fill(void *bytes, size_t size)
{
        KEEP_ERRNO;
        ssize_t n;

        /* Up to 256 bytes come whole, once the kernel has enough to draw from. */
        while ((n = getrandom(bytes, size, 0)) < 0 && errno == EINTR)
                ;
        return n < 0 ? -errno : 0;
}

void memory_wipe(void *bytes, size_t size)
{
        explicit_bzero(bytes, size);
}
