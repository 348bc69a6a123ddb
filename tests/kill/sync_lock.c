/* SPDX-License-Identifier: MIT
 *
 * tests/kill/sync_lock.c: killed in Lock and RLock.
 *
 * Everybody who acquires the lock after the death is told of it, or nobody is: the mark stays, until the test process removes it.
 * A victim that had the lock, and had not begun to let go of it, must be told of.
 */
#include "sync_scene.h"

/* How far a victim has come. */
enum {
        STRANGER, /* it has not called anything, or has called and waits */
        HAS,      /* it has the lock */
        MENDING,  /* and is in the call that removes the mark, or behind it */
        MENDED,
        LETS_GO, /* it is in the call that lets go */
        WITHOUT, /* it has let go */
        REFUSED  /* it has not got it */
};

static void open_it(struct sync_scene *scene);

static int use_once(struct sync_scene *scene)
{
        require_int(brood_lock_acquire(scene->lock, 0), 0);
        require_int(brood_lock_release(scene->lock), 0);
        return 0;
}

/* With the state of before: somebody who holds it has died, if the act says so.  Then the victim cannot warm up with it. */
static int warm(struct sync_scene *scene)
{
        if (scene->act->marked)
                return 0;
        return use_once(scene);
}

static int take_and_die(void *arg)
{
        struct sync_scene *scene = arg;
        require_int(brood_lock_acquire(scene->lock, 0), 0);
        return 0;
}

static void open_it(struct sync_scene *scene)
{
        assert_int_equal(scene->act->recursive ? brood_rlock_new(&scene->lock) : brood_lock_new(&scene->lock), 0);
        if (scene->act->marked)
                sync_die(scene, take_and_die);
}

static void close_it(struct sync_scene *scene)
{
        brood_lock_free(scene->lock);
}

static void hold(struct sync_scene *scene)
{
        sync_expect(scene, "the test process acquires", brood_lock_acquire(scene->lock, 0), 0);
        scene->holds = true;
}

static void let_go(struct sync_scene *scene)
{
        if (scene->holds)
                sync_expect(scene, "the test process releases", brood_lock_release(scene->lock), 0);
        scene->holds = false;
}

/* ---- calls ---- */

static int take(struct sync_scene *scene, struct sync_seat *seat, int timeout_ms)
{
        int r = brood_lock_acquire(scene->lock, timeout_ms);
        atomic_store(&seat->result, r);
        sync_progress(seat, r < 0 ? REFUSED : HAS);
        return r;
}

static void give_back(struct sync_scene *scene, struct sync_seat *seat)
{
        sync_progress(seat, LETS_GO);
        int r = brood_lock_release(scene->lock);
        if (r < 0)
                sync_complain(scene, "the victim's release: %s", brood_strerror(r));
        sync_progress(seat, WITHOUT);
}

static void take_and_give_back(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take(scene, seat, scene->act->value) >= 0)
                give_back(scene, seat);
}

static void take_twice(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take(scene, seat, scene->act->value) < 0)
                return;
        int r = brood_lock_acquire(scene->lock, 0);
        if (r >= 0)
                r = brood_lock_release(scene->lock);
        if (r < 0)
                sync_complain(scene, "the victim's recursion: %s", brood_strerror(r));
        give_back(scene, seat);
}

static void take_mend_and_give_back(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take(scene, seat, scene->act->value) < 0)
                return;
        sync_progress(seat, MENDING);
        int r = brood_lock_consistent(scene->lock);
        if (r < 0)
                sync_complain(scene, "the victim's consistent: %s", brood_strerror(r));
        sync_progress(seat, MENDED);
        give_back(scene, seat);
}

static void take_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take(scene, seat, 0) >= 0)
                brood_lock_free(scene->lock);
}

static void attach_take_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        int descriptors[BROOD_LOCK_DESCRIPTORS];
        brood_lock *other;
        int r = brood_lock_descriptors(scene->lock, descriptors);
        if (r == 0)
                r = brood_lock_attach(&other, descriptors);
        if (r == 0)
                r = brood_lock_acquire(other, 0);
        atomic_store(&seat->result, r);
        sync_progress(seat, r < 0 ? REFUSED : HAS);
        if (r >= 0)
                brood_lock_free(other);
}

static int have_it(struct sync_scene *scene, struct sync_seat *seat)
{
        require_int(take(scene, seat, 0), 0);
        return 0;
}

/* ---- after the death ---- */

/* Whether a fresh one may be told of the victim, or of the one before, or of nobody. */
struct may {
        bool victim, before, nobody;
};

static struct may may_be_told(struct sync_scene *scene)
{
        int at = sync_progress_of(scene);
        bool marked = scene->act->marked, mended = marked && scene->act->call == take_mend_and_give_back;
        switch (at) {
        case STRANGER:
                return (struct may){ .victim = true, .before = marked, .nobody = !marked };
        case LETS_GO:
                return (struct may){ .victim = true, .before = marked && !mended, .nobody = !marked || mended };
        case WITHOUT:
                return (struct may){ .before = marked && !mended, .nobody = !marked || mended };
        case REFUSED:
                return (struct may){ .before = marked, .nobody = !marked };
        default:
                return (struct may){ .victim = true };
        }
}

/* It has been acquired with this result. */
static void judge(struct sync_scene *scene, int r)
{
        struct may may = may_be_told(scene);
        brood_death death;
        if (r == 0 && !may.nobody)
                sync_complain(scene, "nothing is told of a death");
        if (r == BROOD_HOLDER_DIED) {
                sync_expect(scene, "death", brood_lock_death(scene->lock, &death), 0);
                sync_judge_death(scene, &death, may.victim, may.before);
                if (scene->victims[0] == death.pid)
                        atomic_store(&scene->books->flag, 1);
        }
        atomic_fetch_add(r == BROOD_HOLDER_DIED ? &scene->books->told : &scene->books->untold, 1);
}

static int acquire_and_judge(struct sync_scene *scene, int timeout_ms)
{
        int64_t start = support_now_ms();
        int r = brood_lock_acquire(scene->lock, timeout_ms);
        if (timeout_ms <= SYNC_LIMIT_MS)
                sync_note_wait(scene, start);
        if (r < 0) {
                sync_complain(scene, "a survivor's acquire: %s", brood_strerror(r));
                return r;
        }
        sync_enter(scene, true);
        judge(scene, r);
        sync_leave(scene, true);
        return r;
}

static void wait_behind(struct sync_scene *scene, struct sync_helper *helper)
{
        int r = acquire_and_judge(scene, SYNC_LONG_MS);
        atomic_store(&helper->result, r < 0 ? r : brood_lock_release(scene->lock));
}

static int use_it(void *arg)
{
        struct sync_scene *scene = arg;
        for (int i = 0; i < 3; i++) {
                require(acquire_and_judge(scene, SYNC_LIMIT_MS) >= 0);
                require_int(brood_lock_release(scene->lock), 0);
        }
        return 0;
}

static void queue_behind(struct sync_scene *scene)
{
        sync_help(scene, wait_behind);
}

static void wake(struct sync_scene *scene)
{
        if (scene->act->crowd)
                queue_behind(scene);
        let_go(scene);
        scene->woken = true;
}

static void settle(struct sync_scene *scene)
{
        struct sync_books *books = scene->books;
        let_go(scene);
        if (scene->helpers)
                sync_expect(scene, "who waited", sync_await(scene, 0), 0);
        sync_run(scene, 2, use_it);
        int r = acquire_and_judge(scene, SYNC_LIMIT_MS), told = atomic_load(&books->told);
        if (told > 0 && atomic_load(&books->untold) > 0)
                sync_complain(scene, "%d are told of a death, and %d are not", told, atomic_load(&books->untold));
        if (r == BROOD_HOLDER_DIED)
                sync_expect(scene, "consistent", brood_lock_consistent(scene->lock), 0);
        if (r >= 0)
                sync_expect(scene, "release", brood_lock_release(scene->lock), 0);
        sync_expect(scene, "acquire, consistent", brood_lock_acquire(scene->lock, 0), 0);
        sync_expect(scene, "release, consistent", brood_lock_release(scene->lock), 0);
        sync_expect(scene, "locked", brood_lock_locked(scene->lock), 0);
        int at = sync_progress_of(scene);
        bool has = atomic_load(&books->flag) != 0;
        scene->level = at == STRANGER ? has : at == LETS_GO ? 2 - has : at == WITHOUT || at == REFUSED ? 2 : 1;
}

/* Between the victim's instructions: it is no dead one. */
static void beside(struct sync_scene *scene)
{
        if (scene->holds) {
                let_go(scene);
                return;
        }
        int r = brood_lock_acquire(scene->lock, 0);
        if (r != 0 && r != -EAGAIN)
                sync_complain(scene, "beside the victim: %d", r);
        scene->holds = r >= 0;
}

static const struct sync_act acts[] = {
        { .name = "acquire, release", .call = take_and_give_back, .settle = settle },
        { .name = "acquire, release, beside others", .call = take_and_give_back, .beside = beside, .settle = settle },
        { .name = "acquire, release, new to it", .cold = true, .call = take_and_give_back, .settle = settle },
        { .name = "release, somebody waits",
          .watched = true,
          .prepare = have_it,
          .fill = queue_behind,
          .call = give_back,
          .settle = settle },
        { .name = "acquire, in vain", .wavering = true, .fill = hold, .call = take_and_give_back, .settle = settle },
        { .name = "acquire, times out",
          .value = SYNC_SHORT_MS,
          .wavering = true,
          .fill = hold,
          .call = take_and_give_back,
          .settle = settle },
        { .name = "acquire, woken",
          .value = SYNC_LONG_MS,
          .fill = hold,
          .call = take_and_give_back,
          .wake = wake,
          .settle = settle },
        { .name = "acquire, woken before somebody",
          .value = SYNC_LONG_MS,
          .crowd = true,
          .fill = hold,
          .call = take_and_give_back,
          .wake = wake,
          .settle = settle },
        { .name = "acquire, release, after a death", .marked = true, .call = take_and_give_back, .settle = settle },
        { .name = "acquire, consistent, release", .marked = true, .call = take_mend_and_give_back, .settle = settle },
        { .name = "acquire, free", .frees = true, .call = take_and_free, .settle = settle },
        { .name = "attach, acquire, free",
          .frees = true,
          .wavering = true,
          .call = attach_take_and_free,
          .settle = settle },
        { .name = "RLock, twice", .recursive = true, .call = take_twice, .settle = settle },
        { .name = "RLock, release, somebody waits",
          .watched = true,
          .recursive = true,
          .prepare = have_it,
          .fill = queue_behind,
          .call = give_back,
          .settle = settle },
        { .name = "RLock, twice, woken",
          .recursive = true,
          .value = SYNC_LONG_MS,
          .fill = hold,
          .call = take_twice,
          .wake = wake,
          .settle = settle },
        { .name = "RLock, twice, after a death",
          .recursive = true,
          .marked = true,
          .call = take_twice,
          .settle = settle },
        { .name = "RLock, free", .recursive = true, .frees = true, .call = take_and_free, .settle = settle },
};

static int just_acquire(struct sync_scene *scene, int timeout_ms)
{
        return brood_lock_acquire(scene->lock, timeout_ms);
}

static int just_release(struct sync_scene *scene)
{
        return brood_lock_release(scene->lock);
}

static int just_say_consistent(struct sync_scene *scene)
{
        return brood_lock_consistent(scene->lock);
}

const struct sync_object sync_lock = {
        .name = "lock",
        .open = open_it,
        .warm = warm,
        .close = close_it,
        .acts = acts,
        .acts_count = (int)array_length(acts),
        .acquire = just_acquire,
        .release = just_release,
        .consistent = just_say_consistent,
};
