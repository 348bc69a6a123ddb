/* SPDX-License-Identifier: MIT
 *
 * poll_queue: one process waits for a queue and for something else at once.
 *
 * A meter puts readings into a queue, and closes it after the last. Somebody else writes letters into a pipe. The
 * parent sleeps in epoll_wait(2) until either has something, and ends when the queue is closed and the pipe at its end.
 *
 * The queue's descriptor says only that it is worth looking. So all that is there is taken, until the queue says
 * -EAGAIN: that makes the descriptor quiet again. A closed queue stays readable, and is taken out of the epoll.
 */
#include "example.h"

#include <fcntl.h>
#include <sys/epoll.h>

static int meter(void *arg)
{
        brood_queue *q = arg;
        for (int i = 1; i <= 10; i++) {
                double reading = 20 + 0.25 * i;
                example_check(brood_queue_put(q, &reading, sizeof reading, BROOD_FOREVER), "put");
                example_sleep(i % 3 == 0 ? example_time(0.03, 2) : 0); /* three at a time */
        }
        example_check(brood_queue_close(q), "close");
        return 0;
}

static int letters(void *arg)
{
        for (const char *letter = "brood"; *letter != '\0'; letter++) {
                if (write(((const int *)arg)[1], letter, 1) != 1)
                        return 1;
                example_sleep(example_time(0.02, 1));
        }
        return 0;
}

static brood_process *start(int (*target)(void *arg), void *arg)
{
        brood_process *p;
        example_check(brood_process_new(&p, &(brood_process_options){ .target = target, .arg = arg }), "new");
        example_check(brood_process_start(p), "start");
        return p;
}

/* These two take what is there; false: there will never be more. */
static bool take_readings(brood_queue *q)
{
        double reading;
        ssize_t n;

        while ((n = brood_queue_get_nowait(q, &reading, sizeof reading)) >= 0)
                printf("Queue: %.2f degrees\n", reading);
        if (n != -EAGAIN && n != -EPIPE)
                example_check(n, "get");
        return n == -EAGAIN;
}

static bool take_letter(int end)
{
        char letter;

        if (read(end, &letter, 1) != 1)
                return false;
        printf("Pipe: letter %c\n", letter);
        return true;
}

static bool watch(int epoll, int fd)
{
        struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
        return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        brood_queue *q;
        int ends[2], failed = 0;
        brood_queue_options options = { .maxsize = 4, .message_size = sizeof(double) };
        example_check(brood_queue_new(&q, &options), "queue");
        int queue = (int)example_check(brood_queue_fileno(q), "fileno");
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        if (epoll < 0 || pipe2(ends, O_CLOEXEC) < 0 || !watch(epoll, queue) || !watch(epoll, ends[0])) {
                perror("poll_queue");
                return 1;
        }

        brood_process *p[2] = { start(letters, ends) };
        close(ends[1]); /* or the pipe would not end */
        p[1] = start(meter, q);

        for (int open = 2; open > 0;) {
                struct epoll_event event;
                int n = epoll_wait(epoll, &event, 1, 10000);
                if (n == 0 || (n < 0 && errno != EINTR)) {
                        fprintf(stderr, "nothing comes any more\n");
                        return 1;
                }
                if (n == 1 && !(event.data.fd == queue ? take_readings(q) : take_letter(ends[0]))) {
                        printf("%s\n", event.data.fd == queue ? "The queue is closed" : "The pipe is at its end");
                        epoll_ctl(epoll, EPOLL_CTL_DEL, event.data.fd, NULL);
                        open--;
                }
        }
        for (int i = 0; i < 2; i++) {
                int exitcode;
                example_check(brood_process_join(p[i], BROOD_FOREVER), "join");
                example_check(brood_process_exitcode(p[i], &exitcode), "exitcode");
                failed |= exitcode != 0;
                brood_process_free(p[i]);
        }
        brood_queue_free(q);
        close(epoll);
        close(ends[0]);
        return failed;
}
