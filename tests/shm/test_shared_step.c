/* SPDX-License-Identifier: MIT
 *
 * tests/shm/test_shared_step.c: a grower that is killed at every instruction.
 *
 * For k = 1, 2, 3, ... until the call ends: fresh memory, a victim that is stepped through k instructions of its
 * brood_shared_grow() and killed there, and then: the size is the old one or the new one, with memory behind it; what had
 * happened after fewer instructions has happened; and another process can grow it, and use all of it.
 */
#include "step.h"

#include <brood/shared.h>

#include <sys/stat.h>

enum { OLD = 5000, NEW = 100000, NEXT = 150000, LIMIT = 200000, STEPS_MOST = 100000 };

static size_t memory_behind(const brood_shared *s)
{
        struct stat status;
        int fd;
        return brood_shared_descriptors(s, &fd) < 0 || fstat(fd, &status) < 0 ? 0 : (size_t)status.st_blocks * 512;
}

static void grow(void *arg)
{
        brood_shared_grow(arg, NEW);
}

/* As another process that comes afterwards. */
static int go_on(void *arg)
{
        brood_shared *s = arg;

        require_int(brood_shared_grow(s, NEXT), 0);
        require_int(brood_shared_size(s), NEXT);
        memset(brood_shared_data(s), 1, NEXT);
        return 0;
}

/* Whether the call had ended; *ret_size is the size that the dead have left. */
static bool kill_after(long k, struct step_mark *mark, size_t *ret_size)
{
        brood_shared *s = NULL;
        long done = 0;

        assert_int_equal(brood_shared_new(&s, OLD, &(brood_shared_options){ .limit = LIMIT }), 0);
        pid_t pid = step_start(&(struct step_victim){ .call = grow, .arg = s, .mark = mark });
        assert_true(pid > 0);
        enum step_end end = step_run(pid, mark, k, true, NULL, &done);
        step_kill(pid);
        assert_true(end == STEP_THERE || end == STEP_ENDED);
        *ret_size = brood_shared_size(s);
        assert_true(*ret_size == OLD || *ret_size == NEW);
        assert_true(memory_behind(s) >= *ret_size);
        check_in_child(go_on, s);
        assert_true(memory_behind(s) >= NEXT);
        brood_shared_free(s);
        return end == STEP_ENDED;
}

static void test_killed_at_every_instruction(void **state)
{
        (void)state;
        const char *why;
        if (!step_possible(&why)) {
                printf("skipped: %s\n", why);
                skip();
        }
        struct step_mark *mark = check_shared(sizeof *mark);
        long k = 0, raised = 0;
        size_t size = OLD, before;
        bool ended = false;

        while (!ended && k < STEPS_MOST) {
                before = size;
                ended = kill_after(++k, mark, &size);
                assert_true(size >= before);
                if (size == NEW && raised == 0)
                        raised = k;
        }
        printf("growing: killed after each of %ld instructions; from the %ldth on it has grown\n", k - 1, raised);
        assert_true(ended && raised > 1);
        munmap(mark, sizeof *mark);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_killed_at_every_instruction),
        };
        return support_main(argc, argv, "shared, step", tests, array_length(tests), 250);
}
