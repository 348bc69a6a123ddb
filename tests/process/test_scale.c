/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_scale.c: very many processes, one after the other and at once, and nothing left of them.  How long each takes
 * beside the others that are alive is a figure of the bench (process.start-join-many).
 *
 * --rounds 100000 is the long run (tools/check-all.sh): so many by fork, and a tenth by the other methods.
 */
#include "check.h"
#include "setting.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { AT_ONCE = 2000, AT_ONCE_BY_SPAWN = 500, DESCRIPTORS_EACH = 3 };

/* ---- what may be left ---- */

struct left {
        int children, descriptors, mappings;
        long anonymous_kb; /* memory that is this process's own */
};

static long anonymous_kb(void)
{
        char line[256];
        long kb = -1;
        FILE *file = fopen("/proc/self/smaps_rollup", "re");
        assert_non_null(file);
        while (fgets(line, sizeof line, file))
                if (sscanf(line, "Anonymous: %ld kB", &kb) == 1)
                        break;
        fclose(file);
        assert_true(kb > 0);
        return kb;
}

static struct left look(void)
{
        return (struct left){
                .children = support_count_children(getpid()),
                .descriptors = support_count_descriptors(),
                .mappings = support_count_mappings(),
                .anonymous_kb = anonymous_kb(),
        };
}

/* Memory may grow by so much in all, however many processes there were: by a leak of a byte each it would grow by more. */
static void expect_same(const struct left *before, long slack_kb)
{
        const struct left now = look();
        assert_int_equal(now.children, before->children);
        assert_int_equal(now.descriptors, before->descriptors);
#if !CHECK_ASAN /* its allocator maps as it likes, and keeps what is freed for a while */
        assert_in_range(now.mappings, 1, before->mappings);
        print_message("memory: %ld kB, then %ld kB\n", before->anonymous_kb, now.anonymous_kb);
        assert_true(now.anonymous_kb <= before->anonymous_kb + slack_kb);
#else
        (void)slack_kb;
#endif
}

/* ---- in a row ---- */

static void lives(int count)
{
        for (int i = 0; i < count; i++) {
                int number = i & 255;
                brood_process *p = start(return_number, &number);
                assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                expect_exitcode(p, number);
                brood_process_free(p);
        }
}

/* The second half leaves nothing that the first has not. */
static void test_in_a_row(void **state)
{
        (void)state;
        int rounds = support_rounds(5000) / (method == BROOD_START_FORK ? 1 : 10);
        int64_t since = support_now_ms();
        lives(rounds / 2);
        const struct left half = look();
        lives(rounds / 2);
        print_message("%d lives in %d ms\n", rounds / 2 * 2, (int)(support_now_ms() - since));
        expect_same(&half, 16);
}

/* ---- at once ---- */

static brood_process *all[AT_ONCE];

static int at_once(void)
{
        return method == BROOD_START_SPAWN ? AT_ONCE_BY_SPAWN : AT_ONCE;
}

/* The fork server is to be started with this limit, too. */
static bool raise_limit(struct rlimit *ret_before)
{
        const rlim_t needed = DESCRIPTORS_EACH * AT_ONCE;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, ret_before), 0);
        if (ret_before->rlim_max < needed)
                return false;
        struct rlimit more = *ret_before;
        if (more.rlim_cur < needed)
                more.rlim_cur = needed;
        return setrlimit(RLIMIT_NOFILE, &more) == 0;
}

static void begin_all(int count, struct gate *gate)
{
        gate_make(gate);
        int64_t since = support_now_ms();
        for (int i = 0; i < count; i++)
                all[i] = start(wait_for_gate, gate);
        print_message("%d started in %d ms\n", count, (int)(support_now_ms() - since));
        assert_int_equal(brood_active_children(NULL, 0), count);
        int children = method == BROOD_START_FORKSERVER ? 1 : count;
        assert_int_equal(support_count_children(getpid()), children);
}

/* Each has ended by itself; `*left` of them are handled, in random order. */
static brood_process *draw(int *left)
{
        int i = (int)support_random((uint64_t)*left);
        brood_process *p = all[i];
        all[i] = all[--*left];
        return p;
}

static void join_all(int count, struct gate *gate)
{
        begin_all(count, gate);
        gate_open(gate);
        int64_t since = support_now_ms();
        for (int left = count; left > 0;) {
                brood_process *p = draw(&left);
                assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                expect_exitcode(p, 7);
                brood_process_free(p);
        }
        print_message("%d joined in %d ms\n", count, (int)(support_now_ms() - since));
}

static void wait_for_all(int count, struct gate *gate)
{
        static pid_t pids[AT_ONCE];
        begin_all(count, gate);
        gate_open(gate);
        int64_t since = support_now_ms();
        for (int i = 0; i < count; i++) {
                int code = -1;
                pids[i] = brood_wait(&code, BROOD_FOREVER);
                assert_true(pids[i] > 0);
                assert_int_equal(code, 7);
        }
        assert_int_equal(brood_wait(NULL, BROOD_FOREVER), -ECHILD);
        print_message("%d waited for in %d ms\n", count, (int)(support_now_ms() - since));
        /* Each was told once. */
        for (int i = 0; i < count; i++) {
                int times = 0;
                for (int j = 0; j < count; j++)
                        times += pids[j] == brood_process_pid(all[i]);
                assert_int_equal(times, 1);
        }
        for (int left = count; left > 0;)
                brood_process_free(draw(&left));
}

static void free_all(int count, struct gate *gate)
{
        begin_all(count, gate);
        for (int left = count; left > 0;)
                brood_process_free(draw(&left));
        gate_open(gate);
}

static void test_at_once(void **state)
{
        (void)state;
        struct rlimit before;
        struct gate gate;
        if (!raise_limit(&before)) {
                print_message("fewer than %d descriptors allowed\n", DESCRIPTORS_EACH * AT_ONCE);
                skip();
        }
        join_all(at_once(), &gate); /* the heap, the server and its books grow to their size */
        const struct left first = look();
        join_all(at_once(), &gate);
        wait_for_all(at_once(), &gate);
        free_all(at_once(), &gate);
        expect_same(&first, 1024);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                process_test(test_in_a_row),
                process_test(test_at_once),
        };
        return setting_main(argc, argv, "scale", tests, sizeof tests / sizeof tests[0], 300);
}
