/* SPDX-License-Identifier: MIT
 *
 * os/common.c: the public functions of <brood/common.h>.
 */
#include <brood/common.h>

#include "os/cpu.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)

const char *brood_version(void)
{
        return TEXT(BROOD_VERSION_MAJOR) "." TEXT(BROOD_VERSION_MINOR) "." TEXT(BROOD_VERSION_PATCH);
}

/* Texts of our own rather than strerror(3)'s: what a number means *here*, the same in every language and thread. */
const char *brood_strerror(int error)
{
        static const char unknown[] = "unknown error";

        if (error == 0)
                return "success";
        if (error == INT_MIN) /* has no opposite */
                return unknown;
        switch (abs(error)) {
        case EAGAIN:
                return "it would have to wait, or a resource is short for now";
        case ETIMEDOUT:
                return "the time limit has passed";
        case EINVAL:
                return "an argument is not valid";
        case E2BIG:
                return "an argument is too big, or its options come from a newer version of brood";
        case ENOMEM:
                return "out of memory";
        case EMFILE:
                return "this process has too many open descriptors";
        case ENFILE:
                return "the system has too many open files";
        case EMSGSIZE:
                return "the message or result is larger than the room for it";
        case EPIPE:
                return "closed or broken";
        case ECHILD:
                return "not a child of this process";
        case EPERM:
                return "not permitted: not this process's, or not safe to use";
        case ESRCH:
                return "the process has ended";
        case EALREADY:
                return "already so: started before, or as large before";
        case EDEADLK:
                return "a process cannot wait for itself";
        case ENODATA:
                return "the exit code is not known: somebody else reaped the process";
        case EOWNERDEAD:
                return "the worker process died";
        case ETIME:
                return "the task's limit of time or CPU time has passed";
        case ECANCELED:
                return "cancelled: the task, or its pool was terminated, or the handle freed";
        case ENOEXEC:
                return "the function is in no module that the workers, or the child, have";
        case ENOBUFS:
                return "too many tasks, leases or waits at once";
        case EUSERS:
                return "too many processes use this object";
        case EUCLEAN:
                return "the shared memory is damaged";
        case EBADF:
                return "closed, not for this direction, or not an open descriptor";
        case EINPROGRESS:
                return "a part is sent, and the rest is kept and goes out first";
        case ECONNRESET:
                return "the stream ended in the middle of a message";
        case EPROTO:
                return "what came is not in the protocol";
        case ENOMSG:
                return "something else comes next";
        case EKEYREJECTED:
                return "the keys differ";
        case ETOOMANYREFS:
                return "too many descriptors are on their way";
        case EOPNOTSUPP:
                return "needs brood_main() at the head of main() (spawn, forkserver); or not possible with this "
                       "socket, build or machine";
        case EPROTONOSUPPORT:
                return "made by another version of brood";
        case ELIBACC:
                return "the child has not loaded the module that holds the function";
        case ENOSYS:
                return "the kernel is too old for this";
        default:
                break;
        }
#ifdef __GLIBC__
        const char *text = strerrordesc_np(abs(error)); /* strerror(3) itself translates, and is not thread-safe */
#else
        const char *text = strerror(abs(error)); /* musl's is, and has one text for 0 and for what it does not know */
        if (text == strerror(0))
                text = NULL;
#endif
        return text == NULL ? unknown : text;
}

int brood_cpu_count(void)
{
        return cpu_usable();
}
