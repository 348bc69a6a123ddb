/* SPDX-License-Identifier: MIT
 *
 * queue.h: the figures of a queue, as loops that are the same for every peer.
 *
 *     1x1, 4x4           producers x consumers of 64-byte messages through one queue that holds 1,024; messages a second
 *     cpu                the same as 1x1; CPU time of both processes for each message, in ns
 *     4x4-share          4x4 for a fixed time (--count is in ms): the most that one of the producers, or of the consumers, did in
 *                        that time, divided by the least; the worse of the two
 *     round-trip         one message there and one back over two queues, hot, on two CPUs, in us
 *     round-trip-asleep  one way, to somebody who has gone to sleep, on two CPUs: the median, in us
 *     64KiB-copy         1x1 of 64 KiB, through a queue that holds 16; GB/s
 *     1MiB-in-place      1x1 of 1 MiB, through a queue that holds 16; GB/s
 *
 * A peer is a put and a get (and how its queue is made and ended).  A put hands over one message and a get takes one, for every
 * peer: nobody batches, but for the figure that is about batches.  The processes are the same plain forks for every peer.  Each
 * consumer takes its fixed share, so that nobody needs a message that says "the end"; only where the time is fixed it does.
 *
 * The books: each message carries its number and words made from it; a consumer checks each message against itself and
 * adds up the numbers, and the sums of all consumers must be the sum of all producers.  In messages larger than a page, one word
 * a page is written and checked, so that the figure is about the queue and not about the checking.
 *
 * C and C++.
 */
#ifndef BENCH_QUEUE_H
#define BENCH_QUEUE_H

#include "bench.h"

#define MESSAGE_SMALL 64u
#define MESSAGE_LARGEST (1u << 20)
#define MESSAGE_PAGE 4096u
#define DEPTH_SMALL 1024u
#define DEPTH_LARGE 16u
#define ROLES_MAX 8
#define ASLEEP_WAIT_NS 200000u
#define NUMBER_END UINT64_MAX

/* What the processes of one run share; each writes only its own row, and the program itself writes `stop`. */
struct books {
        struct bench_line start, finish;
        alignas(BENCH_CACHE_PAIR) uint32_t stop;
        struct {
                alignas(BENCH_CACHE_PAIR) uint64_t began, ended, cpu, sum, count;
        } role[ROLES_MAX];
};

typedef void *(*make_function)(size_t depth, size_t size);
typedef void (*end_function)(void *queue);
typedef void (*put_function)(void *queue, const void *message, size_t size);
typedef void (*get_function)(void *queue, void *message, size_t size);

/* What a child does before it ends, if a peer needs that: threads that still have messages to send, say.  A peer may throw away
 * what has not been received when its sender leaves; so nobody leaves before all have finished. */
static void (*role_leave)(void);

/* Peers that need nothing of the kind do not wait: who is finished would take time from those who are not. */
static inline void role_finish(struct bench_line *finish, uint32_t parties)
{
        if (role_leave)
                bench_line_wait(finish, parties);
}

__attribute__((noreturn)) static inline void role_end(struct bench_line *finish, uint32_t parties)
{
        role_finish(finish, parties);
        if (role_leave)
                role_leave();
        _exit(0);
}

/* Every process that needs room for a large message has this one to itself, after the fork. */
alignas(BENCH_CACHE_PAIR) static uint64_t large_message[MESSAGE_LARGEST / sizeof(uint64_t)];

EACH_PEER uint64_t message_step(size_t size)
{
        return size > MESSAGE_PAGE ? MESSAGE_PAGE / sizeof(uint64_t) : 1;
}

EACH_PEER void message_write(uint64_t *word, size_t size, uint64_t number)
{
        for (uint64_t i = 0; i < size / sizeof *word; i += message_step(size))
                word[i] = number + i;
}

EACH_PEER uint64_t message_read(const uint64_t *word, size_t size)
{
        uint64_t wrong = 0;

        for (uint64_t i = message_step(size); i < size / sizeof *word; i += message_step(size))
                wrong |= word[i] ^ (word[0] + i);
        if (__builtin_expect(wrong != 0, 0))
                bench_die("message %" PRIu64 " is torn", word[0]);
        return word[0];
}

/* The numbers of producer p are its own: first = p << 32. */
EACH_PEER void produce(void *queue, put_function put, size_t size, uint64_t first, uint64_t count)
{
        uint64_t small[MESSAGE_SMALL / sizeof(uint64_t)], *m = size > sizeof small ? large_message : small;

        for (uint64_t i = 0; i < count; i++) {
                message_write(m, size, first + i);
                put(queue, m, size);
        }
}

EACH_PEER uint64_t consume(void *queue, get_function get, size_t size, uint64_t count)
{
        uint64_t small[MESSAGE_SMALL / sizeof(uint64_t)], *m = size > sizeof small ? large_message : small;
        uint64_t sum = 0;

        for (uint64_t i = 0; i < count; i++) {
                get(queue, m, size);
                sum += message_read(m, size);
        }
        return sum;
}

struct streamed {
        double rate; /* messages a second */
        double cpu;  /* ns a message, all processes together */
};

/* `pairs` producers and as many consumers, each with its share of `count`, warmed up before the start line. */
EACH_PEER struct streamed stream(void *queue, put_function put, get_function get, size_t size, uint32_t pairs,
                                 uint64_t count)
{
        struct books *books = (struct books *)bench_shared(sizeof *books);
        uint64_t share = (count + pairs - 1) / pairs, warm = bench_warmup(share), began = UINT64_MAX, ended = 0;
        uint64_t expected = 0, sum = 0, cpu = 0;
        pid_t pid[ROLES_MAX];

        for (uint32_t i = 0; i < 2 * pairs; i++) {
                pid[i] = bench_fork();
                if (pid[i] > 0)
                        continue;

                uint64_t mine = 0, cpu_began;

                if (i < pairs)
                        produce(queue, put, size, (uint64_t)i << 32, warm);
                else
                        consume(queue, get, size, warm);
                bench_line_wait(&books->start, 2 * pairs);
                cpu_began = bench_cpu_ns();
                books->role[i].began = bench_now_ns();
                if (i < pairs)
                        produce(queue, put, size, (uint64_t)i << 32, share);
                else
                        mine = consume(queue, get, size, share);
                books->role[i].ended = bench_now_ns();
                books->role[i].cpu = bench_cpu_ns() - cpu_began;
                books->role[i].sum = mine;
                role_end(&books->finish, 2 * pairs);
        }
        for (uint32_t i = 0; i < 2 * pairs; i++)
                bench_reap(pid[i]);

        for (uint32_t i = 0; i < 2 * pairs; i++) {
                if (books->role[i].began < began)
                        began = books->role[i].began;
                if (books->role[i].ended > ended)
                        ended = books->role[i].ended;
                sum += books->role[i].sum;
                cpu += books->role[i].cpu;
                if (i < pairs)
                        expected += ((uint64_t)i << 32) * share + share * (share - 1) / 2;
        }
        if (sum != expected)
                bench_die("the consumers' sum is %" PRIu64 " instead of %" PRIu64, sum, expected);

        struct streamed streamed = { (double)(share * pairs) * 1e9 / (double)(ended - began),
                                     (double)cpu / (double)(share * pairs) };

        return streamed;
}

static inline bool books_stopped(struct books *books)
{
        return __atomic_load_n(&books->stop, __ATOMIC_RELAXED) != 0;
}

/* The most over the least of rows first..first + n.  One more for each: who did nothing at all has a large share less. */
static inline double books_share(const struct books *books, uint32_t first, uint32_t n)
{
        uint64_t most = 0, least = UINT64_MAX;

        for (uint32_t i = first; i < first + n; i++) {
                if (books->role[i].count > most)
                        most = books->role[i].count;
                if (books->role[i].count < least)
                        least = books->role[i].count;
        }
        return (double)(most + 1) / (double)(least + 1);
}

/* Everybody works until told to stop, and what it did by then counts.  What is in the queue at that time is taken out uncounted;
 * behind it comes one message for each consumer that says so. */
EACH_PEER double share_of_time(void *queue, put_function put, get_function get, uint32_t pairs, uint64_t ms)
{
        struct books *books = (struct books *)bench_shared(sizeof *books);
        uint64_t m[MESSAGE_SMALL / sizeof(uint64_t)], put_sum = 0, got_sum = 0;
        pid_t pid[ROLES_MAX];

        for (uint32_t i = 0; i < 2 * pairs; i++) {
                pid[i] = bench_fork();
                if (pid[i] > 0)
                        continue;

                uint64_t number, sum = 0, count = 0;

                bench_line_wait(&books->start, 2 * pairs + 1);
                if (i < pairs) {
                        for (number = (uint64_t)i << 32; !books_stopped(books); number++) {
                                message_write(m, sizeof m, number);
                                put(queue, m, sizeof m);
                                sum += number;
                                count++;
                        }
                } else {
                        for (;;) {
                                get(queue, m, sizeof m);
                                number = message_read(m, sizeof m);
                                if (number == NUMBER_END)
                                        break;
                                sum += number;
                                if (!books_stopped(books))
                                        count++;
                        }
                }
                books->role[i].sum = sum;
                books->role[i].count = count;
                _exit(0); /* no peer of this figure has anything to do before it leaves */
        }
        bench_line_wait(&books->start, 2 * pairs + 1);
        bench_sleep_ns(ms * 1000000u);
        __atomic_store_n(&books->stop, 1, __ATOMIC_RELAXED);
        for (uint32_t i = 0; i < pairs; i++)
                bench_reap(pid[i]);
        for (uint32_t i = 0; i < pairs; i++) {
                message_write(m, sizeof m, NUMBER_END);
                put(queue, m, sizeof m);
        }
        for (uint32_t i = pairs; i < 2 * pairs; i++)
                bench_reap(pid[i]);

        for (uint32_t i = 0; i < pairs; i++) {
                put_sum += books->role[i].sum;
                got_sum += books->role[pairs + i].sum;
        }
        if (put_sum != got_sum)
                bench_die("the consumers' sum is %" PRIu64 " instead of %" PRIu64, got_sum, put_sum);

        double producers = books_share(books, 0, pairs), consumers = books_share(books, pairs, pairs);

        return producers > consumers ? producers : consumers;
}

EACH_PEER double round_trip(void *there, void *back, put_function put, get_function get, uint64_t count)
{
        uint64_t m[MESSAGE_SMALL / sizeof(uint64_t)], warm = bench_warmup(count), began = 0;
        struct bench_line *finish = (struct bench_line *)bench_shared(sizeof *finish);
        pid_t pid = bench_fork();

        bench_pin(pid == 0);
        if (pid == 0) {
                for (uint64_t i = 0; i < warm + count; i++) {
                        get(there, m, sizeof m);
                        put(back, m, sizeof m);
                }
                role_end(finish, 2);
        }
        for (uint64_t i = 0; i < warm + count; i++) {
                if (i == warm)
                        began = bench_now_ns();
                message_write(m, sizeof m, i);
                put(there, m, sizeof m);
                get(back, m, sizeof m);
                if (message_read(m, sizeof m) != i)
                        bench_die("message %" PRIu64 " came back for %" PRIu64, m[0], i);
        }

        double us = (double)(bench_now_ns() - began) / 1e3 / (double)count;

        role_finish(finish, 2);
        bench_reap(pid);
        return us;
}

static inline int compare_numbers(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

/* Send the time, after the other side has been waiting for it long enough to be asleep however long it looks first. */
EACH_PEER void asleep_send(void *queue, put_function put)
{
        uint64_t m[MESSAGE_SMALL / sizeof(uint64_t)];

        bench_sleep_ns(ASLEEP_WAIT_NS);
        message_write(m, sizeof m, bench_now_ns());
        put(queue, m, sizeof m);
}

/* How long ago it was sent. */
EACH_PEER uint64_t asleep_receive(void *queue, get_function get)
{
        uint64_t m[MESSAGE_SMALL / sizeof(uint64_t)];

        get(queue, m, sizeof m);
        return bench_now_ns() - message_read(m, sizeof m);
}

/* The time of one way, of which there are two a round.  The clock is the same one in both processes. */
EACH_PEER double round_trip_asleep(void *there, void *back, put_function put, get_function get, uint64_t count)
{
        uint64_t *ns = (uint64_t *)bench_shared(2 * count * sizeof *ns), warm = bench_warmup(count), took;
        struct bench_line *finish = (struct bench_line *)bench_shared(sizeof *finish);
        pid_t pid = bench_fork();

        bench_pin(pid == 0);
        for (uint64_t i = 0; i < warm + count; i++) {
                if (pid == 0) {
                        took = asleep_receive(there, get);
                        asleep_send(back, put);
                } else {
                        asleep_send(there, put);
                        took = asleep_receive(back, get);
                }
                if (i >= warm)
                        ns[2 * (i - warm) + (pid == 0)] = took;
        }
        if (pid == 0)
                role_end(finish, 2);
        role_finish(finish, 2);
        bench_reap(pid);
        qsort(ns, 2 * count, sizeof *ns, compare_numbers);
        return (double)(ns[count - 1] + ns[count]) / 2e3;
}

/* One figure of one peer, from its queues' making to the line of output.  `largest` is the largest message that the peer can
 * carry; a figure of larger ones does not exist for it. */
EACH_PEER void measure(const struct bench_options *o, size_t largest, make_function make, end_function end,
                       put_function put, get_function get)
{
        bool large = !strcmp(o->figure, "64KiB-copy"), huge = !strcmp(o->figure, "1MiB-in-place");
        size_t size = huge ? MESSAGE_LARGEST : large ? 65536 : MESSAGE_SMALL;
        size_t depth = size > MESSAGE_SMALL ? DEPTH_LARGE : DEPTH_SMALL;
        const char *unit = "us";
        bool trips = !strncmp(o->figure, "round-trip", 10);
        void *there, *back = NULL;
        double value;

        if (size > largest)
                bench_options_unknown(o, "of this peer, those of small messages");
        there = make(depth, size);
        if (trips)
                back = make(depth, size);
        if (!strcmp(o->figure, "1x1") || !strcmp(o->figure, "4x4")) {
                value = stream(there, put, get, MESSAGE_SMALL, o->figure[0] == '1' ? 1 : 4, o->count).rate;
                unit = "msg/s";
        } else if (!strcmp(o->figure, "cpu")) {
                value = stream(there, put, get, MESSAGE_SMALL, 1, o->count).cpu;
                unit = "ns";
        } else if (large) {
                value = stream(there, put, get, 65536, 1, o->count).rate * 65536 / 1e9;
                unit = "GB/s";
        } else if (huge) {
                value = stream(there, put, get, MESSAGE_LARGEST, 1, o->count).rate * MESSAGE_LARGEST / 1e9;
                unit = "GB/s";
        } else if (!strcmp(o->figure, "4x4-share")) {
                value = share_of_time(there, put, get, 4, o->count);
                unit = "times";
        } else if (!strcmp(o->figure, "round-trip")) {
                value = round_trip(there, back, put, get, o->count);
        } else if (!strcmp(o->figure, "round-trip-asleep")) {
                value = round_trip_asleep(there, back, put, get, o->count);
        } else {
                bench_options_unknown(
                    o, "1x1, 4x4, cpu, 4x4-share, round-trip, round-trip-asleep, 64KiB-copy, 1MiB-in-place");
        }
        end(there);
        if (back)
                end(back);
        bench_report("queue", o, value, unit);
}

#endif
