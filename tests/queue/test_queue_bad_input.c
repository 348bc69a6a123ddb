/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_queue_bad_input.c: what a queue refuses, and with which error: arguments, structs that are no longer or never
 * were what they say, descriptors of something else, and calls on a handle that another thread frees.  After each refusal the
 * queue is what it was before.
 */
#include "handed.h"

#include <brood/queue.h>

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

static brood_queue *make(brood_queue_options options)
{
        brood_queue *q = NULL;
        assert_int_equal(brood_queue_new(&q, &options), 0);
        return q;
}

static brood_queue *make_small(void)
{
        return make((brood_queue_options){ .maxsize = 4, .message_size = 64 });
}

static int put_int(brood_queue *q, int value)
{
        return brood_queue_put_nowait(q, &value, sizeof value);
}

/* The next message: -1 if there is none. */
static int get_int(brood_queue *q)
{
        int value;
        return brood_queue_get_nowait(q, &value, sizeof value) == sizeof value ? value : -1;
}

/* It holds `held` messages, and one more can be put and is not lost. */
static void assert_works(brood_queue *q, ssize_t held)
{
        assert_int_equal(brood_queue_qsize(q), held);
        assert_int_equal(put_int(q, 4711), 0);
        assert_int_equal(brood_queue_qsize(q), held + 1);
        for (ssize_t i = 0; i < held; i++) {
                int value = get_int(q);
                assert_int_not_equal(value, -1);
                assert_int_equal(put_int(q, value), 0);
        }
        assert_int_equal(get_int(q), 4711);
        assert_int_equal(brood_queue_qsize(q), held);
}

/* ---- arguments ---- */

static void test_options(void **state)
{
        (void)state;
        static const brood_queue_options refused[] = {
                { .maxsize = BROOD_QUEUE_MAXSIZE_LIMIT + 1 },
                { .message_size = BROOD_QUEUE_MESSAGE_SIZE_LIMIT + 1 },
                { .memory = BROOD_QUEUE_MEMORY_LIMIT + 1 },
                { .message_size = 1001, .memory = 1000 },
                { .memory = BROOD_QUEUE_MESSAGE_SIZE_DEFAULT - 1 },
                { .max_deliveries = -1 },
                { .max_deliveries = BROOD_QUEUE_DELIVERIES_LIMIT + 1 },
        };
        static const brood_queue_options taken[] = {
                { .maxsize = 1, .message_size = 1, .memory = 1, .max_deliveries = BROOD_QUEUE_DELIVERIES_LIMIT },
                { .message_size = 1000, .memory = 1000, .joinable = -1 },
                { .message_size = BROOD_QUEUE_MESSAGE_SIZE_LIMIT },
                { .memory = BROOD_QUEUE_MEMORY_LIMIT, .message_size = 1000 },
        };
        brood_queue *untouched = (brood_queue *)&state, *q = untouched;

        for (size_t i = 0; i < array_length(refused); i++) {
                assert_int_equal(brood_queue_new(&q, &refused[i]), -EINVAL);
                assert_ptr_equal(q, untouched);
        }
        for (size_t i = 0; i < array_length(taken); i++) {
                assert_int_equal(brood_queue_new(&q, &taken[i]), 0);
                assert_int_equal(brood_queue_put_nowait(q, "b", 1), 0);
                brood_queue_free(q);
        }
        brood_queue_free(NULL);
}

static void test_null(void **state)
{
        (void)state;
        brood_queue *q = make_small();
        brood_reservation reservation;
        brood_view view;
        brood_lease lease;
        brood_queue_statistics statistics;
        int fds[2];
        struct iovec none = { NULL, 3 };
        char byte = 0;

        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(brood_queue_put(NULL, &byte, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_put(q, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_get(NULL, &byte, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_get(q, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_put_many(NULL, NULL, 0, 0), -EINVAL);
        assert_int_equal(brood_queue_put_many(q, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_put_many(q, &none, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_get_many(NULL, NULL, 0, 0), -EINVAL);
        assert_int_equal(brood_queue_get_many(q, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_get_many(q, &none, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_reserve(NULL, &reservation, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_reserve(q, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_reserve(q, &reservation, 65, 0), -EMSGSIZE);
        assert_int_equal(brood_queue_commit(NULL, &reservation, 1), -EINVAL);
        assert_int_equal(brood_queue_commit(q, NULL, 1), -EINVAL);
        assert_int_equal(brood_queue_cancel(NULL, &reservation), -EINVAL);
        assert_int_equal(brood_queue_cancel(q, NULL), -EINVAL);
        assert_int_equal(brood_queue_peek(NULL, &view, 0), -EINVAL);
        assert_int_equal(brood_queue_peek(q, NULL, 0), -EINVAL);
        assert_int_equal(brood_queue_release(NULL, &view), -EINVAL);
        assert_int_equal(brood_queue_release(q, NULL), -EINVAL);
        assert_int_equal(brood_queue_unpeek(NULL, &view), -EINVAL);
        assert_int_equal(brood_queue_unpeek(q, NULL), -EINVAL);
        assert_int_equal(brood_queue_lease(NULL, &lease, 0), -EINVAL);
        assert_int_equal(brood_queue_lease(q, NULL, 0), -EINVAL);
        assert_int_equal(brood_queue_acknowledge(NULL, &lease), -EINVAL);
        assert_int_equal(brood_queue_acknowledge(q, NULL), -EINVAL);
        assert_int_equal(brood_queue_give_back(NULL, &lease), -EINVAL);
        assert_int_equal(brood_queue_give_back(q, NULL), -EINVAL);
        assert_int_equal(brood_queue_task_done(NULL), -EINVAL);
        assert_int_equal(brood_queue_task_done(q), -EINVAL);
        assert_int_equal(brood_queue_join(NULL, 0), -EINVAL);
        assert_int_equal(brood_queue_close(NULL), -EINVAL);
        assert_int_equal(brood_queue_qsize(NULL), -EINVAL);
        assert_int_equal(brood_queue_empty(NULL), -EINVAL);
        assert_int_equal(brood_queue_full(NULL), -EINVAL);
        assert_int_equal(brood_queue_maxsize(NULL), 0);
        assert_int_equal(brood_queue_message_size(NULL), 0);
        assert_int_equal(brood_queue_stats(NULL, &statistics), -EINVAL);
        assert_int_equal(brood_queue_stats(q, NULL), -EINVAL);
        assert_int_equal(brood_queue_stats_sized(q, &statistics, sizeof statistics + 8), -E2BIG);
        assert_int_equal(brood_queue_fileno(NULL), -EINVAL);
        assert_int_equal(brood_queue_descriptors(NULL, fds), -EINVAL);
        assert_int_equal(brood_queue_descriptors(q, NULL), -EINVAL);
        assert_int_equal(brood_queue_attach(NULL, fds), -EINVAL);
        assert_int_equal(brood_queue_attach(&q, NULL), -EINVAL);
        assert_works(q, 1);
        brood_queue_free(q);
}

static void test_joinable_refuses(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 4, .message_size = 8, .joinable = 1 });
        brood_lease lease;
        brood_view view;

        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(brood_queue_lease(q, &lease, BROOD_FOREVER), -EINVAL);
        assert_int_equal(brood_queue_peek(q, &view, BROOD_FOREVER), -EINVAL);
        assert_int_equal(brood_queue_task_done(q), -EINVAL);
        assert_int_equal(brood_queue_qsize(q), 1);
        assert_int_equal(get_int(q), 1);
        assert_int_equal(brood_queue_task_done(q), 0);
        assert_int_equal(brood_queue_task_done(q), -EINVAL);
        assert_int_equal(brood_queue_join(q, 0), 0);
        brood_queue_free(q);
}

/* ---- reservations, views and leases that are not what they say ---- */

struct held {
        brood_queue *queue;
        brood_reservation reservation;
        brood_view view;
        brood_lease lease;
};

static int use_anothers(void *arg)
{
        struct held *held = arg;
        brood_queue *q = held->queue;

        for (int round = 0; round < 2; round++) {
                require_int(brood_queue_commit(q, &held->reservation, 4), -EPERM);
                require_int(brood_queue_cancel(q, &held->reservation), -EPERM);
                require_int(brood_queue_release(q, &held->view), -EPERM);
                require_int(brood_queue_unpeek(q, &held->view), -EPERM);
                require_int(brood_queue_acknowledge(q, &held->lease), -EPERM);
                require_int(brood_queue_give_back(q, &held->lease), -EPERM);
                /* Now as a process that is known to the queue. */
                require_int(get_int(q), -1);
        }
        brood_queue_free(q); /* and does not take its parent's with it */
        return 0;
}

static void hold(struct held *held)
{
        assert_int_equal(put_int(held->queue, 1), 0);
        assert_int_equal(put_int(held->queue, 2), 0);
        assert_int_equal(brood_queue_lease(held->queue, &held->lease, 0), 0);
        assert_int_equal(brood_queue_peek(held->queue, &held->view, 0), 0);
        assert_int_equal(brood_queue_reserve(held->queue, &held->reservation, 8, 0), 0);
}

static void test_of_another_process(void **state)
{
        (void)state;
        struct held held = { .queue = make_small() };

        hold(&held);
        check_in_child(use_anothers, &held);
        assert_int_equal(*(const int *)held.lease.data, 1);
        assert_int_equal(*(const int *)held.view.data, 2);
        assert_int_equal(brood_queue_acknowledge(held.queue, &held.lease), 0);
        assert_int_equal(brood_queue_unpeek(held.queue, &held.view), 0);
        memcpy(held.reservation.data, &(int){ 3 }, sizeof(int));
        assert_int_equal(brood_queue_commit(held.queue, &held.reservation, sizeof(int)), 0);
        assert_int_equal(get_int(held.queue), 2);
        assert_int_equal(get_int(held.queue), 3);
        assert_works(held.queue, 0);
        brood_queue_free(held.queue);
}

static void test_twice(void **state)
{
        (void)state;
        struct held held = { .queue = make_small() };
        brood_queue *q = held.queue;

        for (int back = 0; back < 2; back++) {
                hold(&held);
                assert_int_equal(brood_queue_commit(q, &held.reservation, 9), -EINVAL); /* larger than reserved */
                assert_int_equal(
                    back ? brood_queue_cancel(q, &held.reservation) : brood_queue_commit(q, &held.reservation, 4), 0);
                assert_int_equal((back ? brood_queue_unpeek : brood_queue_release)(q, &held.view), 0);
                assert_int_equal((back ? brood_queue_give_back : brood_queue_acknowledge)(q, &held.lease), 0);
                for (int i = 0; i < 2; i++) {
                        assert_int_equal(brood_queue_commit(q, &held.reservation, 4), -EINVAL);
                        assert_int_equal(brood_queue_cancel(q, &held.reservation), -EINVAL);
                        assert_int_equal(brood_queue_release(q, &held.view), -EINVAL);
                        assert_int_equal(brood_queue_unpeek(q, &held.view), -EINVAL);
                        assert_int_equal(brood_queue_acknowledge(q, &held.lease), -EINVAL);
                        assert_int_equal(brood_queue_give_back(q, &held.lease), -EINVAL);
                }
                assert_int_equal(brood_queue_qsize(q), back ? 2 : 1);
                while (get_int(q) >= 0)
                        ;
                /* Their places and entries are in use again, by others. */
                struct held next = { .queue = q };
                for (int i = 0; i < 8; i++) {
                        hold(&next);
                        assert_int_equal(brood_queue_commit(q, &held.reservation, 4), -EINVAL);
                        assert_int_equal(brood_queue_release(q, &held.view), -EINVAL);
                        assert_int_equal(brood_queue_acknowledge(q, &held.lease), -EINVAL);
                        assert_int_equal(brood_queue_cancel(q, &next.reservation), 0);
                        assert_int_equal(brood_queue_release(q, &next.view), 0);
                        assert_int_equal(brood_queue_acknowledge(q, &next.lease), 0);
                }
                assert_works(q, 0);
        }
        brood_queue_free(q);
}

static void assert_refuses(brood_queue *q, const struct held *forged)
{
        assert_int_equal(brood_queue_commit(q, &forged->reservation, 0), -EINVAL);
        assert_int_equal(brood_queue_cancel(q, &forged->reservation), -EINVAL);
        assert_int_equal(brood_queue_release(q, &forged->view), -EINVAL);
        assert_int_equal(brood_queue_unpeek(q, &forged->view), -EINVAL);
        assert_int_equal(brood_queue_acknowledge(q, &forged->lease), -EINVAL);
        assert_int_equal(brood_queue_give_back(q, &forged->lease), -EINVAL);
}

static void test_forged(void **state)
{
        (void)state;
        for (size_t maxsize = 0; maxsize <= 4; maxsize += 4) {
                brood_queue *q = make((brood_queue_options){ .maxsize = maxsize, .message_size = 1000 });
                struct held other = { .queue = make((brood_queue_options){ .maxsize = 7, .message_size = 64 }) },
                            forged;

                assert_int_equal(put_int(q, 1), 0);
                hold(&other);
                assert_refuses(q, &other);
                memset(&forged, 0xff, sizeof forged);
                assert_refuses(q, &forged);
                memset(&forged, 0, sizeof forged);
                assert_refuses(q, &forged);
                for (int round = 0; round < 300; round++) {
                        for (size_t i = 0; i < sizeof forged; i++)
                                ((unsigned char *)&forged)[i] = (unsigned char)support_random(round % 2 ? 256 : 2);
                        assert_refuses(q, &forged);
                }
                assert_works(q, 1);
                brood_queue_free(q);
                assert_int_equal(brood_queue_acknowledge(other.queue, &other.lease), 0);
                brood_queue_free(other.queue);
        }
}

/* ---- attach ---- */

enum {
        HEAD_VERSION = 8,
        HEAD_KIND = 12,
        HEAD_LAYOUT = 16,
        HEAD_SIZE = 24,
        SHARED_MAXSIZE = 64,
        SHARED_MESSAGE_SIZE = 72,
        SHARED_BELL = 88,
        SHARED_DELIVERIES = 96
};

static int attach_to(int memory, int event)
{
        brood_queue *untouched = (brood_queue *)&memory, *q = untouched;
        int before = support_count_descriptors();
        int r = brood_queue_attach(&q, (int[]){ memory, event });

        if (r == 0) {
                assert_int_equal(brood_queue_qsize(q), 1);
                brood_queue_free(q);
        } else {
                assert_ptr_equal(q, untouched);
        }
        assert_int_equal(support_count_descriptors(), before);
        return r;
}

static void test_attach_refuses(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 4, .message_size = 8 });
        int fds[2], pipes[2];

        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(brood_queue_descriptors(q, fds), 0);
        assert_int_equal(attach_to(fds[0], fds[1]), 0);

        /* No descriptor; one of something else; the two swapped. */
        errno = 4711;
        assert_int_equal(attach_to(-1, fds[1]), -EBADF);
        assert_int_equal(attach_to(fds[0], -1), -EBADF);
        assert_int_equal(attach_to(fds[0], 1 << 20), -EBADF);
        assert_int_equal(errno, 4711);
        assert_int_equal(attach_to(fds[1], fds[0]), -EINVAL);
        assert_int_equal(attach_to(fds[0], fds[0]), -EINVAL);
        assert_int_equal(attach_to(fds[1], fds[1]), -EINVAL);
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        assert_int_equal(attach_to(pipes[0], fds[1]), -EINVAL);
        assert_int_equal(attach_to(fds[0], pipes[0]), -EINVAL);
        close(pipes[0]);
        close(pipes[1]);
        int event = eventfd(1, EFD_CLOEXEC | EFD_SEMAPHORE | EFD_NONBLOCK);
        assert_int_equal(attach_to(fds[0], event), -EINVAL);
        close(event);
        int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        int r = attach_to(self, fds[1]);
        assert_true(r == -EINVAL || r == -EPERM); /* some file systems know of seals */
        close(self);
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fds[0]);
        int reading = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(reading >= 0);
        assert_true(attach_to(reading, fds[1]) < 0); /* it cannot be written to */
        close(reading);

        /* A duplicate is as good. */
        int copies[2] = { dup(fds[0]), dup(fds[1]) };
        assert_int_equal(attach_to(copies[0], copies[1]), 0);
        close(copies[0]);
        close(copies[1]);
        assert_works(q, 1);
        brood_queue_free(q);
}

static void test_attach_refuses_other_memory(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 4, .message_size = 8 });
        int fds[2];

        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(brood_queue_descriptors(q, fds), 0);
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
        for (size_t i = 0; i < array_length(copies); i++) {
                int copy = handed_copy(fds[0], copies[i].more, copies[i].seals);
                assert_int_equal(attach_to(copy, fds[1]), copies[i].error);
                close(copy);
        }

        static const struct {
                off_t at;
                uint64_t value;
                size_t bytes;
                int error;
        } patches[] = {
                { 0, 0, 8, -EUCLEAN },
                { HEAD_VERSION, 2, 4, -EPROTONOSUPPORT },
                { HEAD_VERSION, 0, 4, -EPROTONOSUPPORT },
                { HEAD_KIND, 2, 4, -EUCLEAN },
                { HEAD_KIND, UINT32_MAX, 4, -EUCLEAN },
                { HEAD_LAYOUT, 7, 8, -EPROTONOSUPPORT },
                { HEAD_SIZE, 4096, 8, -EUCLEAN },
                { HEAD_SIZE, UINT64_MAX, 8, -EUCLEAN },
                { SHARED_MAXSIZE, UINT64_MAX, 8, -EUCLEAN },
                { SHARED_MAXSIZE, 100000, 8, -EPROTONOSUPPORT },
                { SHARED_MESSAGE_SIZE, 0, 8, -EUCLEAN },
                { SHARED_MESSAGE_SIZE, UINT64_MAX, 8, -EUCLEAN },
                { SHARED_MESSAGE_SIZE, 128, 8, -EPROTONOSUPPORT },
                { SHARED_BELL, UINT64_MAX, 8, -EINVAL },
                { SHARED_DELIVERIES, 201, 4, -EUCLEAN },
                { SHARED_DELIVERIES, UINT32_MAX, 4, -EUCLEAN },
        };
        for (size_t i = 0; i < array_length(patches); i++) {
                int copy = handed_patched(fds[0], patches[i].at, patches[i].value, patches[i].bytes);
                assert_int_equal(attach_to(copy, fds[1]), patches[i].error);
                close(copy);
        }

        /* Zeros, noise, and too little for a head. */
        static const off_t sizes[] = { 0, 1, 63, 64, 4096, 1 << 20 };
        for (size_t i = 0; i < array_length(sizes); i++)
                for (int noise = 0; noise < 2; noise++) {
                        int fd = memfd_create("noise", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                        assert_int_equal(ftruncate(fd, sizes[i]), 0);
                        for (off_t at = 0; noise && at + 8 <= sizes[i]; at += 8)
                                assert_int_equal(pwrite(fd, &(uint64_t){ support_random(UINT64_MAX) }, 8, at), 8);
                        assert_int_equal(fcntl(fd, F_ADD_SEALS, ALL_SEALS), 0);
                        assert_int_equal(attach_to(fd, fds[1]), -EUCLEAN);
                        close(fd);
                }
        assert_works(q, 1);
        brood_queue_free(q);
}

static void test_attach_without_descriptors(void **state)
{
        (void)state;
        brood_queue *q = make_small(), *other = NULL;
        int fds[2];

        assert_int_equal(brood_queue_descriptors(q, fds), 0);
        struct rlimit before = check_descriptors_exhaust();
        int r = brood_queue_attach(&other, fds);
        check_descriptors_restore(&before);
        assert_int_equal(r, -EMFILE);
        assert_null(other);
        assert_works(q, 0);
        brood_queue_free(q);
}

/* ---- a handle that another thread frees ---- */

enum call { GET, GET_MANY, PUT, PUT_MANY, RESERVE, PEEK, LEASE, TASK, JOIN, CALLS };

struct waiter {
        brood_queue *queue;
        enum call call;
        atomic_int *tid;
};

static int wait_in_call(void *arg)
{
        struct waiter *waiter = arg;
        brood_queue *q = waiter->queue;
        brood_reservation reservation;
        brood_view view;
        brood_lease lease;
        uint64_t message = 0;
        struct iovec one = { &message, sizeof message };

        atomic_store(waiter->tid, (int)gettid());
        switch (waiter->call) {
        case GET:
        case TASK:
                return -(int)brood_queue_get(q, &message, sizeof message, CHECK_HANG_MS);
        case GET_MANY:
                return -(int)brood_queue_get_many(q, &one, 1, CHECK_HANG_MS);
        case PUT:
                return -brood_queue_put(q, &message, sizeof message, CHECK_HANG_MS);
        case PUT_MANY:
                return -(int)brood_queue_put_many(q, &one, 1, CHECK_HANG_MS);
        case RESERVE:
                return -brood_queue_reserve(q, &reservation, 8, CHECK_HANG_MS);
        case PEEK:
                return -brood_queue_peek(q, &view, CHECK_HANG_MS);
        case LEASE:
                return -brood_queue_lease(q, &lease, CHECK_HANG_MS);
        default:
                return -brood_queue_join(q, CHECK_HANG_MS);
        }
}

static brood_queue *make_for(enum call call)
{
        brood_queue *q =
            make((brood_queue_options){ .maxsize = 1, .message_size = 8, .joinable = call == TASK || call == JOIN });

        if (call == PUT || call == PUT_MANY || call == RESERVE || call == JOIN)
                assert_int_equal(put_int(q, 1), 0);
        return q;
}

static bool thread_sleeps(void *arg)
{
        int tid = atomic_load((atomic_int *)arg);
        return tid != 0 && support_process_state(tid) == 'S';
}

static void test_freed_while_waiting(void **state)
{
        (void)state;
        for (int round = 0; round < support_rounds(3); round++)
                for (enum call call = 0; call < CALLS; call++) {
                        atomic_int tid = 0;
                        struct check_thread threads[2];
                        struct waiter waiter = { make_for(call), call, &tid };

                        for (int i = 0; i < 2; i++) {
                                atomic_store(&tid, 0);
                                check_thread_start(&threads[i], wait_in_call, &waiter);
                                assert_true(support_until(thread_sleeps, &tid, CHECK_HANG_MS));
                        }
                        int64_t start = support_now_ms();
                        brood_queue_free(waiter.queue);
                        for (int i = 0; i < 2; i++)
                                assert_int_equal(check_thread_join(&threads[i]), ECANCELED);
                        assert_true(support_now_ms() - start < CHECK_HANG_MS / 2);
                }
}

/* Whoever waited and got what it waited for, just before the handle is freed, is waited for too: until it has left the call,
 * and not only the wait. */
static void test_freed_while_leaving(void **state)
{
        (void)state;
        static const enum call calls[] = { GET, GET_MANY, PEEK, LEASE, TASK };

        for (int round = 0; round < support_rounds(60); round++)
                for (size_t c = 0; c < array_length(calls); c++) {
                        atomic_int tid = 0;
                        struct check_thread thread;
                        struct waiter waiter = { make_for(calls[c]), calls[c], &tid };

                        check_thread_start(&thread, wait_in_call, &waiter);
                        assert_true(support_until(thread_sleeps, &tid, CHECK_HANG_MS));
                        assert_int_equal(brood_queue_put_nowait(waiter.queue, &(uint64_t){ 1 }, 8), 0);
                        if (round % 2)
                                sched_yield();
                        brood_queue_free(waiter.queue);
                        int r = check_thread_join(&thread);
                        assert_true(r == ECANCELED || r == 0 || r == -8 || r == -1);
                }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_options),
                support_test(test_null),
                support_test(test_joinable_refuses),
                support_test(test_of_another_process),
                support_test(test_twice),
                support_test(test_forged),
                support_test(test_attach_refuses),
                support_test(test_attach_refuses_other_memory),
                support_test(test_attach_without_descriptors),
                support_test(test_freed_while_waiting),
                support_test(test_freed_while_leaving),
        };
        return support_main(argc, argv, "queue, bad input", tests, array_length(tests), 60);
}
