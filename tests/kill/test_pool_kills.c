/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_pool_kills.c: a pool's keeper, or one of its workers, killed at each of its system calls, from its birth to
 * its end.
 *
 * In each play below a host makes a pool, has tasks run to their end, and then has its keeper do something.  The victim goes from
 * system call to system call (each counts twice, at its entry and at its exit), and a random number of instructions on; there it is
 * killed.  If it was the keeper, the host must find that the pool is broken, and why; all that had ended by then as it was; and all
 * that had not, failed with -EPIPE.  If it was a worker, each task has a retry more than it needs, and must end as if nothing had
 * happened.  No call of the host may wait, and it is ended only when keeper and workers have.  In some more runs the victim is not
 * killed but held for a moment, now and then, so that others overtake it.
 *
 * How many places of each play are tried is set by --rounds N (or BROOD_TEST_ROUNDS); by default it is some, every n-th from a
 * random one on.  From 1,000 on it is each of them.
 */
#include "kills.h"
#include "tasks.h"
#include "trace.h"

#include "pool/pool.h"

#include <brood/completions.h>

#include <limits.h>
#include <sys/prctl.h>

enum {
        KILLS = 16, /* in one play, by default */
        PAUSED = 2, /* runs in which nobody is killed */
        PAUSE_US = 3000,
        STEPS_AFTER = 300, /* a system call */
        WORKERS = 2,
        DONE = 3,  /* tasks that have ended before */
        OTHERS = 2 /* handed in together with what the play is about */
};

/* The victim, by the order of the births. */
enum victim { KEEPER = 1, WORKER = 2, LATER_WORKER = 2 + WORKERS };

struct host;

struct play {
        const char *name;
        void (*act)(struct host *host);
        bool starts; /* it has a worker started */
};

struct host {
        const struct play *play;
        brood_pool *pool;
        brood_completions *completions;
        brood_result *done[DONE];
        bool ended[DONE]; /* it was seen to be DONE, before anything was asked of the pool */
};

static struct page {
        struct step_mark mark;
        struct verdict verdict;
} * page;

static struct kills kills;
static enum victim victim;
static bool is_paused; /* and not killed */
static int kills_in_all;

#define complain(...) verdict_complain(&page->verdict, __VA_ARGS__)

/* ---- what the keeper does ---- */

static bool is_broken(struct host *host)
{
        return brood_pool_reason(host->pool) != NULL;
}

/* A task handed in on terms; NULL if the pool is broken. */
static brood_result *hand_in(struct host *host, const brood_task_options *options)
{
        brood_result *result = NULL;
        brood_task_options with_retries = *options;
        with_retries.retries += victim != KEEPER;
        int r = brood_pool_submit(host->pool, &result, &with_retries);
        if (r < 0 && (r != -EPIPE || !is_broken(host)))
                complain("handing in gave %d", r);
        return result;
}

#define hand_in_int(host, value, ...)                                                                                  \
        hand_in((host), &(brood_task_options){ .arg = &(int){ value }, .size = sizeof(int), __VA_ARGS__ })

/* It ends as it should, or the pool is broken.  A value: that of the first int of the result; or a negative errno. */
static void expect(struct host *host, brood_result *result, int wanted)
{
        int value = 0;
        if (result == NULL)
                return;
        ssize_t n = brood_result_get(result, &value, sizeof value, CHECK_HANG_MS);
        int got = n == sizeof value ? value : (int)n;
        if (victim != KEEPER && wanted == -ETIME && got == -EOWNERDEAD)
                got = wanted; /* the first try met the limit, and the second the kill */
        if (got != wanted && (n != -EPIPE || !is_broken(host) || brood_result_outcome(result) != BROOD_OUTCOME_BROKEN))
                complain("a task gave %d and not %d: %s", got, wanted, brood_result_reason(result));
        brood_result_free(result);
}

static void do_nothing(struct host *host)
{
        (void)host;
}

static void lose_a_worker(struct host *host)
{
        expect(host, hand_in_int(host, SIGKILL, .function = die_task), -EOWNERDEAD);
        expect(host, hand_in_int(host, -3, .function = die_task), -EOWNERDEAD);
}

static void retry(struct host *host)
{
        expect(host, hand_in_int(host, 3, .function = nth_time_task, .retries = 3, .backoff_ms = 1), 3);
}

static void retry_when_closed(struct host *host)
{
        brood_result *result = hand_in_int(host, 3, .function = nth_time_task, .retries = 3, .backoff_ms = 1);
        brood_pool_close(host->pool);
        expect(host, result, 3);
}

static void pass_a_limit(struct host *host)
{
        expect(host, hand_in_int(host, FOREVER_MS, .function = sleep_task, .soft_timeout_ms = 2), -ETIME);
        expect(host, hand_in_int(host, FOREVER_MS, .function = stubborn_task, .timeout_ms = 2), -ETIME);
        expect(host, hand_in_int(host, 1, .function = echo_task, .timeout_ms = FOREVER_MS), 1);
}

static bool is_begun(void *arg)
{
        struct host *host = arg;
        return atomic_load(&tasks_page->started) > 0 || is_broken(host);
}

static void cancel(struct host *host)
{
        brood_result *result = hand_in_int(host, 1, .function = gated_task);
        support_until(is_begun, host, CHECK_HANG_MS);
        if (result && brood_result_cancel(result, true) == 0 && brood_result_get(result, NULL, 0, 0) != -ECANCELED)
                complain("a canceled task has another end");
        brood_result_free(result);
}

static void resize(struct host *host)
{
        static const int sizes[] = { 4, 1, 3 };
        for (size_t i = 0; i < array_length(sizes); i++) {
                int r = brood_pool_resize(host->pool, sizes[i]);
                if (r < 0 && (r != -EPIPE || !is_broken(host)))
                        complain("resizing gave %d", r);
                expect(host, hand_in_int(host, sizes[i], .function = echo_task), sizes[i]);
        }
}

static void terminate(struct host *host)
{
        brood_result *result = hand_in_int(host, 1, .function = gated_task);
        bool broken = is_broken(host);
        brood_pool_terminate(host->pool);
        expect(host, result, broken ? -EPIPE : -ECANCELED);
}

static const struct play plays[] = {
        { "start and close", do_nothing, false },
        { "workers die", lose_a_worker, true },
        { "a retry", retry, true },
        { "a retry after close", retry_when_closed, true },
        { "limits", pass_a_limit, true },
        { "a cancellation", cancel, false },
        { "another size", resize, true },
        { "terminate", terminate, false },
};

/* ---- the host ---- */

static bool has_ended(void *arg)
{
        brood_result *result = arg;
        return task_kind(load_seq_cst(&result_task(result)->state)) == TASK_DONE ||
               brood_pool_reason(result->pool) != NULL;
}

/* Have some tasks ended, the last one of which is not looked at. */
static void have_some_done(struct host *host)
{
        for (int i = 0; i < DONE; i++)
                host->done[i] = hand_in_int(host, i, .function = echo_task, .retries = i == 1);
        for (int i = 0; i < DONE; i++) {
                brood_result *result = host->done[i];
                if (result == NULL)
                        continue;
                if (!support_until(has_ended, result, CHECK_HANG_MS))
                        complain("a task does not end");
                host->ended[i] = task_kind(load_seq_cst(&result_task(result)->state)) == TASK_DONE;
                if (host->ended[i] && i == 0 && brood_result_ready(result) != 1)
                        complain("a task that has ended is not ready");
        }
}

static void check_done(struct host *host)
{
        for (int i = 0; i < DONE; i++) {
                int value = -1;
                if (host->done[i] == NULL || !host->ended[i])
                        continue;
                ssize_t n = brood_result_get(host->done[i], &value, sizeof value, 0);
                if (n != sizeof value || value != i)
                        complain("a task had ended, and gives %d: %s", (int)n, brood_result_reason(host->done[i]));
        }
}

/* What is in completions comes out, whatever becomes of the pool. */
static void check_completions(struct host *host, int count)
{
        brood_result *result;
        int r, came = 0;
        for (; (r = brood_completions_next(host->completions, &result, CHECK_HANG_MS)) == 0; came++)
                brood_result_free(result);
        if (r != -ENODATA || came != count)
                complain("%d of %d came out of the completions, then %d", came, count, r);
}

static void check_pool(struct host *host)
{
        brood_pool_close(host->pool);
        int r = brood_pool_join(host->pool, CHECK_HANG_MS);
        const char *reason = brood_pool_reason(host->pool);
        if (r != (reason ? -EPIPE : 0))
                complain("the join gave %d, and the reason is %s", r, reason ? reason : "none");
        if (reason && (!strstr(reason, "SIGKILL") || victim != KEEPER || is_paused))
                complain("the reason is: %s", reason);
        if (brood_pool_workers(host->pool, NULL, 0) != 0)
                complain("there are workers yet");
}

static void be_a_host(void *arg)
{
        struct host host = { .play = arg };
        int descriptors = support_count_descriptors(), others = 0;
        int64_t start = support_now_ms();
        int r = brood_pool_new(&host.pool, &(brood_pool_options){ .processes = WORKERS });
        if (r < 0) {
                if (r != -EAGAIN)
                        complain("making a pool gave %d", r);
        } else {
                if (brood_completions_new(&host.completions, host.pool) < 0)
                        complain("no completions");
                have_some_done(&host);
                for (int i = 0; i < OTHERS; i++)
                        others += brood_pool_submit(host.pool, NULL,
                                                    &(brood_task_options){ .function = echo_task,
                                                                           .completions = host.completions }) == 0;
                host.play->act(&host);
                check_completions(&host, others);
                check_pool(&host);
                check_done(&host);
                brood_pool_free(host.pool);
                check_done(&host);
                for (int i = 0; i < DONE; i++)
                        brood_result_free(host.done[i]);
                brood_completions_free(host.completions);
        }
        verdict_note_wait(&page->verdict, start, CHECK_HANG_MS);
        if (support_count_descriptors() != descriptors)
                complain("%d descriptors are left", support_count_descriptors() - descriptors);
}

/* What the first pool brings along is there before. */
static int prepare(void *arg)
{
        brood_pool *pool;
        (void)arg;
        require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1 }), 0);
        brood_pool_free(pool);
        return 0;
}

/* ---- the kills ---- */

static bool run(const struct play *play, struct trace *trace)
{
        const struct step_victim parent = { prepare, be_a_host, (void *)(uintptr_t)play, &page->mark };
        verdict_clear(&page->verdict);
        memset(tasks_page, 0, sizeof *tasks_page);
        trace->parent = step_start(&parent);
        if (trace->parent < 0) {
                complain("the host does not get to its pool");
                return kills_note(&kills);
        }
        trace->mark = &page->mark;
        trace->nth = victim;
        trace->parent_last = true;
        trace->limit_ms = 2 * CHECK_HANG_MS;
        trace_run(trace);
        step_kill(trace->parent);
        if (trace->hung)
                complain("they hang, or somebody has stayed");
        /* Who changes the size twice before the keeper looks has no worker started for the first. */
        if (trace->victim == 0 ? victim != LATER_WORKER : trace->killed && trace->victim_code != -SIGKILL)
                complain("the victim has ended with %d", trace->victim_code);
        return kills_note(&kills);
}

static void kill_everywhere(const struct play *play)
{
        int64_t start = support_now_ms();
        struct trace whole = { .calls = LONG_MAX }, one = { 0 };
        bool good = run(play, &whole);
        int most = support_rounds(KILLS), killed = 0;
        long stride = (whole.calls_done + most - 1) / most;
        stride = most >= 1000 || stride == 0 ? 1 : stride;
        for (long at = (long)support_random((uint64_t)stride); good && at < whole.calls_done; at += stride) {
                one = (struct trace){ .calls = at, .steps = (long)support_random(STEPS_AFTER) };
                good = run(play, &one);
                killed += one.killed;
        }
        is_paused = true;
        for (int i = 0; good && i < (most > KILLS ? 10 * PAUSED : PAUSED); i++) {
                one = (struct trace){ .calls = LONG_MAX, .pause_us = PAUSE_US };
                good = run(play, &one);
        }
        is_paused = false;
        kills_in_all += killed;
        kills.calls++;
        kills.failures += !good;
        printf("%s, %s: killed %d times in %ld stops at system calls", play->name,
               victim == KEEPER   ? "the keeper"
               : victim == WORKER ? "a worker"
                                  : "a later worker",
               killed, whole.calls_done);
        if (good)
                printf(" (%d ms)\n", (int)(support_now_ms() - start));
        else
                printf(": after %ld stops and %ld instructions: %s\n", one.calls_done, one.steps_done,
                       page->verdict.complaint);
}

static void kill_all(enum victim which, const char *what)
{
        kills_skip_if_impossible();
        victim = which;
        kills_in_all = 0;
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        tasks_begin();
        page = check_shared(sizeof *page);
        kills_set_up(&kills, &page->verdict);
        for (size_t i = 0; i < array_length(plays); i++)
                if (which != LATER_WORKER || plays[i].starts)
                        kill_everywhere(&plays[i]);
        kills_conclude(&kills, what);
        assert_true(kills_in_all > 0);
        munmap(page, sizeof *page);
        tasks_finish();
}

static void test_keeper(void **state)
{
        (void)state;
        kill_all(KEEPER, "a keeper's life");
}

static void test_worker(void **state)
{
        (void)state;
        kill_all(WORKER, "a worker's life");
}

static void test_later_worker(void **state)
{
        (void)state;
        kill_all(LATER_WORKER, "a later worker's life");
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_keeper),
                support_test(test_worker),
                support_test(test_later_worker),
        };
        return support_main(argc, argv, "pool kills", tests, array_length(tests), 1700);
}
