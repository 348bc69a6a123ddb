/* SPDX-License-Identifier: MIT
 *
 * tests/kill/sync_semaphore.c: killed in Semaphore and BoundedSemaphore.
 *
 * After the death there are exactly as many units as the books say: what the victim had is back, and what it was about to add is
 * there, or is not.  An act's `value` is how many units there are at the beginning.
 */
#include "sync_scene.h"

/* How far a victim has come. */
enum { STRANGER, ACQUIRES, ACQUIRED, RELEASES, RELEASED, REFUSED };

enum { UNITS_MOST = 5 };

static int warm(struct sync_scene *scene)
{
        if (scene->act->marked) /* that would be the repair already */
                return 0;
        /* Whether it finds one or not, it is known then. */
        int r = brood_semaphore_acquire(scene->semaphore, 0);
        if (r == 0 && !scene->act->events)
                r = brood_semaphore_release(scene->semaphore);
        require(r == 0 || r == -EAGAIN);
        return 0;
}

static int take_and_die(void *arg)
{
        struct sync_scene *scene = arg;
        require_int(brood_semaphore_acquire(scene->semaphore, 0), 0);
        return 0;
}

static void open_it(struct sync_scene *scene)
{
        const struct sync_act *act = scene->act;
        /* Of events, the victim takes one to get to know them. */
        int value = act->value + (act->events && act->value > 0);
        assert_int_equal(
            brood_semaphore_new(&scene->semaphore, value,
                                &(brood_semaphore_options){ .bounded = act->bounded, .events = act->events }),
            0);
        if (act->marked)
                sync_die(scene, take_and_die);
}

static void close_it(struct sync_scene *scene)
{
        brood_semaphore_free(scene->semaphore);
}

static void hold(struct sync_scene *scene)
{
        sync_expect(scene, "the test process acquires", brood_semaphore_acquire(scene->semaphore, 0), 0);
        scene->holds = true;
}

static void let_go(struct sync_scene *scene)
{
        if (scene->holds)
                sync_expect(scene, "the test process releases", brood_semaphore_release(scene->semaphore), 0);
        scene->holds = false;
}

/* ---- calls ---- */

static int take(struct sync_scene *scene, struct sync_seat *seat, int timeout_ms)
{
        sync_progress(seat, ACQUIRES);
        int r = brood_semaphore_acquire(scene->semaphore, timeout_ms);
        atomic_store(&seat->result, r);
        sync_progress(seat, r < 0 ? REFUSED : ACQUIRED);
        return r;
}

static void give(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_progress(seat, RELEASES);
        int r = brood_semaphore_release(scene->semaphore);
        atomic_store(&seat->result, r);
        sync_progress(seat, r < 0 ? REFUSED : RELEASED);
}

static void take_one(struct sync_scene *scene, struct sync_seat *seat)
{
        take(scene, seat, 0);
}

static void take_and_give(struct sync_scene *scene, struct sync_seat *seat)
{
        int timeout_ms = scene->act->wake ? SYNC_LONG_MS : scene->act->wavering ? SYNC_SHORT_MS : 0;
        if (take(scene, seat, timeout_ms) == 0)
                give(scene, seat);
}

static void give_too_many(struct sync_scene *scene, struct sync_seat *seat)
{
        give(scene, seat);
        sync_expect(scene, "the victim's release of a full one", atomic_load(&seat->result), -EOVERFLOW);
}

static void take_two_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take(scene, seat, 0) == 0 && take(scene, seat, 0) == 0)
                brood_semaphore_free(scene->semaphore);
}

static void attach_take_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        int descriptors[BROOD_SEMAPHORE_DESCRIPTORS];
        brood_semaphore *other;
        int r = brood_semaphore_descriptors(scene->semaphore, descriptors);
        if (r == 0)
                r = brood_semaphore_attach(&other, descriptors);
        if (r == 0) {
                r = brood_semaphore_acquire(other, 0);
                brood_semaphore_free(other);
        }
        atomic_store(&seat->result, r);
        sync_progress(seat, REFUSED);
}

static int have_it(struct sync_scene *scene, struct sync_seat *seat)
{
        require_int(take(scene, seat, 0), 0);
        return 0;
}

/* Two that take and give, of one or of two units, for a while. */
static void use_beside_another(struct sync_scene *scene, struct sync_seat *seat)
{
        for (int i = 0; i < 8; i++)
                if (take(scene, seat, (int)check_random(&seat->chance, 2) * 20) == 0)
                        give(scene, seat);
}

/* ---- after the death ---- */

static void wait_for_one(struct sync_scene *scene, struct sync_helper *helper)
{
        int r = brood_semaphore_acquire(scene->semaphore, SYNC_LONG_MS);
        if (r == 0 && !scene->act->events)
                r = brood_semaphore_release(scene->semaphore);
        atomic_store(&helper->result, r);
}

static void queue_behind(struct sync_scene *scene)
{
        sync_help(scene, wait_for_one);
}

static void wake(struct sync_scene *scene)
{
        if (scene->act->crowd)
                queue_behind(scene);
        let_go(scene);
}

static int use_it(void *arg)
{
        struct sync_scene *scene = arg;
        for (int i = 0; i < 3; i++) {
                int64_t start = support_now_ms();
                require_int(brood_semaphore_acquire(scene->semaphore, SYNC_LIMIT_MS), 0);
                sync_note_wait(scene, start);
                require_int(brood_semaphore_release(scene->semaphore), 0);
        }
        return 0;
}

/* Take `least` units, which must be there; and see how many more there are.  They go back. */
static int count_units(struct sync_scene *scene, int least)
{
        int count = 0;
        while (count <= UNITS_MOST) {
                int64_t start = support_now_ms();
                int limit = count < least ? SYNC_LIMIT_MS : sync_seldom() ? 500 : 1;
                int r = brood_semaphore_acquire(scene->semaphore, limit);
                if (r < 0 && count < least)
                        sync_complain(scene, "there are %d units and not %d: %s", count, least, brood_strerror(r));
                if (r < 0)
                        break;
                sync_note_wait(scene, start);
                count++;
        }
        for (int i = 0; i < count; i++)
                sync_expect(scene, "giving back", brood_semaphore_release(scene->semaphore), 0);
        return count;
}

/* What the victim's call adds to the units or takes from them, for good: at least and at most. */
static void changes(struct sync_scene *scene, int *ret_least, int *ret_most)
{
        const struct sync_act *act = scene->act;
        int at = sync_progress_of(scene);
        bool adds = act->call == give && !act->prepare, takes = act->events && act->call == take_one;
        *ret_least = (adds && at == RELEASED) - (takes && (at == ACQUIRES || at == ACQUIRED));
        *ret_most = (adds && (at == RELEASES || at == RELEASED)) - (takes && at == ACQUIRED);
}

static void settle(struct sync_scene *scene)
{
        const struct sync_act *act = scene->act;
        int least, most, added = 0, waiting = scene->helpers;
        let_go(scene);
        changes(scene, &least, &most);
        least += act->value;
        most += act->value;
        if (act->events && waiting) {
                /* It has got the one that the victim has added, or waits for the next. */
                if (least == 0) {
                        sync_expect(scene, "an event", brood_semaphore_release(scene->semaphore), 0);
                        added = 1;
                }
                least += added;
                most += added;
                sync_expect(scene, "who waited", sync_await(scene, 0), 0);
                least--;
                most--;
        } else if (waiting) {
                sync_expect(scene, "who waited", sync_await(scene, 0), 0);
        }
        if (!act->events)
                sync_run(scene, 2, use_it);
        int count = count_units(scene, least);
        if (count > most)
                sync_complain(scene, "there are %d units and not %d", count, most);
        sync_expect(scene, "value", brood_semaphore_get_value(scene->semaphore), count);
        if (act->bounded)
                sync_expect(scene, "one too many", brood_semaphore_release(scene->semaphore), -EOVERFLOW);
        scene->level = act->events && act->call == take_one ? -count : count - added;
}

/* Between the victim's instructions: it is no dead one. */
static void beside(struct sync_scene *scene)
{
        if (scene->holds)
                let_go(scene);
        else
                scene->holds = brood_semaphore_acquire(scene->semaphore, 0) == 0;
}

static const struct sync_act acts[] = {
        { .name = "acquire, release", .value = 2, .call = take_and_give, .settle = settle },
        { .name = "acquire, release, bounded", .value = 2, .bounded = true, .call = take_and_give, .settle = settle },
        { .name = "acquire, release, beside others",
          .value = 2,
          .bounded = true,
          .call = take_and_give,
          .beside = beside,
          .settle = settle },
        { .name = "acquire, release, new to it", .value = 2, .cold = true, .call = take_and_give, .settle = settle },
        { .name = "release, somebody waits",
          .value = 1,
          .bounded = true,
          .watched = true,
          .prepare = have_it,
          .fill = queue_behind,
          .call = give,
          .settle = settle },
        { .name = "acquire, times out",
          .value = 1,
          .wavering = true,
          .fill = hold,
          .call = take_and_give,
          .settle = settle },
        { .name = "acquire, woken", .value = 1, .fill = hold, .call = take_and_give, .wake = wake, .settle = settle },
        { .name = "acquire, woken before somebody",
          .value = 1,
          .crowd = true,
          .fill = hold,
          .call = take_and_give,
          .wake = wake,
          .settle = settle },
        { .name = "acquire an event", .value = 2, .events = true, .call = take_one, .settle = settle },
        { .name = "release an event", .value = 0, .events = true, .call = give, .settle = settle },
        { .name = "release an event, somebody waits",
          .value = 0,
          .events = true,
          .watched = true,
          .fill = queue_behind,
          .call = give,
          .settle = settle },
        { .name = "release one that nobody has", .value = 1, .call = give, .settle = settle },
        { .name = "release, refused", .value = 2, .bounded = true, .call = give_too_many, .settle = settle },
        { .name = "acquire, release, after a death",
          .value = 1,
          .marked = true,
          .bounded = true,
          .wavering = true,
          .call = take_and_give,
          .settle = settle },
        { .name = "acquire two, free",
          .value = 2,
          .bounded = true,
          .frees = true,
          .call = take_two_and_free,
          .settle = settle },
        { .name = "attach, acquire, free",
          .value = 1,
          .wavering = true,
          .frees = true,
          .call = attach_take_and_free,
          .settle = settle },
};

static const struct sync_act pair = {
        .name = "pair", .value = 2, .bounded = true, .wavering = true, .call = use_beside_another, .settle = settle
};

static int just_acquire(struct sync_scene *scene, int timeout_ms)
{
        return brood_semaphore_acquire(scene->semaphore, timeout_ms);
}

static int just_release(struct sync_scene *scene)
{
        return brood_semaphore_release(scene->semaphore);
}

const struct sync_object sync_semaphore = {
        .name = "semaphore",
        .open = open_it,
        .warm = warm,
        .close = close_it,
        .acts = acts,
        .acts_count = (int)array_length(acts),
        .pair = &pair,
        .acquire = just_acquire,
        .release = just_release,
};
