/* SPDX-License-Identifier: MIT
 *
 * queue_idle.c: what a queue costs that nobody uses.
 *
 *     idle               CPU time of a process while a get is blocked in it for --count ms, in % of that time
 *     memory-idle        KiB of a queue with default options, after one message has gone through
 *     memory-burst       KiB more than that, after a burst of --count messages of 64 bytes has been put into it and taken out
 *                        again, and a get has then been blocked for a second
 *     memory-burst-1MiB  the same with messages of 1 MiB
 *
 * The memory is what the kernel has given to the queue's file: whatever any process has mapped of it, no more is in use.
 */
#include "proc_number.h"
#include "queue_brood.h"

#include <sys/stat.h>

#define MEMORY_NEEDED_KIB                                                                                              \
        (6u << 20) /* a burst of 1 GiB, what the queue needs besides, and what is too much to take from others */
#define MESSAGE_LARGEST (1u << 20)

static double memory_kib(brood_queue *q)
{
        int descriptor[BROOD_QUEUE_DESCRIPTORS];
        struct stat st;

        brood_check("brood_queue_descriptors", brood_queue_descriptors(q, descriptor));
        if (fstat(descriptor[0], &st) < 0)
                bench_die("fstat: %s", strerror(errno));
        return (double)st.st_blocks * 512 / 1024;
}

static double memory_idle(brood_queue *q)
{
        uint64_t message[8] = { 0 };

        brood_put(q, message, sizeof message);
        brood_get(q, message, sizeof message);
        return memory_kib(q);
}

static double memory_burst(brood_queue *q, size_t size, uint64_t count)
{
        double idle = memory_idle(q), after;
        uint64_t *message = calloc(1, size);
        ssize_t n;

        if (!message)
                bench_die("no memory");
        if (count * size > 1u << 29 && available_kib() < MEMORY_NEEDED_KIB)
                bench_skip("%u GiB of memory are needed", MEMORY_NEEDED_KIB >> 20);
        for (uint64_t i = 0; i < count; i++) {
                message[0] = i;
                brood_put(q, message, size);
        }
        for (uint64_t i = 0; i < count; i++) {
                brood_get(q, message, size);
                if (message[0] != i)
                        bench_die("message %" PRIu64 " came for %" PRIu64, message[0], i);
        }
        n = brood_queue_get(q, message, size, 1000);
        if (n != -ETIMEDOUT)
                bench_die("an empty queue gave %zd", n);
        after = memory_kib(q);
        free(message);
        return after > idle ? after - idle : 0;
}

/* A child that waits, and tells its own CPU time of the wait. */
static double idle(brood_queue *q, uint64_t ms)
{
        struct books {
                struct bench_line start;
                uint64_t cpu;
        } *books = bench_shared(sizeof *books);
        uint64_t message = 1, began;
        pid_t pid = bench_fork();

        if (pid == 0) {
                brood_get(q, &message,
                          sizeof message); /* the first one, so that what it costs to become a user is not counted */
                bench_line_wait(&books->start, 2);
                began = bench_cpu_ns();
                brood_get(q, &message, sizeof message);
                books->cpu = bench_cpu_ns() - began;
                _exit(0);
        }
        brood_put(q, &message, sizeof message);
        bench_line_wait(&books->start, 2);
        began = bench_now_ns();
        bench_sleep_ns(ms * 1000000u);
        brood_put(q, &message, sizeof message);
        bench_reap(pid);
        return (double)books->cpu * 100 / (double)(bench_now_ns() - began);
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        const char *unit = "KiB";
        brood_queue *q = brood_make(0, 0);
        double value = 0;

        if (!strcmp(o.peer, "brood") && !strcmp(o.figure, "idle")) {
                value = idle(q, o.count);
                unit = "%";
        } else if (!strcmp(o.peer, "brood") && !strcmp(o.figure, "memory-idle")) {
                value = memory_idle(q);
        } else if (!strcmp(o.peer, "brood") && !strcmp(o.figure, "memory-burst")) {
                value = memory_burst(q, 64, o.count);
        } else if (!strcmp(o.peer, "brood") && !strcmp(o.figure, "memory-burst-1MiB")) {
                value = memory_burst(q, MESSAGE_LARGEST, o.count);
        } else {
                bench_options_unknown(&o, "idle, memory-idle, memory-burst, memory-burst-1MiB of brood");
        }
        brood_end(q);
        bench_report("queue", &o, value, unit);
        return 0;
}
