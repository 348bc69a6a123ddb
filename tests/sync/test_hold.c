/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_hold.c: one holds it, or nobody; and what the dead leave is told until it is put right.
 */
#include "check.h"

#include <sched.h>

#include "os/pidfd.h"
#include "sync/hold.h"

enum { STRANGER = 3 << 10 | 17 }; /* a number that no table here holds */

static const struct user_hooks hooks = { 0 };

/* A word, and this process as a user of it. */
struct rig {
        struct hold_shared hold;
        struct user_shared shared;
        struct owners owners;
};

static struct rig *rig_make(struct user *user, uint32_t *ret_owner)
{
        struct rig *rig = check_shared(sizeof *rig);

        user_init(user, &rig->shared, &rig->owners, &hooks, rig);
        assert_int_equal(user_own(user, ret_owner), 0);
        assert_int_not_equal(*ret_owner, OWNER_NONE);
        return rig;
}

static void rig_drop(struct rig *rig)
{
        munmap(rig, sizeof *rig);
}

static void test_by_hand(void **state)
{
        (void)state;
        struct user user;
        uint32_t own;
        struct rig *rig = rig_make(&user, &own);
        struct hold_shared *hold = &rig->hold;

        assert_int_equal(hold_owner(hold), OWNER_NONE);
        assert_false(hold_is_mine(hold, &user));
        assert_int_equal(hold_try(hold, own), 0);
        assert_int_equal(load_relaxed(&hold->word), own);
        assert_true(hold_is_mine(hold, &user));
        assert_int_equal(hold_try(hold, own), -EAGAIN);
        assert_int_equal(hold_try(hold, STRANGER), -EAGAIN);
        hold_drop(hold);
        assert_int_equal(load_relaxed(&hold->word), 0);

        assert_int_equal(hold_try(hold, STRANGER), 0);
        assert_false(hold_is_mine(hold, &user));
        /* It is not of this one that somebody has the proof. */
        assert_false(hold_recover(hold, &user, own));
        assert_false(hold_recover(hold, &user, STRANGER + (1 << 10)));
        assert_false(hold_recover(hold, &user, STRANGER + 1));
        assert_int_equal(load_relaxed(&hold->word), STRANGER);
        assert_true(hold_recover(hold, &user, STRANGER));
        assert_int_equal(load_relaxed(&hold->word), HOLD_INCONSISTENT);
        assert_false(hold_recover(hold, &user, STRANGER));

        /* Marked, through all holders, until one says that it is right again. */
        for (int i = 0; i < 3; i++) {
                assert_int_equal(hold_try(hold, own), BROOD_HOLDER_DIED);
                assert_int_equal(load_relaxed(&hold->word), HOLD_INCONSISTENT | own);
                assert_int_equal(hold_try(hold, STRANGER), -EAGAIN);
                assert_true(hold_is_mine(hold, &user));
                hold_drop(hold);
                assert_int_equal(load_relaxed(&hold->word), HOLD_INCONSISTENT);
        }
        assert_int_equal(hold_try(hold, own), BROOD_HOLDER_DIED);
        hold_consistent(hold);
        assert_int_equal(load_relaxed(&hold->word), own);
        hold_drop(hold);
        assert_int_equal(hold_try(hold, own), 0);

        /* One that dies with what is marked leaves it marked. */
        hold_drop(hold);
        store_relaxed(&hold->word, HOLD_INCONSISTENT | STRANGER);
        assert_true(hold_recover(hold, &user, STRANGER));
        assert_int_equal(load_relaxed(&hold->word), HOLD_INCONSISTENT);
        rig_drop(rig);
}

static int hold_until_killed(void *arg)
{
        struct rig *rig = arg;
        struct user user;
        uint32_t own;

        user_init(&user, &rig->shared, &rig->owners, &hooks, rig);
        require_int(user_own(&user, &own), 0);
        require(hold_try(&rig->hold, own) >= 0);
        for (;;)
                pause();
}

static bool is_held_by_other(void *arg)
{
        struct rig *rig = arg;

        return hold_owner(&rig->hold) != OWNER_NONE;
}

/* Under valgrind, which does not know the system call, nobody can be proved dead. */
static void need_pidfds(void)
{
        int fd = pidfd_of(getpid());

        if (fd < 0)
                skip();
        close(fd);
}

static void test_death(void **state)
{
        (void)state;
        need_pidfds();
        struct user user;
        uint32_t own;
        struct rig *rig = rig_make(&user, &own);
        struct hold_shared *hold = &rig->hold;

        for (int reaped = 0; reaped < 2; reaped++) {
                pid_t pid = check_start(hold_until_killed, rig);
                assert_true(support_until(is_held_by_other, rig, CHECK_HANG_MS));
                uint32_t dead = hold_owner(hold);
                assert_int_not_equal(dead, own);
                assert_true(owners_alive(&rig->owners, dead));
                assert_true(owners_holds(&rig->owners, dead));
                if (reaped) {
                        assert_int_equal(check_kill(pid), -SIGKILL);
                } else {
                        kill(pid, SIGKILL);
                        assert_true(support_process_gone(pid, CHECK_HANG_MS));
                }
                assert_false(owners_alive(&rig->owners, dead));
                assert_true(owners_holds(&rig->owners, dead)); /* until somebody has repaired and gives it up */
                assert_true(hold_recover(hold, &user, dead));
                brood_death death = death_read(&hold->death);
                assert_int_equal(death.pid, pid);
                assert_int_equal(death.exitcode, reaped ? BROOD_EXITCODE_UNKNOWN : -SIGKILL);
                if (!reaped)
                        assert_int_equal(check_wait(pid), -SIGKILL);
                owners_release(&rig->owners, dead);
                assert_false(owners_holds(&rig->owners, dead));

                /* Somebody else comes with the same proof, late: the number has been given up, and a new holder is there. */
                assert_int_equal(hold_try(hold, own), BROOD_HOLDER_DIED);
                death_record(&hold->death, load_relaxed(&hold->death.word), &user, dead);
                assert_false(hold_recover(hold, &user, dead));
                assert_int_equal(death_read(&hold->death).pid, pid);
                assert_int_equal(hold_owner(hold), own);
                hold_drop(hold);
        }

        /* The holder lives, and has only given up: nobody can tell how it ended. */
        hold_try(hold, own);
        assert_true(hold_recover(hold, &user, own));
        assert_int_equal(death_read(&hold->death).pid, getpid());
        assert_int_equal(death_read(&hold->death).exitcode, BROOD_EXITCODE_UNKNOWN);
        rig_drop(rig);
}

/* A forked child is another user: what its parent holds is not its own. */
static int ask(void *arg)
{
        struct user *user = arg;
        struct rig *rig = user->object;
        uint32_t own;

        require(!hold_is_mine(&rig->hold, user));
        require_int(user_own(user, &own), 0);
        require(!hold_is_mine(&rig->hold, user));
        require_int(hold_try(&rig->hold, own), -EAGAIN);
        return 0;
}

static void test_fork(void **state)
{
        (void)state;
        struct user user;
        uint32_t own;
        struct rig *rig = rig_make(&user, &own);

        assert_int_equal(hold_try(&rig->hold, own), 0);
        check_in_child(ask, &user);
        assert_true(hold_is_mine(&rig->hold, &user));
        rig_drop(rig);
}

/* ---- many at once ---- */

enum { HOLDERS = 4 };

struct counter {
        struct hold_shared hold;
        struct user user;
        uint32_t turns;
        uint64_t a, b; /* guarded by the hold: plain, so that a sanitizer sees what the hold does not order */
};

struct holder {
        struct counter *counter;
        uint32_t number;
};

static int count_up(void *arg)
{
        struct holder *holder = arg;
        struct counter *counter = holder->counter;

        for (uint32_t i = 0; i < counter->turns; i++) {
                int r;
                while ((r = hold_try(&counter->hold, holder->number)) == -EAGAIN)
                        sched_yield();
                require(r >= 0);
                require_int(counter->a, counter->b);
                counter->a++;
                counter->b = counter->a;
                if (r == BROOD_HOLDER_DIED && i % 3 == 0)
                        hold_consistent(&counter->hold);
                if (i % 5 == 0) /* somebody says that this one is dead, as it lets go */
                        hold_recover(&counter->hold, &counter->user, holder->number);
                else
                        hold_drop(&counter->hold);
        }
        return 0;
}

static void test_threads(void **state)
{
        (void)state;
        struct user user;
        uint32_t own;
        struct rig *rig = rig_make(&user, &own);
        struct counter counter = { .turns = (uint32_t)support_rounds(5000), .user = user };
        struct check_thread threads[HOLDERS];
        struct holder holders[HOLDERS];

        for (uint32_t i = 0; i < HOLDERS; i++) {
                holders[i] = (struct holder){ &counter, STRANGER + i };
                check_thread_start(&threads[i], count_up, &holders[i]);
        }
        for (int i = 0; i < HOLDERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        assert_int_equal(counter.a, (uint64_t)HOLDERS * counter.turns);
        assert_int_equal(hold_owner(&counter.hold), OWNER_NONE);
        rig_drop(rig);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_by_hand),
                support_test(test_death),
                support_test(test_fork),
                support_test(test_threads),
        };
        return support_main(argc, argv, "hold", tests, array_length(tests), 60);
}
