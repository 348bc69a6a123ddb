/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_queue_load.c: many users of one queue, for a long time, and users that die in it.
 */
#include "traffic.h"

static brood_queue *make(size_t maxsize, size_t message_size)
{
        brood_queue *q = NULL;
        assert_int_equal(
            brood_queue_new(&q, &(brood_queue_options){ .maxsize = maxsize, .message_size = message_size }), 0);
        return q;
}

/* Four processes and two threads put, four processes and two threads get. */
static void mixed_traffic(size_t maxsize, uint32_t messages)
{
        struct traffic_books *books = check_shared(sizeof *books);
        brood_queue *q = make(maxsize, TRAFFIC_SIZE_MAX);
        struct traffic_user users[12];
        pid_t pids[8];
        struct check_thread threads[4];
        for (uint32_t i = 0; i < 12; i++)
                users[i] = (struct traffic_user){ .queue = q, .books = books, .id = i, .messages = messages };
        for (int i = 0; i < 8; i++)
                pids[i] = check_start(i < 4 ? traffic_produce : traffic_consume, &users[i]);
        for (int i = 0; i < 4; i++)
                check_thread_start(&threads[i], i < 2 ? traffic_produce : traffic_consume, &users[8 + i]);
        for (int i = 0; i < 4; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        for (int i = 0; i < 2; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        assert_int_equal(brood_queue_close(q), 0);
        for (int i = 4; i < 8; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        for (int i = 2; i < 4; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        assert_int_equal(atomic_load(&books->taken_count), 6 * messages);
        traffic_balance(books, 0, "mixed traffic");
        brood_queue_free(q);
        munmap(books, sizeof *books);
}

static void test_processes_and_threads_together(void **state)
{
        (void)state;
        mixed_traffic(1, 1500);
        mixed_traffic(3, 3000);
        mixed_traffic(1000, 20000);
}

struct guest {
        brood_queue *queue;
        int value, wanted;
        bool stays;
        atomic_int *ready;
        int go[2];
};

static int be_a_guest(void *arg)
{
        struct guest *guest = arg;
        int r = brood_queue_put(guest->queue, &guest->value, sizeof guest->value, CHECK_HANG_MS);
        require_int(r, guest->wanted);
        if (guest->stays) {
                char byte;
                close(guest->go[1]);
                atomic_fetch_add(guest->ready, 1);
                require_int(read(guest->go[0], &byte, 1), 0);
        }
        return 0; /* without free: so does a process that crashes */
}

/* More processes than there is room for, one after another: places of those that have ended are used again. */
static void test_thousands_of_users_over_time(void **state)
{
        (void)state;
        brood_queue *q = make(3, 8);
        for (int i = 0; i < 2500; i++) {
                struct guest guest = { .queue = q, .value = i };
                pid_t child = check_start(be_a_guest, &guest);
                int value = -1;
                if (i % 3 == 0) { /* some are killed, in whatever they are doing */
                        if (i % 2)
                                usleep((useconds_t)support_random(300));
                        check_kill(child);
                        ssize_t n = brood_queue_get_nowait(q, &value, sizeof value);
                        assert_true(n == -EAGAIN || (n == sizeof value && value == i));
                        continue;
                }
                assert_int_equal(brood_queue_get(q, &value, sizeof value, CHECK_HANG_MS), sizeof value);
                assert_int_equal(value, i);
                assert_int_equal(check_wait(child), 0);
        }
        assert_int_equal(brood_queue_qsize(q), 0);
        brood_queue_free(q);
}

static void test_too_many_users_at_once(void **state)
{
        (void)state;
        enum { LIMIT = 1023 };
        atomic_int *ready = check_shared(sizeof *ready);
        brood_queue *q = make(2000, 8);
        struct guest guest = { .queue = q, .stays = true, .ready = ready };
        pid_t pids[LIMIT - 1];
        assert_int_equal(pipe(guest.go), 0);
        /* This process may count as a user or not. */
        for (int i = 0; i < LIMIT - 1; i++) {
                guest.value = i;
                pids[i] = check_start(be_a_guest, &guest);
        }
        assert_true(check_reaches(ready, LIMIT - 1, 6 * CHECK_HANG_MS));
        int value = 0;
        assert_int_equal(brood_queue_put(q, &value, sizeof value, 0), 0);
        struct guest refused = { .queue = q, .wanted = -EUSERS };
        check_in_child(be_a_guest, &refused);
        assert_int_equal(brood_queue_qsize(q), LIMIT);

        close(guest.go[1]);
        close(guest.go[0]);
        for (int i = 0; i < LIMIT - 1; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        struct guest welcome = { .queue = q };
        check_in_child(be_a_guest, &welcome);
        assert_int_equal(brood_queue_qsize(q), LIMIT + 1);
        brood_queue_free(q);
        munmap(ready, sizeof *ready);
}

#define SLEEPERS 6

struct burst {
        brood_queue *queue;
        bool puts;
        atomic_int round, ready, served, end;
};

/* Each makes one call a round, and holds on to what it got until the next. */
static int serve_once_a_round(void *arg)
{
        struct burst *burst = arg;
        for (int round = 1;; round++) {
                int value = round;
                while (atomic_load(&burst->round) < round) {
                        if (atomic_load(&burst->end))
                                return 0;
                        usleep(100);
                }
                atomic_fetch_add(&burst->ready, 1);
                if (burst->puts)
                        require_int(brood_queue_put(burst->queue, &value, sizeof value, 2 * CHECK_HANG_MS), 0);
                else
                        require_int(brood_queue_get(burst->queue, &value, sizeof value, 2 * CHECK_HANG_MS),
                                    sizeof value);
                atomic_fetch_add(&burst->served, 1);
        }
}

static int compare_ints(const void *a, const void *b)
{
        return *(const int *)a - *(const int *)b;
}

/* N asleep, N messages (or places) in a burst: each sleeper gets one; none stays beside a sleeper. */
static void burst(bool puts)
{
        struct burst *b = check_shared(sizeof *b);
        int rounds = support_rounds(100);
        int *took = calloc((size_t)rounds, sizeof *took);
        b->queue = make(SLEEPERS, sizeof(int));
        b->puts = puts;
        pid_t pids[SLEEPERS];
        for (int i = 0; i < SLEEPERS; i++)
                pids[i] = check_start(serve_once_a_round, b);
        for (int round = 1; round <= rounds; round++) {
                int value = 0;
                atomic_store(&b->ready, 0);
                atomic_store(&b->served, 0);
                for (int i = 0; puts && i < SLEEPERS; i++)
                        assert_int_equal(brood_queue_put_nowait(b->queue, &value, sizeof value), 0);
                atomic_store(&b->round, round);
                assert_true(check_reaches(&b->ready, SLEEPERS, CHECK_HANG_MS));
                for (int i = 0; i < SLEEPERS; i++)
                        assert_true(check_asleep(pids[i]));
                if (round % 2)
                        usleep((useconds_t)support_random(2000));
                int64_t start = support_now_ms();
                for (int i = 0; i < SLEEPERS; i++) {
                        if (puts)
                                assert_int_equal(brood_queue_get_nowait(b->queue, &value, sizeof value), sizeof value);
                        else
                                assert_int_equal(brood_queue_put_nowait(b->queue, &value, sizeof value), 0);
                }
                if (!check_reaches(&b->served, SLEEPERS, CHECK_HANG_MS))
                        check_hang("a sleeper is not woken");
                took[round - 1] = (int)(support_now_ms() - start);
                for (int i = 0; puts && i < SLEEPERS; i++)
                        assert_int_equal(brood_queue_get_nowait(b->queue, &value, sizeof value), sizeof value);
        }
        atomic_store(&b->end, 1);
        for (int i = 0; i < SLEEPERS; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        assert_int_equal(brood_queue_qsize(b->queue), 0);
        brood_queue_free(b->queue);
        munmap(b, sizeof *b);

        /* The bounded wait in which sleepers look for deaths must not be what wakes them. */
        qsort(took, (size_t)rounds, sizeof *took, compare_ints);
        printf("burst of %d %s: median %d ms, 90 %% %d ms, worst %d ms\n", SLEEPERS, puts ? "places" : "messages",
               took[rounds / 2], took[rounds * 9 / 10], took[rounds - 1]);
        assert_true(took[rounds / 2] < 100);
        assert_true(took[rounds * 9 / 10] < 250);
        free(took);
}

static void test_burst_of_messages(void **state)
{
        (void)state;
        burst(false);
}

static void test_burst_of_places(void **state)
{
        (void)state;
        burst(true);
}

struct sleeper {
        brood_queue *queue;
        bool puts;
        atomic_int *ready, *served;
};

static int sleep_in_call(void *arg)
{
        struct sleeper *s = arg;
        int value = 7;
        atomic_fetch_add(s->ready, 1);
        if (s->puts)
                require_int(brood_queue_put(s->queue, &value, sizeof value, 2 * CHECK_HANG_MS), 0);
        else
                require_int(brood_queue_get(s->queue, &value, sizeof value, 2 * CHECK_HANG_MS), sizeof value);
        atomic_fetch_add(s->served, 1);
        return 0;
}

static bool is_settled(void *arg)
{
        struct sleeper *s = arg;
        return atomic_load(s->served) > 0 || brood_queue_qsize(s->queue) == (s->puts ? 1 : 0);
}

/* Several sleep; one of them is killed: before the one message comes, or at any moment after it was put and woke somebody.
 * Whether the victim still took it or not, the message does not stay beside the other sleeper. */
static void killed_sleepers(bool puts, int count)
{
        struct {
                atomic_int ready, served;
        } *shared = check_shared(sizeof *shared);
        int rounds = support_rounds(100);
        int64_t worst = 0;
        for (int round = 0; round < rounds; round++) {
                brood_queue *q = make(1, sizeof(int));
                struct sleeper s = { q, puts, &shared->ready, &shared->served };
                pid_t pids[4];
                int value = 1;
                atomic_store(&shared->ready, 0);
                atomic_store(&shared->served, 0);
                if (puts)
                        assert_int_equal(brood_queue_put_nowait(q, &value, sizeof value), 0);
                for (int i = 0; i < count; i++) {
                        pids[i] = check_start(sleep_in_call, &s);
                        assert_true(check_reaches(&shared->ready, i + 1, CHECK_HANG_MS));
                        assert_true(check_asleep(pids[i]));
                }
                int victim = (int)support_random((uint64_t)count);
                if (round % 2)
                        check_kill(pids[victim]);
                if (puts)
                        assert_int_equal(brood_queue_get_nowait(q, &value, sizeof value), sizeof value);
                else
                        assert_int_equal(brood_queue_put_nowait(q, &value, sizeof value), 0);
                int64_t start = support_now_ms();
                if (round % 2 == 0) {
                        for (uint64_t spin = support_random(2000); spin; spin--)
                                atomic_load(&shared->ready);
                        int code = check_kill(pids[victim]);
                        assert_true(code == -SIGKILL || code == 0);
                }
                /* The dead one may have done its work: then nothing is there for the others to do. */
                if (!support_until(is_settled, &s, CHECK_HANG_MS))
                        check_hang("a message lies beside a sleeper");
                if (support_now_ms() - start > worst)
                        worst = support_now_ms() - start;

                /* And the queue still works for all who are left. */
                start = support_now_ms();
                for (int i = 0; i < count; i++) {
                        while (i != victim && support_process_state(pids[i]) != 'Z') {
                                if (puts)
                                        brood_queue_get_nowait(q, &value, sizeof value);
                                else
                                        brood_queue_put_nowait(q, &value, sizeof value);
                                if (support_now_ms() - start > CHECK_HANG_MS)
                                        check_hang("a survivor is not woken");
                                usleep(100);
                        }
                }
                for (int i = 0; i < count; i++)
                        if (i != victim)
                                assert_int_equal(check_wait_for(pids[i], CHECK_HANG_MS), 0);
                brood_queue_free(q);
        }
        printf("%d sleepers in %s, one killed, %d times: worst %d ms until another went on\n", count,
               puts ? "put" : "get", rounds, (int)worst);
        munmap(shared, sizeof *shared);
}

static void test_killed_asleep_in_get(void **state)
{
        (void)state;
        killed_sleepers(false, 2);
        killed_sleepers(false, 4);
}

static void test_killed_asleep_in_put(void **state)
{
        (void)state;
        killed_sleepers(true, 2);
        killed_sleepers(true, 4);
}

static void storm(const char *name, struct traffic_plan plan)
{
        static const size_t maxsizes[] = { 1, 3, 16, 1000 };
        struct traffic_tally tally = { 0 };
        int rounds = support_rounds(160);
        plan.hits = rounds / (int)array_length(maxsizes) + 1;
        plan.hits = plan.hits < 200 ? plan.hits : 200;
        plan.within_us = 3000;
        for (size_t i = 0; i < array_length(maxsizes); i++) {
                plan.maxsize = maxsizes[i];
                traffic_storm(&plan, &tally);
        }
        printf("%s: %d producers and %d consumers hit, %ld messages, %d gone with their consumers, worst pause %d ms\n",
               name, tally.producers_hit, tally.consumers_hit, tally.messages, tally.lost, tally.worst_ms);
}

static void test_killed_producers(void **state)
{
        (void)state;
        storm("killed producers", (struct traffic_plan){ .producers = 2, .consumers = 1, .hit_producers = true });
}

static void test_killed_consumers(void **state)
{
        (void)state;
        storm("killed consumers", (struct traffic_plan){ .producers = 1, .consumers = 2, .hit_consumers = true });
}

static void test_killed_only_producer(void **state)
{
        (void)state;
        storm("killed only producer", (struct traffic_plan){ .producers = 1, .consumers = 3, .hit_producers = true });
}

static void test_killed_only_consumer(void **state)
{
        (void)state;
        storm("killed only consumer", (struct traffic_plan){ .producers = 3, .consumers = 1, .hit_consumers = true });
}

/* A stopped process is not a dead one: nobody repairs what it will go on with. */
static void test_stopped_users(void **state)
{
        (void)state;
        storm(
            "stopped",
            (struct traffic_plan){
                .producers = 2, .consumers = 2, .hit_producers = true, .hit_consumers = true, .aim = TRAFFIC_FREEZE });
}

/* Everybody does what it can, until the slowest of each side has done its share. */
enum { EACH = 4, TIMES = 500 };

struct crowd {
        brood_queue *queue;
        struct crowd_shared {
                atomic_bool stop;
                _Alignas(64) struct {
                        _Alignas(64) atomic_uint done;
                } side[2][EACH];
                unsigned share;
        } * shared;
        bool puts;
        int index;
};

static int take_part(void *arg)
{
        struct crowd *crowd = arg;
        atomic_uint *done = &crowd->shared->side[crowd->puts][crowd->index].done;
        uint64_t message = 0;

        for (;;) {
                ssize_t n = crowd->puts ? brood_queue_put(crowd->queue, &message, sizeof message, CHECK_HANG_MS)
                                        : brood_queue_get(crowd->queue, &message, sizeof message, CHECK_HANG_MS);
                if (n == -EPIPE)
                        return 0;
                require_int(n, crowd->puts ? 0 : sizeof message);
                if (!atomic_load_explicit(&crowd->shared->stop, memory_order_relaxed))
                        atomic_fetch_add_explicit(done, 1, memory_order_relaxed);
        }
}

static unsigned crowd_least(struct crowd_shared *shared, bool puts, unsigned *ret_most)
{
        unsigned least = UINT32_MAX;

        *ret_most = 0;
        for (int i = 0; i < EACH; i++) {
                unsigned done = atomic_load(&shared->side[puts][i].done);
                least = done < least ? done : least;
                *ret_most = done > *ret_most ? done : *ret_most;
        }
        return least;
}

static bool crowd_is_done(void *arg)
{
        struct crowd_shared *shared = arg;
        unsigned most;

        return crowd_least(shared, false, &most) >= shared->share && crowd_least(shared, true, &most) >= shared->share;
}

/* Nobody is left out.  How even the shares are is measured (bench/queue.h: 4x4-share), not asserted: the scheduler has its say. */
static void test_nobody_starves(void **state)
{
        (void)state;
        static const struct {
                size_t maxsize;
                unsigned share;
        } crowds[] = { { 2, 20000 }, { 1000, 400000 } };

        for (size_t c = 0; c < array_length(crowds); c++) {
                struct crowd_shared *shared = check_shared(sizeof *shared);
                brood_queue *q = make(crowds[c].maxsize, 64);
                pid_t pids[2 * EACH];
                unsigned most[2];

                shared->share = crowds[c].share;
                for (int i = 0; i < 2 * EACH; i++)
                        pids[i] = check_start(
                            take_part, &(struct crowd){ .queue = q, .shared = shared, .puts = i % 2, .index = i / 2 });
                bool done = support_until(crowd_is_done, shared, 6 * CHECK_HANG_MS);
                atomic_store(&shared->stop, true);
                assert_int_equal(brood_queue_close(q), 0);
                for (int i = 0; i < 2 * EACH; i++)
                        assert_int_equal(check_wait_for(pids[i], CHECK_HANG_MS), 0);
                unsigned least[] = { crowd_least(shared, false, &most[0]), crowd_least(shared, true, &most[1]) };
                printf("%zu places: consumers did %u to %u, producers %u to %u\n", crowds[c].maxsize, least[0], most[0],
                       least[1], most[1]);
                assert_true(done);
                assert_true(most[0] / TIMES <= least[0] && most[1] / TIMES <= least[1]);
                brood_queue_free(q);
                munmap(shared, sizeof *shared);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_processes_and_threads_together),
                support_test(test_thousands_of_users_over_time),
                support_test(test_too_many_users_at_once),
                support_test(test_nobody_starves),
                support_test(test_burst_of_messages),
                support_test(test_burst_of_places),
                support_test(test_killed_asleep_in_get),
                support_test(test_killed_asleep_in_put),
                support_test(test_killed_producers),
                support_test(test_killed_consumers),
                support_test(test_killed_only_producer),
                support_test(test_killed_only_consumer),
                support_test(test_stopped_users),
        };
        return support_main(argc, argv, "queue load", tests, array_length(tests), 240);
}
