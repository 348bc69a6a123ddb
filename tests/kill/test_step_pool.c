/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_step_pool.c: a pool's worker, killed at every instruction of a whole cycle: it takes a task, begins it, runs it,
 * ends it, tells of it, takes the next, and goes to sleep.
 *
 * For each play below and for k = 0, 1, 2, ... until the worker sleeps: a fresh pool with this one worker, which is stopped, either
 * asleep or in a task that looks for a gate to open.  Two tasks are handed in, somebody waits for the first, the worker is stepped
 * through k instructions and killed there.  What the two tasks' words say at that moment decides how they must end:
 *
 *     QUEUED    it has not begun: another worker has run it, and nobody has noticed
 *     RUNNING   -EOWNERDEAD with that worker's name; or, with a retry left, another one's value
 *     DONE      the victim's value, and its function was called once
 *
 * Then a third task is run, and the pool is closed and joined.  Each call has a time limit, and no wait may end by that.
 *
 * How many instructions of each play are tried is set by --rounds N (or BROOD_TEST_ROUNDS); by default it is some, every n-th
 * from a random one on.  From 100,000 on it is each of them.
 */
#include "kills.h"

#include "pool/pool.h"

#include <brood/completions.h>
#include <brood/map.h>

#include <poll.h>

enum {
        KILLS = 50, /* in one play, by default */
        TASKS = 2,
        ITEMS = 3, /* of a map */
        LIMIT_MS = 60000,
};

enum way { BY_RESULT, BY_COMPLETIONS, BY_DESCRIPTOR, BY_MAP };
enum strike {
        KILL,
        CANCEL_AND_KILL,
        CANCEL_AND_LET_GO,
};

struct play {
        const char *name;
        enum way way;       /* how the first task is waited for */
        enum strike strike; /* what happens at the instruction */
        brood_task_options terms;
        size_t stride;        /* of the items of a map; their size: the chunk is the pool's own */
        size_t tasks_a_child; /* 0: any number */
        bool asleep;          /* the worker is, before it is given the tasks */
        bool closed;          /* the pool is, when they are in it */
};

static const struct play plays[] = {
        { .name = "plain" },
        { .name = "plain, from its sleep", .asleep = true },
        { .name = "retries", .terms = { .retries = 1 } },
        { .name = "retries, from its sleep", .terms = { .retries = 1 }, .asleep = true },
        { .name = "completions", .way = BY_COMPLETIONS },
        { .name = "completions, retries", .way = BY_COMPLETIONS, .terms = { .retries = 1 } },
        { .name = "descriptor", .way = BY_DESCRIPTOR },
        { .name = "time limit", .terms = { .timeout_ms = LIMIT_MS, .soft_timeout_ms = LIMIT_MS } },
        { .name = "memory limit", .terms = { .memory_limit = 1 << 20 } },
        { .name = "canceled", .strike = CANCEL_AND_KILL },
        { .name = "canceled, completions", .strike = CANCEL_AND_KILL, .way = BY_COMPLETIONS },
        { .name = "canceled, retries", .strike = CANCEL_AND_KILL, .terms = { .retries = 1 } },
        { .name = "canceled, not killed", .strike = CANCEL_AND_LET_GO },
        { .name = "map", .way = BY_MAP, .stride = sizeof(int) },
        { .name = "map of chunks", .way = BY_MAP, .stride = 2 * sizeof(int) },
        { .name = "replaced after two tasks", .tasks_a_child = 2 },
        { .name = "closed", .closed = true },
        { .name = "closed, retries", .closed = true, .terms = { .retries = 1 } },
};

/* Shared by all. */
static struct page {
        struct step_mark mark; /* ended: the worker finalizes */
        struct verdict verdict;
        atomic_int gate, looking;
        atomic_int stepped; /* the victim's pid, while it is */
        atomic_int begun[TASKS + 1], finished[TASKS + 1];
} * page;

static struct kills kills;
static int struck[TASK_DONE + 1]; /* in one play: how often the first task was in which state */

#define complain(...) verdict_complain(&page->verdict, __VA_ARGS__)

/* ---- what is run ---- */

/* Its argument is where this pool's handle is, in the worker as in the host. */
static ssize_t look_for_the_gate(const void *arg, size_t size, void *out, size_t room)
{
        enum { LOOKS = 3 }; /* before it sleeps: thousands would be stepped through, all the same */
        brood_pool *pool;
        (void)out, (void)room;
        memcpy(&pool, arg, size);
        store_relaxed(&pool->ring.spin.length, LOOKS);
        atomic_store(&page->looking, 1);
        while (!atomic_load_explicit(&page->gate, memory_order_relaxed))
                ;
        return 0;
}

static ssize_t count_task(const void *arg, size_t size, void *out, size_t room)
{
        int which = *(const int *)arg;
        (void)size, (void)room;
        atomic_fetch_add(&page->begun[which], 1);
        memcpy(out, arg, sizeof which);
        atomic_fetch_add(&page->finished[which], 1);
        return sizeof which;
}

static void finalize(void *arg)
{
        (void)arg;
        atomic_store(&page->mark.ended, 1);
        if (atomic_load(&page->stepped) == getpid())
                raise(SIGSTOP); /* so it cannot run past the tracer */
}

/* ---- a scene ---- */

struct one {
        brood_result *result;
        brood_map *map;
        struct task *task;
        uint64_t state; /* when the worker was struck */
};

struct scene {
        const struct play *play;
        brood_pool *pool;
        brood_completions *completions;
        brood_result *gate;
        struct one ones[TASKS];
        pid_t victim;
        bool dead;    /* killed in its sleep, which came too early */
        int canceled; /* what the cancellation of the first task returned */
        struct check_thread waiter;
        int told; /* how often the first came out of the completions */
};

static void note_hang(int r)
{
        if (r == -ETIMEDOUT)
                complain("a wait does not end");
}

/* Somebody waits for the first task. */
static int wait_for_it(void *arg)
{
        struct scene *scene = arg;
        struct one *one = &scene->ones[0];
        brood_result *result;
        struct pollfd descriptor = { .events = POLLIN };
        int64_t start = support_now_ms();
        switch (scene->play->way) {
        case BY_RESULT:
                note_hang(brood_result_wait(one->result, CHECK_HANG_MS));
                break;
        case BY_MAP:
                note_hang(brood_map_wait(one->map, CHECK_HANG_MS));
                break;
        case BY_COMPLETIONS:
                for (int r; (r = brood_completions_next(scene->completions, &result, CHECK_HANG_MS)) != -ENODATA;) {
                        note_hang(r);
                        if (r < 0)
                                break;
                        scene->told++;
                }
                break;
        case BY_DESCRIPTOR:
                descriptor.fd = brood_result_fileno(one->result);
                while (brood_result_ready(one->result) == 0)
                        if (poll(&descriptor, 1, CHECK_HANG_MS) == 0) {
                                note_hang(-ETIMEDOUT);
                                break;
                        }
        }
        verdict_note_wait(&page->verdict, start, CHECK_HANG_MS);
        return 0;
}

/* It sleeps by now, so that the worker's way is the same each time. */
static bool is_waited_for(void *arg)
{
        const struct scene *scene = arg;
        uint64_t state = load_seq_cst(&scene->ones[0].task->state);
        if (scene->play->way == BY_COMPLETIONS)
                return load_seq_cst(&scene->pool->shared->ended) & ENDED_SLEEPERS;
        return state & (scene->play->way == BY_DESCRIPTOR ? TASK_WATCHED : TASK_WAITED);
}

static void hand_in(struct scene *scene, int which)
{
        static const int items[2 * ITEMS] = { 0 };
        const struct play *play = scene->play;
        struct one *one = &scene->ones[which];
        one->task = &scene->pool->tasks[scene->pool->tasks_made];
        if (play->way == BY_MAP && which == 0) {
                brood_map_options map = { .function = count_task,
                                          .items = items,
                                          .item_size = sizeof(int),
                                          .stride = play->stride,
                                          .count = ITEMS,
                                          .result_size = sizeof(int),
                                          .chunksize = ITEMS };
                assert_int_equal(brood_pool_map_async(scene->pool, &one->map, &map), 0);
        } else {
                brood_task_options options = play->terms;
                options.function = count_task;
                options.arg = &which;
                options.size = sizeof which;
                if (play->way == BY_COMPLETIONS)
                        options.completions = scene->completions;
                assert_int_equal(brood_pool_submit(scene->pool, &one->result, &options), 0);
        }
}

static bool is_asleep(void *arg)
{
        struct scene *scene = arg;
        return brood_result_ready(scene->gate) == 1 && support_process_state(scene->victim) == 'S';
}

static void scene_begin(struct scene *scene, const struct play *play)
{
        *scene = (struct scene){ .play = play };
        atomic_store(&page->looking, 0);
        atomic_store(&page->mark.ended, 0);
        for (int i = 0; i <= TASKS; i++) {
                atomic_store(&page->begun[i], 0);
                atomic_store(&page->finished[i], 0);
        }
        verdict_clear(&page->verdict);
        brood_pool_options options = {
                .processes = 1, .max_tasks = 16, .finalizer = finalize, .max_tasks_per_child = play->tasks_a_child
        };
        assert_int_equal(brood_pool_new(&scene->pool, &options), 0);
        assert_int_equal(brood_completions_new(&scene->completions, scene->pool), 0);
        assert_int_equal(brood_pool_workers(scene->pool, &scene->victim, 1), 1);
        atomic_store(&page->gate, play->asleep);
        assert_int_equal(
            brood_pool_apply_async(scene->pool, &scene->gate, look_for_the_gate, &scene->pool, sizeof scene->pool), 0);
        assert_true(check_reaches(&page->looking, 1, CHECK_HANG_MS));
        if (play->asleep)
                assert_true(support_until(is_asleep, scene, CHECK_HANG_MS));
        assert_true(step_attach(scene->victim));
        atomic_store(&page->stepped, scene->victim);
        for (int i = 0; i < TASKS; i++)
                hand_in(scene, i);
        if (play->closed)
                assert_int_equal(brood_pool_close(scene->pool), 0);
        check_thread_start(&scene->waiter, wait_for_it, scene);
        assert_true(support_until(is_waited_for, scene, CHECK_HANG_MS));
        atomic_store(&page->gate, 1);
}

static void strike(struct scene *scene)
{
        const struct play *play = scene->play;
        for (int i = 0; i < TASKS; i++)
                scene->ones[i].state = load_seq_cst(&scene->ones[i].task->state);
        struck[task_kind(scene->ones[0].state)]++;
        scene->canceled = -EALREADY;
        if (play->strike != KILL)
                scene->canceled = brood_result_cancel(scene->ones[0].result, true);
        atomic_store(&page->stepped, 0);
        if (play->strike == CANCEL_AND_LET_GO)
                step_detach(scene->victim);
        else
                step_kill(scene->victim);
}

/* ---- what must be true afterwards ---- */

/* Its value, and who ran it, in how many tries. */
static void check_value_of(const struct scene *scene, int which, bool by_victim, int attempts)
{
        brood_result *result = scene->ones[which].result;
        brood_result_report report;
        int value = -1;
        ssize_t n = brood_result_get(result, &value, sizeof value, CHECK_HANG_MS);
        int begun = atomic_load(&page->begun[which]);
        if (n != sizeof value || value != which)
                complain("task %d gave %d: %s", which, (int)n, brood_result_reason(result));
        else if (brood_result_get_report(result, &report) != 0 || (report.worker == scene->victim) != by_victim ||
                 report.attempts != attempts)
                complain("task %d: run by %d, %d attempts; the victim is %d", which, (int)report.worker,
                         report.attempts, (int)scene->victim);
        else if (begun < 1 || begun > attempts || atomic_load(&page->finished[which]) < 1)
                complain("task %d was called %d times", which, begun);
}

static void check_death_of(const struct scene *scene, int which)
{
        brood_result *result = scene->ones[which].result;
        brood_result_report report = { .attempts = 0 };
        ssize_t n = brood_result_get(result, NULL, 0, CHECK_HANG_MS);
        if (n != -EOWNERDEAD)
                complain("task %d of a dead worker gave %d: %s", which, (int)n, brood_result_reason(result));
        else if (brood_result_get_report(result, &report) != 0 || report.outcome != BROOD_OUTCOME_SIGNALED ||
                 report.worker != scene->victim || report.exitcode != -SIGKILL || report.attempts != 1)
                complain("task %d: worker %d, code %d, %d attempts", which, (int)report.worker, report.exitcode,
                         report.attempts);
        else if (atomic_load(&page->begun[which]) > 1)
                complain("task %d was called %d times", which, atomic_load(&page->begun[which]));
}

static void check_map(const struct scene *scene)
{
        bool dead = task_kind(scene->ones[0].state) == TASK_RUNNING;
        int values[ITEMS] = { -1, -1, -1 }, sum = 0;
        int r = brood_map_get(scene->ones[0].map, values, CHECK_HANG_MS);
        int begun = atomic_load(&page->begun[0]);
        for (int i = 0; i < ITEMS; i++)
                sum += values[i];
        if (r != (dead ? -EOWNERDEAD : 0))
                complain("the map gave %d: %s", r, brood_map_reason(scene->ones[0].map));
        else if (sum != (dead ? -ITEMS : 0) || begun > ITEMS || (!dead && begun != ITEMS))
                complain("the map's items were called %d times, and their values are %d", begun, sum);
}

static void check_one(const struct scene *scene, int which)
{
        const struct play *play = scene->play;
        const struct one *one = &scene->ones[which];
        enum task_kind kind = task_kind(one->state);
        bool lives = play->strike == CANCEL_AND_LET_GO, ran_on = false;
        if (which == 0 && play->strike != KILL) {
                if (scene->canceled != (kind == TASK_DONE ? -EALREADY : 0))
                        complain("the cancellation returned %d", scene->canceled);
                if (scene->canceled == 0) {
                        ssize_t n = brood_result_get(one->result, NULL, 0, 0);
                        if (n != -ECANCELED || (kind == TASK_QUEUED && atomic_load(&page->begun[0])))
                                complain("a canceled task gave %d, and was called %d times", (int)n,
                                         atomic_load(&page->begun[0]));
                        return;
                }
        }
        /* Whoever lives goes on with the next one, unless the one before it was canceled while it ran. */
        if (lives && kind != TASK_DONE)
                ran_on = which == 0 || task_kind(scene->ones[0].state) != TASK_RUNNING;
        if (which == 0 && one->map)
                check_map(scene);
        else if (kind == TASK_DONE || ran_on)
                check_value_of(scene, which, true, 1);
        else if (kind == TASK_QUEUED)
                check_value_of(scene, which, false, 1);
        else if (play->terms.retries)
                check_value_of(scene, which, false, 2);
        else
                check_death_of(scene, which);
}

static void check_next(const struct scene *scene)
{
        int which = TASKS, value = -1;
        ssize_t n =
            brood_pool_apply(scene->pool, count_task, &which, sizeof which, &value, sizeof value, CHECK_HANG_MS);
        if (scene->play->closed ? n != -EPIPE : n != sizeof value || value != which)
                complain("the next task gave %d", (int)n);
}

static void scene_end(struct scene *scene)
{
        int64_t start = support_now_ms();
        check_thread_join(&scene->waiter);
        for (int i = 0; i < TASKS; i++)
                check_one(scene, i);
        check_next(scene);
        if (scene->play->way == BY_COMPLETIONS && scene->told != TASKS)
                complain("%d tasks came out of the completions", scene->told);
        if (brood_pool_close(scene->pool) != 0 || brood_pool_join(scene->pool, CHECK_HANG_MS) != 0)
                complain("the pool does not end: %s", brood_pool_reason(scene->pool));
        verdict_note_wait(&page->verdict, start, CHECK_HANG_MS);
        for (int i = 0; i < TASKS; i++) {
                brood_result_free(scene->ones[i].result);
                brood_map_free(scene->ones[i].map);
        }
        brood_result_free(scene->gate);
        brood_completions_free(scene->completions);
        brood_pool_free(scene->pool);
        if (support_count_children(getpid()) != 0)
                complain("a child is left");
}

/* ---- the kills ---- */

/* It sleeps before it gets to where it is to die: then it dies there. */
static void kill_asleep(void *arg)
{
        struct scene *scene = arg;
        scene->dead = true;
        kill(scene->victim, SIGKILL);
}

/* Strike after k instructions: of a first way, which is noted, or along that.  False: something is wrong. */
static bool strike_after(const struct play *play, long k, bool is_first, long *ret_steps)
{
        struct scene scene;
        enum step_end end;
        scene_begin(&scene, play);
        if (is_first || play->strike == CANCEL_AND_LET_GO)
                end = step_run(scene.victim, &page->mark, k, false, is_first ? &kills.path : NULL, ret_steps);
        else
                end = step_go(scene.victim, &page->mark, &kills.path, 0, k, kill_asleep, &scene);
        /* A worker of a closed pool that took another way leaves, and is not met. */
        bool left = play->closed && atomic_load(&page->mark.ended);
        if (end == STEP_CRASHED && !scene.dead && !left)
                complain("the victim has crashed");
        if (*ret_steps >= KILLS_STEPS_MOST)
                complain("the worker does not get to its sleep");
        strike(&scene);
        scene_end(&scene);
        return kills_note(&kills);
}

static void kill_everywhere(const struct play *play)
{
        int64_t start = support_now_ms();
        long k = KILLS_STEPS_MOST, steps = 0, walked = 0;
        int most = support_rounds(KILLS);
        memset(struck, 0, sizeof struck);
        kills.path.count = kills.path.forks_count = 0;
        bool good = strike_after(play, k, true, &steps);
        long points = kills_find_points(&kills, steps), stride = (points + most - 1) / most;
        stride = stride > 0 ? stride : 1;
        for (long i = (long)support_random((uint64_t)stride); good && i < points; i += stride) {
                k = kills.points[i];
                good = strike_after(play, k, false, &walked);
        }
        kills.calls++;
        kills.failures += !good;
        printf("%s: %ld places in %ld instructions; struck %d times before its begin, %d before its end, %d after it",
               play->name, points, steps, struck[TASK_QUEUED], struck[TASK_RUNNING], struck[TASK_DONE]);
        if (good)
                printf(" (%d ms)\n", (int)(support_now_ms() - start));
        else
                printf(": after %ld: %s\n", k, page->verdict.complaint);
}

static void test_worker_at_every_instruction(void **state)
{
        (void)state;
        kills_skip_if_impossible();
        page = check_shared(sizeof *page);
        kills_set_up(&kills, &page->verdict);
        for (size_t i = 0; i < array_length(plays); i++)
                kill_everywhere(&plays[i]);
        kills_conclude(&kills, "a worker's cycle");
        munmap(page, sizeof *page);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { support_test(test_worker_at_every_instruction) };
        return support_main(argc, argv, "step pool", tests, array_length(tests), 3500);
}
