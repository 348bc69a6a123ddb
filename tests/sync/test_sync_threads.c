/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_sync_threads.c: what one thread has written before it lets go, another reads after it has got hold: in plain
 * memory, where ThreadSanitizer can see whether anything has ordered the two.
 */
#include "check.h"

#include <brood/brood.h>

enum { THREADS = 4, CELLS = 8 };

struct scene {
        brood_lock *lock, *rlock;
        brood_rwlock *rwlock;
        brood_semaphore *semaphore;
        brood_condition *condition;
        brood_event *event;
        brood_barrier *barrier;
        int rounds, turn, read_sum;
        int cells[CELLS]; /* all the same, whenever nobody is at work on them */
        atomic_int number;
};

static int change(struct scene *scene)
{
        for (int i = 1; i < CELLS; i++)
                require_int(scene->cells[i], scene->cells[0]);
        for (int i = 0; i < CELLS; i++)
                scene->cells[i]++;
        return 0;
}

static int run(int (*function)(void *arg), struct scene *scene)
{
        struct check_thread threads[THREADS];
        int failed = 0;

        scene->rounds = support_rounds(200);
        for (int i = 0; i < THREADS; i++)
                check_thread_start(&threads[i], function, scene);
        for (int i = 0; i < THREADS; i++)
                failed |= check_thread_join(&threads[i]);
        return failed;
}

static int use_lock(void *arg)
{
        struct scene *scene = arg;

        for (int i = 0; i < scene->rounds; i++) {
                require_int(brood_lock_acquire(scene->lock, 2 * CHECK_HANG_MS), 0);
                require_int(change(scene), 0);
                require_int(brood_lock_release(scene->lock), 0);
        }
        return 0;
}

static int use_rlock(void *arg)
{
        struct scene *scene = arg;

        for (int i = 0; i < scene->rounds; i++) {
                for (int depth = 0; depth <= i % 3; depth++)
                        require_int(brood_lock_acquire(scene->rlock, 2 * CHECK_HANG_MS), 0);
                require_int(change(scene), 0);
                for (int depth = 0; depth <= i % 3; depth++)
                        require_int(brood_lock_release(scene->rlock), 0);
                if (i % 5 == 0)
                        require_int(brood_lock_release(scene->rlock), -EPERM);
        }
        return 0;
}

static int use_semaphore(void *arg)
{
        struct scene *scene = arg;

        for (int i = 0; i < scene->rounds; i++) {
                require_int(brood_semaphore_acquire(scene->semaphore, 2 * CHECK_HANG_MS), 0);
                require_int(change(scene), 0);
                require_int(brood_semaphore_release(scene->semaphore), 0);
        }
        return 0;
}

static int use_rwlock(void *arg)
{
        struct scene *scene = arg;

        for (int i = 0; i < scene->rounds; i++) {
                if (i % 3 == 0) {
                        require_int(brood_rwlock_acquire_write(scene->rwlock, 2 * CHECK_HANG_MS), 0);
                        require_int(change(scene), 0);
                } else {
                        require_int(brood_rwlock_acquire_read(scene->rwlock, 2 * CHECK_HANG_MS), 0);
                        for (int c = 1; c < CELLS; c++)
                                require_int(scene->cells[c], scene->cells[0]);
                }
                require_int(brood_rwlock_release(scene->rwlock), 0);
        }
        return 0;
}

struct place {
        struct scene *scene;
        int number;
};

static bool is_my_turn(void *arg)
{
        const struct place *place = arg;

        return place->scene->turn % THREADS == place->number;
}

/* One after the other. */
static int use_condition(void *arg)
{
        struct scene *scene = arg;
        struct place place = { scene, atomic_fetch_add(&scene->number, 1) };

        for (int i = 0; i < scene->rounds; i++) {
                require_int(brood_condition_acquire(scene->condition, 2 * CHECK_HANG_MS), 0);
                require_int(brood_condition_wait_for(scene->condition, is_my_turn, &place, 2 * CHECK_HANG_MS), 0);
                require_int(change(scene), 0);
                scene->turn++;
                require(brood_condition_notify_all(scene->condition) >= 0);
                require_int(brood_condition_release(scene->condition), 0);
        }
        return 0;
}

static int act(void *arg)
{
        return change(arg);
}

/* The action writes; after it, all read. */
static int use_barrier(void *arg)
{
        struct scene *scene = arg;

        for (int i = 0; i < scene->rounds; i++) {
                int r = brood_barrier_wait(scene->barrier, 2 * CHECK_HANG_MS);
                require(r >= 0 && r < THREADS);
                for (int c = 0; c < CELLS; c++)
                        require_int(scene->cells[c], i + 1);
        }
        return 0;
}

/* One writes and sets; the others wait and read. */
static int use_event(void *arg)
{
        struct scene *scene = arg;

        if (atomic_fetch_add(&scene->number, 1) == THREADS - 1) {
                require_int(change(scene), 0);
                require_int(brood_event_set(scene->event), 0);
        }
        require_int(brood_event_wait(scene->event, 2 * CHECK_HANG_MS), 0);
        for (int c = 0; c < CELLS; c++)
                require_int(scene->cells[c], 1);
        return 0;
}

static void test_order(void **state)
{
        (void)state;
        struct scene scene = { 0 };

        assert_int_equal(brood_lock_new(&scene.lock), 0);
        assert_int_equal(brood_rlock_new(&scene.rlock), 0);
        assert_int_equal(brood_rwlock_new(&scene.rwlock), 0);
        assert_int_equal(brood_bounded_semaphore_new(&scene.semaphore, 1), 0);
        assert_int_equal(brood_condition_new(&scene.condition, NULL), 0);
        assert_int_equal(run(use_lock, &scene), 0);
        assert_int_equal(run(use_rlock, &scene), 0);
        assert_int_equal(run(use_semaphore, &scene), 0);
        assert_int_equal(run(use_rwlock, &scene), 0);
        assert_int_equal(run(use_condition, &scene), 0);
        assert_int_equal(scene.cells[0], 4 * THREADS * scene.rounds + THREADS * ((scene.rounds + 2) / 3));
        brood_lock_free(scene.lock);
        brood_lock_free(scene.rlock);
        brood_rwlock_free(scene.rwlock);
        brood_semaphore_free(scene.semaphore);
        brood_condition_free(scene.condition);
}

static void test_order_of_barrier(void **state)
{
        (void)state;
        struct scene scene = { 0 };

        assert_int_equal(
            brood_barrier_new(&scene.barrier, THREADS, &(brood_barrier_options){ .action = act, .arg = &scene }), 0);
        assert_int_equal(run(use_barrier, &scene), 0);
        brood_barrier_free(scene.barrier);
}

static void test_order_of_event(void **state)
{
        (void)state;
        for (int round = 0; round < support_rounds(30); round++) {
                struct scene scene = { 0 };

                assert_int_equal(brood_event_new(&scene.event), 0);
                assert_int_equal(run(use_event, &scene), 0);
                brood_event_free(scene.event);
        }
}

/* ---- a handle that one thread frees while others wait ---- */

/* The thread ids of those who are about to wait. */
static atomic_int tids[THREADS], tid_count;

static void come(void)
{
        atomic_store(&tids[atomic_fetch_add(&tid_count, 1)], (int)gettid());
}

static int wait_in_lock(void *arg)
{
        come();
        return -brood_lock_acquire(arg, BROOD_FOREVER);
}

static int wait_in_condition(void *arg)
{
        require_int(brood_condition_acquire(arg, BROOD_FOREVER), 0);
        come();
        return -brood_condition_wait(arg, BROOD_FOREVER);
}

static int wait_in_barrier(void *arg)
{
        come();
        return -brood_barrier_wait(arg, BROOD_FOREVER);
}

static int wait_in_rwlock(void *arg)
{
        come();
        return -brood_rwlock_acquire_write(arg, BROOD_FOREVER);
}

static void start_waiters(struct check_thread threads[THREADS], int (*function)(void *), void *object)
{
        atomic_store(&tid_count, 0);
        for (int i = 0; i < THREADS; i++)
                atomic_store(&tids[i], 0);
        for (int i = 0; i < THREADS; i++)
                check_thread_start(&threads[i], function, object);
        for (int i = 0; i < THREADS; i++) {
                assert_true(check_reaches(&tids[i], 1, CHECK_HANG_MS));
                assert_true(check_asleep(atomic_load(&tids[i])));
        }
}

static void join_waiters(struct check_thread threads[THREADS])
{
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(check_thread_join(&threads[i]), ECANCELED);
}

static void test_free_under_waiters(void **state)
{
        (void)state;
        for (int round = 0; round < support_rounds(5); round++) {
                struct check_thread threads[THREADS];
                brood_lock *lock = NULL;
                brood_condition *condition = NULL;
                brood_barrier *barrier = NULL;
                brood_rwlock *rwlock = NULL;

                assert_int_equal(brood_rlock_new(&lock), 0);
                assert_int_equal(brood_lock_acquire(lock, 0), 0);
                start_waiters(threads, wait_in_lock, lock);
                brood_lock_free(lock);
                join_waiters(threads);

                assert_int_equal(brood_condition_new(&condition, NULL), 0);
                start_waiters(threads, wait_in_condition, condition);
                brood_condition_free(condition);
                join_waiters(threads);

                assert_int_equal(brood_barrier_new(&barrier, THREADS + 1, NULL), 0);
                start_waiters(threads, wait_in_barrier, barrier);
                brood_barrier_free(barrier);
                join_waiters(threads);

                assert_int_equal(brood_rwlock_new(&rwlock), 0);
                assert_int_equal(brood_rwlock_acquire_read(rwlock, 0), 0);
                start_waiters(threads, wait_in_rwlock, rwlock);
                brood_rwlock_free(rwlock);
                join_waiters(threads);
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_order),
                support_test(test_order_of_barrier),
                support_test(test_order_of_event),
                support_test(test_free_under_waiters),
        };
        return support_main(argc, argv, "sync threads", tests, array_length(tests), 60);
}
