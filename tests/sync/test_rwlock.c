/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_rwlock.c: the reader/writer lock: who may be in at once, and what is left of those who died.
 */
#include "actor.h"

#include <brood/rwlock.h>

struct scene {
        brood_rwlock *lock;
        struct stage *stage;
        int reads;
        bool writes, frees;
};

static void begin(struct scene *scene)
{
        *scene = (struct scene){ .stage = stage_new() };
        assert_int_equal(brood_rwlock_new(&scene->lock), 0);
}

static void end(struct scene *scene)
{
        brood_rwlock_free(scene->lock);
        stage_free(scene->stage);
}

static int hold(void *arg)
{
        struct scene *scene = arg;

        for (int i = 0; i < scene->reads; i++)
                require(brood_rwlock_acquire_read(scene->lock, CHECK_HANG_MS) >= 0);
        if (scene->writes)
                require(brood_rwlock_acquire_write(scene->lock, CHECK_HANG_MS) >= 0);
        if (scene->frees)
                brood_rwlock_free(scene->lock);
        stay(scene->stage);
}

static pid_t start_holder(struct scene *scene, int reads, bool writes)
{
        scene->reads = reads;
        scene->writes = writes;
        return start_actor(hold, scene, scene->stage);
}

/* ---- who may do what ---- */

static int misuse(void *arg)
{
        brood_rwlock *lock = arg;
        brood_death death = { 4711, 0 };

        for (int round = 0; round < 2; round++) {
                require_int(brood_rwlock_release(lock), -EPERM);
                require_int(brood_rwlock_consistent(lock), -EPERM);
                require_int(brood_rwlock_death(lock, &death), -EPERM);
                require_int(death.pid, 4711);
                require_int(brood_rwlock_acquire_write(lock, 0), -EAGAIN);
                require_int(brood_rwlock_acquire_write(lock, 1), -ETIMEDOUT);
        }
        return 0;
}

static int read_it(void *arg)
{
        brood_rwlock *lock = arg;

        require_int(brood_rwlock_acquire_read(lock, CHECK_HANG_MS), 0);
        require_int(brood_rwlock_consistent(lock), -EPERM);
        require_int(brood_rwlock_acquire_write(lock, 0), -EAGAIN);
        require_int(brood_rwlock_release(lock), 0);
        require_int(brood_rwlock_release(lock), -EPERM);
        return 0;
}

static void test_exclusion(void **state)
{
        (void)state;
        struct scene scene;
        brood_death death = { 4711, 0 };

        begin(&scene);
        brood_rwlock *lock = scene.lock;
        for (int round = 0; round < 3; round++) {
                assert_int_equal(brood_rwlock_release(lock), -EPERM);
                assert_int_equal(brood_rwlock_acquire_write(lock, round == 0 ? 0 : BROOD_FOREVER), 0);
                assert_int_equal(brood_rwlock_acquire_read(lock, 0), -EAGAIN);
                assert_int_equal(brood_rwlock_acquire_read(lock, 1), -ETIMEDOUT);
                check_in_child(misuse, lock);
                assert_int_equal(brood_rwlock_death(lock, &death), -ENODATA);
                assert_int_equal(brood_rwlock_consistent(lock), 0);
                assert_int_equal(brood_rwlock_release(lock), 0);
                assert_int_equal(brood_rwlock_release(lock), -EPERM);

                for (int i = 0; i < 3; i++)
                        assert_int_equal(brood_rwlock_acquire_read(lock, i % 2 ? 0 : BROOD_FOREVER), 0);
                check_in_child(read_it, lock);
                check_in_child(misuse, lock);
                assert_int_equal(brood_rwlock_death(lock, &death), -ENODATA);
                assert_int_equal(brood_rwlock_consistent(lock), -EPERM);
                for (int i = 0; i < 3; i++) {
                        assert_int_equal(brood_rwlock_acquire_write(lock, 0), -EAGAIN);
                        assert_int_equal(brood_rwlock_release(lock), 0);
                }
                assert_int_equal(brood_rwlock_release(lock), -EPERM);
        }
        assert_int_equal(death.pid, 4711);
        end(&scene);
        brood_rwlock_free(NULL);
}

static void test_null(void **state)
{
        (void)state;
        struct scene scene;
        brood_death death;
        int fd;

        begin(&scene);
        assert_int_equal(brood_rwlock_new(NULL), -EINVAL);
        assert_int_equal(brood_rwlock_acquire_read(NULL, 0), -EINVAL);
        assert_int_equal(brood_rwlock_acquire_write(NULL, 0), -EINVAL);
        assert_int_equal(brood_rwlock_release(NULL), -EINVAL);
        assert_int_equal(brood_rwlock_consistent(NULL), -EINVAL);
        assert_int_equal(brood_rwlock_death(NULL, &death), -EINVAL);
        assert_int_equal(brood_rwlock_death(scene.lock, NULL), -EINVAL);
        assert_int_equal(brood_rwlock_descriptors(NULL, &fd), -EINVAL);
        assert_int_equal(brood_rwlock_descriptors(scene.lock, NULL), -EINVAL);
        assert_int_equal(brood_rwlock_attach(NULL, &fd), -EINVAL);
        assert_int_equal(brood_rwlock_attach(&scene.lock, NULL), -EINVAL);
        end(&scene);
}

static void test_most_readers(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene);
        for (int i = 0; i < BROOD_RWLOCK_READERS_MAX; i++)
                assert_int_equal(brood_rwlock_acquire_read(scene.lock, 0), 0);
        assert_int_equal(brood_rwlock_acquire_read(scene.lock, 0), -EAGAIN);
        assert_int_equal(brood_rwlock_acquire_read(scene.lock, 1), -ETIMEDOUT);
        assert_int_equal(brood_rwlock_acquire_write(scene.lock, 0), -EAGAIN);
        assert_int_equal(brood_rwlock_release(scene.lock), 0);
        assert_int_equal(brood_rwlock_acquire_read(scene.lock, 0), 0);
        for (int i = 0; i < BROOD_RWLOCK_READERS_MAX; i++)
                assert_int_equal(brood_rwlock_release(scene.lock), 0);
        assert_int_equal(brood_rwlock_acquire_write(scene.lock, 0), 0);
        end(&scene);
}

/* ---- the waiting writer ---- */

static int write_it(void *arg)
{
        struct scene *scene = arg;

        reach(scene->stage);
        require_int(brood_rwlock_acquire_write(scene->lock, CHECK_HANG_MS), 0);
        atomic_store(&scene->stage->numbers[0], 1);
        require_int(brood_rwlock_release(scene->lock), 0);
        return 0;
}

static bool keeps_readers_out(void *arg)
{
        int r = brood_rwlock_acquire_read(arg, 0);

        if (r == 0)
                r = brood_rwlock_release(arg) == 0 ? 0 : -EIO;
        return r == -EAGAIN;
}

static void test_waiting_writer(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene);
        assert_int_equal(brood_rwlock_acquire_read(scene.lock, 0), 0);
        /* It keeps new readers out; those who read go on, and leave. */
        pid_t pid = start_actor(write_it, &scene, scene.stage);
        assert_true(support_until(keeps_readers_out, scene.lock, CHECK_HANG_MS));
        assert_int_equal(atomic_load(&scene.stage->numbers[0]), 0);
        assert_int_equal(brood_rwlock_consistent(scene.lock), -EPERM);
        assert_int_equal(brood_rwlock_release(scene.lock), 0);
        assert_int_equal(check_wait(pid), 0);
        assert_int_equal(atomic_load(&scene.stage->numbers[0]), 1);

        /* It gives up in time: they may come again, */
        assert_int_equal(brood_rwlock_acquire_read(scene.lock, 0), 0);
        assert_int_equal(brood_rwlock_acquire_write(scene.lock, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(brood_rwlock_acquire_read(scene.lock, 0), 0);
        assert_int_equal(brood_rwlock_release(scene.lock), 0);

        /* and when it is killed, too; it had changed nothing, so nobody is told of a death. */
        pid = start_actor(write_it, &scene, scene.stage);
        assert_true(support_until(keeps_readers_out, scene.lock, CHECK_HANG_MS));
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(brood_rwlock_acquire_read(scene.lock, BROOD_FOREVER), 0);
        assert_int_equal(brood_rwlock_release(scene.lock), 0);
        pid = start_actor(write_it, &scene, scene.stage);
        assert_true(support_until(keeps_readers_out, scene.lock, CHECK_HANG_MS));
        stop_actor(pid);
        assert_int_equal(brood_rwlock_release(scene.lock), 0); /* and there would be nobody in its way any more */
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(brood_rwlock_acquire_write(scene.lock, BROOD_FOREVER), 0);
        end(&scene);
}

/* ---- deaths ---- */

static void test_dead_readers(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene);
        for (int frees = 0; frees < 2; frees++) {
                scene.frees = frees;
                pid_t one = start_holder(&scene, 1, false), many = start_holder(&scene, 5, false);
                if (!frees) {
                        assert_int_equal(brood_rwlock_acquire_write(scene.lock, 300), -ETIMEDOUT);
                        assert_int_equal(check_kill(many), -SIGKILL);
                        assert_int_equal(brood_rwlock_acquire_write(scene.lock, 300), -ETIMEDOUT);
                        assert_int_equal(check_kill(one), -SIGKILL);
                }
                assert_int_equal(brood_rwlock_acquire_write(scene.lock, BROOD_FOREVER), 0);
                assert_int_equal(brood_rwlock_release(scene.lock), 0);
                if (frees) {
                        assert_int_equal(check_kill(one), -SIGKILL);
                        assert_int_equal(check_kill(many), -SIGKILL);
                }
        }
        end(&scene);
}

static int expect_mark(void *arg)
{
        struct scene *scene = arg;
        brood_death death;

        require_int(brood_rwlock_acquire_read(scene->lock, CHECK_HANG_MS), BROOD_HOLDER_DIED);
        require_int(brood_rwlock_death(scene->lock, &death), 0);
        require_int(death.pid, atomic_load(&scene->stage->numbers[0]));
        require_int(brood_rwlock_consistent(scene->lock), -EPERM); /* a reader has put nothing right */
        require_int(brood_rwlock_release(scene->lock), 0);
        return 0;
}

static void test_dead_writer(void **state)
{
        (void)state;
        for (int how = 0; how < 3; how++) { /* killed; killed and buried; only freed */
                struct scene scene;
                brood_death death = { 0, 0 };

                begin(&scene);
                scene.frees = how == 2;
                pid_t pid = start_holder(&scene, 0, true);
                atomic_store(&scene.stage->numbers[0], (int)pid);
                if (how == 0)
                        kill_unburied(pid);
                else if (how == 1)
                        bury((kill_unburied(pid), pid));
                assert_int_equal(brood_rwlock_acquire_read(scene.lock, BROOD_FOREVER), BROOD_HOLDER_DIED);
                assert_int_equal(brood_rwlock_death(scene.lock, &death), 0);
                assert_int_equal(death.pid, pid);
                assert_int_equal(death.exitcode, how == 0 ? -SIGKILL : BROOD_EXITCODE_UNKNOWN);
                assert_int_equal(brood_rwlock_consistent(scene.lock), -EPERM);
                check_in_child(expect_mark, &scene);
                assert_int_equal(brood_rwlock_release(scene.lock), 0);
                assert_int_equal(brood_rwlock_death(scene.lock, &death), -EPERM);

                assert_int_equal(brood_rwlock_acquire_write(scene.lock, 0), BROOD_HOLDER_DIED);
                assert_int_equal(brood_rwlock_death(scene.lock, &death), 0);
                assert_int_equal(brood_rwlock_release(scene.lock), 0);
                assert_int_equal(brood_rwlock_acquire_write(scene.lock, 0), BROOD_HOLDER_DIED);
                assert_int_equal(brood_rwlock_consistent(scene.lock), 0);
                assert_int_equal(brood_rwlock_death(scene.lock, &death), -ENODATA);
                assert_int_equal(brood_rwlock_release(scene.lock), 0);
                assert_int_equal(brood_rwlock_acquire_read(scene.lock, 0), 0);
                assert_int_equal(brood_rwlock_release(scene.lock), 0);
                if (how == 0)
                        bury(pid);
                else if (how == 2)
                        assert_int_equal(check_kill(pid), -SIGKILL);
                end(&scene);
        }
}

static void test_stopped_is_not_dead(void **state)
{
        (void)state;
        struct scene scene;

        begin(&scene);
        for (int writes = 0; writes < 2; writes++) {
                pid_t pid = start_holder(&scene, !writes, writes);
                stop_actor(pid);
                assert_int_equal(brood_rwlock_acquire_write(scene.lock, 700), -ETIMEDOUT);
                assert_int_equal(check_kill(pid), -SIGKILL);
                assert_int_equal(brood_rwlock_acquire_write(scene.lock, BROOD_FOREVER), writes);
                assert_int_equal(brood_rwlock_consistent(scene.lock), 0);
                assert_int_equal(brood_rwlock_release(scene.lock), 0);
        }
        end(&scene);
}

/* ---- many ---- */

enum { USERS = 5 };

struct books {
        brood_rwlock *lock;
        atomic_int *a, *b, *turns_done;
        int turns;
};

static int use(void *arg)
{
        struct books *books = arg;
        uint64_t random = (uint64_t)gettid();

        for (int i = 0; i < books->turns; i++) {
                bool writes = check_random(&random, 4) == 0;
                int r = writes ? brood_rwlock_acquire_write(books->lock, CHECK_HANG_MS)
                               : brood_rwlock_acquire_read(books->lock, CHECK_HANG_MS);
                require(r >= 0);
                int a = atomic_load_explicit(books->a, memory_order_relaxed),
                    b = atomic_load_explicit(books->b, memory_order_relaxed);
                if (r == 0)
                        require_int(a, b);
                if (writes) {
                        atomic_store_explicit(books->a, a + 1, memory_order_relaxed);
                        for (int spin = i % 50; spin > 0; spin--)
                                atomic_signal_fence(memory_order_seq_cst);
                        atomic_store_explicit(books->b, a + 1, memory_order_relaxed);
                        if (r == BROOD_HOLDER_DIED)
                                require_int(brood_rwlock_consistent(books->lock), 0);
                }
                require_int(brood_rwlock_release(books->lock), 0);
                atomic_fetch_add(books->turns_done, 1);
        }
        return 0;
}

static void begin_books(struct books *books, struct stage *stage, int turns)
{
        *books = (struct books){
                .a = &stage->numbers[0], .b = &stage->numbers[1], .turns_done = &stage->numbers[2], .turns = turns
        };
        assert_int_equal(brood_rwlock_new(&books->lock), 0);
}

static void test_many(void **state)
{
        (void)state;
        for (int processes = 0; processes < 2; processes++) {
                struct stage *stage = stage_new();
                struct books books;
                struct check_thread threads[USERS];
                pid_t pids[USERS];

                begin_books(&books, stage, support_rounds(2000));
                for (int i = 0; i < USERS; i++) {
                        if (processes)
                                pids[i] = check_start(use, &books);
                        else
                                check_thread_start(&threads[i], use, &books);
                }
                for (int i = 0; i < USERS; i++)
                        assert_int_equal(processes ? check_wait(pids[i]) : check_thread_join(&threads[i]), 0);
                assert_int_equal(brood_rwlock_acquire_write(books.lock, 0), 0);
                brood_rwlock_free(books.lock);
                stage_free(stage);
        }
}

static void test_killed_at_work(void **state)
{
        (void)state;
        struct stage *stage = stage_new();
        struct books books;
        pid_t pids[USERS];

        begin_books(&books, stage, INT32_MAX);
        for (int i = 0; i < USERS; i++)
                pids[i] = check_start(use, &books);
        for (int round = 0; round < support_rounds(60); round++) {
                int i = (int)support_random(USERS);
                usleep((useconds_t)support_random(3000));
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
                pids[i] = check_start(use, &books);
                assert_true(check_reaches(books.turns_done, atomic_load(books.turns_done) + 10, CHECK_HANG_MS));
        }
        for (int i = 0; i < USERS; i++)
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
        assert_true(brood_rwlock_acquire_write(books.lock, BROOD_FOREVER) >= 0);
        assert_in_range(atomic_load(books.a) - atomic_load(books.b), 0, 1);
        brood_rwlock_free(books.lock);
        stage_free(stage);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_exclusion),           support_test(test_null),
                support_test(test_most_readers),        support_test(test_waiting_writer),
                support_test(test_dead_readers),        support_test(test_dead_writer),
                support_test(test_stopped_is_not_dead), support_test(test_many),
                support_test(test_killed_at_work),
        };
        return support_main(argc, argv, "rwlock", tests, array_length(tests), 120);
}
