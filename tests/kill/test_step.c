/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_step.c: killed at every instruction.
 *
 * For each act (acts.c) in each state of the queue (the stages below), and for k = 1, 2, 3, ... until the call ends: a fresh queue
 * is brought into the state, a victim is stepped through k instructions of its call and killed there, and then two fresh processes
 * use the queue, which is closed and drained after them.  The books must balance (scene.c), nobody may wait for longer than a
 * second, and the kills of one call must agree: a message that is there after k instructions is there after k + 1.
 *
 * Every instruction of short calls is tried; of long ones, each n-th, with a random offset, so that repeated runs see others.
 * --rounds N (or BROOD_TEST_ROUNDS) sets how many kills a call may have before that; from 100,000 on there is no limit.
 *
 * In the stages that are "shared", the test process itself puts and gets between the victim's instructions: at every instruction
 * the victim is also a process that has merely stopped, which nobody may take for a dead one.  What happens is drawn from the
 * seed, so a failure can be seen again.
 *
 * --expect-failure turns the result round.  It is how a library that is broken on purpose is shown to be noticed.
 */
#include "acts.h"
#include "kills.h"

enum {
        KILLS = 60, /* in one call, by default */
        KILLS_OF_A_LONG_ONE = 25,
        KILLS_WHILE_WAITING = 15,   /* each of them waits */
        KILLS_BESIDE_A_SLEEPER = 5, /* each up to a quarter of a second */
        PAIRS = 75,
};

/* Where the victim is to be woken, its time limit must not pass while it is stepped through what it does before it sleeps. */
static const struct stage stages[] = {
        { .name = "empty", .maxsize = 3, .size = 28 },
        { .name = "empty, waiting", .maxsize = 3, .size = 28, .timeout_ms = 3 },
        { .name = "empty, woken", .maxsize = 3, .size = 28, .timeout_ms = 20000, .woken = true },
        { .name = "empty, woken beside a sleeper",
          .maxsize = 3,
          .size = 28,
          .timeout_ms = 20000,
          .woken = true,
          .beside = true },
        { .name = "two in it", .maxsize = 8, .size = 28, .given = 2 },
        { .name = "full", .maxsize = 3, .size = 28, .given = 3 },
        { .name = "full, waiting", .maxsize = 3, .size = 28, .given = 3, .timeout_ms = 3 },
        { .name = "full, woken", .maxsize = 3, .size = 28, .given = 3, .timeout_ms = 20000, .woken = true },
        { .name = "wrapped", .maxsize = 3, .size = 28, .laps = 10, .given = 2 },
        { .name = "no bytes inline", .maxsize = 3, .size = 300, .given = 1 },
        { .name = "spilled", .maxsize = 3, .size = 1500, .laps = 4, .given = 1 },
        { .name = "spilled, large", .maxsize = 3, .size = 5000, .given = 1 },
        { .name = "shared", .maxsize = 3, .size = 28, .given = 1, .acting = true },
        { .name = "shared, one place", .maxsize = 1, .size = 28, .acting = true },
        { .name = "shared, spilled", .maxsize = 4, .size = 700, .given = 2, .acting = true },
        { .name = "shared, no bound", .size = 28, .given = 511, .taken = 509, .acting = true },
        { .name = "behind a writer", .maxsize = 3, .size = 28, .held = true },
        { .name = "behind a reader", .maxsize = 3, .size = 28, .given = 2, .held = true },
        { .name = "no bound", .size = 28, .given = 2 },
        { .name = "new block", .size = 28, .given = 510 },
        { .name = "old block drained", .size = 28, .given = 516, .taken = 508 },
        /* Large enough for eight places that are claimed at once, and one. */
        { .name = "a run, empty", .maxsize = 64, .size = 28, .batch = true },
        { .name = "a run", .maxsize = 64, .size = 28, .given = 12, .batch = true },
        { .name = "a run, wrapped", .maxsize = 20, .size = 28, .laps = 47, .given = 10, .batch = true },
        { .name = "a run, shared", .maxsize = 64, .size = 28, .given = 11, .acting = true, .batch = true },
        { .name = "a run, shared, full", .maxsize = 20, .size = 28, .given = 18, .acting = true, .batch = true },
        { .name = "a run, no bound", .size = 28, .given = 20, .batch = true },
        { .name = "new to it, empty", .maxsize = 3, .size = 28, .cold = true },
        { .name = "new to it", .maxsize = 3, .size = 28, .given = 2, .cold = true },
};

static struct {
        bool expect_failure;
        struct books *books;
        struct kills kills;
} all;

static bool is_worth_it(const struct act *act, const struct stage *stage)
{
        bool puts = act->kind == ACT_PUTS, takes = act->kind == ACT_TAKES || act->kind == ACT_LOOKS;
        bool across = stage->maxsize == 0 && stage->given > 100 && !stage->acting;
        if (stage->held && act->joinable)
                return false;
        if (stage->batch)
                return act->count == SCENE_BATCH;
        if (stage->beside && act->long_one)
                return false;
        /* A put that is not about to fill the queue is like any other, and a get that does not find it empty. */
        if (stage->woken || stage->timeout_ms > 0)
                return act->count == 1 && (puts ? stage->given > 0 : takes && stage->given == 0);
        if (act->long_one && act->count == 1)
                return stage->given == 2 && !stage->acting && !stage->cold && !stage->held;
        if (act->long_one)
                return across || stage->acting;
        if (across)
                return act->count > 1 && puts == (stage->taken == 0);
        if (act->kind == ACT_CLOSES)
                return stage->size == 28 && !across;
        return true;
}

static int kills_for(const struct act *act, const struct stage *stage, long steps)
{
        int most = support_rounds(KILLS), limit = most;
        if (stage->beside) /* never all of them: that alone would take an hour */
                return kills_is_thorough() ? 20 * KILLS_BESIDE_A_SLEEPER : KILLS_BESIDE_A_SLEEPER;
        if (stage->woken || stage->timeout_ms > 0)
                limit = KILLS_WHILE_WAITING;
        else if (act->long_one || stage->size > 2000 || steps > 3000)
                limit = KILLS_OF_A_LONG_ONE;
        return most > limit && !kills_is_thorough() ? limit : most;
}

/* After every few instructions the test process does something, and at the same places in each run of a call. */
static long next_act(void *arg, long after)
{
        struct scene *scene = arg;
        return after + 1 + (long)check_random(&scene->chance, 80);
}

static void act_beside(void *arg)
{
        scene_act(arg);
}

static void wake(void *arg)
{
        scene_wake(arg);
}

static bool kill_after(const struct act *act, const struct stage *stage, uint64_t chance, long k, bool is_first,
                       struct outcome *outcome)
{
        struct scene scene;
        scene_open(&scene, stage, act->joinable, all.books, chance);
        pid_t pid = scene_seat(&scene, 0, act);
        if (pid > 0) {
                scene_fill(&scene);
                struct kills_run run = { .pid = pid,
                                         .mark = &all.books->seats[0].mark,
                                         .wake = stage->woken ? wake : NULL,
                                         .next_act = next_act,
                                         .act = stage->acting ? act_beside : NULL,
                                         .arg = &scene };
                outcome->end = kills_step(&all.kills, &run, k, is_first, &outcome->steps);
                step_kill(pid);
        }
        scene_settle(&scene, outcome);
        scene_end(&scene);
        return kills_note(&all.kills);
}

/* All kills in one call.  False: something is wrong, which has been printed. */
static bool kill_everywhere(const struct act *act, const struct stage *stage)
{
        uint64_t chance = support_random(UINT64_MAX);
        struct outcome whole = { 0 }, last = { 0 }, now = { 0 };
        int64_t start = support_now_ms();
        atomic_store(&all.books->verdict.longest_ms, 0);
        long k = KILLS_STEPS_MOST;
        bool good = kill_after(act, stage, chance, k, true, &whole);
        int result = atomic_load(&all.books->seats[0].result), expected = scene_expected(stage, act);
        if (good && !stage->acting && result != expected && !(act->keeps_nothing && result == 0 && expected > 0)) {
                scene_complain(all.books, "the call returned %d and not %d", result, expected);
                good = false;
        }
        long points = kills_find_points(&all.kills, whole.steps);
        int most = kills_for(act, stage, points), kills = 1;
        long stride = (points + most - 1) / most;
        stride = stride > 0 ? stride : 1;
        for (long i = (long)support_random((uint64_t)stride); good && i < points; i += stride, kills++) {
                k = all.kills.points[i];
                good = kill_after(act, stage, chance, k, false, &now);
                /* One path, cut off later and later. */
                bool one_path = !stage->acting && stage->timeout_ms == 0 && !stage->cold && !act->registers;
                if (good && one_path &&
                    (now.present < last.present || now.gone < last.gone || now.closed < last.closed)) {
                        scene_complain(all.books, "what had happened before an earlier instruction has not happened");
                        good = false;
                }
                last = now;
        }
        all.kills.calls++;
        if (good)
                printf("%s, %s: %d kill points in %ld instructions, longest wait %d ms (%d ms)\n", act->name,
                       stage->name, kills, points, atomic_load(&all.books->verdict.longest_ms),
                       (int)(support_now_ms() - start));
        else
                printf("%s, %s: killed after %ld of %ld instructions: %s\n", act->name, stage->name,
                       k > whole.steps ? whole.steps : k, whole.steps, all.books->verdict.complaint);
        all.kills.failures += !good;
        return good;
}

static bool kill_in_all_stages(const struct act *act)
{
        for (size_t s = 0; s < array_length(stages); s++) {
                if (is_worth_it(act, &stages[s]) && !kill_everywhere(act, &stages[s]) && all.expect_failure)
                        return false;
        }
        return true;
}

/* ---- two victims ---- */

/* Any two acts, in a state that is about as long as both of them find something to do in. */
static bool kill_a_pair(int round)
{
        static const size_t sizes[] = { 28, 28, 28, 300, 1500 };
        const struct act *act[2];
        bool joinable = support_random(8) == 0;
        for (int i = 0; i < 2; i++) {
                do
                        act[i] = &acts[support_random((uint64_t)acts_count)];
                while (joinable ? act[i]->kind != ACT_PUTS && !act[i]->joinable : act[i]->joinable);
        }
        struct stage stage = { .name = "pair",
                               .maxsize = support_random(5),
                               .size = (uint32_t)sizes[support_random(array_length(sizes))],
                               .laps = (int)support_random(5),
                               .timeout_ms = support_random(4) ? 0 : 20,
                               .cold = support_random(6) == 0,
                               .pairs = true };
        stage.given = stage.maxsize == 0 ? (support_random(2) ? 0 : (int)(506 + support_random(6)))
                                         : (int)support_random(stage.maxsize + 1);
        long k[2];
        for (int i = 0; i < 2; i++)
                k[i] = 1 + (long)support_random(support_random(4) ? 400 : 3000);

        struct scene scene;
        struct outcome outcome = { 0 };
        scene_open(&scene, &stage, joinable, all.books, support_random(UINT64_MAX));
        pid_t pids[2] = { -1, -1 };
        for (int i = 0; i < 2; i++)
                pids[i] = scene_seat(&scene, i, act[i]);
        if (pids[0] > 0 && pids[1] > 0) {
                scene_fill(&scene);
                const struct step_mark *const marks[2] = { &all.books->seats[0].mark, &all.books->seats[1].mark };
                kills_step_both(&all.kills, pids, marks, k, &scene.chance);
        }
        for (int i = 0; i < 2; i++)
                if (pids[i] > 0)
                        step_kill(pids[i]);
        bool good = scene_settle(&scene, &outcome);
        scene_end(&scene);
        if (!good) {
                printf("pair %d: %s (up to %ld) and %s (up to %ld), maxsize %zu, %d of %u bytes given, timeout %d "
                       "ms%s: %s\n",
                       round, act[0]->name, k[0], act[1]->name, k[1], stage.maxsize, stage.given, stage.size,
                       stage.timeout_ms, stage.cold ? ", new to it" : "", all.books->verdict.complaint);
                all.kills.failures++;
        }
        return good;
}

/* ---- the tests ---- */

static void set_up(void)
{
        kills_skip_if_impossible();
        all.books = scene_books_new();
        kills_set_up(&all.kills, &all.books->verdict);
}

static void conclude(const char *what)
{
        scene_books_free(all.books);
        kills_conclude(&all.kills, what);
}

static void kill_in_acts(const char *what, unsigned kinds)
{
        set_up();
        for (int i = 0; i < acts_count; i++)
                if (kinds & 1u << acts[i].kind)
                        kill_in_all_stages(&acts[i]);
        conclude(what);
}

static void test_killed_while_putting(void **state)
{
        (void)state;
        kill_in_acts("putting", 1u << ACT_PUTS);
}

static void test_killed_while_taking(void **state)
{
        (void)state;
        kill_in_acts("taking", 1u << ACT_TAKES);
}

static void test_killed_while_looking(void **state)
{
        (void)state;
        kill_in_acts("looking", 1u << ACT_LOOKS);
}

static void test_killed_while_closing(void **state)
{
        (void)state;
        kill_in_acts("closing", 1u << ACT_CLOSES);
}

static void test_killed_in_pairs(void **state)
{
        (void)state;
        set_up();
        int pairs = support_rounds(PAIRS), done = 0;
        atomic_store(&all.books->verdict.longest_ms, 0);
        while (done < pairs && all.kills.failures < 5) {
                kill_a_pair(done);
                done++;
        }
        all.kills.kills = 2 * done;
        all.kills.longest_ms = atomic_load(&all.books->verdict.longest_ms);
        conclude("pairs");
}

/* A harness that could not fail would prove nothing.  This library is broken, and one of the kills must show it. */
static void test_fault_is_noticed(void **state)
{
        (void)state;
        set_up();
        for (int i = 0; i < acts_count && all.kills.failures == 0; i++)
                kill_in_all_stages(&acts[i]);
        printf("%d kill points until the fault was noticed\n", all.kills.kills);
        bool noticed = all.kills.failures > 0;
        scene_books_free(all.books);
        kills_tear_down(&all.kills);
        assert_true(noticed);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_killed_while_putting), support_test(test_killed_while_taking),
                support_test(test_killed_while_looking), support_test(test_killed_while_closing),
                support_test(test_killed_in_pairs),
        };
        const struct CMUnitTest faulty[] = { support_test(test_fault_is_noticed) };
        if (argc > 1 && !strcmp(argv[1], "--expect-failure")) {
                all.expect_failure = true;
                argv[1] = argv[0];
                return support_main(argc - 1, argv + 1, "step, broken", faulty, array_length(faulty), 280);
        }
        return support_main(argc, argv, "step", tests, array_length(tests), 1780);
}
