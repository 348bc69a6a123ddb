/* SPDX-License-Identifier: MIT
 *
 * sync/event.c: a flag in one word, and a descriptor that follows it.
 *
 * The word is the truth, and the descriptor follows: who has changed the word raises or lowers the descriptor until a look at the
 * word and then at the descriptor shows the same.  Whoever was the last to raise or lower it has looked so afterwards; so where
 * nobody is under way any more, and nobody was killed under way, the two agree.  Who sets also raises it before the word, so that
 * one who is killed in between leaves it readable too long, which is_set repairs, rather than too short, which nobody would notice.
 *
 * All that from the moment on at which somebody asks for the descriptor: before, nobody can be polling it.  Who asks says so first,
 * and looks at the word then; who sets looks whether somebody has asked after setting the word.
 */
#include "os/clock.h"
#include "os/descriptors.h"
#include "sync/object.h"

#include <brood/event.h>

#include <errno.h>
#include <stdlib.h>

enum { IS_SET = 1, TIME_SET = 2 };

struct event_shared {
        atomic_u32 word; /* | how often it was set 31 | whether it is 1 | */
        atomic_u32 sleepers;
        atomic_u32 polled; /* somebody has asked for the descriptor; only ever 1 */
        uint32_t reserved;
        uint64_t bell_id; /* by which the kernel knows the eventfd; written once */
};
static_assert(sizeof(struct event_shared) == 24, "shared");

struct brood_event {
        struct object object;
        struct event_shared *shared;
        int bell_fd;
};

static void wake_all(void *object)
{
        waitword_wake_all(&((struct brood_event *)object)->shared->sleepers);
}

static const struct object_kind kind = {
        .kind = REGION_EVENT,
        .name = "brood-event",
        .words = sizeof(struct event_shared),
        .hooks = { .wake_all = wake_all },
};

static void discard(struct brood_event *event)
{
        if (event->object.region.head != NULL)
                object_drop(&event->object);
        descriptor_close(&event->bell_fd);
        free(event);
}

static struct brood_event *allocate(void)
{
        struct brood_event *event = calloc(1, sizeof *event);

        if (event != NULL) {
                event->object.region = (struct region)REGION_NONE;
                event->bell_fd = -1;
        }
        return event;
}

int brood_event_new(brood_event **ret_event)
{
        if (ret_event == NULL)
                return -EINVAL;
        struct brood_event *event = allocate();
        if (event == NULL)
                return -ENOMEM;
        int r = event->bell_fd = eventfd_new();
        int64_t id = r < 0 ? r : eventfd_id(event->bell_fd);
        r = id < 0 ? (int)id : object_new(&event->object, &kind);
        if (r < 0) {
                discard(event);
                return r;
        }
        event->shared = event->object.words;
        event->shared->bell_id = (uint64_t)id;
        *ret_event = event;
        return 0;
}

int brood_event_attach(brood_event **ret_event, const int descriptors[BROOD_EVENT_DESCRIPTORS])
{
        if (ret_event == NULL || descriptors == NULL)
                return -EINVAL;
        int64_t id = eventfd_id(descriptors[1]);
        if (id < 0)
                return (int)id;
        struct brood_event *event = allocate();
        if (event == NULL)
                return -ENOMEM;
        int r = object_attach(&event->object, &kind, descriptors[0]);
        if (r == 0)
                r = event->bell_fd = descriptor_duplicate(descriptors[1]);
        if (r >= 0) {
                event->shared = event->object.words;
                r = event->shared->bell_id == (uint64_t)id ? 0 : -EINVAL;
        }
        if (r < 0) {
                discard(event);
                return r;
        }
        *ret_event = event;
        return 0;
}

int brood_event_descriptors(brood_event *event, int ret_descriptors[BROOD_EVENT_DESCRIPTORS])
{
        if (event == NULL || ret_descriptors == NULL)
                return -EINVAL;
        ret_descriptors[0] = event->object.region.fd;
        ret_descriptors[1] = event->bell_fd;
        return 0;
}

void brood_event_free(brood_event *event)
{
        if (event != NULL)
                discard(event);
}

/* ---- the flag ---- */

static bool is_set(struct brood_event *event)
{
        return load_seq_cst(&event->shared->word) & IS_SET;
}

static bool is_polled(struct brood_event *event)
{
        return load_seq_cst(&event->shared->polled) != 0;
}

/* Let the descriptor follow the word, if somebody has asked for it. */
static void follow(struct brood_event *event)
{
        /* More rounds than that are others' changes, and those follow them themselves; or the descriptor is not what it was. */
        enum { ROUNDS = 100 };

        for (int i = 0; i < ROUNDS && is_polled(event); i++) {
                bool set = is_set(event);

                if (set == descriptor_readable(event->bell_fd))
                        return;
                if (set)
                        eventfd_raise(event->bell_fd);
                else
                        eventfd_lower(event->bell_fd);
        }
}

int brood_event_set(brood_event *event)
{
        uint32_t word;

        if (event == NULL)
                return -EINVAL;
        if (is_polled(event))
                eventfd_raise(event->bell_fd);
        do
                word = load_seq_cst(&event->shared->word);
        while (!(word & IS_SET) && !cas_u32(&event->shared->word, word, (word + TIME_SET) | IS_SET));
        follow(event);
        user_wake_all(&event->object.user, &event->shared->sleepers);
        return 0;
}

int brood_event_clear(brood_event *event)
{
        uint32_t word;

        if (event == NULL)
                return -EINVAL;
        do
                word = load_seq_cst(&event->shared->word);
        while (word & IS_SET && !cas_u32(&event->shared->word, word, word & ~(uint32_t)IS_SET));
        follow(event);
        return 0;
}

int brood_event_is_set(brood_event *event)
{
        if (event == NULL)
                return -EINVAL;
        if (is_set(event))
                return 1;
        follow(event);
        return 0;
}

/* It is set, or it was since the call began. */
static int look(void *object, void *call)
{
        uint32_t word = load_seq_cst(&((struct brood_event *)object)->shared->word), began = *(const uint32_t *)call;

        return word & IS_SET || word / TIME_SET != began / TIME_SET ? 0 : -EAGAIN;
}

int brood_event_wait(brood_event *event, int timeout_ms)
{
        uint32_t owner;

        if (event == NULL)
                return -EINVAL;
        int r = user_own(&event->object.user, &owner);
        if (r < 0)
                return r;
        uint32_t began = load_seq_cst(&event->shared->word);
        const struct wait wait = { .look = look, .word = &event->shared->sleepers };
        return user_wait(&event->object.user, &wait, &began, deadline_after_ms(timeout_ms));
}

int brood_event_fileno(brood_event *event)
{
        if (event == NULL)
                return -EINVAL;
        if (!is_polled(event))
                store_seq_cst(&event->shared->polled, 1);
        /* Each time: whoever said so first may have been killed before this. */
        follow(event);
        return event->bell_fd;
}
