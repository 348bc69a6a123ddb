/* SPDX-License-Identifier: MIT
 *
 * queue_brood.h: brood's queue as the loops of queue.h know a peer.
 */
#ifndef BENCH_QUEUE_BROOD_H
#define BENCH_QUEUE_BROOD_H

#include "bench_brood.h"

#include <brood/queue.h>

/* Zero is the default of either. */
static inline void *brood_make(size_t depth, size_t size)
{
        brood_queue *q;

        brood_check("brood_queue_new",
                    brood_queue_new(&q, &(brood_queue_options){ .maxsize = depth, .message_size = size }));
        return q;
}

static inline void brood_end(void *queue)
{
        if (brood_queue_qsize(queue) != 0)
                bench_die("a message is left in a queue");
        brood_queue_free(queue);
}

EACH_PEER void brood_put(void *queue, const void *message, size_t size)
{
        brood_check("brood_queue_put", brood_queue_put(queue, message, size, BROOD_FOREVER));
}

EACH_PEER void brood_get(void *queue, void *message, size_t size)
{
        brood_check_size("brood_queue_get", brood_queue_get(queue, message, size, BROOD_FOREVER), size);
}

#endif
