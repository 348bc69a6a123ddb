/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_tree_deaths.c: the host or the guardian of a child is killed, or both, at each level of the tree.
 */
#include "check.h"
#include "family.h"

#include <signal.h>
#include <unistd.h>

struct scene {
        struct family family;
        brood_tree_level level;
        bool kill_guardian;
        pid_t host;
};

static int host_dies(void *given)
{
        struct scene *scene = given;
        brood_process *process;
        pid_t self = getpid();
        ask(start_family(&process, &scene->family, scene->level) == 0);
        if (scene->kill_guardian) {
                pid_t guardian = support_parent_of(brood_process_pid(process));
                ask(guardian > 1 && guardian != self);
                ask(kill(guardian, SIGKILL) == 0);
                ask(support_process_gone(guardian, 20000));
        }
        if (write(scene->family.go[1], &self, sizeof self) != sizeof self)
                return __LINE__;
        raise(SIGKILL);
        return 0;
}

static void test_host_is_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++) {
                struct scene scene = { .level = levels[i] };
                if (!level_possible(levels[i]))
                        continue;
                family_make(&scene.family, true);
                note_adopted();
                assert_int_equal(in_child(host_dies, &scene), HOST_DIED);
                assert_int_equal(read(scene.family.go[0], &scene.host, sizeof scene.host), sizeof scene.host);
                expect_none_soon(&scene.family.who);
                assert_true(support_until(no_group_is_left, &scene.host, 20000));
                expect_no_orphans();
                family_free(&scene.family);
        }
}

static bool is_alone(void *given)
{
        reap_adopted();
        return count_found(given) <= STRAYS;
}

/* First the guardian, then the host: the target dies of its lifeline, and in a namespace all die. */
static void test_guardian_and_host_are_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++) {
                struct scene scene = { .level = levels[i], .kill_guardian = true };
                if (!level_possible(levels[i]) ||
                    levels[i] == BROOD_TREE_CGROUP) /* the group would be left to nobody */
                        continue;
                family_make(&scene.family, true);
                note_adopted();
                assert_int_equal(in_child(host_dies, &scene), HOST_DIED);
                if (levels[i] == BROOD_TREE_NAMESPACE)
                        expect_none_soon(&scene.family.who);
                else
                        assert_true(support_until(is_alone, &scene.family.who, 20000));
                scene.family.who.signal = SIGKILL;
                expect_none_soon(&scene.family.who);
                expect_no_orphans();
                family_free(&scene.family);
        }
}

static void test_guardian_is_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++) {
                bool all_die = levels[i] == BROOD_TREE_NAMESPACE;
                struct family family;
                brood_process *process;
                if (!level_possible(levels[i]))
                        continue;
                note_adopted();
                family_make(&family, true);
                assert_int_equal(start_family(&process, &family, levels[i]), 0);
                pid_t guardian = support_parent_of(brood_process_pid(process));
                assert_int_equal(support_parent_of(guardian), getpid());
                assert_int_equal(kill(guardian, SIGKILL), 0);
                assert_true(support_process_gone(guardian, 20000));
                if (!all_die) {
                        assert_int_equal(brood_process_tree(process), BROOD_TREE_BROOD);
                        assert_int_equal(brood_process_is_alive(process), 1);
                        assert_int_equal(brood_process_join(process, 50), -ETIMEDOUT);
                        assert_int_equal(brood_wait(NULL, 50), -ETIMEDOUT);
                        assert_int_equal(count_found(&family.who), STRAYS + 1);
                        assert_int_equal(support_process_state(guardian), 0); /* it has been reaped */
                        assert_int_equal(brood_process_kill(process), 0);
                }
                assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
                expect_detached_exitcode(process, -SIGKILL);
                if (levels[i] != BROOD_TREE_WALK)
                        expect_none_soon(&family.who); /* of a group the host takes care itself */
                expect_no_group();
                brood_process_free(process);
                family.who.signal = SIGKILL;
                expect_none_soon(&family.who);
                expect_no_orphans();
                family_free(&family);
        }
}

struct shell {
        char command[512];
        brood_tree_level level;
};

static int host_of_program_dies(void *given)
{
        struct shell *shell = given;
        const char *const argv[] = { "/bin/sh", "-c", shell->command, NULL };
        const brood_process_options options = {
                .setup = { .tree = shell->level, .output = { .kind = BROOD_STREAM_CAPTURE } },
        };
        brood_process *process;
        char c;
        ask(brood_process_exec(&process, argv, &options, NULL) == 0);
        ask(read(brood_process_stream(process, 1), &c, 1) == 1);
        raise(SIGKILL);
        return 0;
}

static void test_host_of_program_is_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++) {
                struct shell shell = { .level = levels[i] };
                struct search search;
                if (!level_possible(levels[i]))
                        continue;
                search_for(&search, shell.command);
                note_adopted();
                assert_int_equal(in_child(host_of_program_dies, &shell), HOST_DIED);
                expect_none_soon(&search);
                expect_no_orphans();
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                process_test(test_host_is_killed),
                process_test(test_guardian_and_host_are_killed),
                process_test(test_guardian_is_killed),
                fork_test(test_host_of_program_is_killed),
        };

        return setting_main(argc, argv, "tree_deaths", tests, array_length(tests), 80);
}
