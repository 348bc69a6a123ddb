/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_lock.c: Lock and RLock: who may do what, and what is told of a holder that died.
 */
#include "actor.h"

#include <brood/lock.h>

static brood_lock *make(bool recursive)
{
        brood_lock *lock = NULL;
        assert_int_equal((recursive ? brood_rlock_new : brood_lock_new)(&lock), 0);
        return lock;
}

struct scene {
        brood_lock *lock;
        struct stage *stage;
        int how;
};

static void begin(struct scene *scene, bool recursive)
{
        *scene = (struct scene){ .lock = make(recursive), .stage = stage_new() };
}

static void end(struct scene *scene)
{
        brood_lock_free(scene->lock);
        stage_free(scene->stage);
}

/* ---- who may do what ---- */

static int misuse(void *arg)
{
        brood_lock *lock = arg;
        brood_death death = { 4711, 4711 };

        /* Before and after the process, or the thread, has become known to the lock. */
        for (int round = 0; round < 2; round++) {
                require_int(brood_lock_release(lock), -EPERM);
                require_int(brood_lock_consistent(lock), -EPERM);
                require_int(brood_lock_death(lock, &death), -EPERM);
                require_int(death.pid, 4711);
                require_int(brood_lock_locked(lock), 1);
                require_int(brood_lock_acquire(lock, 0), -EAGAIN);
                require_int(brood_lock_acquire(lock, 1), -ETIMEDOUT);
        }
        return 0;
}

static void test_lock(void **state)
{
        (void)state;
        brood_lock *lock = make(false);
        brood_death death = { 4711, 4711 };

        for (int round = 0; round < 3; round++) {
                assert_int_equal(brood_lock_locked(lock), 0);
                assert_int_equal(brood_lock_release(lock), -EPERM);
                assert_int_equal(brood_lock_consistent(lock), -EPERM);
                assert_int_equal(brood_lock_death(lock, &death), -EPERM);
                assert_int_equal(brood_lock_locked(lock), 0);
                assert_int_equal(brood_lock_acquire(lock, round == 0 ? 0 : round == 1 ? SHORT_MS : BROOD_FOREVER), 0);
                assert_int_equal(brood_lock_locked(lock), 1);
                assert_int_equal(brood_lock_acquire(lock, 0), -EAGAIN); /* not recursive */
                assert_int_equal(brood_lock_acquire(lock, SHORT_MS), -ETIMEDOUT);
                assert_int_equal(brood_lock_death(lock, &death), -ENODATA);
                assert_int_equal(brood_lock_consistent(lock), 0);
                check_in_child(misuse, lock);
                assert_int_equal(brood_lock_locked(lock), 1);
                assert_int_equal(brood_lock_release(lock), 0);
        }
        assert_int_equal(death.pid, 4711);
        brood_lock_free(lock);
        brood_lock_free(NULL);
}

static void test_null(void **state)
{
        (void)state;
        brood_lock *lock = make(false);
        brood_death death;
        int fd;

        assert_int_equal(brood_lock_new(NULL), -EINVAL);
        assert_int_equal(brood_rlock_new(NULL), -EINVAL);
        assert_int_equal(brood_lock_acquire(NULL, 0), -EINVAL);
        assert_int_equal(brood_lock_release(NULL), -EINVAL);
        assert_int_equal(brood_lock_locked(NULL), -EINVAL);
        assert_int_equal(brood_lock_consistent(NULL), -EINVAL);
        assert_int_equal(brood_lock_death(NULL, &death), -EINVAL);
        assert_int_equal(brood_lock_death(lock, NULL), -EINVAL);
        assert_int_equal(brood_lock_descriptors(NULL, &fd), -EINVAL);
        assert_int_equal(brood_lock_descriptors(lock, NULL), -EINVAL);
        assert_int_equal(brood_lock_attach(NULL, &fd), -EINVAL);
        assert_int_equal(brood_lock_attach(&lock, NULL), -EINVAL);
        assert_int_equal(brood_lock_acquire(lock, 0), 0);
        brood_lock_free(lock);
}

static int release_it(void *arg)
{
        return -brood_lock_release(arg);
}

/* A Lock is its process's, an RLock its thread's. */
static void test_threads_of_the_holder(void **state)
{
        (void)state;
        struct check_thread thread;
        brood_lock *lock = make(false), *rlock = make(true);

        assert_int_equal(brood_lock_acquire(lock, 0), 0);
        check_thread_start(&thread, release_it, lock);
        assert_int_equal(check_thread_join(&thread), 0);
        assert_int_equal(brood_lock_locked(lock), 0);

        assert_int_equal(brood_lock_acquire(rlock, 0), 0);
        check_thread_start(&thread, misuse, rlock);
        assert_int_equal(check_thread_join(&thread), 0);
        assert_int_equal(brood_lock_release(rlock), 0);
        brood_lock_free(lock);
        brood_lock_free(rlock);
}

static void test_recursion(void **state)
{
        (void)state;
        brood_lock *lock = make(true);

        for (int depth = 1; depth <= 5; depth++) {
                for (int i = 0; i < depth; i++)
                        assert_int_equal(brood_lock_acquire(lock, i % 2 ? 0 : BROOD_FOREVER), 0);
                for (int i = 0; i < depth; i++) {
                        check_in_child(misuse, lock);
                        assert_int_equal(brood_lock_locked(lock), 1);
                        assert_int_equal(brood_lock_release(lock), 0);
                }
                assert_int_equal(brood_lock_locked(lock), 0);
                assert_int_equal(brood_lock_release(lock), -EPERM);
        }
        brood_lock_free(lock);
}

/* A child takes its parent's RLock for its own in no way: neither what the parent held, nor how often. */
static int recurse_in_child(void *arg)
{
        struct scene *scene = arg;

        require_int(misuse(scene->lock), 0);
        reach(scene->stage);
        require_int(brood_lock_acquire(scene->lock, CHECK_HANG_MS), 0);
        require_int(brood_lock_acquire(scene->lock, 0), 0);
        require_int(brood_lock_release(scene->lock), 0);
        require_int(brood_lock_locked(scene->lock), 1);
        require_int(brood_lock_release(scene->lock), 0);
        require_int(brood_lock_release(scene->lock), -EPERM);
        brood_lock_free(scene->lock);
        return 0;
}

static void test_fork_while_held(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, true);
        for (int i = 0; i < 3; i++)
                assert_int_equal(brood_lock_acquire(scene.lock, 0), 0);
        pid_t pid = start_actor(recurse_in_child, &scene, scene.stage);
        for (int i = 0; i < 3; i++)
                assert_int_equal(brood_lock_release(scene.lock), 0);
        assert_int_equal(check_wait(pid), 0);
        end(&scene);
}

/* ---- deaths ---- */

enum { BY_SIGNAL, BY_EXIT, REAPED, BY_FREE, WAYS };

static int die_with_it(void *arg)
{
        struct scene *scene = arg;

        require(brood_lock_acquire(scene->lock, CHECK_HANG_MS) >= 0);
        if (scene->how == BY_EXIT) {
                reach(scene->stage);
                _exit(7);
        }
        if (scene->how == BY_FREE)
                brood_lock_free(scene->lock);
        stay(scene->stage);
}

static void test_death(void **state)
{
        (void)state;
        for (int recursive = 0; recursive < 2; recursive++)
                for (int how = 0; how < WAYS; how++) {
                        static const int codes[] = { -SIGKILL, 7, BROOD_EXITCODE_UNKNOWN, BROOD_EXITCODE_UNKNOWN };
                        struct scene scene;
                        brood_death death = { 0, 0 };

                        begin(&scene, recursive);
                        scene.how = how;
                        pid_t pid = start_actor(die_with_it, &scene, scene.stage);
                        if (how == BY_SIGNAL)
                                kill_unburied(pid);
                        else if (how == BY_EXIT)
                                assert_true(support_process_gone(pid, CHECK_HANG_MS));
                        else if (how == REAPED)
                                assert_int_equal(check_kill(pid), -SIGKILL);
                        assert_int_equal(brood_lock_acquire(scene.lock, BROOD_FOREVER), BROOD_HOLDER_DIED);
                        for (int round = 0; round < 3; round++) {
                                assert_int_equal(brood_lock_death(scene.lock, &death), 0);
                                assert_int_equal(death.pid, pid);
                                assert_int_equal(death.exitcode, codes[how]);
                                if (recursive) { /* how often the dead one had it is gone with it */
                                        assert_int_equal(brood_lock_acquire(scene.lock, 0), BROOD_HOLDER_DIED);
                                        assert_int_equal(brood_lock_release(scene.lock), 0);
                                }
                                assert_int_equal(brood_lock_release(scene.lock), 0);
                                assert_int_equal(brood_lock_locked(scene.lock), 0);
                                assert_int_equal(brood_lock_acquire(scene.lock, 0), BROOD_HOLDER_DIED);
                        }
                        assert_int_equal(brood_lock_consistent(scene.lock), 0);
                        assert_int_equal(brood_lock_death(scene.lock, &death), -ENODATA);
                        assert_int_equal(brood_lock_release(scene.lock), 0);
                        assert_int_equal(brood_lock_acquire(scene.lock, 0), 0);
                        if (how == BY_FREE)
                                assert_int_equal(check_kill(pid), -SIGKILL);
                        else if (how != REAPED)
                                assert_int_equal(check_wait(pid), codes[how]);
                        end(&scene);
                }
}

/* Those who sleep learn of it, one after the other, and the last death is the one that is told. */
static int wait_and_die(void *arg)
{
        struct scene *scene = arg;
        brood_death death;

        require_int(brood_lock_acquire(scene->lock, BROOD_FOREVER), BROOD_HOLDER_DIED);
        require_int(brood_lock_death(scene->lock, &death), 0);
        require_int(death.pid, atomic_load(&scene->stage->numbers[0]));
        atomic_store(&scene->stage->numbers[0], (int)getpid());
        stay(scene->stage);
}

static void test_deaths_in_a_row(void **state)
{
        (void)state;
        enum { WAITERS = 3 };
        struct scene scene;

        begin(&scene, false);
        atomic_store(&scene.stage->numbers[0], (int)start_actor(die_with_it, &scene, scene.stage));
        for (int i = 0; i < WAITERS; i++)
                assert_true(check_asleep(check_start(wait_and_die, &scene)));
        for (int i = 0; i <= WAITERS; i++) {
                assert_int_equal(check_kill(atomic_load(&scene.stage->numbers[0])), -SIGKILL);
                if (i < WAITERS)
                        await_reached(scene.stage, i + 2);
        }
        end(&scene);
}

/* One that is killed while it waits takes nothing with it. */
static int only_wait(void *arg)
{
        struct scene *scene = arg;

        reach(scene->stage);
        brood_lock_acquire(scene->lock, BROOD_FOREVER);
        return 1;
}

static void test_killed_in_a_wait(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, false);
        assert_int_equal(brood_lock_acquire(scene.lock, 0), 0);
        pid_t pid = start_actor(only_wait, &scene, scene.stage);
        assert_true(check_asleep(pid));
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(brood_lock_release(scene.lock), 0);
        assert_int_equal(brood_lock_acquire(scene.lock, 0), 0);
        end(&scene);
}

static void test_stopped_is_not_dead(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene, false);
        pid_t pid = start_actor(die_with_it, &scene, scene.stage);
        stop_actor(pid);
        assert_int_equal(brood_lock_acquire(scene.lock, 700), -ETIMEDOUT); /* two looks for the dead, and more */
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(brood_lock_acquire(scene.lock, BROOD_FOREVER), BROOD_HOLDER_DIED);
        end(&scene);
}

/* ---- many ---- */

enum { USERS = 4 };

/* Two numbers that are equal, except under the lock. */
struct books {
        brood_lock *lock;
        atomic_int *a, *b;
        atomic_int *repaired;
        int turns;
};

static int keep_books(void *arg)
{
        struct books *books = arg;

        for (int i = 0; i < books->turns; i++) {
                int r = brood_lock_acquire(books->lock, i % 7 == 0 ? 1 : CHECK_HANG_MS);
                if (r == -ETIMEDOUT && i % 7 == 0)
                        continue;
                require(r >= 0);
                int a = atomic_load_explicit(books->a, memory_order_relaxed),
                    b = atomic_load_explicit(books->b, memory_order_relaxed);
                if (r == BROOD_HOLDER_DIED) {
                        require(a == b || a == b + 1);
                        atomic_store_explicit(books->b, a, memory_order_relaxed);
                        require_int(brood_lock_consistent(books->lock), 0);
                        atomic_fetch_add(books->repaired, 1);
                } else {
                        require_int(a, b);
                }
                atomic_store_explicit(books->a, a + 1, memory_order_relaxed);
                for (int spin = i % 50; spin > 0; spin--)
                        atomic_signal_fence(memory_order_seq_cst);
                atomic_store_explicit(books->b, a + 1, memory_order_relaxed);
                require_int(brood_lock_release(books->lock), 0);
        }
        return 0;
}

static void test_mutual_exclusion(void **state)
{
        (void)state;
        for (int how = 0; how < 4; how++) {
                struct stage *stage = stage_new();
                struct books books = { make(how % 2), &stage->numbers[0], &stage->numbers[1], &stage->numbers[2],
                                       support_rounds(3000) };
                struct check_thread threads[USERS];
                pid_t pids[USERS];

                for (int i = 0; i < USERS; i++) {
                        if (how / 2)
                                pids[i] = check_start(keep_books, &books);
                        else
                                check_thread_start(&threads[i], keep_books, &books);
                }
                for (int i = 0; i < USERS; i++)
                        assert_int_equal(how / 2 ? check_wait(pids[i]) : check_thread_join(&threads[i]), 0);
                assert_int_equal(atomic_load(books.a), atomic_load(books.b));
                assert_int_equal(atomic_load(books.repaired), 0);
                brood_lock_free(books.lock);
                stage_free(stage);
        }
}

static void test_killed_at_work(void **state)
{
        (void)state;
        struct stage *stage = stage_new();
        struct books books = { make(false), &stage->numbers[0], &stage->numbers[1], &stage->numbers[2], INT32_MAX };
        pid_t pids[USERS];

        for (int i = 0; i < USERS; i++)
                pids[i] = check_start(keep_books, &books);
        for (int round = 0; round < support_rounds(60); round++) {
                int i = (int)support_random(USERS), before = atomic_load(books.a);
                usleep((useconds_t)support_random(3000));
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
                pids[i] = check_start(keep_books, &books);
                assert_true(check_reaches(books.a, before + 1, CHECK_HANG_MS));
        }
        for (int i = 0; i < USERS; i++)
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
        assert_true(brood_lock_acquire(books.lock, BROOD_FOREVER) >= 0);
        assert_in_range(atomic_load(books.a) - atomic_load(books.b), 0, 1);
        brood_lock_free(books.lock);
        stage_free(stage);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_lock),
                support_test(test_null),
                support_test(test_threads_of_the_holder),
                support_test(test_recursion),
                support_test(test_fork_while_held),
                support_test(test_death),
                support_test(test_deaths_in_a_row),
                support_test(test_killed_in_a_wait),
                support_test(test_stopped_is_not_dead),
                support_test(test_mutual_exclusion),
                support_test(test_killed_at_work),
        };
        return support_main(argc, argv, "lock", tests, array_length(tests), 120);
}
