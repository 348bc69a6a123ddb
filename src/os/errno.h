/* SPDX-License-Identifier: MIT
 *
 * os/errno.h: brood returns its errors and leaves the caller's errno alone.
 */
#ifndef BROOD_OS_ERRNO_H
#define BROOD_OS_ERRNO_H

#include <errno.h>

static inline void errno_put_back(const int *kept)
{
        errno = *kept;
}

/* At the head of a function that makes system calls: errno is, when it returns, what it was. */
#define KEEP_ERRNO __attribute__((cleanup(errno_put_back), unused)) const int kept_errno = errno

#endif
