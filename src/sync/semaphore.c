/* SPDX-License-Identifier: MIT
 *
 * sync/semaphore.c: a ledger whose payload is the value, and whose accounts count what each process holds.
 */
#include "os/clock.h"
#include "os/options.h"
#include "sync/ledger.h"
#include "sync/object.h"

#include <brood/semaphore.h>

#include <errno.h>
#include <stdlib.h>

static_assert(BROOD_SEMAPHORE_VALUE_MAX == LEDGER_MOST, "the value is a payload");

/* `most` and `events` are written once, before anybody else can see them. */
struct semaphore_shared {
        atomic_u64 ledger;
        atomic_u32 sleepers;
        uint32_t most; /* its first value, if it is bounded */
        uint32_t events;
        uint32_t reserved;
};
static_assert(sizeof(struct semaphore_shared) == 24, "shared");

struct brood_semaphore {
        struct object object;
        struct semaphore_shared *shared;
        struct ledger ledger;
        uint32_t most;
        bool events;
};

static void join(void *object, uint32_t owner)
{
        ledger_join(&((struct brood_semaphore *)object)->ledger, owner);
}

static void recover(void *object, uint32_t owner)
{
        struct brood_semaphore *s = object;
        uint32_t held, value;
        uint64_t word;

        do {
                word = ledger_read(&s->ledger);
                held = ledger_count(&s->ledger, word, owner);
                if (held == 0)
                        return;
                value = ledger_payload(word);
                value = held < s->most - value ? value + held : s->most;
        } while (!ledger_change(&s->ledger, word, value, EFFECT_CLEAR, owner));
        user_wake_all(&s->object.user, &s->shared->sleepers);
}

static void wake_all(void *object)
{
        waitword_wake_all(&((struct brood_semaphore *)object)->shared->sleepers);
}

static const struct object_kind kind = {
        .kind = REGION_SEMAPHORE,
        .name = "brood-semaphore",
        .words = sizeof(struct semaphore_shared),
        .tail = sizeof(struct ledger_accounts),
        .hooks = { .join = join, .recover = recover, .wake_all = wake_all },
};

static void open_views(struct brood_semaphore *s)
{
        s->shared = s->object.words;
        s->ledger = (struct ledger){ .word = &s->shared->ledger, .accounts = s->object.tail };
        /* Copies: what was checked stays so. */
        s->most = s->shared->most;
        s->events = s->shared->events != 0;
}

int brood_semaphore_new_sized(brood_semaphore **ret_semaphore, int value, const brood_semaphore_options *options,
                              size_t options_size)
{
        brood_semaphore_options known;

        if (ret_semaphore == NULL || value < 0 || value > BROOD_SEMAPHORE_VALUE_MAX)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        if (known.bounded != 0 && known.events != 0)
                return -EINVAL;
        brood_semaphore *s = calloc(1, sizeof *s);
        if (s == NULL)
                return -ENOMEM;
        r = object_new(&s->object, &kind);
        if (r < 0) {
                free(s);
                return r;
        }
        *(struct semaphore_shared *)s->object.words = (struct semaphore_shared){
                .ledger = ledger_begin((uint32_t)value),
                .most = known.bounded != 0 ? (uint32_t)value : LEDGER_MOST,
                .events = known.events != 0,
        };
        open_views(s);
        *ret_semaphore = s;
        return 0;
}

int brood_bounded_semaphore_new(brood_semaphore **ret_semaphore, int value)
{
        return brood_semaphore_new(ret_semaphore, value, &(brood_semaphore_options){ .bounded = 1 });
}

int brood_semaphore_attach(brood_semaphore **ret_semaphore, const int descriptors[BROOD_SEMAPHORE_DESCRIPTORS])
{
        if (ret_semaphore == NULL || descriptors == NULL)
                return -EINVAL;
        brood_semaphore *s = calloc(1, sizeof *s);
        if (s == NULL)
                return -ENOMEM;
        int r = object_attach(&s->object, &kind, descriptors[0]);
        if (r == 0) {
                open_views(s);
                if (s->most > LEDGER_MOST) {
                        object_drop(&s->object);
                        r = -EUCLEAN;
                }
        }
        if (r < 0) {
                free(s);
                return r;
        }
        *ret_semaphore = s;
        return 0;
}

int brood_semaphore_descriptors(brood_semaphore *semaphore, int ret_descriptors[BROOD_SEMAPHORE_DESCRIPTORS])
{
        if (semaphore == NULL || ret_descriptors == NULL)
                return -EINVAL;
        ret_descriptors[0] = semaphore->object.region.fd;
        return 0;
}

void brood_semaphore_free(brood_semaphore *semaphore)
{
        if (semaphore == NULL)
                return;
        object_drop(&semaphore->object);
        free(semaphore);
}

/* ---- units ---- */

static int look(void *object, void *call)
{
        struct brood_semaphore *s = object;
        uint32_t owner = *(const uint32_t *)call, value;
        uint64_t word;

        do {
                word = ledger_read(&s->ledger);
                value = ledger_payload(word);
                if (value == 0)
                        return -EAGAIN;
        } while (!ledger_change(&s->ledger, word, value - 1, s->events ? EFFECT_NONE : EFFECT_ADD, owner));
        return 0;
}

static bool more(void *object)
{
        return ledger_payload(ledger_read(&((struct brood_semaphore *)object)->ledger)) > 0;
}

int brood_semaphore_acquire(brood_semaphore *semaphore, int timeout_ms)
{
        uint32_t owner;

        if (semaphore == NULL)
                return -EINVAL;
        int r = user_own(&semaphore->object.user, &owner);
        if (r < 0)
                return r;
        r = look(semaphore, &owner);
        if (__builtin_expect(r != -EAGAIN, 1))
                return r;
        const struct wait wait = { .look = look, .more = more, .word = &semaphore->shared->sleepers };
        return user_wait(&semaphore->object.user, &wait, &owner, deadline_after_ms(timeout_ms));
}

int brood_semaphore_release(brood_semaphore *semaphore)
{
        uint32_t owner, value;
        uint64_t word;

        if (semaphore == NULL)
                return -EINVAL;
        struct brood_semaphore *s = semaphore;
        int r = user_own(&s->object.user, &owner);
        if (r < 0)
                return r;
        do {
                word = ledger_read(&s->ledger);
                value = ledger_payload(word);
                if (value >= s->most)
                        return -EOVERFLOW;
        } while (!ledger_change(&s->ledger, word, value + 1, s->events ? EFFECT_NONE : EFFECT_TAKE, owner));
        user_wake_one(&s->object.user, &s->shared->sleepers);
        return 0;
}

int brood_semaphore_get_value(brood_semaphore *semaphore)
{
        return semaphore == NULL ? -EINVAL : (int)ledger_payload(ledger_read(&semaphore->ledger));
}
