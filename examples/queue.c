/* SPDX-License-Identifier: MIT
 *
 * queue: two processes talk through a bounded queue.
 *
 * The Python original: `request` puts six pairs of random numbers, after random waits, into Queue(3); `handle`
 * takes each pair, prints its sum, and ends when a get has waited in vain.  The queue is made before the processes,
 * so all have the same one.
 *
 * If a wait is longer than handle's patience, handle goes first; the original's request may then block for ever on the
 * full queue.  Here handle closes the queue when it leaves, so that request is told.
 */
#include "example.h"

/* The original's message is a tuple (x, y). */
struct pair {
        int x, y;
};

static int handle(void *arg)
{
        brood_queue *q = arg;
        for (;;) {
                struct pair pair;
                ssize_t n = brood_queue_get(q, &pair, sizeof pair, example_seed_times ? 8000 : 1000);
                if (n == -ETIMEDOUT) {
                        printf("The get timed out: %s\n", brood_strerror((int)n));
                        example_check(brood_queue_close(q), "close");
                        return 0;
                }
                example_check(n, "get");
                printf("%d+%d=%d\n", pair.x, pair.y, pair.x + pair.y);
        }
}

static int randint(int low, int high)
{
        return low + rand() % (high - low + 1);
}

static int request(void *arg)
{
        brood_queue *q = arg;
        srand((unsigned)getpid());
        for (int i = 0; i < 6; i++) {
                example_sleep(randint(1, 16) * example_time(0.01, 1));
                struct pair pair = { randint(1, 100), randint(1, 100) };
                int r = brood_queue_put(q, &pair, sizeof pair, BROOD_FOREVER);
                if (r == -EPIPE) {
                        printf("Nobody takes %d and %d any more\n", pair.x, pair.y);
                        return 0;
                }
                example_check(r, "put");
        }
        return 0;
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        brood_queue *q;
        brood_queue_options options = { .maxsize = 3, .message_size = sizeof(struct pair) };
        example_check(brood_queue_new(&q, &options), "queue");

        brood_process *p[2];
        int failed = 0;
        example_check(brood_process_new(&p[0], &(brood_process_options){ .target = handle, .arg = q }), "new");
        example_check(brood_process_new(&p[1], &(brood_process_options){ .target = request, .arg = q }), "new");
        for (int i = 0; i < 2; i++)
                example_check(brood_process_start(p[i]), "start");
        for (int i = 0; i < 2; i++) {
                int exitcode;
                example_check(brood_process_join(p[i], BROOD_FOREVER), "join");
                example_check(brood_process_exitcode(p[i], &exitcode), "exitcode");
                failed |= exitcode != 0;
                brood_process_free(p[i]);
        }
        brood_queue_free(q);
        return failed;
}
