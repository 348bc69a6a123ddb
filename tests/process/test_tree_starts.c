/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_tree_starts.c: what begins under a guardian, programs among it, and what is not let begin.
 */
#include "check.h"
#include "family.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#define NOBODY 65534

/* ---- programs ---- */

static void check_program(brood_tree_level level)
{
        char command[512], text[64];
        struct search search;
        brood_process *process;
        const char *step = NULL;
        search_for(&search, command);
        const char *const argv[] = { "/bin/sh", "-c", command, NULL };
        const brood_process_options options = {
                .setup = { .tree = level, .output = { .kind = BROOD_STREAM_CAPTURE } },
        };
        assert_int_equal(brood_process_exec(&process, argv, &options, &step), 0);
        assert_int_equal(brood_process_tree(process), level);
        size_t size = 0;
        ssize_t n;
        while (size < 6 &&
               ((n = read(brood_process_stream(process, 1), text + size, sizeof text - size)) > 0 || errno == EINTR))
                size += n > 0 ? (size_t)n : 0;
        assert_memory_equal(text, "ready\n", 6);
        assert_int_equal(brood_process_is_alive(process), 1);
        assert_int_equal(brood_process_end(process, 0, 20000), SIGTERM);
        /* What is left of the program has ended; so nobody has the other end of the stream, the guardian least of all. */
        assert_int_equal(count_found(&search), 0);
        assert_int_equal(read(brood_process_stream(process, 1), text, sizeof text), 0);
        int code;
        assert_int_equal(brood_process_exitcode(process, &code), 0);
        assert_int_equal(code, -SIGTERM);
        brood_process_free(process);
        expect_no_group();
}

static void test_program(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++)
                if (level_possible(levels[i]))
                        check_program(levels[i]);
}

/* While the program runs, nobody but it has the streams and other descriptors that it was given. */
static void test_guardian_has_no_descriptors(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++) {
                const char *const argv[] = { "/bin/sh", "-c", "exec sleep 1000 >/dev/null", NULL };
                int ends[2];
                char c;
                brood_process *process;
                if (!level_possible(levels[i]))
                        continue;
                const brood_process_options options = {
                        .setup = { .tree = levels[i], .output = { .kind = BROOD_STREAM_CAPTURE } },
                };
                assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
                assert_int_equal(brood_process_exec(&process, argv, &options, NULL), 0);
                close(ends[1]);
                assert_int_equal(read(ends[0], &c, 1), 0);
                assert_int_equal(read(brood_process_stream(process, 1), &c, 1), 0);
                assert_int_equal(brood_process_is_alive(process), 1);
                brood_process_free(process);
                close(ends[0]);
        }
}

/* ---- what goes wrong ---- */

static void test_bad_input(void **state)
{
        (void)state;
        brood_process *process = NULL;
        brood_process_options options = { .target = return_number,
                                          .start_method = BROOD_START_FORK,
                                          .setup = { .tree = BROOD_TREE_BEST + 1 } };
        const char *const argv[] = { "true", NULL };
        assert_int_equal(brood_process_new(&process, &options), -EINVAL);
        assert_int_equal(brood_process_exec(&process, argv, &(brood_process_options){ .setup = { .tree = 99 } }, NULL),
                         -EINVAL);
        options.setup.tree = BROOD_TREE_WALK;
        options.detached = true;
        assert_int_equal(brood_process_new(&process, &options), -EINVAL);
        options.detached = false;
        options.start_method = BROOD_START_FORKSERVER;
        assert_int_equal(brood_process_new(&process, &options), -ENOTSUP);
        options.start_method = BROOD_START_SPAWN;
        options.setup.tree = BROOD_TREE_NAMESPACE;
        assert_int_equal(brood_process_new(&process, &options), -ENOTSUP);
        assert_null(process);
        assert_int_equal(brood_process_tree(NULL), -EINVAL);
        assert_int_equal(brood_tree_possible((brood_tree_level)99), -EINVAL);
        assert_int_equal(brood_tree_possible(BROOD_TREE_BROOD), BROOD_TREE_BROOD);
        assert_int_equal(brood_tree_possible(BROOD_TREE_WALK), BROOD_TREE_WALK);
        int best = brood_tree_possible(BROOD_TREE_BEST);
        assert_int_equal(best, brood_tree_possible(BROOD_TREE_CGROUP) == BROOD_TREE_CGROUP ? BROOD_TREE_CGROUP
                                                                                           : BROOD_TREE_WALK);
        options = (brood_process_options){ .target = wait_for_ever, METHOD };
        options.setup.tree = BROOD_TREE_BEST;
        assert_int_equal(brood_process_new(&process, &options), 0);
        assert_int_equal(brood_process_tree(process), BROOD_TREE_BROOD);
        assert_int_equal(brood_process_start(process), 0);
        assert_int_equal(brood_process_tree(process), best);
        brood_process_free(process);
}

static void test_start_fails(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(levels); i++) {
                const char *const missing[] = { "/does/not/exist", NULL }, *const argv[] = { "true", NULL };
                const char *step = "";
                brood_process *process;
                if (!level_possible(levels[i]))
                        continue;
                int children = support_count_children(getpid());
                brood_process_options options = { .target = wait_for_ever, METHOD };
                options.setup.tree = levels[i];
                options.setup.directory = "/does/not/exist";
                assert_int_equal(brood_process_new(&process, &options), 0);
                assert_int_equal(brood_process_start(process), -ENOENT);
                assert_string_equal(brood_process_failed_step(process), "directory");
                brood_process_free(process);
                options = (brood_process_options){ .setup = { .tree = levels[i] } };
                assert_int_equal(brood_process_exec(&process, missing, &options, &step), -ENOENT);
                assert_string_equal(step, "program");
                options.setup.directory = "/does/not/exist";
                assert_int_equal(brood_process_exec(&process, argv, &options, &step), -ENOENT);
                assert_string_equal(step, "directory");
                options.setup.directory = NULL;
                options.setup.cgroup = "/does/not/exist";
                int r = brood_process_exec(&process, argv, &options, &step);
                assert_int_equal(r, levels[i] == BROOD_TREE_CGROUP ? -ENOTSUP : -ENOENT);
                assert_string_equal(step, levels[i] == BROOD_TREE_CGROUP ? "tree" : "control group");
                assert_int_equal(support_count_children(getpid()), children);
                expect_no_group();
        }
}

static int as_nobody(void *unused)
{
        (void)unused;
        if (getuid() == 0)
                ask(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0 &&
                    prctl(PR_SET_DUMPABLE, 1) == 0);
        ask(brood_tree_possible(BROOD_TREE_WALK) == BROOD_TREE_WALK);
        int r = brood_tree_possible(BROOD_TREE_NAMESPACE);
        ask(r == BROOD_TREE_NAMESPACE || r == -EPERM || r == -ENOTSUP);
        printf("a namespace for one who may little: %s\n", r < 0 ? brood_strerror(r) : "yes");
        r = brood_tree_possible(BROOD_TREE_CGROUP);
        ask(r == -EPERM || r == -ENOTSUP || r == BROOD_TREE_CGROUP);
        int best = brood_tree_possible(BROOD_TREE_BEST);
        ask(best == (r < 0 ? BROOD_TREE_WALK : BROOD_TREE_CGROUP));
        return 0;
}

/* The effective ones of the calling process. */
static uint64_t capabilities(void)
{
        char line[128];
        uint64_t all = 0;
        FILE *file = fopen("/proc/self/status", "re");
        while (file != NULL && fgets(line, sizeof line, file) != NULL)
                if (sscanf(line, "CapEff: %" SCNx64, &all) == 1)
                        break;
        if (file != NULL)
                fclose(file);
        return all;
}

/* All of them in its own user namespace, but none over what is outside, such as the name of this machine. */
static int use_capabilities(void *unused)
{
        char name[256] = "";
        (void)unused;
        for (int i = 0; prctl(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
                ask(capabilities() >> i & 1);
        ask(mount("none", "/proc", "tmpfs", 0, NULL) == 0);
        ask(gethostname(name, sizeof name - 1) == 0);
        ask(sethostname(name, strlen(name)) < 0 && errno == EPERM);
        return CODE;
}

static int as_nobody_in_namespace(void *unused)
{
        const char *const argv[] = { "/bin/sh", "-c", "grep -q '^CapEff:.0*$' /proc/self/status", NULL };
        brood_process_options options = { .setup = { .tree = BROOD_TREE_NAMESPACE } };
        brood_process *process;
        int code = -1;
        ask(as_nobody(unused) == 0);
        signal(SIGCHLD, SIG_DFL);
        if (brood_tree_possible(BROOD_TREE_NAMESPACE) != BROOD_TREE_NAMESPACE)
                return 0;
        ask(capabilities() == 0);
        ask(brood_process_exec(&process, argv, &options, NULL) == 0);
        ask(brood_process_join(process, BROOD_FOREVER) == 0);
        ask(brood_process_exitcode(process, &code) == 0 && code == 0);
        brood_process_free(process);
        options.target = use_capabilities;
        options.start_method = BROOD_START_FORK;
        ask(brood_process_new(&process, &options) == 0);
        ask(brood_process_start(process) == 0);
        ask(brood_process_join(process, BROOD_FOREVER) == 0);
        ask(brood_process_exitcode(process, &code) == 0 && code == CODE);
        brood_process_free(process);
        return 0;
}

static void test_capabilities(void **state)
{
        (void)state;
        assert_int_equal(in_child(as_nobody_in_namespace, NULL), 0);
}

static void test_who_may_little(void **state)
{
        (void)state;
        assert_int_equal(in_child(as_nobody, NULL), 0);
}

/* ---- in a namespace ---- */

static int in_namespace(void *unused)
{
        (void)unused;
        brood_process *process;
        char self[32];
        int seven = 7, code;
        ask(getppid() == 0);
        ssize_t n = readlink("/proc/self", self, sizeof self - 1);
        ask(n > 0);
        self[n] = '\0';
        ask(atoi(self) == getpid());
        brood_process_options options = { .target = return_number, .arg = &seven, .start_method = BROOD_START_FORK };
        ask(brood_process_new(&process, &options) == 0);
        ask(brood_process_start(process) == 0);
        ask(brood_process_join(process, BROOD_FOREVER) == 0);
        signal(SIGCHLD, SIG_DFL);
        ask(brood_process_exitcode(process, &code) == 0 || !kernel_tells());
        brood_process_free(process);
        signal(SIGTERM, SIG_DFL);
        raise(SIGTERM); /* which a first process would not hear */
        return 0;
}

static void test_in_namespace(void **state)
{
        (void)state;
        int code;
        if (!level_possible(BROOD_TREE_NAMESPACE))
                return;
        brood_process_options options = { .target = in_namespace, .start_method = BROOD_START_FORK };
        options.setup.tree = BROOD_TREE_NAMESPACE;
        brood_process *process = start_with(&options);
        assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
        assert_int_equal(brood_process_exitcode(process, &code), 0);
        assert_int_equal(code, -SIGTERM);
        brood_process_free(process);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                fork_test(test_program),        fork_test(test_guardian_has_no_descriptors),
                process_test(test_bad_input),   process_test(test_start_fails),
                fork_test(test_who_may_little), fork_test(test_capabilities),
                fork_test(test_in_namespace),
        };

        return setting_main(argc, argv, "tree_starts", tests, array_length(tests), 80);
}
