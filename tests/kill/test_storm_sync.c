/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_storm_sync.c: eight processes use every object of sync/ at once, and somebody kills one of them every few
 * milliseconds; some kill themselves with what they hold.  Six seconds; --rounds N (or BROOD_TEST_ROUNDS) makes it N.
 *
 * What an object protects is a pair of numbers that are raised one after the other: whoever gets in and is not told of a death must
 * find them equal, and who is told makes them so.  Each raise is counted before and after by the one who does it, so that at the
 * end a number lies between the two sums.  No call of one who lives lasts two seconds.
 */
#include "check.h"

#include <brood/barrier.h>
#include <brood/condition.h>
#include <brood/event.h>
#include <brood/lock.h>
#include <brood/rwlock.h>
#include <brood/semaphore.h>
#include <sched.h>

enum {
        USERS = 8,
        UNITS = 3,
        PARTIES = 2,
        HITS_WITHIN_US = 20000,
        SUICIDES = 300, /* one in so many that are inside */
        WAIT_MS = 2000, /* nobody waits longer */
        SHORT_MS = 30   /* a wait for something that need not come */
};

enum object { LOCK, RLOCK, SEMAPHORE, CONDITION, EVENT, BARRIER, READS, WRITES, OBJECTS };

static const char *const names[OBJECTS] = { "lock",  "rlock",   "semaphore", "condition",
                                            "event", "barrier", "reads",     "writes" };

/* Raised one after the other, by who may. */
struct pair {
        atomic_int first, second;
        atomic_int begun, done; /* by all */
};

struct books {
        atomic_int stop, failed, told;
        atomic_int longest_ms[OBJECTS], calls[OBJECTS];
        struct pair locked, relocked, written;
        atomic_int tokens, tokens_put_begun, tokens_put, tokens_taken_begun,
            tokens_taken; /* under the condition's lock */
        atomic_int has_unit[USERS];
};

struct storm {
        struct books *books;
        brood_lock *lock, *rlock;
        brood_semaphore *semaphore;
        brood_condition *condition;
        brood_event *event;
        brood_barrier *barrier;
        brood_rwlock *rwlock;
        pid_t pids[USERS];
        int kills;

        /* of one process */
        int number;
        uint64_t chance;
};

static void fail_with(struct storm *storm, const char *what, int r)
{
        fprintf(stderr, "[%d] %s: %d\n", (int)getpid(), what, r);
        atomic_fetch_add(&storm->books->failed, 1);
}

static void note(struct storm *storm, enum object object, int64_t start)
{
        struct books *books = storm->books;
        int took = (int)(support_now_ms() - start);
        if (took > atomic_load(&books->longest_ms[object]))
                atomic_store(&books->longest_ms[object], took);
        if (took > WAIT_MS)
                fail_with(storm, names[object], took);
        atomic_fetch_add(&books->calls[object], 1);
}

static void linger(struct storm *storm)
{
        if (check_random(&storm->chance, SUICIDES) == 0) {
                atomic_store(&storm->books->has_unit[storm->number], 0);
                raise(SIGKILL);
        }
        if (check_random(&storm->chance, 8) == 0)
                sched_yield();
}

/* ---- what is protected ---- */

static void look_at(struct storm *storm, struct pair *pair, int r, const char *what)
{
        if (r == 0 && atomic_load(&pair->first) != atomic_load(&pair->second))
                fail_with(storm, what, atomic_load(&pair->first) - atomic_load(&pair->second));
        atomic_fetch_add(&storm->books->told, r == BROOD_HOLDER_DIED);
}

static void put_right(struct pair *pair)
{
        atomic_store(&pair->second, atomic_load(&pair->first));
}

/* Plain loads and stores on purpose: two at once would lose a raise. */
static void raise_pair(struct storm *storm, struct pair *pair)
{
        atomic_fetch_add(&pair->begun, 1);
        atomic_store(&pair->first, atomic_load(&pair->first) + 1);
        linger(storm);
        atomic_store(&pair->second, atomic_load(&pair->second) + 1);
        atomic_fetch_add(&pair->done, 1);
}

static void judge_death(struct storm *storm, int r, const brood_death *death)
{
        if (r < 0 || death->pid <= 0 || death->pid == getpid() ||
            (death->exitcode != -SIGKILL && death->exitcode != BROOD_EXITCODE_UNKNOWN))
                fail_with(storm, "death", r < 0 ? r : death->exitcode);
}

/* ---- one use of each ---- */

static void use_lock(struct storm *storm, brood_lock *lock, struct pair *pair, enum object object)
{
        int64_t start = support_now_ms();
        int r = brood_lock_acquire(lock, 2 * CHECK_HANG_MS);
        note(storm, object, start);
        if (r < 0) {
                fail_with(storm, names[object], r);
                return;
        }
        look_at(storm, pair, r, names[object]);
        if (object == RLOCK && brood_lock_acquire(lock, 0) != r)
                fail_with(storm, "again", r);
        if (r == BROOD_HOLDER_DIED) {
                brood_death death = { 0 };
                judge_death(storm, brood_lock_death(lock, &death), &death);
                put_right(pair);
                brood_lock_consistent(lock);
        }
        raise_pair(storm, pair);
        if (object == RLOCK)
                brood_lock_release(lock);
        r = brood_lock_release(lock);
        if (r < 0)
                fail_with(storm, "release", r);
}

static void use_semaphore(struct storm *storm)
{
        struct books *books = storm->books;
        int64_t start = support_now_ms();
        int r = brood_semaphore_acquire(storm->semaphore, 2 * CHECK_HANG_MS), count = 0;
        note(storm, SEMAPHORE, start);
        if (r < 0) {
                fail_with(storm, "semaphore", r);
                return;
        }
        atomic_store(&books->has_unit[storm->number], 1);
        for (int i = 0; i < USERS; i++)
                count += atomic_load(&books->has_unit[i]);
        if (count > UNITS)
                fail_with(storm, "units at once", count);
        linger(storm);
        atomic_store(&books->has_unit[storm->number], 0);
        r = brood_semaphore_release(storm->semaphore);
        if (r < 0)
                fail_with(storm, "semaphore, release", r);
}

/* A token is put, or waited for a little and taken. */
static void use_condition(struct storm *storm)
{
        struct books *books = storm->books;
        int64_t start = support_now_ms();
        int r = brood_condition_acquire(storm->condition, 2 * CHECK_HANG_MS);
        note(storm, CONDITION, start);
        if (r < 0) {
                fail_with(storm, "condition", r);
                return;
        }
        if (check_random(&storm->chance, 2)) {
                atomic_fetch_add(&books->tokens_put_begun, 1);
                atomic_store(&books->tokens, atomic_load(&books->tokens) + 1);
                atomic_fetch_add(&books->tokens_put, 1);
                linger(storm);
                r = brood_condition_notify(storm->condition, 1);
        } else {
                if (atomic_load(&books->tokens) == 0)
                        r = brood_condition_wait(storm->condition, SHORT_MS);
                if (r == -ETIMEDOUT)
                        r = 0;
                if (atomic_load(&books->tokens) > 0) {
                        atomic_fetch_add(&books->tokens_taken_begun, 1);
                        atomic_store(&books->tokens, atomic_load(&books->tokens) - 1);
                        atomic_fetch_add(&books->tokens_taken, 1);
                        linger(storm);
                }
        }
        if (r < 0)
                fail_with(storm, "condition", r);
        brood_lock_consistent(brood_condition_lock(storm->condition));
        r = brood_condition_release(storm->condition);
        if (r < 0)
                fail_with(storm, "condition, release", r);
}

static void use_event(struct storm *storm)
{
        int64_t start = support_now_ms();
        int r;
        switch (check_random(&storm->chance, 4)) {
        case 0:
                r = brood_event_set(storm->event);
                break;
        case 1:
                r = brood_event_clear(storm->event);
                break;
        case 2:
                r = brood_event_fileno(storm->event);
                break;
        default:
                r = brood_event_wait(storm->event, SHORT_MS);
                break;
        }
        note(storm, EVENT, start);
        if (r < 0 && r != -ETIMEDOUT)
                fail_with(storm, "event", r);
}

/* Who finds it broken, or has broken it by going too early, makes it as new. */
static void use_barrier(struct storm *storm)
{
        int64_t start = support_now_ms();
        int r = brood_barrier_wait(storm->barrier, 10 * SHORT_MS);
        note(storm, BARRIER, start);
        if (r == -EPIPE || r == -ETIMEDOUT)
                r = brood_barrier_reset(storm->barrier);
        if (r < 0 || r >= PARTIES)
                fail_with(storm, "barrier", r);
}

static void use_rwlock(struct storm *storm, bool writes)
{
        struct pair *pair = &storm->books->written;
        enum object object = writes ? WRITES : READS;
        int64_t start = support_now_ms();
        int r = writes ? brood_rwlock_acquire_write(storm->rwlock, 2 * CHECK_HANG_MS)
                       : brood_rwlock_acquire_read(storm->rwlock, 2 * CHECK_HANG_MS);
        note(storm, object, start);
        if (r < 0) {
                fail_with(storm, names[object], r);
                return;
        }
        look_at(storm, pair, r, names[object]);
        if (writes && r == BROOD_HOLDER_DIED) {
                brood_death death = { 0 };
                judge_death(storm, brood_rwlock_death(storm->rwlock, &death), &death);
                put_right(pair);
                brood_rwlock_consistent(storm->rwlock);
        }
        if (writes)
                raise_pair(storm, pair);
        else
                linger(storm);
        r = brood_rwlock_release(storm->rwlock);
        if (r < 0)
                fail_with(storm, "rwlock, release", r);
}

static int use_all(void *arg)
{
        struct storm *storm = arg;
        while (!atomic_load(&storm->books->stop)) {
                switch ((enum object)check_random(&storm->chance, OBJECTS)) {
                case LOCK:
                        use_lock(storm, storm->lock, &storm->books->locked, LOCK);
                        break;
                case RLOCK:
                        use_lock(storm, storm->rlock, &storm->books->relocked, RLOCK);
                        break;
                case SEMAPHORE:
                        use_semaphore(storm);
                        break;
                case CONDITION:
                        use_condition(storm);
                        break;
                case EVENT:
                        use_event(storm);
                        break;
                case BARRIER:
                        if (check_random(&storm->chance, 16) == 0)
                                use_barrier(storm);
                        break;
                case READS:
                        use_rwlock(storm, false);
                        break;
                default:
                        use_rwlock(storm, true);
                        break;
                }
        }
        return 0;
}

/* ---- the storm ---- */

static void start_one(struct storm *storm, int i)
{
        storm->number = i;
        storm->chance = support_random(UINT64_MAX);
        storm->pids[i] = check_start(use_all, storm);
}

/* What it has is given back as soon as it is dead, and must not be counted then: so it is stopped first.  It may be dead already,
 * by its own hand. */
static void kill_one(struct storm *storm, int i)
{
        int status;
        kill(storm->pids[i], SIGSTOP);
        if (waitpid(storm->pids[i], &status, WUNTRACED) == storm->pids[i] && WIFSTOPPED(status)) {
                atomic_store(&storm->books->has_unit[i], 0);
                check_kill(storm->pids[i]);
        }
        storm->kills++;
        start_one(storm, i);
}

static void rage(struct storm *storm, int ms)
{
        struct books *books = storm->books;
        int calls[OBJECTS] = { 0 };
        int64_t end = support_now_ms() + ms, moved[OBJECTS];
        for (int o = 0; o < OBJECTS; o++)
                moved[o] = support_now_ms();
        while (support_now_ms() < end) {
                usleep((useconds_t)support_random(HITS_WITHIN_US));
                int i = (int)support_random(USERS);
                kill_one(storm, i);
                for (i = 0; i < USERS; i++) {
                        int status;
                        if (waitpid(storm->pids[i], &status, WNOHANG) == storm->pids[i]) {
                                assert_int_equal(check_code(status), -SIGKILL);
                                storm->kills++;
                                start_one(storm, i);
                        }
                }
                int64_t now = support_now_ms();
                for (int o = 0; o < OBJECTS; o++) {
                        int done = atomic_load(&books->calls[o]);
                        if (done != calls[o])
                                moved[o] = now;
                        calls[o] = done;
                        if (now - moved[o] > CHECK_HANG_MS)
                                check_hang(names[o]);
                }
                assert_int_equal(atomic_load(&books->failed), 0);
        }
}

static void stop_all(struct storm *storm)
{
        atomic_store(&storm->books->stop, 1);
        for (int i = 0; i < USERS; i++) {
                int code = check_wait_for(storm->pids[i], 3 * CHECK_HANG_MS);
                assert_true(code == 0 || code == -SIGKILL);
                storm->kills += code != 0;
        }
}

static void audit_pair(struct pair *pair, int r)
{
        int first = atomic_load(&pair->first);
        assert_true(r >= 0);
        if (r == 0)
                assert_int_equal(first, atomic_load(&pair->second));
        assert_in_range(first, atomic_load(&pair->done), atomic_load(&pair->begun));
}

static int pass_barrier(void *arg)
{
        struct storm *storm = arg;
        for (int i = 0; i < 3; i++)
                require(brood_barrier_wait(storm->barrier, CHECK_HANG_MS) >= 0);
        return 0;
}

static void audit(struct storm *storm)
{
        struct books *books = storm->books;
        audit_pair(&books->locked, brood_lock_acquire(storm->lock, CHECK_HANG_MS));
        audit_pair(&books->relocked, brood_lock_acquire(storm->rlock, CHECK_HANG_MS));
        audit_pair(&books->written, brood_rwlock_acquire_write(storm->rwlock, CHECK_HANG_MS));

        for (int i = 0; i < UNITS; i++)
                assert_int_equal(brood_semaphore_acquire(storm->semaphore, CHECK_HANG_MS), 0);
        assert_int_equal(brood_semaphore_acquire(storm->semaphore, 500), -ETIMEDOUT);
        for (int i = 0; i < UNITS; i++)
                assert_int_equal(brood_semaphore_release(storm->semaphore), 0);
        assert_int_equal(brood_semaphore_release(storm->semaphore), -EOVERFLOW);

        assert_true(brood_condition_acquire(storm->condition, CHECK_HANG_MS) >= 0);
        int least = atomic_load(&books->tokens_put) - atomic_load(&books->tokens_taken_begun);
        int most = atomic_load(&books->tokens_put_begun) - atomic_load(&books->tokens_taken);
        int tokens = atomic_load(&books->tokens);
        assert_true(least <= tokens && tokens <= most);
        brood_lock_consistent(brood_condition_lock(storm->condition));
        brood_condition_wait(storm->condition, 500); /* somebody who died may have left a notification */
        assert_int_equal(brood_condition_notify_all(storm->condition), 0);

        assert_int_equal(brood_event_set(storm->event), 0);
        assert_int_equal(brood_event_wait(storm->event, 0), 0);
        assert_int_equal(brood_barrier_reset(storm->barrier), 0);
        /* The first of them may still meet a dead one that had arrived. */
        pid_t pids[PARTIES];
        int r = brood_barrier_wait(storm->barrier, 500);
        assert_true(r >= 0 || r == -ETIMEDOUT);
        assert_int_equal(brood_barrier_reset(storm->barrier), 0);
        for (int i = 0; i < PARTIES; i++)
                pids[i] = check_start(pass_barrier, storm);
        for (int i = 0; i < PARTIES; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        assert_int_equal(atomic_load(&books->failed), 0);
}

static void test_storm(void **state)
{
        (void)state;
        struct storm storm = { .books = check_shared(sizeof(struct books)) };
        assert_int_equal(brood_lock_new(&storm.lock), 0);
        assert_int_equal(brood_rlock_new(&storm.rlock), 0);
        assert_int_equal(brood_bounded_semaphore_new(&storm.semaphore, UNITS), 0);
        assert_int_equal(brood_condition_new(&storm.condition, NULL), 0);
        assert_int_equal(brood_event_new(&storm.event), 0);
        assert_int_equal(brood_barrier_new(&storm.barrier, PARTIES, NULL), 0);
        assert_int_equal(brood_rwlock_new(&storm.rwlock), 0);
        for (int i = 0; i < USERS; i++)
                start_one(&storm, i);
        rage(&storm, support_rounds(6) * 1000);
        stop_all(&storm);
        audit(&storm);

        struct books *books = storm.books;
        printf("%d kills, %d times told of one\n", storm.kills, atomic_load(&books->told));
        for (int o = 0; o < OBJECTS; o++)
                printf("%s: %d calls, longest wait %d ms\n", names[o], atomic_load(&books->calls[o]),
                       atomic_load(&books->longest_ms[o]));
        brood_lock_free(storm.lock);
        brood_lock_free(storm.rlock);
        brood_semaphore_free(storm.semaphore);
        brood_condition_free(storm.condition);
        brood_event_free(storm.event);
        brood_barrier_free(storm.barrier);
        brood_rwlock_free(storm.rwlock);
        munmap(books, sizeof *books);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { support_test(test_storm) };
        return support_main(argc, argv, "storm of sync", tests, array_length(tests), 220);
}
