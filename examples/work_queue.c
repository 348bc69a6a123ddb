/* SPDX-License-Identifier: MIT
 *
 * work_queue: every job is done, though workers die over them.
 *
 * Twenty jobs lie in a queue, and four workers lease one after the other. Some jobs are hard: whoever is the first to
 * try one is killed in the middle. Two are poison: they kill whoever tries. A killed worker's job goes back to the
 * queue and to another worker, who sees from `deliveries` that it is not the first; after three deliveries the poison
 * is a dead letter. The parent starts a new worker for each that was killed, and prints the statistics in the end.
 *
 * The queue is closed as soon as the jobs are in it. A worker that finds nothing is told so only when nobody else holds
 * a lease, since until then a job may come back.
 */
#include "example.h"

#include <inttypes.h>

#define JOBS 20
#define WORKERS 4

struct job {
        int number;
        bool hard, poison;
};

static int work(void *arg)
{
        brood_queue *q = arg;
        brood_lease lease;
        int r;

        while ((r = brood_queue_lease(q, &lease, BROOD_FOREVER)) == 0) {
                const struct job *job = lease.data; /* where it lies in the queue: to be read, not to be written */

                example_sleep(example_time(0.01, 1));
                if (job->poison || (job->hard && lease.deliveries == 1)) {
                        printf("Job %d kills its worker, delivery %u\n", job->number, lease.deliveries);
                        kill(getpid(), SIGKILL);
                }
                printf("Job %d is done, delivery %u\n", job->number, lease.deliveries);
                example_check(brood_queue_acknowledge(q, &lease), "acknowledge");
        }
        if (r != -EPIPE)
                example_check(r, "lease");
        return 0;
}

static void start(brood_process **ret_worker, brood_queue *q)
{
        example_check(brood_process_new(ret_worker, &(brood_process_options){ .target = work, .arg = q }), "new");
        example_check(brood_process_start(*ret_worker), "start");
}

/* Waits for the workers, starting another for each that was killed. Returns how many were; -1 if one failed. */
static int supervise(brood_queue *q, brood_process *workers[WORKERS])
{
        int killed = 0;

        for (int running = WORKERS; running > 0;) {
                int exitcode, i = 0;
                pid_t pid = (pid_t)example_check(brood_wait(&exitcode, BROOD_FOREVER), "wait");

                while (brood_process_pid(workers[i]) != pid)
                        i++;
                if (exitcode == -SIGKILL) {
                        killed++;
                        brood_process_free(workers[i]);
                        start(&workers[i], q);
                } else if (exitcode == 0) {
                        running--;
                } else {
                        return -1;
                }
        }
        return killed;
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        brood_queue *q;
        brood_queue_options options = { .maxsize = JOBS, .message_size = sizeof(struct job), .max_deliveries = 3 };
        example_check(brood_queue_new(&q, &options), "queue");
        for (int i = 1; i <= JOBS; i++) {
                struct job job = { .number = i, .hard = i % 5 == 0, .poison = i == 6 || i == 13 };
                example_check(brood_queue_put(q, &job, sizeof job, BROOD_FOREVER), "put");
        }
        example_check(brood_queue_close(q), "close");

        brood_process *workers[WORKERS];
        for (int i = 0; i < WORKERS; i++)
                start(&workers[i], q);
        int killed = supervise(q, workers);
        if (killed < 0) {
                fprintf(stderr, "a worker failed\n");
                return 1;
        }
        for (int i = 0; i < WORKERS; i++)
                brood_process_free(workers[i]);

        /* Nothing is left, and nobody holds anything: this has nothing to wait for. */
        example_check(brood_queue_join(q, 0), "join");

        brood_queue_statistics s;
        example_check(brood_queue_stats(q, &s), "stats");
        printf("%d workers were killed\n", killed);
        printf("put: %" PRIu64 ", gone: %" PRIu64 ", leased: %" PRIu64 "\n", s.puts, s.gets, s.leased);
        printf("deliveries: %" PRIu64 ", redeliveries: %" PRIu64 ", dead letters: %" PRIu64 "\n", s.deliveries,
               s.redeliveries, s.dead_letters);
        printf("waits: %" PRIu64 ", repairs: %" PRIu64 ", high water: %" PRIu64 "\n", s.waits, s.repairs, s.high_water);
        brood_queue_free(q);
        return 0;
}
