/* SPDX-License-Identifier: MIT
 *
 * tests/common/test_common.c: what brood/common.h promises: the version, the texts of errors, the number of usable
 * CPUs.
 */
#include "support.h"

#include <brood/brood.h>

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void test_version(void **state)
{
        (void)state;
        char expected[32];
        snprintf(expected, sizeof expected, "%d.%d.%d", BROOD_VERSION_MAJOR, BROOD_VERSION_MINOR, BROOD_VERSION_PATCH);
        assert_string_equal(brood_version(), expected);
}

/* Every error that a header names has a text of its own, under either sign. */
static void test_strerror(void **state)
{
        (void)state;
        static const int errors[] = {
                EAGAIN,     ETIMEDOUT,  EINVAL,       E2BIG,        ENOMEM,          EMFILE,        ENFILE,
                EMSGSIZE,   EPIPE,      ECHILD,       EPERM,        ESRCH,           EALREADY,      EDEADLK,
                ENODATA,    EOWNERDEAD, ECANCELED,    ENOENT,       ENOEXEC,         ENOBUFS,       EUSERS,
                EUCLEAN,    EBADF,      EINPROGRESS,  ECONNRESET,   EPROTO,          ENOMSG,        EKEYREJECTED,
                EOPNOTSUPP, EBUSY,      ETOOMANYREFS, ECONNREFUSED, EADDRINUSE,      EADDRNOTAVAIL, EACCES,
                ENOTDIR,    EROFS,      EHOSTUNREACH, ENETUNREACH,  EPROTONOSUPPORT,
        };
        const size_t count = sizeof errors / sizeof errors[0];
        for (size_t i = 0; i < count; i++) {
                const char *text = brood_strerror(-errors[i]);
                assert_non_null(text);
                assert_true(strlen(text) > 3);
                assert_string_not_equal(text, "unknown error");
                assert_string_equal(text, brood_strerror(errors[i]));
                for (size_t j = 0; j < i; j++)
                        assert_string_not_equal(text, brood_strerror(errors[j]));
        }
        static const int unknown[] = { 999999, -999999, INT_MAX, -INT_MAX, INT_MIN };
        for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++)
                assert_string_equal(brood_strerror(unknown[i]), "unknown error");
        assert_non_null(brood_strerror(0));
        errno = 4711;
        brood_strerror(-EINVAL);
        brood_strerror(-999999);
        assert_int_equal(errno, 4711);
}

static void test_cpu_count(void **state)
{
        (void)state;
        cpu_set_t before, one;
        assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
        assert_in_range(brood_cpu_count(), 1, CPU_COUNT(&before)); /* less where a quota says so */
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
                if (!CPU_ISSET(cpu, &before))
                        continue;
                CPU_ZERO(&one);
                CPU_SET(cpu, &one);
                assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
                assert_int_equal(brood_cpu_count(), 1);
        }
        assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
        errno = 4711;
        brood_cpu_count();
        assert_int_equal(errno, 4711);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_version),
                support_test(test_strerror),
                support_test(test_cpu_count),
        };
        return support_main(argc, argv, "common", tests, sizeof tests / sizeof tests[0], 20);
}
