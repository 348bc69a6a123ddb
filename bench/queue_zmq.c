/* SPDX-License-Identifier: MIT
 *
 * queue_zmq.c: ZeroMQ, a PUSH socket to a PULL socket over ipc.
 *
 * The endpoint is in the abstract namespace, which leaves no file behind.  A context does not survive a fork, so that each process
 * makes its own when it first puts or gets.  One producer and one consumer only: PUSH deals its messages out to several PULLs
 * in turn, which is not a queue that they share.
 *
 * The depth is halved between the two ends, as the library has a queue at each.
 */
#include "queue.h"

#include <zmq.h>

#define LINGER_MS 5000 /* for what is still to be sent when a process ends */

struct endpoint {
        char name[64];
        int depth;
        void *socket; /* this process's end */
};

static void *context;
static struct endpoint *made[2];

static void *zmq_make(size_t depth, size_t size)
{
        static unsigned n;
        struct endpoint *e = calloc(1, sizeof *e);

        (void)size;
        if (!e)
                bench_die("no memory");
        snprintf(e->name, sizeof e->name, "ipc://@brood-bench-%ld-%" PRIx64, (long)getpid(), bench_now_ns());
        e->depth = (int)depth / 2;
        made[n++ % 2] = e;
        return e;
}

static void zmq_leave(void)
{
        for (int i = 0; i < 2; i++) {
                if (made[i] && made[i]->socket)
                        zmq_close(made[i]->socket);
        }
        if (context)
                zmq_ctx_term(context);
}

static void zmq_end(void *queue)
{
        (void)queue; /* closed by zmq_leave(), both before the context */
}

static void *zmq_open(struct endpoint *e, int type)
{
        int linger = LINGER_MS;

        if (!context)
                context = zmq_ctx_new();
        if (!context || !(e->socket = zmq_socket(context, type)) ||
            zmq_setsockopt(e->socket, ZMQ_LINGER, &linger, sizeof linger) < 0 ||
            zmq_setsockopt(e->socket, ZMQ_SNDHWM, &e->depth, sizeof e->depth) < 0 ||
            zmq_setsockopt(e->socket, ZMQ_RCVHWM, &e->depth, sizeof e->depth) < 0 ||
            (type == ZMQ_PULL ? zmq_bind : zmq_connect)(e->socket, e->name) < 0)
                bench_die("zmq: %s", zmq_strerror(errno));
        return e->socket;
}

EACH_PEER void zmq_put(void *queue, const void *message, size_t size)
{
        struct endpoint *e = queue;

        if (zmq_send(e->socket ? e->socket : zmq_open(e, ZMQ_PUSH), message, size, 0) != (int)size)
                bench_die("zmq_send: %s", zmq_strerror(errno));
}

EACH_PEER void zmq_get(void *queue, void *message, size_t size)
{
        struct endpoint *e = queue;

        if (zmq_recv(e->socket ? e->socket : zmq_open(e, ZMQ_PULL), message, size, 0) != (int)size)
                bench_die("zmq_recv: %s", zmq_strerror(errno));
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);

        role_leave = zmq_leave;
        if (!strcmp(o.peer, "zmq") && strncmp(o.figure, "4x4", 3) != 0)
                measure(&o, MESSAGE_LARGEST, zmq_make, zmq_end, zmq_put, zmq_get);
        else
                bench_options_unknown(&o, "those of queue.h, without 4x4; of zmq");
        zmq_leave();
        free(made[0]);
        free(made[1]);
        return 0;
}
