/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_queue_threads.c: threads of one process as the users of a queue: all ways to put and to take at the same time,
 * while others ask, close or free; and books that must balance.
 *
 * Processes that die are elsewhere.  Here everything happens where ThreadSanitizer can see it: what the orderings of the
 * queue carry from one user to the next, and what the threads of a handle share.  In a normal build it is a test like any other.
 */
#include "check.h"

#include <brood/queue.h>

#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>

enum {
        PRODUCERS = 4,
        CONSUMERS = 4,
        MESSAGES = 800, /* of each producer */
        BATCH = 5,
        MESSAGE_SIZE = 2048,
        LIMIT_MS = 2 * CHECK_HANG_MS,
};

struct record {
        uint32_t producer, sequence, size, zero;
        unsigned char body[MESSAGE_SIZE - 16];
};

enum way {
        PUT,
        PUT_MANY,
        RESERVE,
        WAYS_IN,
        GET = 0,
        GET_MANY,
        PEEK,
        LEASE,
        WAYS_OUT,
};

struct user {
        struct check_thread thread;
        brood_queue *queue;
        struct books *books;
        uint32_t id;
        enum way way;
        uint32_t next[PRODUCERS]; /* the least sequence number that may come now */
};

/* What was put and what came out: each message says which one it is, and its bytes follow from that.  And the users, who are
 * not on the stack of a test, because they may outlive one that fails. */
struct books {
        int messages;   /* of each producer */
        bool returning; /* some messages are put back once, so there is no order to expect */
        atomic_int stop;
        atomic_int taken_count, torn, foreign, out_of_order;
        atomic_int leased, given_back, canceled;
        _Atomic uint8_t taken[PRODUCERS][MESSAGES], returned[PRODUCERS][MESSAGES];
        struct user producers[PRODUCERS], consumers[CONSUMERS], observer;
};

static struct books *books_new(int messages)
{
        struct books *books = calloc(1, sizeof *books);
        assert_non_null(books);
        books->messages = messages;
        return books;
}

static size_t record_make(struct record *record, uint32_t producer, uint32_t sequence)
{
        uint64_t hash = check_mix(((uint64_t)producer << 32) | sequence);
        /* Most fit beside their slot's word; some lie elsewhere, in classes of their own. */
        size_t body = hash % 8 == 0 ? (hash >> 8) % sizeof record->body : (hash >> 8) % 112;
        record->producer = producer;
        record->sequence = sequence;
        record->size = (uint32_t)(16 + body);
        record->zero = 0;
        for (size_t i = 0; i < body; i++)
                record->body[i] = (unsigned char)((hash >> (8 * (i % 8))) + i / 8);
        return record->size;
}

/* ---- in ---- */

static int put_batch(struct user *user, uint32_t first, uint32_t end)
{
        static _Thread_local struct record records[BATCH];
        struct iovec messages[BATCH];
        size_t count = 0;
        for (uint32_t i = first; i < end; i++, count++)
                messages[count] = (struct iovec){ &records[count], record_make(&records[count], user->id, i) };
        for (size_t done = 0; done < count;) {
                ssize_t n = brood_queue_put_many(user->queue, messages + done, count - done, LIMIT_MS);
                if (n <= 0)
                        fprintf(stderr, "put_many: %s\n", n < 0 ? brood_strerror((int)n) : "nothing was put");
                require(n > 0 && (size_t)n <= count - done);
                done += (size_t)n;
        }
        return 0;
}

static int put_in_place(struct user *user, uint32_t sequence, const struct record *record, size_t size)
{
        brood_reservation place;
        if (sequence % 8 == 3) { /* a change of mind leaves no gap */
                require_int(brood_queue_reserve(user->queue, &place, size, LIMIT_MS), 0);
                memset(place.data, 0xee, size);
                require_int(brood_queue_cancel(user->queue, &place), 0);
                require_int(brood_queue_cancel(user->queue, &place), -EINVAL);
                atomic_fetch_add(&user->books->canceled, 1);
        }
        /* More than is needed in the end. */
        size_t room = size + 32 <= MESSAGE_SIZE ? size + 32 : size;
        require_int(brood_queue_reserve(user->queue, &place, room, LIMIT_MS), 0);
        require(place.size >= room);
        memcpy(place.data, record, size);
        require_int(brood_queue_commit(user->queue, &place, size), 0);
        return 0;
}

static int produce(void *arg)
{
        struct user *user = arg;
        struct record record;
        uint32_t end = (uint32_t)user->books->messages;
        for (uint32_t i = 0; i < end;) {
                if (user->way == PUT_MANY) {
                        uint32_t batch = i + 1 + i % BATCH < end ? i + 1 + i % BATCH : end;
                        require_int(put_batch(user, i, batch), 0);
                        i = batch;
                        continue;
                }
                size_t size = record_make(&record, user->id, i);
                if (user->way == RESERVE)
                        require_int(put_in_place(user, i, &record, size), 0);
                else
                        require_int(brood_queue_put(user->queue, &record, size, LIMIT_MS), 0);
                i++;
        }
        return 0;
}

/* ---- out ---- */

static bool is_ours(const struct user *user, const struct record *record, size_t size)
{
        return size >= 16 && record->producer < PRODUCERS && record->sequence < (uint32_t)user->books->messages;
}

/* Enter a message that is gone from the queue, or will be for certain. */
static void enter(struct user *user, const struct record *record, size_t size)
{
        struct books *books = user->books;
        struct record wanted;
        if (!is_ours(user, record, size)) {
                atomic_fetch_add(&books->foreign, 1);
                return;
        }
        if (record_make(&wanted, record->producer, record->sequence) != size || memcmp(&wanted, record, size) != 0)
                atomic_fetch_add(&books->torn, 1);
        if (record->sequence < user->next[record->producer])
                atomic_fetch_add(&books->out_of_order, 1);
        user->next[record->producer] = record->sequence + 1;
        atomic_fetch_add(&books->taken[record->producer][record->sequence], 1);
        atomic_fetch_add(&books->taken_count, 1);
}

/* Whether this one is put back this time: each at most once, so that it comes to an end. */
static bool to_return(struct user *user, const struct record *record, size_t size)
{
        struct books *books = user->books;
        return books->returning && is_ours(user, record, size) && check_mix(record->sequence) % 4 == 0 &&
               atomic_exchange(&books->returned[record->producer][record->sequence], 1) == 0;
}

/* Each of these takes what there is, and returns how much, or the error. */
static ssize_t take_copy(struct user *user)
{
        struct record record;
        ssize_t n = brood_queue_get(user->queue, &record, sizeof record, LIMIT_MS);
        if (n < 0)
                return n;
        enter(user, &record, (size_t)n);
        return 1;
}

static ssize_t take_batch(struct user *user)
{
        static _Thread_local struct record records[BATCH];
        struct iovec messages[BATCH];
        for (int i = 0; i < BATCH; i++)
                messages[i] = (struct iovec){ &records[i], sizeof records[i] };
        ssize_t n = brood_queue_get_many(user->queue, messages, BATCH, LIMIT_MS);
        for (ssize_t i = 0; i < n; i++)
                enter(user, &records[i], messages[i].iov_len);
        return n;
}

static ssize_t take_view(struct user *user)
{
        brood_view view;
        int r = brood_queue_peek(user->queue, &view, LIMIT_MS);
        if (r < 0)
                return r;
        if (to_return(user, view.data, view.size)) {
                r = brood_queue_unpeek(user->queue, &view);
                return r < 0 ? r : 1;
        }
        enter(user, view.data, view.size);
        r = brood_queue_release(user->queue, &view);
        return r < 0 ? r : 1;
}

static ssize_t take_lease(struct user *user)
{
        struct books *books = user->books;
        brood_lease lease;
        int r = brood_queue_lease(user->queue, &lease, LIMIT_MS);
        if (r < 0)
                return r;
        atomic_fetch_add(&books->leased, 1);
        /* One more than once only if somebody gave it back. */
        const struct record *record = lease.data;
        if (lease.deliveries < 1 || lease.deliveries > 2 ||
            (lease.deliveries == 2 && is_ours(user, record, lease.size) &&
             !atomic_load(&books->returned[record->producer][record->sequence])))
                atomic_fetch_add(&books->foreign, 1);
        if (to_return(user, record, lease.size)) {
                atomic_fetch_add(&books->given_back, 1);
                r = brood_queue_give_back(user->queue, &lease);
                return r < 0 ? r : 1;
        }
        enter(user, record, lease.size);
        r = brood_queue_acknowledge(user->queue, &lease);
        return r < 0 ? r : 1;
}

static int consume(void *arg)
{
        static ssize_t (*const ways[])(struct user *) = { take_copy, take_batch, take_view, take_lease };
        struct user *user = arg;
        for (;;) {
                ssize_t n = ways[user->way](user);
                if (n == -EPIPE)
                        return 0;
                require(n > 0);
        }
}

/* ---- beside ---- */

/* Somebody who only asks, as often as possible. */
static int observe(void *arg)
{
        struct user *user = arg;
        brood_queue_statistics statistics;
        while (!atomic_load(&user->books->stop)) {
                ssize_t size = brood_queue_qsize(user->queue);
                require(size >= 0 && size <= PRODUCERS * MESSAGES);
                int empty = brood_queue_empty(user->queue), full = brood_queue_full(user->queue);
                require((empty == 0 || empty == 1) && (full == 0 || full == 1));
                require_int(brood_queue_message_size(user->queue), MESSAGE_SIZE);
                require_int(brood_queue_stats(user->queue, &statistics), 0);
                require(statistics.leased <= CONSUMERS);
                sched_yield();
        }
        return 0;
}

static brood_queue *make(const brood_queue_options *options)
{
        brood_queue *q = NULL;
        assert_int_equal(brood_queue_new(&q, options), 0);
        return q;
}

static brood_queue *attach(brood_queue *q)
{
        int descriptors[BROOD_QUEUE_DESCRIPTORS];
        brood_queue *other = NULL;
        assert_int_equal(brood_queue_descriptors(q, descriptors), 0);
        assert_int_equal(brood_queue_attach(&other, descriptors), 0);
        return other;
}

/* Each message once, as it was put, and in order if none was put back. */
static void balance(struct books *books, int producers)
{
        assert_int_equal(atomic_load(&books->foreign), 0);
        assert_int_equal(atomic_load(&books->torn), 0);
        if (!books->returning)
                assert_int_equal(atomic_load(&books->out_of_order), 0);
        for (int p = 0; p < producers; p++)
                for (int i = 0; i < books->messages; i++)
                        assert_int_equal(atomic_load(&books->taken[p][i]), 1);
        assert_int_equal(atomic_load(&books->taken_count), producers * books->messages);
}

static void require_empty_and_closed(brood_queue *q)
{
        char byte;
        assert_int_equal(brood_queue_qsize(q), 0);
        assert_int_equal(brood_queue_empty(q), 1);
        assert_int_equal(brood_queue_get_nowait(q, &byte, 1), -EPIPE);
        assert_int_equal(brood_queue_put_nowait(q, &byte, 1), -EPIPE);
        assert_int_equal(brood_queue_join(q, 0), 0);
}

struct crowd {
        size_t maxsize;
        bool returning;
        bool two_handles; /* half of them have attached */
        bool join_first;  /* close when all is taken, and not with messages inside */
};

static void run_crowd(const struct crowd *crowd)
{
        struct books *books = books_new(MESSAGES);
        brood_queue_options options = { .maxsize = crowd->maxsize,
                                        .message_size = MESSAGE_SIZE,
                                        .memory = (size_t)4 << 20 };
        brood_queue *handles[2] = { make(&options), NULL };
        handles[1] = crowd->two_handles ? attach(handles[0]) : handles[0];
        books->returning = crowd->returning;

        books->observer = (struct user){ .queue = handles[1], .books = books };
        check_thread_start(&books->observer.thread, observe, &books->observer);
        for (uint32_t i = 0; i < CONSUMERS; i++) {
                books->consumers[i] =
                    (struct user){ .queue = handles[i % 2], .books = books, .id = i, .way = (enum way)(i % WAYS_OUT) };
                check_thread_start(&books->consumers[i].thread, consume, &books->consumers[i]);
        }
        for (uint32_t i = 0; i < PRODUCERS; i++) {
                books->producers[i] = (struct user){
                        .queue = handles[i / 2 % 2], .books = books, .id = i, .way = (enum way)(i % WAYS_IN)
                };
                check_thread_start(&books->producers[i].thread, produce, &books->producers[i]);
        }

        for (int i = 0; i < PRODUCERS; i++)
                assert_int_equal(check_thread_join(&books->producers[i].thread), 0);
        if (crowd->join_first) {
                assert_int_equal(brood_queue_join(handles[1], LIMIT_MS), 0);
                assert_int_equal(brood_queue_qsize(handles[0]), 0);
        }
        assert_int_equal(brood_queue_close(handles[0]), 0);
        for (int i = 0; i < CONSUMERS; i++)
                assert_int_equal(check_thread_join(&books->consumers[i].thread), 0);
        atomic_store(&books->stop, 1);
        assert_int_equal(check_thread_join(&books->observer.thread), 0);

        balance(books, PRODUCERS);
        require_empty_and_closed(handles[1]);
        brood_queue_statistics statistics;
        assert_int_equal(brood_queue_stats(handles[1], &statistics), 0);
        assert_int_equal(statistics.puts, PRODUCERS * MESSAGES);
        assert_int_equal(statistics.gets, PRODUCERS * MESSAGES);
        assert_int_equal(statistics.leased, 0);
        /* What was given back may have been taken by who gets or peeks, which counts as a delivery as well. */
        assert_in_range(statistics.deliveries, (uint64_t)atomic_load(&books->leased),
                        (uint64_t)(atomic_load(&books->leased) + atomic_load(&books->given_back)));
        assert_int_equal(statistics.redeliveries, atomic_load(&books->given_back));
        assert_int_equal(statistics.dead_letters, 0);
        assert_int_equal(statistics.repairs, 0);
        assert_true(statistics.high_water > 0);
        if (crowd->maxsize && !crowd->returning)
                assert_true(statistics.high_water <= crowd->maxsize);
        if (crowd->two_handles)
                brood_queue_free(handles[1]);
        brood_queue_free(handles[0]);
        free(books);
}

static void test_all_ways_at_once(void **state)
{
        (void)state;
        static const size_t maxsizes[] = { 1, 3, 64, 0 };
        for (int round = 0; round < support_rounds(3); round++)
                for (size_t i = 0; i < array_length(maxsizes); i++)
                        run_crowd(&(struct crowd){ .maxsize = maxsizes[i], .join_first = i % 2 });
}

static void test_messages_that_are_put_back(void **state)
{
        (void)state;
        static const size_t maxsizes[] = { 3, 64, 0 };
        for (int round = 0; round < support_rounds(3); round++)
                for (size_t i = 0; i < array_length(maxsizes); i++)
                        run_crowd(
                            &(struct crowd){ .maxsize = maxsizes[i], .returning = true, .join_first = i % 2 == 0 });
}

/* Each handle has a mapping of its own.  ThreadSanitizer knows words by their addresses: where a thread of one handle hands a
 * place to one of the other, which hands it back, it sees the place written again and not what ordered that. */
static void test_two_handles(void **state)
{
        (void)state;
        if (CHECK_TSAN)
                skip();
        for (int round = 0; round < support_rounds(3); round++) {
                run_crowd(&(struct crowd){ .maxsize = 7, .two_handles = true });
                run_crowd(&(struct crowd){ .maxsize = 0, .two_handles = true, .returning = true, .join_first = true });
        }
}

/* ---- tasks ---- */

static int consume_tasks(void *arg)
{
        struct user *user = arg;
        for (;;) {
                ssize_t n = take_copy(user);
                if (n == -EPIPE)
                        return 0;
                require(n > 0);
                /* The books have it by now: who joins sees that all work is done, and not only taken. */
                require_int(brood_queue_task_done(user->queue), 0);
        }
}

static int join_again_and_again(void *arg)
{
        struct user *user = arg;
        while (!atomic_load(&user->books->stop)) {
                int r = brood_queue_join(user->queue, 1);
                require(r == 0 || r == -ETIMEDOUT);
                r = brood_queue_join(user->queue, 0);
                require(r == 0 || r == -EAGAIN);
        }
        return 0;
}

static void test_tasks(void **state)
{
        (void)state;
        enum { PUTTING = 2, DOING = 3 };
        struct books *books = books_new(MESSAGES);
        brood_queue *q = make(&(brood_queue_options){ .maxsize = 8, .message_size = MESSAGE_SIZE, .joinable = 1 });
        books->observer = (struct user){ .queue = q, .books = books };
        check_thread_start(&books->observer.thread, join_again_and_again, &books->observer);
        for (uint32_t i = 0; i < DOING; i++) {
                books->consumers[i] = (struct user){ .queue = q, .books = books };
                check_thread_start(&books->consumers[i].thread, consume_tasks, &books->consumers[i]);
        }
        for (uint32_t i = 0; i < PUTTING; i++) {
                books->producers[i] =
                    (struct user){ .queue = q, .books = books, .id = i, .way = i ? PUT_MANY : RESERVE };
                check_thread_start(&books->producers[i].thread, produce, &books->producers[i]);
        }
        for (int i = 0; i < PUTTING; i++)
                assert_int_equal(check_thread_join(&books->producers[i].thread), 0);
        assert_int_equal(brood_queue_join(q, LIMIT_MS), 0);
        assert_int_equal(atomic_load(&books->taken_count), PUTTING * MESSAGES);
        assert_int_equal(brood_queue_task_done(q), -EINVAL);
        assert_int_equal(brood_queue_close(q), 0);
        atomic_store(&books->stop, 1);
        assert_int_equal(check_thread_join(&books->observer.thread), 0);
        for (int i = 0; i < DOING; i++)
                assert_int_equal(check_thread_join(&books->consumers[i].thread), 0);
        balance(books, PUTTING);
        require_empty_and_closed(q);
        brood_queue_free(q);
        free(books);
}

/* One thread gets, another reports what it has got as done at once, maybe before the call has returned: a task is then over that is
 * still on its way from its place in the ring to its entry.  The place must be free all the same. */
struct haste {
        brood_queue *queue;
        atomic_int done;
        atomic_bool over;
};

static int report_at_once(void *arg)
{
        struct haste *haste = arg;

        while (!atomic_load(&haste->over)) {
                if (brood_queue_task_done(haste->queue) == 0)
                        atomic_fetch_add(&haste->done, 1);
                else
                        sched_yield();
        }
        return 0;
}

static ssize_t put_and_get(brood_queue *q, char *message, size_t size, size_t room)
{
        int r = brood_queue_put(q, message, size, LIMIT_MS);

        return r < 0 ? r : brood_queue_get(q, message, room, LIMIT_MS);
}

static void test_done_before_it_is_got(void **state)
{
        (void)state;
        static const size_t sizes[] = { 8, 400 }; /* the larger one lies in a buffer, which must be free, too */

        for (size_t i = 0; i < array_length(sizes); i++) {
                struct check_thread reporter;
                char message[400] = "";
                struct haste haste = {
                        .queue = make(&(brood_queue_options){
                            .maxsize = 1, .message_size = sizeof message, .memory = 1 << 16, .joinable = 1 })
                };

                check_thread_start(&reporter, report_at_once, &haste);
                for (int task = 1, rounds = support_rounds(20000); task <= rounds; task++) {
                        assert_int_equal(put_and_get(haste.queue, message, sizes[i], sizeof message), sizes[i]);
                        while (atomic_load(&haste.done) < task)
                                sched_yield();
                }
                atomic_store(&haste.over, true);
                assert_int_equal(check_thread_join(&reporter), 0);
                brood_queue_free(haste.queue);
        }
}

/* ---- dead letters ---- */

enum { LETTERS = 200, DELIVERIES = 3 };

struct letters {
        brood_queue *queue;
        _Atomic uint8_t seen[LETTERS][DELIVERIES];
};

static int refuse_letters(void *arg)
{
        struct letters *letters = arg;
        for (;;) {
                brood_lease lease;
                int r = brood_queue_lease(letters->queue, &lease, LIMIT_MS), letter;
                if (r == -EPIPE)
                        return 0;
                require_int(r, 0);
                require_int(lease.size, sizeof letter);
                memcpy(&letter, lease.data, sizeof letter);
                require(letter >= 0 && letter < LETTERS);
                require(lease.deliveries >= 1 && lease.deliveries <= DELIVERIES);
                atomic_fetch_add(&letters->seen[letter][lease.deliveries - 1], 1);
                require_int(brood_queue_give_back(letters->queue, &lease), 0);
        }
}

static void test_dead_letters(void **state)
{
        (void)state;
        struct letters *letters = calloc(1, sizeof *letters);
        static struct check_thread threads[CONSUMERS];
        brood_queue_statistics statistics;
        letters->queue = make(&(brood_queue_options){ .message_size = sizeof(int), .max_deliveries = DELIVERIES });
        for (int i = 0; i < LETTERS; i++)
                assert_int_equal(brood_queue_put_nowait(letters->queue, &i, sizeof i), 0);
        assert_int_equal(brood_queue_close(letters->queue), 0);
        /* Who finds nothing may go, though another may yet give something back: that one comes again itself. */
        for (int i = 0; i < CONSUMERS; i++)
                check_thread_start(&threads[i], refuse_letters, letters);
        for (int i = 0; i < CONSUMERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        for (int i = 0; i < LETTERS; i++)
                for (int d = 0; d < DELIVERIES; d++)
                        assert_int_equal(atomic_load(&letters->seen[i][d]), 1);
        require_empty_and_closed(letters->queue);
        assert_int_equal(brood_queue_stats(letters->queue, &statistics), 0);
        assert_int_equal(statistics.dead_letters, LETTERS);
        assert_int_equal(statistics.gets, LETTERS);
        assert_int_equal(statistics.deliveries, LETTERS * DELIVERIES);
        assert_int_equal(statistics.leased, 0);
        brood_queue_free(letters->queue);
        free(letters);
}

/* ---- those who wait ---- */

enum waiting {
        WAIT_GET,
        WAIT_GET_MANY,
        WAIT_PEEK,
        WAIT_LEASE,
        WAIT_PUT,
        WAIT_PUT_MANY,
        WAIT_RESERVE,
        WAIT_JOIN,
        WAITINGS,
};

struct waiter {
        struct check_thread thread;
        brood_queue *queue;
        enum waiting what;
        int timeout;
        atomic_int tid;
        ssize_t result;
};

static int wait_in_call(void *arg)
{
        struct waiter *waiter = arg;
        char byte = 0;
        struct iovec message = { &byte, 1 };
        brood_view view;
        brood_lease lease;
        brood_reservation reservation;
        atomic_store(&waiter->tid, (int)syscall(SYS_gettid));
        /* Nothing that could sleep is between here and the call: who sees this thread asleep knows that it is inside. */
        switch (waiter->what) {
        case WAIT_GET:
                waiter->result = brood_queue_get(waiter->queue, &byte, 1, waiter->timeout);
                break;
        case WAIT_GET_MANY:
                waiter->result = brood_queue_get_many(waiter->queue, &message, 1, waiter->timeout);
                break;
        case WAIT_PEEK:
                waiter->result = brood_queue_peek(waiter->queue, &view, waiter->timeout);
                break;
        case WAIT_LEASE:
                waiter->result = brood_queue_lease(waiter->queue, &lease, waiter->timeout);
                break;
        case WAIT_PUT:
                waiter->result = brood_queue_put(waiter->queue, &byte, 1, waiter->timeout);
                break;
        case WAIT_PUT_MANY:
                waiter->result = brood_queue_put_many(waiter->queue, &message, 1, waiter->timeout);
                break;
        case WAIT_RESERVE:
                waiter->result = brood_queue_reserve(waiter->queue, &reservation, 1, waiter->timeout);
                break;
        case WAIT_JOIN:
                waiter->result = brood_queue_join(waiter->queue, waiter->timeout);
                break;
        default:
                return 1;
        }
        return 0;
}

static void waiters_start(struct waiter *waiters, int count, brood_queue *q, enum waiting first, enum waiting last)
{
        for (int i = 0; i < count; i++) {
                waiters[i] = (struct waiter){ .queue = q,
                                              .what = first + (enum waiting)(i % (last - first + 1)),
                                              .timeout = i % 2 ? BROOD_FOREVER : 4 * LIMIT_MS,
                                              .result = 1 };
                check_thread_start(&waiters[i].thread, wait_in_call, &waiters[i]);
        }
        for (int i = 0; i < count; i++) {
                assert_true(check_reaches(&waiters[i].tid, 1, CHECK_HANG_MS));
                assert_true(check_asleep((pid_t)atomic_load(&waiters[i].tid)));
        }
}

static void waiters_end(struct waiter *waiters, int count, ssize_t wanted)
{
        for (int i = 0; i < count; i++) {
                assert_int_equal(check_thread_join(&waiters[i].thread), 0);
                if (waiters[i].result != wanted)
                        print_message("the waiter in call %d got %zd\n", waiters[i].what, waiters[i].result);
                assert_int_equal(waiters[i].result, wanted);
        }
}

/* A queue that is full: of what is there, nothing moves. */
static brood_queue *make_full(void)
{
        brood_queue *q = make(&(brood_queue_options){ .maxsize = 2, .message_size = 16 });
        assert_int_equal(brood_queue_put_nowait(q, "a", 1), 0);
        assert_int_equal(brood_queue_put_nowait(q, "b", 1), 0);
        return q;
}

static void test_close_wakes_all(void **state)
{
        (void)state;
        static struct waiter waiters[8];
        char byte;
        brood_queue *q = make(&(brood_queue_options){ .maxsize = 2, .message_size = 16 });
        waiters_start(waiters, 8, q, WAIT_GET, WAIT_LEASE);
        int64_t start = support_now_ms();
        assert_int_equal(brood_queue_close(q), 0);
        waiters_end(waiters, 8, -EPIPE);
        assert_true(support_now_ms() - start < LIMIT_MS);
        require_empty_and_closed(q);
        brood_queue_free(q);

        q = make_full();
        waiters_start(waiters, 6, q, WAIT_PUT, WAIT_RESERVE);
        waiters_start(waiters + 6, 2, q, WAIT_JOIN, WAIT_JOIN);
        assert_int_equal(brood_queue_close(q), 0);
        waiters_end(waiters, 6, -EPIPE);
        /* What was there can still be taken; and who joins waits for that. */
        assert_int_equal(brood_queue_get_nowait(q, &byte, 1), 1);
        assert_int_equal(brood_queue_get_nowait(q, &byte, 1), 1);
        assert_int_equal(byte, 'b');
        waiters_end(waiters + 6, 2, 0);
        require_empty_and_closed(q);
        brood_queue_free(q);
}

static void test_free_cancels_all(void **state)
{
        (void)state;
        static struct waiter waiters[8];
        char byte;
        for (int round = 0; round < support_rounds(5); round++) {
                brood_queue *q = make(&(brood_queue_options){ .maxsize = 2, .message_size = 16 }), *other = attach(q);
                waiters_start(waiters, 8, q, WAIT_GET, WAIT_LEASE);
                brood_queue_free(q);
                waiters_end(waiters, 8, -ECANCELED);
                /* The queue is as it was for the others: not closed, nothing taken. */
                assert_int_equal(brood_queue_put_nowait(other, "c", 1), 0);
                assert_int_equal(brood_queue_get_nowait(other, &byte, 1), 1);
                brood_queue_free(other);

                q = make_full();
                other = attach(q);
                waiters_start(waiters, 8, q, WAIT_PUT, WAIT_JOIN);
                brood_queue_free(q);
                waiters_end(waiters, 8, -ECANCELED);
                assert_int_equal(brood_queue_qsize(other), 2);
                assert_int_equal(brood_queue_get_nowait(other, &byte, 1), 1);
                assert_int_equal(byte, 'a');
                brood_queue_free(other);
        }
}

/* Those who wait through another handle are not concerned. */
static void test_free_cancels_only_its_own(void **state)
{
        (void)state;
        static struct waiter here[2], there[2];
        brood_queue *q = make(&(brood_queue_options){ .maxsize = 2, .message_size = 16 }), *other = attach(q);
        waiters_start(here, 2, q, WAIT_GET, WAIT_GET_MANY);
        waiters_start(there, 2, other, WAIT_GET, WAIT_GET_MANY);
        brood_queue_free(q);
        waiters_end(here, 2, -ECANCELED);
        assert_int_equal(brood_queue_put_nowait(other, "x", 1), 0);
        assert_int_equal(brood_queue_put_nowait(other, "y", 1), 0);
        waiters_end(there, 2, 1);
        brood_queue_free(other);
}

/* What a handle holds when it is freed goes back, whichever thread took it. */
static int hold_two(void *arg)
{
        brood_queue *q = arg;
        brood_lease lease;
        brood_view view;
        require_int(brood_queue_lease(q, &lease, LIMIT_MS), 0);
        require_int(brood_queue_peek(q, &view, LIMIT_MS), 0);
        return 0;
}

static void test_free_gives_back_what_threads_hold(void **state)
{
        (void)state;
        static struct check_thread threads[2];
        brood_queue *q = make(&(brood_queue_options){ .maxsize = 8, .message_size = 16 }), *other = attach(q);
        brood_reservation reservation;
        bool seen[4] = { false };
        for (char i = 0; i < 4; i++)
                assert_int_equal(brood_queue_put_nowait(q, &i, 1), 0);
        for (int i = 0; i < 2; i++)
                check_thread_start(&threads[i], hold_two, q);
        for (int i = 0; i < 2; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        assert_int_equal(brood_queue_reserve(q, &reservation, 1, 0), 0);
        assert_int_equal(brood_queue_qsize(other), 0);
        brood_queue_free(q);
        assert_int_equal(brood_queue_qsize(other), 4);
        for (int i = 0; i < 4; i++) {
                char byte = 99;
                assert_int_equal(brood_queue_get_nowait(other, &byte, 1), 1);
                assert_true(byte >= 0 && byte < 4 && !seen[(int)byte]);
                seen[(int)byte] = true;
        }
        /* The place that was reserved holds nobody up. */
        assert_int_equal(brood_queue_put_nowait(other, "z", 1), 0);
        assert_int_equal(brood_queue_qsize(other), 1);
        brood_queue_free(other);
}

/* ---- handles that come and go, and event loops ---- */

static int come_and_go(void *arg)
{
        struct user *user = arg;
        int descriptors[BROOD_QUEUE_DESCRIPTORS];
        struct record record;
        require_int(brood_queue_descriptors(user->queue, descriptors), 0);
        brood_queue *shared = user->queue;
        for (uint32_t i = 0; i < (uint32_t)user->books->messages; i++) {
                require_int(brood_queue_attach(&user->queue, descriptors), 0);
                size_t size = record_make(&record, user->id, i);
                require_int(brood_queue_put(user->queue, &record, size, LIMIT_MS), 0);
                /* One for each that was put: there is one for us. */
                require_int(take_copy(user), 1);
                brood_queue_free(user->queue);
        }
        user->queue = shared;
        return 0;
}

static void test_handles_come_and_go(void **state)
{
        (void)state;
        struct books *books = books_new(100);
        brood_queue *q = make(&(brood_queue_options){ .maxsize = 2, .message_size = MESSAGE_SIZE });
        for (uint32_t i = 0; i < PRODUCERS; i++) {
                books->producers[i] = (struct user){ .queue = q, .books = books, .id = i };
                check_thread_start(&books->producers[i].thread, come_and_go, &books->producers[i]);
        }
        for (int i = 0; i < PRODUCERS; i++)
                assert_int_equal(check_thread_join(&books->producers[i].thread), 0);
        balance(books, PRODUCERS);
        assert_int_equal(brood_queue_qsize(q), 0);
        brood_queue_free(q);
        free(books);
}

static int consume_by_poll(void *arg)
{
        struct user *user = arg;
        struct pollfd event = { .fd = brood_queue_fileno(user->queue), .events = POLLIN };
        struct record record;
        require(event.fd >= 0);
        for (;;) {
                require_int(poll(&event, 1, LIMIT_MS), 1);
                require(event.revents & POLLIN);
                ssize_t n;
                while ((n = brood_queue_get_nowait(user->queue, &record, sizeof record)) >= 0)
                        enter(user, &record, (size_t)n);
                if (n == -EPIPE)
                        return 0;
                require_int(n, -EAGAIN);
        }
}

static void test_event_loops(void **state)
{
        (void)state;
        enum { PUTTING = 2, POLLING = 2 };
        static const size_t maxsizes[] = { 1, 4, 0 };
        for (size_t m = 0; m < array_length(maxsizes); m++) {
                struct books *books = books_new(MESSAGES);
                brood_queue *q = make(&(brood_queue_options){ .maxsize = maxsizes[m], .message_size = MESSAGE_SIZE });
                for (uint32_t i = 0; i < POLLING; i++) {
                        books->consumers[i] = (struct user){ .queue = q, .books = books };
                        check_thread_start(&books->consumers[i].thread, consume_by_poll, &books->consumers[i]);
                }
                for (uint32_t i = 0; i < PUTTING; i++) {
                        books->producers[i] =
                            (struct user){ .queue = q, .books = books, .id = i, .way = i ? PUT_MANY : PUT };
                        check_thread_start(&books->producers[i].thread, produce, &books->producers[i]);
                }
                for (int i = 0; i < PUTTING; i++)
                        assert_int_equal(check_thread_join(&books->producers[i].thread), 0);
                assert_int_equal(brood_queue_join(q, LIMIT_MS), 0);
                assert_int_equal(brood_queue_close(q), 0);
                for (int i = 0; i < POLLING; i++)
                        assert_int_equal(check_thread_join(&books->consumers[i].thread), 0);
                balance(books, PUTTING);
                require_empty_and_closed(q);
                brood_queue_free(q);
                free(books);
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_all_ways_at_once),
                support_test(test_messages_that_are_put_back),
                support_test(test_two_handles),
                support_test(test_tasks),
                support_test(test_done_before_it_is_got),
                support_test(test_dead_letters),
                support_test(test_close_wakes_all),
                support_test(test_free_cancels_all),
                support_test(test_free_cancels_only_its_own),
                support_test(test_free_gives_back_what_threads_hold),
                support_test(test_handles_come_and_go),
                support_test(test_event_loops),
        };
        return support_main(argc, argv, "queue_threads", tests, array_length(tests), 90);
}
