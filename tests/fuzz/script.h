/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/script.h: what all fuzz targets stand on: the script that an input is, and ways to say what was wrong.
 */
#ifndef BROOD_TESTS_FUZZ_SCRIPT_H
#define BROOD_TESTS_FUZZ_SCRIPT_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define array_length(a) (sizeof(a) / sizeof((a)[0]))

/* Say what was wrong, and abort. */
_Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...);

#define must(condition)                                                                                                \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                                     \
        } while (0)

struct script {
        const uint8_t *at, *end;
};

/* At its end a script reads as zeros. */
static inline uint8_t take_byte(struct script *script)
{
        return script->at < script->end ? *script->at++ : 0;
}

static inline uint64_t take_number(struct script *script, int bytes)
{
        uint64_t number = 0;
        for (int i = 0; i < bytes; i++)
                number |= (uint64_t)take_byte(script) << (8 * i);
        return number;
}

static inline size_t take_below(struct script *script, size_t bound)
{
        int bytes = bound <= 256 ? 1 : bound <= 65536 ? 2 : 5;
        return bound > 1 ? take_number(script, bytes) % bound : 0;
}

/* A call that may not wait says so; one that has waited, too. */
static inline int in_vain(int timeout_ms)
{
        return timeout_ms == 0 ? EAGAIN : ETIMEDOUT;
}

/* Fail unless `result` is a success, or minus one of `errors` (0 stands for none). */
void check_result(const char *call, ssize_t result, const int *errors, size_t count);

#define expect(call, result, ...)                                                                                      \
        check_result(call, result, (const int[]){ __VA_ARGS__ }, sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

/* The descriptors of this process. */
int count_descriptors(void);

#endif
