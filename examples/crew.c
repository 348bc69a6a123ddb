/* SPDX-License-Identifier: MIT
 *
 * crew: workers that wait for one another, and for another one in the place of a dead one.
 *
 * A rod is hot at one end. Three workers have a third of it each, and compute step by step how it warms up; a barrier
 * keeps them in step, and its action counts. They start when an event says so, and share two desks, a semaphore.
 *
 * One of them is killed in the middle, at a desk. The others stay at the barrier until the parent has started another
 * worker for the same third, and the result is what it would have been. The desk comes back when somebody wants it.
 */
#include "example.h"

#include <sys/mman.h>

enum { WORKERS = 3, DESKS = 2, THIRD = 8, STEPS = 100 };

struct crew {
        brood_event *start;
        brood_semaphore *desks;
        brood_barrier *barrier;
        int step, kills;
        double rod[2][WORKERS * THIRD + 2]; /* before and after a step, by turns */
};
static struct crew *crew;

/* By the last to arrive, before anybody goes on. */
static int count_step(void *arg)
{
        (void)arg;
        crew->step++;
        return 0;
}

static int work(void *arg)
{
        int number = *(int *)arg;

        example_check(brood_event_wait(crew->start, BROOD_FOREVER), "start");
        while (crew->step < STEPS) {
                const double *before = crew->rod[crew->step % 2];

                example_check(brood_semaphore_acquire(crew->desks, BROOD_FOREVER), "desk");
                for (int i = number * THIRD + 1; i <= (number + 1) * THIRD; i++) {
                        crew->rod[(crew->step + 1) % 2][i] = (before[i - 1] + before[i + 1]) / 2;
                        if (crew->step == 41 && i == THIRD + 4 && crew->kills++ == 0)
                                kill(getpid(), SIGKILL);
                }
                example_check(brood_semaphore_release(crew->desks), "desk");
                example_check(brood_barrier_wait(crew->barrier, BROOD_FOREVER), "barrier");
        }
        return 0;
}

static void start(brood_process **worker, int *number)
{
        printf("Worker %d begins with step %d\n", *number, crew->step);
        brood_process_free(*worker); /* the dead one, if there was one */
        example_check(brood_process_new(worker, &(brood_process_options){ .target = work, .arg = number }), "new");
        example_check(brood_process_start(*worker), "start");
}

int main(int argc, char **argv)
{
        brood_process *workers[WORKERS] = { NULL };
        int numbers[WORKERS] = { 0, 1, 2 }, exitcode;

        example_begin(argc, argv);
        crew = mmap(NULL, sizeof *crew, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (crew == MAP_FAILED)
                return 1;
        crew->rod[0][0] = crew->rod[1][0] = 100;
        brood_barrier_options options = { .action = count_step };
        example_check(brood_barrier_new(&crew->barrier, WORKERS, &options), "barrier");
        example_check(brood_bounded_semaphore_new(&crew->desks, DESKS), "semaphore");
        example_check(brood_event_new(&crew->start), "event");
        for (int i = 0; i < WORKERS; i++)
                start(&workers[i], &numbers[i]);
        example_check(brood_event_set(crew->start), "set");
        for (int running = WORKERS, i; running > 0;) {
                pid_t pid = (pid_t)example_check(brood_wait(&exitcode, BROOD_FOREVER), "wait");
                for (i = 0; brood_process_pid(workers[i]) != pid;)
                        i++;
                if (exitcode == -SIGKILL)
                        start(&workers[i], &numbers[i]);
                else
                        running--;
        }
        for (int i = 1; i <= WORKERS * THIRD; i++)
                printf("%.3f%c", crew->rod[STEPS % 2][i], i % THIRD == 0 ? '\n' : ' ');
        for (int i = 0; i < DESKS; i++)
                example_check(brood_semaphore_acquire(crew->desks, 10000), "desk");
        printf("All desks are free again after %d steps\n", crew->step);
        for (int i = 0; i < WORKERS; i++)
                brood_process_free(workers[i]);
        brood_event_free(crew->start);
        brood_semaphore_free(crew->desks);
        brood_barrier_free(crew->barrier);
        return 0;
}
