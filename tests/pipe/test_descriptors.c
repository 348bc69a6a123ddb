/* SPDX-License-Identifier: MIT
 *
 * tests/pipe/test_descriptors.c: descriptors and objects over a connection, what include/brood/connection.h and pass.h say of them.
 * That none is left open, the harness checks after each test.
 */
#include "wire.h"

#include <brood/pass.h>

#include <netinet/in.h>
#include <stdalign.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

static void make_pair(brood_connection **a, brood_connection **b)
{
        assert_int_equal(brood_pipe(a, b, true), 0);
}

static void free_pair(brood_connection *a, brood_connection *b)
{
        brood_connection_free(a);
        brood_connection_free(b);
}

/* Descriptors that can be told apart. */
static void make_events(int *fds, size_t count)
{
        for (size_t i = 0; i < count; i++)
                assert_true((fds[i] = eventfd((unsigned)i + 1, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) >= 0);
}

static void close_all(int *fds, size_t count)
{
        for (size_t i = 0; i < count; i++)
                assert_int_equal(close(fds[i]), 0);
}

/* Whether it is the i-th of those, and close-on-exec. */
static bool is_event(int fd, size_t i)
{
        uint64_t one, count = 0;
        while (read(fd, &one, sizeof one) == sizeof one)
                count++;
        return count == i + 1 && wire_closes_on_exec(fd);
}

/* Bytes with descriptors, by hand. */
static void wire_put_with(int raw, const void *bytes, size_t size, const int *fds, size_t count)
{
        alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int) * 253)] = { 0 };
        struct iovec part = { (void *)bytes, size };
        struct msghdr message = { .msg_iov = &part,
                                  .msg_iovlen = 1,
                                  .msg_control = control,
                                  .msg_controllen = CMSG_SPACE(sizeof(int) * count) };
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * count);
        assert_int_equal(sendmsg(raw, &message, 0), size);
}

/* ---- descriptors ---- */

static void test_descriptors(void **state)
{
        (void)state;
        static const size_t counts[] = { 1, 2, 16, BROOD_CONNECTION_DESCRIPTORS };
        brood_connection *a, *b;
        char buf[16];
        int sent[BROOD_CONNECTION_DESCRIPTORS], got[BROOD_CONNECTION_DESCRIPTORS];
        make_pair(&a, &b);
        for (size_t i = 0; i < array_length(counts); i++)
                for (int timeout = -1; timeout < 2; timeout++) {
                        size_t count = counts[i];
                        make_events(sent, count);
                        assert_int_equal(brood_connection_recv_descriptors(b, got, count, 0), -EAGAIN);
                        assert_int_equal(brood_connection_recv_descriptors(b, got, count, 1), -ETIMEDOUT);
                        /* Between messages. */
                        assert_int_equal(brood_connection_send(a, "before", 6, timeout), 0);
                        assert_int_equal(brood_connection_send_descriptors(a, sent, count, timeout), 0);
                        assert_int_equal(brood_connection_send(a, "behind", 6, timeout), 0);
                        assert_int_equal(brood_connection_recv_descriptors(b, got, count, timeout), -ENOMSG);
                        assert_int_equal(brood_connection_recv_descriptors(b, got, count, timeout), -EBUSY);
                        assert_int_equal(brood_connection_recv(b, buf, sizeof buf, timeout), 6);
                        assert_memory_equal(buf, "before", 6);
                        assert_int_equal(
                            brood_connection_recv_descriptors(b, got, BROOD_CONNECTION_DESCRIPTORS, timeout), count);
                        assert_int_equal(brood_connection_recv(b, buf, sizeof buf, timeout), 6);
                        assert_memory_equal(buf, "behind", 6);
                        for (size_t j = 0; j < count; j++)
                                assert_true(is_event(got[j], j));
                        close_all(sent, count);
                        close_all(got, count);
                }
        /* At the end. */
        brood_connection_close(a);
        assert_int_equal(brood_connection_recv_descriptors(b, got, 1, BROOD_FOREVER), -EPIPE);
        assert_int_equal(brood_connection_send_descriptors(b, (int[]){ 0 }, 1, BROOD_FOREVER), -EPIPE);
        free_pair(a, b);
}

static void test_bad_arguments(void **state)
{
        (void)state;
        brood_connection *a, *b;
        int fds[300] = { 0 };
        make_pair(&a, &b);
        assert_int_equal(brood_connection_send_descriptors(NULL, fds, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_send_descriptors(a, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_send_descriptors(a, fds, 0, 0), -EINVAL);
        assert_int_equal(brood_connection_send_descriptors(a, fds, BROOD_CONNECTION_DESCRIPTORS + 1, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_descriptors(NULL, fds, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_descriptors(a, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_descriptors(a, fds, 0, 0), -EINVAL);
        assert_int_equal(brood_connection_send_object(NULL, 1, fds, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_send_object(a, 1, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_send_object(a, 1, fds, 0, 0), -EINVAL);
        assert_int_equal(brood_connection_send_object(a, 1, fds, BROOD_OBJECT_DESCRIPTORS + 1, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_object(NULL, 1, fds, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_object(a, 1, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_object(a, 1, fds, 0, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_object(a, 1, fds, BROOD_OBJECT_DESCRIPTORS + 1, 0), -EINVAL);
        /* Not open: nothing is sent, and the connection is as it was. */
        fds[1] = 1 << 20;
        assert_int_equal(brood_connection_send_descriptors(a, fds, 2, 0), -EBADF);
        assert_int_equal(brood_connection_send_object(a, 1, fds, 2, 0), -EBADF);
        assert_int_equal(brood_connection_poll(b, 0), 0);
        assert_int_equal(brood_connection_send(a, "x", 1, 0), 0);
        assert_int_equal(brood_connection_next_size(b, 0), 1);
        free_pair(a, b);
}

/* A connected pair over TCP, on which no descriptor can travel. */
static void make_tcp_pair(int fds[2])
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof address;
        int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(listening >= 0);
        assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
        assert_int_equal(listen(listening, 1), 0);
        assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
        assert_true((fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
        assert_int_equal(connect(fds[0], (struct sockaddr *)&address, size), 0);
        assert_true((fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC)) >= 0);
        close(listening);
}

static void test_no_unix_socket(void **state)
{
        (void)state;
        for (int form = 0; form < 2; form++) {
                brood_connection *a, *b;
                int fds[2], fd;
                if (form == 0)
                        make_tcp_pair(fds);
                else
                        assert_int_equal(pipe(fds), 0);
                assert_int_equal(brood_connection_new(&a, fds[0], NULL), 0);
                assert_int_equal(brood_connection_new(&b, fds[1], NULL), 0);
                assert_int_equal(brood_connection_send_descriptors(b, fds, 1, 0), -EOPNOTSUPP);
                assert_int_equal(brood_connection_send_object(b, 1, fds, 1, 0), -EOPNOTSUPP);
                assert_int_equal(brood_connection_recv_descriptors(a, &fd, 1, 0), -EOPNOTSUPP);
                assert_int_equal(brood_connection_recv_object(a, 1, &fd, 1, 0), -EOPNOTSUPP);
                assert_int_equal(brood_connection_send(b, "message", 7, 0), 0);
                assert_int_equal(brood_connection_next_size(a, CHECK_HANG_MS), 7);
                free_pair(a, b);
        }
}

/* Whatever is wrong with what comes: nothing is left open. */
static void test_wrong_descriptors(void **state)
{
        (void)state;
        int sent[20], got[20], raw;
        brood_connection *c = wire_pair(&raw, NULL);
        make_events(sent, 20);
        int before = support_count_descriptors();

        /* More than there is room for: these are lost, and the next ones come. */
        wire_put_with(raw, "\3", 1, sent, 3);
        wire_put_with(raw, "\2", 1, sent, 2);
        assert_int_equal(brood_connection_recv_descriptors(c, got, 2, 0), -EMSGSIZE);
        assert_int_equal(support_count_descriptors(), before);
        assert_int_equal(brood_connection_recv_descriptors(c, got, 2, 0), 2);
        close_all(got, 2);

        /* None left in this process. */
        for (int room = 0; room < 3; room++) {
                wire_put_with(raw, "\3", 1, sent, 3);
                struct rlimit limit = check_descriptors_exhaust(), more = limit;
                int lowest = dup(0);
                assert_int_equal(lowest, -1);
                assert_int_equal(getrlimit(RLIMIT_NOFILE, &more), 0);
                more.rlim_cur += (rlim_t)room;
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &more), 0);
                assert_int_equal(brood_connection_recv_descriptors(c, got, 20, 0), -EMFILE);
                check_descriptors_restore(&limit);
                assert_int_equal(support_count_descriptors(), before);
        }

        /* A message where descriptors should be. */
        wire_put_message(raw, "text", 4);
        assert_int_equal(brood_connection_recv_descriptors(c, got, 2, 0), -ENOMSG);
        assert_int_equal(brood_connection_next_size(c, 0), 4);
        assert_int_equal(brood_connection_recv(c, got, 4, 0), 4);

        /* Another number than it says. */
        wire_put_with(raw, "\2", 1, sent, 3);
        for (int again = 0; again < 2; again++) {
                assert_int_equal(brood_connection_recv_descriptors(c, got, 20, BROOD_FOREVER), -EPROTO);
                assert_int_equal(brood_connection_recv(c, got, 4, BROOD_FOREVER), -EPROTO);
        }
        assert_int_equal(support_count_descriptors(), before);

        close(raw);
        brood_connection_free(c);
        close_all(sent, 20);
}

/* Descriptors that are on their way when the connection ends are the kernel's to close; those that have come with half an object
 * are ours. */
static void test_nobody_takes_them(void **state)
{
        (void)state;
        int sent[2], got[2], raw;
        make_events(sent, 2);
        for (int way = 0; way < 4; way++) {
                brood_connection *c = wire_pair(&raw, NULL);
                int before = support_count_descriptors();
                char buf[64];
                if (way == 0) {
                        wire_put_with(raw, "\2", 1, sent, 2);
                } else {
                        wire_put_with(raw, "\0", 1, sent, 2);
                        assert_int_equal(brood_connection_recv_object(c, 1, got, 2, 0), -EAGAIN);
                        assert_int_equal(support_count_descriptors(), before + 2);
                }
                if (way == 2) { /* it was no object after all */
                        wire_put(raw, "\0\0\4text", 7);
                        assert_int_equal(brood_connection_recv_object(c, 1, got, 2, 0), -ENOMSG);
                        assert_int_equal(brood_connection_recv(c, buf, sizeof buf, 0), 4);
                        assert_int_equal(support_count_descriptors(), before);
                }
                if (way == 3) { /* nor a whole message */
                        wire_put(raw, "\0\0\4te", 5);
                        assert_int_equal(brood_connection_recv_object(c, 1, got, 2, BROOD_FOREVER), -ENOMSG);
                        close(raw);
                        assert_int_equal(brood_connection_recv(c, buf, sizeof buf, BROOD_FOREVER), -ECONNRESET);
                        assert_int_equal(support_count_descriptors(), before - 1);
                        raw = -1;
                }
                brood_connection_free(c);
                if (raw >= 0)
                        close(raw);
        }
        close_all(sent, 2);
}

/* ---- objects ---- */

static void test_objects(void **state)
{
        (void)state;
        brood_connection *a, *b;
        int sent[BROOD_OBJECT_DESCRIPTORS], got[BROOD_OBJECT_DESCRIPTORS];
        char buf[32];
        make_pair(&a, &b);
        for (size_t count = 1; count <= BROOD_OBJECT_DESCRIPTORS; count++) {
                make_events(sent, count);
                assert_int_equal(brood_connection_recv_object(b, 77, got, count, 0), -EAGAIN);
                assert_int_equal(brood_connection_recv_object(b, 77, got, count, 1), -ETIMEDOUT);
                assert_int_equal(brood_connection_send(a, "before", 6, 0), 0);
                assert_int_equal(brood_connection_send_object(a, 77, sent, count, 0), 0);
                assert_int_equal(brood_connection_send(a, "0123456789abcdef", 16, 0), 0);
                close_all(sent, count);

                /* Something else comes, and stays, however often one asks. */
                for (int i = 0; i < 3; i++)
                        assert_int_equal(brood_connection_recv_object(b, 77, got, count, 0), -ENOMSG);
                assert_int_equal(brood_connection_recv(b, buf, sizeof buf, 0), 6);
                for (int i = 0; i < 3; i++) {
                        assert_int_equal(brood_connection_recv_object(b, 78, got, count, 0), -ENOMSG);
                        assert_int_equal(brood_connection_recv_descriptors(b, got, count, 0), -EBUSY);
                        assert_int_equal(brood_connection_next_size(b, 0), 16);
                        assert_int_equal(brood_connection_poll(b, 0), 1);
                }
                assert_int_equal(brood_connection_recv_object(b, 77, got, count, 0), 0);
                for (size_t i = 0; i < count; i++)
                        assert_true(is_event(got[i], i));
                close_all(got, count);
                /* One that is as long as an object. */
                assert_int_equal(brood_connection_recv_object(b, 77, got, count, 0), -ENOMSG);
                assert_int_equal(brood_connection_recv(b, buf, sizeof buf, 0), 16);
                assert_memory_equal(buf, "0123456789abcdef", 16);
        }
        brood_connection_close(a);
        assert_int_equal(brood_connection_recv_object(b, 77, got, 1, BROOD_FOREVER), -EPIPE);
        free_pair(a, b);
}

static const unsigned char object_of_two[20] = {
        0, 0, 0, 16, 'b', 'r', 'o', 'o', 'd', 0, 0, 1, 0, 0, 0, 77, 0, 0, 0, 2
};

static void test_object_in_parts(void **state)
{
        (void)state;
        int sent[2], got[2], raw;
        brood_connection *c = wire_pair(&raw, NULL);
        make_events(sent, 2);
        for (size_t first = 1; first <= sizeof object_of_two; first++) {
                wire_put_with(raw, object_of_two, first, sent, 2);
                for (size_t i = first; i < sizeof object_of_two; i++) {
                        if (i % 2)
                                assert_int_equal(brood_connection_recv_object(c, 77, got, 2, 0), -EAGAIN);
                        else
                                assert_int_equal(brood_connection_next_size(c, 0), i < 4 ? -EAGAIN : 16);
                        wire_put(raw, object_of_two + i, 1);
                }
                assert_int_equal(brood_connection_recv_object(c, 77, got, 2, 0), 0);
                close_all(got, 2);
        }
        close(raw);
        brood_connection_free(c);
        close_all(sent, 2);
}

static void test_wrong_objects(void **state)
{
        (void)state;
        int sent[20], got[20], raw;
        char buf[32];
        brood_connection *c = wire_pair(&raw, NULL);
        make_events(sent, 20);
        int before = support_count_descriptors();

        /* Other descriptors than it says, or than are wanted, or none at all: it is gone, and the next one comes. */
        static const struct {
                size_t with, wanted;
                int error;
        } cases[] = { { 1, 2, -EPROTO }, { 3, 2, -EPROTO }, { 2, 1, -EPROTO },
                      { 2, 3, -EPROTO }, { 0, 2, -EPROTO }, { 17, 2, -EMFILE } };
        for (size_t i = 0; i < array_length(cases); i++) {
                if (cases[i].with > 0)
                        wire_put_with(raw, object_of_two, sizeof object_of_two, sent, cases[i].with);
                else
                        wire_put(raw, object_of_two, sizeof object_of_two);
                wire_put_with(raw, object_of_two, sizeof object_of_two, sent, 2);
                assert_int_equal(brood_connection_recv_object(c, 77, got, cases[i].wanted, 0), cases[i].error);
                assert_int_equal(support_count_descriptors(), before);
                assert_int_equal(brood_connection_recv_object(c, 77, got, 2, 0), 0);
                close_all(got, 2);
        }
        /* No descriptors left. */
        wire_put_with(raw, object_of_two, sizeof object_of_two, sent, 2);
        struct rlimit limit = check_descriptors_exhaust();
        assert_int_equal(brood_connection_recv_object(c, 77, got, 2, 0), -EMFILE);
        check_descriptors_restore(&limit);
        assert_int_equal(brood_connection_recv_object(c, 77, got, 2, 0), -EAGAIN);

        /* Received as a message: its descriptors are closed, whether they were here already or not. */
        for (int asked = 0; asked < 2; asked++) {
                wire_put_with(raw, object_of_two, sizeof object_of_two, sent, 2);
                if (asked)
                        assert_int_equal(brood_connection_recv_object(c, 78, got, 2, 0), -ENOMSG);
                assert_int_equal(brood_connection_recv(c, buf, sizeof buf, 0), 16);
                assert_int_equal(support_count_descriptors(), before);
        }
        /* Descriptors as the function for those sends them. */
        wire_put_with(raw, "\2", 1, sent, 2);
        for (int i = 0; i < 2; i++)
                assert_int_equal(brood_connection_recv_object(c, 77, got, 2, BROOD_FOREVER), -EPROTO);
        assert_int_equal(support_count_descriptors(), before);
        close(raw);
        brood_connection_free(c);
        close_all(sent, 20);
}

/* ---- brood's objects ---- */

static int work_with_what_comes(void *arg)
{
        brood_connection *to = arg, *other = NULL;
        brood_queue *queue = NULL;
        char buf[16];
        /* In the wrong order first. */
        require_int(brood_connection_recv_connection(to, &other, NULL, CHECK_HANG_MS), -ENOMSG);
        require_int(brood_connection_recv_queue(to, &queue, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv_connection(to, &other, NULL, CHECK_HANG_MS), 0);
        require_int(brood_queue_get(queue, buf, sizeof buf, CHECK_HANG_MS), 4);
        require(memcmp(buf, "ping", 4) == 0);
        require_int(brood_connection_send(other, "pong", 4, CHECK_HANG_MS), 0);
        brood_queue_free(queue);
        brood_connection_free(other);
        brood_connection_free(to);
        return 0;
}

static void test_queue_and_connection(void **state)
{
        (void)state;
        brood_connection *here, *there, *a, *b;
        brood_queue *queue;
        char buf[16];
        make_pair(&here, &there);
        /* Made after the fork: the child has none of them. */
        pid_t pid = check_start(work_with_what_comes, there);
        brood_connection_free(there);
        make_pair(&a, &b);
        assert_int_equal(brood_queue_new(&queue, NULL), 0);
        assert_int_equal(brood_connection_send_queue(here, queue, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_connection(here, b, CHECK_HANG_MS), 0);
        brood_connection_free(b);
        assert_int_equal(brood_queue_put(queue, "ping", 4, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, CHECK_HANG_MS), 4);
        assert_memory_equal(buf, "pong", 4);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, CHECK_HANG_MS), -EPIPE);
        assert_int_equal(check_wait(pid), 0);
        brood_queue_free(queue);
        brood_connection_free(a);
        brood_connection_free(here);
}

/* One of each; what the receiver does with it, its sender sees. */
static int use_what_comes(void *arg)
{
        brood_connection *to = arg;
        brood_lock *lock = NULL;
        brood_rwlock *rwlock = NULL;
        brood_semaphore *semaphore = NULL;
        brood_condition *condition = NULL;
        brood_event *event = NULL;
        brood_barrier *barrier = NULL;
        brood_shared *shared = NULL;
        brood_array *array = NULL;

        require_int(brood_connection_recv_lock(to, &lock, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv_rwlock(to, &rwlock, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv_semaphore(to, &semaphore, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv_condition(to, &condition, lock, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv_event(to, &event, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv_barrier(to, &barrier, NULL, NULL, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv_shared(to, &shared, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv_array(to, &array, sizeof(int), CHECK_HANG_MS), 0);

        require_int(brood_lock_acquire(lock, 0), -EAGAIN); /* the sender has it */
        require_int(brood_rwlock_acquire_write(rwlock, 0), -EAGAIN);
        require_int(brood_rwlock_acquire_read(rwlock, 0), 0);
        require_int(brood_semaphore_acquire(semaphore, 0), 0);
        *(int *)brood_shared_data(shared) = 4711;
        brood_array_of(array, int)[2] = 42;
        require_int(brood_event_set(event), 0);
        require_int(brood_condition_acquire(condition, CHECK_HANG_MS), 0); /* the sender waits for us */
        require_int(brood_condition_notify_all(condition), 1);
        require_int(brood_condition_release(condition), 0);
        require(brood_barrier_wait(barrier, CHECK_HANG_MS) >= 0);

        brood_condition_free(condition);
        brood_lock_free(lock);
        brood_rwlock_free(rwlock);
        brood_semaphore_free(semaphore);
        brood_event_free(event);
        brood_barrier_free(barrier);
        brood_shared_free(shared);
        brood_array_free(array);
        brood_connection_free(to);
        return 0;
}

static void test_all_objects(void **state)
{
        (void)state;
        brood_connection *here, *there;
        brood_lock *lock;
        brood_rwlock *rwlock;
        brood_semaphore *semaphore;
        brood_condition *condition;
        brood_event *event;
        brood_barrier *barrier;
        brood_shared *shared;
        brood_array *array;
        make_pair(&here, &there);
        pid_t pid = check_start(use_what_comes, there);
        brood_connection_free(there);
        assert_int_equal(brood_lock_new(&lock), 0);
        assert_int_equal(brood_rwlock_new(&rwlock), 0);
        assert_int_equal(brood_semaphore_new(&semaphore, 3, NULL), 0);
        assert_int_equal(brood_condition_new(&condition, lock), 0);
        assert_int_equal(brood_event_new(&event), 0);
        assert_int_equal(brood_barrier_new(&barrier, 2, NULL), 0);
        assert_int_equal(brood_shared_new(&shared, sizeof(int), NULL), 0);
        assert_int_equal(brood_array_new(&array, 3, sizeof(int), NULL, NULL), 0);
        assert_int_equal(brood_lock_acquire(lock, 0), 0);
        assert_int_equal(brood_rwlock_acquire_read(rwlock, 0), 0);

        assert_int_equal(brood_connection_send_lock(here, lock, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_rwlock(here, rwlock, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_semaphore(here, semaphore, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_condition(here, condition, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_event(here, event, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_barrier(here, barrier, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_shared(here, shared, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_array(here, array, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send_lock(here, brood_array_lock(array), 0), -EINVAL);

        assert_int_equal(brood_event_wait(event, CHECK_HANG_MS), 0);
        assert_int_equal(brood_semaphore_get_value(semaphore), 2);
        assert_int_equal(*(int *)brood_shared_data(shared), 4711);
        assert_int_equal(brood_array_of(array, int)[2], 42);
        assert_int_equal(brood_condition_wait(condition, CHECK_HANG_MS), 0);
        assert_int_equal(brood_lock_release(lock), 0);
        assert_true(brood_barrier_wait(barrier, CHECK_HANG_MS) >= 0);
        assert_int_equal(check_wait(pid), 0);
        assert_int_equal(brood_semaphore_get_value(semaphore), 3); /* it came back with the handle that held it */

        brood_condition_free(condition);
        brood_lock_free(lock);
        brood_rwlock_free(rwlock);
        brood_semaphore_free(semaphore);
        brood_event_free(event);
        brood_barrier_free(barrier);
        brood_shared_free(shared);
        brood_array_free(array);
        brood_connection_free(here);
}

/* What claims to be a queue or a connection is looked at. */
static void test_false_objects(void **state)
{
        (void)state;
        brood_connection *a, *b, *connection = NULL;
        brood_queue *queue = NULL, *closed = NULL;
        int fds[2];
        make_pair(&a, &b);
        make_events(fds, 2);
        assert_int_equal(brood_connection_send_object(a, BROOD_OBJECT_QUEUE, fds, 2, 0), 0);
        assert_int_equal(brood_connection_recv_queue(b, &queue, 0), -EINVAL);
        assert_int_equal(brood_connection_send_object(a, BROOD_OBJECT_CONNECTION, fds, 1, 0), 0);
        assert_int_equal(brood_connection_recv_connection(b, &connection, NULL, 0), -EINVAL);
        assert_int_equal(brood_connection_send_object(a, BROOD_OBJECT_QUEUE, fds, 1, 0), 0);
        assert_int_equal(brood_connection_recv_queue(b, &queue, 0), -EPROTO);
        assert_null(queue);
        assert_null(connection);
        assert_int_equal(brood_connection_recv_queue(b, NULL, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_connection(b, NULL, NULL, 0), -EINVAL);
        assert_int_equal(brood_connection_send_queue(a, closed, 0), -EINVAL);
        assert_int_equal(brood_connection_send_connection(a, NULL, 0), -EINVAL);
        assert_int_equal(brood_connection_poll(b, 0), 0);
        close_all(fds, 2);
        free_pair(a, b);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_descriptors),          support_test(test_bad_arguments),
                support_test(test_no_unix_socket),       support_test(test_wrong_descriptors),
                support_test(test_nobody_takes_them),    support_test(test_objects),
                support_test(test_object_in_parts),      support_test(test_wrong_objects),
                support_test(test_queue_and_connection), support_test(test_all_objects),
                support_test(test_false_objects),
        };
        return support_main(argc, argv, "descriptors", tests, array_length(tests), 60);
}
