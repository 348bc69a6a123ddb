/* SPDX-License-Identifier: MIT
 *
 * queue_boost.cpp: Boost.Interprocess message_queue.
 *
 * It has a name in /dev/shm, which is removed as soon as the queue is open: the mapping is inherited by the forks.
 */
#include "queue.h"

#include <boost/interprocess/ipc/message_queue.hpp>
#include <new>

using boost::interprocess::message_queue;

static void *boost_make(size_t depth, size_t size)
{
        char name[64];

        snprintf(name, sizeof name, "brood-bench-%ld-%" PRIx64, (long)getpid(), bench_now_ns());
        try {
                message_queue *queue = new message_queue(boost::interprocess::create_only, name, depth, size);

                message_queue::remove(name);
                return queue;
        } catch (const std::exception &e) {
                message_queue::remove(name);
                bench_die("message_queue: %s", e.what());
        }
}

static void boost_end(void *queue)
{
        if (static_cast<message_queue *>(queue)->get_num_msg() != 0)
                bench_die("a message is left in a queue");
        delete static_cast<message_queue *>(queue);
}

/* An exception that nobody catches ends the program, as bench_die() would. */

EACH_PEER void boost_put(void *queue, const void *message, size_t size)
{
        static_cast<message_queue *>(queue)->send(message, size, 0);
}

EACH_PEER void boost_get(void *queue, void *message, size_t size)
{
        message_queue::size_type got;
        unsigned priority;

        static_cast<message_queue *>(queue)->receive(message, size, got, priority);
        if (got != size)
                bench_die("a message of another size");
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);

        if (!strcmp(o.peer, "boost"))
                measure(&o, MESSAGE_LARGEST, boost_make, boost_end, boost_put, boost_get);
        else
                bench_options_unknown(&o, "those of queue.h; of boost");
        return 0;
}
