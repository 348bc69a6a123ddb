/* SPDX-License-Identifier: MIT
 *
 * tests/kill/sync_rwlock.c: killed in the reader/writer lock.
 *
 * After the death no reader is left over, no writer is let in beside a reader, and everybody is told of a writer that died with
 * the lock in its hands, or nobody is.
 */
#include "sync_scene.h"

/* How far a victim has come. */
enum {
        STRANGER, /* it waits, or has not called */
        READS,
        WRITES,
        MENDING,
        MENDED,
        LETS_GO, /* as a writer */
        WITHOUT  /* it has let go, or has not got it, or only reads */
};

static int warm(struct sync_scene *scene)
{
        if (scene->act->marked)
                return 0;
        require_int(brood_rwlock_acquire_read(scene->rwlock, 0), 0);
        require_int(brood_rwlock_release(scene->rwlock), 0);
        return 0;
}

static int write_and_die(void *arg)
{
        struct sync_scene *scene = arg;
        require_int(brood_rwlock_acquire_write(scene->rwlock, 0), 0);
        return 0;
}

static void open_it(struct sync_scene *scene)
{
        assert_int_equal(brood_rwlock_new(&scene->rwlock), 0);
        if (scene->act->marked)
                sync_die(scene, write_and_die);
}

static void close_it(struct sync_scene *scene)
{
        brood_rwlock_free(scene->rwlock);
}

static void hold_to_read(struct sync_scene *scene)
{
        sync_expect(scene, "the test process reads", brood_rwlock_acquire_read(scene->rwlock, 0), 0);
        scene->holds = true;
}

static void hold_to_write(struct sync_scene *scene)
{
        sync_expect(scene, "the test process writes", brood_rwlock_acquire_write(scene->rwlock, 0), 0);
        scene->holds = true;
}

static void let_go(struct sync_scene *scene)
{
        if (scene->holds)
                sync_expect(scene, "the test process releases", brood_rwlock_release(scene->rwlock), 0);
        scene->holds = false;
}

/* ---- calls ---- */

static int limit_of(struct sync_scene *scene)
{
        return scene->act->wake ? SYNC_LONG_MS : scene->act->value;
}

static int take_to_read(struct sync_scene *scene, struct sync_seat *seat)
{
        int r = brood_rwlock_acquire_read(scene->rwlock, limit_of(scene));
        sync_progress(seat, r < 0 ? WITHOUT : READS);
        return r;
}

static int take_to_write(struct sync_scene *scene, struct sync_seat *seat)
{
        int r = brood_rwlock_acquire_write(scene->rwlock, limit_of(scene));
        sync_progress(seat, r < 0 ? WITHOUT : WRITES);
        return r;
}

static void give_back(struct sync_scene *scene, struct sync_seat *seat)
{
        bool writes = atomic_load(&seat->progress) != READS;
        if (writes)
                sync_progress(seat, LETS_GO);
        int r = brood_rwlock_release(scene->rwlock);
        if (r < 0)
                sync_complain(scene, "the victim's release: %s", brood_strerror(r));
        sync_progress(seat, WITHOUT);
}

static void read_it(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take_to_read(scene, seat) >= 0)
                give_back(scene, seat);
}

static void write_it(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take_to_write(scene, seat) >= 0)
                give_back(scene, seat);
}

static void mend_it(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take_to_write(scene, seat) < 0)
                return;
        sync_progress(seat, MENDING);
        sync_expect(scene, "the victim's consistent", brood_rwlock_consistent(scene->rwlock), 0);
        sync_progress(seat, MENDED);
        give_back(scene, seat);
}

static void read_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take_to_read(scene, seat) >= 0)
                brood_rwlock_free(scene->rwlock);
        sync_progress(seat, WITHOUT);
}

static void write_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        if (take_to_write(scene, seat) >= 0)
                brood_rwlock_free(scene->rwlock);
}

static void attach_write_and_free(struct sync_scene *scene, struct sync_seat *seat)
{
        int descriptors[BROOD_RWLOCK_DESCRIPTORS];
        brood_rwlock *other;
        int r = brood_rwlock_descriptors(scene->rwlock, descriptors);
        if (r == 0)
                r = brood_rwlock_attach(&other, descriptors);
        if (r != 0) {
                sync_complain(scene, "attach: %s", brood_strerror(r));
                return;
        }
        sync_expect(scene, "write", brood_rwlock_acquire_write(other, 0), 0);
        sync_progress(seat, WRITES);
        brood_rwlock_free(other);
}

static int prepare_reader(struct sync_scene *scene, struct sync_seat *seat)
{
        require_int(take_to_read(scene, seat), 0);
        return 0;
}

static int prepare_writer(struct sync_scene *scene, struct sync_seat *seat)
{
        require_int(take_to_write(scene, seat), 0);
        return 0;
}

/* Either one reads, and one writes, for a while. */
static void use_beside_another(struct sync_scene *scene, struct sync_seat *seat)
{
        for (int i = 0; i < 8; i++) {
                bool writes = check_random(&seat->chance, 2);
                int limit = (int)check_random(&seat->chance, 2) * 20;
                int r = writes ? brood_rwlock_acquire_write(scene->rwlock, limit)
                               : brood_rwlock_acquire_read(scene->rwlock, limit);
                if (r >= 0)
                        sync_expect(scene, "release", brood_rwlock_release(scene->rwlock), 0);
        }
}

/* ---- after the death ---- */

struct may {
        bool victim, before, nobody;
};

static struct may may_be_told(struct sync_scene *scene)
{
        const struct sync_act *act = scene->act;
        bool marked = act->marked, mended = marked && act->call == mend_it;
        if (act->call == use_beside_another)
                return (struct may){ .victim = true, .nobody = true };
        bool writes = act->call != read_it && act->call != read_and_free;
        switch (sync_progress_of(scene)) {
        case STRANGER:
                return (struct may){ .victim = writes, .before = marked, .nobody = !marked };
        case LETS_GO:
                return (struct may){ .victim = true, .before = marked && !mended, .nobody = !marked || mended };
        case READS:
                return (struct may){ .before = marked, .nobody = !marked };
        case WITHOUT:
                return (struct may){ .before = marked && !mended, .nobody = !marked || mended };
        default:
                return (struct may){ .victim = true };
        }
}

static void judge(struct sync_scene *scene, int r)
{
        struct may may = may_be_told(scene);
        brood_death death;
        if (r == 0 && !may.nobody)
                sync_complain(scene, "nothing is told of a death");
        if (r == BROOD_HOLDER_DIED) {
                sync_expect(scene, "death", brood_rwlock_death(scene->rwlock, &death), 0);
                sync_judge_death(scene, &death, may.victim, may.before);
                if (scene->victims[0] == death.pid)
                        atomic_store(&scene->books->flag, 1);
        }
        atomic_fetch_add(r == BROOD_HOLDER_DIED ? &scene->books->told : &scene->books->untold, 1);
}

static int acquire_and_judge(struct sync_scene *scene, bool writes, int timeout_ms)
{
        int64_t start = support_now_ms();
        int r = writes ? brood_rwlock_acquire_write(scene->rwlock, timeout_ms)
                       : brood_rwlock_acquire_read(scene->rwlock, timeout_ms);
        if (timeout_ms <= SYNC_LIMIT_MS)
                sync_note_wait(scene, start);
        if (r < 0) {
                sync_complain(scene, "a survivor's acquire to %s: %s", writes ? "write" : "read", brood_strerror(r));
                return r;
        }
        sync_enter(scene, writes);
        judge(scene, r);
        sync_leave(scene, writes);
        return r;
}

static void wait_to_read(struct sync_scene *scene, struct sync_helper *helper)
{
        int r = acquire_and_judge(scene, false, SYNC_LONG_MS);
        atomic_store(&helper->result, r < 0 ? r : brood_rwlock_release(scene->rwlock));
}

static void wait_to_write(struct sync_scene *scene, struct sync_helper *helper)
{
        int r = acquire_and_judge(scene, true, SYNC_LONG_MS);
        atomic_store(&helper->result, r < 0 ? r : brood_rwlock_release(scene->rwlock));
}

static void queue_reader(struct sync_scene *scene)
{
        sync_help(scene, wait_to_read);
}

static void queue_writer(struct sync_scene *scene)
{
        sync_help(scene, wait_to_write);
}

/* A writer and, kept out by it, a reader. */
static void queue_both(struct sync_scene *scene)
{
        queue_writer(scene);
        queue_reader(scene);
}

static void wake(struct sync_scene *scene)
{
        if (scene->act->crowd)
                queue_both(scene);
        let_go(scene);
}

static int use_it(void *arg)
{
        struct sync_scene *scene = arg;
        uint64_t chance = (uint64_t)getpid();
        for (int i = 0; i < 4; i++) {
                require(acquire_and_judge(scene, check_random(&chance, 2) != 0, SYNC_LIMIT_MS) >= 0);
                require_int(brood_rwlock_release(scene->rwlock), 0);
        }
        return 0;
}

static void settle(struct sync_scene *scene)
{
        struct sync_books *books = scene->books;
        let_go(scene);
        for (int h = 0; h < scene->helpers; h++)
                sync_expect(scene, "who waited", sync_await(scene, h), 0);
        sync_run(scene, 2, use_it);
        /* Who writes has everybody else outside: no reader is left over. */
        int r = acquire_and_judge(scene, true, SYNC_LIMIT_MS), told = atomic_load(&books->told);
        if (told > 0 && atomic_load(&books->untold) > 0)
                sync_complain(scene, "%d are told of a death, and %d are not", told, atomic_load(&books->untold));
        if (r == BROOD_HOLDER_DIED)
                sync_expect(scene, "consistent", brood_rwlock_consistent(scene->rwlock), 0);
        if (r >= 0)
                sync_expect(scene, "release", brood_rwlock_release(scene->rwlock), 0);
        sync_expect(scene, "read, consistent", brood_rwlock_acquire_read(scene->rwlock, 0), 0);
        sync_expect(scene, "release, consistent", brood_rwlock_release(scene->rwlock), 0);
        sync_expect(scene, "release, held by nobody", brood_rwlock_release(scene->rwlock), -EPERM);
        int at = sync_progress_of(scene);
        bool has = atomic_load(&books->flag) != 0;
        scene->level = at == STRANGER ? has : at == LETS_GO ? 2 - has : at == WITHOUT ? 2 : 1;
}

/* Between the victim's instructions: it is no dead one. */
static void beside(struct sync_scene *scene)
{
        if (scene->holds) {
                let_go(scene);
                return;
        }
        int r = check_random(&scene->chance, 2) ? brood_rwlock_acquire_read(scene->rwlock, 0)
                                                : brood_rwlock_acquire_write(scene->rwlock, 0);
        if (r != 0 && r != -EAGAIN)
                sync_complain(scene, "beside the victim: %d", r);
        scene->holds = r >= 0;
}

static const struct sync_act acts[] = {
        { .name = "read", .call = read_it, .settle = settle },
        { .name = "write", .call = write_it, .settle = settle },
        { .name = "read, beside others", .watched = true, .call = read_it, .beside = beside, .settle = settle },
        { .name = "write, beside others", .watched = true, .call = write_it, .beside = beside, .settle = settle },
        { .name = "read, new to it", .cold = true, .call = read_it, .settle = settle },
        { .name = "write, new to it", .cold = true, .call = write_it, .settle = settle },
        { .name = "read, release, both wait",
          .watched = true,
          .prepare = prepare_reader,
          .fill = queue_both,
          .call = give_back,
          .settle = settle },
        { .name = "write, release, both wait",
          .watched = true,
          .prepare = prepare_writer,
          .fill = queue_both,
          .call = give_back,
          .settle = settle },
        { .name = "read, in vain", .wavering = true, .fill = hold_to_write, .call = read_it, .settle = settle },
        { .name = "write, in vain",
          .watched = true,
          .wavering = true,
          .fill = hold_to_read,
          .call = write_it,
          .settle = settle },
        { .name = "write, times out",
          .value = SYNC_SHORT_MS,
          .watched = true,
          .wavering = true,
          .fill = hold_to_read,
          .call = write_it,
          .settle = settle },
        { .name = "read, woken", .fill = hold_to_write, .call = read_it, .wake = wake, .settle = settle },
        { .name = "write, woken", .fill = hold_to_read, .call = write_it, .wake = wake, .settle = settle },
        { .name = "read, woken before others",
          .crowd = true,
          .fill = hold_to_write,
          .call = read_it,
          .wake = wake,
          .settle = settle },
        { .name = "write, woken before others",
          .crowd = true,
          .fill = hold_to_write,
          .call = write_it,
          .wake = wake,
          .settle = settle },
        { .name = "read, after a death", .marked = true, .call = read_it, .settle = settle },
        { .name = "write, after a death", .marked = true, .call = write_it, .settle = settle },
        { .name = "write, consistent", .marked = true, .call = mend_it, .settle = settle },
        { .name = "read, free", .frees = true, .call = read_and_free, .settle = settle },
        { .name = "write, free", .frees = true, .call = write_and_free, .settle = settle },
        { .name = "attach, write, free",
          .frees = true,
          .wavering = true,
          .call = attach_write_and_free,
          .settle = settle },
};

static const struct sync_act pair = { .name = "pair", .wavering = true, .call = use_beside_another, .settle = settle };

static int just_write(struct sync_scene *scene, int timeout_ms)
{
        return brood_rwlock_acquire_write(scene->rwlock, timeout_ms);
}

static int just_release(struct sync_scene *scene)
{
        return brood_rwlock_release(scene->rwlock);
}

static int just_say_consistent(struct sync_scene *scene)
{
        return brood_rwlock_consistent(scene->rwlock);
}

const struct sync_object sync_rwlock = {
        .name = "rwlock",
        .open = open_it,
        .warm = warm,
        .close = close_it,
        .acts = acts,
        .acts_count = (int)array_length(acts),
        .pair = &pair,
        .acquire = just_write,
        .release = just_release,
        .consistent = just_say_consistent,
};
