/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_barrier.c: Barrier: nobody goes on before all have come; and what breaks it.
 */
#include "actor.h"

#include <brood/barrier.h>

struct scene {
        brood_barrier *barrier;
        struct stage *stage;
        int parties, rounds, timeout_ms;
};

static void begin(struct scene *scene, int parties, brood_barrier_options options)
{
        *scene = (struct scene){ .stage = stage_new(), .parties = parties, .timeout_ms = BROOD_FOREVER };
        assert_int_equal(brood_barrier_new(&scene->barrier, parties, &options), 0);
}

static void end(struct scene *scene)
{
        brood_barrier_free(scene->barrier);
        stage_free(scene->stage);
}

static void assert_state(struct scene *scene, int waiting, int broken)
{
        assert_int_equal(brood_barrier_n_waiting(scene->barrier), waiting);
        assert_int_equal(brood_barrier_broken(scene->barrier), broken);
        assert_int_equal(brood_barrier_parties(scene->barrier), scene->parties);
}

/* Waits once; the exit code is the number, or 100 + errno. */
static int wait_once(void *arg)
{
        struct scene *scene = arg;
        int r;

        reach(scene->stage);
        r = brood_barrier_wait(scene->barrier, scene->timeout_ms);
        return r < 0 ? 100 - r : r;
}

struct awaited {
        brood_barrier *barrier;
        int waiting;
};

static bool so_many_wait(void *arg)
{
        struct awaited *awaited = arg;

        return brood_barrier_n_waiting(awaited->barrier) == awaited->waiting;
}

/* Start one that waits, and wait until it does. */
static pid_t start_waiter(struct scene *scene)
{
        struct awaited awaited = { scene->barrier, brood_barrier_n_waiting(scene->barrier) + 1 };
        pid_t pid = check_start(wait_once, scene);

        assert_true(support_until(so_many_wait, &awaited, CHECK_HANG_MS));
        return pid;
}

/* ---- arguments ---- */

static void test_bad_input(void **state)
{
        (void)state;
        static const int refused[] = { 0, -1, INT32_MIN, BROOD_BARRIER_PARTIES_MAX + 1, INT32_MAX };
        struct {
                brood_barrier_options known;
                int unknown;
        } newer = { .unknown = 1 };
        brood_barrier *untouched = (brood_barrier *)&newer, *b = untouched;
        int fd;

        for (size_t i = 0; i < array_length(refused); i++)
                assert_int_equal(brood_barrier_new(&b, refused[i], NULL), -EINVAL);
        assert_int_equal(brood_barrier_new_sized(&b, 1, &newer.known, sizeof newer), -E2BIG);
        assert_ptr_equal(b, untouched);
        assert_int_equal(brood_barrier_new(&b, BROOD_BARRIER_PARTIES_MAX, NULL), 0);
        assert_int_equal(brood_barrier_new(NULL, 1, NULL), -EINVAL);
        assert_int_equal(brood_barrier_wait(NULL, 0), -EINVAL);
        assert_int_equal(brood_barrier_reset(NULL), -EINVAL);
        assert_int_equal(brood_barrier_abort(NULL), -EINVAL);
        assert_int_equal(brood_barrier_parties(NULL), -EINVAL);
        assert_int_equal(brood_barrier_n_waiting(NULL), -EINVAL);
        assert_int_equal(brood_barrier_broken(NULL), -EINVAL);
        assert_int_equal(brood_barrier_descriptors(NULL, &fd), -EINVAL);
        assert_int_equal(brood_barrier_descriptors(b, NULL), -EINVAL);
        assert_int_equal(brood_barrier_attach(NULL, &fd, NULL, NULL), -EINVAL);
        assert_int_equal(brood_barrier_attach(&b, NULL, NULL, NULL), -EINVAL);
        assert_int_equal(brood_barrier_n_waiting(b), 0);
        brood_barrier_free(b);
        brood_barrier_free(NULL);
}

/* ---- rounds ---- */

static int go_rounds(void *arg)
{
        struct scene *scene = arg;
        struct stage *stage = scene->stage;

        for (int round = 0; round < scene->rounds; round++) {
                /* numbers[0] counts the arrivals of all rounds, the others the numbers that were given. */
                atomic_fetch_add(&stage->numbers[0], 1);
                int r = brood_barrier_wait(scene->barrier, 3 * CHECK_HANG_MS);
                require(r >= 0 && r < scene->parties);
                require(atomic_load(&stage->numbers[0]) >= scene->parties * (round + 1));
                atomic_fetch_add(&stage->numbers[1 + r], 1);
        }
        return 0;
}

static void test_rounds(void **state)
{
        (void)state;
        static const int parties[] = { 1, 2, 3, 7 };

        for (size_t i = 0; i < array_length(parties); i++)
                for (int processes = 0; processes < 2; processes++) {
                        struct scene scene;
                        struct check_thread threads[7];
                        pid_t pids[7];

                        begin(&scene, parties[i], (brood_barrier_options){ 0 });
                        scene.rounds = support_rounds(200);
                        for (int w = 0; w < parties[i]; w++) {
                                if (processes)
                                        pids[w] = check_start(go_rounds, &scene);
                                else
                                        check_thread_start(&threads[w], go_rounds, &scene);
                        }
                        for (int w = 0; w < parties[i]; w++)
                                assert_int_equal(processes ? check_wait(pids[w]) : check_thread_join(&threads[w]), 0);
                        /* Each number in each round, once. */
                        for (int w = 0; w < parties[i]; w++)
                                assert_int_equal(atomic_load(&scene.stage->numbers[1 + w]), scene.rounds);
                        assert_state(&scene, 0, 0);
                        end(&scene);
                }
}

/* ---- what breaks it ---- */

static void test_time_limit_breaks(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, 3, (brood_barrier_options){ 0 });
        for (int timeout = 0; timeout <= SHORT_MS; timeout += SHORT_MS) {
                pid_t pid = start_waiter(&scene);
                assert_state(&scene, 1, 0);
                assert_int_equal(brood_barrier_wait(scene.barrier, timeout), timeout == 0 ? -EAGAIN : -ETIMEDOUT);
                assert_state(&scene, 0, 1);
                assert_int_equal(check_wait(pid), 100 + EPIPE);
                for (int i = 0; i < 2; i++)
                        assert_int_equal(brood_barrier_wait(scene.barrier, BROOD_FOREVER), -EPIPE);
                assert_state(&scene, 0, 1);
                assert_int_equal(brood_barrier_reset(scene.barrier), 0);
                assert_state(&scene, 0, 0);
        }
        end(&scene);
}

static void test_abort_and_reset(void **state)
{
        (void)state;
        struct scene scene;
        pid_t pids[3];

        begin(&scene, 3, (brood_barrier_options){ 0 });
        for (int reset = 0; reset < 2; reset++)
                for (int waiting = 0; waiting < 3; waiting++) {
                        for (int i = 0; i < waiting; i++)
                                pids[i] = start_waiter(&scene);
                        assert_state(&scene, waiting, 0);
                        assert_int_equal((reset ? brood_barrier_reset : brood_barrier_abort)(scene.barrier), 0);
                        assert_state(&scene, 0, !reset);
                        if (reset) { /* as new: at once for those who come */
                                pid_t fresh[3];
                                for (int i = 0; i < 3; i++)
                                        fresh[i] = check_start(wait_once, &scene);
                                int seen = 0;
                                for (int i = 0; i < 3; i++)
                                        seen |= 1 << check_wait(fresh[i]);
                                assert_int_equal(seen, 7);
                        }
                        for (int i = 0; i < waiting; i++)
                                assert_int_equal(check_wait(pids[i]), 100 + EPIPE);
                        assert_int_equal(brood_barrier_reset(scene.barrier), 0);
                }
        /* Broken, and broken again; reset, and reset again. */
        for (int i = 0; i < 2; i++)
                assert_int_equal(brood_barrier_abort(scene.barrier), 0);
        assert_state(&scene, 0, 1);
        for (int i = 0; i < 2; i++)
                assert_int_equal(brood_barrier_reset(scene.barrier), 0);
        assert_state(&scene, 0, 0);
        end(&scene);
}

/* ---- the action ---- */

static int act(void *arg)
{
        struct scene *scene = arg;
        struct stage *stage = scene->stage;

        atomic_fetch_add(&stage->numbers[0], 1);
        atomic_store(&stage->numbers[1], brood_barrier_n_waiting(scene->barrier));
        atomic_store(&stage->numbers[2], (int)getpid());
        if (atomic_load(&stage->numbers[3]) == -SIGKILL)
                kill(getpid(), SIGKILL);
        if (atomic_load(&stage->numbers[3]) == 1)
                stay(stage);
        return atomic_load(&stage->numbers[3]);
}

static void begin_with_action(struct scene *scene, int parties)
{
        *scene = (struct scene){ .stage = stage_new(), .parties = parties, .timeout_ms = BROOD_FOREVER };
        assert_int_equal(
            brood_barrier_new(&scene->barrier, parties, &(brood_barrier_options){ .action = act, .arg = scene }), 0);
}

static void test_action(void **state)
{
        (void)state;
        struct scene scene;

        begin_with_action(&scene, 3);
        for (int round = 1; round <= 3; round++) {
                pid_t pids[2] = { start_waiter(&scene), start_waiter(&scene) };
                assert_int_equal(atomic_load(&scene.stage->numbers[0]), round - 1);
                int seen = 1 << brood_barrier_wait(scene.barrier, BROOD_FOREVER);
                for (int i = 0; i < 2; i++)
                        seen |= 1 << check_wait(pids[i]);
                assert_int_equal(seen, 7);
                assert_int_equal(atomic_load(&scene.stage->numbers[0]), round);    /* once, */
                assert_int_equal(atomic_load(&scene.stage->numbers[1]), 3);        /* before anybody had left, */
                assert_int_equal(atomic_load(&scene.stage->numbers[2]), getpid()); /* by the last to come */
        }

        /* It fails: its error is the caller's; the others learn that the barrier is broken. */
        atomic_store(&scene.stage->numbers[3], -ERANGE);
        pid_t pids[2] = { start_waiter(&scene), start_waiter(&scene) };
        assert_int_equal(brood_barrier_wait(scene.barrier, BROOD_FOREVER), -ERANGE);
        for (int i = 0; i < 2; i++)
                assert_int_equal(check_wait(pids[i]), 100 + EPIPE);
        assert_state(&scene, 0, 1);

        /* Its process dies in it. */
        assert_int_equal(brood_barrier_reset(scene.barrier), 0);
        atomic_store(&scene.stage->numbers[3], -SIGKILL);
        pids[0] = start_waiter(&scene);
        pids[1] = start_waiter(&scene);
        pid_t last = check_start(wait_once, &scene);
        assert_int_equal(check_wait(last), -SIGKILL);
        for (int i = 0; i < 2; i++)
                assert_int_equal(check_wait_for(pids[i], CHECK_HANG_MS), 100 + EPIPE);
        assert_state(&scene, 0, 1);
        end(&scene);
}

/* It lasts; meanwhile those who wait have time limits, and others break or reset the barrier. */
static void test_during_the_action(void **state)
{
        (void)state;
        for (int how = 0; how < 3; how++) {
                struct scene scene;

                begin_with_action(&scene, 2);
                scene.timeout_ms = how == 0 ? 300 : BROOD_FOREVER;
                pid_t waiter = start_waiter(&scene);
                scene.timeout_ms = BROOD_FOREVER;
                atomic_store(&scene.stage->numbers[3], 1);
                int reached = atomic_load(&scene.stage->reached);
                pid_t last = check_start(wait_once, &scene);
                await_reached(scene.stage, reached + 2);
                if (how == 1)
                        assert_int_equal(brood_barrier_abort(scene.barrier), 0);
                else if (how == 2)
                        assert_int_equal(brood_barrier_reset(scene.barrier), 0);
                assert_int_equal(check_wait(waiter), 100 + (how == 0 ? ETIMEDOUT : EPIPE));
                assert_state(&scene, 0, how < 2);
                assert_int_equal(check_kill(last), -SIGKILL);
                assert_int_equal(brood_barrier_reset(scene.barrier), 0);
                /* The one that died in the action is not waited for. */
                atomic_store(&scene.stage->numbers[3], 0);
                waiter = check_start(wait_once, &scene);
                assert_in_range(brood_barrier_wait(scene.barrier, CHECK_HANG_MS), 0, 1);
                assert_in_range(check_wait(waiter), 0, 1);
                end(&scene);
        }
}

/* ---- deaths ---- */

/* An arrival is given back: another one comes in its place, and the numbers are each once all the same. */
static void test_dead_waiter(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, 3, (brood_barrier_options){ 0 });
        for (int round = 0; round < 3; round++) {
                pid_t first = start_waiter(&scene), second = start_waiter(&scene);
                assert_int_equal(check_kill(round % 2 ? second : first), -SIGKILL);
                pid_t left = round % 2 ? first : second;
                struct awaited awaited = { scene.barrier, 1 };
                assert_true(support_until(so_many_wait, &awaited, CHECK_HANG_MS)); /* the other one looks */
                pid_t third = start_waiter(&scene);
                int seen = 1 << brood_barrier_wait(scene.barrier, CHECK_HANG_MS);
                seen |= 1 << check_wait(left);
                seen |= 1 << check_wait(third);
                assert_int_equal(seen, 7);
                assert_state(&scene, 0, 0);
        }
        end(&scene);
}

static void test_break_on_death(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, 3, (brood_barrier_options){ .break_on_death = 1 });
        pid_t dead = start_waiter(&scene), other = start_waiter(&scene);
        assert_int_equal(check_kill(dead), -SIGKILL);
        assert_int_equal(check_wait_for(other, CHECK_HANG_MS), 100 + EPIPE);
        assert_state(&scene, 0, 1);
        assert_int_equal(brood_barrier_wait(scene.barrier, BROOD_FOREVER), -EPIPE);
        assert_int_equal(brood_barrier_reset(scene.barrier), 0);
        assert_state(&scene, 0, 0);
        end(&scene);
}

/* One that has been released, and dies before it has left, is not waited for by the next round. */
static void test_dead_before_it_left(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, 2, (brood_barrier_options){ 0 });
        pid_t dead = start_waiter(&scene);
        stop_actor(dead);
        assert_in_range(brood_barrier_wait(scene.barrier, CHECK_HANG_MS), 0, 1);
        /* It is stopped, not dead: the next round does not begin, and a time limit does not break it. */
        assert_int_equal(brood_barrier_wait(scene.barrier, 0), -EAGAIN);
        assert_int_equal(brood_barrier_wait(scene.barrier, 500), -ETIMEDOUT);
        assert_state(&scene, 0, 0);
        assert_int_equal(check_kill(dead), -SIGKILL);
        pid_t next = check_start(wait_once, &scene);
        assert_in_range(brood_barrier_wait(scene.barrier, CHECK_HANG_MS), 0, 1);
        assert_in_range(check_wait(next), 0, 1);
        end(&scene);
}

static void test_stopped_is_not_dead(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, 3, (brood_barrier_options){ .break_on_death = 1 });
        pid_t stopped = start_waiter(&scene), other = start_waiter(&scene);
        stop_actor(stopped);
        usleep(600000); /* more than two looks for the dead */
        assert_state(&scene, 2, 0);
        assert_in_range(brood_barrier_wait(scene.barrier, CHECK_HANG_MS), 0, 2);
        assert_in_range(check_wait(other), 0, 2);
        kill(stopped, SIGCONT);
        assert_in_range(check_wait(stopped), 0, 2);
        assert_state(&scene, 0, 0);
        end(&scene);
}

/* Its handle is freed by another thread: what arrived through it is given back. */
static void *wait_in_thread(void *arg)
{
        struct scene *scene = arg;
        return (void *)(intptr_t)brood_barrier_wait(scene->barrier, BROOD_FOREVER);
}

static void test_freed_while_waiting(void **state)
{
        (void)state;
        for (int break_on_death = 0; break_on_death < 2; break_on_death++) {
                struct scene scene, mine;
                int fd;
                pthread_t thread;
                void *result;

                begin(&scene, 3, (brood_barrier_options){ .break_on_death = break_on_death });
                mine = scene;
                assert_int_equal(brood_barrier_descriptors(scene.barrier, &fd), 0);
                assert_int_equal(brood_barrier_attach(&mine.barrier, &fd, NULL, NULL), 0);
                pid_t other = start_waiter(&scene);
                assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, &mine), 0);
                struct awaited awaited = { scene.barrier, 2 };
                assert_true(support_until(so_many_wait, &awaited, CHECK_HANG_MS));
                brood_barrier_free(mine.barrier);
                assert_int_equal(pthread_join(thread, &result), 0);
                assert_int_equal((intptr_t)result, -ECANCELED);
                assert_state(&scene, 1, 0);
                pid_t third = start_waiter(&scene);
                assert_in_range(brood_barrier_wait(scene.barrier, CHECK_HANG_MS), 0, 2);
                assert_in_range(check_wait(other), 0, 2);
                assert_in_range(check_wait(third), 0, 2);
                end(&scene);
        }
}

/* Parties that die at any moment and are replaced: rounds go on, and no number is given twice in one. */
enum { PARTIES = 4 };

static int go_round_for_ever(void *arg)
{
        struct scene *scene = arg;

        for (;;) {
                int r = brood_barrier_wait(scene->barrier, BROOD_FOREVER);
                require(r >= 0 && r < PARTIES);
                if (r == 0)
                        reach(scene->stage);
        }
}

static void test_killed_at_work(void **state)
{
        (void)state;
        struct scene scene;
        pid_t pids[PARTIES];

        begin(&scene, PARTIES, (brood_barrier_options){ 0 });
        for (int i = 0; i < PARTIES; i++)
                pids[i] = check_start(go_round_for_ever, &scene);
        for (int round = 0; round < support_rounds(20); round++) {
                int i = (int)support_random(PARTIES);
                usleep((useconds_t)support_random(3000));
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
                pids[i] = check_start(go_round_for_ever, &scene);
                await_reached(scene.stage, atomic_load(&scene.stage->reached) + 3);
        }
        for (int i = 0; i < PARTIES; i++)
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
        end(&scene);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_bad_input),
                support_test(test_rounds),
                support_test(test_time_limit_breaks),
                support_test(test_abort_and_reset),
                support_test(test_action),
                support_test(test_during_the_action),
                support_test(test_dead_waiter),
                support_test(test_break_on_death),
                support_test(test_dead_before_it_left),
                support_test(test_stopped_is_not_dead),
                support_test(test_freed_while_waiting),
                support_test(test_killed_at_work),
        };
        return support_main(argc, argv, "barrier", tests, array_length(tests), 120);
}
