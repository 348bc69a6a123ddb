/* SPDX-License-Identifier: MIT
 *
 * tests/kill/sync_barrier.c: killed at the Barrier: arriving, in the action, leaving, and in what breaks it.
 *
 * After the death everybody who waits goes on as soon as so many have come as the act's `value` says: a dead one's arrival counts
 * at most for a round that was complete before anybody could know; nobody is left behind for ever in a round that has ended.  Then
 * the barrier is as new.
 */
#include "sync_scene.h"

/* How far a victim has come. */
enum {
        STRANGER, /* it has not arrived, or waits, or is about to leave */
        ACTS,     /* it is in the action */
        ACTED,
        DONE
};

enum { ROUNDS = 3, COMPANY = 3 };

static bool is_victim; /* this process */

static int act_between(void *arg)
{
        struct sync_scene *scene = arg;
        if (is_victim)
                sync_progress(&scene->books->seats[0], ACTS);
        atomic_fetch_add(&scene->books->count, 1);
        if (is_victim)
                sync_progress(&scene->books->seats[0], ACTED);
        return 0;
}

static void open_it(struct sync_scene *scene)
{
        const struct sync_act *act = scene->act;
        assert_int_equal(brood_barrier_new(&scene->barrier, act->value,
                                           &(brood_barrier_options){ .action = act->events ? act_between : NULL,
                                                                     .arg = scene,
                                                                     .break_on_death = act->bounded }),
                         0);
}

/* Known to it, and nothing else: a round of its own it has only where one is enough. */
static int warm(struct sync_scene *scene)
{
        is_victim = true;
        require_int(brood_barrier_wait(scene->barrier, 0), -EAGAIN);
        require_int(brood_barrier_reset(scene->barrier), 0);
        return 0;
}

static void close_it(struct sync_scene *scene)
{
        brood_barrier_free(scene->barrier);
}

/* ---- calls ---- */

static void arrive(struct sync_scene *scene, struct sync_seat *seat)
{
        is_victim = true;
        atomic_store(&seat->result, brood_barrier_wait(scene->barrier, SYNC_LONG_MS));
        sync_progress(seat, DONE);
}

static void arrive_in_vain(struct sync_scene *scene, struct sync_seat *seat)
{
        int r = brood_barrier_wait(scene->barrier, SYNC_SHORT_MS);
        atomic_store(&seat->result, r);
        sync_expect(scene, "the victim's wait", r, -ETIMEDOUT);
        sync_progress(seat, DONE);
}

static void reset(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_expect(scene, "reset", brood_barrier_reset(scene->barrier), 0);
        sync_progress(seat, DONE);
}

static void break_it(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_expect(scene, "abort", brood_barrier_abort(scene->barrier), 0);
        sync_progress(seat, DONE);
}

static void break_and_reset(struct sync_scene *scene, struct sync_seat *seat)
{
        break_it(scene, seat);
        reset(scene, seat);
}

static void attach_arrive_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        int descriptors[BROOD_BARRIER_DESCRIPTORS];
        brood_barrier *other;
        int r = brood_barrier_descriptors(scene->barrier, descriptors);
        if (r == 0)
                r = brood_barrier_attach(&other, descriptors, NULL, NULL);
        if (r != 0) {
                sync_complain(scene, "attach: %s", brood_strerror(r));
                return;
        }
        atomic_store(&seat->result, brood_barrier_wait(other, SYNC_LONG_MS));
        brood_barrier_free(other);
        sync_progress(seat, DONE);
}

/* Both of a pair, a few times. */
static void arrive_beside_another(struct sync_scene *scene, struct sync_seat *seat)
{
        (void)seat;
        for (int i = 0; i < 4; i++)
                brood_barrier_wait(scene->barrier, check_random(&seat->chance, 4) ? SYNC_LONG_MS : 20);
}

/* ---- after the death ---- */

static void wait_there(struct sync_scene *scene, struct sync_helper *helper)
{
        atomic_store(&helper->result, brood_barrier_wait(scene->barrier, SYNC_LONG_MS));
}

/* The second time it comes while the victim is still leaving the first round. */
static void wait_there_twice(struct sync_scene *scene, struct sync_helper *helper)
{
        int r = brood_barrier_wait(scene->barrier, SYNC_LONG_MS);
        atomic_store(&helper->result, r);
        atomic_store(&helper->begun, 2);
        if (r >= 0)
                atomic_store(&helper->result, brood_barrier_wait(scene->barrier, SYNC_LONG_MS));
}

static void queue_behind(struct sync_scene *scene)
{
        sync_help(scene, wait_there);
}

static void queue_behind_twice(struct sync_scene *scene)
{
        sync_help(scene, wait_there_twice);
}

/* So many come that the victim can go. */
static void wake(struct sync_scene *scene)
{
        sync_send(scene, wait_there);
        scene->woken = true;
}

static int count_waiting(struct sync_scene *scene)
{
        int count = 0;
        for (int h = 0; h < scene->helpers; h++)
                count += sync_is_waiting(scene, h);
        return count;
}

/* Everybody who waits leaves; who is not enough gets company, as soon as it is so many as the barrier says. */
static void let_all_go(struct sync_scene *scene)
{
        int64_t start = support_now_ms();
        for (int waiting; (waiting = count_waiting(scene)) > 0; usleep(100)) {
                if (brood_barrier_n_waiting(scene->barrier) == waiting &&
                    waiting < brood_barrier_parties(scene->barrier) && !brood_barrier_broken(scene->barrier)) {
                        if (scene->helpers == SYNC_HELPERS) {
                                sync_complain(scene, "nobody gets away with company");
                                return;
                        }
                        sync_note_wait(scene, start);
                        sync_send(scene, wait_there);
                        start = support_now_ms();
                }
                if (support_now_ms() - start > SYNC_LIMIT_MS) {
                        sync_complain(scene, "%d wait, and the barrier says %d", waiting,
                                      brood_barrier_n_waiting(scene->barrier));
                        return;
                }
        }
        sync_note_wait(scene, start);
}

static int pass_a_few_times(void *arg)
{
        struct sync_scene *scene = arg;
        for (int i = 0; i < ROUNDS; i++) {
                int64_t start = support_now_ms();
                int r = brood_barrier_wait(scene->barrier, SYNC_LIMIT_MS);
                sync_note_wait(scene, start);
                require(r >= 0 && r < scene->act->value);
                int bit = 1 << (i * 8 + r);
                require((atomic_fetch_or(&scene->books->flag, bit) & bit) == 0);
        }
        return 0;
}

/* Whether somebody may find, or must find, that the barrier was broken. */
static bool may_break(struct sync_scene *scene)
{
        const struct sync_act *act = scene->act;
        return act->call == break_it || act->call == reset || act->call == break_and_reset ||
               act->call == arrive_in_vain || act->bounded || act->events || act->call == arrive_beside_another;
}

static void settle(struct sync_scene *scene)
{
        const struct sync_act *act = scene->act;
        int at = sync_progress_of(scene), before = scene->helpers;
        bool broken_for_all =
            (act->call == break_it || act->call == reset || act->call == break_and_reset) && at == DONE;

        /* What the victim has done completely, the others have got; in the action it breaks. */
        if (act->call == arrive && at == DONE && act->fill != queue_behind_twice && before > 0)
                sync_await(scene, before - 1);
        if ((at == ACTS || broken_for_all) && before > 0)
                sync_expect(scene, "who waited", sync_await(scene, 0), -EPIPE);
        if (at == ACTED && before > 0) {
                int r = sync_await(scene, 0);
                if (r < 0 && r != -EPIPE)
                        sync_complain(scene, "who waited got %d", r);
        }
        if (act->call == arrive_in_vain && at == DONE)
                sync_expect(scene, "broken", brood_barrier_broken(scene->barrier), 1);

        /* Then whoever comes; the first may still have met the dead one. */
        if (brood_barrier_broken(scene->barrier) == 1) {
                if (!may_break(scene))
                        sync_complain(scene, "the barrier is broken");
                let_all_go(scene);
                sync_expect(scene, "reset", brood_barrier_reset(scene->barrier), 0);
        }
        for (int i = 0; i < act->value; i++)
                sync_send(scene, wait_there);
        let_all_go(scene);
        for (int h = 0; h < scene->helpers; h++) {
                int r = atomic_load(&scene->books->helpers[h].result);
                if (r < 0 && !(r == -EPIPE && may_break(scene)))
                        sync_complain(scene, "helper %d got %d", h, r);
        }
        if (brood_barrier_broken(scene->barrier) == 1) {
                if (!may_break(scene))
                        sync_complain(scene, "the barrier is broken in the end");
                sync_expect(scene, "reset", brood_barrier_reset(scene->barrier), 0);
        }
        sync_run(scene, act->value, pass_a_few_times);
        int all_of_a_round = (1 << act->value) - 1, passed = atomic_load(&scene->books->flag);
        for (int i = 0; i < ROUNDS; i++)
                sync_expect(scene, "who has passed", passed >> i * 8 & 0xff, all_of_a_round);
        sync_expect(scene, "n_waiting", brood_barrier_n_waiting(scene->barrier), 0);
}

static const struct sync_act acts[] = {
        { .name = "arrive as the last",
          .value = 2,
          .watched = true,
          .fill = queue_behind,
          .call = arrive,
          .settle = settle },
        { .name = "arrive as the last, somebody comes again",
          .value = 2,
          .watched = true,
          .fill = queue_behind_twice,
          .call = arrive,
          .settle = settle },
        { .name = "arrive as the last of three",
          .value = 3,
          .fill = queue_behind,
          .call = arrive,
          .wake = wake,
          .settle = settle },
        { .name = "arrive as the first", .value = 2, .call = arrive, .wake = wake, .settle = settle },
        { .name = "arrive as the first, new to it",
          .value = 2,
          .cold = true,
          .call = arrive,
          .wake = wake,
          .settle = settle },
        { .name = "arrive as the only one", .value = 1, .cold = true, .call = arrive, .settle = settle },
        { .name = "arrive as the last, action",
          .value = 2,
          .watched = true,
          .events = true,
          .fill = queue_behind,
          .call = arrive,
          .settle = settle },
        { .name = "arrive, the dead break it",
          .value = 3,
          .bounded = true,
          .fill = queue_behind,
          .call = arrive,
          .wake = wake,
          .settle = settle },
        { .name = "arrive, times out",
          .value = 2,
          .watched = true,
          .wavering = true,
          .call = arrive_in_vain,
          .settle = settle },
        { .name = "reset", .value = 2, .watched = true, .fill = queue_behind, .call = reset, .settle = settle },
        { .name = "abort", .value = 2, .watched = true, .fill = queue_behind, .call = break_it, .settle = settle },
        { .name = "abort, reset",
          .value = 2,
          .watched = true,
          .fill = queue_behind,
          .call = break_and_reset,
          .settle = settle },
        { .name = "attach, arrive, free",
          .value = 2,
          .wavering = true,
          .frees = true,
          .fill = queue_behind,
          .call = attach_arrive_and_free,
          .settle = settle },
};

static const struct sync_act pair = {
        .name = "pair", .value = 2, .wavering = true, .call = arrive_beside_another, .settle = settle
};

const struct sync_object sync_barrier = {
        .name = "barrier",
        .open = open_it,
        .warm = warm,
        .close = close_it,
        .acts = acts,
        .acts_count = (int)array_length(acts),
        .pair = &pair,
};
