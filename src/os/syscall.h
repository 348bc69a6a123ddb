/* SPDX-License-Identifier: MIT
 *
 * os/syscall.h: system calls without the libc: those that it has no name for, and those of a forked child before its target.
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

/* kernel_call(number, up to six arguments): the result, or a negative errno. */
#define kernel_call(...) kernel_call_padded(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)
#define kernel_call_padded(number, a, b, c, d, e, f, ...)                                                              \
        kernel_call_six(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#if defined(__x86_64__) && defined(__LP64__)

static inline long kernel_call_six(long number, long a, long b, long c, long d, long e, long f)
{
        register long r10 __asm__("r10") = d;
        register long r8 __asm__("r8") = e;
        register long r9 __asm__("r9") = f;
        long result;

        __asm__ volatile("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
        return result;
}

#elif defined(__aarch64__)

static inline long kernel_call_six(long number, long a, long b, long c, long d, long e, long f)
{
        register long x8 __asm__("x8") = number;
        register long x0 __asm__("x0") = a;
        register long x1 __asm__("x1") = b;
        register long x2 __asm__("x2") = c;
        register long x3 __asm__("x3") = d;
        register long x4 __asm__("x4") = e;
        register long x5 __asm__("x5") = f;

        __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
        return x0;
}

#else

#include "os/errno.h"

#include <unistd.h>

static inline long kernel_call_six(long number, long a, long b, long c, long d, long e, long f)
{
        KEEP_ERRNO;
        long result = syscall(number, a, b, c, d, e, f);

        return result < 0 ? -errno : result;
}

#endif

#endif
