/* SPDX-License-Identifier: MIT
 *
 * os/syscall.h: system calls without the libc, for what a forked child does before its target.
 *
 * A fork copies no page tables for code that is mapped from files.  So each stretch of the libc that the child enters for the first
 * time costs it a page fault, about as much as six system calls; and the libc's functions lie far apart.  These are inline.
 * What is given to the libc's wrappers besides (errno, cancellation, checkers of memory) is not needed there.
 */
#ifndef BROOD_OS_SYSCALL_H
#define BROOD_OS_SYSCALL_H

#include <sys/syscall.h>

/* For functions of brood that such a child enters: they lie together. */
#define CHILD_CODE __attribute__((section(".text.hot.brood_child")))

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9 */
#endif

#if defined(__x86_64__) && defined(__LP64__)

/* The result, or a negative errno. */
static inline long kernel_call(long number, long a, long b, long c, long d, long e)
{
        register long r10 __asm__("r10") = d;
        register long r8 __asm__("r8") = e;
        long result;

        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                         : "rcx", "r11", "memory");
        return result;
}

#elif defined(__aarch64__)

static inline long kernel_call(long number, long a, long b, long c, long d, long e)
{
        register long x8 __asm__("x8") = number;
        register long x0 __asm__("x0") = a;
        register long x1 __asm__("x1") = b;
        register long x2 __asm__("x2") = c;
        register long x3 __asm__("x3") = d;
        register long x4 __asm__("x4") = e;

        __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
        return x0;
}

#else

#include "os/errno.h"

#include <unistd.h>

static inline long kernel_call(long number, long a, long b, long c, long d, long e)
{
        KEEP_ERRNO;
        long result = syscall(number, a, b, c, d, e);

        return result < 0 ? -errno : result;
}

#endif

#endif
