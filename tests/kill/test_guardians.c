/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_guardians.c: births under a guardian, at each level of the tree, killed at an instruction.
 *
 * The parent, whose child has a daemon of its own, is stepped through k instructions of start, join, kill and join, and killed
 * there: all that it had started must be gone soon after it.  Then the guardian, the floor of a namespace, and the child, from
 * their first instruction on: the parent's calls must end, with success or an error that says what happened, and its next start
 * must succeed.  No control group may be left over.  (Births without a guardian: test_step_births.c.)
 *
 * How many instructions of each are tried, evenly spread and at a random offset, is set by --rounds N (or BROOD_TEST_ROUNDS).
 */
#include "check.h"
#include "trace.h"

#include "os/cgroup.h"

#include <brood/process.h>

#include <dirent.h>
#include <limits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum {
        KILLS_OF_PARENTS = 10,
        KILLS_OF_CHILDREN = 2,
        STEPS_MOST = 50000000,
};

static const char *const tree_names[] = { "", ", a walk", ", a group", ", a namespace" };

/* Orphans come to the test process: it sees each of them end. */
static void adopt_orphans(void)
{
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
}

static bool is_alone(void *unused)
{
        pid_t pid;
        (void)unused;
        do
                pid = waitpid(-1, NULL, WNOHANG | __WALL);
        while (pid > 0 || (pid < 0 && errno == EINTR));
        return pid < 0 && errno == ECHILD;
}

/* Of those that a host has made for its children. */
static void expect_no_group(const char *what, pid_t host, long k)
{
        char path[PATH_MAX], prefix[32];
        snprintf(prefix, sizeof prefix, "brood-%d-", (int)host);
        if (cgroup_own(path, sizeof path) < 0)
                return;
        DIR *directory = opendir(path);
        for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
                if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0)
                        fail_msg("%s, killed after %ld instructions, has left the control group %s", what, k,
                                 entry->d_name);
        if (directory != NULL)
                closedir(directory);
}

static void expect_all_gone(const char *what, long k)
{
        if (!support_until(is_alone, NULL, CHECK_HANG_MS))
                fail_msg("%s, killed after %ld instructions, has left processes behind", what, k);
}

static void need_steps(void)
{
        const char *why = "";
        if (step_possible(&why))
                return;
        print_message("skipped: %s\n", why);
        skip();
}

/* The k-th of `count` places among `total`. */
static long place(long i, long count, long total)
{
        long width = total / count + 1;
        long k = i * width + (long)support_random((uint64_t)width);
        return k < total ? k : total - 1;
}

/* ---- the parent ---- */

static int wait_for_ever(void *unused)
{
        (void)unused;
        while (pause() < 0)
                ;
        return 0;
}

struct parent {
        brood_tree_level tree;
        brood_process *process;
};

static int return_five(void *unused)
{
        (void)unused;
        return 5;
}

/* A target with a daemon, which has nothing of its parents' any more. */
static int have_a_daemon(void *unused)
{
        if (fork() == 0) {
                setsid();
                if (fork() != 0)
                        _exit(0);
                syscall(SYS_close_range, 0, ~0U, 0);
        }
        return wait_for_ever(unused);
}

static int one_life(int (*target)(void *), brood_tree_level tree, brood_process **ret_process)
{
        const brood_process_options options = {
                .target = target,
                .start_method = BROOD_START_FORK,
                .setup = { .tree = tree },
        };
        return brood_process_new(ret_process, &options);
}

static int parent_prepare(void *arg)
{
        struct parent *parent = arg;
        brood_process *p;
        sigset_t signals;
        /* To the one who steps, a signal is a stop like any other. */
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        /* There has been another start before. */
        require_int(one_life(return_five, parent->tree, &p), 0);
        require_int(brood_process_start(p), 0);
        require_int(brood_process_join(p, BROOD_FOREVER), 0);
        brood_process_free(p);
        return one_life(have_a_daemon, parent->tree, &parent->process);
}

static void parent_call(void *arg)
{
        struct parent *parent = arg;
        if (brood_process_start(parent->process) < 0)
                return;
        brood_process_join(parent->process, 0);
        brood_process_kill(parent->process);
        brood_process_join(parent->process, BROOD_FOREVER);
}

static void kill_parents(brood_tree_level tree)
{
        struct step_mark *mark = check_shared(sizeof *mark);
        struct parent parent = { tree, NULL };
        const struct step_victim victim = { parent_prepare, parent_call, &parent, mark };
        int kills = support_rounds(KILLS_OF_PARENTS);
        long total, k;
        char what[80];
        snprintf(what, sizeof what, "a parent%s", tree_names[tree]);
        int64_t longest = 0;
        pid_t pid = step_start(&victim);
        assert_true(pid > 0);
        assert_int_equal(step_run(pid, mark, STEPS_MOST, true, NULL, &total), STEP_ENDED);
        step_kill(pid);
        expect_all_gone(what, total);
        expect_no_group(what, pid, total);
        for (int i = 0; i < kills; i++) {
                long wanted = place(i, kills, total);
                pid = step_start(&victim);
                assert_true(pid > 0);
                enum step_end end = step_run(pid, mark, wanted, true, NULL, &k);
                assert_true(end == STEP_THERE || end == STEP_ENDED);
                int64_t since = support_now_ms();
                step_kill(pid);
                expect_all_gone(what, wanted);
                expect_no_group(what, pid, wanted);
                int64_t took = support_now_ms() - since;
                longest = took > longest ? took : longest;
        }
        print_message("%s: %d kills in %ld instructions; all gone after %d ms at most\n", what, kills, total,
                      (int)longest);
        munmap(mark, sizeof *mark);
}

static void test_parent_with_guardian_killed(void **state)
{
        (void)state;
        need_steps();
        adopt_orphans();
        for (int tree = BROOD_TREE_WALK; tree <= BROOD_TREE_NAMESPACE; tree++)
                if (brood_tree_possible((brood_tree_level)tree) == tree)
                        kill_parents((brood_tree_level)tree);
}

/* ---- the guardian, and the child ---- */

/* A parent that looks at each result; 0 if all of them are honest. */
static int watchful_parent(brood_tree_level tree)
{
        brood_process *p;
        /* A guardian that is stepped through its look at /proc takes its time. */
        enum { LIMIT_MS = 12 * CHECK_HANG_MS };
        for (int i = 0; i < 2; i++) {
                int code = -1000;
                require_int(one_life(return_five, tree, &p), 0);
                int r = brood_process_start(p);
                require(r == 0 || (i == 0 && (r == -EAGAIN || r == -EPIPE)));
                if (r == 0) {
                        require_int(brood_process_join(p, LIMIT_MS), 0);
                        r = brood_process_exitcode(p, &code);
                        require(r == 0 ||
                                r == -ENODATA); /* by a guardian that was killed, where the kernel does not tell */
                        require(r < 0 || code == 5 || (i == 0 && code == -SIGKILL));
                }
                brood_process_free(p);
        }
        return 0;
}

struct births {
        struct step_mark mark;
        atomic_int result;
        brood_tree_level tree;
};

static void call_watchful_parent(void *given)
{
        struct births *births = given;
        atomic_store(&births->result, watchful_parent(births->tree));
}

/* The nth process that a parent begins is killed after so many steps. */
static struct trace trace_births(struct births *births, int n, long steps)
{
        const struct step_victim parent = { .call = call_watchful_parent, .arg = births, .mark = &births->mark };
        struct trace trace = { .mark = &births->mark, .nth = n, .steps = steps, .limit_ms = 2 * CHECK_HANG_MS };
        atomic_store(&births->result, -1);
        trace.parent = step_start(&parent);
        assert_true(trace.parent > 0);
        trace_run(&trace);
        step_kill(trace.parent);
        return trace;
}

static void kill_the_nth(brood_tree_level tree, int n, const char *what)
{
        struct births *births = check_shared(sizeof *births);
        int kills = support_rounds(KILLS_OF_CHILDREN);
        births->tree = tree;
        const struct trace all = trace_births(births, n, LONG_MAX);
        assert_false(all.hung);
        assert_int_equal(atomic_load(&births->result), 0);
        assert_true(all.victim > 0 && all.steps_done > 0);
        long total = all.steps_done, killed = 0;
        for (int i = 0; i < kills; i++) {
                const struct trace trace = trace_births(births, n, place(i, kills, total));
                int result = atomic_load(&births->result);
                if (trace.hung || result != 0)
                        fail_msg("%s%s, killed after %ld of %ld instructions: the parent %s %d", what, tree_names[tree],
                                 trace.steps, total, trace.hung ? "hangs, and was at" : "ended with", result);
                expect_no_group(what, trace.parent, trace.steps);
                killed += trace.killed;
        }
        munmap(births, sizeof *births);
        print_message("%s%s: %ld kills in %ld instructions\n", what, tree_names[tree], killed, total);
}

static void test_guardian_killed(void **state)
{
        (void)state;
        need_steps();
        adopt_orphans();
        for (int tree = BROOD_TREE_WALK; tree <= BROOD_TREE_NAMESPACE; tree++) {
                brood_tree_level level = (brood_tree_level)tree;
                int n = 1;
                if (brood_tree_possible(level) != tree)
                        continue;
                kill_the_nth(level, n++, "a guardian");
                if (level == BROOD_TREE_NAMESPACE)
                        kill_the_nth(level, n++, "a floor");
                kill_the_nth(level, n, "a child");
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_parent_with_guardian_killed),
                support_test(test_guardian_killed),
        };
        if (brood_main(argc, argv) < 0)
                return 1;
        return support_main(argc, argv, "guardians", tests, array_length(tests), 1700);
}
