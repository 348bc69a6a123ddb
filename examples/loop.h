/* SPDX-License-Identifier: MIT
 *
 * loop.h: what loop_epoll, loop_uv and loop_glib have in common: four things to wait for, and what to do when one has something
 * to say.  How to wait for them is what these three programs are about.
 *
 * A child measures: it puts readings into a queue, says over a connection what it thinks of them, sets an event when half of
 * them are there, closes both, and ends.  Each of the four has a descriptor.
 *
 * A descriptor says only that it is worth looking.  So each look takes all that is there, until brood says -EAGAIN: that makes
 * the descriptor quiet again.  What is at its end stays readable, and is taken out of the loop.
 *
 * And somebody may be killed who held a message of the queue, or was about to say something: the descriptors do not tell that, so
 * a timer looks at everything four times a second.
 */
#ifndef LOOP_H
#define LOOP_H

#include "example.h"

enum loop_source { LOOP_QUEUE, LOOP_CONNECTION, LOOP_EVENT, LOOP_CHILD, LOOP_SOURCES };
enum { LOOP_READINGS = 10, LOOP_LOOK_MS = 250 };

struct loop {
        brood_queue *queue;
        brood_event *half;
        brood_connection *here, *there;
        brood_process *child;
        bool over[LOOP_SOURCES]; /* nothing more will come from it */
        int exitcode;
};

static int loop_measure(void *arg)
{
        struct loop *loop = arg;

        brood_connection_free(loop->here); /* the parent's end */
        for (int i = 1; i <= LOOP_READINGS; i++) {
                double reading = 20 + 0.25 * i;
                const char *word = i % 3 == 0 ? "warm" : "warmer";
                example_check(brood_queue_put(loop->queue, &reading, sizeof reading, BROOD_FOREVER), "put");
                if (i % 3 != 1)
                        example_check(brood_connection_send(loop->there, word, strlen(word), BROOD_FOREVER), "send");
                if (i == LOOP_READINGS / 2)
                        example_check(brood_event_set(loop->half), "set");
                example_sleep(i % 3 == 0 ? example_time(0.03, 2) : 0); /* three at a time */
        }
        example_check(brood_queue_close(loop->queue), "close");
        brood_connection_free(loop->there);
        return 0;
}

static inline void loop_begin(struct loop *loop)
{
        *loop = (struct loop){ .exitcode = BROOD_EXITCODE_UNKNOWN };
        brood_queue_options queue = { .maxsize = 4, .message_size = sizeof(double) };
        brood_process_options child = { .target = loop_measure, .arg = loop };
        example_check(brood_queue_new(&loop->queue, &queue), "queue");
        example_check(brood_event_new(&loop->half), "event");
        example_check(brood_pipe(&loop->here, &loop->there, false), "pipe");
        example_check(brood_process_new(&loop->child, &child), "process");
        example_check(brood_process_start(loop->child), "start");
        brood_connection_free(loop->there); /* or the stream would not end */
        loop->there = NULL;
}

static inline int loop_descriptor(const struct loop *loop, enum loop_source source)
{
        int fd = source == LOOP_QUEUE        ? brood_queue_fileno(loop->queue)
                 : source == LOOP_CONNECTION ? brood_connection_fileno(loop->here)
                 : source == LOOP_EVENT      ? brood_event_fileno(loop->half)
                                             : brood_process_sentinel(loop->child);
        return (int)example_check(fd, "descriptor");
}

/* These take what is there; false: there will never be more. */
static inline bool loop_take_readings(struct loop *loop)
{
        double reading;
        ssize_t n;

        while ((n = brood_queue_get_nowait(loop->queue, &reading, sizeof reading)) >= 0)
                printf("Queue: %.2f degrees\n", reading);
        if (n == -EPIPE)
                printf("The queue is closed\n");
        else if (n != -EAGAIN)
                example_check(n, "get");
        return n == -EAGAIN;
}

static inline bool loop_take_words(struct loop *loop)
{
        char word[16];
        ssize_t n;

        while ((n = brood_connection_recv(loop->here, word, sizeof word, 0)) >= 0)
                printf("Connection: %.*s\n", (int)n, word);
        if (n == -EPIPE || n == -ECONNRESET)
                printf("The connection is at its end\n");
        else if (n != -EAGAIN)
                example_check(n, "recv");
        return n == -EAGAIN;
}

static inline bool loop_take_event(struct loop *loop)
{
        if (!example_check(brood_event_is_set(loop->half), "is_set"))
                return true;
        printf("Event: half of the readings are there\n");
        return false;
}

static inline bool loop_take_end(struct loop *loop)
{
        int r = brood_process_join(loop->child, 0);

        if (r == -EAGAIN)
                return true;
        example_check(r, "join");
        example_check(brood_process_exitcode(loop->child, &loop->exitcode), "exitcode");
        printf("The child ended with %d\n", loop->exitcode);
        /* It may have been killed before it could say so. */
        example_check(brood_queue_close(loop->queue), "close");
        return false;
}

/* Something has something to say, perhaps: false if it has come to its end, now or before. */
static inline bool loop_take(struct loop *loop, enum loop_source source)
{
        if (loop->over[source])
                return false;
        bool more = source == LOOP_QUEUE        ? loop_take_readings(loop)
                    : source == LOOP_CONNECTION ? loop_take_words(loop)
                    : source == LOOP_EVENT      ? loop_take_event(loop)
                                                : loop_take_end(loop);
        loop->over[source] = !more;
        return more;
}

/* Nothing is left to wait for: no event will be set any more when the child has ended. */
static inline bool loop_is_over(const struct loop *loop)
{
        return loop->over[LOOP_QUEUE] && loop->over[LOOP_CONNECTION] && loop->over[LOOP_CHILD];
}

static inline int loop_end(struct loop *loop)
{
        brood_process_free(loop->child);
        brood_connection_free(loop->here);
        brood_event_free(loop->half);
        brood_queue_free(loop->queue);
        return loop->exitcode != 0;
}

#endif
