/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_queue.c: what include/brood/queue.h says, sentence by sentence, for one process and for processes that
 * are all well.  Load and deaths are in test_queue_load.c.
 */
#include "check.h"

#include <brood/queue.h>

#include <sys/time.h>

static brood_queue *make(size_t maxsize, size_t message_size)
{
        brood_queue *q = NULL;
        assert_int_equal(
            brood_queue_new(&q, &(brood_queue_options){ .maxsize = maxsize, .message_size = message_size }), 0);
        assert_non_null(q);
        return q;
}

static void fill(unsigned char *bytes, size_t size, unsigned seed)
{
        for (size_t i = 0; i < size; i++)
                bytes[i] = (unsigned char)(check_mix(seed + i / 8) >> (8 * (i % 8)));
}

static int put_int(brood_queue *q, int value, int timeout_ms)
{
        return brood_queue_put(q, &value, sizeof value, timeout_ms);
}

/* The next message, which must be there: -1 if it is not. */
static int get_int(brood_queue *q)
{
        int value;
        return brood_queue_get_nowait(q, &value, sizeof value) == sizeof value ? value : -1;
}

static void test_options(void **state)
{
        (void)state;
        brood_queue *q = NULL, *untouched = (brood_queue *)&q;
        char message[8] = "brood";

        assert_int_equal(brood_queue_new(NULL, NULL), -EINVAL);
        assert_int_equal(brood_queue_new(&q, NULL), 0);
        assert_int_equal(brood_queue_maxsize(q), 0);
        assert_int_equal(brood_queue_message_size(q), BROOD_QUEUE_MESSAGE_SIZE_DEFAULT);
        brood_queue_free(q);

        q = make(7, 0);
        assert_int_equal(brood_queue_maxsize(q), 7);
        assert_int_equal(brood_queue_message_size(q), BROOD_QUEUE_MESSAGE_SIZE_DEFAULT);
        brood_queue_free(q);
        q = make(0, 7);
        assert_int_equal(brood_queue_maxsize(q), 0);
        assert_int_equal(brood_queue_message_size(q), 7);
        brood_queue_free(q);

        /* At the limits, and one beyond. */
        q = make(BROOD_QUEUE_MAXSIZE_LIMIT, 8);
        assert_int_equal(brood_queue_put_nowait(q, message, 8), 0);
        assert_int_equal(brood_queue_qsize(q), 1);
        brood_queue_free(q);
        q = make(2, BROOD_QUEUE_MESSAGE_SIZE_LIMIT);
        assert_int_equal(brood_queue_put_nowait(q, message, 8), 0);
        assert_int_equal(brood_queue_get_nowait(q, message, 8), 8);
        brood_queue_free(q);

        static const struct {
                size_t maxsize, message_size;
                int error;
        } refused[] = {
                { BROOD_QUEUE_MAXSIZE_LIMIT + 1, 0, -EINVAL },
                { 0, BROOD_QUEUE_MESSAGE_SIZE_LIMIT + 1, -EINVAL },
                { SIZE_MAX, 0, -EINVAL },
                { 0, SIZE_MAX, -EINVAL },
                { (size_t)-1, (size_t)-1, -EINVAL },
        };
        for (size_t i = 0; i < array_length(refused); i++) {
                brood_queue_options options = { .maxsize = refused[i].maxsize,
                                                .message_size = refused[i].message_size };
                q = untouched;
                assert_int_equal(brood_queue_new(&q, &options), refused[i].error);
                assert_ptr_equal(q, untouched);
        }
}

static void test_options_of_other_versions(void **state)
{
        (void)state;
        struct {
                brood_queue_options known;
                size_t unknown[3];
        } newer = { .known = { .maxsize = 3 } };
        brood_queue *q = NULL;

        assert_int_equal(brood_queue_new_sized(&q, &newer.known, sizeof newer), 0);
        assert_int_equal(brood_queue_maxsize(q), 3);
        brood_queue_free(q);

        newer.unknown[2] = (size_t)1 << 56;
        q = NULL;
        assert_int_equal(brood_queue_new_sized(&q, &newer.known, sizeof newer), -E2BIG);
        assert_null(q);

        /* A program from the time when the struct ended earlier: what lies behind is not read. */
        brood_queue_options older = { .maxsize = 3, .message_size = SIZE_MAX };
        assert_int_equal(brood_queue_new_sized(&q, &older, offsetof(brood_queue_options, message_size)), 0);
        assert_int_equal(brood_queue_maxsize(q), 3);
        assert_int_equal(brood_queue_message_size(q), BROOD_QUEUE_MESSAGE_SIZE_DEFAULT);
        brood_queue_free(q);
}

static void test_bad_arguments(void **state)
{
        (void)state;
        char buf[8] = "";
        brood_queue *q = make(2, 8);

        assert_int_equal(brood_queue_put(NULL, buf, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_put_nowait(NULL, buf, 1), -EINVAL);
        assert_int_equal(brood_queue_put(q, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_put_nowait(q, NULL, 1), -EINVAL);
        assert_int_equal(brood_queue_get(NULL, buf, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_get_nowait(NULL, buf, 1), -EINVAL);
        assert_int_equal(brood_queue_get(q, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_queue_get_nowait(q, NULL, 1), -EINVAL);
        assert_int_equal(brood_queue_close(NULL), -EINVAL);
        assert_int_equal(brood_queue_qsize(NULL), -EINVAL);
        assert_int_equal(brood_queue_empty(NULL), -EINVAL);
        assert_int_equal(brood_queue_full(NULL), -EINVAL);
        assert_int_equal(brood_queue_maxsize(NULL), 0);
        assert_int_equal(brood_queue_message_size(NULL), 0);
        brood_queue_free(NULL);

        /* A refused call leaves nothing behind. */
        assert_int_equal(brood_queue_qsize(q), 0);
        assert_int_equal(brood_queue_put_nowait(q, buf, SIZE_MAX), -EMSGSIZE);
        assert_int_equal(brood_queue_put_nowait(q, buf, 9), -EMSGSIZE);
        assert_int_equal(brood_queue_qsize(q), 0);
        brood_queue_free(q);
}

static void test_errno_is_left_alone(void **state)
{
        (void)state;
        brood_queue *q = make(1, 8);
        char buf[8] = "";
        errno = 4711;
        brood_queue_get(q, buf, 8, 1);
        brood_queue_put(q, buf, 9, 0);
        brood_queue_put(q, buf, 8, 0);
        brood_queue_put(q, buf, 8, 1);
        brood_queue_get(q, buf, 1, 1);
        brood_queue_close(q);
        assert_int_equal(errno, 4711);
        brood_queue_free(q);
        assert_int_equal(errno, 4711);
}

static const size_t sizes[] = { 0,   1,    2,    7,    8,    15,   16,   17,    47,    48,   49,
                                63,  64,   65,   111,  112,  113,  127,  128,   129,   255,  256,
                                257, 1023, 1024, 1025, 4095, 4096, 4097, 16384, 65535, 65536 };

static void test_every_size_comes_out_whole(void **state)
{
        (void)state;
        static const size_t message_sizes[] = { 1, 16, 47, 48, 49, 112, 113, 4096, 65536 };
        unsigned char *in = malloc(65536), *out = malloc(65536 + 16);
        for (size_t m = 0; m < array_length(message_sizes); m++) {
                brood_queue *q = make(3, message_sizes[m]);
                /* Three laps over the three places, so that each place holds each size. */
                for (size_t i = 0; i < 3 * array_length(sizes); i++) {
                        size_t size = sizes[i % array_length(sizes)];
                        fill(in, size, (unsigned)i);
                        int r = brood_queue_put(q, in, size, BROOD_FOREVER);
                        if (size > message_sizes[m]) {
                                assert_int_equal(r, -EMSGSIZE);
                                assert_int_equal(brood_queue_empty(q), 1);
                                continue;
                        }
                        assert_int_equal(r, 0);
                        memset(out, 0xa5, 65536 + 16);
                        assert_int_equal(brood_queue_get(q, out, 65536 + 16, BROOD_FOREVER), size);
                        assert_memory_equal(in, out, size);
                        for (size_t j = 0; j < 16; j++) /* nothing is written behind the message */
                                assert_int_equal(out[size + j], 0xa5);
                }
                brood_queue_free(q);
        }
        free(in);
        free(out);
}

static void test_large_messages(void **state)
{
        (void)state;
        size_t size = (size_t)4 << 20;
        unsigned char *in = malloc(size), *out = malloc(size);
        brood_queue *q = make(3, size);
        for (unsigned i = 0; i < 8; i++) {
                fill(in, size, i);
                assert_int_equal(brood_queue_put_nowait(q, in, size - i), 0);
                assert_int_equal(brood_queue_put_nowait(q, in, 5), 0);
                assert_int_equal(brood_queue_get_nowait(q, out, size), size - i);
                assert_memory_equal(in, out, size - i);
                assert_int_equal(brood_queue_get_nowait(q, out, size), 5);
        }
        assert_int_equal(brood_queue_put_nowait(q, in, size), 0);
        brood_queue_free(q); /* with a large message inside */
        free(in);
        free(out);
}

static void test_empty_messages(void **state)
{
        (void)state;
        char buf[4] = "abc";
        brood_queue *q = make(2, 4);
        assert_int_equal(brood_queue_put_nowait(q, NULL, 0), 0);
        assert_int_equal(brood_queue_put_nowait(q, buf, 0), 0);
        assert_int_equal(brood_queue_full(q), 1);
        assert_int_equal(brood_queue_get_nowait(q, NULL, 0), 0);
        assert_int_equal(brood_queue_get_nowait(q, buf, sizeof buf), 0);
        assert_string_equal(buf, "abc");
        assert_int_equal(brood_queue_get_nowait(q, NULL, 0), -EAGAIN);
        brood_queue_free(q);
}

static void test_buffer_too_small(void **state)
{
        (void)state;
        static const size_t lengths[] = { 1, 16, 48, 49, 112, 113, 5000, 65536 };
        unsigned char *in = malloc(65536), *out = malloc(65536);
        brood_queue *q = make(3, 0);
        for (size_t i = 0; i < array_length(lengths); i++) {
                size_t size = lengths[i];
                fill(in, size, (unsigned)i);
                assert_int_equal(brood_queue_put_nowait(q, in, size), 0);
                assert_int_equal(brood_queue_put_nowait(q, "z", 1), 0);
                memset(out, 0xa5, size);
                assert_int_equal(brood_queue_get(q, out, size - 1, BROOD_FOREVER), -EMSGSIZE);
                assert_int_equal(brood_queue_get(q, out, 0, 1), -EMSGSIZE);
                assert_int_equal(brood_queue_get_nowait(q, NULL, 0), -EMSGSIZE);
                for (size_t j = 0; j < size; j++)
                        assert_int_equal(out[j], 0xa5);
                assert_int_equal(brood_queue_qsize(q), 2);
                assert_int_equal(brood_queue_get_nowait(q, out, brood_queue_message_size(q)), size);
                assert_memory_equal(in, out, size);
                assert_int_equal(brood_queue_get_nowait(q, out, 1), 1);
                assert_int_equal(out[0], 'z');
        }
        brood_queue_free(q);
        free(in);
        free(out);
}

static void test_capacity_is_exact(void **state)
{
        (void)state;
        static const size_t maxsizes[] = { 1, 2, 3, 5, 7, 8, 100, 1000, 1024 };
        for (size_t m = 0; m < array_length(maxsizes); m++) {
                int maxsize = (int)maxsizes[m], put = 0, got = 0;
                brood_queue *q = make(maxsizes[m], sizeof(int));
                for (int lap = 0; lap < 4; lap++) {
                        assert_int_equal(brood_queue_empty(q), 1);
                        assert_int_equal(brood_queue_full(q), 0);
                        for (int i = 0; i < maxsize; i++) {
                                assert_int_equal(brood_queue_qsize(q), i);
                                assert_int_equal(brood_queue_full(q), 0);
                                assert_int_equal(put_int(q, put++, 0), 0);
                                assert_int_equal(brood_queue_empty(q), 0);
                        }
                        assert_int_equal(brood_queue_full(q), 1);
                        assert_int_equal(brood_queue_qsize(q), maxsize);
                        assert_int_equal(put_int(q, -1, 0), -EAGAIN);
                        assert_int_equal(brood_queue_put_nowait(q, &put, sizeof put), -EAGAIN);
                        /* Move on by one place, so that the laps begin at different ones. */
                        assert_int_equal(get_int(q), got++);
                        assert_int_equal(brood_queue_full(q), 0);
                        assert_int_equal(put_int(q, put++, BROOD_FOREVER), 0);
                        assert_int_equal(brood_queue_full(q), 1);
                        for (int i = 0; i < maxsize; i++)
                                assert_int_equal(get_int(q), got++);
                        assert_int_equal(get_int(q), -1);
                }
                assert_int_equal(brood_queue_get_nowait(q, &got, sizeof got), -EAGAIN);
                brood_queue_free(q);
        }
}

static void test_time_limits(void **state)
{
        (void)state;
        int value = 1;
        brood_queue *q = make(1, sizeof value);

        assert_int_equal(brood_queue_get(q, &value, sizeof value, 0), -EAGAIN);
        int64_t start = support_now_ms();
        assert_int_equal(brood_queue_get(q, &value, sizeof value, 40), -ETIMEDOUT);
        int64_t took = support_now_ms() - start;
        assert_true(took >= 39 && took < 3000);
        assert_int_equal(value, 1);

        assert_int_equal(put_int(q, 2, 40), 0);
        assert_int_equal(put_int(q, 3, 0), -EAGAIN);
        start = support_now_ms();
        assert_int_equal(put_int(q, 3, 40), -ETIMEDOUT);
        took = support_now_ms() - start;
        assert_true(took >= 39 && took < 3000);

        /* Longer than any slice in which a sleeper looks for deaths. */
        start = support_now_ms();
        assert_int_equal(put_int(q, 3, 700), -ETIMEDOUT);
        took = support_now_ms() - start;
        assert_true(took >= 699 && took < 5000);

        /* What was refused left nothing; with something to take, no limit is waited for, nor any negative number refused. */
        start = support_now_ms();
        assert_int_equal(brood_queue_get(q, &value, sizeof value, 5000), sizeof value);
        assert_int_equal(value, 2);
        assert_int_equal(put_int(q, 4, -7), 0);
        assert_int_equal(brood_queue_get(q, &value, sizeof value, -7), sizeof value);
        assert_int_equal(value, 4);
        assert_true(support_now_ms() - start < 3000);
        assert_int_equal(brood_queue_empty(q), 1);
        brood_queue_free(q);
}

struct sleeper {
        brood_queue *queue;
        bool puts;
        int timeout_ms;
        int wanted; /* what the call must return */
        atomic_int *ready, *done;
};

static int sleep_in_call(void *arg)
{
        struct sleeper *s = arg;
        int value = 77;
        atomic_fetch_add(s->ready, 1);
        int r = s->puts ? put_int(s->queue, value, s->timeout_ms)
                        : (int)brood_queue_get(s->queue, &value, sizeof value, s->timeout_ms);
        require_int(r, s->wanted);
        if (s->done)
                atomic_fetch_add(s->done, 1);
        return 0;
}

static void test_waiting_calls_are_woken(void **state)
{
        (void)state;
        atomic_int *ready = check_shared(sizeof *ready);
        for (int puts = 0; puts < 2; puts++) {
                for (int timeout = 0; timeout < 3; timeout++) {
                        static const int timeouts[] = { BROOD_FOREVER, -7, 20000 };
                        brood_queue *q = make(1, sizeof(int));
                        struct sleeper s = { q, puts, timeouts[timeout], puts ? 0 : (int)sizeof(int), ready, NULL };
                        if (puts)
                                assert_int_equal(put_int(q, 1, 0), 0);
                        atomic_store(ready, 0);
                        pid_t child = check_start(sleep_in_call, &s);
                        assert_true(check_reaches(ready, 1, CHECK_HANG_MS));
                        assert_true(check_asleep(child));
                        if (puts)
                                assert_int_equal(get_int(q), 1);
                        else
                                assert_int_equal(put_int(q, 1, 0), 0);
                        assert_int_equal(check_wait(child), 0);
                        assert_int_equal(brood_queue_qsize(q), puts);
                        brood_queue_free(q);
                }
        }
        munmap(ready, sizeof *ready);
}

static void test_close(void **state)
{
        (void)state;
        int value = 9;
        brood_queue *q = make(3, sizeof(int));
        for (int i = 0; i < 3; i++)
                assert_int_equal(put_int(q, i, 0), 0);
        assert_int_equal(brood_queue_close(q), 0);
        assert_int_equal(brood_queue_close(q), 0);
        /* Full and closed, then with room and closed: closed is what the caller needs to know. */
        assert_int_equal(put_int(q, 3, 0), -EPIPE);
        assert_int_equal(put_int(q, 3, BROOD_FOREVER), -EPIPE);
        assert_int_equal(brood_queue_qsize(q), 3);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(brood_queue_get(q, &value, 1, 0), -EMSGSIZE);
                assert_int_equal(brood_queue_get(q, &value, sizeof value, i ? BROOD_FOREVER : 0), sizeof value);
                assert_int_equal(value, i);
                assert_int_equal(put_int(q, 3, 50), -EPIPE);
        }
        assert_int_equal(brood_queue_get(q, &value, sizeof value, 0), -EPIPE);
        assert_int_equal(brood_queue_get(q, &value, sizeof value, 50), -EPIPE);
        assert_int_equal(brood_queue_get(q, &value, sizeof value, BROOD_FOREVER), -EPIPE);
        assert_int_equal(value, 2);
        assert_int_equal(brood_queue_empty(q), 1);
        assert_int_equal(brood_queue_close(q), 0);
        brood_queue_free(q);

        q = make(1, 8);
        assert_int_equal(brood_queue_close(q), 0);
        assert_int_equal(brood_queue_get(q, &value, sizeof value, BROOD_FOREVER), -EPIPE);
        brood_queue_free(q);
}

static int close_it(void *arg)
{
        require_int(brood_queue_close(arg), 0);
        return 0;
}

static void test_close_wakes_all_sleepers(void **state)
{
        (void)state;
        atomic_int *ready = check_shared(sizeof *ready);
        for (int puts = 0; puts < 2; puts++) {
                brood_queue *q = make(1, sizeof(int));
                struct sleeper s = { q, puts, BROOD_FOREVER, -EPIPE, ready, NULL };
                pid_t children[4];
                struct check_thread threads[2];
                if (puts)
                        assert_int_equal(put_int(q, 1, 0), 0);
                atomic_store(ready, 0);
                for (int i = 0; i < 4; i++)
                        children[i] = check_start(sleep_in_call, &s);
                for (int i = 0; i < 2; i++)
                        check_thread_start(&threads[i], sleep_in_call, &s);
                assert_true(check_reaches(ready, 6, CHECK_HANG_MS));
                for (int i = 0; i < 4; i++)
                        assert_true(check_asleep(children[i]));
                int64_t start = support_now_ms();
                check_in_child(close_it, q); /* closed by another process than the maker */
                for (int i = 0; i < 4; i++)
                        assert_int_equal(check_wait(children[i]), 0);
                for (int i = 0; i < 2; i++)
                        assert_int_equal(check_thread_join(&threads[i]), 0);
                assert_true(support_now_ms() - start < 3000);
                assert_int_equal(brood_queue_qsize(q), puts);
                brood_queue_free(q);
        }
        munmap(ready, sizeof *ready);
}

struct racer {
        brood_queue *queue;
        atomic_long *put, *got;
        atomic_int *ready;
};

static int race_put(void *arg)
{
        struct racer *racer = arg;
        int r;
        atomic_fetch_add(racer->ready, 1);
        for (int i = 0; (r = put_int(racer->queue, i, CHECK_HANG_MS)) == 0; i++)
                atomic_fetch_add(racer->put, 1);
        require_int(r, -EPIPE);
        return 0;
}

static int race_get(void *arg)
{
        struct racer *racer = arg;
        int value;
        ssize_t r;
        atomic_fetch_add(racer->ready, 1);
        while ((r = brood_queue_get(racer->queue, &value, sizeof value, CHECK_HANG_MS)) == sizeof value)
                atomic_fetch_add(racer->got, 1);
        require_int(r, -EPIPE);
        return 0;
}

/* A put that returned 0 is taken by somebody, also when the queue is closed at the same moment. */
static void test_close_races_with_put(void **state)
{
        (void)state;
        struct {
                atomic_long put, got;
                atomic_int ready;
        } *shared = check_shared(sizeof *shared);
        int rounds = support_rounds(200);
        for (int round = 0; round < rounds; round++) {
                brood_queue *q = make(1 + support_random(4), sizeof(int));
                struct racer racer = { q, &shared->put, &shared->got, &shared->ready };
                bool processes = round % 2;
                struct check_thread threads[4];
                pid_t pids[4];
                atomic_store(&shared->put, 0);
                atomic_store(&shared->got, 0);
                atomic_store(&shared->ready, 0);
                for (int i = 0; i < 4; i++) {
                        if (processes)
                                pids[i] = check_start(i < 2 ? race_put : race_get, &racer);
                        else
                                check_thread_start(&threads[i], i < 2 ? race_put : race_get, &racer);
                }
                assert_true(check_reaches(&shared->ready, 4, CHECK_HANG_MS));
                usleep((useconds_t)support_random(1000));
                assert_int_equal(brood_queue_close(q), 0);
                for (int i = 0; i < 4; i++)
                        assert_int_equal(processes ? check_wait(pids[i]) : check_thread_join(&threads[i]), 0);
                assert_int_equal(atomic_load(&shared->put), atomic_load(&shared->got));
                assert_int_equal(brood_queue_qsize(q), 0);
                brood_queue_free(q);
        }
        munmap(shared, sizeof *shared);
}

struct family {
        brood_queue *queue;
        int generation;
};

static int put_and_fork_on(void *arg)
{
        struct family *family = arg;
        require_int(put_int(family->queue, family->generation, CHECK_HANG_MS), 0);
        if (++family->generation < 5) {
                pid_t child = fork();
                require(child >= 0);
                if (child == 0)
                        _exit(put_and_fork_on(family));
                int status;
                require(waitpid(child, &status, 0) == child);
                require_int(status, 0);
        }
        brood_queue_free(family->queue);
        return 0;
}

static void test_one_queue_in_all_generations(void **state)
{
        (void)state;
        brood_queue *q = make(10, sizeof(int));
        struct family family = { q, 0 };
        check_in_child(put_and_fork_on, &family);
        for (int i = 0; i < 5; i++)
                assert_int_equal(get_int(q), i);
        assert_int_equal(get_int(q), -1);
        brood_queue_free(q);
}

static int answer(void *arg)
{
        brood_queue **queues = arg;
        int value;
        require_int(brood_queue_get(queues[0], &value, sizeof value, CHECK_HANG_MS), sizeof value);
        require_int(value, 1);
        require_int(brood_queue_empty(queues[1]), 1);
        require_int(put_int(queues[1], 2, 0), 0);
        require_int(brood_queue_close(queues[1]), 0);
        /* One made here has nothing to do with either. */
        brood_queue *own;
        require_int(brood_queue_new(&own, NULL), 0);
        require_int(put_int(own, 3, 0), 0);
        require_int(brood_queue_qsize(queues[0]), 0);
        require_int(brood_queue_qsize(queues[1]), 1);
        require_int(get_int(own), 3);
        brood_queue_free(own);
        return 0;
}

static void test_two_queues_do_not_meet(void **state)
{
        (void)state;
        brood_queue *queues[2] = { make(3, sizeof(int)), make(3, sizeof(int)) };
        assert_int_equal(put_int(queues[0], 1, 0), 0);
        assert_int_equal(brood_queue_empty(queues[1]), 1);
        check_in_child(answer, queues);
        assert_int_equal(brood_queue_empty(queues[0]), 1);
        assert_int_equal(get_int(queues[1]), 2);
        assert_int_equal(put_int(queues[1], 3, 0), -EPIPE);
        assert_int_equal(put_int(queues[0], 3, 0), 0); /* only the other is closed */
        brood_queue_free(queues[0]);
        brood_queue_free(queues[1]);
}

struct freer {
        brood_queue *queue;
        int go[2]; /* the child waits until the parent has freed */
        bool child_frees;
};

static int go_on_after_free(void *arg)
{
        struct freer *f = arg;
        char byte;
        close(f->go[1]);
        require_int(read(f->go[0], &byte, 1), 0);
        require_int(get_int(f->queue), 5);
        require_int(put_int(f->queue, 6, 0), 0);
        require_int(get_int(f->queue), 6);
        if (f->child_frees)
                brood_queue_free(f->queue);
        return 0;
}

static int free_it(void *arg)
{
        brood_queue_free(arg);
        return 0;
}

static void test_freed_in_any_order(void **state)
{
        (void)state;
        for (int child_frees = 0; child_frees < 2; child_frees++) {
                struct freer f = { .queue = make(2, 100), .child_frees = child_frees };
                assert_int_equal(pipe(f.go), 0);
                assert_int_equal(put_int(f.queue, 5, 0), 0);
                pid_t child = check_start(go_on_after_free, &f);
                brood_queue_free(f.queue);
                close(f.go[0]);
                close(f.go[1]);
                assert_int_equal(check_wait(child), 0);
        }

        brood_queue *a = make(2, 8), *b = make(2, 8), *c = make(2, 8);
        assert_int_equal(put_int(b, 1, 0), 0);
        check_in_child(free_it, b); /* the parent's handle lives on */
        brood_queue_free(a);
        assert_int_equal(put_int(c, 2, 0), 0);
        brood_queue_free(c);
        assert_int_equal(get_int(b), 1);
        brood_queue_free(b);
}

static void test_no_descriptor_and_no_mapping_is_left(void **state)
{
        (void)state;
        brood_queue_free(make(0, 0));
        int descriptors = support_count_descriptors(), mappings = support_count_mappings();
        for (int i = 0; i < 500; i++) {
                brood_queue *q = make(1 + support_random(100), 1 + support_random(100000));
                put_int(q, i, 0);
                brood_queue_free(q);
        }
        assert_int_equal(support_count_descriptors(), descriptors);
        /* The allocator may have grown; a sanitizer's does.  (The harness counts those of memfds.) */
        assert_true(CHECK_ASAN || support_count_mappings() <= mappings + 4);
}

static void test_no_descriptor_left_to_make_one(void **state)
{
        (void)state;
        brood_queue_free(make(0, 0));
        int descriptors = support_count_descriptors();
        brood_queue *q = NULL;
        struct rlimit before = check_descriptors_exhaust();
        int r = brood_queue_new(&q, NULL);
        check_descriptors_restore(&before);
        assert_int_equal(r, -EMFILE);
        assert_null(q);
        assert_int_equal(support_count_descriptors(), descriptors);
        brood_queue_free(make(0, 0));
}

/* A queue that is there needs no descriptor to be used, nor any to be used by a child. */
static void test_no_descriptor_left_to_use_one(void **state)
{
        (void)state;
        brood_queue *q = make(3, sizeof(int));
        struct rlimit before = check_descriptors_exhaust();
        int r = put_int(q, 1, 10);
        int value = get_int(q);
        ssize_t n = brood_queue_get(q, &value, sizeof value, 10);
        check_descriptors_restore(&before);
        assert_int_equal(r, 0);
        assert_int_equal(value, 1);
        assert_int_equal(n, -ETIMEDOUT);
        brood_queue_free(q);
}

static int make_without_memory(void *arg)
{
        (void)arg;
        unsigned long pages = 0;
        FILE *statm = fopen("/proc/self/statm", "r");
        require(statm && fscanf(statm, "%lu", &pages) == 1);
        fclose(statm);
        rlim_t limit = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (8 << 20);
        require_int(setrlimit(RLIMIT_AS, &(struct rlimit){ limit, limit }), 0);
        int descriptors = support_count_descriptors();
        brood_queue *q = NULL;
        require_int(brood_queue_new(&q, &(brood_queue_options){ .maxsize = BROOD_QUEUE_MAXSIZE_LIMIT }), -ENOMEM);
        require(q == NULL);
        require_int(support_count_descriptors(), descriptors);
        require_int(brood_queue_new(&q, &(brood_queue_options){ .maxsize = 3, .message_size = 64 }), 0);
        require_int(put_int(q, 1, 0), 0);
        brood_queue_free(q);
        return 0;
}

static void test_no_memory_to_make_one(void **state)
{
        (void)state;
        if (CHECK_ASAN)
                skip(); /* it has reserved the address space for itself */
        check_in_child(make_without_memory, NULL);
}

static atomic_int alarms;

static void on_alarm(int sig)
{
        (void)sig;
        atomic_fetch_add(&alarms, 1);
}

static int storm_get(void *arg)
{
        brood_queue **queues = arg;
        struct itimerval often = { { 0, 500 }, { 0, 500 } };
        setitimer(ITIMER_REAL, &often, NULL); /* timers are not inherited */
        for (int i = 0; i < 3000; i++) {
                int value;
                require_int(brood_queue_get(queues[0], &value, sizeof value, CHECK_HANG_MS), sizeof value);
                require_int(value, i);
                require_int(put_int(queues[1], value, CHECK_HANG_MS), 0);
        }
        return 0;
}

/* A signal handler that runs during a wait does not end the wait, nor stretch it. */
static void test_signals_do_not_disturb(void **state)
{
        (void)state;
        struct sigaction before, action = { .sa_handler = on_alarm }; /* without SA_RESTART */
        struct itimerval often = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
        brood_queue *queues[2] = { make(1, sizeof(int)), make(1, sizeof(int)) };
        sigaction(SIGALRM, &action, &before);
        pid_t child = check_start(storm_get, queues);
        setitimer(ITIMER_REAL, &often, NULL);

        int bad = 0, value = 0;
        for (int i = 0; i < 3000 && !bad; i++) {
                bad = put_int(queues[0], i, CHECK_HANG_MS) != 0;
                bad |= brood_queue_get(queues[1], &value, sizeof value, CHECK_HANG_MS) != sizeof value || value != i;
        }
        int64_t start = support_now_ms();
        ssize_t n = brood_queue_get(queues[1], &value, sizeof value, 400);
        int64_t took = support_now_ms() - start;
        setitimer(ITIMER_REAL, &never, NULL);
        int code = check_wait(child);
        sigaction(SIGALRM, &before, NULL);
        assert_int_equal(bad, 0);
        assert_int_equal(n, -ETIMEDOUT);
        assert_true(took >= 399 && took < 2000);
        assert_int_equal(code, 0);
        assert_true(atomic_load(&alarms) > 50);
        brood_queue_free(queues[0]);
        brood_queue_free(queues[1]);
}

/* Overwrite what other processes could have overwritten: calls may say anything that the header says, but return. */
static int scribble(void *arg)
{
        uint64_t seed = *(uint64_t *)arg;
        brood_queue *q;
        require_int(brood_queue_new(&q, &(brood_queue_options){ .maxsize = 5, .message_size = 300 }), 0);
        char buf[300] = "x";
        for (int i = 0; i < 3; i++)
                require_int(brood_queue_put_nowait(q, buf, (size_t)(1 + 100 * i)), 0);

        FILE *maps = fopen("/proc/self/maps", "r");
        require(maps != NULL);
        char line[512];
        unsigned long from, to, end = 0, start = 0;
        while (fgets(line, sizeof line, maps)) /* the last one that is writable */
                if (strstr(line, "memfd:") && strstr(line, "rw-s") && sscanf(line, "%lx-%lx", &from, &to) == 2 &&
                    strstr(line, "queue")) {
                        start = from;
                        end = to;
                }
        fclose(maps);
        if (!start)
                return 77;
        uint64_t *words = (uint64_t *)start;
        size_t count = (end - start) / 8 < 8192 ? (end - start) / 8 : 8192;
        for (int i = 0; i < 40; i++) {
                size_t at = (size_t)check_random(&seed, count);
                switch (check_random(&seed, 4)) {
                case 0:
                        words[at] = check_random(&seed, UINT64_MAX);
                        break;
                case 1:
                        words[at] = UINT64_MAX;
                        break;
                case 2:
                        words[at] ^= (uint64_t)1 << check_random(&seed, 64);
                        break;
                default:
                        words[at] += check_random(&seed, 17) - 8;
                        break;
                }
                int r = brood_queue_put(q, buf, (size_t)check_random(&seed, 301), 5);
                require(r <= 0 && r > -4096);
                ssize_t n = brood_queue_get(q, buf, sizeof buf, 5);
                require(n <= (ssize_t)sizeof buf && n > -4096);
                n = brood_queue_qsize(q);
                require(n <= 5 && n > -4096);
                r = brood_queue_full(q);
                require(r <= 1 && r > -4096);
                r = brood_queue_empty(q);
                require(r <= 1 && r > -4096);
        }
        brood_queue_close(q);
        brood_queue_free(q);
        return 0;
}

static void test_what_no_brood_wrote(void **state)
{
        (void)state;
        int rounds = support_rounds(100);
        for (int i = 0; i < rounds; i++) {
                uint64_t seed = support_random(UINT64_MAX);
                int code = check_wait_for(check_start(scribble, &seed), CHECK_HANG_MS);
                if (code == 77)
                        skip();
                if (code)
                        fprintf(stderr, "round %d, seed %llu: %d\n", i, (unsigned long long)seed, code);
                assert_int_equal(code, 0);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_options),
                support_test(test_options_of_other_versions),
                support_test(test_bad_arguments),
                support_test(test_errno_is_left_alone),
                support_test(test_every_size_comes_out_whole),
                support_test(test_large_messages),
                support_test(test_empty_messages),
                support_test(test_buffer_too_small),
                support_test(test_capacity_is_exact),
                support_test(test_time_limits),
                support_test(test_waiting_calls_are_woken),
                support_test(test_close),
                support_test(test_close_wakes_all_sleepers),
                support_test(test_close_races_with_put),
                support_test(test_one_queue_in_all_generations),
                support_test(test_two_queues_do_not_meet),
                support_test(test_freed_in_any_order),
                support_test(test_no_descriptor_and_no_mapping_is_left),
                support_test(test_no_descriptor_left_to_make_one),
                support_test(test_no_descriptor_left_to_use_one),
                support_test(test_no_memory_to_make_one),
                support_test(test_signals_do_not_disturb),
                support_test(test_what_no_brood_wrote),
        };
        return support_main(argc, argv, "queue", tests, array_length(tests), 90);
}
