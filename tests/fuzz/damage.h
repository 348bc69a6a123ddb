/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/damage.h: what the fuzz targets have in common: the script that an input is, the memory that it damages, and the check
 * of what a call returns.
 */
#ifndef BROOD_TESTS_FUZZ_DAMAGE_H
#define BROOD_TESTS_FUZZ_DAMAGE_H

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { RACE_WORDS = 6 };

#define array_length(a) (sizeof(a) / sizeof((a)[0]))

/* Say what was wrong, and abort. */
_Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *format, ...);

#define must(condition)                                                                                                \
        do {                                                                                                           \
                if (!(condition))                                                                                      \
                        fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition);                                     \
        } while (0)

/* ---- the script ---- */

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

/* ---- what may be returned ---- */

/* A call that may not wait says so; one that has waited, too. */
static inline int in_vain(int timeout_ms)
{
        return timeout_ms == 0 ? EAGAIN : ETIMEDOUT;
}

/* Fail unless `result` is a success, or minus one of `errors` (0 stands for none). */
void check_result(const char *call, ssize_t result, const int *errors, size_t count);

#define expect(call, result, ...)                                                                                      \
        check_result(call, result, (const int[]){ __VA_ARGS__ }, sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

/* ---- damage ---- */

/* The memory that a script damages, mapped by us. */
struct ground {
        struct script *script;
        unsigned char *memory;
        size_t size;
        int fd, event_fd; /* of the memory; of the eventfd that belongs to it, or -1 */
};

/* One change of the memory, or of the event, drawn from the script. */
void damage_ground(struct ground *ground);

/* Somebody who changes a few words for as long as the calls run. */
struct race {
        pthread_t thread;
        atomic_bool stop;
        size_t count;
        struct {
                _Atomic uint64_t *word;
                uint64_t values[3]; /* what it was, and two that it was not */
        } words[RACE_WORDS];
};

bool race_start(struct race *race, struct ground *ground);
void race_stop(struct race *race);

#endif
