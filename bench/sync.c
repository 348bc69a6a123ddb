/* SPDX-License-Identifier: MIT
 *
 * sync.c: locks and their kin in shared memory.
 *
 * In one process, nobody else asking; ns for each pair of calls:
 *
 *     lock            acquire and release a Lock
 *     rlock           the same of an RLock, by a thread that does not hold it yet
 *     semaphore       acquire and release one of four units
 *     rwlock          acquire to read, and release
 *
 * In two processes:
 *
 *     lock-contended  both add to one number under one Lock, on whatever CPUs they get; pairs of calls a second
 *     event           one sets an Event that the other waits for and clears, which then answers with another Event; us
 *     condition       the same with a flag that changes under a Condition; us
 *     barrier         both wait at a Barrier; us for each time
 *
 * and these three on two CPUs.
 *
 *     brood           what it is called there
 *     cas             a word and a compare-and-swap, which knows neither of sleep nor of death: what the hardware allows
 *     robust          pthread_mutex_t, process-shared and robust; for rlock, recursive too
 *     pthread         pthread_rwlock_t, pthread_cond_t with a plain mutex, pthread_barrier_t: process-shared, none survives a death
 *     sem             sem_t, process-shared; as an event, it is posted and waited for
 *
 * The books: what is changed under a lock is not atomic, and must come to the right sum; answers carry the number of the
 * question; who leaves a barrier finds that the other has arrived.
 */
#include "bench.h"

#include <brood/brood.h>

#include <pthread.h>
#include <semaphore.h>

typedef void (*step)(void *object);

static void must(const char *what, int r)
{
        if (__builtin_expect(r != 0, 0))
                bench_die("%s: %s", what, r < 0 ? brood_strerror(r) : strerror(r));
}

/* ---- the peers ---- */

/* An object is used until the program ends, by this process and its children; a leak checker shall find it here. */
static void *keep(void *object)
{
        static void *kept[4] __attribute__((used));
        static size_t count;

        kept[count++ % 4] = object;
        return object;
}

static void *brood_make_lock(void)
{
        brood_lock *lock;

        must("brood_lock_new", brood_lock_new(&lock));
        return keep(lock);
}

static void *brood_make_rlock(void)
{
        brood_lock *lock;

        must("brood_rlock_new", brood_rlock_new(&lock));
        return keep(lock);
}

EACH_PEER void brood_acquire(void *lock)
{
        must("brood_lock_acquire", brood_lock_acquire(lock, BROOD_FOREVER));
}

EACH_PEER void brood_release(void *lock)
{
        must("brood_lock_release", brood_lock_release(lock));
}

static void *brood_make_semaphore(void)
{
        brood_semaphore *semaphore;

        must("brood_semaphore_new", brood_semaphore_new(&semaphore, 4, NULL));
        return keep(semaphore);
}

EACH_PEER void brood_take(void *semaphore)
{
        must("brood_semaphore_acquire", brood_semaphore_acquire(semaphore, BROOD_FOREVER));
}

EACH_PEER void brood_give(void *semaphore)
{
        must("brood_semaphore_release", brood_semaphore_release(semaphore));
}

static void *brood_make_rwlock(void)
{
        brood_rwlock *lock;

        must("brood_rwlock_new", brood_rwlock_new(&lock));
        return keep(lock);
}

EACH_PEER void brood_read(void *lock)
{
        must("brood_rwlock_acquire_read", brood_rwlock_acquire_read(lock, BROOD_FOREVER));
}

EACH_PEER void brood_read_end(void *lock)
{
        must("brood_rwlock_release", brood_rwlock_release(lock));
}

static void *brood_make_event(void)
{
        brood_event *event;

        must("brood_event_new", brood_event_new(&event));
        return keep(event);
}

EACH_PEER void brood_set(void *event)
{
        must("brood_event_set", brood_event_set(event));
}

EACH_PEER void brood_await(void *event)
{
        must("brood_event_wait", brood_event_wait(event, BROOD_FOREVER));
        must("brood_event_clear", brood_event_clear(event));
}

/* A condition, and what it is about; shared. */
struct brood_flag {
        brood_condition *condition;
        bool *raised;
};

static void *brood_make_flag(void)
{
        struct brood_flag *flag = bench_shared(sizeof *flag);

        must("brood_condition_new", brood_condition_new(&flag->condition, NULL));
        keep(flag->condition);
        flag->raised = bench_shared(sizeof *flag->raised);
        return flag;
}

EACH_PEER void brood_raise(void *object)
{
        struct brood_flag *flag = object;

        must("brood_condition_acquire", brood_condition_acquire(flag->condition, BROOD_FOREVER));
        *flag->raised = true;
        int r = brood_condition_notify(flag->condition, 1); /* how many, where nobody may be waiting */
        if (r < 0)
                must("brood_condition_notify", r);
        must("brood_condition_release", brood_condition_release(flag->condition));
}

EACH_PEER void brood_lower(void *object)
{
        struct brood_flag *flag = object;

        must("brood_condition_acquire", brood_condition_acquire(flag->condition, BROOD_FOREVER));
        while (!*flag->raised)
                must("brood_condition_wait", brood_condition_wait(flag->condition, BROOD_FOREVER));
        *flag->raised = false;
        must("brood_condition_release", brood_condition_release(flag->condition));
}

static void *brood_make_barrier(void)
{
        brood_barrier *barrier;

        must("brood_barrier_new", brood_barrier_new(&barrier, 2, NULL));
        return keep(barrier);
}

EACH_PEER void brood_meet(void *barrier)
{
        int r = brood_barrier_wait(barrier, BROOD_FOREVER);

        if (r < 0)
                must("brood_barrier_wait", r);
}

static void *cas_make(void)
{
        return bench_shared(sizeof(uint32_t));
}

EACH_PEER void cas_acquire(void *object)
{
        uint32_t *word = object, free = 0;
        unsigned tries = 0;

        while (!__atomic_compare_exchange_n(word, &free, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
                free = 0;
                bench_relax(&tries);
        }
}

EACH_PEER void cas_release(void *object)
{
        uint32_t *word = object;

        __atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

static pthread_mutex_t *make_mutex(int type, int robust)
{
        pthread_mutex_t *mutex = bench_shared(sizeof *mutex);
        pthread_mutexattr_t attributes;

        must("pthread_mutexattr_init", pthread_mutexattr_init(&attributes));
        must("pthread_mutexattr_setpshared", pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
        must("pthread_mutexattr_setrobust", pthread_mutexattr_setrobust(&attributes, robust));
        must("pthread_mutexattr_settype", pthread_mutexattr_settype(&attributes, type));
        must("pthread_mutex_init", pthread_mutex_init(mutex, &attributes));
        pthread_mutexattr_destroy(&attributes);
        return mutex;
}

static void *robust_make_lock(void)
{
        return make_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST);
}

static void *robust_make_rlock(void)
{
        return make_mutex(PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ROBUST);
}

EACH_PEER void mutex_acquire(void *mutex)
{
        must("pthread_mutex_lock", pthread_mutex_lock(mutex));
}

EACH_PEER void mutex_release(void *mutex)
{
        must("pthread_mutex_unlock", pthread_mutex_unlock(mutex));
}

static void *pthread_make_rwlock(void)
{
        pthread_rwlock_t *lock = bench_shared(sizeof *lock);
        pthread_rwlockattr_t attributes;

        must("pthread_rwlockattr_init", pthread_rwlockattr_init(&attributes));
        must("pthread_rwlockattr_setpshared", pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
        must("pthread_rwlock_init", pthread_rwlock_init(lock, &attributes));
        pthread_rwlockattr_destroy(&attributes);
        return lock;
}

EACH_PEER void pthread_read(void *lock)
{
        must("pthread_rwlock_rdlock", pthread_rwlock_rdlock(lock));
}

EACH_PEER void pthread_read_end(void *lock)
{
        must("pthread_rwlock_unlock", pthread_rwlock_unlock(lock));
}

struct pthread_flag {
        pthread_mutex_t *mutex;
        pthread_cond_t condition;
        bool raised;
};

static void *pthread_make_flag(void)
{
        struct pthread_flag *flag = bench_shared(sizeof *flag);
        pthread_condattr_t attributes;

        must("pthread_condattr_init", pthread_condattr_init(&attributes));
        must("pthread_condattr_setpshared", pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
        must("pthread_cond_init", pthread_cond_init(&flag->condition, &attributes));
        pthread_condattr_destroy(&attributes);
        flag->mutex = make_mutex(PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED);
        return flag;
}

EACH_PEER void pthread_raise(void *object)
{
        struct pthread_flag *flag = object;

        mutex_acquire(flag->mutex);
        flag->raised = true;
        must("pthread_cond_signal", pthread_cond_signal(&flag->condition));
        mutex_release(flag->mutex);
}

EACH_PEER void pthread_lower(void *object)
{
        struct pthread_flag *flag = object;

        mutex_acquire(flag->mutex);
        while (!flag->raised)
                must("pthread_cond_wait", pthread_cond_wait(&flag->condition, flag->mutex));
        flag->raised = false;
        mutex_release(flag->mutex);
}

static void *pthread_make_barrier(void)
{
        pthread_barrier_t *barrier = bench_shared(sizeof *barrier);
        pthread_barrierattr_t attributes;

        must("pthread_barrierattr_init", pthread_barrierattr_init(&attributes));
        must("pthread_barrierattr_setpshared", pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
        must("pthread_barrier_init", pthread_barrier_init(barrier, &attributes, 2));
        pthread_barrierattr_destroy(&attributes);
        return barrier;
}

EACH_PEER void pthread_meet(void *barrier)
{
        int r = pthread_barrier_wait(barrier);

        if (r != PTHREAD_BARRIER_SERIAL_THREAD)
                must("pthread_barrier_wait", r);
}

static void *make_sem(unsigned value)
{
        sem_t *sem = bench_shared(sizeof *sem);

        if (sem_init(sem, 1, value) < 0)
                bench_die("sem_init: %s", strerror(errno));
        return sem;
}

static void *sem_make_lock(void)
{
        return make_sem(1);
}

static void *sem_make_semaphore(void)
{
        return make_sem(4);
}

static void *sem_make_event(void)
{
        return make_sem(0);
}

EACH_PEER void sem_take(void *sem)
{
        while (__builtin_expect(sem_wait(sem) < 0, 0))
                if (errno != EINTR)
                        bench_die("sem_wait: %s", strerror(errno));
}

EACH_PEER void sem_give(void *sem)
{
        if (__builtin_expect(sem_post(sem) < 0, 0))
                bench_die("sem_post: %s", strerror(errno));
}

/* ---- the loops, the same for every peer ---- */

static void check_sum(uint64_t sum, uint64_t expected)
{
        if (sum != expected)
                bench_die("the sum is %" PRIu64 " instead of %" PRIu64, sum, expected);
}

/* What is changed under the lock; not known to the compiler, which would add up the whole loop at once. */
EACH_PEER void add_one(uint64_t *number)
{
        uint64_t before = __atomic_load_n(number, __ATOMIC_RELAXED);

        __atomic_store_n(number, before + 1, __ATOMIC_RELAXED);
}

EACH_PEER void add_up(void *lock, step acquire, step release, uint64_t *number, uint64_t count)
{
        for (uint64_t i = 0; i < count; i++) {
                acquire(lock);
                add_one(number);
                release(lock);
        }
}

/* ns a pair. */
EACH_PEER double alone(void *lock, step acquire, step release, uint64_t count)
{
        uint64_t *number = bench_shared(sizeof *number), warm = bench_warmup(count);

        add_up(lock, acquire, release, number, warm);
        uint64_t began = bench_now_ns();
        add_up(lock, acquire, release, number, count);
        uint64_t took = bench_now_ns() - began;
        check_sum(*number, warm + count);
        return (double)took / (double)count;
}

/* Pairs a second, of two processes with half of them each. */
EACH_PEER double contended(void *lock, step acquire, step release, uint64_t count)
{
        struct {
                struct bench_line start;
                alignas(BENCH_CACHE_PAIR) uint64_t number;
                struct {
                        alignas(BENCH_CACHE_PAIR) uint64_t began, ended;
                } role[2];
        } *books = bench_shared(sizeof *books);
        uint64_t share = (count + 1) / 2, warm = bench_warmup(share);
        pid_t pid[2];

        for (int i = 0; i < 2; i++) {
                pid[i] = bench_fork();
                if (pid[i] > 0)
                        continue;
                add_up(lock, acquire, release, &books->number, warm);
                bench_line_wait(&books->start, 2);
                books->role[i].began = bench_now_ns();
                add_up(lock, acquire, release, &books->number, share);
                books->role[i].ended = bench_now_ns();
                _exit(0);
        }
        for (int i = 0; i < 2; i++)
                bench_reap(pid[i]);
        check_sum(books->number, 2 * (warm + share));
        uint64_t began = books->role[0].began < books->role[1].began ? books->role[0].began : books->role[1].began;
        uint64_t ended = books->role[0].ended > books->role[1].ended ? books->role[0].ended : books->role[1].ended;
        return (double)(2 * share) * 1e9 / (double)(ended - began);
}

/* us there and back. */
EACH_PEER double round_trip(void *there, void *back, step tell, step await, uint64_t count)
{
        uint64_t *number = bench_shared(sizeof *number), warm = bench_warmup(count), began = 0;
        pid_t pid = bench_fork();

        bench_pin(pid == 0);
        if (pid == 0) {
                for (uint64_t i = 0; i < warm + count; i++) {
                        await(there);
                        add_one(number);
                        tell(back);
                }
                _exit(0);
        }
        for (uint64_t i = 0; i < warm + count; i++) {
                if (i == warm)
                        began = bench_now_ns();
                add_one(number);
                tell(there);
                await(back);
                if (__builtin_expect(__atomic_load_n(number, __ATOMIC_RELAXED) != 2 * i + 2, 0))
                        bench_die("the answer to question %" PRIu64 " is %" PRIu64, i, *number);
        }
        double us = (double)(bench_now_ns() - began) / 1e3 / (double)count;
        bench_reap(pid);
        return us;
}

/* us a round.  Each process counts its own arrivals, and finds the other's count no lower when it leaves. */
EACH_PEER double meetings(void *barrier, step meet, uint64_t count)
{
        struct {
                alignas(BENCH_CACHE_PAIR) uint64_t arrivals;
        } *books = bench_shared(2 * sizeof *books);
        uint64_t warm = bench_warmup(count), began = 0;
        pid_t pid = bench_fork();
        unsigned me = pid == 0;

        bench_pin(pid == 0);
        for (uint64_t i = 0; i < warm + count; i++) {
                if (i == warm)
                        began = bench_now_ns();
                add_one(&books[me].arrivals);
                meet(barrier);
                if (__builtin_expect(__atomic_load_n(&books[!me].arrivals, __ATOMIC_RELAXED) <= i, 0))
                        bench_die("released in round %" PRIu64 " before the other had arrived", i);
        }
        if (pid == 0)
                _exit(0);
        double us = (double)(bench_now_ns() - began) / 1e3 / (double)count;
        bench_reap(pid);
        return us;
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        bool brood = !strcmp(o.peer, "brood"), cas = !strcmp(o.peer, "cas"), robust = !strcmp(o.peer, "robust");
        bool pthread = !strcmp(o.peer, "pthread"), sem = !strcmp(o.peer, "sem");
        double value = -1;
        const char *unit = "ns";

        if (!strcmp(o.figure, "lock")) {
                if (brood)
                        value = alone(brood_make_lock(), brood_acquire, brood_release, o.count);
                else if (cas)
                        value = alone(cas_make(), cas_acquire, cas_release, o.count);
                else if (robust)
                        value = alone(robust_make_lock(), mutex_acquire, mutex_release, o.count);
                else if (sem)
                        value = alone(sem_make_lock(), sem_take, sem_give, o.count);
        } else if (!strcmp(o.figure, "rlock")) {
                if (brood)
                        value = alone(brood_make_rlock(), brood_acquire, brood_release, o.count);
                else if (robust)
                        value = alone(robust_make_rlock(), mutex_acquire, mutex_release, o.count);
        } else if (!strcmp(o.figure, "semaphore")) {
                if (brood)
                        value = alone(brood_make_semaphore(), brood_take, brood_give, o.count);
                else if (sem)
                        value = alone(sem_make_semaphore(), sem_take, sem_give, o.count);
        } else if (!strcmp(o.figure, "rwlock")) {
                if (brood)
                        value = alone(brood_make_rwlock(), brood_read, brood_read_end, o.count);
                else if (pthread)
                        value = alone(pthread_make_rwlock(), pthread_read, pthread_read_end, o.count);
        } else if (!strcmp(o.figure, "lock-contended")) {
                unit = "pair/s";
                if (brood)
                        value = contended(brood_make_lock(), brood_acquire, brood_release, o.count);
                else if (cas)
                        value = contended(cas_make(), cas_acquire, cas_release, o.count);
                else if (robust)
                        value = contended(robust_make_lock(), mutex_acquire, mutex_release, o.count);
                else if (sem)
                        value = contended(sem_make_lock(), sem_take, sem_give, o.count);
        } else {
                unit = "us";
                if (!strcmp(o.figure, "event") && brood)
                        value = round_trip(brood_make_event(), brood_make_event(), brood_set, brood_await, o.count);
                else if (!strcmp(o.figure, "event") && sem)
                        value = round_trip(sem_make_event(), sem_make_event(), sem_give, sem_take, o.count);
                else if (!strcmp(o.figure, "condition") && brood)
                        value = round_trip(brood_make_flag(), brood_make_flag(), brood_raise, brood_lower, o.count);
                else if (!strcmp(o.figure, "condition") && pthread)
                        value =
                            round_trip(pthread_make_flag(), pthread_make_flag(), pthread_raise, pthread_lower, o.count);
                else if (!strcmp(o.figure, "barrier") && brood)
                        value = meetings(brood_make_barrier(), brood_meet, o.count);
                else if (!strcmp(o.figure, "barrier") && pthread)
                        value = meetings(pthread_make_barrier(), pthread_meet, o.count);
        }
        if (value < 0)
                bench_options_unknown(&o,
                                      "lock, lock-contended of brood, cas, robust, sem; rlock of brood, robust; "
                                      "semaphore, event of brood, sem; rwlock, condition, barrier of brood, pthread");
        bench_report("sync", &o, value, unit);
        return 0;
}
