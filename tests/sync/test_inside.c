/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_inside.c: moments that last for nanoseconds, written into the words of locks and conditions: a repairer that
 * comes late, a thread that has taken a lock and not yet said so, a table without room.
 */
#include "check.h"

#include <brood/barrier.h>
#include <brood/condition.h>
#include <brood/rwlock.h>
#include <brood/semaphore.h>

#include "sync/lock.h"

/* The first member of each handle. */
static struct user *user_of(void *handle)
{
        return &((struct object *)handle)->user;
}

static void recover(void *handle, uint32_t owner)
{
        user_of(handle)->hooks->recover(handle, owner);
}

static uint32_t own_number(void *handle)
{
        uint32_t owner = OWNER_NONE;

        assert_int_equal(user_own(user_of(handle), &owner), 0);
        return owner;
}

/* Somebody has the proof that an earlier owner of our table entry is dead, and comes only now: another has repaired, and we have
 * the entry.  What we hold stays ours. */
static void test_late_repairer(void **state)
{
        (void)state;
        brood_rwlock *rwlock = NULL;
        brood_lock *lock = NULL;
        brood_semaphore *semaphore = NULL;
        brood_barrier *barrier = NULL;
        enum { GENERATION = 1 << OWNERS_INDEX_BITS };

        assert_int_equal(brood_rwlock_new(&rwlock), 0);
        uint32_t own = own_number(rwlock);
        for (int reads = 0; reads < 2; reads++) {
                assert_int_equal((reads ? brood_rwlock_acquire_read : brood_rwlock_acquire_write)(rwlock, 0), 0);
                recover(rwlock, own - GENERATION);
                recover(rwlock, own + GENERATION);
                assert_int_equal(brood_rwlock_acquire_write(rwlock, 0), -EAGAIN);
                assert_int_equal(brood_rwlock_acquire_read(rwlock, 0), reads ? 0 : -EAGAIN);
                assert_int_equal(brood_rwlock_release(rwlock), 0);
                if (reads)
                        assert_int_equal(brood_rwlock_release(rwlock), 0);
                assert_int_equal(brood_rwlock_release(rwlock), -EPERM);
        }
        brood_rwlock_free(rwlock);

        assert_int_equal(brood_lock_new(&lock), 0);
        own = own_number(lock);
        assert_int_equal(brood_lock_acquire(lock, 0), 0);
        recover(lock, own - GENERATION);
        recover(lock, own + GENERATION);
        assert_int_equal(brood_lock_release(lock), 0);
        assert_int_equal(brood_lock_acquire(lock, 0), 0);
        brood_lock_free(lock);

        assert_int_equal(brood_semaphore_new(&semaphore, 2, NULL), 0);
        own = own_number(semaphore);
        assert_int_equal(brood_semaphore_acquire(semaphore, 0), 0);
        recover(semaphore, own - GENERATION);
        recover(semaphore, own + GENERATION);
        assert_int_equal(brood_semaphore_get_value(semaphore), 1);
        brood_semaphore_free(semaphore);

        assert_int_equal(brood_barrier_new(&barrier, 2, NULL), 0);
        own = own_number(barrier);
        assert_int_equal(brood_barrier_wait(barrier, 0), -EAGAIN);
        recover(barrier, own - GENERATION);
        recover(barrier, own);
        assert_int_equal(brood_barrier_n_waiting(barrier), 0);
        brood_barrier_free(barrier);
}

/* Forked with an RLock in its hands, the process has a child whose handle still says which thread had it, and that is the child's
 * first thread, too.  When another thread of the child has the lock and has not said so yet, the first one must not take it for
 * its. */
static int misled(void *arg)
{
        struct brood_lock *lock = arg;
        uint32_t owner;

        require(load_relaxed(&lock->thread) != 0);
        require_int(user_own(user_of(lock), &owner), 0);
        store_seq_cst(&lock->shared->hold.word, owner);
        require_int(brood_lock_release(lock), -EPERM);
        require_int(brood_lock_acquire(lock, 0), -EAGAIN);
        return 0;
}

static void test_thread_of_the_parent(void **state)
{
        (void)state;
        brood_lock *lock = NULL;

        assert_int_equal(brood_rlock_new(&lock), 0);
        assert_int_equal(brood_lock_acquire(lock, 0), 0);
        check_in_child(misled, lock);
        brood_lock_free(lock);
}

/* All records of a condition are in use. */
static void test_no_record_left(void **state)
{
        (void)state;
        enum { STRANGER = 5 << OWNERS_INDEX_BITS | 900, WORDS = 2 /* of a record */, WAITING = 1 << OWNER_BITS };
        brood_condition *condition = NULL;

        assert_int_equal(brood_condition_new(&condition, NULL), 0);
        atomic_u64 *records = ((struct object *)(void *)condition)->tail;
        atomic_u32 *used = (atomic_u32 *)((struct object *)(void *)condition)->words + 1;
        assert_int_equal(brood_condition_acquire(condition, 0), 0);
        for (uint32_t i = 0; i < BROOD_CONDITION_WAITERS; i++)
                store_relaxed(&records[(size_t)i * WORDS], (uint64_t)i << 32 | WAITING | STRANGER);
        store_relaxed(used, BROOD_CONDITION_WAITERS);
        for (int i = 0; i < 2; i++)
                assert_int_equal(brood_condition_wait(condition, BROOD_FOREVER), -ENOBUFS);
        assert_int_equal(brood_lock_locked(brood_condition_lock(condition)), 1); /* held as before */
        /* One of them leaves, and its place is found. */
        store_relaxed(&records[(size_t)WORDS * 1234], 0);
        assert_int_equal(brood_condition_wait(condition, 1), -ETIMEDOUT);
        assert_int_equal(brood_condition_notify(condition, 3), 3);
        assert_int_equal(brood_condition_notify_all(condition), BROOD_CONDITION_WAITERS - 4);
        assert_int_equal(brood_condition_release(condition), 0);
        brood_condition_free(condition);
}

/* Tickets come round, and the oldest is the oldest all the same. */
static void test_tickets(void **state)
{
        (void)state;
        enum { STRANGER = 5 << OWNERS_INDEX_BITS | 900, WAITING = 1 << OWNER_BITS, NOTIFIED = 2 << OWNER_BITS };
        static const uint32_t tickets[] = { 3, UINT32_MAX - 1, 0, UINT32_MAX, 1 }, order[] = { 1, 3, 2, 4, 0 };
        brood_condition *condition = NULL;

        assert_int_equal(brood_condition_new(&condition, NULL), 0);
        atomic_u64 *records = ((struct object *)(void *)condition)->tail;
        atomic_u32 *used = (atomic_u32 *)((struct object *)(void *)condition)->words + 1;
        assert_int_equal(brood_condition_acquire(condition, 0), 0);
        for (size_t i = 0; i < array_length(tickets); i++)
                store_relaxed(&records[2 * i], (uint64_t)tickets[i] << 32 | WAITING | STRANGER);
        store_relaxed(used, array_length(tickets));
        for (size_t i = 0; i < array_length(order); i++) {
                assert_int_equal(brood_condition_notify(condition, 1), 1);
                assert_int_equal(load_relaxed(&records[(size_t)2 * order[i]]),
                                 (uint64_t)tickets[order[i]] << 32 | NOTIFIED | STRANGER);
        }
        assert_int_equal(brood_condition_notify(condition, 1), 0);
        brood_condition_free(condition);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_late_repairer),
                support_test(test_thread_of_the_parent),
                support_test(test_no_record_left),
                support_test(test_tickets),
        };
        return support_main(argc, argv, "sync, inside", tests, array_length(tests), 60);
}
