/* SPDX-License-Identifier: MIT
 *
 * queue.c: brood's queue, and the two rings in shared memory that stand on either side of what it promises.
 *
 *     brood    brood_queue
 *     ring     unsafe_ring.h: what shared memory allows to those who promise nothing
 *     robust   robust_ring.h: what robust mutexes make of it
 *
 * And one figure of brood beside itself:
 *
 *     batch    messages a second of 1x1 in batches of 32: brood with one call for each batch, "single" with one for each message
 */
#include "queue.h"
#include "queue_brood.h"
#include "robust_ring.h"
#include "unsafe_ring.h"

#define BATCH 32u

static_assert(MESSAGE_SMALL == RING_MESSAGE && MESSAGE_SMALL == ROBUST_RING_MESSAGE,
              "all peers carry the same message");
static_assert(DEPTH_SMALL == RING_SLOTS && DEPTH_SMALL == ROBUST_RING_SLOTS,
              "all peers hold the same number of messages");

/* brood in batches: for the loops, a batch is one message of 32 times the size, written by the producer as a whole and checked
 * as a whole. */

EACH_PEER void batch_vector(struct iovec vector[BATCH], unsigned char *messages)
{
        for (unsigned i = 0; i < BATCH; i++)
                vector[i] = (struct iovec){ messages + (size_t)i * MESSAGE_SMALL, MESSAGE_SMALL };
}

EACH_PEER void batch_put(void *queue, const void *messages, size_t size)
{
        struct iovec vector[BATCH];
        ssize_t n;

        assert(size == (size_t)BATCH * MESSAGE_SMALL);
        (void)size;
        batch_vector(vector, (unsigned char *)messages);
        n = brood_queue_put_many(queue, vector, BATCH, BROOD_FOREVER);
        if (n != BATCH)
                bench_die("brood_queue_put_many: %s", n < 0 ? brood_strerror((int)n) : "only a part was put");
}

/* A get takes what is there, which may be less than a batch. */
EACH_PEER void batch_get(void *queue, void *messages, size_t size)
{
        struct iovec vector[BATCH];

        assert(size == (size_t)BATCH * MESSAGE_SMALL);
        (void)size;
        batch_vector(vector, messages);
        for (size_t had = 0; had < BATCH;) {
                ssize_t n = brood_queue_get_many(queue, vector + had, BATCH - had, BROOD_FOREVER);

                if (n <= 0)
                        bench_die("brood_queue_get_many: %s", n < 0 ? brood_strerror((int)n) : "nothing");
                for (ssize_t i = 0; i < n; i++) {
                        if (vector[had++].iov_len != MESSAGE_SMALL)
                                bench_die("brood_queue_get_many: a message of another size");
                }
        }
}

EACH_PEER void single_put(void *queue, const void *messages, size_t size)
{
        for (size_t at = 0; at < size; at += MESSAGE_SMALL)
                brood_put(queue, (const unsigned char *)messages + at, MESSAGE_SMALL);
}

EACH_PEER void single_get(void *queue, void *messages, size_t size)
{
        for (size_t at = 0; at < size; at += MESSAGE_SMALL)
                brood_get(queue, (unsigned char *)messages + at, MESSAGE_SMALL);
}

static void measure_batch(const struct bench_options *o, bool many)
{
        const size_t size = (size_t)BATCH * MESSAGE_SMALL;
        uint64_t batches = (o->count + BATCH - 1) / BATCH;
        void *queue = brood_make(DEPTH_SMALL, MESSAGE_SMALL);
        struct streamed streamed = many ? stream(queue, batch_put, batch_get, size, 1, batches)
                                        : stream(queue, single_put, single_get, size, 1, batches);

        brood_end(queue);
        bench_report("queue", o, streamed.rate * BATCH, "msg/s");
}

/* The rings: of one size and depth, which are those that all peers have. */

static void ring_end(void *ring)
{
        (void)ring; /* ends with the program */
}

static void *ring_make(size_t depth, size_t size)
{
        assert(depth == RING_SLOTS && size == RING_MESSAGE);
        (void)depth;
        (void)size;
        return unsafe_ring_new();
}

EACH_PEER void ring_put(void *ring, const void *message, size_t size)
{
        (void)size;
        unsafe_ring_put(ring, message);
}

EACH_PEER void ring_get(void *ring, void *message, size_t size)
{
        (void)size;
        unsafe_ring_get(ring, message);
}

static void *robust_make(size_t depth, size_t size)
{
        assert(depth == ROBUST_RING_SLOTS && size == ROBUST_RING_MESSAGE);
        (void)depth;
        (void)size;
        return robust_ring_new();
}

EACH_PEER void robust_put(void *ring, const void *message, size_t size)
{
        (void)size;
        robust_ring_put(ring, message);
}

EACH_PEER void robust_get(void *ring, void *message, size_t size)
{
        (void)size;
        robust_ring_get(ring, message);
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);

        if (!strcmp(o.figure, "batch") && (!strcmp(o.peer, "brood") || !strcmp(o.peer, "single")))
                measure_batch(&o, o.peer[0] == 'b');
        else if (!strcmp(o.peer, "brood"))
                measure(&o, 65536, brood_make, brood_end, brood_put, brood_get);
        else if (!strcmp(o.peer, "ring"))
                measure(&o, MESSAGE_SMALL, ring_make, ring_end, ring_put, ring_get);
        else if (!strcmp(o.peer, "robust"))
                measure(&o, MESSAGE_SMALL, robust_make, ring_end, robust_put, robust_get);
        else
                bench_options_unknown(&o, "those of queue.h, and batch; of brood, single (batch), ring, robust");
        return 0;
}
