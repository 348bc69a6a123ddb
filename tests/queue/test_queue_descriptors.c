/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_queue_descriptors.c: a queue in a poll or an epoll, and in a process that has no more of it than its
 * descriptors.
 */
#include "check.h"

#include <brood/queue.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { SHORT_MS = 30 };

static const char *const program = "/proc/self/exe"; /* to exec it */

static brood_queue *make(brood_queue_options options)
{
        brood_queue *q = NULL;
        assert_int_equal(brood_queue_new(&q, &options), 0);
        return q;
}

static int put_int(brood_queue *q, int value)
{
        return brood_queue_put_nowait(q, &value, sizeof value);
}

/* The next message, or a negative errno. */
static int get_int(brood_queue *q, int timeout_ms)
{
        int value = 0;
        ssize_t n = brood_queue_get(q, &value, sizeof value, timeout_ms);
        return n < 0 ? (int)n : value;
}

static int lease_int(brood_queue *q, brood_lease *lease, int timeout_ms)
{
        int r = brood_queue_lease(q, lease, timeout_ms);
        return r < 0 ? r : *(const int *)lease->data;
}

/* ---- fileno ---- */

static int readable(int fd, int timeout_ms)
{
        return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, timeout_ms);
}

static int put_one(void *arg)
{
        require_int(put_int(arg, 6), 0);
        brood_queue_free(arg);
        return 0;
}

static void test_fileno(void **state)
{
        (void)state;
        for (int joinable = 0; joinable < 2; joinable++)
                for (size_t maxsize = 0; maxsize <= 9; maxsize += 9) {
                        brood_queue *q =
                            make((brood_queue_options){ .maxsize = maxsize, .message_size = 8, .joinable = joinable });
                        assert_int_equal(put_int(q, 1), 0); /* before anybody polls */
                        int fd = brood_queue_fileno(q);
                        assert_int_equal(brood_queue_fileno(q), fd);
                        assert_int_equal(readable(fd, 0), 1);
                        assert_int_equal(get_int(q, 0), 1);
                        assert_int_equal(get_int(q, 0), -EAGAIN);
                        assert_int_equal(readable(fd, 0), 0);
                        for (int round = 0; round < 5; round++) {
                                for (int i = 0; i < 3; i++) {
                                        assert_int_equal(put_int(q, i), 0);
                                        assert_int_equal(readable(fd, 0), 1);
                                }
                                /* As long as there is one, and until a get has found none. */
                                for (int i = 0; i < 3; i++) {
                                        assert_int_equal(readable(fd, 0), 1);
                                        assert_int_equal(get_int(q, 0), i);
                                }
                                assert_int_equal(get_int(q, 0), -EAGAIN);
                                assert_int_equal(readable(fd, 0), 0);
                        }
                        /* A put of another process. */
                        pid_t pid = check_start(put_one, q);
                        assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
                        assert_int_equal(check_wait(pid), 0);
                        assert_int_equal(get_int(q, 0), 6);
                        assert_int_equal(get_int(q, 0), -EAGAIN);
                        assert_int_equal(get_int(q, 1), -ETIMEDOUT);
                        assert_int_equal(readable(fd, 0), 0);
                        /* The end stays readable. */
                        assert_int_equal(brood_queue_close(q), 0);
                        for (int i = 0; i < 3; i++) {
                                assert_int_equal(readable(fd, 0), 1);
                                assert_int_equal(get_int(q, 0), -EPIPE);
                        }
                        brood_queue_free(q);
                }
}

/* A message that comes back is one, too. */
static void test_fileno_and_messages_that_come_back(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .message_size = 8 });
        int fd = brood_queue_fileno(q);
        brood_lease lease;
        brood_view view;

        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(lease_int(q, &lease, 0), 1);
        assert_int_equal(get_int(q, 0), -EAGAIN);
        assert_int_equal(readable(fd, 0), 0);
        assert_int_equal(brood_queue_give_back(q, &lease), 0);
        assert_int_equal(readable(fd, 0), 1);
        assert_int_equal(brood_queue_peek(q, &view, 0), 0);
        assert_int_equal(get_int(q, 0), -EAGAIN);
        assert_int_equal(readable(fd, 0), 0);
        assert_int_equal(brood_queue_unpeek(q, &view), 0);
        assert_int_equal(readable(fd, 0), 1);
        assert_int_equal(get_int(q, 0), 1);
        brood_queue_free(q);
}

enum { POLLERS = 3, POLLED = 300 };

struct polled {
        brood_queue *queue;
        atomic_int *taken;
};

/* With epoll, level-triggered, until the queue is closed. */
static int poll_and_take(void *arg)
{
        struct polled *polled = arg;
        struct epoll_event event = { .events = EPOLLIN };
        int epoll = epoll_create1(EPOLL_CLOEXEC), r = 0;

        require(epoll >= 0);
        require_int(epoll_ctl(epoll, EPOLL_CTL_ADD, brood_queue_fileno(polled->queue), &event), 0);
        while (r != -EPIPE) {
                require(epoll_wait(epoll, &event, 1, CHECK_HANG_MS) >= 0);
                while ((r = get_int(polled->queue, 0)) >= 0)
                        require_int(atomic_fetch_add(&polled->taken[r], 1), 0);
                require(r == -EAGAIN || r == -EPIPE);
        }
        close(epoll);
        return 0;
}

static void test_several_pollers(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .maxsize = 16, .message_size = 8 });
        struct polled polled = { q, check_shared(POLLED * sizeof(atomic_int)) };
        pid_t pids[POLLERS];

        for (int i = 0; i < POLLERS; i++)
                pids[i] = check_start(poll_and_take, &polled);
        for (int i = 0; i < POLLED; i++) {
                assert_int_equal(brood_queue_put(q, &i, sizeof i, CHECK_HANG_MS), 0);
                if (i % 10 == 0) /* let them all come to rest */
                        assert_true(check_reaches(&polled.taken[i], 1, CHECK_HANG_MS / 2));
        }
        assert_int_equal(brood_queue_close(q), 0);
        for (int i = 0; i < POLLERS; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        for (int i = 0; i < POLLED; i++)
                assert_int_equal(polled.taken[i], 1);
        munmap(polled.taken, POLLED * sizeof(atomic_int));
        brood_queue_free(q);
}

/* ---- attach ---- */

/* In a process that has only the descriptors: take 1, put 2, and hold the lease of 3 when it ends. */
static int use_attached(int memory, int event)
{
        brood_queue *q = NULL;
        brood_lease lease;

        require_int(brood_queue_attach(&q, (int[]){ memory, event }), 0);
        require_int(brood_queue_maxsize(q), 5);
        require_int(brood_queue_message_size(q), 300);
        require_int(get_int(q, CHECK_HANG_MS), 1);
        require_int(put_int(q, 2), 0);
        require_int(lease_int(q, &lease, 0), 3);
        static char large[300] = "large";
        require_int(brood_queue_put_nowait(q, large, sizeof large), 0);
        int fds[BROOD_QUEUE_DESCRIPTORS];
        require_int(brood_queue_descriptors(q, fds), 0);
        require(fds[0] != memory && fds[1] != event);
        require(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
        return 0; /* without a free: as one that dies */
}

static int attach_inherited(void *arg)
{
        int fds[BROOD_QUEUE_DESCRIPTORS];

        require_int(brood_queue_descriptors(arg, fds), 0);
        return use_attached(fds[0], fds[1]);
}

static int attach_received(void *arg)
{
        int fds[2];
        char byte, control[CMSG_SPACE(sizeof fds)];
        struct iovec data = { &byte, 1 };
        struct msghdr message = {
                .msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
        };

        require_int(recvmsg(*(int *)arg, &message, MSG_CMSG_CLOEXEC), 1);
        memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fds);
        return use_attached(fds[0], fds[1]);
}

static int attach_across_exec(void *arg)
{
        int fds[BROOD_QUEUE_DESCRIPTORS];
        char numbers[2][16];

        require_int(brood_queue_descriptors(arg, fds), 0);
        for (int i = 0; i < 2; i++) {
                require_int(fcntl(fds[i], F_SETFD, 0), 0);
                snprintf(numbers[i], sizeof numbers[i], "%d", fds[i]);
        }
        execl(program, program, "--attach", numbers[0], numbers[1], (char *)NULL);
        return 1;
}

static void test_attach(void **state)
{
        (void)state;
        for (int how = 0; how < 3; how++) {
                brood_queue *q = make((brood_queue_options){ .maxsize = 5, .message_size = 300 });
                int fd = brood_queue_fileno(q), pair[2];
                pid_t pid;

                assert_int_equal(get_int(q, 0), -EAGAIN);
                assert_int_equal(put_int(q, 1), 0);
                assert_int_equal(put_int(q, 3), 0);
                if (how == 0) {
                        pid = check_start(attach_inherited, q);
                } else if (how == 1) {
                        pid = check_start(attach_across_exec, q);
                } else {
                        int fds[BROOD_QUEUE_DESCRIPTORS];
                        char control[CMSG_SPACE(sizeof fds)] = "";
                        struct iovec data = { (char[]){ "b" }, 1 };
                        struct msghdr message = { .msg_iov = &data,
                                                  .msg_iovlen = 1,
                                                  .msg_control = control,
                                                  .msg_controllen = sizeof control };
                        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
                        pid = check_start(attach_received, &pair[1]);
                        assert_int_equal(brood_queue_descriptors(q, fds), 0);
                        *CMSG_FIRSTHDR(&message) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
                                                                     .cmsg_type = SCM_RIGHTS,
                                                                     .cmsg_len = CMSG_LEN(sizeof fds) };
                        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), fds, sizeof fds);
                        assert_int_equal(sendmsg(pair[0], &message, 0), 1);
                        close(pair[0]);
                        close(pair[1]);
                }
                assert_int_equal(check_wait(pid), 0);
                assert_int_equal(readable(fd, 0), 1);
                assert_int_equal(get_int(q, 0), 2);
                char large[300];
                assert_int_equal(brood_queue_get(q, large, sizeof large, 0), 300);
                assert_string_equal(large, "large");
                assert_int_equal(get_int(q, CHECK_HANG_MS), 3); /* the dead one's lease */
                brood_queue_free(q);
        }
}

/* Two handles in one process are two users of one queue. */
static void test_attach_to_oneself(void **state)
{
        (void)state;
        brood_queue *q = make((brood_queue_options){ .message_size = 8 }), *again = NULL;
        int fds[BROOD_QUEUE_DESCRIPTORS];
        brood_lease lease;

        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(lease_int(q, &lease, 0), 1);
        assert_int_equal(brood_queue_descriptors(q, fds), 0);
        assert_int_equal(brood_queue_attach(&again, fds), 0);
        assert_int_equal(get_int(again, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(put_int(again, 2), 0);
        brood_queue_free(q); /* its lease goes back; the other handle goes on */
        assert_int_equal(get_int(again, 0), 1);
        assert_int_equal(get_int(again, 0), 2);
        brood_queue_free(again);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_fileno),
                support_test(test_fileno_and_messages_that_come_back),
                support_test(test_several_pollers),
                support_test(test_attach),
                support_test(test_attach_to_oneself),
        };
        if (argc == 4 && strcmp(argv[1], "--attach") == 0)
                _exit(use_attached(atoi(argv[2]), atoi(argv[3]))); /* as one that dies: not even a leak is looked for */
        return support_main(argc, argv, "queue, descriptors", tests, array_length(tests), 60);
}
