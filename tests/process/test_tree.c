/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_tree.c: what a child has started past brood is gone when the child is, at each level of the tree.
 */
#include "check.h"
#include "family.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- the ends ---- */

static void check_end(brood_tree_level level, bool killed)
{
        struct family family;
        brood_process *process;
        brood_process_report report;
        int children = support_count_children(getpid()), descriptors = support_count_descriptors();
        family_make(&family, killed);
        assert_int_equal(start_family(&process, &family, level), 0);
        assert_int_equal(brood_process_tree(process), level);
        assert_int_equal(count_found(&family.who), STRAYS + 1);
        assert_int_equal(brood_process_join(process, 0), -EAGAIN);
        if (killed)
                assert_int_equal(brood_process_kill(process), 0);
        else
                say(family.go[1]);
        assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
        /* Not soon, but now. */
        assert_int_equal(count_found(&family.who), 0);
        expect_no_group();
        int code;
        assert_int_equal(brood_process_exitcode(process, &code), 0);
        assert_int_equal(code, killed ? -SIGKILL : CODE);
        assert_int_equal(brood_process_get_report(process, &report), 0);
        assert_true(report.measured);
        assert_int_equal(report.pid, brood_process_pid(process));
        assert_int_equal(brood_process_tree(process), level);
        assert_int_equal(support_count_children(getpid()), children);
        brood_process_free(process);
        family_free(&family);
        assert_int_equal(support_count_descriptors(), descriptors);
}

static void test_ends_by_itself(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++)
                if (level_possible(levels[i]))
                        check_end(levels[i], false);
}

static void test_is_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++)
                if (level_possible(levels[i]))
                        check_end(levels[i], true);
}

static void test_is_freed(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++) {
                struct family family;
                brood_process *process;
                if (!level_possible(levels[i]))
                        continue;
                family_make(&family, true);
                assert_int_equal(start_family(&process, &family, levels[i]), 0);
                brood_process_free(process);
                assert_int_equal(count_found(&family.who), 0);
                expect_no_group();
                family_free(&family);
        }
}

static void test_is_waited_for(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++) {
                struct family family;
                brood_process *process;
                int code = 1234;
                if (!level_possible(levels[i]))
                        continue;
                family_make(&family, false);
                assert_int_equal(start_family(&process, &family, levels[i]), 0);
                say(family.go[1]);
                assert_int_equal(brood_wait(&code, BROOD_FOREVER), brood_process_pid(process));
                assert_int_equal(code, CODE);
                assert_int_equal(count_found(&family.who), 0);
                assert_int_equal(brood_wait(NULL, 0), -ECHILD);
                brood_process_free(process);
                family_free(&family);
        }
}

/* Who asks for nothing gets what there was: the strays live on. */
static void test_without(void **state)
{
        (void)state;
        struct family family;
        brood_process *process;
        family_make(&family, true);
        assert_int_equal(start_family(&process, &family, BROOD_TREE_BROOD), 0);
        assert_int_equal(brood_process_tree(process), BROOD_TREE_BROOD);
        brood_process_free(process);
        assert_int_equal(count_found(&family.who), STRAYS);
        family.who.signal = SIGKILL;
        expect_none_soon(&family.who);
        family_free(&family);
}

/* ---- guardians below guardians ---- */

struct nest {
        struct family inner;
        brood_tree_level level;
};

static int live_in_nest(void *given)
{
        struct nest *nest = given;
        brood_process *process;
        ask(start_family(&process, &nest->inner, nest->level) == 0);
        say(nest->inner.go[1]);
        return wait_for_ever(NULL);
}

/* What the inner one has made is gone with the outer one, a group too; but for a namespace that is killed as a whole. */
static void test_nest(void **state)
{
        (void)state;
        static const brood_tree_level nests[][2] = {
                { BROOD_TREE_WALK, BROOD_TREE_WALK },      { BROOD_TREE_WALK, BROOD_TREE_CGROUP },
                { BROOD_TREE_WALK, BROOD_TREE_NAMESPACE }, { BROOD_TREE_CGROUP, BROOD_TREE_WALK },
                { BROOD_TREE_CGROUP, BROOD_TREE_CGROUP },  { BROOD_TREE_CGROUP, BROOD_TREE_NAMESPACE },
                { BROOD_TREE_NAMESPACE, BROOD_TREE_WALK }, { BROOD_TREE_NAMESPACE, BROOD_TREE_NAMESPACE },
        };
        for (size_t i = 0; i < array_length(nests); i++) {
                struct nest nest = { .level = nests[i][1] };
                char c;
                if (!level_possible(nests[i][0]) || !level_possible(nests[i][1]))
                        continue;
                family_make(&nest.inner, true);
                brood_process_options options = { .target = live_in_nest, GIVEN(&nest) };
                options.setup.tree = nests[i][0];
                brood_process *process = start_with(&options);
                pid_t pid = brood_process_pid(process);
                while (read(nest.inner.go[0], &c, 1) != 1)
                        assert_int_equal(errno, EINTR);
                assert_int_equal(count_found(&nest.inner.who), STRAYS + 1);
                assert_int_equal(brood_process_kill(process), 0);
                assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
                assert_int_equal(count_found(&nest.inner.who), 0);
                assert_true(no_group_is_left(&pid));
                expect_no_group();
                brood_process_free(process);
                family_free(&nest.inner);
        }
}

/* ---- who has children all the time ---- */

struct bomb {
        struct search who;
        _Atomic int born;
};

enum { BOMB_MOST = 400 };

static _Noreturn void multiply(struct bomb *bomb)
{
        while (atomic_fetch_add(&bomb->born, 1) < BOMB_MOST)
                if (fork() == 0 && fork() != 0)
                        _exit(0); /* so that the next is an orphan */
        for (;;)
                pause();
}

static int explode(void *bomb)
{
        struct bomb *shared = *(struct bomb **)bomb;
        struct rlimit few;
        signal(SIGCHLD, SIG_IGN);
        prctl(PR_SET_NAME, shared->who.name);
        if (getrlimit(RLIMIT_NPROC, &few) < 0)
                return 1;
        multiply(shared);
}

static bool has_begun(void *bomb)
{
        return atomic_load(&((struct bomb *)bomb)->born) > 100;
}

static void test_who_multiplies(void **state)
{
        (void)state;
        struct bomb *bomb = mmap(NULL, sizeof *bomb, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(bomb != MAP_FAILED);
        for (size_t i = 0; i < array_length(levels); i++) {
                if (!level_possible(levels[i]))
                        continue;
                snprintf(bomb->who.name, sizeof bomb->who.name, "bomb%d-%zu", (int)getpid(), i);
                atomic_store(&bomb->born, 0);
                brood_process_options options = { .target = explode, GIVEN(&bomb) };
                options.setup.tree = levels[i];
                brood_process *process = start_with(&options);
                assert_true(support_until(has_begun, bomb, 20000));
                assert_int_equal(brood_process_kill(process), 0);
                assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
                int born = atomic_load(&bomb->born);
                assert_int_equal(count_found(&bomb->who), 0);
                assert_int_equal(atomic_load(&bomb->born), born);
                brood_process_free(process);
        }
        munmap(bomb, sizeof *bomb);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                process_test(test_ends_by_itself), process_test(test_is_killed), process_test(test_is_freed),
                process_test(test_is_waited_for),  process_test(test_without),   fork_test(test_nest),
                fork_test(test_who_multiplies),
        };

        return setting_main(argc, argv, "tree", tests, array_length(tests), 80);
}
