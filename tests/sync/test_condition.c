/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_condition.c: Condition: who is notified, how many, in which order; and no notification dies with its receiver.
 */
#include "actor.h"

#include <brood/condition.h>

struct scene {
        brood_condition *condition;
        struct stage *stage;
        int timeout_ms, times;
};

static void begin(struct scene *scene, brood_lock *lock)
{
        *scene = (struct scene){ .stage = stage_new(), .timeout_ms = BROOD_FOREVER, .times = 1 };
        assert_int_equal(brood_condition_new(&scene->condition, lock), 0);
}

static void end(struct scene *scene)
{
        brood_condition_free(scene->condition);
        stage_free(scene->stage);
}

static int acquire(struct scene *scene)
{
        return brood_condition_acquire(scene->condition, CHECK_HANG_MS);
}

static int release(struct scene *scene)
{
        return brood_condition_release(scene->condition);
}

/* Waits once, and says so with the lock held, so that who gets the lock after that can notify it.  The exit code is 0, or 1
 * (BROOD_HOLDER_DIED), or 100 + errno; numbers[] tells the order in which they came back. */
static int wait_once(void *arg)
{
        struct scene *scene = arg;
        struct stage *stage = scene->stage;

        require_int(acquire(scene), 0);
        for (int i = 1; i < scene->times; i++)
                require_int(acquire(scene), 0);
        reach(stage);
        int r = brood_condition_wait(scene->condition, scene->timeout_ms);
        if (r == -ECANCELED)
                return 100 + ECANCELED;
        atomic_store(&stage->numbers[atomic_fetch_add(&stage->tid, 1)], (int)getpid());
        for (int i = 0; i < scene->times; i++)
                require_int(release(scene), 0);
        require_int(release(scene), -EPERM);
        return r < 0 ? 100 - r : r;
}

/* Start one that waits; when this returns, it can be notified by who gets the lock. */
static pid_t start_waiter(struct scene *scene)
{
        return start_actor(wait_once, scene, scene->stage);
}

static int notify(struct scene *scene, int count)
{
        assert_int_equal(acquire(scene), 0);
        int notified = brood_condition_notify(scene->condition, count);
        assert_int_equal(release(scene), 0);
        return notified;
}

static int notify_all(struct scene *scene)
{
        assert_int_equal(acquire(scene), 0);
        int notified = brood_condition_notify_all(scene->condition);
        assert_int_equal(release(scene), 0);
        return notified;
}

/* ---- arguments ---- */

static bool never(void *arg)
{
        if (arg != NULL)
                atomic_fetch_add((atomic_int *)arg, 1);
        return false;
}

static bool always(void *arg)
{
        if (arg != NULL)
                atomic_fetch_add((atomic_int *)arg, 1);
        return true;
}

static void test_bad_input(void **state)
{
        (void)state;
        struct scene scene;
        int fds[2];

        begin(&scene, NULL);
        brood_condition *c = scene.condition;
        assert_int_equal(brood_condition_new(NULL, NULL), -EINVAL);
        assert_null(brood_condition_lock(NULL));
        assert_int_equal(brood_condition_acquire(NULL, 0), -EINVAL);
        assert_int_equal(brood_condition_release(NULL), -EINVAL);
        assert_int_equal(brood_condition_wait(NULL, 0), -EINVAL);
        assert_int_equal(brood_condition_wait_for(NULL, always, NULL, 0), -EINVAL);
        assert_int_equal(brood_condition_notify(NULL, 1), -EINVAL);
        assert_int_equal(brood_condition_notify_all(NULL), -EINVAL);
        assert_int_equal(brood_condition_descriptors(NULL, fds), -EINVAL);
        assert_int_equal(brood_condition_descriptors(c, NULL), -EINVAL);
        assert_int_equal(brood_condition_attach(NULL, fds, NULL), -EINVAL);
        assert_int_equal(brood_condition_attach(&c, NULL, NULL), -EINVAL);

        for (int held = 0; held < 2; held++) {
                if (held)
                        assert_int_equal(acquire(&scene), 0);
                assert_int_equal(brood_condition_notify(c, -1), -EINVAL);
                assert_int_equal(brood_condition_wait_for(c, NULL, NULL, 0), -EINVAL);
                assert_int_equal(brood_condition_notify(c, 1), held ? 0 : -EPERM);
                assert_int_equal(brood_condition_notify(c, 0), held ? 0 : -EPERM);
                assert_int_equal(brood_condition_notify(c, INT32_MAX), held ? 0 : -EPERM);
                assert_int_equal(brood_condition_notify_all(c), held ? 0 : -EPERM);
                assert_int_equal(brood_condition_wait(c, 0), held ? -EAGAIN : -EPERM);
                assert_int_equal(brood_condition_wait(c, 1), held ? -ETIMEDOUT : -EPERM);
                assert_int_equal(brood_condition_wait_for(c, never, NULL, 1), held ? -ETIMEDOUT : -EPERM);
                assert_int_equal(brood_condition_wait_for(c, always, NULL, 0), held ? 0 : -EPERM);
                assert_int_equal(brood_lock_locked(brood_condition_lock(c)), held);
        }
        assert_int_equal(release(&scene), 0);
        assert_int_equal(release(&scene), -EPERM);
        brood_condition_free(NULL);
        end(&scene);
}

/* ---- who is notified ---- */

static void test_counts(void **state)
{
        (void)state;
        enum { MOST = 5 };
        struct scene scene;

        begin(&scene, NULL);
        for (int waiting = 0; waiting <= MOST; waiting++)
                for (int count = 0; count <= MOST + 1; count++) {
                        pid_t pids[MOST];
                        int expected = count < waiting ? count : waiting;
                        atomic_store(&scene.stage->tid, 0);
                        for (int i = 0; i < waiting; i++)
                                pids[i] = start_waiter(&scene);
                        assert_int_equal(notify(&scene, count), expected);
                        for (int i = 0; i < expected; i++) /* the oldest */
                                assert_int_equal(check_wait(pids[i]), 0);
                        assert_int_equal(atomic_load(&scene.stage->tid), expected);
                        assert_int_equal(notify_all(&scene), waiting - expected);
                        for (int i = expected; i < waiting; i++)
                                assert_int_equal(check_wait(pids[i]), 0);
                        assert_int_equal(notify_all(&scene), 0);
                }
        end(&scene);
}

static void test_order(void **state)
{
        (void)state;
        enum { WAITERS = 4 };
        struct scene scene;
        pid_t pids[WAITERS];

        begin(&scene, NULL);
        for (int i = 0; i < WAITERS; i++)
                pids[i] = start_waiter(&scene);
        for (int i = 0; i < WAITERS; i++) {
                assert_int_equal(notify(&scene, 1), 1);
                assert_int_equal(check_wait(pids[i]), 0);
                assert_int_equal(atomic_load(&scene.stage->numbers[i]), pids[i]);
        }
        end(&scene);
}

/* However often the thread has acquired the RLock, it lets go altogether, and has it so often again. */
static void test_recursion(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, NULL);
        for (scene.times = 1; scene.times <= 4; scene.times++) {
                pid_t pid = start_waiter(&scene);
                assert_int_equal(notify(&scene, 1), 1);
                assert_int_equal(check_wait(pid), 0);
        }
        /* The same when it is not notified. */
        for (int i = 0; i < 3; i++)
                assert_int_equal(acquire(&scene), 0);
        assert_int_equal(brood_condition_wait(scene.condition, 1), -ETIMEDOUT);
        for (int i = 0; i < 3; i++)
                assert_int_equal(release(&scene), 0);
        assert_int_equal(release(&scene), -EPERM);
        end(&scene);
}

/* With a lock that was given: another's, too. */
static void test_given_lock(void **state)
{
        (void)state;
        for (int recursive = 0; recursive < 2; recursive++) {
                struct scene scene, other;
                brood_lock *lock = NULL, *wrong = NULL;
                brood_condition *again = NULL;
                int fds[BROOD_CONDITION_DESCRIPTORS];

                assert_int_equal((recursive ? brood_rlock_new : brood_lock_new)(&lock), 0);
                assert_int_equal(brood_lock_new(&wrong), 0);
                begin(&scene, lock);
                begin(&other, lock); /* two conditions of one lock */
                assert_ptr_equal(brood_condition_lock(scene.condition), lock);
                pid_t pid = start_waiter(&scene);
                assert_int_equal(brood_lock_acquire(lock, CHECK_HANG_MS), 0);
                assert_int_equal(brood_condition_notify(other.condition, 1), 0);
                assert_int_equal(brood_condition_notify(scene.condition, 1), 1);
                assert_int_equal(brood_condition_release(other.condition), 0);
                assert_int_equal(check_wait(pid), 0);

                assert_int_equal(brood_condition_descriptors(scene.condition, fds), 0);
                assert_int_equal(brood_condition_attach(&again, fds, wrong), -EINVAL);
                assert_null(again);
                assert_int_equal(brood_condition_attach(&again, fds, lock), 0);
                assert_ptr_equal(brood_condition_lock(again), lock);
                pid = start_waiter(&scene);
                assert_int_equal(brood_condition_acquire(again, CHECK_HANG_MS), 0);
                assert_int_equal(brood_condition_notify(again, 1), 1);
                assert_int_equal(brood_condition_release(again), 0);
                assert_int_equal(check_wait(pid), 0);
                brood_condition_free(again);
                end(&scene);
                end(&other);
                assert_int_equal(brood_lock_acquire(lock, 0), 0); /* it stays */
                brood_lock_free(lock);
                brood_lock_free(wrong);
        }
}

/* ---- wait_for ---- */

struct sought {
        struct stage *stage;
        int least;
};

static bool is_so_many(void *arg)
{
        struct sought *sought = arg;

        atomic_fetch_add(&sought->stage->numbers[1], 1);
        return atomic_load(&sought->stage->numbers[0]) >= sought->least;
}

static int wait_for_three(void *arg)
{
        struct scene *scene = arg;
        struct sought sought = { scene->stage, 3 };

        require_int(acquire(scene), 0);
        reach(scene->stage);
        require_int(brood_condition_wait_for(scene->condition, is_so_many, &sought, scene->timeout_ms), 0);
        require_int(atomic_load(&scene->stage->numbers[0]), 3);
        require_int(release(scene), 0);
        return 0;
}

static void test_wait_for(void **state)
{
        (void)state;
        struct scene scene;
        atomic_int calls = 0;

        begin(&scene, NULL);
        assert_int_equal(acquire(&scene), 0);
        assert_int_equal(brood_condition_wait_for(scene.condition, always, &calls, BROOD_FOREVER), 0);
        assert_int_equal(calls, 1); /* true at once: nothing is waited for */
        assert_int_equal(brood_condition_wait_for(scene.condition, never, &calls, 0), -EAGAIN);
        assert_in_range(calls, 2, 3);
        assert_int_equal(brood_condition_wait_for(scene.condition, never, &calls, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(release(&scene), 0);

        pid_t pid = start_actor(wait_for_three, &scene, scene.stage);
        for (int i = 1; i <= 3; i++) { /* two times for nothing */
                assert_int_equal(acquire(&scene), 0);
                atomic_store(&scene.stage->numbers[0], i);
                assert_int_equal(brood_condition_notify_all(scene.condition), 1);
                assert_int_equal(release(&scene), 0);
                while (i < 3 && notify(&scene, 0) == 0 && atomic_load(&scene.stage->numbers[1]) <= i)
                        usleep(200);
        }
        assert_int_equal(check_wait(pid), 0);

        /* Nobody notifies, but it is true when the time is up. */
        atomic_store(&scene.stage->numbers[0], 0);
        scene.timeout_ms = 300;
        pid = start_actor(wait_for_three, &scene, scene.stage);
        assert_int_equal(acquire(&scene), 0);
        atomic_store(&scene.stage->numbers[0], 3);
        assert_int_equal(release(&scene), 0);
        assert_int_equal(check_wait(pid), 0);
        end(&scene);
}

/* ---- deaths ---- */

/* A waiter dies: before it is notified, or after, before it has come back. */
static void test_dead_waiter(void **state)
{
        (void)state;
        for (int notified_first = 0; notified_first < 2; notified_first++) {
                struct scene scene;

                begin(&scene, NULL);
                pid_t dead = start_waiter(&scene), other = start_waiter(&scene);
                if (notified_first) {
                        stop_actor(dead);
                        assert_int_equal(notify(&scene, 1), 1);
                        assert_int_equal(check_kill(dead), -SIGKILL);
                } else {
                        assert_int_equal(check_kill(dead), -SIGKILL);
                        assert_in_range(notify(&scene, 1), 1, 1);
                }
                assert_int_equal(check_wait_for(other, CHECK_HANG_MS), 0); /* it passes on */
                assert_int_equal(notify_all(&scene), 0);
                end(&scene);
        }
}

/* The one that was to notify dies with the lock: those who wait are not left waiting. */
static int take_and_stay(void *arg)
{
        struct scene *scene = arg;

        require(acquire(scene) >= 0);
        stay(scene->stage);
}

static void test_dead_holder(void **state)
{
        (void)state;
        struct scene scene;
        brood_death death;

        begin(&scene, NULL);
        pid_t waiters[2] = { start_waiter(&scene), start_waiter(&scene) };
        pid_t holder = start_actor(take_and_stay, &scene, scene.stage);
        assert_int_equal(check_kill(holder), -SIGKILL);
        for (int i = 0; i < 2; i++)
                assert_int_equal(check_wait_for(waiters[i], CHECK_HANG_MS), BROOD_HOLDER_DIED);
        /* As long as the lock is marked, no wait lasts. */
        assert_int_equal(acquire(&scene), BROOD_HOLDER_DIED);
        assert_int_equal(brood_lock_death(brood_condition_lock(scene.condition), &death), 0);
        assert_int_equal(death.pid, holder);
        assert_int_equal(brood_condition_wait(scene.condition, BROOD_FOREVER), BROOD_HOLDER_DIED);
        assert_int_equal(brood_condition_wait_for(scene.condition, never, NULL, BROOD_FOREVER), BROOD_HOLDER_DIED);
        assert_int_equal(brood_lock_consistent(brood_condition_lock(scene.condition)), 0);
        assert_int_equal(brood_condition_wait(scene.condition, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(release(&scene), 0);
        pid_t pid = start_waiter(&scene);
        assert_int_equal(notify(&scene, 1), 1);
        assert_int_equal(check_wait(pid), 0);
        end(&scene);
}

static void test_stopped_is_not_dead(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, NULL);
        pid_t stopped = start_waiter(&scene), other = start_waiter(&scene);
        stop_actor(stopped);
        assert_int_equal(notify(&scene, 1), 1);
        usleep(600000); /* more than two looks for the dead */
        assert_int_equal(waitpid(other, NULL, WNOHANG), 0);
        kill(stopped, SIGCONT);
        assert_int_equal(check_wait(stopped), 0);
        assert_int_equal(notify(&scene, 1), 1);
        assert_int_equal(check_wait(other), 0);
        end(&scene);
}

/* ---- a handle that is freed ---- */

static void *wait_in_thread(void *arg)
{
        return (void *)(intptr_t)wait_once(arg);
}

/* By the thread that has the lock, right after it has notified: nobody waits for that lock for ever, and what the one that was sent
 * away had been told goes to the next one, here in another process. */
static void test_freed_by_the_holder(void **state)
{
        (void)state;
        for (int notified = 0; notified < 2; notified++) {
                struct scene scene, mine;
                brood_lock *lock = NULL;
                int fds[BROOD_CONDITION_DESCRIPTORS];
                pthread_t thread;
                void *result;

                assert_int_equal(brood_rlock_new(&lock), 0);
                begin(&scene, lock);
                mine = scene;
                assert_int_equal(brood_condition_descriptors(scene.condition, fds), 0);
                assert_int_equal(brood_condition_attach(&mine.condition, fds, lock), 0);
                assert_int_equal(pthread_create(&thread, NULL, wait_in_thread, &mine), 0);
                await_reached(scene.stage, 1);
                pid_t other = start_waiter(&scene);
                assert_int_equal(acquire(&scene), 0);
                if (notified)
                        assert_int_equal(brood_condition_notify(scene.condition, 1), 1);
                brood_condition_free(mine.condition);
                assert_int_equal(pthread_join(thread, &result), 0);
                assert_int_equal((intptr_t)result, 100 + ECANCELED);
                if (!notified)
                        assert_int_equal(brood_condition_notify(scene.condition, 1), 1);
                assert_int_equal(release(&scene), 0);
                assert_int_equal(check_wait_for(other, CHECK_HANG_MS), 0);
                assert_int_equal(notify_all(&scene), 0);
                end(&scene);
                brood_lock_free(lock);
        }
}

/* ---- many ---- */

enum { PRODUCERS = 2, CONSUMERS = 3, ROOM = 3 };

/* A buffer with a bound, in memory of the test's own. */
struct buffer {
        brood_lock *lock;
        brood_condition *not_full, *not_empty;
        struct stage *stage; /* numbers: 0 how many are in it, 1 how many went in, 2 how many came out */
        int each;
};

static bool has_room(void *arg)
{
        return atomic_load(&((struct buffer *)arg)->stage->numbers[0]) < ROOM;
}

static bool has_one(void *arg)
{
        struct buffer *buffer = arg;

        return atomic_load(&buffer->stage->numbers[0]) > 0 ||
               atomic_load(&buffer->stage->numbers[1]) == PRODUCERS * buffer->each;
}

static int produce(void *arg)
{
        struct buffer *buffer = arg;
        atomic_int *numbers = buffer->stage->numbers;

        for (int i = 0; i < buffer->each; i++) {
                require_int(brood_lock_acquire(buffer->lock, CHECK_HANG_MS), 0);
                require_int(brood_condition_wait_for(buffer->not_full, has_room, buffer, CHECK_HANG_MS), 0);
                require(atomic_fetch_add(&numbers[0], 1) < ROOM);
                bool last = atomic_fetch_add(&numbers[1], 1) + 1 == PRODUCERS * buffer->each;
                require(brood_condition_notify(buffer->not_empty, last ? INT32_MAX : 1) >= 0);
                require_int(brood_lock_release(buffer->lock), 0);
        }
        return 0;
}

static int consume(void *arg)
{
        struct buffer *buffer = arg;
        atomic_int *numbers = buffer->stage->numbers;

        for (;;) {
                require_int(brood_lock_acquire(buffer->lock, CHECK_HANG_MS), 0);
                require_int(brood_condition_wait_for(buffer->not_empty, has_one, buffer, CHECK_HANG_MS), 0);
                bool got = atomic_load(&numbers[0]) > 0;
                if (got) {
                        atomic_fetch_sub(&numbers[0], 1);
                        atomic_fetch_add(&numbers[2], 1);
                        require(brood_condition_notify(buffer->not_full, 1) >= 0);
                }
                require_int(brood_lock_release(buffer->lock), 0);
                if (!got)
                        return 0;
        }
}

static void test_bounded_buffer(void **state)
{
        (void)state;
        for (int processes = 0; processes < 2; processes++) {
                struct buffer buffer = { .stage = stage_new(), .each = support_rounds(1000) };
                struct check_thread threads[PRODUCERS + CONSUMERS];
                pid_t pids[PRODUCERS + CONSUMERS];

                assert_int_equal(brood_rlock_new(&buffer.lock), 0);
                assert_int_equal(brood_condition_new(&buffer.not_full, buffer.lock), 0);
                assert_int_equal(brood_condition_new(&buffer.not_empty, buffer.lock), 0);
                for (int i = 0; i < PRODUCERS + CONSUMERS; i++) {
                        int (*function)(void *) = i < PRODUCERS ? produce : consume;
                        if (processes)
                                pids[i] = check_start(function, &buffer);
                        else
                                check_thread_start(&threads[i], function, &buffer);
                }
                for (int i = 0; i < PRODUCERS + CONSUMERS; i++)
                        assert_int_equal(processes ? check_wait(pids[i]) : check_thread_join(&threads[i]), 0);
                assert_int_equal(atomic_load(&buffer.stage->numbers[0]), 0);
                assert_int_equal(atomic_load(&buffer.stage->numbers[2]), PRODUCERS * buffer.each);
                brood_condition_free(buffer.not_full);
                brood_condition_free(buffer.not_empty);
                brood_lock_free(buffer.lock);
                stage_free(buffer.stage);
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_bad_input),
                support_test(test_counts),
                support_test(test_order),
                support_test(test_recursion),
                support_test(test_given_lock),
                support_test(test_wait_for),
                support_test(test_dead_waiter),
                support_test(test_dead_holder),
                support_test(test_stopped_is_not_dead),
                support_test(test_freed_by_the_holder),
                support_test(test_bounded_buffer),
        };
        return support_main(argc, argv, "condition", tests, array_length(tests), 120);
}
