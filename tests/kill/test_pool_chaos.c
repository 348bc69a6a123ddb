/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_pool_chaos.c: a pool whose workers are killed all the time, while tasks are tried again, pass their limits
 * and are canceled, whatever their priority, and while the pool grows and shrinks.  Every task must end, in one way, and in one
 * that it may end in; and that must be told once to the completions or the callback that it has.  Four seconds; --rounds N (or
 * BROOD_TEST_ROUNDS) makes it N.
 */
#include "tasks.h"

#include <brood/completions.h>

#define TASKS 240
#define RETRIES 60
#define WORKERS_MOST 5

enum kind {
        PLAIN,    /* ends well, or with its worker */
        RETRIED,  /* ends well, whatever is killed */
        LATE,     /* never ends by itself, and has a time limit */
        BURNING,  /* the same, with one of CPU time */
        CANCELED, /* never ends by itself, and is canceled */
        FLEETING, /* is canceled at about the time at which it ends */
        KINDS,
};

struct chaos_books {
        atomic_int begun[TASKS], ended[TASKS];
};

static struct chaos_books *books;

struct order {
        int index;
        enum kind kind;
};

static ssize_t chaos_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size, (void)room;
        struct order order;
        memcpy(&order, arg, sizeof order);
        atomic_fetch_add(&books->begun[order.index], 1);
        if (order.kind == LATE || order.kind == CANCELED)
                for (;;)
                        pause();
        if (order.kind == BURNING)
                for (;;)
                        atomic_signal_fence(memory_order_seq_cst);
        if (order.kind == RETRIED)
                usleep(500);
        atomic_fetch_add(&books->ended[order.index], 1);
        int value = 3 * order.index;
        memcpy(out, &value, sizeof value);
        return sizeof value;
}

/* How its end is told. */
enum way { BY_RESULT, BY_COMPLETIONS, BY_CALLBACK, WAYS };

struct task_record {
        enum kind kind;
        enum way way;
        brood_result *result;
        int cancel; /* what brood_result_cancel() returned */
        int told;   /* how often it came out of the completions, or was called back for */
};

static void count_told(brood_result *result, void *arg)
{
        struct task_record *record = arg;
        assert_ptr_equal(record->result, result);
        record->told++;
}

static void hand_in(brood_pool *pool, brood_completions *completions, struct task_record *record, int index)
{
        *record = (struct task_record){
                .kind = (enum kind)support_random(KINDS),
                .way = (enum way)support_random(WAYS),
                .cancel = -EAGAIN,
        };
        struct order order = { index, record->kind };
        brood_task_options options = { .function = chaos_task, .arg = &order, .size = sizeof order };
        options.callback_arg = record;
        options.priority = (int)support_random(BROOD_TASK_PRIORITY_MOST + 1);
        if (record->way == BY_COMPLETIONS)
                options.completions = completions;
        else if (record->way == BY_CALLBACK)
                options.callback = options.error_callback = count_told;
        if (record->kind == RETRIED) {
                options.retries = RETRIES;
                options.backoff_ms = (int)support_random(3);
        } else if (record->kind == LATE) {
                options.timeout_ms = 1 + (int)support_random(5);
                options.retries = (int)support_random(2);
        } else if (record->kind == BURNING) {
                options.cpu_ms = 1 + (int)support_random(4);
        } else if (record->kind == CANCELED) {
                options.retries = (int)support_random(2) * RETRIES;
        }
        assert_int_equal(brood_pool_submit(pool, &record->result, &options), 0);
}

struct killer {
        brood_pool *pool;
        atomic_int stop;
        int kills;
};

static int kill_workers_now_and_then(void *arg)
{
        struct killer *killer = arg;
        while (!atomic_load(&killer->stop) && killer->kills < RETRIES / 2) {
                pid_t pids[2 * WORKERS_MOST];
                usleep(3000 + (useconds_t)(check_mix((uint64_t)killer->kills) % 5000));
                int n = brood_pool_workers(killer->pool, pids, 2 * WORKERS_MOST);
                if (n > 0 && n <= 2 * WORKERS_MOST && kill(pids[killer->kills % n], SIGKILL) == 0)
                        killer->kills++;
        }
        return 0;
}

static void check_task(struct task_record *record, int index, int tally[])
{
        int value = -1;
        ssize_t n = brood_result_get(record->result, &value, sizeof value, 2 * CHECK_HANG_MS);
        if (n == -ETIMEDOUT)
                check_hang("a task does not end");
        assert_int_equal(record->told, record->way != BY_RESULT);
        brood_result_report report;
        assert_int_equal(brood_result_get_report(record->result, &report), 0);
        int begun = atomic_load(&books->begun[index]);
        tally[report.outcome]++;
        switch (report.outcome) {
        case BROOD_OUTCOME_OK:
                assert_int_equal(n, sizeof value);
                assert_int_equal(value, 3 * index);
                assert_true(record->kind == PLAIN || record->kind == RETRIED || record->kind == FLEETING);
                assert_true(atomic_load(&books->ended[index]) >= 1);
                assert_true(record->cancel != 0);
                break;
        case BROOD_OUTCOME_SIGNALED:
                assert_int_equal(n, -EOWNERDEAD);
                assert_int_equal(report.exitcode, -SIGKILL);
                assert_true(record->kind != RETRIED && record->cancel != 0);
                break;
        case BROOD_OUTCOME_TIME:
                assert_true(record->kind == LATE && n == -ETIME);
                break;
        case BROOD_OUTCOME_CPU:
                assert_true(record->kind == BURNING && n == -ETIME);
                break;
        case BROOD_OUTCOME_CANCELED:
                assert_int_equal(n, -ECANCELED);
                assert_int_equal(record->cancel, 0);
                break;
        default:
                fprintf(stderr, "task %d: %s\n", index, brood_result_reason(record->result));
                fail();
        }
        if (report.attempts > 0)
                assert_true(begun <= report.attempts);
        if (record->kind != RETRIED && record->kind != CANCELED && record->kind != LATE)
                assert_true(begun <= 1);
        brood_result_free(record->result);
}

static void take_completions(brood_completions *completions)
{
        brood_result *result = NULL;
        int r;
        while ((r = brood_completions_next(completions, &result, 2 * CHECK_HANG_MS)) == 0)
                count_told(result, brood_result_callback_arg(result));
        if (r == -ETIMEDOUT)
                check_hang("a task does not come out of the completions");
        assert_int_equal(r, -ENODATA);
        brood_completions_free(completions);
}

/* Cancel what is never to end; and some of what may. */
static void cancel_some(struct task_record *records, int count)
{
        for (int i = 0; i < count; i++) {
                bool is_time = records[i].kind == CANCELED || records[i].kind == FLEETING;
                if (is_time && records[i].cancel == -EAGAIN && support_random(4) == 0)
                        records[i].cancel = brood_result_cancel(records[i].result, true);
        }
}

static void chaos_round(int *kills, int tally[])
{
        static struct task_record records[TASKS];
        struct check_thread thread;
        memset(books, 0, sizeof *books);
        struct killer killer = { .pool = make_pool(3) };
        brood_completions *completions = NULL;
        assert_int_equal(brood_completions_new(&completions, killer.pool), 0);
        check_thread_start(&thread, kill_workers_now_and_then, &killer);
        for (int i = 0; i < TASKS; i++) {
                hand_in(killer.pool, completions, &records[i], i);
                if (i % 8 == 0)
                        cancel_some(records, i);
                if (i % 40 == 0)
                        assert_int_equal(brood_pool_resize(killer.pool, 1 + (int)support_random(WORKERS_MOST)), 0);
        }
        bool close_first = support_random(2);
        if (close_first)
                assert_int_equal(brood_pool_close(killer.pool), 0);
        for (int i = 0; i < TASKS; i++)
                if (records[i].kind == CANCELED && records[i].cancel == -EAGAIN)
                        records[i].cancel = brood_result_cancel(records[i].result, true);
        take_completions(completions);
        for (int i = 0; i < TASKS; i++)
                check_task(&records[i], i, tally);
        atomic_store(&killer.stop, 1);
        assert_int_equal(check_thread_join(&thread), 0);
        assert_null(brood_pool_reason(killer.pool));
        end_pool(killer.pool);
        assert_int_equal(support_count_children(getpid()), 0);
        *kills += killer.kills;
}

static void test_chaos(void **state)
{
        (void)state;
        int rounds = 0, kills = 0, tally[16] = { 0 };
        int64_t end = support_now_ms() + support_rounds(4) * 1000;
        books = check_shared(sizeof *books);
        for (; support_now_ms() < end; rounds++)
                chaos_round(&kills, tally);
        munmap(books, sizeof *books);
        printf("%d rounds, %d workers killed: %d tasks succeeded, %d died, %d were late, %d burned their CPU time, %d "
               "were canceled\n",
               rounds, kills, tally[BROOD_OUTCOME_OK], tally[BROOD_OUTCOME_SIGNALED], tally[BROOD_OUTCOME_TIME],
               tally[BROOD_OUTCOME_CPU], tally[BROOD_OUTCOME_CANCELED]);
        assert_int_equal(tally[BROOD_OUTCOME_OK] + tally[BROOD_OUTCOME_SIGNALED] + tally[BROOD_OUTCOME_TIME] +
                             tally[BROOD_OUTCOME_CPU] + tally[BROOD_OUTCOME_CANCELED],
                         rounds * TASKS);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_chaos),
        };
        return support_main(argc, argv, "pool chaos", tests, array_length(tests), 240);
}
