/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_semaphore.c: Semaphore and BoundedSemaphore: how many units there are, and whose, whatever dies.
 */
#include "actor.h"

#include <brood/semaphore.h>

static brood_semaphore *make(int value, brood_semaphore_options options)
{
        brood_semaphore *semaphore = NULL;
        assert_int_equal(brood_semaphore_new(&semaphore, value, &options), 0);
        return semaphore;
}

static void test_values(void **state)
{
        (void)state;
        for (int value = 0; value < 5; value++)
                for (int bounded = 0; bounded < 2; bounded++) {
                        brood_semaphore *s = make(value, (brood_semaphore_options){ .bounded = bounded });
                        for (int i = value; i > 0; i--) {
                                assert_int_equal(brood_semaphore_get_value(s), i);
                                assert_int_equal(brood_semaphore_acquire(s, i % 2 ? 0 : BROOD_FOREVER), 0);
                        }
                        for (int i = 0; i < 2; i++) {
                                assert_int_equal(brood_semaphore_acquire(s, 0), -EAGAIN);
                                assert_int_equal(brood_semaphore_acquire(s, 1), -ETIMEDOUT);
                                assert_int_equal(brood_semaphore_get_value(s), 0);
                        }
                        for (int i = 0; i < value; i++) {
                                assert_int_equal(brood_semaphore_release(s), 0);
                                assert_int_equal(brood_semaphore_get_value(s), i + 1);
                        }
                        for (int i = 1; i <= 2; i++) {
                                assert_int_equal(brood_semaphore_release(s), bounded ? -EOVERFLOW : 0);
                                assert_int_equal(brood_semaphore_get_value(s), bounded ? value : value + i);
                        }
                        brood_semaphore_free(s);
                }
        brood_semaphore_free(NULL);
}

static void test_limits(void **state)
{
        (void)state;
        brood_semaphore *s = make(BROOD_SEMAPHORE_VALUE_MAX, (brood_semaphore_options){ 0 });

        assert_int_equal(brood_semaphore_get_value(s), BROOD_SEMAPHORE_VALUE_MAX);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(brood_semaphore_release(s), -EOVERFLOW);
                assert_int_equal(brood_semaphore_get_value(s), BROOD_SEMAPHORE_VALUE_MAX);
        }
        assert_int_equal(brood_semaphore_acquire(s, 0), 0);
        assert_int_equal(brood_semaphore_get_value(s), BROOD_SEMAPHORE_VALUE_MAX - 1);
        assert_int_equal(brood_semaphore_release(s), 0);
        assert_int_equal(brood_semaphore_release(s), -EOVERFLOW);
        brood_semaphore_free(s);
}

static void test_bad_input(void **state)
{
        (void)state;
        struct {
                brood_semaphore_options known;
                int unknown;
        } newer = { .unknown = 1 };
        brood_semaphore *untouched = (brood_semaphore *)&newer, *s = untouched;
        int fd;

        static const int values[] = { -1, INT32_MIN, BROOD_SEMAPHORE_VALUE_MAX + 1, INT32_MAX };
        for (size_t i = 0; i < array_length(values); i++) {
                assert_int_equal(brood_semaphore_new(&s, values[i], NULL), -EINVAL);
                assert_int_equal(brood_bounded_semaphore_new(&s, values[i]), -EINVAL);
        }
        assert_int_equal(brood_semaphore_new(&s, 1, &(brood_semaphore_options){ .bounded = 1, .events = 1 }), -EINVAL);
        assert_int_equal(brood_semaphore_new_sized(&s, 1, &newer.known, sizeof newer), -E2BIG);
        assert_ptr_equal(s, untouched);
        newer.unknown = 0; /* a newer program that asks for nothing new; an older one, which knows less */
        assert_int_equal(brood_semaphore_new_sized(&s, 1, &newer.known, sizeof newer), 0);
        brood_semaphore_free(s);
        newer.known = (brood_semaphore_options){ .bounded = 1, .events = 1 };
        assert_int_equal(brood_semaphore_new_sized(&s, 1, &newer.known, sizeof(int)), 0);
        assert_int_equal(brood_semaphore_release(s), -EOVERFLOW);

        assert_int_equal(brood_semaphore_new(NULL, 1, NULL), -EINVAL);
        assert_int_equal(brood_bounded_semaphore_new(NULL, 1), -EINVAL);
        assert_int_equal(brood_semaphore_acquire(NULL, 0), -EINVAL);
        assert_int_equal(brood_semaphore_release(NULL), -EINVAL);
        assert_int_equal(brood_semaphore_get_value(NULL), -EINVAL);
        assert_int_equal(brood_semaphore_descriptors(NULL, &fd), -EINVAL);
        assert_int_equal(brood_semaphore_descriptors(s, NULL), -EINVAL);
        assert_int_equal(brood_semaphore_attach(NULL, &fd), -EINVAL);
        assert_int_equal(brood_semaphore_attach(&s, NULL), -EINVAL);
        assert_int_equal(brood_semaphore_get_value(s), 1);
        brood_semaphore_free(s);
}

/* ---- deaths ---- */

struct scene {
        brood_semaphore *semaphore;
        struct stage *stage;
        int acquires, releases;
        bool frees;
};

static int use(void *arg)
{
        struct scene *scene = arg;

        for (int i = 0; i < scene->acquires; i++)
                require_int(brood_semaphore_acquire(scene->semaphore, CHECK_HANG_MS), 0);
        for (int i = 0; i < scene->releases; i++)
                require_int(brood_semaphore_release(scene->semaphore), 0);
        if (scene->frees)
                brood_semaphore_free(scene->semaphore);
        stay(scene->stage);
}

/* What is there when a process has taken and given so many, and is gone. */
static void test_death(void **state)
{
        (void)state;
        static const struct {
                brood_semaphore_options options;
                int value, acquires, releases, before, after;
        } cases[] = {
                { { 0 }, 3, 0, 0, 3, 3 },
                { { 0 }, 3, 2, 0, 1, 3 },
                { { 0 }, 3, 3, 0, 0, 3 },
                { { 0 }, 3, 3, 2, 2, 3 },
                { { 0 }, 3, 2, 2, 3, 3 },
                { { 0 }, 0, 0, 2, 2, 2 }, /* fresh units */
                { { 0 }, 1, 1, 3, 3, 3 },
                { { .bounded = 1 }, 3, 3, 0, 0, 3 },
                { { .bounded = 1 }, 3, 3, 1, 1, 3 },
                { { .events = 1 }, 3, 2, 0, 1, 1 }, /* what was used up is not repeated */
                { { .events = 1 }, 3, 3, 2, 2, 2 },
        };

        for (size_t i = 0; i < array_length(cases); i++)
                for (int frees = 0; frees < 2; frees++) {
                        struct scene scene = { make(cases[i].value, cases[i].options), stage_new(), cases[i].acquires,
                                               cases[i].releases, frees };
                        brood_semaphore *s = scene.semaphore;

                        pid_t pid = start_actor(use, &scene, scene.stage);
                        if (!frees) {
                                assert_int_equal(brood_semaphore_get_value(s), cases[i].before);
                                assert_int_equal(check_kill(pid), -SIGKILL);
                        }
                        /* They are back when somebody has to wait for them; and not more of them. */
                        for (int units = 0; units < cases[i].after; units++)
                                assert_int_equal(brood_semaphore_acquire(s, CHECK_HANG_MS), 0);
                        assert_int_equal(brood_semaphore_acquire(s, 300), -ETIMEDOUT);
                        assert_int_equal(brood_semaphore_get_value(s), 0);
                        if (frees)
                                assert_int_equal(check_kill(pid), -SIGKILL);
                        brood_semaphore_free(s);
                        stage_free(scene.stage);
                }
}

/* A unit that one process took and another gave back: the bound holds also when the first one dies. */
static void test_given_back_by_another(void **state)
{
        (void)state;
        struct scene scene = { make(1, (brood_semaphore_options){ .bounded = 1 }), stage_new(), 1, 0, false };

        pid_t pid = start_actor(use, &scene, scene.stage);
        assert_int_equal(brood_semaphore_release(scene.semaphore), 0);
        assert_int_equal(brood_semaphore_release(scene.semaphore), -EOVERFLOW);
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(brood_semaphore_acquire(scene.semaphore, 0), 0);
        assert_int_equal(brood_semaphore_acquire(scene.semaphore, 300),
                         0); /* the dead one's, which nobody had given back */
        assert_int_equal(brood_semaphore_acquire(scene.semaphore, 300), -ETIMEDOUT);
        brood_semaphore_free(scene.semaphore);
        stage_free(scene.stage);
}

static void test_stopped_is_not_dead(void **state)
{
        (void)state;
        struct scene scene = { make(2, (brood_semaphore_options){ 0 }), stage_new(), 2, 0, false };

        pid_t pid = start_actor(use, &scene, scene.stage);
        stop_actor(pid);
        assert_int_equal(brood_semaphore_acquire(scene.semaphore, 700), -ETIMEDOUT);
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(brood_semaphore_acquire(scene.semaphore, BROOD_FOREVER), 0);
        brood_semaphore_free(scene.semaphore);
        stage_free(scene.stage);
}

/* A child holds nothing of its parent's. */
static int release_in_child(void *arg)
{
        brood_semaphore *s = arg;

        require_int(brood_semaphore_release(s), 0); /* a fresh one: */
        require_int(brood_semaphore_get_value(s), 1);
        brood_semaphore_free(s); /* and with this, nothing goes back */
        return 0;
}

static void test_fork(void **state)
{
        (void)state;
        brood_semaphore *s = make(2, (brood_semaphore_options){ 0 }), *again = NULL;
        int fd;

        for (int i = 0; i < 2; i++)
                assert_int_equal(brood_semaphore_acquire(s, 0), 0);
        check_in_child(release_in_child, s);
        assert_int_equal(brood_semaphore_get_value(s), 1);
        assert_int_equal(brood_semaphore_descriptors(s, &fd), 0);
        assert_int_equal(brood_semaphore_attach(&again, &fd), 0);
        brood_semaphore_free(s);
        assert_int_equal(brood_semaphore_get_value(again), 3);
        brood_semaphore_free(again);
}

/* ---- many ---- */

enum { USERS = 5, UNITS = 2 };

struct room {
        brood_semaphore *semaphore;
        atomic_int *inside, *turns_done;
        int turns;
};

static int enter(void *arg)
{
        struct room *room = arg;

        for (int i = 0; i < room->turns; i++) {
                require_int(brood_semaphore_acquire(room->semaphore, CHECK_HANG_MS), 0);
                require(atomic_fetch_add(room->inside, 1) < UNITS);
                for (int spin = i % 100; spin > 0; spin--)
                        atomic_signal_fence(memory_order_seq_cst);
                atomic_fetch_sub(room->inside, 1);
                require_int(brood_semaphore_release(room->semaphore), 0);
        }
        return 0;
}

static void test_no_more_than_units(void **state)
{
        (void)state;
        for (int processes = 0; processes < 2; processes++) {
                struct stage *stage = stage_new();
                struct room room = { make(UNITS, (brood_semaphore_options){ .bounded = 1 }), &stage->numbers[0],
                                     &stage->numbers[1], support_rounds(2000) };
                struct check_thread threads[USERS];
                pid_t pids[USERS];

                for (int i = 0; i < USERS; i++) {
                        if (processes)
                                pids[i] = check_start(enter, &room);
                        else
                                check_thread_start(&threads[i], enter, &room);
                }
                for (int i = 0; i < USERS; i++)
                        assert_int_equal(processes ? check_wait(pids[i]) : check_thread_join(&threads[i]), 0);
                assert_int_equal(brood_semaphore_get_value(room.semaphore), UNITS);
                brood_semaphore_free(room.semaphore);
                stage_free(stage);
        }
}

/* Units go round among processes of which one after the other is killed; in the end all are there, and no more. */
static int go_round(void *arg)
{
        struct room *room = arg;
        uint64_t random = (uint64_t)getpid();

        for (;;) {
                int held = 0;
                for (uint64_t n = check_random(&random, 4); n > 0; n--)
                        held += brood_semaphore_acquire(room->semaphore, (int)check_random(&random, 2)) == 0;
                for (; held > 0; held--)
                        require_int(brood_semaphore_release(room->semaphore), 0);
                atomic_fetch_add(room->turns_done, 1);
        }
}

static void test_killed_at_work(void **state)
{
        (void)state;
        struct stage *stage = stage_new();
        struct room room = { make(UNITS, (brood_semaphore_options){ .bounded = 1 }), &stage->numbers[0],
                             &stage->numbers[1], 0 };
        pid_t pids[USERS];

        for (int i = 0; i < USERS; i++)
                pids[i] = check_start(go_round, &room);
        for (int round = 0; round < support_rounds(60); round++) {
                int i = (int)support_random(USERS);
                usleep((useconds_t)support_random(3000));
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
                pids[i] = check_start(go_round, &room);
                assert_true(check_reaches(room.turns_done, atomic_load(room.turns_done) + 10, CHECK_HANG_MS));
        }
        for (int i = 0; i < USERS; i++)
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
        for (int i = 0; i < UNITS; i++)
                assert_int_equal(brood_semaphore_acquire(room.semaphore, CHECK_HANG_MS), 0);
        assert_int_equal(brood_semaphore_acquire(room.semaphore, 600), -ETIMEDOUT);
        brood_semaphore_free(room.semaphore);
        stage_free(stage);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_values),
                support_test(test_limits),
                support_test(test_bad_input),
                support_test(test_death),
                support_test(test_given_back_by_another),
                support_test(test_stopped_is_not_dead),
                support_test(test_fork),
                support_test(test_no_more_than_units),
                support_test(test_killed_at_work),
        };
        return support_main(argc, argv, "semaphore", tests, array_length(tests), 120);
}
