/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_objects.c: what locks, semaphores, conditions, events, barriers and reader/writer locks have in common: waiting
 * and what ends it, handles that another thread frees, the descriptors by which others attach, and what is refused there.
 */
#include "handed.h"

#include <brood/brood.h>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { SHORT_MS = 30, FDS_MAX = 2 };

static const char *const program = "/proc/self/exe"; /* to exec it */

/* One kind of object, with a call that waits until another process or thread lets it go on. */
struct kind {
        const char *name;
        int descriptors;
        int (*make)(void **ret_object); /* such that wait() waits */
        int (*wait)(void *object, int timeout_ms);
        void (*let)(void *object); /* by the thread that has made it */
        int (*attach)(void **ret_object, const int *descriptors);
        int (*tell)(void *object, int *ret_descriptors);
        void (*free)(void *object);
        struct patch {
                off_t at;
                uint64_t value;
                size_t bytes;
                int error;
        } patches[4]; /* of its own words, which are behind the first 128 bytes */
};

enum { WORDS = 128 };

/* ---- Lock and RLock ---- */

static int lock_make(void **ret_object)
{
        brood_lock *lock;
        int r = brood_lock_new(&lock);

        if (r < 0)
                return r;
        *ret_object = lock;
        return brood_lock_acquire(lock, 0);
}

static int rlock_make(void **ret_object)
{
        brood_lock *lock;
        int r = brood_rlock_new(&lock);

        if (r < 0)
                return r;
        *ret_object = lock;
        return brood_lock_acquire(lock, 0) < 0 ? -EIO : brood_lock_acquire(lock, 0);
}

static int lock_wait(void *object, int timeout_ms)
{
        return brood_lock_acquire(object, timeout_ms);
}

static void lock_let(void *object)
{
        while (brood_lock_release(object) == 0)
                ;
}

static int lock_attach(void **ret_object, const int *descriptors)
{
        brood_lock *lock = *ret_object;
        int r = brood_lock_attach(&lock, descriptors);
        *ret_object = lock;
        return r;
}

static int lock_tell(void *object, int *ret_descriptors)
{
        return brood_lock_descriptors(object, ret_descriptors);
}

static void lock_free(void *object)
{
        brood_lock_free(object);
}

/* ---- Semaphore ---- */

static int semaphore_make(void **ret_object)
{
        brood_semaphore *semaphore;
        int r = brood_semaphore_new(&semaphore, 0, NULL);

        if (r == 0)
                *ret_object = semaphore;
        return r;
}

static int semaphore_wait(void *object, int timeout_ms)
{
        return brood_semaphore_acquire(object, timeout_ms);
}

static void semaphore_let(void *object)
{
        assert_int_equal(brood_semaphore_release(object), 0);
}

static int semaphore_attach(void **ret_object, const int *descriptors)
{
        brood_semaphore *semaphore = *ret_object;
        int r = brood_semaphore_attach(&semaphore, descriptors);
        *ret_object = semaphore;
        return r;
}

static int semaphore_tell(void *object, int *ret_descriptors)
{
        return brood_semaphore_descriptors(object, ret_descriptors);
}

static void semaphore_free(void *object)
{
        brood_semaphore_free(object);
}

/* ---- Condition ---- */

static int condition_make(void **ret_object)
{
        brood_condition *condition;
        int r = brood_condition_new(&condition, NULL);

        if (r == 0)
                *ret_object = condition;
        return r;
}

static int condition_wait(void *object, int timeout_ms)
{
        int r = brood_condition_acquire(object, CHECK_HANG_MS);

        if (r < 0)
                return r;
        r = brood_condition_wait(object, timeout_ms);
        return r == -ECANCELED || brood_condition_release(object) == 0 ? r : -EIO;
}

static void condition_let(void *object)
{
        assert_int_equal(brood_condition_acquire(object, CHECK_HANG_MS), 0);
        assert_int_equal(brood_condition_notify(object, 1), 1);
        assert_int_equal(brood_condition_release(object), 0);
}

static int condition_attach(void **ret_object, const int *descriptors)
{
        brood_condition *condition = *ret_object;
        int r = brood_condition_attach(&condition, descriptors, NULL);
        *ret_object = condition;
        return r;
}

static int condition_tell(void *object, int *ret_descriptors)
{
        return brood_condition_descriptors(object, ret_descriptors);
}

static void condition_free(void *object)
{
        brood_condition_free(object);
}

/* ---- Event ---- */

static int event_make(void **ret_object)
{
        brood_event *event;
        int r = brood_event_new(&event);

        if (r == 0)
                *ret_object = event;
        return r;
}

static int event_wait(void *object, int timeout_ms)
{
        return brood_event_wait(object, timeout_ms);
}

static void event_let(void *object)
{
        assert_int_equal(brood_event_set(object), 0);
}

static int event_attach(void **ret_object, const int *descriptors)
{
        brood_event *event = *ret_object;
        int r = brood_event_attach(&event, descriptors);
        *ret_object = event;
        return r;
}

static int event_tell(void *object, int *ret_descriptors)
{
        return brood_event_descriptors(object, ret_descriptors);
}

static void event_free(void *object)
{
        brood_event_free(object);
}

/* ---- Barrier ---- */

static int barrier_make(void **ret_object)
{
        brood_barrier *barrier;
        int r = brood_barrier_new(&barrier, 2, NULL);

        if (r == 0)
                *ret_object = barrier;
        return r;
}

static int barrier_wait(void *object, int timeout_ms)
{
        int r = brood_barrier_wait(object, timeout_ms);

        if (r < 0 && r != -ECANCELED && brood_barrier_reset(object) != 0)
                return -EIO;
        return r < 0 ? r : r > 1;
}

static void barrier_let(void *object)
{
        assert_in_range(brood_barrier_wait(object, CHECK_HANG_MS), 0, 1);
}

static int barrier_attach(void **ret_object, const int *descriptors)
{
        brood_barrier *barrier = *ret_object;
        int r = brood_barrier_attach(&barrier, descriptors, NULL, NULL);
        *ret_object = barrier;
        return r;
}

static int barrier_tell(void *object, int *ret_descriptors)
{
        return brood_barrier_descriptors(object, ret_descriptors);
}

static void barrier_free(void *object)
{
        brood_barrier_free(object);
}

/* ---- the reader/writer lock, in both ways ---- */

static int written_make(void **ret_object)
{
        brood_rwlock *lock;
        int r = brood_rwlock_new(&lock);

        if (r < 0)
                return r;
        *ret_object = lock;
        return brood_rwlock_acquire_write(lock, 0);
}

static int read_make(void **ret_object)
{
        brood_rwlock *lock;
        int r = brood_rwlock_new(&lock);

        if (r < 0)
                return r;
        *ret_object = lock;
        return brood_rwlock_acquire_read(lock, 0);
}

static int read_wait(void *object, int timeout_ms)
{
        return brood_rwlock_acquire_read(object, timeout_ms);
}

static int write_wait(void *object, int timeout_ms)
{
        return brood_rwlock_acquire_write(object, timeout_ms);
}

static void rwlock_let(void *object)
{
        assert_int_equal(brood_rwlock_release(object), 0);
}

static int rwlock_attach(void **ret_object, const int *descriptors)
{
        brood_rwlock *lock = *ret_object;
        int r = brood_rwlock_attach(&lock, descriptors);
        *ret_object = lock;
        return r;
}

static int rwlock_tell(void *object, int *ret_descriptors)
{
        return brood_rwlock_descriptors(object, ret_descriptors);
}

static void rwlock_free(void *object)
{
        brood_rwlock_free(object);
}

static const struct kind kinds[] = {
        { "Lock", 1, lock_make, lock_wait, lock_let, lock_attach, lock_tell, lock_free, { { 0 } } },
        { "RLock", 1, rlock_make, lock_wait, lock_let, lock_attach, lock_tell, lock_free, { { 0 } } },
        { "Semaphore",
          1,
          semaphore_make,
          semaphore_wait,
          semaphore_let,
          semaphore_attach,
          semaphore_tell,
          semaphore_free,
          { { WORDS + 12, 1 << 24, 4, -EUCLEAN }, { WORDS + 12, UINT32_MAX, 4, -EUCLEAN } } },
        { "Condition",
          2,
          condition_make,
          condition_wait,
          condition_let,
          condition_attach,
          condition_tell,
          condition_free,
          { { WORDS + 8, 1, 8, -EINVAL }, { WORDS + 8, UINT64_MAX, 8, -EINVAL } } },
        { "Event",
          2,
          event_make,
          event_wait,
          event_let,
          event_attach,
          event_tell,
          event_free,
          { { WORDS + 16, UINT64_MAX, 8, -EINVAL } } },
        { "Barrier",
          1,
          barrier_make,
          barrier_wait,
          barrier_let,
          barrier_attach,
          barrier_tell,
          barrier_free,
          { { WORDS + 12, 0, 4, -EUCLEAN }, { WORDS + 12, 2048, 4, -EUCLEAN } } },
        { "rwlock to read",
          1,
          written_make,
          read_wait,
          rwlock_let,
          rwlock_attach,
          rwlock_tell,
          rwlock_free,
          { { 0 } } },
        { "rwlock to write", 1, read_make, write_wait, rwlock_let, rwlock_attach, rwlock_tell, rwlock_free, { { 0 } } },
};

static const struct kind *announce(const struct kind *kind)
{
        if (kind == kinds + array_length(kinds))
                return NULL;
        print_message("             %s\n", kind->name);
        return kind;
}

/* Each test for each kind; the log says which it was. */
#define for_each_kind(kind) for (const struct kind *kind = kinds; announce(kind) != NULL; kind++)

static void *make(const struct kind *kind)
{
        void *object = NULL;
        assert_int_equal(kind->make(&object), 0);
        return object;
}

/* ---- waiting ---- */

static void test_time_limits(void **state)
{
        (void)state;
        for_each_kind(kind)
        {
                /* A Lock is its process's: any of its threads waits for it, as another process does. */
                bool same_thread = kind->make != rlock_make;
                void *object = make(kind);

                if (same_thread) {
                        errno = 4711;
                        assert_int_equal(kind->wait(object, 0), -EAGAIN);
                        int64_t start = support_now_ms();
                        assert_int_equal(kind->wait(object, SHORT_MS), -ETIMEDOUT);
                        assert_true(support_now_ms() - start >= SHORT_MS - 1);
                        assert_int_equal(kind->wait(object, 0), -EAGAIN);
                        assert_int_equal(errno, 4711);
                }
                kind->free(object);
        }
}

struct waiter {
        const struct kind *kind;
        void *object;
        atomic_int *tid;
        int timeout_ms;
};

static int wait_for_it(void *arg)
{
        struct waiter *waiter = arg;

        atomic_store(waiter->tid, (int)gettid());
        errno = 4711;
        int r = waiter->kind->wait(waiter->object, waiter->timeout_ms);
        return errno == 4711 ? -r : 77;
}

static void await_asleep(atomic_int *tid)
{
        assert_true(check_reaches(tid, 1, CHECK_HANG_MS));
        assert_true(check_asleep(atomic_load(tid)));
}

/* Another thread, and another process, is let go on. */
static void test_wait(void **state)
{
        (void)state;
        for_each_kind(kind) for (int process = 0; process < 2; process++)
        {
                struct waiter waiter = { kind, make(kind), check_shared(sizeof(atomic_int)), BROOD_FOREVER };
                struct check_thread thread;
                pid_t pid = 0;

                if (process)
                        pid = check_start(wait_for_it, &waiter);
                else
                        check_thread_start(&thread, wait_for_it, &waiter);
                await_asleep(waiter.tid);
                kind->let(waiter.object);
                assert_int_equal(process ? check_wait(pid) : check_thread_join(&thread), 0);
                kind->free(waiter.object);
                munmap(waiter.tid, sizeof(atomic_int));
        }
}

static atomic_int handled;

static void handle(int number)
{
        (void)number;
        atomic_fetch_add(&handled, 1);
}

/* Signals do not end a wait, and do not make it longer. */
static void test_signals(void **state)
{
        (void)state;
        struct sigaction action = { .sa_handler = handle }, before;

        assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
        for_each_kind(kind) for (int limited = 0; limited < 2; limited++)
        {
                atomic_int tid = 0;
                struct waiter waiter = { kind, make(kind), &tid, limited ? 10 * SHORT_MS : BROOD_FOREVER };
                struct check_thread thread;

                check_thread_start(&thread, wait_for_it, &waiter);
                for (int i = 0; i < 5; i++) {
                        await_asleep(&tid);
                        atomic_store(&handled, 0);
                        assert_int_equal(pthread_kill(thread.id, SIGUSR1), 0);
                        assert_true(check_reaches(&handled, 1, CHECK_HANG_MS));
                }
                if (!limited) {
                        await_asleep(&tid);
                        kind->let(waiter.object);
                }
                assert_int_equal(check_thread_join(&thread), limited ? ETIMEDOUT : 0);
                kind->free(waiter.object);
        }
        assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

/* A thread waits, and another frees the handle: the first is sent away before the memory goes. */
static void test_free_while_waiting(void **state)
{
        (void)state;
        enum { WAITERS = 3 };

        for_each_kind(kind) for (int round = 0; round < support_rounds(10); round++)
        {
                atomic_int tids[WAITERS] = { 0 };
                struct waiter waiters[WAITERS];
                struct check_thread threads[WAITERS];
                void *object = make(kind);
                /* A barrier of two has room for one. */
                int count = kind->make == barrier_make ? 1 : WAITERS;

                for (int i = 0; i < count; i++) {
                        waiters[i] = (struct waiter){ kind, object, &tids[i], BROOD_FOREVER };
                        check_thread_start(&threads[i], wait_for_it, &waiters[i]);
                }
                for (int i = 0; i < count; i++)
                        await_asleep(&tids[i]);
                kind->free(object);
                for (int i = 0; i < count; i++)
                        assert_int_equal(check_thread_join(&threads[i]), ECANCELED);
        }
}

/* What is freed is only this process's handle: those who wait in others stay, and are served. */
static void test_free_elsewhere(void **state)
{
        (void)state;
        for_each_kind(kind)
        {
                atomic_int *tid = check_shared(sizeof *tid);
                void *object = make(kind), *again = NULL;
                int fds[FDS_MAX];
                struct waiter waiter = { kind, object, tid, BROOD_FOREVER };

                assert_int_equal(kind->tell(object, fds), 0);
                assert_int_equal(kind->attach(&again, fds), 0);
                pid_t pid = check_start(wait_for_it, &waiter);
                await_asleep(tid);
                /* The other handle has no part in it, whatever it has done before. */
                if (kind->make != barrier_make)
                        assert_int_equal(kind->wait(again, 0), -EAGAIN);
                kind->free(again);
                assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
                kind->let(object);
                assert_int_equal(check_wait(pid), 0);
                kind->free(object);
                munmap(tid, sizeof *tid);
        }
}

/* ---- attach ---- */

static int attach_and_wait(const struct kind *kind, const int *fds)
{
        void *object = NULL;
        int own[FDS_MAX];

        require_int(kind->attach(&object, fds), 0);
        require_int(kind->tell(object, own), 0);
        for (int i = 0; i < kind->descriptors; i++) {
                require(own[i] != fds[i]);
                require(fcntl(own[i], F_GETFD) & FD_CLOEXEC);
        }
        require_int(kind->wait(object, 3 * CHECK_HANG_MS), 0);
        kind->free(object);
        return 0;
}

struct sent {
        const struct kind *kind;
        void *object;
        int pair[2];
        int how;
};

static int attach_received(void *arg)
{
        struct sent *sent = arg;
        int fds[FDS_MAX];
        char byte, control[CMSG_SPACE(sizeof fds)];
        struct iovec data = { &byte, 1 };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
        };

        require_int(recvmsg(sent->pair[1], &message, MSG_CMSG_CLOEXEC), 1);
        memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), (size_t)sent->kind->descriptors * sizeof(int));
        return attach_and_wait(sent->kind, fds);
}

static int attach_across_exec(void *arg)
{
        struct sent *sent = arg;
        int fds[FDS_MAX] = { -1, -1 };
        char numbers[3][16];

        require_int(sent->kind->tell(sent->object, fds), 0);
        snprintf(numbers[0], sizeof numbers[0], "%d", (int)(sent->kind - kinds));
        for (int i = 0; i < FDS_MAX; i++) {
                require(fds[i] < 0 || fcntl(fds[i], F_SETFD, 0) == 0);
                snprintf(numbers[i + 1], sizeof numbers[i + 1], "%d", fds[i]);
        }
        execl(program, program, "--attach", numbers[0], numbers[1], numbers[2], (char *)NULL);
        return 1;
}

static int attach_inherited(void *arg)
{
        struct sent *sent = arg;
        int fds[FDS_MAX];

        require_int(sent->kind->tell(sent->object, fds), 0);
        return attach_and_wait(sent->kind, fds);
}

static void send_descriptors(struct sent *sent)
{
        int fds[FDS_MAX];
        size_t size = (size_t)sent->kind->descriptors * sizeof(int);
        char control[CMSG_SPACE(sizeof fds)] = "";
        struct iovec data = { (char[]){ "b" }, 1 };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(size)
        };

        assert_int_equal(sent->kind->tell(sent->object, fds), 0);
        *CMSG_FIRSTHDR(&message) =
            (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(size) };
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, size);
        assert_int_equal(sendmsg(sent->pair[0], &message, 0), 1);
}

static void test_attach(void **state)
{
        (void)state;
        static int (*const ways[])(void *) = { attach_inherited, attach_across_exec, attach_received };

        for_each_kind(kind) for (size_t how = 0; how < array_length(ways); how++)
        {
                struct sent sent = { .kind = kind };

                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sent.pair), 0);
                if (ways[how] != attach_received)
                        sent.object = make(kind);
                pid_t pid = check_start(ways[how], &sent);
                if (ways[how] == attach_received) {
                        sent.object = make(kind); /* only now, so that nothing is inherited */
                        send_descriptors(&sent);
                }
                if (kind->make != event_make && kind->make != semaphore_make) /* those need not wait for the other */
                        assert_true(check_asleep(pid));
                if (kind->make == condition_make)
                        while (brood_condition_acquire(sent.object, CHECK_HANG_MS) == 0) {
                                int notified = brood_condition_notify(sent.object, 1);
                                assert_int_equal(brood_condition_release(sent.object), 0);
                                if (notified == 1)
                                        break;
                                usleep(1000);
                        }
                else
                        kind->let(sent.object);
                assert_int_equal(check_wait(pid), 0);
                kind->free(sent.object);
                close(sent.pair[0]);
                close(sent.pair[1]);
        }
}

/* With the first descriptor exchanged for `memory`. */
static int attach_to(const struct kind *kind, int memory, const int *fds)
{
        void *object = (void *)&memory;
        int before = support_count_descriptors(), mappings = support_count_shared_mappings(),
            given[FDS_MAX] = { memory, kind->descriptors > 1 ? fds[1] : -1 };

        errno = 4711;
        int r = kind->attach(&object, given);
        assert_int_equal(errno, 4711);
        if (r == 0)
                kind->free(object);
        else
                assert_ptr_equal(object, &memory);
        assert_int_equal(support_count_descriptors(), before);
        assert_int_equal(support_count_shared_mappings(), mappings);
        return r;
}

static void test_attach_refuses_descriptors(void **state)
{
        (void)state;
        int pipes[2], others[array_length(kinds)][FDS_MAX], queue_fds[BROOD_QUEUE_DESCRIPTORS];
        void *objects[array_length(kinds)];
        brood_queue *queue;

        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        assert_int_equal(brood_queue_new(&queue, NULL), 0);
        assert_int_equal(brood_queue_descriptors(queue, queue_fds), 0);
        for (size_t i = 0; i < array_length(kinds); i++) {
                objects[i] = make(&kinds[i]);
                assert_int_equal(kinds[i].tell(objects[i], others[i]), 0);
        }
        for_each_kind(kind)
        {
                size_t own = (size_t)(kind - kinds);
                int *fds = others[own];

                assert_int_equal(attach_to(kind, fds[0], fds), 0);
                assert_int_equal(attach_to(kind, -1, fds), -EBADF);
                assert_int_equal(attach_to(kind, 1 << 20, fds), -EBADF);
                assert_int_equal(attach_to(kind, pipes[0], fds), -EINVAL);
                assert_int_equal(attach_to(kind, queue_fds[0], fds), -EUCLEAN);
                int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                assert_int_equal(attach_to(kind, event, fds), -EINVAL);
                for (size_t i = 0; i < array_length(kinds); i++)
                        if (kinds[i].attach != kind->attach)
                                assert_int_equal(attach_to(kind, others[i][0], fds), -EUCLEAN);
                if (kind->descriptors == 2) {
                        int swapped[2] = { fds[1], fds[0] }, r = attach_to(kind, swapped[0], swapped);
                        assert_int_equal(r, kind->attach == condition_attach ? -EUCLEAN : -EINVAL);
                        assert_int_equal(attach_to(kind, fds[0], (int[]){ -1, -1 }), -EBADF);
                        assert_int_equal(attach_to(kind, fds[0], (int[]){ -1, pipes[0] }), -EINVAL);
                        assert_int_equal(attach_to(kind, fds[0], (int[]){ -1, event }), -EINVAL);
                        /* One of the same kind, but another's. */
                        void *another = make(kind);
                        int of_another[FDS_MAX];
                        assert_int_equal(kind->tell(another, of_another), 0);
                        assert_int_equal(attach_to(kind, fds[0], of_another), -EINVAL);
                        kind->free(another);
                }
                close(event);
                char path[64];
                snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
                int reading = open(path, O_RDONLY | O_CLOEXEC);
                assert_true(reading >= 0);
                assert_int_equal(attach_to(kind, reading, fds), -EACCES);
                close(reading);
                int copy = dup(fds[0]); /* is as good */
                assert_int_equal(attach_to(kind, copy, fds), 0);
                close(copy);
        }
        for (size_t i = 0; i < array_length(kinds); i++)
                kinds[i].free(objects[i]);
        brood_queue_free(queue);
        close(pipes[0]);
        close(pipes[1]);
}

static void test_attach_refuses_memory(void **state)
{
        (void)state;
        static const struct {
                off_t more;
                unsigned seals;
                int error;
        } copies[] = {
                { 0, ALL_SEALS, 0 },
                { 0, F_SEAL_SHRINK, 0 },
                { 0, 0, -EPERM },
                { 0, F_SEAL_GROW | F_SEAL_SEAL, -EPERM },
                { 4096, ALL_SEALS, -EUCLEAN },
                { 1, ALL_SEALS, -EUCLEAN },
                { -1, ALL_SEALS, -EUCLEAN },
                { -4096, ALL_SEALS, -EUCLEAN },
        };
        static const struct patch patches[] = {
                { 0, 0, 8, -EUCLEAN },           { 8, 2, 4, -EPROTONOSUPPORT },  /* the version */
                { 8, 0, 4, -EPROTONOSUPPORT },   { 12, 1, 4, -EUCLEAN },         /* the kind */
                { 12, UINT32_MAX, 4, -EUCLEAN }, { 16, 7, 8, -EPROTONOSUPPORT }, /* the layout */
                { 24, 4096, 8, -EUCLEAN },                                       /* the size */
                { 24, UINT64_MAX, 8, -EUCLEAN },
        };
        static const off_t sizes[] = { 0, 1, 63, 64, 4096, 1 << 20 };

        for_each_kind(kind)
        {
                void *object = make(kind);
                int fds[FDS_MAX];

                assert_int_equal(kind->tell(object, fds), 0);
                for (size_t i = 0; i < array_length(copies); i++) {
                        int copy = handed_copy(fds[0], copies[i].more, copies[i].seals);
                        assert_int_equal(attach_to(kind, copy, fds), copies[i].error);
                        close(copy);
                }
                for (size_t i = 0; i < array_length(patches) + array_length(kind->patches); i++) {
                        const struct patch *patch =
                            i < array_length(patches) ? &patches[i] : &kind->patches[i - array_length(patches)];
                        int copy = handed_patched(fds[0], patch->at, patch->value, patch->bytes);
                        assert_int_equal(attach_to(kind, copy, fds), patch->error);
                        close(copy);
                }
                /* Small enough to end before the words, and agreeing with itself about its size. */
                struct stat status;
                assert_int_equal(fstat(fds[0], &status), 0);
                int cut = handed_copy(fds[0], 100 - status.st_size, ALL_SEALS);
                assert_int_equal(pwrite(cut, &(uint64_t){ 100 }, 8, 24), 8);
                assert_int_equal(attach_to(kind, cut, fds), -EUCLEAN);
                close(cut);
                /* Zeros, noise, and too little for a head. */
                for (size_t i = 0; i < array_length(sizes); i++)
                        for (int noise = 0; noise < 2; noise++) {
                                int fd = memfd_create("noise", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                                assert_int_equal(ftruncate(fd, sizes[i]), 0);
                                for (off_t at = 0; noise && at + 8 <= sizes[i]; at += 8)
                                        assert_int_equal(pwrite(fd, &(uint64_t){ support_random(UINT64_MAX) }, 8, at),
                                                         8);
                                assert_int_equal(fcntl(fd, F_ADD_SEALS, ALL_SEALS), 0);
                                assert_int_equal(attach_to(kind, fd, fds), -EUCLEAN);
                                close(fd);
                        }
                kind->free(object);
        }
}

static void test_without_descriptors(void **state)
{
        (void)state;
        for_each_kind(kind)
        {
                void *object = make(kind), *untouched = (void *)&kind, *other = untouched;
                int fds[FDS_MAX];

                assert_int_equal(kind->tell(object, fds), 0);
                struct rlimit before = check_descriptors_exhaust();
                int attached = kind->attach(&other, fds), made = kind->make(&other);
                check_descriptors_restore(&before);
                assert_int_equal(attached, -EMFILE);
                assert_int_equal(made, -EMFILE);
                assert_ptr_equal(other, untouched);
                kind->free(object);
        }
}

/* Each handle is a user, so that one process can be 1,023 of them. */
static void test_users(void **state)
{
        (void)state;
        enum { USERS = 1023 };
        static void *handles[USERS + 1];
        struct rlimit before, many;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        many = before;
        many.rlim_cur = before.rlim_max < 4096 ? before.rlim_max : 4096;
        if (many.rlim_cur < 4096)
                skip();
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &many), 0);
        for_each_kind(kind)
        {
                int fds[FDS_MAX];

                if (kind->make == rlock_make || kind->make == read_make)
                        continue; /* the same code */
                handles[0] = make(kind);
                assert_int_equal(kind->tell(handles[0], fds), 0);
                for (int i = 1; i <= USERS; i++)
                        assert_int_equal(kind->attach(&handles[i], fds), 0);
                for (int i = 0; i < USERS; i++)
                        assert_int_equal(kind->wait(handles[i], 0), -EAGAIN);
                for (int i = 0; i < 2; i++)
                        assert_int_equal(kind->wait(handles[USERS], 0), -EUSERS);
                /* One of them goes. */
                kind->free(handles[500]);
                handles[500] = NULL;
                assert_int_equal(kind->wait(handles[USERS], 0), -EAGAIN);
                for (int i = 0; i <= USERS; i++)
                        kind->free(handles[i]);
        }
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* Who waits may be killed, too: who waits beside it does not notice.  (What becomes of an arrival: test_barrier.c.) */
static void test_killed_waiters(void **state)
{
        (void)state;
        for_each_kind(kind)
        {
                atomic_int *tids = check_shared(2 * sizeof *tids);
                void *object = make(kind);
                pid_t pids[2];

                for (int i = 0; i < 2 && kind->make != barrier_make; i++) {
                        struct waiter waiter = { kind, object, &tids[i], BROOD_FOREVER };
                        pids[i] = check_start(wait_for_it, &waiter);
                        await_asleep(&tids[i]);
                }
                if (kind->make != barrier_make) {
                        assert_int_equal(check_kill(pids[0]), -SIGKILL);
                        kind->let(object);
                        assert_int_equal(check_wait_for(pids[1], CHECK_HANG_MS), 0);
                }
                kind->free(object);
                munmap(tids, 2 * sizeof *tids);
        }
}

/* A child has its own handle, and frees that, before or after it has used it; the parent's goes on. */
static int use_and_free(void *arg)
{
        struct waiter *waiter = arg;

        if (waiter->timeout_ms >= 0 && waiter->kind->make != barrier_make)
                require_int(waiter->kind->wait(waiter->object, waiter->timeout_ms),
                            waiter->timeout_ms == 0 ? -EAGAIN : -ETIMEDOUT);
        waiter->kind->free(waiter->object);
        return 0;
}

static void test_fork(void **state)
{
        (void)state;
        static const int timeouts[] = { -1, 0, SHORT_MS };

        for_each_kind(kind) for (size_t i = 0; i < array_length(timeouts); i++)
        {
                atomic_int tid = 0;
                struct waiter waiter = { kind, make(kind), &tid, BROOD_FOREVER };
                struct waiter in_child = { kind, waiter.object, &tid, timeouts[i] };
                struct check_thread thread;

                /* Forked while a thread of the parent waits, which the child knows nothing of. */
                check_thread_start(&thread, wait_for_it, &waiter);
                await_asleep(&tid);
                check_in_child(use_and_free, &in_child);
                await_asleep(&tid);
                kind->let(waiter.object);
                assert_int_equal(check_thread_join(&thread), 0);
                kind->free(waiter.object);
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_time_limits),
                support_test(test_wait),
                support_test(test_signals),
                support_test(test_free_while_waiting),
                support_test(test_free_elsewhere),
                support_test(test_killed_waiters),
                support_test(test_fork),
                support_test(test_attach),
                support_test(test_attach_refuses_descriptors),
                support_test(test_attach_refuses_memory),
                support_test(test_without_descriptors),
                support_test(test_users),
        };
        if (argc == 5 && strcmp(argv[1], "--attach") == 0)
                return attach_and_wait(&kinds[atoi(argv[2])], (int[]){ atoi(argv[3]), atoi(argv[4]) });
        return support_main(argc, argv, "objects", tests, array_length(tests), 120);
}
