/* SPDX-License-Identifier: MIT
 *
 * queue_ck.c: the rings of Concurrency Kit, in shared memory.
 *
 *     ck        any number of producers and consumers
 *     ck-spsc   one producer and one consumer (not 4x4)
 *
 * They hold the messages themselves; one slot of the 1,024 stays empty.  They have no wait, so that what waits is bench_relax(),
 * as for the unsafe ring.
 */
#include "queue.h"

#include <ck_ring.h>

struct message {
        uint64_t word[MESSAGE_SMALL / sizeof(uint64_t)];
};

CK_RING_PROTOTYPE(message, message)

struct kit {
        alignas(BENCH_CACHE_PAIR) ck_ring_t ring;
        alignas(BENCH_CACHE_PAIR) struct message slot[DEPTH_SMALL];
};

static void *kit_make(size_t depth, size_t size)
{
        struct kit *kit = bench_shared(sizeof *kit);

        assert(size == sizeof(struct message));
        (void)size;
        ck_ring_init(&kit->ring, (unsigned)depth);
        return kit;
}

static void kit_end(void *queue)
{
        if (ck_ring_size(&((struct kit *)queue)->ring) != 0)
                bench_die("a message is left in a ring");
}

EACH_PEER void ck_put(void *queue, const void *message, size_t size)
{
        struct kit *kit = queue;
        unsigned tries = 0;

        (void)size;
        while (!ck_ring_enqueue_mpmc_message(&kit->ring, kit->slot, (struct message *)message))
                bench_relax(&tries);
}

EACH_PEER void ck_get(void *queue, void *message, size_t size)
{
        struct kit *kit = queue;
        unsigned tries = 0;

        (void)size;
        while (!ck_ring_dequeue_mpmc_message(&kit->ring, kit->slot, message))
                bench_relax(&tries);
}

EACH_PEER void ck_spsc_put(void *queue, const void *message, size_t size)
{
        struct kit *kit = queue;
        unsigned tries = 0;

        (void)size;
        while (!ck_ring_enqueue_spsc_message(&kit->ring, kit->slot, (struct message *)message))
                bench_relax(&tries);
}

EACH_PEER void ck_spsc_get(void *queue, void *message, size_t size)
{
        struct kit *kit = queue;
        unsigned tries = 0;

        (void)size;
        while (!ck_ring_dequeue_spsc_message(&kit->ring, kit->slot, message))
                bench_relax(&tries);
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);

        if (!strcmp(o.peer, "ck"))
                measure(&o, MESSAGE_SMALL, kit_make, kit_end, ck_put, ck_get);
        else if (!strcmp(o.peer, "ck-spsc") && strncmp(o.figure, "4x4", 3) != 0)
                measure(&o, MESSAGE_SMALL, kit_make, kit_end, ck_spsc_put, ck_spsc_get);
        else
                bench_options_unknown(&o, "those of queue.h with small messages; of ck, ck-spsc (not 4x4)");
        return 0;
}
