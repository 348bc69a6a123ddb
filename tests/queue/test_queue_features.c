/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_queue_features.c: batches, places and views, leases, tasks, queues without a bound and statistics, as
 * include/brood/queue.h describes them; put, get and close are in test_queue.c, descriptors in test_queue_descriptors.c,
 * errors in test_queue_bad_input.c.
 */
#include "check.h"

#include <brood/queue.h>

#include <sys/stat.h>

/* Long enough to see that a call waits. */
enum { SHORT_MS = 30 };

static brood_queue *make(brood_queue_options options)
{
        brood_queue *q = NULL;
        assert_int_equal(brood_queue_new(&q, &options), 0);
        return q;
}

static int put_int(brood_queue *q, int value)
{
        return brood_queue_put_nowait(q, &value, sizeof value);
}

/* The next message, or a negative errno. */
static int get_int(brood_queue *q, int timeout_ms)
{
        int value = 0;
        ssize_t n = brood_queue_get(q, &value, sizeof value, timeout_ms);
        return n < 0 ? (int)n : value;
}

static int lease_int(brood_queue *q, brood_lease *lease, int timeout_ms)
{
        int r = brood_queue_lease(q, lease, timeout_ms);
        return r < 0 ? r : *(const int *)lease->data;
}

static brood_queue_statistics stats(brood_queue *q)
{
        brood_queue_statistics statistics;
        assert_int_equal(brood_queue_stats(q, &statistics), 0);
        return statistics;
}

/* ---- batches ---- */

static void test_batches(void **state)
{
        (void)state;
        enum { COUNT = 6 };
        for (size_t maxsize = 0; maxsize <= 4; maxsize += 4) {
                brood_queue *q = make((brood_queue_options){ .maxsize = maxsize, .message_size = 200 });
                char out[COUNT][201], in[COUNT][201];
                struct iovec puts[COUNT], gets[COUNT];

                assert_int_equal(brood_queue_put_many(q, NULL, 0, BROOD_FOREVER), 0);
                assert_int_equal(brood_queue_get_many(q, NULL, 0, BROOD_FOREVER), 0);
                for (int i = 0; i < COUNT; i++) {
                        memset(out[i], 'a' + i, sizeof out[i]);
                        puts[i] = (struct iovec){ out[i], (size_t)(i * 40) };
                        gets[i] = (struct iovec){ in[i], 200 };
                }
                puts[0].iov_base = NULL; /* an empty message */
                ssize_t fit = maxsize ? 4 : COUNT;
                assert_int_equal(brood_queue_put_many(q, puts, COUNT, SHORT_MS), fit);
                if (maxsize) {
                        assert_int_equal(brood_queue_put_many(q, puts + 4, 2, SHORT_MS), -ETIMEDOUT);
                        assert_int_equal(brood_queue_put_many(q, puts + 4, 2, 0), -EAGAIN);
                }
                assert_int_equal(brood_queue_qsize(q), fit);
                assert_int_equal(brood_queue_get_many(q, gets, COUNT, BROOD_FOREVER), fit);
                for (int i = 0; i < COUNT; i++) {
                        assert_int_equal(gets[i].iov_len, i < fit ? i * 40 : 200);
                        if (i < fit && i > 0)
                                assert_memory_equal(in[i], out[i], gets[i].iov_len);
                }
                assert_int_equal(brood_queue_get_many(q, gets, COUNT, 0), -EAGAIN);
                assert_int_equal(brood_queue_get_many(q, gets, COUNT, SHORT_MS), -ETIMEDOUT);

                /* One that is too large ends a batch; alone it says why. */
                puts[2].iov_len = 201;
                assert_int_equal(brood_queue_put_many(q, puts, COUNT, BROOD_FOREVER), 2);
                assert_int_equal(brood_queue_put_many(q, puts + 2, 4, BROOD_FOREVER), -EMSGSIZE);
                gets[0].iov_len = 0;
                gets[1].iov_len = 39;
                assert_int_equal(brood_queue_get_many(q, gets, COUNT, 0), 1);
                assert_int_equal(brood_queue_get_many(q, gets + 1, 5, 0), -EMSGSIZE);
                assert_int_equal(gets[1].iov_len, 39);
                assert_int_equal(brood_queue_qsize(q), 1);
                assert_int_equal(brood_queue_close(q), 0);
                assert_int_equal(brood_queue_put_many(q, puts, 2, BROOD_FOREVER), -EPIPE);
                gets[1].iov_len = 40;
                assert_int_equal(brood_queue_get_many(q, gets + 1, 5, BROOD_FOREVER), 1);
                assert_int_equal(brood_queue_get_many(q, gets + 1, 5, BROOD_FOREVER), -EPIPE);
                brood_queue_free(q);
        }
}

static int put_batch(void *arg)
{
        int numbers[100];
        struct iovec messages[100];

        for (int i = 0; i < 100; i++) {
                numbers[i] = i;
                messages[i] = (struct iovec){ &numbers[i], sizeof(int) };
        }
        require_int(brood_queue_put_many(arg, messages, 100, CHECK_HANG_MS), 100);
        return 0;
}

/* A batch that is larger than the queue waits until all is put. */
static void test_batch_waits(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 7, .message_size = sizeof(int) });
        pid_t pid = check_start(put_batch, q);

        for (int i = 0; i < 100; i++)
                assert_int_equal(get_int(q, CHECK_HANG_MS), i);
        assert_int_equal(check_wait(pid), 0);
        brood_queue_free(q);
}

/* ---- sizes ---- */

static void test_sizes(void **state)
{
        (void)state;
        static const size_t sizes[] = { 0,    1,    15,   16,   17,    64,    65,    128,   129,    256,    257,
                                        1024, 1025, 4096, 4097, 16384, 16385, 65536, 65537, 262144, 262145, 300000 };
        static unsigned char out[300000], in[300000];

        for (size_t i = 0; i < sizeof out; i++)
                out[i] = (unsigned char)check_mix(i);
        for (size_t maxsize = 0; maxsize <= 5; maxsize += 5) {
                brood_queue *q = make((brood_queue_options){ .maxsize = maxsize, .message_size = sizeof out });
                for (int round = 0; round < 3; round++)
                        for (size_t i = 0; i < array_length(sizes); i++) {
                                brood_view view;
                                brood_lease lease;
                                size_t size = sizes[i];
                                for (int times = 0; times < 4; times++)
                                        assert_int_equal(
                                            brood_queue_put_nowait(q, out + round, size > 3 ? size - 3 : size), 0);
                                size = size > 3 ? size - 3 : size;
                                if (size > 0)
                                        assert_int_equal(brood_queue_get(q, in, size - 1, 0), -EMSGSIZE);
                                assert_int_equal(brood_queue_get(q, in, sizeof in, 0), size);
                                assert_memory_equal(in, out + round, size);
                                assert_int_equal(brood_queue_peek(q, &view, 0), 0);
                                assert_int_equal(view.size, size);
                                assert_memory_equal(view.data, out + round, size);
                                assert_true(size < 16 || (uintptr_t)view.data % 16 == 0);
                                assert_int_equal(brood_queue_release(q, &view), 0);
                                assert_int_equal(brood_queue_lease(q, &lease, 0), 0);
                                assert_int_equal(lease.size, size);
                                assert_memory_equal(lease.data, out + round, size);
                                assert_true(size < 16 || (uintptr_t)lease.data % 16 == 0);
                                assert_int_equal(brood_queue_give_back(q, &lease), 0);
                                assert_int_equal(brood_queue_lease(q, &lease, 0), 0);
                                assert_memory_equal(lease.data, out + round, size);
                                assert_int_equal(brood_queue_acknowledge(q, &lease), 0);
                                assert_int_equal(brood_queue_get(q, in, sizeof in, 0), size);
                        }
                assert_int_equal(brood_queue_qsize(q), 0);
                brood_queue_free(q);
        }
}

static int get_one_later(void *arg)
{
        brood_queue *q = arg;
        static unsigned char in[1000];

        require_int(brood_queue_get(q, in, sizeof in, 0), 1000);
        return 0;
}

struct putter {
        brood_queue *queue;
        atomic_int *tid;
};

static int put_large(void *arg)
{
        struct putter *putter = arg;
        static const unsigned char bytes[1000] = { 7 };

        atomic_store(putter->tid, (int)gettid());
        require_int(brood_queue_put(putter->queue, bytes, sizeof bytes, CHECK_HANG_MS), 0);
        return 0;
}

static bool thread_sleeps(void *arg)
{
        int tid = atomic_load((atomic_int *)arg);
        return tid != 0 && support_process_state(tid) == 'S';
}

/* The memory for large messages is used up: the queue counts as full for them, until one is gone. */
static void test_memory_limit(void **state)
{
        (void)state;
        for (size_t maxsize = 0; maxsize <= 100; maxsize += 100) {
                brood_queue *q =
                    make((brood_queue_options){ .maxsize = maxsize, .message_size = 1000, .memory = 4096 });
                static unsigned char bytes[1000];
                atomic_int tid = 0;
                struct putter putter = { q, &tid };
                struct check_thread thread;

                for (int i = 0; i < 4; i++)
                        assert_int_equal(brood_queue_put_nowait(q, bytes, 1000), 0);
                assert_int_equal(brood_queue_put_nowait(q, bytes, 1000), -EAGAIN);
                assert_int_equal(brood_queue_put(q, bytes, 1000, SHORT_MS), -ETIMEDOUT);
                assert_int_equal(brood_queue_put_nowait(q, bytes, 200), 0); /* another class */
                assert_int_equal(put_int(q, 5), 0);                         /* none at all */
                check_thread_start(&thread, put_large, &putter);
                assert_true(support_until(thread_sleeps, &tid, CHECK_HANG_MS));
                int64_t start = support_now_ms();
                check_in_child(get_one_later, q);
                assert_int_equal(check_thread_join(&thread), 0);
                assert_true(support_now_ms() - start < CHECK_HANG_MS / 2);
                assert_int_equal(brood_queue_qsize(q), 6);
                brood_queue_free(q);
        }
}

/* ---- in place ---- */

static void test_places(void **state)
{
        (void)state;
        for (size_t maxsize = 0; maxsize <= 3; maxsize += 3) {
                brood_queue *q = make((brood_queue_options){ .maxsize = maxsize, .message_size = 5000 });
                brood_reservation first, second, third, more;
                char in[5000];

                assert_int_equal(brood_queue_reserve(q, &first, 5000, 0), 0);
                assert_int_equal(brood_queue_reserve(q, &second, 100, 0), 0);
                assert_int_equal(brood_queue_reserve(q, &third, 0, 0), 0);
                assert_int_equal(first.size, 5000);
                assert_true((uintptr_t)first.data % 16 == 0 && (uintptr_t)second.data % 16 == 0);
                if (maxsize) {
                        assert_int_equal(brood_queue_reserve(q, &more, 1, 0), -EAGAIN);
                        assert_int_equal(brood_queue_put(q, in, 1, SHORT_MS), -ETIMEDOUT);
                }
                memset(first.data, 'f', 5000);
                memset(second.data, 's', 100);
                assert_int_equal(brood_queue_commit(q, &second, 100), 0);
                assert_int_equal(brood_queue_commit(q, &third, 0), 0);
                assert_int_equal(brood_queue_get(q, in, sizeof in, SHORT_MS), -ETIMEDOUT); /* behind the first */
                assert_int_equal(brood_queue_commit(q, &first, 17), 0);
                assert_int_equal(brood_queue_get(q, in, sizeof in, 0), 17);
                assert_int_equal(in[16], 'f');
                assert_int_equal(brood_queue_get(q, in, sizeof in, 0), 100);
                assert_int_equal(in[99], 's');
                assert_int_equal(brood_queue_get(q, in, sizeof in, 0), 0);
                assert_int_equal(brood_queue_reserve(q, &first, 5000, 0), 0);
                assert_int_equal(put_int(q, 8), 0);
                assert_int_equal(brood_queue_cancel(q, &first), 0);
                assert_int_equal(get_int(q, 0), 8);
                /* Reserved before the close, committed after it. */
                assert_int_equal(brood_queue_reserve(q, &first, 4, 0), 0);
                assert_int_equal(brood_queue_close(q), 0);
                assert_int_equal(brood_queue_reserve(q, &second, 4, 0), -EPIPE);
                assert_int_equal(get_int(q, SHORT_MS), -ETIMEDOUT);
                memcpy(first.data, &(int){ 9 }, sizeof(int));
                assert_int_equal(brood_queue_commit(q, &first, 4), 0);
                assert_int_equal(get_int(q, BROOD_FOREVER), 9);
                assert_int_equal(get_int(q, BROOD_FOREVER), -EPIPE);
                brood_queue_free(q);
        }
}

static void test_views(void **state)
{
        (void)state;
        for (size_t maxsize = 0; maxsize <= 3; maxsize += 3) {
                brood_queue *q = make((brood_queue_options){ .maxsize = maxsize, .message_size = sizeof(int) });
                brood_view one, two;

                assert_int_equal(brood_queue_peek(q, &one, 0), -EAGAIN);
                assert_int_equal(brood_queue_peek(q, &one, SHORT_MS), -ETIMEDOUT);
                for (int i = 1; i <= 3; i++)
                        assert_int_equal(put_int(q, i), 0);
                assert_int_equal(brood_queue_peek(q, &one, 0), 0);
                assert_int_equal(brood_queue_peek(q, &two, 0), 0);
                assert_int_equal(*(const int *)one.data, 1);
                assert_int_equal(*(const int *)two.data, 2);
                assert_int_equal(brood_queue_qsize(q), 1);
                if (maxsize)
                        assert_int_equal(put_int(q, 4), -EAGAIN); /* they keep their places */
                assert_int_equal(brood_queue_release(q, &two), 0);
                assert_int_equal(brood_queue_unpeek(q, &one), 0);
                assert_int_equal(get_int(q, 0), 1);
                assert_int_equal(get_int(q, 0), 3);
                assert_int_equal(get_int(q, 0), -EAGAIN);
                assert_int_equal(put_int(q, 5), 0);
                assert_int_equal(brood_queue_close(q), 0);
                assert_int_equal(brood_queue_peek(q, &one, 0), 0);
                assert_int_equal(brood_queue_unpeek(q, &one), 0);
                assert_int_equal(get_int(q, 0), 5);
                assert_int_equal(brood_queue_peek(q, &one, BROOD_FOREVER), -EPIPE);
                brood_queue_free(q);
        }
}

struct held {
        brood_queue *queue;
        atomic_int *ready;
        int leases;
};

/* Hold leases, a view and a reservation, and wait to be killed. */
static int hold_and_wait(void *arg)
{
        struct held *held = arg;
        brood_lease lease;

        for (int i = 0; i < held->leases; i++)
                require(lease_int(held->queue, &lease, CHECK_HANG_MS) >= 0);
        atomic_fetch_add(held->ready, 1);
        for (;;)
                pause();
}

static int view_and_wait(void *arg)
{
        struct held *held = arg;
        brood_view view;
        brood_reservation reservation;

        require_int(brood_queue_peek(held->queue, &view, 0), 0);
        require_int(brood_queue_reserve(held->queue, &reservation, 4, 0), 0);
        atomic_fetch_add(held->ready, 1);
        for (;;)
                pause();
}

static void test_views_and_places_of_the_dead(void **state)
{
        (void)state;
        for (size_t maxsize = 0; maxsize <= 3; maxsize += 3) {
                brood_queue *q = make((brood_queue_options){ .maxsize = maxsize, .message_size = sizeof(int) });
                atomic_int *ready = check_shared(sizeof *ready);
                struct held held = { q, ready, 0 };

                assert_int_equal(put_int(q, 1), 0);
                pid_t pid = check_start(view_and_wait, &held);
                assert_true(check_reaches(ready, 1, CHECK_HANG_MS));
                assert_int_equal(put_int(q, 3), 0);
                assert_int_equal(get_int(q, SHORT_MS), -ETIMEDOUT);
                assert_int_equal(check_kill(pid), -SIGKILL);
                int one = get_int(q, CHECK_HANG_MS), other = get_int(q, CHECK_HANG_MS);
                assert_true((one == 1 && other == 3) || (one == 3 && other == 1));
                assert_int_equal(get_int(q, 0), -EAGAIN);
                assert_true(stats(q).repairs >= 2);
                munmap(ready, sizeof *ready);
                brood_queue_free(q);
        }
}

/* ---- leases ---- */

static void test_leases(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 2, .message_size = 8, .max_deliveries = 3 });
        brood_lease one, two, again;

        assert_int_equal(lease_int(q, &one, 0), -EAGAIN);
        assert_int_equal(lease_int(q, &one, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(put_int(q, 2), 0);
        assert_int_equal(lease_int(q, &one, 0), 1);
        assert_int_equal(lease_int(q, &two, 0), 2);
        assert_int_equal(one.deliveries, 1);
        assert_int_equal(brood_queue_empty(q), 1);
        assert_int_equal(put_int(q, 3), 0); /* maxsize does not count what is leased */
        assert_int_equal(put_int(q, 4), 0);
        assert_int_equal(brood_queue_give_back(q, &two), 0);
        assert_int_equal(brood_queue_give_back(q, &one), 0);
        assert_int_equal(brood_queue_qsize(q), 4);
        /* The oldest first, and all of them before what is still in the queue. */
        assert_int_equal(lease_int(q, &one, 0), 1);
        assert_int_equal(one.deliveries, 2);
        assert_int_equal(brood_queue_give_back(q, &one), 0);
        assert_int_equal(lease_int(q, &one, 0), 1);
        assert_int_equal(one.deliveries, 3);
        assert_int_equal(brood_queue_give_back(q, &one), 0); /* that was its last */
        assert_int_equal(stats(q).dead_letters, 1);
        assert_int_equal(get_int(q, 0), 2);
        assert_int_equal(get_int(q, 0), 3);
        assert_int_equal(lease_int(q, &again, 0), 4);
        assert_int_equal(brood_queue_acknowledge(q, &again), 0);
        brood_queue_statistics now = stats(q);
        assert_int_equal(now.puts, 4);
        assert_int_equal(now.gets, 4);
        assert_int_equal(now.leased, 0);
        assert_int_equal(now.redeliveries, 3);
        brood_queue_free(q);
}

static void test_leases_of_the_dead(void **state)
{
        (void)state;
        enum { HELD = 5 };
        for (size_t maxsize = 0; maxsize <= 10; maxsize += 10) {
                brood_queue *q =
                    make((brood_queue_options){ .maxsize = maxsize, .message_size = 8, .max_deliveries = 2 });
                atomic_int *ready = check_shared(sizeof *ready);
                struct held held = { q, ready, HELD };
                brood_lease lease;

                for (int i = 0; i < 10; i++)
                        assert_int_equal(put_int(q, i), 0);
                for (int round = 0; round < 2; round++) {
                        pid_t pid = check_start(hold_and_wait, &held);
                        assert_true(check_reaches(ready, round + 1, CHECK_HANG_MS));
                        assert_int_equal(stats(q).leased, HELD);
                        if (round == 0)
                                for (int i = 5; i < 7; i++)
                                        assert_int_equal(get_int(q, 0), i);
                        assert_int_equal(check_kill(pid), -SIGKILL);
                        if (round == 1)
                                break;
                        /* Another has them in their order, and gives one back. */
                        while (brood_queue_qsize(q) <
                               3 + HELD) /* whoever asks for more than there is looks for the dead */
                                brood_queue_join(q, 1);
                }
                /* They were leased twice: the dead letters are counted, and the rest comes out. */
                for (int i = 7; i < 10; i++)
                        assert_int_equal(lease_int(q, &lease, CHECK_HANG_MS), i);
                assert_int_equal(get_int(q, SHORT_MS), -ETIMEDOUT);
                assert_int_equal(stats(q).dead_letters, HELD);
                assert_int_equal(brood_queue_qsize(q), 0);
                munmap(ready, sizeof *ready);
                brood_queue_free(q);
        }
}

static void test_redelivery_in_order(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .message_size = 8 });
        atomic_int *ready = check_shared(sizeof *ready);
        struct held held = { q, ready, 5 };
        brood_lease lease;

        for (int i = 0; i < 5; i++)
                assert_int_equal(put_int(q, i), 0);
        pid_t pid = check_start(hold_and_wait, &held);
        assert_true(check_reaches(ready, 1, CHECK_HANG_MS));
        assert_int_equal(check_kill(pid), -SIGKILL);
        for (int i = 0; i < 5; i++) {
                assert_int_equal(lease_int(q, &lease, CHECK_HANG_MS), i);
                assert_int_equal(lease.deliveries, 2);
                assert_int_equal(brood_queue_acknowledge(q, &lease), 0);
        }
        assert_int_equal(stats(q).redeliveries, 5);
        munmap(ready, sizeof *ready);
        brood_queue_free(q);
}

/* As many leases as there may be; and when their holder dies, they are delivered, although no entry is free. */
static void test_no_lease_left(void **state)
{
        (void)state;
        for (int joinable = 0; joinable < 2; joinable++) {
                brood_queue *q = make((brood_queue_options){ .message_size = 8, .joinable = joinable });
                brood_lease lease;

                for (int i = 0; i <= BROOD_QUEUE_LEASES; i++)
                        assert_int_equal(put_int(q, i), 0);
                pid_t pid = fork();
                if (pid == 0) {
                        for (int i = 0; i < BROOD_QUEUE_LEASES; i++)
                                if ((joinable ? get_int(q, 0) : lease_int(q, &lease, 0)) != i)
                                        _exit(1);
                        _exit((joinable ? get_int(q, 0) : lease_int(q, &lease, 0)) == -ENOBUFS ? 0 : 2);
                }
                assert_int_equal(check_wait(pid), 0);
                for (int i = 0; i <= BROOD_QUEUE_LEASES; i++) {
                        assert_int_equal(joinable ? get_int(q, CHECK_HANG_MS) : lease_int(q, &lease, CHECK_HANG_MS), i);
                        assert_int_equal(joinable ? brood_queue_task_done(q) : brood_queue_acknowledge(q, &lease), 0);
                }
                assert_int_equal(brood_queue_join(q, 0), 0);
                brood_queue_free(q);
        }
}

/* Closed: who holds nothing waits for what others hold; who holds something does not wait for himself. */
static void test_close_with_leases(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 4, .message_size = 8 });
        atomic_int *ready = check_shared(sizeof *ready);
        struct held held = { q, ready, 1 };
        brood_lease lease;

        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(put_int(q, 2), 0);
        pid_t pid = check_start(hold_and_wait, &held);
        assert_true(check_reaches(ready, 1, CHECK_HANG_MS));
        assert_int_equal(brood_queue_close(q), 0);
        assert_int_equal(lease_int(q, &lease, 0), 2);
        assert_int_equal(get_int(q, BROOD_FOREVER), -EPIPE);
        assert_int_equal(brood_queue_acknowledge(q, &lease), 0);
        assert_int_equal(get_int(q, 0), -EAGAIN);
        assert_int_equal(get_int(q, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(lease_int(q, &lease, CHECK_HANG_MS), 1);
        assert_int_equal(brood_queue_give_back(q, &lease), 0);
        assert_int_equal(get_int(q, BROOD_FOREVER), 1);
        assert_int_equal(get_int(q, BROOD_FOREVER), -EPIPE);
        munmap(ready, sizeof *ready);
        brood_queue_free(q);
}

static int hold_and_free(void *arg)
{
        struct held *held = arg;
        brood_lease lease;
        brood_view view;
        brood_reservation reservation;

        require_int(lease_int(held->queue, &lease, 0), 1);
        require_int(brood_queue_peek(held->queue, &view, 0), 0);
        require_int(brood_queue_reserve(held->queue, &reservation, 8, 0), 0);
        brood_queue_free(held->queue);
        atomic_fetch_add(held->ready, 1);
        for (;;)
                pause();
}

/* What a process holds goes back when it frees the handle, although it lives on. */
static void test_free_gives_back(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 4, .message_size = 8 });
        atomic_int *ready = check_shared(sizeof *ready);
        struct held held = { q, ready, 0 };

        for (int i = 1; i <= 3; i++)
                assert_int_equal(put_int(q, i), 0);
        pid_t pid = check_start(hold_and_free, &held);
        assert_true(check_reaches(ready, 1, CHECK_HANG_MS));
        assert_int_equal(put_int(q, 4), 0);
        for (int i = 1; i <= 4; i++)
                assert_int_equal(get_int(q, 0), i);
        assert_int_equal(check_kill(pid), -SIGKILL);
        munmap(ready, sizeof *ready);
        brood_queue_free(q);
}

/* ---- tasks ---- */

static int work_and_report(void *arg)
{
        brood_queue *q = arg;
        int task;

        while ((task = get_int(q, CHECK_HANG_MS)) >= 0)
                require_int(brood_queue_task_done(q), 0);
        require_int(task, -EPIPE);
        require_int(brood_queue_task_done(q), -EINVAL);
        return 0;
}

static int join_it(void *arg)
{
        return -brood_queue_join(arg, CHECK_HANG_MS);
}

static int get_and_die(void *arg)
{
        require_int(get_int(arg, CHECK_HANG_MS), 0);
        raise(SIGKILL);
        return 1;
}

static void test_tasks(void **state)
{
        (void)state;
        enum { TASKS = 200, WORKERS = 3 };
        brood_queue *q = make((brood_queue_options){ .message_size = 8, .joinable = 1 });
        struct check_thread joiner;
        pid_t workers[WORKERS];

        assert_int_equal(brood_queue_join(q, 0), 0);
        for (int i = 0; i < TASKS; i++)
                assert_int_equal(put_int(q, i), 0);
        assert_int_equal(brood_queue_join(q, 0), -EAGAIN);
        assert_int_equal(brood_queue_join(q, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(check_wait(check_start(get_and_die, q)), -SIGKILL);
        check_thread_start(&joiner, join_it, q);
        for (int i = 0; i < WORKERS; i++)
                workers[i] = check_start(work_and_report, q);
        assert_int_equal(check_thread_join(&joiner), 0);
        assert_int_equal(brood_queue_qsize(q), 0);
        assert_int_equal(brood_queue_close(q), 0);
        for (int i = 0; i < WORKERS; i++)
                assert_int_equal(check_wait(workers[i]), 0);
        brood_queue_statistics now = stats(q);
        assert_int_equal(now.puts, TASKS);
        assert_int_equal(now.gets, TASKS);
        assert_int_equal(now.redeliveries, 1);
        brood_queue_free(q);
}

/* What was got and not reported keeps join from returning, also when it was got here. */
static void test_join_counts_what_is_held(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 4, .message_size = 8, .joinable = 1 });
        int numbers[3];
        struct iovec messages[3];

        for (int i = 0; i < 3; i++) {
                messages[i] = (struct iovec){ &numbers[i], sizeof(int) };
                assert_int_equal(put_int(q, i), 0);
        }
        assert_int_equal(brood_queue_get_many(q, messages, 3, 0), 3);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(numbers[i], i);
                assert_int_equal(brood_queue_join(q, 1), -ETIMEDOUT);
                assert_int_equal(brood_queue_task_done(q), 0);
        }
        assert_int_equal(brood_queue_task_done(q), -EINVAL);
        assert_int_equal(brood_queue_join(q, BROOD_FOREVER), 0);
        brood_queue_free(q);

        q = make((brood_queue_options){ .maxsize = 4, .message_size = 8 });
        brood_lease lease;
        brood_view view;
        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(lease_int(q, &lease, 0), 1);
        assert_int_equal(brood_queue_join(q, 1), -ETIMEDOUT);
        assert_int_equal(brood_queue_give_back(q, &lease), 0);
        assert_int_equal(brood_queue_join(q, 0), -EAGAIN);
        assert_int_equal(brood_queue_peek(q, &view, 0), 0);
        assert_int_equal(brood_queue_join(q, 0), -EAGAIN);
        assert_int_equal(brood_queue_release(q, &view), 0);
        assert_int_equal(brood_queue_join(q, 0), 0);
        brood_queue_free(q);
}

/* ---- without a bound ---- */

static int64_t memory_of(brood_queue *q)
{
        int fds[BROOD_QUEUE_DESCRIPTORS];
        struct stat status;

        assert_int_equal(brood_queue_descriptors(q, fds), 0);
        assert_int_equal(fstat(fds[0], &status), 0);
        return (int64_t)status.st_blocks * 512;
}

/* More small messages than 64 blocks of 512 hold, several times; and the memory of the burst is given back. */
static void test_many_small_messages(void **state)
{
        (void)state;
        enum { COUNT = 200 * 512 + 7 };
        brood_queue *q = make((brood_queue_options){ .message_size = 8 });
        int64_t idle = memory_of(q);

        for (int round = 0; round < 3; round++) {
                for (int i = 0; i < COUNT; i++)
                        assert_int_equal(put_int(q, i), 0);
                assert_int_equal(brood_queue_qsize(q), COUNT);
                assert_int_equal(brood_queue_full(q), 0);
                assert_true(memory_of(q) - idle > COUNT * 16);
                for (int i = 0; i < COUNT; i++)
                        assert_int_equal(get_int(q, 0), i);
                assert_int_equal(get_int(q, 600), -ETIMEDOUT);
                assert_true(memory_of(q) - idle < 2 << 20);
        }
        assert_int_equal(stats(q).puts, 3 * COUNT);
        assert_int_equal(stats(q).gets, 3 * COUNT);
        assert_true(stats(q).high_water + 32 >= COUNT && stats(q).high_water <= COUNT);
        brood_queue_free(q);
}

static void test_burst_of_large_messages(void **state)
{
        (void)state;
        enum { SIZE = 1 << 20, COUNT = 256 };
        brood_queue *q = make((brood_queue_options){ 0 });
        unsigned char *bytes = malloc(SIZE);
        int64_t idle = memory_of(q);

        assert_non_null(bytes);
        for (int i = 0; i < COUNT; i++) {
                memset(bytes, i, SIZE);
                assert_int_equal(brood_queue_put_nowait(q, bytes, SIZE), 0);
        }
        assert_true(memory_of(q) - idle >= (int64_t)COUNT * SIZE);
        for (int i = 0; i < COUNT; i++) {
                assert_int_equal(brood_queue_get_nowait(q, bytes, SIZE), SIZE);
                assert_int_equal(bytes[SIZE - 1], i);
        }
        assert_int_equal(get_int(q, 600), -ETIMEDOUT);
        assert_true(memory_of(q) - idle < 2 << 20);
        /* And it can be used again. */
        assert_int_equal(brood_queue_put_nowait(q, bytes, SIZE), 0);
        assert_int_equal(brood_queue_get_nowait(q, bytes, SIZE), SIZE);
        free(bytes);
        brood_queue_free(q);
}

/* ---- statistics ---- */

static void test_statistics(void **state)
{
        (void)state;
        for (size_t maxsize = 0; maxsize <= 50; maxsize += 50) {
                brood_queue *q =
                    make((brood_queue_options){ .maxsize = maxsize, .message_size = 8, .max_deliveries = 2 });
                brood_lease lease;
                brood_reservation reservation;
                brood_view view;

                brood_queue_statistics now = stats(q), none = { 0 };
                assert_memory_equal(&now, &none, sizeof none);
                for (int i = 0; i < 50; i++)
                        assert_int_equal(put_int(q, i), 0);
                if (maxsize)
                        assert_int_equal(put_int(q, 50), -EAGAIN);
                for (int i = 0; i < 20; i++)
                        assert_int_equal(get_int(q, 0), i);
                assert_int_equal(brood_queue_reserve(q, &reservation, 8, 0), 0);
                assert_int_equal(brood_queue_peek(q, &view, 0), 0);
                /* What is reserved is not put yet, and what is looked at is not gone. */
                now = stats(q);
                assert_int_equal(now.puts, 50);
                assert_int_equal(now.gets, 20);
                assert_int_equal(brood_queue_cancel(q, &reservation), 0);
                assert_int_equal(brood_queue_unpeek(q, &view), 0);
                for (int i = 20; i < 23; i++) {
                        assert_int_equal(lease_int(q, &lease, 0), i);
                        if (i == 20)
                                assert_int_equal(brood_queue_acknowledge(q, &lease), 0);
                        if (i == 21) {
                                assert_int_equal(brood_queue_give_back(q, &lease), 0);
                                assert_int_equal(lease_int(q, &lease, 0), 21);
                                assert_int_equal(brood_queue_give_back(q, &lease), 0);
                        }
                }
                now = stats(q);
                assert_int_equal(now.puts, 50);
                assert_int_equal(now.gets, 22);
                assert_int_equal(now.leased, 1);
                assert_int_equal(now.deliveries, 4);
                assert_int_equal(now.redeliveries, 1);
                assert_int_equal(now.dead_letters, 1);
                assert_int_equal(now.waits, 0);
                assert_int_equal(now.repairs, 0);
                assert_true(maxsize ? now.high_water == 50 : now.high_water + 32 >= 50 && now.high_water <= 50);
                assert_int_equal(brood_queue_qsize(q), 27);
                /* A program that knows only the beginning of the struct. */
                brood_queue_statistics older = { .leased = 77 };
                assert_int_equal(brood_queue_stats_sized(q, &older, offsetof(brood_queue_statistics, leased)), 0);
                assert_int_equal(older.gets, 22);
                assert_int_equal(older.leased, 77);
                brood_queue_free(q);
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_batches),
                support_test(test_batch_waits),
                support_test(test_sizes),
                support_test(test_memory_limit),
                support_test(test_places),
                support_test(test_views),
                support_test(test_views_and_places_of_the_dead),
                support_test(test_leases),
                support_test(test_leases_of_the_dead),
                support_test(test_redelivery_in_order),
                support_test(test_no_lease_left),
                support_test(test_close_with_leases),
                support_test(test_free_gives_back),
                support_test(test_tasks),
                support_test(test_join_counts_what_is_held),
                support_test(test_many_small_messages),
                support_test(test_burst_of_large_messages),
                support_test(test_statistics),
        };
        return support_main(argc, argv, "queue, features", tests, array_length(tests), 100);
}
