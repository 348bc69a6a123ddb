/* SPDX-License-Identifier: MIT
 *
 * tests/kill/sync_event.c: killed in Event.
 *
 * The flag is set or not, as far as the victim had come; who waits is released if it is; and the descriptor says the same, at the
 * latest after the next question.  An act's `value` is whether the flag is set at the beginning.
 */
#include "sync_scene.h"

#include <poll.h>

/* How far a victim has come: its first call, and what it returned to. */
enum {
        BEGINS,
        SECOND, /* call, of two */
        DONE
};

static int warm(struct sync_scene *scene)
{
        int r = brood_event_wait(scene->event, 0);
        require(r == 0 || r == -EAGAIN);
        return 0;
}

static void open_it(struct sync_scene *scene)
{
        assert_int_equal(brood_event_new(&scene->event), 0);
        if (scene->act->polled)
                assert_true(brood_event_fileno(scene->event) >= 0);
        if (scene->act->value)
                assert_int_equal(brood_event_set(scene->event), 0);
}

static void close_it(struct sync_scene *scene)
{
        brood_event_free(scene->event);
}

/* ---- calls ---- */

static void set(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_expect(scene, "set", brood_event_set(scene->event), 0);
        sync_progress(seat, DONE);
}

static void clear(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_expect(scene, "clear", brood_event_clear(scene->event), 0);
        sync_progress(seat, DONE);
}

static void set_and_clear(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_expect(scene, "set", brood_event_set(scene->event), 0);
        sync_progress(seat, SECOND);
        sync_expect(scene, "clear", brood_event_clear(scene->event), 0);
        sync_progress(seat, DONE);
}

static void ask_for_descriptor(struct sync_scene *scene, struct sync_seat *seat)
{
        if (brood_event_fileno(scene->event) < 0)
                sync_complain(scene, "no descriptor");
        sync_progress(seat, DONE);
}

static void ask(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_expect(scene, "is_set", brood_event_is_set(scene->event), scene->act->value);
        sync_progress(seat, DONE);
}

static void wait_for_it(struct sync_scene *scene, struct sync_seat *seat)
{
        int limit = scene->act->wake ? SYNC_LONG_MS : SYNC_SHORT_MS;
        sync_expect(scene, "wait", brood_event_wait(scene->event, limit),
                    scene->act->wake || scene->act->value ? 0 : -ETIMEDOUT);
        sync_progress(seat, DONE);
}

static void attach_and_set(struct sync_scene *scene, struct sync_seat *seat)
{
        int descriptors[BROOD_EVENT_DESCRIPTORS];
        brood_event *other;
        int r = brood_event_descriptors(scene->event, descriptors);
        if (r == 0)
                r = brood_event_attach(&other, descriptors);
        if (r != 0) {
                sync_complain(scene, "attach: %s", brood_strerror(r));
                return;
        }
        sync_expect(scene, "wait", brood_event_wait(other, 0), -EAGAIN);
        sync_expect(scene, "set", brood_event_set(other), 0);
        sync_progress(seat, DONE);
        brood_event_free(other);
}

/* ---- after the death ---- */

static void await_flag(struct sync_scene *scene, struct sync_helper *helper)
{
        atomic_store(&helper->result, brood_event_wait(scene->event, SYNC_LONG_MS));
}

static void queue_behind(struct sync_scene *scene)
{
        sync_help(scene, await_flag);
}

/* All the same whether the flag is cleared again before the victim has looked. */
static void wake(struct sync_scene *scene)
{
        if (scene->act->crowd)
                queue_behind(scene);
        sync_expect(scene, "set", brood_event_set(scene->event), 0);
        if (!scene->act->crowd)
                sync_expect(scene, "clear", brood_event_clear(scene->event), 0);
        scene->woken = true;
}

static bool is_readable(struct sync_scene *scene)
{
        struct pollfd p = { .fd = brood_event_fileno(scene->event), .events = POLLIN };
        return poll(&p, 1, 0) == 1;
}

static int wait_briefly(void *arg)
{
        struct sync_scene *scene = arg;
        int64_t start = support_now_ms();
        require_int(brood_event_wait(scene->event, SYNC_LIMIT_MS), 0);
        sync_note_wait(scene, start);
        return 0;
}

static void compare(struct sync_scene *scene, const char *when, int is_set)
{
        sync_expect(scene, when, brood_event_is_set(scene->event), is_set);
        sync_expect(scene, "readable", is_readable(scene), is_set);
}

static void settle(struct sync_scene *scene)
{
        const struct sync_act *act = scene->act;
        int at = sync_progress_of(scene), is_set = brood_event_is_set(scene->event);
        bool sets = act->call == set || act->call == attach_and_set, clears = act->call == clear;
        bool must = sets || (act->wake ? scene->woken && act->crowd : act->value != 0 && !clears);
        bool may_differ = at != DONE && (act->call == set_and_clear || clears || (sets && act->value == 0));
        if (!may_differ && is_set != must)
                sync_complain(scene, "the flag is %d and not %d", is_set, must);
        compare(scene, "is_set", is_set);

        /* Whoever waits when it is set, or was since, is released. */
        bool was_set = is_set || (act->call == set_and_clear && at != BEGINS);
        if (scene->helpers && was_set)
                sync_expect(scene, "who waited", sync_await(scene, 0), 0);
        sync_expect(scene, "set", brood_event_set(scene->event), 0);
        if (scene->helpers)
                sync_expect(scene, "who waited", sync_await(scene, 0), 0);
        compare(scene, "set", 1);
        sync_run(scene, 2, wait_briefly);
        sync_expect(scene, "clear", brood_event_clear(scene->event), 0);
        compare(scene, "cleared", 0);
        sync_expect(scene, "a wait for nothing", brood_event_wait(scene->event, 0), -EAGAIN);
        scene->level = act->call == clear                           ? 1 - is_set
                       : act->call == set_and_clear && at != BEGINS ? 2 - is_set
                                                                    : is_set;
}

static void beside(struct sync_scene *scene)
{
        if (!is_readable(scene))
                sync_complain(scene, "it is set, and its descriptor is not readable");
}

static const struct sync_act acts[] = {
        { .name = "set", .call = set, .settle = settle },
        { .name = "set, polled", .polled = true, .call = set, .settle = settle },
        { .name = "set, somebody waits",
          .polled = true,
          .watched = true,
          .fill = queue_behind,
          .call = set,
          .settle = settle },
        { .name = "set again", .value = 1, .call = set, .settle = settle },
        { .name = "set again, polled", .polled = true, .value = 1, .call = set, .beside = beside, .settle = settle },
        { .name = "clear", .value = 1, .call = clear, .settle = settle },
        { .name = "clear, polled", .polled = true, .value = 1, .call = clear, .settle = settle },
        { .name = "set, clear, somebody waits",
          .polled = true,
          .watched = true,
          .fill = queue_behind,
          .call = set_and_clear,
          .settle = settle },
        { .name = "is_set", .call = ask, .settle = settle },
        { .name = "is_set, set, polled", .polled = true, .value = 1, .call = ask, .beside = beside, .settle = settle },
        { .name = "fileno", .call = ask_for_descriptor, .settle = settle },
        { .name = "fileno, set", .value = 1, .call = ask_for_descriptor, .settle = settle },
        { .name = "wait, set", .value = 1, .call = wait_for_it, .settle = settle },
        { .name = "wait, new to it", .value = 1, .cold = true, .call = wait_for_it, .settle = settle },
        { .name = "wait, times out", .wavering = true, .call = wait_for_it, .settle = settle },
        { .name = "wait, woken", .call = wait_for_it, .wake = wake, .settle = settle },
        { .name = "wait, woken beside somebody", .crowd = true, .call = wait_for_it, .wake = wake, .settle = settle },
        { .name = "attach, set, free",
          .polled = true,
          .wavering = true,
          .frees = true,
          .call = attach_and_set,
          .settle = settle },
};

const struct sync_object sync_event = {
        .name = "event",
        .open = open_it,
        .warm = warm,
        .close = close_it,
        .acts = acts,
        .acts_count = (int)array_length(acts),
};
