/* SPDX-License-Identifier: MIT
 *
 * queue.c: messages of 64 bytes between processes.
 *
 *     1x1, 4x4     producers x consumers, messages a second, through one queue that holds 1,024 messages
 *     round-trip   one message there and one back over two queues, hot, in us
 *
 *     brood   brood_queue
 *     ring    unsafe_ring.h: what shared memory allows to those who promise nothing
 *     pipe    pipe(2), of 64 KiB, which is 1,024 messages too; a write and a read a message
 *
 * A put hands over one message and a get takes one, for every peer: nobody batches.  The processes are the same plain
 * forks for every peer.  Each consumer takes its fixed share, so that nobody needs a message that says "the end".
 *
 * The books: each message carries its number and words made from it; a consumer checks each message against itself and
 * adds up the numbers, and the sums of all consumers must be the sum of all producers.
 */
#include "bench.h"
#include "unsafe_ring.h"

#include <brood/queue.h>

#define MESSAGE_WORDS 8
#define DEPTH 1024
#define ROLES_MAX 8

struct message {
        uint64_t word[MESSAGE_WORDS];
};

static_assert(sizeof(struct message) == RING_MESSAGE, "all peers carry the same message");
static_assert(RING_SLOTS == DEPTH, "all peers hold the same number of messages");

/* What the processes of one run share; each writes only its own row. */
struct books {
        struct bench_line start;
        struct {
                _Alignas(BENCH_CACHE_PAIR) uint64_t began, ended, sum;
        } role[ROLES_MAX];
};

typedef void (*put_function)(void *queue, const struct message *m);
typedef void (*get_function)(void *queue, struct message *m);

/* The loops are inlined into each peer's own copy with its put and get known, so that no peer pays for an indirect call. */
#define EACH_PEER static inline __attribute__((always_inline))

EACH_PEER void message_write(struct message *m, uint64_t number)
{
        for (uint64_t i = 0; i < MESSAGE_WORDS; i++)
                m->word[i] = number + i;
}

EACH_PEER uint64_t message_read(const struct message *m)
{
        uint64_t wrong = 0;

        for (uint64_t i = 1; i < MESSAGE_WORDS; i++)
                wrong |= m->word[i] ^ (m->word[0] + i);
        if (__builtin_expect(wrong != 0, 0))
                bench_die("message %" PRIu64 " is torn", m->word[0]);
        return m->word[0];
}

/* The numbers of producer p are its own: first = p << 32. */
EACH_PEER void produce(void *queue, put_function put, uint64_t first, uint64_t count)
{
        struct message m;

        for (uint64_t i = 0; i < count; i++) {
                message_write(&m, first + i);
                put(queue, &m);
        }
}

EACH_PEER uint64_t consume(void *queue, get_function get, uint64_t count)
{
        struct message m;
        uint64_t sum = 0;

        for (uint64_t i = 0; i < count; i++) {
                get(queue, &m);
                sum += message_read(&m);
        }
        return sum;
}

/* `pairs` producers and as many consumers, each with its share of `count`, warmed up before the start line. */
EACH_PEER double stream(void *queue, put_function put, get_function get, uint32_t pairs, uint64_t count)
{
        struct books *books = bench_shared(sizeof *books);
        uint64_t share = (count + pairs - 1) / pairs, warm = bench_warmup(share), began = UINT64_MAX, ended = 0;
        uint64_t expected = 0, sum = 0;
        pid_t pid[ROLES_MAX];

        for (uint32_t i = 0; i < 2 * pairs; i++) {
                pid[i] = bench_fork();
                if (pid[i] > 0)
                        continue;

                uint64_t mine = 0;

                if (i < pairs)
                        produce(queue, put, (uint64_t)i << 32, warm);
                else
                        consume(queue, get, warm);
                bench_line_wait(&books->start, 2 * pairs);
                books->role[i].began = bench_now_ns();
                if (i < pairs)
                        produce(queue, put, (uint64_t)i << 32, share);
                else
                        mine = consume(queue, get, share);
                books->role[i].ended = bench_now_ns();
                books->role[i].sum = mine;
                _exit(0);
        }
        for (uint32_t i = 0; i < 2 * pairs; i++)
                bench_reap(pid[i]);

        for (uint32_t i = 0; i < 2 * pairs; i++) {
                if (books->role[i].began < began)
                        began = books->role[i].began;
                if (books->role[i].ended > ended)
                        ended = books->role[i].ended;
                sum += books->role[i].sum;
                if (i < pairs)
                        expected += ((uint64_t)i << 32) * share + share * (share - 1) / 2;
        }
        if (sum != expected)
                bench_die("the consumers' sum is %" PRIu64 " instead of %" PRIu64, sum, expected);
        return (double)(share * pairs) * 1e9 / (double)(ended - began);
}

EACH_PEER double round_trip(void *there, void *back, put_function put, get_function get, uint64_t count)
{
        uint64_t warm = bench_warmup(count), began = 0;
        struct message m;
        pid_t pid = bench_fork();

        if (pid == 0) {
                for (uint64_t i = 0; i < warm + count; i++) {
                        get(there, &m);
                        put(back, &m);
                }
                _exit(0);
        }
        for (uint64_t i = 0; i < warm + count; i++) {
                if (i == warm)
                        began = bench_now_ns();
                message_write(&m, i);
                put(there, &m);
                get(back, &m);
                if (message_read(&m) != i)
                        bench_die("message %" PRIu64 " came back for %" PRIu64, m.word[0], i);
        }

        double us = (double)(bench_now_ns() - began) / 1e3 / (double)count;

        bench_reap(pid);
        return us;
}

/* brood */

static void *brood_make(void)
{
        brood_queue *q;
        int r = brood_queue_new(&q, &(brood_queue_options){ .maxsize = DEPTH, .message_size = RING_MESSAGE });

        if (r < 0)
                bench_die("brood_queue_new: %s", brood_strerror(r));
        return q;
}

EACH_PEER void brood_put(void *queue, const struct message *m)
{
        int r = brood_queue_put(queue, m, sizeof *m, BROOD_FOREVER);

        if (r < 0)
                bench_die("brood_queue_put: %s", brood_strerror(r));
}

EACH_PEER void brood_get(void *queue, struct message *m)
{
        ssize_t n = brood_queue_get(queue, m, sizeof *m, BROOD_FOREVER);

        if (n != (ssize_t)sizeof *m)
                bench_die("brood_queue_get: %s", n < 0 ? brood_strerror((int)n) : "a message of another size");
}

/* ring */

EACH_PEER void ring_put(void *queue, const struct message *m)
{
        unsafe_ring_put(queue, m);
}

EACH_PEER void ring_get(void *queue, struct message *m)
{
        unsafe_ring_get(queue, m);
}

/* pipe: a read and a write of 64 bytes are whole, because all are of that size and it divides the page size. */

static void *pipe_make(void)
{
        int *fd = malloc(2 * sizeof *fd);

        if (!fd || pipe2(fd, O_CLOEXEC) < 0)
                bench_die("pipe: %s", strerror(errno));
        return fd;
}

EACH_PEER void pipe_put(void *queue, const struct message *m)
{
        ssize_t n = write(((int *)queue)[1], m, sizeof *m);

        if (n != (ssize_t)sizeof *m)
                bench_die("write: %s", n < 0 ? strerror(errno) : "a part of a message");
}

EACH_PEER void pipe_get(void *queue, struct message *m)
{
        ssize_t n = read(((int *)queue)[0], m, sizeof *m);

        if (n != (ssize_t)sizeof *m)
                bench_die("read: %s", n < 0 ? strerror(errno) : "a part of a message");
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        uint32_t pairs = !strcmp(o.figure, "1x1") ? 1 : !strcmp(o.figure, "4x4") ? 4 : 0;
        const char *known = "1x1, 4x4, round-trip of brood, ring, pipe";
        double value = 0;

        if (!pairs && strcmp(o.figure, "round-trip"))
                bench_options_unknown(&o, known);
        if (!strcmp(o.peer, "brood")) {
                brood_queue *there = brood_make(), *back = brood_make();

                value = pairs ? stream(there, brood_put, brood_get, pairs, o.count)
                              : round_trip(there, back, brood_put, brood_get, o.count);
                if (brood_queue_qsize(there) != 0 || brood_queue_qsize(back) != 0)
                        bench_die("a message is left in a queue");
                brood_queue_free(there);
                brood_queue_free(back);
        } else if (!strcmp(o.peer, "ring")) {
                struct unsafe_ring *there = unsafe_ring_new(), *back = unsafe_ring_new();

                value = pairs ? stream(there, ring_put, ring_get, pairs, o.count)
                              : round_trip(there, back, ring_put, ring_get, o.count);
        } else if (!strcmp(o.peer, "pipe")) {
                int *there = pipe_make(), *back = pipe_make();

                value = pairs ? stream(there, pipe_put, pipe_get, pairs, o.count)
                              : round_trip(there, back, pipe_put, pipe_get, o.count);
                free(there);
                free(back);
        } else {
                bench_options_unknown(&o, known);
        }
        bench_report("queue", &o, value, pairs ? "msg/s" : "us");
        return 0;
}
