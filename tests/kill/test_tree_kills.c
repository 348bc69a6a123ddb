/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_tree_kills.c: the root of a tree of processes is killed at a random moment.
 *
 * The root starts and joins children, each of which starts and joins children, and each of those again; by all three methods, and
 * some of them detached.  When the root has been killed, everybody else must go, but for the detached: they are there, and end when
 * the test lets them.
 *
 * The test process is the child subreaper.  So it is the parent of whoever has lost his own, and it alone reaps them: a process
 * that is left is its child, or below one.  (A fork server is such a process, too.)
 */
#include "check.h"

#include <brood/process.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>

enum {
        ROUNDS = 200,
        LEVELS = 3,
        BRANCHES = 2,      /* children at once */
        ONE_OF = 12,       /* children is detached */
        MOMENT_US = 30000, /* the latest one */
        DETACHED_MAX = 512,
        CODE = 5
};

/* In a memfd, which all have. */
struct tree {
        _Atomic uint64_t chance;
        atomic_int births[LEVELS];
        atomic_int begun;   /* detached ones whose start has returned */
        atomic_int places;  /* in pids[], which those take that have reached their target... */
        atomic_int arrived; /* ...and those that have taken theirs */
        atomic_int error;   /* of a start that has failed */
        atomic_int pids[DETACHED_MAX];
};

/* What is handed over. */
enum { TREE, LEAVE, HANDED };
static int handed[HANDED]; /* the memfd; a pipe that ends when the detached ones are to end */

static struct tree *map_tree(int fd)
{
        void *page = mmap(NULL, sizeof(struct tree), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return page == MAP_FAILED ? NULL : page;
}

static uint64_t chance_of(struct tree *tree, uint64_t bound)
{
        return check_mix(atomic_fetch_add(&tree->chance, 0x9e3779b97f4a7c15u)) % bound;
}

static int be_detached(void *level)
{
        struct pollfd end = { .fd = brood_handed_descriptor(LEAVE) };
        struct tree *tree = map_tree(brood_handed_descriptor(TREE));
        (void)level;
        int place = tree ? atomic_fetch_add(&tree->places, 1) : DETACHED_MAX;
        if (place >= DETACHED_MAX)
                return 1;
        atomic_store(&tree->pids[place], getpid());
        atomic_fetch_add(&tree->arrived, 1);
        while (poll(&end, 1, -1) < 0 && errno == EINTR)
                ;
        return CODE;
}

static int be_a_parent(void *level);

static int start_one(struct tree *tree, const int *fds, int level, brood_process **ret_process)
{
        bool detached = chance_of(tree, ONE_OF) == 0;
        brood_process_options options = {
                .target = detached ? be_detached : be_a_parent,
                .bytes = &level,
                .size = sizeof level,
                .detached = detached,
                .start_method = (brood_start_method)(BROOD_START_FORK + chance_of(tree, 3)),
                .hand_over = fds,
                .hand_over_count = HANDED,
        };
        int r = brood_process_new(ret_process, &options);
        if (r == 0 && (r = brood_process_start(*ret_process)) < 0)
                brood_process_free(*ret_process);
        if (r < 0)
                atomic_store(&tree->error, r);
        else
                atomic_fetch_add(detached ? &tree->begun : &tree->births[level], 1);
        if (r == 0 && detached) {
                brood_process_free(*ret_process);
                *ret_process = NULL;
        }
        return r;
}

/* A few children, some of which are joined and others killed; the root goes on for ever. */
static void be_fruitful(struct tree *tree, const int *fds, int level)
{
        for (int i = 0; i < 2 || level == 0; i++) {
                brood_process *children[BRANCHES] = { NULL };
                for (int c = 0; c < BRANCHES; c++)
                        if (start_one(tree, fds, level, &children[c]) < 0)
                                children[c] = NULL;
                for (int c = 0; c < BRANCHES; c++) {
                        if (children[c] && chance_of(tree, 4) != 0)
                                brood_process_join(children[c], BROOD_FOREVER);
                        brood_process_free(children[c]);
                }
        }
}

static int be_a_parent(void *arg)
{
        const int fds[] = { brood_handed_descriptor(TREE), brood_handed_descriptor(LEAVE) };
        int level = *(int *)arg + 1;
        struct tree *tree = map_tree(fds[TREE]);
        if (!tree)
                return 1;
        if (level < LEVELS)
                be_fruitful(tree, fds, level);
        return 0;
}

static int be_the_root(void *arg)
{
        be_fruitful(arg, handed, 0);
        return 0;
}

/* ---- the test process ---- */

struct sums {
        int took[100000]; /* us */
        int rounds, births[LEVELS], detached;
};

static int64_t last_end_us; /* when somebody was found to have ended */

static int64_t now_us(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static bool is_detached(const struct tree *tree, pid_t pid)
{
        for (int i = 0; i < DETACHED_MAX; i++)
                if (atomic_load(&tree->pids[i]) == pid)
                        return true;
        return false;
}

/* Whether nobody is there any more but the detached ones, which have no children.  None of them may have ended. */
static bool only_detached(void *arg)
{
        static pid_t children[DETACHED_MAX];
        const struct tree *tree = arg;
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0) {
                last_end_us = now_us();
                if (is_detached(tree, pid))
                        fail_msg("a detached process has ended with %d", check_code(status));
        }
        int count = support_children(getpid(), children, DETACHED_MAX);
        for (int i = 0; i < count; i++)
                if (i == DETACHED_MAX || !is_detached(tree, children[i]))
                        return false;
        return atomic_load(&tree->arrived) == atomic_load(&tree->places);
}

static void end_detached(struct tree *tree, int leave)
{
        int arrived = atomic_load(&tree->arrived), status;
        close(leave);
        for (int i = 0; i < arrived; i++) {
                pid_t pid = atomic_load(&tree->pids[i]);
                assert_int_equal(check_wait(pid), CODE);
        }
        assert_true(waitpid(-1, &status, __WALL) < 0 && errno == ECHILD);
}

static void one_round(struct sums *sums, struct tree *tree)
{
        enum { HANG_MS = 6 * CHECK_HANG_MS };
        int leave[2];
        memset((void *)tree, 0, sizeof *tree);
        atomic_store(&tree->chance, support_random(UINT64_MAX));
        assert_int_equal(pipe2(leave, O_CLOEXEC), 0);
        handed[LEAVE] = leave[0];
        pid_t root = fork();
        assert_true(root >= 0);
        if (root == 0) {
                close(leave[1]);
                _exit(be_the_root(tree));
        }
        close(leave[0]);
        usleep((useconds_t)support_random(MOMENT_US)); /* the moment itself is what is drawn */
        int64_t start = now_us();
        kill(root, SIGKILL);
        assert_int_equal(waitpid(root, NULL, 0), root);
        last_end_us = now_us();
        if (!support_until(only_detached, tree, HANG_MS))
                fail_msg("%d children are left, and %d of them are detached", support_count_children(getpid()),
                         atomic_load(&tree->arrived));
        if (sums->rounds < (int)array_length(sums->took))
                sums->took[sums->rounds++] = (int)(last_end_us - start);
        assert_true(atomic_load(&tree->arrived) >= atomic_load(&tree->begun));
        for (int i = 0; i < LEVELS; i++)
                sums->births[i] += atomic_load(&tree->births[i]);
        sums->detached += atomic_load(&tree->arrived);
        assert_int_equal(atomic_load(&tree->error), 0);
        end_detached(tree, leave[1]);
}

static int compare(const void *a, const void *b)
{
        return *(const int *)a - *(const int *)b;
}

static void test_root_killed(void **state)
{
        static struct sums sums;
        int rounds = support_rounds(ROUNDS);
        (void)state;
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        handed[TREE] = memfd_create("tree", MFD_CLOEXEC);
        assert_true(handed[TREE] > 2);
        assert_int_equal(ftruncate(handed[TREE], sizeof(struct tree)), 0);
        struct tree *tree = map_tree(handed[TREE]);
        assert_non_null(tree);
        for (int i = 0; i < rounds; i++)
                one_round(&sums, tree);
        munmap(tree, sizeof *tree);
        close(handed[TREE]);
        qsort(sums.took, (size_t)sums.rounds, sizeof sums.took[0], compare);
        print_message(
            "%d roots killed, which had %d, %d and %d children in three levels, and %d detached ones; all gone after "
            "%d us (median), %d us (19 of 20), %d us (the worst)\n",
            sums.rounds, sums.births[0], sums.births[1], sums.births[2], sums.detached, sums.took[sums.rounds / 2],
            sums.took[sums.rounds * 19 / 20], sums.took[sums.rounds - 1]);
        assert_true(sums.births[LEVELS - 1] > 0 && sums.detached > 0);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { support_test(test_root_killed) };
        if (brood_main(argc, argv) < 0)
                return 1;
        return support_main(argc, argv, "kills of trees", tests, array_length(tests), 280);
}
