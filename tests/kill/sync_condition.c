/* SPDX-License-Identifier: MIT
 *
 * tests/kill/sync_condition.c: killed at the Condition.
 *
 * No notification is lost: one that the victim had been given goes to the next who waits, one that the victim was about to give is
 * given or not, and whoever is notified after the death is woken although the dead one is still in the table.  When the lock's
 * holder dies, all who wait are told.
 */
#include "sync_scene.h"

/* How far a victim has come. */
enum {
        STRANGER,
        HAS,      /* the lock */
        CALLS,    /* it is in wait or notify */
        RETURNED, /* from that, with the lock */
        LETS_GO,
        DONE
};

enum { REPAIR_MS = 400 }; /* somebody looks for the dead within that */

static int warm(struct sync_scene *scene)
{
        if (scene->act->marked)
                return 0;
        require_int(brood_condition_acquire(scene->condition, 0), 0);
        require_int(brood_condition_wait(scene->condition, 0), -EAGAIN);
        require_int(brood_condition_notify_all(scene->condition), 0);
        require_int(brood_condition_release(scene->condition), 0);
        return 0;
}

static int hold_and_die(void *arg)
{
        struct sync_scene *scene = arg;
        require_int(brood_condition_acquire(scene->condition, SYNC_LIMIT_MS), 0);
        return 0;
}

static void open_it(struct sync_scene *scene)
{
        assert_int_equal(brood_condition_new(&scene->condition, NULL), 0);
        if (scene->act->marked)
                sync_die(scene, hold_and_die);
}

static void close_it(struct sync_scene *scene)
{
        brood_condition_free(scene->condition);
}

/* ---- calls ---- */

static bool acquire(struct sync_scene *scene, struct sync_seat *seat)
{
        int r = brood_condition_acquire(scene->condition, SYNC_LONG_MS);
        if (r < 0)
                sync_complain(scene, "the victim's acquire: %s", brood_strerror(r));
        sync_progress(seat, HAS);
        return r >= 0;
}

static void release(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_progress(seat, LETS_GO);
        sync_expect(scene, "the victim's release", brood_condition_release(scene->condition), 0);
        sync_progress(seat, DONE);
}

static void wait_in_it(struct sync_scene *scene, struct sync_seat *seat)
{
        if (!acquire(scene, seat))
                return;
        sync_progress(seat, CALLS);
        atomic_store(&seat->result, brood_condition_wait(scene->condition, scene->act->value));
        sync_progress(seat, RETURNED);
        release(scene, seat);
}

static bool is_raised(void *arg)
{
        return atomic_load(&((struct sync_scene *)arg)->books->flag) != 0;
}

static void wait_for_it(struct sync_scene *scene, struct sync_seat *seat)
{
        if (!acquire(scene, seat))
                return;
        sync_progress(seat, CALLS);
        int r = brood_condition_wait_for(scene->condition, is_raised, scene, scene->act->value);
        sync_expect(scene, "wait_for", r, 0);
        sync_progress(seat, RETURNED);
        release(scene, seat);
}

static void notify_one(struct sync_scene *scene, struct sync_seat *seat)
{
        if (!acquire(scene, seat))
                return;
        sync_progress(seat, CALLS);
        sync_expect(scene, "notify", brood_condition_notify(scene->condition, 1), 1);
        sync_progress(seat, RETURNED);
        release(scene, seat);
}

static void notify_all(struct sync_scene *scene, struct sync_seat *seat)
{
        if (!acquire(scene, seat))
                return;
        sync_progress(seat, CALLS);
        sync_expect(scene, "notify_all", brood_condition_notify_all(scene->condition), 2);
        sync_progress(seat, RETURNED);
        release(scene, seat);
}

static void attach_wait_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        int descriptors[BROOD_CONDITION_DESCRIPTORS];
        brood_condition *other;
        int r = brood_condition_descriptors(scene->condition, descriptors);
        if (r == 0)
                r = brood_condition_attach(&other, descriptors, NULL);
        if (r != 0) {
                sync_complain(scene, "attach: %s", brood_strerror(r));
                return;
        }
        sync_expect(scene, "acquire", brood_condition_acquire(other, 0), 0);
        sync_progress(seat, CALLS);
        sync_expect(scene, "wait", brood_condition_wait(other, SYNC_SHORT_MS), -ETIMEDOUT);
        brood_condition_free(other); /* with the lock */
        sync_progress(seat, RETURNED);
}

/* ---- who waits beside the victim ---- */

static void wait_beside(struct sync_scene *scene, struct sync_helper *helper)
{
        int r = brood_condition_acquire(scene->condition, SYNC_LONG_MS);
        if (r >= 0) {
                r = brood_condition_wait(scene->condition, SYNC_LONG_MS);
                if (brood_condition_release(scene->condition) < 0)
                        sync_complain(scene, "who has waited does not have the lock");
        }
        atomic_store(&helper->result, r);
}

static void queue_one(struct sync_scene *scene)
{
        sync_help(scene, wait_beside);
}

static void queue_two(struct sync_scene *scene)
{
        queue_one(scene);
        queue_one(scene);
}

/* One that is notified, and dies before it has the lock back; and one that waits behind it, and cannot look for the dead, for it is
 * stopped.  It is the victim who finds out. */
static void queue_behind_a_dead_one(struct sync_scene *scene)
{
        queue_two(scene);
        sync_expect(scene, "acquire", brood_condition_acquire(scene->condition, SYNC_LIMIT_MS), 0);
        kill(scene->books->helpers[1].pid, SIGSTOP);
        sync_expect(scene, "notify", brood_condition_notify(scene->condition, 1), 1);
        sync_dismiss(scene, 0);
        sync_expect(scene, "release", brood_condition_release(scene->condition), 0);
}

static void notify(struct sync_scene *scene, int count)
{
        int64_t start = support_now_ms();
        int r = brood_condition_acquire(scene->condition, SYNC_LIMIT_MS);
        sync_note_wait(scene, start);
        if (r < 0) {
                sync_complain(scene, "the test process acquires: %s", brood_strerror(r));
                return;
        }
        if (r == BROOD_HOLDER_DIED)
                sync_expect(scene, "consistent", brood_lock_consistent(brood_condition_lock(scene->condition)), 0);
        atomic_store(&scene->books->flag, 1);
        r = brood_condition_notify(scene->condition, count);
        if (r < 0)
                sync_complain(scene, "the test process notifies: %s", brood_strerror(r));
        sync_expect(scene, "release", brood_condition_release(scene->condition), 0);
}

static void wake(struct sync_scene *scene)
{
        if (scene->act->crowd)
                queue_one(scene);
        notify(scene, 1);
        scene->woken = true;
}

/* It is woken by the death of the one who could have woken it.  Once: on a busy machine it has looked for the dead meanwhile, found
 * nobody, and gone to sleep again before it is told. */
static void die_with_the_lock(struct sync_scene *scene)
{
        if (scene->woken)
                return;
        if (scene->act->crowd)
                queue_one(scene);
        sync_die(scene, hold_and_die);
        scene->woken = true;
}

/* ---- after the death ---- */

static int count_waiting(struct sync_scene *scene)
{
        int count = 0;
        for (int h = 0; h < scene->helpers; h++)
                count += sync_is_waiting(scene, h);
        return count;
}

/* At most `most` go on waiting. */
static void await_until(struct sync_scene *scene, int most, const char *why)
{
        int64_t start = support_now_ms();
        while (count_waiting(scene) > most && support_now_ms() - start < SYNC_LIMIT_MS)
                usleep(100);
        if (count_waiting(scene) > most)
                sync_complain(scene, "%d still wait: %s", count_waiting(scene), why);
        sync_note_wait(scene, start);
}

static int use_it(void *arg)
{
        struct sync_scene *scene = arg;
        int64_t start = support_now_ms();
        require_int(brood_condition_acquire(scene->condition, SYNC_LIMIT_MS), 0);
        int r = brood_condition_wait(scene->condition, 1);
        require(r == 0 || r == -ETIMEDOUT);
        require_int(brood_condition_release(scene->condition), 0);
        sync_note_wait(scene, start);
        return 0;
}

/* How the lock is found: who had it when it died is told of. */
static void judge(struct sync_scene *scene)
{
        brood_lock *lock = brood_condition_lock(scene->condition);
        int at = sync_progress_of(scene);
        int64_t start = support_now_ms();
        int r = brood_lock_acquire(lock, SYNC_LIMIT_MS);
        sync_note_wait(scene, start);
        if (r < 0) {
                sync_complain(scene, "a survivor's acquire: %s", brood_strerror(r));
                return;
        }
        bool must = at == HAS || at == RETURNED || scene->dead != 0;
        if (r == 0 && (must || (at == CALLS && (scene->act->call == notify_one || scene->act->call == notify_all))))
                sync_complain(scene, "nothing is told of a death");
        if (r == BROOD_HOLDER_DIED) {
                brood_death death;
                sync_expect(scene, "death", brood_lock_death(lock, &death), 0);
                sync_judge_death(scene, &death, at != DONE, scene->dead != 0);
        }
        sync_expect(scene, "release", brood_lock_release(lock), 0);
        if (r == BROOD_HOLDER_DIED)
                await_until(scene, 0, "the lock's holder has died");
}

static void settle(struct sync_scene *scene)
{
        const struct sync_act *act = scene->act;
        int at = sync_progress_of(scene);
        bool notifies = act->call == notify_one || act->call == notify_all;
        if (act->fill == queue_behind_a_dead_one) {
                kill(scene->books->helpers[1].pid, SIGCONT);
                await_until(scene, 0, "a dead one's notification");
        }
        judge(scene);
        if (notifies && at > CALLS)
                await_until(scene, act->call == notify_one, "the victim has notified");
        if (act->wake == wake && act->crowd && scene->woken && at < RETURNED)
                await_until(scene, 0, "the victim was notified, and has not returned");

        /* Now somebody who lives notifies; the dead are not in the way. */
        int before = count_waiting(scene);
        notify(scene, 1);
        await_until(scene, before > 0 ? before - 1 : 0, "notify after the death");
        notify(scene, INT32_MAX);
        await_until(scene, 0, "notify_all after the death");
        for (int h = 0; h < scene->helpers; h++) {
                int r = atomic_load(&scene->books->helpers[h].result);
                if (r != 0 && r != BROOD_HOLDER_DIED)
                        sync_complain(scene, "helper %d got %d", h, r);
        }
        sync_run(scene, 2, use_it);

        /* After the dead were looked for, nobody is in the table any more. */
        if (!sync_seldom())
                return;
        sync_expect(scene, "acquire", brood_condition_acquire(scene->condition, SYNC_LIMIT_MS), 0);
        int r = brood_condition_wait(scene->condition, 2 * REPAIR_MS);
        if (r != 0) /* a notification of the victim's, that nobody else wanted */
                sync_expect(scene, "wait", r, -ETIMEDOUT);
        sync_expect(scene, "who waits", brood_condition_notify_all(scene->condition), 0);
        sync_expect(scene, "release", brood_condition_release(scene->condition), 0);
}

static const struct sync_act acts[] = {
        { .name = "wait, at once", .call = wait_in_it, .settle = settle },
        { .name = "wait, times out",
          .value = SYNC_SHORT_MS,
          .watched = true,
          .wavering = true,
          .call = wait_in_it,
          .settle = settle },
        { .name = "wait, new to it",
          .value = SYNC_SHORT_MS,
          .cold = true,
          .watched = true,
          .call = wait_in_it,
          .settle = settle },
        { .name = "wait, woken", .value = SYNC_LONG_MS, .call = wait_in_it, .wake = wake, .settle = settle },
        { .name = "wait, woken before somebody",
          .value = SYNC_LONG_MS,
          .crowd = true,
          .call = wait_in_it,
          .wake = wake,
          .settle = settle },
        { .name = "wait_for, woken", .value = SYNC_LONG_MS, .call = wait_for_it, .wake = wake, .settle = settle },
        { .name = "wait, the holder dies",
          .value = SYNC_LONG_MS,
          .watched = true,
          .call = wait_in_it,
          .wake = die_with_the_lock,
          .settle = settle },
        { .name = "wait, the holder dies, before somebody",
          .value = SYNC_LONG_MS,
          .watched = true,
          .crowd = true,
          .call = wait_in_it,
          .wake = die_with_the_lock,
          .settle = settle },
        { .name = "wait, after a death", .value = SYNC_LONG_MS, .marked = true, .call = wait_in_it, .settle = settle },
        { .name = "wait, finds a dead one notified",
          .value = REPAIR_MS,
          .watched = true,
          .wavering = true,
          .fill = queue_behind_a_dead_one,
          .call = wait_in_it,
          .settle = settle },
        { .name = "notify", .watched = true, .fill = queue_two, .call = notify_one, .settle = settle },
        { .name = "notify_all", .watched = true, .fill = queue_two, .call = notify_all, .settle = settle },
        { .name = "attach, wait, free",
          .watched = true,
          .wavering = true,
          .frees = true,
          .call = attach_wait_and_free,
          .settle = settle },
};

const struct sync_object sync_condition = {
        .name = "condition",
        .open = open_it,
        .warm = warm,
        .close = close_it,
        .acts = acts,
        .acts_count = (int)array_length(acts),
};
