/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_event.c: Event: no set is missed by who waits, and the descriptor says what the flag says.
 */
#include "actor.h"

#include <brood/event.h>

#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>

static brood_event *make(void)
{
        brood_event *event = NULL;
        assert_int_equal(brood_event_new(&event), 0);
        return event;
}

static int readable(int fd, int timeout_ms)
{
        return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, timeout_ms);
}

static void test_flag(void **state)
{
        (void)state;
        brood_event *event = make();

        for (int round = 0; round < 3; round++) {
                for (int i = 0; i < 2; i++) { /* the second time it does nothing */
                        assert_int_equal(brood_event_clear(event), 0);
                        assert_int_equal(brood_event_is_set(event), 0);
                        assert_int_equal(brood_event_wait(event, 0), -EAGAIN);
                        assert_int_equal(brood_event_wait(event, 1), -ETIMEDOUT);
                }
                for (int i = 0; i < 2; i++) {
                        assert_int_equal(brood_event_set(event), 0);
                        assert_int_equal(brood_event_is_set(event), 1);
                        assert_int_equal(brood_event_wait(event, 0), 0);
                        assert_int_equal(brood_event_wait(event, BROOD_FOREVER), 0); /* takes nothing away */
                }
        }
        brood_event_free(event);
        brood_event_free(NULL);
}

static void test_null(void **state)
{
        (void)state;
        brood_event *event = make();
        int fds[2];

        assert_int_equal(brood_event_new(NULL), -EINVAL);
        assert_int_equal(brood_event_set(NULL), -EINVAL);
        assert_int_equal(brood_event_clear(NULL), -EINVAL);
        assert_int_equal(brood_event_is_set(NULL), -EINVAL);
        assert_int_equal(brood_event_wait(NULL, 0), -EINVAL);
        assert_int_equal(brood_event_fileno(NULL), -EINVAL);
        assert_int_equal(brood_event_descriptors(NULL, fds), -EINVAL);
        assert_int_equal(brood_event_descriptors(event, NULL), -EINVAL);
        assert_int_equal(brood_event_attach(NULL, fds), -EINVAL);
        assert_int_equal(brood_event_attach(&event, NULL), -EINVAL);
        assert_int_equal(brood_event_is_set(event), 0);
        brood_event_free(event);
}

/* ---- races ---- */

struct scene {
        brood_event *event;
        struct stage *stage;
        int rounds;
};

static int wait_rounds(void *arg)
{
        struct scene *scene = arg;
        atomic_int *tid = &scene->stage->numbers[atomic_fetch_add(&scene->stage->tid, 1)];

        for (int i = 0; i < scene->rounds; i++) {
                atomic_store(tid, (int)gettid());
                reach(scene->stage);
                require_int(brood_event_wait(scene->event, 3 * CHECK_HANG_MS), 0);
                await_go(scene->stage, i + 1);
        }
        return 0;
}

/* Who waits when it is set is released, though it is clear again long before that one has looked. */
static void test_set_and_clear(void **state)
{
        (void)state;
        enum { WAITERS = 3 };

        for (int processes = 0; processes < 2; processes++) {
                struct scene scene = { make(), stage_new(), support_rounds(50) };
                struct check_thread threads[WAITERS];
                pid_t pids[WAITERS];

                for (int i = 0; i < WAITERS; i++) {
                        if (processes)
                                pids[i] = check_start(wait_rounds, &scene);
                        else
                                check_thread_start(&threads[i], wait_rounds, &scene);
                }
                for (int round = 0; round < scene.rounds; round++) {
                        await_reached(scene.stage, WAITERS * (round + 1));
                        for (int i = 0; i < WAITERS; i++)
                                assert_true(check_asleep(atomic_load(&scene.stage->numbers[i])));
                        assert_int_equal(brood_event_set(scene.event), 0);
                        assert_int_equal(brood_event_clear(scene.event), 0);
                        atomic_store(&scene.stage->go, round + 1);
                }
                for (int i = 0; i < WAITERS; i++)
                        assert_int_equal(processes ? check_wait(pids[i]) : check_thread_join(&threads[i]), 0);
                brood_event_free(scene.event);
                stage_free(scene.stage);
        }
}

/* In each round, a set and a clear at the same time. */
static int toggle(void *arg)
{
        struct scene *scene = arg;
        int which = atomic_fetch_add(&scene->stage->tid, 1);

        for (int i = 0; i < scene->rounds; i++) {
                while (atomic_load(&scene->stage->go) <= i)
                        sched_yield();
                for (int spin = (i * 7 + which * i * 13) % 300; spin > 0; spin--)
                        atomic_signal_fence(memory_order_seq_cst);
                require_int(((i + which) % 2 ? brood_event_set : brood_event_clear)(scene->event), 0);
                reach(scene->stage);
        }
        return 0;
}

/* When those who set and clear are done, the flag and the descriptor say the same, unasked. */
static void test_descriptor_follows(void **state)
{
        (void)state;
        enum { TOGGLERS = 2 };
        struct scene scene = { make(), stage_new(), support_rounds(20000) };
        struct check_thread threads[TOGGLERS];
        int fd = brood_event_fileno(scene.event), wrong = 0;

        for (int i = 0; i < TOGGLERS; i++)
                check_thread_start(&threads[i], toggle, &scene);
        for (int round = 0; round < scene.rounds; round++) {
                atomic_store(&scene.stage->go, round + 1);
                for (int64_t end = support_now_ms() + CHECK_HANG_MS;
                     atomic_load(&scene.stage->reached) < TOGGLERS * (round + 1); sched_yield())
                        assert_true(support_now_ms() < end);
                int before = readable(fd, 0); /* asking repairs it */
                wrong += before != brood_event_is_set(scene.event);
        }
        for (int i = 0; i < TOGGLERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        assert_int_equal(wrong, 0);
        brood_event_free(scene.event);
        stage_free(scene.stage);
}

static int set_it(void *arg)
{
        return -brood_event_set(arg);
}

static void test_fileno(void **state)
{
        (void)state;
        for (int set_first = 0; set_first < 2; set_first++) {
                brood_event *event = make(), *again = NULL;
                int fds[BROOD_EVENT_DESCRIPTORS];
                struct epoll_event ready = { .events = EPOLLIN };

                if (set_first)
                        assert_int_equal(brood_event_set(event), 0);
                int fd = brood_event_fileno(event);
                assert_true(fd >= 0);
                assert_int_equal(brood_event_fileno(event), fd);
                assert_int_equal(readable(fd, 0), set_first);
                assert_int_equal(brood_event_clear(event), 0);
                assert_int_equal(readable(fd, 0), 0);

                /* Another handle has a descriptor of its own, for the same. */
                assert_int_equal(brood_event_descriptors(event, fds), 0);
                assert_int_equal(brood_event_attach(&again, fds), 0);
                int other = brood_event_fileno(again), epoll = epoll_create1(EPOLL_CLOEXEC);
                assert_int_not_equal(other, fd);
                assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, other, &ready), 0);
                assert_int_equal(epoll_wait(epoll, &ready, 1, 0), 0);
                for (int round = 0; round < 3; round++) {
                        pid_t pid = check_start(set_it, event);
                        assert_int_equal(epoll_wait(epoll, &ready, 1, CHECK_HANG_MS), 1);
                        assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
                        assert_int_equal(check_wait(pid), 0);
                        assert_int_equal(brood_event_set(event), 0); /* sets nothing that is not set */
                        assert_int_equal(readable(other, 0), 1);
                        assert_int_equal(brood_event_clear(event), 0);
                        assert_int_equal(epoll_wait(epoll, &ready, 1, 0), 0);
                        assert_int_equal(readable(fd, 0), 0);
                }
                close(epoll);
                brood_event_free(again);
                brood_event_free(event);
        }
}

/* ---- deaths ---- */

static int set_and_clear_for_ever(void *arg)
{
        struct scene *scene = arg;

        while (brood_event_set(scene->event) == 0 && brood_event_clear(scene->event) == 0)
                reach(scene->stage);
        return 1;
}

/* Killed in the middle of a set or a clear: the flag is one or the other, can be set, and is right again where it is asked for. */
static void test_killed_at_work(void **state)
{
        (void)state;
        struct scene scene = { make(), stage_new(), 0 };
        int fd = brood_event_fileno(scene.event);

        for (int round = 0; round < support_rounds(60); round++) {
                pid_t pid = start_actor(set_and_clear_for_ever, &scene, scene.stage);
                usleep((useconds_t)support_random(500));
                assert_int_equal(check_kill(pid), -SIGKILL);
                if (brood_event_is_set(scene.event) == 0) {
                        assert_int_equal(readable(fd, 0), 0);
                        assert_int_equal(brood_event_wait(scene.event, 0), -EAGAIN);
                }
                assert_int_equal(brood_event_set(scene.event), 0);
                assert_int_equal(readable(fd, 0), 1);
                assert_int_equal(brood_event_wait(scene.event, 0), 0);
                assert_int_equal(brood_event_clear(scene.event), 0);
                assert_int_equal(readable(fd, 0), 0);
        }
        brood_event_free(scene.event);
        stage_free(scene.stage);
}

/* No death changes the flag. */
static int set_and_stay(void *arg)
{
        struct scene *scene = arg;

        require_int(brood_event_wait(scene->event, 0), -EAGAIN); /* known to it, as one that waits is */
        require_int(brood_event_set(scene->event), 0);
        stay(scene->stage);
}

static void test_death_of_the_setter(void **state)
{
        (void)state;
        struct scene scene = { make(), stage_new(), 0 };

        pid_t pid = start_actor(set_and_stay, &scene, scene.stage);
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(brood_event_is_set(scene.event), 1);
        assert_int_equal(brood_event_clear(scene.event), 0);
        assert_int_equal(brood_event_wait(scene.event, 300), -ETIMEDOUT);
        brood_event_free(scene.event);
        stage_free(scene.stage);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_flag),
                support_test(test_null),
                support_test(test_set_and_clear),
                support_test(test_descriptor_follows),
                support_test(test_fileno),
                support_test(test_killed_at_work),
                support_test(test_death_of_the_setter),
        };
        return support_main(argc, argv, "event", tests, array_length(tests), 120);
}
