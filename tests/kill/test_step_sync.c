/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_step_sync.c: killed at every instruction of what sync/ offers.
 *
 * As test_step.c does for the queue: for each act (sync_lock.c and its like) and for k = 1, 2, 3, ... until the call ends, a fresh
 * object is brought into a state, a victim is stepped through k instructions of its call and killed there, and then the
 * survivors and fresh processes use the object to the end.  Nobody may wait for longer than a second, what is promised must
 * hold (see each settle()), and the kills of one call must agree: what had happened after k instructions has happened after k + 1.
 *
 * Then two victims at once, in turns; and repairers that are not killed but stopped, while somebody else repairs, and the dead
 * one's number is given to a third.
 *
 * --rounds N (or BROOD_TEST_ROUNDS) sets how many kills a call may have before only each n-th instruction is tried, from a random
 * one on; from 100,000 on there is no limit but for those after which somebody sleeps for long.  --expect-failure turns the result
 * round, for a library that is broken on purpose.
 */
#include "sync_scene.h"

enum {
        KILLS = 30,        /* in one call, by default */
        KILLS_WOKEN = 4,   /* each is stepped into a sleep and out of it */
        KILLS_WATCHED = 2, /* after most of them, somebody sleeps until he looks for the dead: a quarter of a second */
        STOPS = 6,         /* likewise */
        PAIRS = 15,        /* for each object */
        THOROUGH = 70, /* so many times more of all these, if each instruction is to be tried: more would take days */
        OVERTAKE_MS = 500,
};

static struct {
        bool expect_failure;
        struct sync_books *books;
        struct kills kills;
} all;

static long next_beside(void *arg, long after)
{
        struct sync_scene *scene = arg;
        return after + 1 + (long)check_random(&scene->chance, 300);
}

static void do_beside(void *arg)
{
        struct sync_scene *scene = arg;
        scene->act->beside(scene);
}

static void wake(void *arg)
{
        struct sync_scene *scene = arg;
        scene->act->wake(scene);
}

struct outcome {
        long steps;
        int level, result;
};

static bool kill_after(const struct sync_object *object, const struct sync_act *act, uint64_t chance, long k,
                       bool is_first, struct outcome *outcome)
{
        struct sync_scene scene;
        sync_open(&scene, object, act, all.books, chance);
        pid_t pid = sync_seat(&scene, 0);
        if (pid > 0) {
                if (act->fill)
                        act->fill(&scene);
                struct kills_run run = { .pid = pid,
                                         .mark = &all.books->seats[0].mark,
                                         .wake = act->wake ? wake : NULL,
                                         .next_act = next_beside,
                                         .act = act->beside ? do_beside : NULL,
                                         .arg = &scene };
                kills_step(&all.kills, &run, k, is_first, &outcome->steps);
                sync_kill(&scene, 0);
        }
        sync_settle(&scene);
        outcome->level = scene.level;
        sync_end(&scene);
        return kills_note(&all.kills);
}

static int at_most(int limit)
{
        int most = support_rounds(KILLS);
        if (kills_is_thorough())
                limit *= THOROUGH;
        return most < limit ? most : limit;
}

static int kills_for(const struct sync_act *act)
{
        if (act->watched || act->marked || (act->crowd && act->wake))
                return at_most(KILLS_WATCHED);
        return act->wake ? at_most(KILLS_WOKEN) : support_rounds(KILLS);
}

/* Each run of the call goes the same way, cut off later and later: no sleep, no time limit, and nothing read from /proc. */
static bool is_one_path(const struct sync_act *act)
{
        return !act->wake && !act->beside && !act->cold && !act->marked && !act->wavering;
}

/* All kills in one call. */
static void kill_everywhere(const struct sync_object *object, const struct sync_act *act)
{
        uint64_t chance = support_random(UINT64_MAX);
        struct outcome whole = { 0 }, last = { .level = INT32_MIN }, now = { 0 };
        int64_t start = support_now_ms();
        atomic_store(&all.books->verdict.longest_ms, 0);
        long k = KILLS_STEPS_MOST;
        bool good = kill_after(object, act, chance, k, true, &whole);
        long points = kills_find_points(&all.kills, whole.steps);
        int most = kills_for(act), kills = 1;
        long stride = (points + most - 1) / most;
        stride = stride > 0 ? stride : 1;
        for (long i = (long)support_random((uint64_t)stride); good && i < points; i += stride, kills++) {
                k = all.kills.points[i];
                good = kill_after(object, act, chance, k, false, &now);
                if (good && is_one_path(act) && now.level < last.level) {
                        verdict_complain(&all.books->verdict,
                                         "what had happened before an earlier instruction has not");
                        good = false;
                }
                last = now;
        }
        all.kills.calls++;
        if (good)
                printf("%s: %s: %d kill points in %ld instructions, longest wait %d ms (%d ms)\n", object->name,
                       act->name, kills, points, atomic_load(&all.books->verdict.longest_ms),
                       (int)(support_now_ms() - start));
        else
                printf("%s: %s: killed after %ld of %ld instructions, at stage %d: %s\n", object->name, act->name,
                       k > whole.steps ? whole.steps : k, whole.steps, atomic_load(&all.books->seats[0].progress),
                       all.books->verdict.complaint);
        fflush(stdout);
        all.kills.failures += !good;
}

/* ---- two victims ---- */

static bool kill_a_pair(const struct sync_object *object, int round)
{
        struct sync_scene scene;
        long k[2];
        for (int i = 0; i < 2; i++)
                k[i] = 1 + (long)support_random(support_random(4) ? 600 : 4000);
        sync_open(&scene, object, object->pair, all.books, support_random(UINT64_MAX));
        pid_t pids[2] = { -1, -1 };
        for (int i = 0; i < 2; i++)
                pids[i] = sync_seat(&scene, i);
        if (pids[0] > 0 && pids[1] > 0) {
                const struct step_mark *const marks[2] = { &all.books->seats[0].mark, &all.books->seats[1].mark };
                kills_step_both(&all.kills, pids, marks, k, &scene.chance);
        }
        for (int i = 0; i < 2; i++)
                sync_kill(&scene, i);
        sync_settle(&scene);
        sync_end(&scene);
        bool good = kills_note(&all.kills);
        all.kills.kills++;
        if (!good)
                printf("%s: pair %d, up to %ld and %ld, at stages %d and %d: %s\n", object->name, round, k[0], k[1],
                       atomic_load(&all.books->seats[0].progress), atomic_load(&all.books->seats[1].progress),
                       all.books->verdict.complaint);
        all.kills.failures += !good;
        return good;
}

/* ---- stopped, not killed ---- */

/* Repairs what the dead one has left, and gives up its own number. */
static void repair_first(struct sync_scene *scene, struct sync_helper *helper)
{
        int r = scene->object->acquire(scene, OVERTAKE_MS);
        if (r >= 0)
                sync_expect(scene, "release", scene->object->release(scene), 0);
        scene->object->close(scene);
        atomic_store(&helper->result, r);
}

/* Has the object, and the dead one's number in the table, while the victim goes on. */
static void hold_meanwhile(struct sync_scene *scene, struct sync_helper *helper)
{
        const struct sync_object *object = scene->object;
        int r = object->acquire(scene, SYNC_LIMIT_MS);
        if (r < 0)
                sync_complain(scene, "who comes next acquires: %s", brood_strerror(r));
        if (r == BROOD_HOLDER_DIED)
                sync_expect(scene, "consistent", object->consistent(scene), 0);
        atomic_store(&helper->begun, 2);
        if (!check_reaches(&scene->books->flag, 1, CHECK_HANG_MS))
                sync_complain(scene, "the victim does not go on");
        sync_expect(scene, "what one who lives has", object->release(scene), 0);
        sync_expect(scene, "again", object->acquire(scene, 0), 0);
        sync_expect(scene, "release", object->release(scene), 0);
        object->close(scene);
}

/* The victim, which is about to repair, is stopped after k instructions; somebody else repairs, and a third process gets the dead
 * one's place in the table and takes the object; then the victim goes on.  Whether somebody could come in between. */
static bool overtake(const struct sync_object *object, const struct sync_act *act, uint64_t chance, long k,
                     bool is_first, long *ret_steps)
{
        struct sync_scene scene;
        bool overtaken = false;
        sync_open(&scene, object, act, all.books, chance);
        pid_t pid = sync_seat(&scene, 0);
        if (pid > 0) {
                struct kills_run run = { .pid = pid, .mark = &all.books->seats[0].mark, .arg = &scene };
                kills_step(&all.kills, &run, k, is_first, ret_steps);
                int first = sync_send(&scene, repair_first);
                sync_await(&scene, first);
                overtaken = atomic_load(&all.books->helpers[first].result) >= 0;
                if (overtaken) {
                        int next = sync_send(&scene, hold_meanwhile);
                        check_reaches(&all.books->helpers[next].begun, 2, SYNC_LIMIT_MS);
                        if (!is_first && !step_finish(pid, &all.books->seats[0].mark, CHECK_HANG_MS))
                                sync_complain(&scene, "the victim's call does not end");
                        atomic_store(&all.books->flag, 1);
                        sync_await(&scene, next);
                }
                sync_kill(&scene, 0);
        }
        sync_end(&scene);
        return overtaken;
}

static void overtake_everywhere(const struct sync_object *object, const struct sync_act *act)
{
        uint64_t chance = support_random(UINT64_MAX);
        long steps = 0, k = KILLS_STEPS_MOST;
        int overtaken = 0;
        atomic_store(&all.books->verdict.longest_ms, 0);
        overtake(object, act, chance, k, true, &steps);
        bool good = kills_note(&all.kills);
        long points = kills_find_points(&all.kills, steps);
        int most = at_most(STOPS);
        long stride = points / most + 1;
        for (long i = (long)support_random((uint64_t)stride); good && i < points; i += stride) {
                k = all.kills.points[i];
                overtaken += overtake(object, act, chance, k, false, &steps);
                good = kills_note(&all.kills);
        }
        all.kills.calls++;
        if (good)
                printf("%s: %s: stopped at %ld of %ld instructions, and overtaken at %d\n", object->name, act->name,
                       (points + stride - 1) / stride, points, overtaken);
        else
                printf("%s: %s: stopped after %ld instructions and overtaken: %s\n", object->name, act->name, k,
                       all.books->verdict.complaint);
        all.kills.failures += !good;
}

/* ---- the tests ---- */

static void set_up(void)
{
        kills_skip_if_impossible();
        all.books = sync_books_new();
        kills_set_up(&all.kills, &all.books->verdict);
}

static void conclude(const char *what)
{
        sync_books_free(all.books);
        kills_conclude(&all.kills, what);
}

static void kill_in_all_acts(const struct sync_object *object)
{
        for (int i = 0; i < object->acts_count && !(all.expect_failure && all.kills.failures); i++)
                kill_everywhere(object, &object->acts[i]);
}

static void kill_in(const struct sync_object *object)
{
        set_up();
        kill_in_all_acts(object);
        conclude(object->name);
}

static void test_killed_in_lock(void **state)
{
        (void)state;
        kill_in(&sync_lock);
}

static void test_killed_in_semaphore(void **state)
{
        (void)state;
        kill_in(&sync_semaphore);
}

static void test_killed_in_event(void **state)
{
        (void)state;
        kill_in(&sync_event);
}

static void test_killed_in_rwlock(void **state)
{
        (void)state;
        kill_in(&sync_rwlock);
}

static void test_killed_in_barrier(void **state)
{
        (void)state;
        kill_in(&sync_barrier);
}

static void test_killed_in_condition(void **state)
{
        (void)state;
        kill_in(&sync_condition);
}

static const struct sync_object *const objects[] = { &sync_lock,   &sync_semaphore, &sync_event,
                                                     &sync_rwlock, &sync_barrier,   &sync_condition };

static void test_killed_in_pairs(void **state)
{
        (void)state;
        set_up();
        int pairs = at_most(PAIRS);
        atomic_store(&all.books->verdict.longest_ms, 0);
        for (size_t o = 0; o < array_length(objects); o++)
                for (int i = 0; objects[o]->pair && i < pairs && all.kills.failures < 5; i++)
                        kill_a_pair(objects[o], i);
        conclude("pairs");
}

static void test_overtaken_while_repairing(void **state)
{
        (void)state;
        set_up();
        for (size_t o = 0; o < array_length(objects); o++)
                for (int i = 0; objects[o]->acquire && i < objects[o]->acts_count; i++)
                        if (objects[o]->acts[i].marked && !objects[o]->acts[i].recursive)
                                overtake_everywhere(objects[o], &objects[o]->acts[i]);
        conclude("overtaken");
}

/* A harness that could not fail would prove nothing.  This library is broken, and one of the kills must show it. */
static void test_fault_is_noticed(void **state)
{
        (void)state;
        set_up();
        for (size_t o = 0; o < array_length(objects) && all.kills.failures == 0; o++)
                kill_in_all_acts(objects[o]);
        printf("%d kill points until the fault was noticed\n", all.kills.kills);
        bool noticed = all.kills.failures > 0;
        sync_books_free(all.books);
        kills_tear_down(&all.kills);
        assert_true(noticed);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_killed_in_lock),    support_test(test_killed_in_semaphore),
                support_test(test_killed_in_event),   support_test(test_killed_in_rwlock),
                support_test(test_killed_in_barrier), support_test(test_killed_in_condition),
                support_test(test_killed_in_pairs),   support_test(test_overtaken_while_repairing),
        };
        const struct CMUnitTest faulty[] = { support_test(test_fault_is_noticed) };
        if (argc > 1 && !strcmp(argv[1], "--expect-failure")) {
                all.expect_failure = true;
                argv[1] = argv[0];
                return support_main(argc - 1, argv + 1, "step of sync, broken", faulty, array_length(faulty), 280);
        }
        return support_main(argc, argv, "step of sync", tests, array_length(tests), 3550);
}
