/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_rounds.c: SIGKILL to a random participant at a random moment under load, round after round.
 *
 * In each round nobody may hang (ten seconds, then the watcher shows where everybody stands), the books must balance, and no
 * process may be left.  The books are in shared memory: whoever keeps them may be the one that is killed.
 */
#include "tasks.h"
#include "traffic.h"

#include <sys/prctl.h>

/* ---- the queue ---- */

static void test_queue_rounds(void **state)
{
        (void)state;
        struct traffic_tally tally = { 0 };
        int rounds = support_rounds(200), queues = 0;
        for (int done = 0; done < rounds; queues++) {
                struct traffic_plan plan = { .producers = 2,
                                             .consumers = 2,
                                             .hit_producers = true,
                                             .hit_consumers = true,
                                             .hits = rounds - done < 20 ? rounds - done : 20,
                                             .within_us = 5000,
                                             .maxsize = 1 + (size_t)support_random(queues % 2 ? 64 : 4) };
                traffic_storm(&plan, &tally);
                done += plan.hits;
        }
        printf("queue: %d rounds on %d queues: %d producers and %d consumers killed, %ld messages, %d gone with their "
               "consumers, worst pause %d ms\n",
               rounds, queues, tally.producers_hit, tally.consumers_hit, tally.messages, tally.lost, tally.worst_ms);
}

/* ---- the pool ---- */

#define TASKS_MAX 20000 /* that a host gives out before it rests */
#define WINDOW 40
#define WORKERS 3
#define VICTIMS_MAX 3

struct pool_books {
        atomic_int submitted;
        atomic_int begun[TASKS_MAX], ended[TASKS_MAX];
        atomic_int seen[TASKS_MAX]; /* results that the host got */
};

static struct pool_books *books;

struct order {
        int index, spin;
};

static ssize_t book_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size;
        (void)room;
        struct order order;
        memcpy(&order, arg, sizeof order);
        atomic_fetch_add(&books->begun[order.index], 1);
        for (int i = 0; i < order.spin; i++)
                atomic_signal_fence(memory_order_seq_cst);
        if (order.spin % 16 == 0)
                usleep(500);
        atomic_fetch_add(&books->ended[order.index], 1);
        int value = 3 * order.index;
        memcpy(out, &value, sizeof value);
        return sizeof value;
}

static int send_order(brood_pool *pool, brood_result **ret_result, int index)
{
        struct order order = { index, (int)(check_mix((uint64_t)index) % 20000) };
        return brood_pool_apply_async(pool, ret_result, book_task, &order, sizeof order);
}

struct killer {
        pid_t victims[VICTIMS_MAX];
        int delays_us[VICTIMS_MAX];
        int count;
};

static int kill_at_random(void *arg)
{
        struct killer *killer = arg;
        for (int i = 0; i < killer->count; i++) {
                usleep((useconds_t)killer->delays_us[i]);
                kill(killer->victims[i], SIGKILL);
        }
        return 0;
}

/* Workers, or the keeper, are killed; the host goes on and accounts for every task. */
static void round_in_a_living_host(bool keeper_dies, int *ret_kills)
{
        enum { TASKS = 120 };
        for (int i = 0; i < TASKS; i++) {
                atomic_store(&books->begun[i], 0);
                atomic_store(&books->ended[i], 0);
        }
        brood_pool *pool = make_pool(WORKERS);
        brood_result *results[TASKS] = { NULL };
        pid_t pids[16];
        int submit_errors[TASKS];
        await_workers(pool, pids);
        pid_t keeper = support_parent_of(pids[0]);
        assert_int_equal(support_parent_of(keeper), getpid());

        struct killer killer = { .count = keeper_dies ? 1 : 1 + (int)support_random(VICTIMS_MAX) };
        for (int i = 0; i < killer.count; i++) {
                killer.victims[i] = keeper_dies ? keeper : pids[(support_random(WORKERS) + (uint64_t)i) % WORKERS];
                killer.delays_us[i] = (int)support_random(6000);
        }
        struct check_thread thread;
        check_thread_start(&thread, kill_at_random, &killer);

        for (int i = 0; i < TASKS; i++)
                submit_errors[i] = send_order(pool, &results[i], i);
        int dead = 0;
        for (int i = 0; i < TASKS; i++) {
                int begun, value = -1;
                if (submit_errors[i] < 0) {
                        assert_true(keeper_dies);
                        assert_int_equal(submit_errors[i], -EPIPE);
                        assert_int_equal(atomic_load(&books->begun[i]), 0);
                        continue;
                }
                ssize_t n = brood_result_get(results[i], &value, sizeof value, CHECK_HANG_MS);
                if (n == -ETIMEDOUT)
                        check_hang("a result does not come");
                begun = atomic_load(&books->begun[i]);
                assert_true(begun <= 1);
                switch (n) {
                case sizeof value:
                        assert_int_equal(value, 3 * i);
                        assert_int_equal(begun, 1);
                        assert_int_equal(atomic_load(&books->ended[i]), 1);
                        assert_int_equal(brood_result_outcome(results[i]), BROOD_OUTCOME_OK);
                        break;
                case -EOWNERDEAD: {
                        pid_t pid = 0;
                        int code = 0, known = 0;
                        assert_false(keeper_dies);
                        dead++;
                        assert_int_equal(brood_result_outcome(results[i]), BROOD_OUTCOME_SIGNALED);
                        assert_int_equal(brood_result_worker(results[i], &pid, &code), 0);
                        assert_int_equal(code, -SIGKILL);
                        for (int v = 0; v < killer.count; v++)
                                known |= killer.victims[v] == pid;
                        assert_true(known);
                        break;
                }
                case -EPIPE:
                        assert_true(keeper_dies);
                        assert_int_equal(brood_result_outcome(results[i]), BROOD_OUTCOME_BROKEN);
                        break;
                default:
                        fprintf(stderr, "task %d: %s\n", i, brood_strerror((int)n));
                        fail();
                }
                brood_result_free(results[i]);
        }
        assert_true(dead <= killer.count);
        assert_int_equal(check_thread_join(&thread), 0);

        if (keeper_dies) {
                assert_true(pool_breaks(pool));
                assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), -EPIPE);
                for (int i = 0; i < WORKERS; i++)
                        assert_true(support_process_gone(pids[i], 1000));
        } else {
                await_workers(pool, NULL); /* as many as before */
                assert_null(brood_pool_reason(pool));
                assert_int_equal(brood_pool_close(pool), 0);
                int r = brood_pool_join(pool, CHECK_HANG_MS);
                if (r == -ETIMEDOUT)
                        check_hang("a pool does not end");
                assert_int_equal(r, 0);
        }
        brood_pool_free(pool);
        assert_int_equal(support_count_children(getpid()), 0);
        for (int i = 0; i < TASKS; i++)
                assert_true(atomic_load(&books->begun[i]) <= 1);
        *ret_kills += killer.count;
}

/* A host under load, until it is killed. */
static int be_a_host(void *arg)
{
        (void)arg;
        brood_pool *pool;
        brood_result *window[WINDOW];
        require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = WORKERS }), 0);
        for (int i = 0; i < TASKS_MAX; i++) {
                if (i >= WINDOW) {
                        int value = -1;
                        require_int(brood_result_get(window[i % WINDOW], &value, sizeof value, CHECK_HANG_MS),
                                    sizeof value);
                        require_int(value, 3 * (i - WINDOW));
                        atomic_fetch_add(&books->seen[i - WINDOW], 1);
                        brood_result_free(window[i % WINDOW]);
                }
                atomic_store(&books->submitted, i + 1);
                require_int(send_order(pool, &window[i % WINDOW], i), 0);
        }
        for (;;)
                pause();
}

static void round_with_a_dying_host(int *worst_ms)
{
        memset(books, 0, sizeof *books);
        /* What the host leaves behind comes to this process, so that there is no pid to know beforehand. */
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        pid_t host = check_start(be_a_host, NULL);
        if (support_random(4)) /* else also while the pool is being made */
                check_reaches(&books->submitted, WINDOW, CHECK_HANG_MS);
        usleep((useconds_t)support_random(8000));
        kill(host, SIGKILL);
        int64_t start = support_now_ms();
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, WNOHANG)) >= 0 || errno == EINTR) {
                if (pid == host)
                        assert_int_equal(check_code(status), -SIGKILL);
                if (support_now_ms() - start > CHECK_HANG_MS)
                        check_hang("what a dead host leaves behind does not end");
                if (pid == 0)
                        usleep(100);
        }
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
        int took = (int)(support_now_ms() - start);
        if (took > *worst_ms)
                *worst_ms = took;
        assert_true(took <= 1000);

        int submitted = atomic_load(&books->submitted);
        for (int i = 0; i < TASKS_MAX; i++) {
                int begun = atomic_load(&books->begun[i]), ended = atomic_load(&books->ended[i]);
                int seen = atomic_load(&books->seen[i]);
                assert_true(begun <= (i < submitted));
                assert_true(ended <= begun && seen <= ended);
        }
}

static void test_pool_rounds(void **state)
{
        (void)state;
        int rounds = support_rounds(200), workers = 0, keepers = 0, hosts = 0, worst_ms = 0, worst_round_ms = 0;
        books = check_shared(sizeof *books);
        for (int round = 0; round < rounds; round++) {
                int64_t start = support_now_ms();
                switch (support_random(4)) {
                case 0:
                        round_in_a_living_host(true, &keepers);
                        break;
                case 1:
                        round_with_a_dying_host(&worst_ms);
                        hosts++;
                        break;
                default:
                        round_in_a_living_host(false, &workers);
                        break;
                }
                if (support_now_ms() - start > worst_round_ms)
                        worst_round_ms = (int)(support_now_ms() - start);
        }
        munmap(books, sizeof *books);
        printf("pool: %d rounds: %d workers, %d keepers and %d hosts killed; all gone %d ms after their host at worst; "
               "longest round %d ms\n",
               rounds, workers, keepers, hosts, worst_ms, worst_round_ms);
        assert_true(worst_round_ms < CHECK_HANG_MS);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_queue_rounds),
                support_test(test_pool_rounds),
        };
        return support_main(argc, argv, "rounds of kills", tests, array_length(tests), 240);
}
