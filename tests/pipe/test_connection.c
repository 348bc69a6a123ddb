/* SPDX-License-Identifier: MIT
 *
 * tests/pipe/test_connection.c: what include/brood/connection.h says of messages, sentence by sentence.  Descriptors and objects
 * are in test_descriptors.c.
 */
#include "wire.h"

#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/time.h>

enum { LARGE = 1 << 20 }; /* more than a socket holds */

static void make_pair(brood_connection **a, brood_connection **b, bool duplex)
{
        *a = *b = NULL;
        assert_int_equal(brood_pipe(a, b, duplex), 0);
        assert_non_null(*a);
        assert_non_null(*b);
}

static void free_pair(brood_connection *a, brood_connection *b)
{
        brood_connection_free(a);
        brood_connection_free(b);
}

/* The ends of a pipe(2). */
static void make_os_pipe(brood_connection **a, brood_connection **b)
{
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(brood_connection_new(a, fds[0], NULL), 0);
        assert_int_equal(brood_connection_new(b, fds[1], NULL), 0);
}

static void assert_text(brood_connection *c, const char *text)
{
        char buf[64];
        assert_int_equal(brood_connection_recv(c, buf, sizeof buf, CHECK_HANG_MS), strlen(text));
        assert_memory_equal(buf, text, strlen(text));
}

static int send_text(brood_connection *c, const char *text)
{
        return brood_connection_send(c, text, strlen(text), CHECK_HANG_MS);
}

/* ---- making ---- */

static void test_duplex(void **state)
{
        (void)state;
        brood_connection *a, *b;
        make_pair(&a, &b, true);
        assert_true(wire_closes_on_exec(brood_connection_fileno(a)));
        assert_true(wire_closes_on_exec(brood_connection_fileno(b)));
        for (int i = 0; i < 3; i++) {
                assert_int_equal(send_text(a, "there"), 0);
                assert_int_equal(send_text(b, "back again"), 0);
                assert_int_equal(send_text(a, ""), 0);
                assert_text(b, "there");
                assert_text(a, "back again");
                assert_text(b, "");
        }
        free_pair(a, b);
}

static void test_one_way(void **state)
{
        (void)state;
        brood_connection *a, *b;
        char buf[8];
        for (int form = 0; form < 2; form++) {
                if (form == 0)
                        make_pair(&a, &b, false);
                else
                        make_os_pipe(&a, &b);
                assert_int_equal(send_text(b, "one way"), 0);
                assert_text(a, "one way");
                assert_int_equal(send_text(a, "x"), -EBADF);
                assert_int_equal(brood_connection_flush(a, 0), -EBADF);
                assert_int_equal(brood_connection_recv(b, buf, sizeof buf, 0), -EBADF);
                assert_int_equal(brood_connection_poll(b, 0), -EBADF);
                assert_int_equal(brood_connection_next_size(b, 0), -EBADF);
                brood_connection_free(b);
                assert_int_equal(brood_connection_recv(a, buf, sizeof buf, CHECK_HANG_MS), -EPIPE);
                brood_connection_free(a);
        }
}

static void test_no_descriptors_left(void **state)
{
        (void)state;
        brood_connection *a = NULL, *b = NULL;
        struct rlimit before = check_descriptors_exhaust();
        assert_int_equal(brood_pipe(&a, &b, true), -EMFILE);
        check_descriptors_restore(&before);
        assert_null(a);
        assert_null(b);
}

static void test_adopted(void **state)
{
        (void)state;
        brood_connection *c = NULL;
        int fds[2], other;
        struct {
                brood_connection_options known;
                size_t unknown[2];
        } newer = { .unknown = { 0, 1 } };

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        assert_false(wire_closes_on_exec(fds[0]));
        assert_int_equal(brood_connection_new(NULL, fds[0], NULL), -EINVAL);
        assert_int_equal(brood_connection_new(&c, -1, NULL), -EBADF);
        assert_int_equal(brood_connection_new(&c, 1 << 20, NULL), -EBADF);
        assert_int_equal(
            brood_connection_new(&c, fds[0], &(brood_connection_options){ .receive_only = 1, .send_only = 1 }),
            -EINVAL);
        assert_int_equal(
            brood_connection_new(
                &c, fds[0], &(brood_connection_options){ .max_message = BROOD_CONNECTION_MESSAGE_LIMIT + (size_t)1 }),
            -EINVAL);
        assert_int_equal(brood_connection_new_sized(&c, fds[0], &newer.known, sizeof newer), -E2BIG);
        assert_null(c);
        assert_true(fcntl(fds[0], F_GETFD) >= 0); /* left alone */

        /* For one direction only. */
        assert_int_equal(brood_connection_new(&c, fds[0], &(brood_connection_options){ .send_only = 1 }), 0);
        assert_int_equal(brood_connection_fileno(c), fds[0]);
        assert_true(wire_closes_on_exec(fds[0]));
        assert_int_equal(brood_connection_poll(c, 0), -EBADF);
        assert_int_equal(send_text(c, "x"), 0);
        brood_connection_free(c);
        assert_int_equal(brood_connection_new(&c, fds[1], &(brood_connection_options){ .receive_only = 1 }), 0);
        assert_int_equal(send_text(c, "x"), -EBADF);
        assert_text(c, "x");
        brood_connection_free(c);
        c = NULL;

        /* A pipe has one direction. */
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(brood_connection_new(&c, fds[0], &(brood_connection_options){ .send_only = 1 }), -EINVAL);
        assert_int_equal(brood_connection_new(&c, fds[1], &(brood_connection_options){ .receive_only = 1 }), -EINVAL);
        close(fds[0]);
        close(fds[1]);

        /* What is no stream. */
        static const int types[] = { SOCK_DGRAM, SOCK_SEQPACKET };
        for (size_t i = 0; i < array_length(types); i++) {
                assert_true((other = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0)) >= 0);
                assert_int_equal(brood_connection_new(&c, other, NULL), -EINVAL);
                close(other);
        }
        assert_true((other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) >= 0);
        assert_int_equal(listen(other, 1), 0);
        assert_int_equal(brood_connection_new(&c, other, NULL), -EINVAL);
        close(other);
        assert_true((other = eventfd(0, EFD_CLOEXEC)) >= 0);
        assert_int_equal(brood_connection_new(&c, other, NULL), -EINVAL);
        close(other);
        assert_true((other = open("/dev/null", O_RDWR | O_CLOEXEC)) >= 0);
        assert_int_equal(brood_connection_new(&c, other, NULL), -EINVAL);
        close(other);
        assert_null(c);
}

static void test_bad_arguments(void **state)
{
        (void)state;
        brood_connection *a, *b;
        void *data = NULL;
        char buf[8];

        assert_int_equal(brood_pipe(NULL, &b, true), -EINVAL);
        assert_int_equal(brood_pipe(&a, NULL, true), -EINVAL);
        make_pair(&a, &b, true);
        assert_int_equal(brood_connection_send(NULL, buf, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_send(a, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_flush(NULL, 0), -EINVAL);
        assert_int_equal(brood_connection_recv(NULL, buf, sizeof buf, 0), -EINVAL);
        assert_int_equal(brood_connection_recv(a, NULL, 1, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_alloc(NULL, &data, 0), -EINVAL);
        assert_int_equal(brood_connection_recv_alloc(a, NULL, 0), -EINVAL);
        assert_int_equal(brood_connection_next_size(NULL, 0), -EINVAL);
        assert_int_equal(brood_connection_poll(NULL, 0), -EINVAL);
        assert_int_equal(brood_connection_fileno(NULL), -EINVAL);
        assert_int_equal(brood_connection_close(NULL), -EINVAL);
        brood_connection_free(NULL);

        /* A negative size is a huge one. */
        assert_int_equal(brood_connection_send(a, buf, (size_t)-1, 0), -EMSGSIZE);
        assert_int_equal(brood_connection_send(a, buf, BROOD_CONNECTION_MESSAGE_DEFAULT + 1, 0), -EMSGSIZE);
        assert_int_equal(brood_connection_poll(b, 0), 0);

        assert_int_equal(brood_connection_send(a, NULL, 0, 0), 0);
        assert_int_equal(brood_connection_recv(b, NULL, 0, 0), 0);
        free_pair(a, b);
}

static void test_close(void **state)
{
        (void)state;
        brood_connection *a, *b;
        void *data = NULL;
        char buf[8];
        int fd;

        make_pair(&a, &b, true);
        assert_int_equal(brood_connection_close(a), 0);
        assert_int_equal(brood_connection_close(a), 0);
        assert_int_equal(send_text(a, "x"), -EBADF);
        assert_int_equal(brood_connection_flush(a, 0), -EBADF);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, 0), -EBADF);
        assert_int_equal(brood_connection_recv_alloc(a, &data, 0), -EBADF);
        assert_int_equal(brood_connection_next_size(a, 0), -EBADF);
        assert_int_equal(brood_connection_poll(a, 0), -EBADF);
        assert_int_equal(brood_connection_fileno(a), -EBADF);
        assert_int_equal(brood_connection_send_descriptors(a, &(int){ 0 }, 1, 0), -EBADF);
        assert_int_equal(brood_connection_recv_descriptors(a, &fd, 1, 0), -EBADF);
        assert_int_equal(brood_connection_send_object(a, 1, &(int){ 0 }, 1, 0), -EBADF);
        assert_int_equal(brood_connection_recv_object(a, 1, &fd, 1, 0), -EBADF);
        /* And the other side sees the end, as often as it looks. */
        for (int i = 0; i < 3; i++) {
                assert_int_equal(brood_connection_poll(b, CHECK_HANG_MS), 1);
                assert_int_equal(brood_connection_recv(b, buf, sizeof buf, BROOD_FOREVER), -EPIPE);
                assert_int_equal(brood_connection_next_size(b, 0), -EPIPE);
                assert_int_equal(brood_connection_recv_alloc(b, &data, 0), -EPIPE);
                assert_int_equal(send_text(b, "x"), -EPIPE);
        }
        assert_null(data);
        free_pair(a, b);
}

static void test_errno_is_left_alone(void **state)
{
        (void)state;
        brood_connection *a, *b;
        char buf[8];
        errno = 4711;
        make_pair(&a, &b, true);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, 0), -EAGAIN);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, 1), -ETIMEDOUT);
        brood_connection_close(b);
        assert_int_equal(send_text(a, "x"), -EPIPE);
        free_pair(a, b);
        assert_int_equal(brood_connection_new(&a, -1, NULL), -EBADF);
        assert_int_equal(errno, 4711);
}

/* ---- the wire ---- */

static void test_wire_format(void **state)
{
        (void)state;
        static const size_t sizes[] = { 0, 1, 255, 256, 16384, 16385, 65536, 100000 };
        unsigned char *bytes = malloc(100004), *buf = malloc(100004);
        int raw;
        brood_connection *c = wire_pair(&raw, NULL);

        for (size_t i = 0; i < array_length(sizes); i++) {
                size_t size = sizes[i];
                const unsigned char head[4] = { 0, (unsigned char)(size >> 16), (unsigned char)(size >> 8),
                                                (unsigned char)size };
                wire_fill(bytes, size, i);
                assert_int_equal(brood_connection_send(c, bytes, size, CHECK_HANG_MS), 0);
                wire_get(raw, buf, 4 + size);
                assert_memory_equal(buf, head, 4);
                assert_true(wire_filled(buf + 4, size, i));
                assert_false(wire_readable(raw));

                /* The same back; and once more under a long length, which a short message may have too. */
                wire_put_message(raw, bytes, size);
                assert_int_equal(brood_connection_recv(c, buf, size, CHECK_HANG_MS), size);
                assert_true(wire_filled(buf, size, i));
                wire_put_long_length(raw, size);
                if (size > 0)
                        wire_put(raw, bytes, size);
                assert_int_equal(brood_connection_recv(c, buf, size, CHECK_HANG_MS), size);
                assert_true(wire_filled(buf, size, i));
        }
        free(bytes);
        free(buf);
        close(raw);
        brood_connection_free(c);
}

static int read_long_head(void *arg)
{
        int raw = *(int *)arg;
        const unsigned char expected[14] = { 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 1, 'a', 'b' };
        unsigned char head[14];
        for (size_t done = 0; done < sizeof head;) {
                ssize_t n = read(raw, head + done, sizeof head - done);
                require(n > 0);
                done += (size_t)n;
        }
        require(memcmp(head, expected, sizeof head) == 0);
        return 0;
}

/* Nobody wants to move 2 GiB in a test, but how they begin can be seen. */
static void test_long_length(void **state)
{
        (void)state;
        size_t size = ((size_t)1 << 31) + 1;
        int raw;
        brood_connection *c = wire_pair(&raw, &(brood_connection_options){ .max_message = size });
        char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert_true(bytes != MAP_FAILED);
        bytes[0] = 'a';
        bytes[1] = 'b';
        pid_t pid = check_start(read_long_head, &raw);
        close(raw);
        assert_int_equal(brood_connection_send(c, bytes, size, BROOD_FOREVER), -EPIPE);
        assert_int_equal(check_wait(pid), 0);
        brood_connection_free(c);
        munmap(bytes, size);
}

/* What is no length: -EPROTO, again and again, and the other direction goes on. */
static void test_bad_lengths(void **state)
{
        (void)state;
        static const struct {
                bool is_long;
                uint64_t length;
                size_t max_message;
        } cases[] = {
                { false, (uint32_t)-2, 0 },
                { false, (uint32_t)INT32_MIN, 0 },
                { false, 0x80000001, 0 },
                { true, (uint64_t)1 << 63, 0 },
                { true, UINT64_MAX, 0 },
                { true, (uint64_t)1 << 31, 0 },
                { true, (uint64_t)1 << 63, BROOD_CONNECTION_MESSAGE_LIMIT },
                { false, 101, 100 },
                { true, 101, 100 },
        };
        for (size_t i = 0; i < array_length(cases); i++) {
                int raw, fd = -1;
                brood_connection *c =
                    wire_pair(&raw, &(brood_connection_options){ .max_message = cases[i].max_message });
                char buf[128];
                void *data = NULL;
                if (cases[i].is_long)
                        wire_put_long_length(raw, cases[i].length);
                else
                        wire_put_length(raw, (int32_t)cases[i].length);
                wire_put(raw, "whatever", 8);
                memset(buf, 1, sizeof buf);
                for (int again = 0; again < 2; again++) {
                        assert_int_equal(brood_connection_recv(c, buf, sizeof buf, BROOD_FOREVER), -EPROTO);
                        assert_int_equal(brood_connection_recv(c, buf, 0, 0), -EPROTO);
                        assert_int_equal(brood_connection_recv_alloc(c, &data, BROOD_FOREVER), -EPROTO);
                        assert_int_equal(brood_connection_next_size(c, BROOD_FOREVER), -EPROTO);
                        assert_int_equal(brood_connection_recv_descriptors(c, &fd, 1, BROOD_FOREVER), -EPROTO);
                        assert_int_equal(brood_connection_recv_object(c, 1, &fd, 1, BROOD_FOREVER), -EPROTO);
                        assert_int_equal(brood_connection_poll(c, BROOD_FOREVER), 1);
                }
                assert_int_equal(buf[0], 1);
                assert_null(data);
                assert_int_equal(fd, -1);
                assert_int_equal(send_text(c, "still"), 0);
                wire_get(raw, buf, 9);
                close(raw);
                brood_connection_free(c);
        }
}

/* The limit itself fits, either way. */
static void test_max_message(void **state)
{
        (void)state;
        int raw;
        brood_connection *c = wire_pair(&raw, &(brood_connection_options){ .max_message = 100 });
        char bytes[101] = "", buf[104];
        assert_int_equal(brood_connection_send(c, bytes, 101, 0), -EMSGSIZE);
        assert_int_equal(brood_connection_send(c, bytes, 100, 0), 0);
        wire_get(raw, buf, 104);
        assert_false(wire_readable(raw));
        wire_put_message(raw, bytes, 100);
        assert_int_equal(brood_connection_recv(c, buf, sizeof buf, 0), 100);
        close(raw);
        brood_connection_free(c);
}

/* ---- receiving ---- */

static void test_too_small(void **state)
{
        (void)state;
        brood_connection *a, *b;
        char buf[16] = "untouched";
        make_pair(&a, &b, true);
        assert_int_equal(send_text(a, "0123456789"), 0);
        assert_int_equal(send_text(a, "next"), 0);
        for (size_t room = 0; room < 10; room++) {
                assert_int_equal(brood_connection_recv(b, buf, room, 0), -EMSGSIZE);
                assert_int_equal(brood_connection_poll(b, 0), 1);
                assert_true(wire_readable(brood_connection_fileno(b)));
        }
        assert_string_equal(buf, "untouched");
        assert_int_equal(brood_connection_next_size(b, 0), 10);
        assert_int_equal(brood_connection_recv(b, buf, 10, 0), 10);
        assert_memory_equal(buf, "0123456789", 10);
        assert_text(b, "next");
        free_pair(a, b);
}

static void test_next_size(void **state)
{
        (void)state;
        brood_connection *a, *b;
        make_pair(&a, &b, true);
        assert_int_equal(brood_connection_next_size(b, 0), -EAGAIN);
        assert_int_equal(brood_connection_next_size(b, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(send_text(a, "four"), 0);
        for (int i = 0; i < 3; i++)
                assert_int_equal(brood_connection_next_size(b, BROOD_FOREVER), 4);
        assert_text(b, "four");
        /* An empty message leaves the kernel with that, and is still there. */
        assert_int_equal(send_text(a, ""), 0);
        assert_int_equal(brood_connection_poll(b, 0), 1);
        assert_int_equal(brood_connection_next_size(b, BROOD_FOREVER), 0);
        assert_false(wire_readable(brood_connection_fileno(b)));
        assert_int_equal(brood_connection_poll(b, BROOD_FOREVER), 1);
        assert_text(b, "");
        assert_int_equal(brood_connection_poll(b, 0), 0);
        free_pair(a, b);
}

static void test_poll(void **state)
{
        (void)state;
        brood_connection *a, *b;
        make_pair(&a, &b, true);
        assert_int_equal(brood_connection_poll(b, 0), 0);
        int64_t began = support_now_ms();
        assert_int_equal(brood_connection_poll(b, SHORT_MS), 0);
        assert_true(support_now_ms() - began >= SHORT_MS);
        assert_int_equal(send_text(a, "x"), 0);
        assert_int_equal(brood_connection_poll(b, 0), 1);
        assert_int_equal(brood_connection_poll(b, BROOD_FOREVER), 1);
        assert_text(b, "x");
        assert_int_equal(brood_connection_poll(b, 0), 0);
        brood_connection_close(a);
        assert_int_equal(brood_connection_poll(b, BROOD_FOREVER), 1);
        free_pair(a, b);
}

static void test_alloc(void **state)
{
        (void)state;
        brood_connection *a, *b;
        unsigned char *bytes = malloc(100000);
        void *data = NULL;
        make_pair(&a, &b, true);
        assert_int_equal(brood_connection_recv_alloc(b, &data, 0), -EAGAIN);
        assert_int_equal(brood_connection_recv_alloc(b, &data, SHORT_MS), -ETIMEDOUT);
        assert_null(data);
        static const size_t sizes[] = { 0, 1, 16383, 16384, 16385, 100000 };
        for (size_t i = 0; i < array_length(sizes); i++) {
                wire_fill(bytes, sizes[i], i);
                assert_int_equal(brood_connection_send(a, bytes, sizes[i], CHECK_HANG_MS), 0);
                assert_int_equal(brood_connection_recv_alloc(b, &data, CHECK_HANG_MS), sizes[i]);
                assert_non_null(data);
                assert_true(wire_filled(data, sizes[i], i));
                free(data);
        }
        free(bytes);
        free_pair(a, b);
}

/* Half a message, then silence, at every byte of it. */
static void test_a_byte_at_a_time(void **state)
{
        (void)state;
        enum { SIZE = 40 };
        for (int is_long = 0; is_long < 2; is_long++)
                for (int way = 0; way < 4; way++) {
                        int raw;
                        brood_connection *c = wire_pair(&raw, NULL);
                        unsigned char wire[12 + SIZE], buf[SIZE];
                        size_t head = is_long ? 12 : 4;
                        void *data = NULL;
                        ssize_t n = 0;
                        memset(wire, 0xff, 4);
                        memset(wire + (is_long ? 4 : 0), 0, 8);
                        wire[head - 1] = SIZE;
                        wire_fill(wire + head, SIZE, 7);
                        for (size_t i = 0; i < head + SIZE; i++) {
                                wire_put(raw, wire + i, 1);
                                bool last = i + 1 == head + SIZE;
                                if (way == 3 && i % 3 == 0) { /* all calls in turn */
                                        n = brood_connection_next_size(c, 0);
                                        assert_int_equal(n, i + 1 >= head ? SIZE : -EAGAIN);
                                        n = brood_connection_recv(c, buf, SIZE - 1, 0);
                                        assert_int_equal(n, i + 1 >= head ? -EMSGSIZE : -EAGAIN);
                                }
                                if (way == 1 || (way == 3 && i % 2))
                                        n = brood_connection_recv_alloc(c, &data, 0);
                                else
                                        n = brood_connection_recv(c, buf, SIZE, way == 2 && i % 16 == 0 ? 1 : 0);
                                if (last)
                                        break;
                                assert_true(n == -EAGAIN || n == -ETIMEDOUT);
                        }
                        assert_int_equal(n, SIZE);
                        assert_true(wire_filled(data != NULL ? data : buf, SIZE, 7));
                        free(data);
                        /* And what comes behind it is not disturbed. */
                        wire_put_message(raw, "behind", 6);
                        assert_text(c, "behind");
                        close(raw);
                        brood_connection_free(c);
                }
}

/* The stream ends, or is cut, at every byte of a message. */
static void test_ends_inside(void **state)
{
        (void)state;
        const unsigned char wire[] = { 0, 0, 0, 6, 'm', 'i', 'd', 'd', 'l', 'e' };
        for (size_t length = 0; length < sizeof wire; length++)
                for (int way = 0; way < 3; way++) {
                        int raw;
                        brood_connection *c = wire_pair(&raw, NULL);
                        char buf[16];
                        void *data = NULL;
                        ssize_t n = 0;
                        wire_put(raw, wire, length);
                        if (way == 1)
                                (void)brood_connection_recv(c, buf, sizeof buf, 0);
                        close(raw);
                        for (int again = 0; again < 3; again++) {
                                n = way == 2 ? brood_connection_recv_alloc(c, &data, BROOD_FOREVER)
                                             : brood_connection_recv(c, buf, sizeof buf, BROOD_FOREVER);
                                assert_int_equal(n, length == 0 ? -EPIPE : -ECONNRESET);
                                assert_int_equal(brood_connection_poll(c, BROOD_FOREVER), 1);
                        }
                        assert_null(data);
                        brood_connection_free(c);
                }
}

/* The other end goes with messages of ours unread: that is no end like any other. */
static void test_cut_off(void **state)
{
        (void)state;
        brood_connection *a, *b;
        char buf[8];
        make_pair(&a, &b, true);
        assert_int_equal(send_text(b, "last"), 0);
        assert_int_equal(send_text(a, "unread"), 0);
        brood_connection_free(b);
        assert_text(a, "last");
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, BROOD_FOREVER), -ECONNRESET);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, BROOD_FOREVER), -ECONNRESET);
        assert_int_equal(send_text(a, "x"), -EPIPE);
        brood_connection_free(a);
}

static size_t pages_of_memory(void)
{
        size_t pages = 0;
        FILE *file = fopen("/proc/self/statm", "re");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%zu", &pages), 1);
        fclose(file);
        return pages;
}

/* Two thousand megabytes are announced, a few bytes come. */
static void test_memory_is_for_what_has_come(void **state)
{
        (void)state;
        int raw;
        brood_connection *c = wire_pair(&raw, NULL);
        void *data = NULL;
        char chunk[1000] = "";
        wire_put_length(raw, INT32_MAX);
        assert_int_equal(brood_connection_recv_alloc(c, &data, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(brood_connection_next_size(c, 0), INT32_MAX);
        size_t before = pages_of_memory();
        for (int i = 0; i < 100; i++) {
                wire_put(raw, chunk, sizeof chunk);
                assert_int_equal(brood_connection_recv_alloc(c, &data, i % 2 ? 0 : 1), i % 2 ? -EAGAIN : -ETIMEDOUT);
        }
        if (!CHECK_ASAN) /* whose allocator keeps what was freed */
                assert_true(pages_of_memory() - before < ((size_t)1 << 20) / 4096);
        close(raw);
        assert_int_equal(brood_connection_recv_alloc(c, &data, BROOD_FOREVER), -ECONNRESET);
        assert_null(data);
        brood_connection_free(c);
}

/* ---- sending ---- */

/* As many as there is room for; then none, without waiting or with; then all are there. */
static void test_full(void **state)
{
        (void)state;
        brood_connection *a, *b;
        unsigned char message[100];
        for (int form = 0; form < 3; form++) {
                int sent = 0, r;
                if (form < 2)
                        make_pair(&a, &b, form == 0);
                else
                        make_os_pipe(&a, &b);
                for (;; sent++) {
                        wire_fill(message, sizeof message, (uint64_t)sent);
                        r = brood_connection_send(b, message, sizeof message, 0);
                        if (r != 0)
                                break;
                }
                assert_true(sent > 100);
                assert_true(r == -EAGAIN || r == -EINPROGRESS);
                if (r == -EINPROGRESS)
                        sent++;
                assert_int_equal(brood_connection_send(b, "x", 1, 0), -EAGAIN);
                int64_t began = support_now_ms();
                assert_int_equal(brood_connection_send(b, "x", 1, SHORT_MS), -ETIMEDOUT);
                assert_true(support_now_ms() - began >= SHORT_MS);
                for (int i = 0; i < sent; i++) {
                        if (i + 1 == sent)
                                assert_int_equal(brood_connection_flush(b, CHECK_HANG_MS), 0);
                        assert_int_equal(brood_connection_recv(a, message, sizeof message, CHECK_HANG_MS),
                                         sizeof message);
                        assert_true(wire_filled(message, sizeof message, (uint64_t)i));
                }
                assert_int_equal(brood_connection_poll(a, 0), 0);
                free_pair(a, b);
        }
}

struct reader {
        brood_connection *connection;
        size_t size;
        int count;
};

static int read_messages(void *arg)
{
        struct reader *reader = arg;
        unsigned char *buf = malloc(reader->size);
        for (int i = 0; i < reader->count; i++) {
                require_int(brood_connection_recv(reader->connection, buf, reader->size, CHECK_HANG_MS), reader->size);
                require(wire_filled(buf, reader->size, (uint64_t)i));
        }
        free(buf);
        return 0;
}

/* A part is on its way when the time is over. */
static void test_in_progress(void **state)
{
        (void)state;
        brood_connection *a, *b;
        unsigned char *bytes = malloc(LARGE);
        for (int form = 0; form < 2; form++) {
                struct check_thread thread;
                if (form == 0)
                        make_pair(&a, &b, false);
                else
                        make_os_pipe(&a, &b);
                wire_fill(bytes, LARGE, 0);
                assert_int_equal(brood_connection_send(b, bytes, LARGE, form == 0 ? 0 : SHORT_MS), -EINPROGRESS);
                /* It is the handle's now. */
                wire_fill(bytes, LARGE, 1);
                assert_int_equal(brood_connection_send(b, bytes, LARGE, 0), -EAGAIN);
                assert_int_equal(brood_connection_flush(b, 0), -EAGAIN);
                assert_int_equal(brood_connection_flush(b, SHORT_MS), -ETIMEDOUT);
                struct reader reader = { a, LARGE, 3 };
                check_thread_start(&thread, read_messages, &reader);
                assert_int_equal(brood_connection_send(b, bytes, LARGE, CHECK_HANG_MS), 0);
                wire_fill(bytes, LARGE, 2);
                assert_int_equal(brood_connection_send(b, bytes, LARGE, BROOD_FOREVER), 0);
                assert_int_equal(brood_connection_flush(b, 0), 0);
                assert_int_equal(check_thread_join(&thread), 0);
                free_pair(a, b);
        }
        /* Given up: the other side sees that the message has no end. */
        make_pair(&a, &b, true);
        assert_int_equal(brood_connection_send(b, bytes, LARGE, 0), -EINPROGRESS);
        brood_connection_free(b);
        assert_int_equal(brood_connection_recv(a, bytes, LARGE, BROOD_FOREVER), -ECONNRESET);
        brood_connection_free(a);
        /* Nobody is there to take the rest. */
        make_pair(&a, &b, true);
        assert_int_equal(brood_connection_send(b, bytes, LARGE, 0), -EINPROGRESS);
        brood_connection_free(a);
        assert_int_equal(brood_connection_flush(b, BROOD_FOREVER), -EPIPE);
        assert_int_equal(brood_connection_send(b, "x", 1, BROOD_FOREVER), -EPIPE);
        brood_connection_free(b);
        free(bytes);
}

static bool sigpipe_waits(void)
{
        sigset_t set;
        sigpending(&set);
        return sigismember(&set, SIGPIPE);
}

/* SIGPIPE ends a program by default: that this one goes on is a part of the test. */
static void test_no_sigpipe(void **state)
{
        (void)state;
        brood_connection *a, *b;
        struct sigaction action;
        sigset_t before, after, one;
        unsigned char *bytes = calloc(1, LARGE);
        assert_int_equal(sigaction(SIGPIPE, NULL, &action), 0);
        assert_true(action.sa_handler == SIG_DFL);
        for (int form = 0; form < 3; form++)
                for (int timeout = -1; timeout < 2; timeout++) {
                        if (form < 2)
                                make_pair(&a, &b, form == 0);
                        else
                                make_os_pipe(&a, &b);
                        brood_connection_free(a);
                        pthread_sigmask(SIG_SETMASK, NULL, &before);
                        for (int i = 0; i < 3; i++) {
                                assert_int_equal(brood_connection_send(b, bytes, LARGE, timeout), -EPIPE);
                                assert_false(sigpipe_waits());
                        }
                        pthread_sigmask(SIG_SETMASK, NULL, &after);
                        for (int number = 1; number < 65; number++)
                                assert_int_equal(sigismember(&before, number), sigismember(&after, number));

                        /* One that somebody else has raised and blocked is still there afterwards. */
                        sigemptyset(&one);
                        sigaddset(&one, SIGPIPE);
                        pthread_sigmask(SIG_BLOCK, &one, NULL);
                        assert_int_equal(brood_connection_send(b, "x", 1, timeout), -EPIPE);
                        assert_false(sigpipe_waits());
                        raise(SIGPIPE);
                        assert_int_equal(brood_connection_send(b, "x", 1, timeout), -EPIPE);
                        assert_true(sigpipe_waits());
                        int number;
                        sigwait(&one, &number);
                        pthread_sigmask(SIG_SETMASK, &before, NULL);
                        brood_connection_free(b);
                }
        assert_int_equal(sigaction(SIGPIPE, NULL, &action), 0);
        assert_true(action.sa_handler == SIG_DFL);
        free(bytes);
}

/* A descriptor that somebody has set to O_NONBLOCK, or has not: the flag is not touched, and the calls wait all the same. */
static void test_nonblocking_descriptor(void **state)
{
        (void)state;
        brood_connection *a, *b;
        unsigned char *bytes = malloc(LARGE);
        for (int form = 0; form < 2; form++) {
                struct check_thread thread;
                if (form == 0)
                        make_pair(&a, &b, true);
                else
                        make_os_pipe(&a, &b);
                assert_int_equal(fcntl(brood_connection_fileno(a), F_GETFL) & O_NONBLOCK, 0);
                for (int i = 0; i < 2; i++) {
                        int fd = brood_connection_fileno(i ? a : b);
                        assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
                }
                struct reader reader = { a, LARGE, 2 };
                check_thread_start(&thread, read_messages, &reader);
                for (uint64_t i = 0; i < 2; i++) {
                        wire_fill(bytes, LARGE, i);
                        assert_int_equal(brood_connection_send(b, bytes, LARGE, i ? CHECK_HANG_MS : BROOD_FOREVER), 0);
                }
                assert_int_equal(check_thread_join(&thread), 0);
                free_pair(a, b);
        }
        free(bytes);
}

/* ---- processes ---- */

struct exchange {
        brood_connection *mine, *others;
        size_t size;
        int count;
};

static int echo(void *arg)
{
        struct exchange *exchange = arg;
        unsigned char *buf = malloc(exchange->size + 1);
        brood_connection_free(exchange->others);
        for (int i = 0;; i++) {
                ssize_t n = brood_connection_recv(exchange->mine, buf, exchange->size, CHECK_HANG_MS);
                if (n == -EPIPE)
                        break;
                require(n >= 0);
                require(wire_filled(buf, (size_t)n, (uint64_t)i));
                require_int(brood_connection_send(exchange->mine, buf, (size_t)n, CHECK_HANG_MS), 0);
        }
        brood_connection_free(exchange->mine);
        free(buf);
        return 0;
}

static void test_between_processes(void **state)
{
        (void)state;
        enum { MOST = 64 << 20 };
        static const size_t sizes[] = { 0, 1, 4096, 65536, 1000003, MOST };
        struct exchange exchange = { .size = MOST };
        unsigned char *bytes = malloc(MOST);
        make_pair(&exchange.others, &exchange.mine, true);
        pid_t pid = check_start(echo, &exchange);
        brood_connection_free(exchange.mine);
        for (size_t i = 0; i < array_length(sizes); i++) {
                wire_fill(bytes, sizes[i], i);
                assert_int_equal(brood_connection_send(exchange.others, bytes, sizes[i], CHECK_HANG_MS), 0);
                memset(bytes, 0, sizes[i]);
                assert_int_equal(brood_connection_recv(exchange.others, bytes, MOST, CHECK_HANG_MS), sizes[i]);
                assert_true(wire_filled(bytes, sizes[i], i));
        }
        brood_connection_free(exchange.others);
        assert_int_equal(check_wait(pid), 0);
        free(bytes);
}

static int send_without_end(void *arg)
{
        unsigned char *bytes = calloc(1, LARGE);
        while (brood_connection_send(arg, bytes, LARGE, BROOD_FOREVER) == 0)
                ;
        return 1;
}

static int receive_for_ever(void *arg)
{
        char buf[8];
        (void)brood_connection_recv(arg, buf, sizeof buf, BROOD_FOREVER);
        return 1;
}

/* Whoever is killed in the middle of a message: the other one hears of it. */
static void test_killed(void **state)
{
        (void)state;
        brood_connection *a, *b;
        unsigned char *buf = malloc(LARGE);
        make_pair(&a, &b, false);
        pid_t pid = check_start(send_without_end, b);
        brood_connection_free(b);
        assert_int_equal(brood_connection_recv(a, buf, LARGE, CHECK_HANG_MS), LARGE);
        assert_int_equal(brood_connection_poll(a, CHECK_HANG_MS), 1);
        assert_true(check_asleep(pid)); /* it has filled the socket */
        assert_int_equal(check_kill(pid), -SIGKILL);
        ssize_t n;
        while ((n = brood_connection_recv(a, buf, LARGE, CHECK_HANG_MS)) == LARGE)
                ;
        assert_int_equal(n, -ECONNRESET);
        brood_connection_free(a);

        make_pair(&a, &b, false);
        pid = check_start(receive_for_ever, a);
        brood_connection_free(a);
        assert_true(check_asleep(pid));
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(brood_connection_send(b, buf, LARGE, BROOD_FOREVER), -EPIPE);
        brood_connection_free(b);
        free(buf);
}

/* ---- signals ---- */

static atomic_int alarms;

static void on_alarm(int number)
{
        (void)number;
        atomic_fetch_add(&alarms, 1);
}

static int slow_echo(void *arg)
{
        struct exchange *exchange = arg;
        unsigned char *buf = malloc(exchange->size);
        brood_connection_free(exchange->others);
        for (int i = 0; i < exchange->count; i++) {
                /* Let the other side wait for a while, first with its send, then with its recv. */
                usleep(20000);
                require_int(brood_connection_recv(exchange->mine, buf, exchange->size, CHECK_HANG_MS), exchange->size);
                usleep(20000);
                require_int(brood_connection_send(exchange->mine, buf, exchange->size, CHECK_HANG_MS), 0);
        }
        return 0;
}

static void test_signals(void **state)
{
        (void)state;
        struct exchange exchange = { .size = LARGE, .count = 4 };
        struct sigaction action = { .sa_handler = on_alarm }, before; /* without SA_RESTART */
        unsigned char *bytes = malloc(LARGE);
        make_pair(&exchange.others, &exchange.mine, true);
        pid_t pid = check_start(slow_echo, &exchange);
        brood_connection_free(exchange.mine);
        atomic_store(&alarms, 0);
        assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
        struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { 0 };
        assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
        for (int i = 0; i < exchange.count; i++) {
                int timeout = i % 2 ? BROOD_FOREVER : CHECK_HANG_MS;
                wire_fill(bytes, LARGE, (uint64_t)i);
                assert_int_equal(brood_connection_send(exchange.others, bytes, LARGE, timeout), 0);
                assert_int_equal(brood_connection_recv(exchange.others, bytes, LARGE, timeout), LARGE);
                assert_true(wire_filled(bytes, LARGE, (uint64_t)i));
        }
        assert_int_equal(brood_connection_poll(exchange.others, SHORT_MS), 1); /* the end */
        assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
        assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
        assert_true(atomic_load(&alarms) > 10);
        assert_int_equal(check_wait(pid), 0);
        brood_connection_free(exchange.others);
        free(bytes);
}

/* ---- threads ---- */

enum { THREADS = 3, EACH = 150 };

struct crowd {
        brood_connection *connection;
        atomic_int *taken; /* by number */
        atomic_int number;
};

/* Each message begins with its number and has a length and a content that follow from it. */
static size_t crowd_size(uint32_t number)
{
        return 4 + check_mix(number) % (number % 16 == 0 ? 300000 : 3000);
}

static int crowd_send(void *arg)
{
        struct crowd *crowd = arg;
        unsigned char *buf = malloc(4 + 300000);
        for (int i = 0; i < EACH; i++) {
                uint32_t number = (uint32_t)atomic_fetch_add(&crowd->number, 1);
                size_t size = crowd_size(number);
                memcpy(buf, &number, 4);
                wire_fill(buf + 4, size - 4, number);
                int r;
                /* With time and without; what is in progress is sent. */
                do
                        r = brood_connection_send(crowd->connection, buf, size, i % 2 ? 2 : CHECK_HANG_MS);
                while (r == -ETIMEDOUT);
                require(r == 0 || r == -EINPROGRESS);
        }
        require_int(brood_connection_flush(crowd->connection, CHECK_HANG_MS), 0);
        free(buf);
        return 0;
}

static int crowd_recv(void *arg)
{
        struct crowd *crowd = arg;
        unsigned char *buf = malloc(4 + 300000);
        for (int i = 0; i < EACH; i++) {
                uint32_t number;
                ssize_t n;
                do
                        n = brood_connection_recv(crowd->connection, buf, 4 + 300000, i % 2 ? 2 : CHECK_HANG_MS);
                while (n == -ETIMEDOUT);
                require(n >= 4);
                memcpy(&number, buf, 4);
                require(number < THREADS * EACH);
                require_int(n, crowd_size(number));
                require(wire_filled(buf + 4, (size_t)n - 4, number));
                require_int(atomic_fetch_add(&crowd->taken[number], 1), 0);
        }
        free(buf);
        return 0;
}

static void test_threads(void **state)
{
        (void)state;
        static atomic_int taken[THREADS * EACH];
        brood_connection *a, *b;
        struct check_thread threads[2 * THREADS];
        make_pair(&a, &b, true);
        struct crowd senders = { .connection = b }, receivers = { .connection = a, .taken = taken };
        memset(taken, 0, sizeof taken);
        for (int i = 0; i < THREADS; i++) {
                check_thread_start(&threads[i], crowd_send, &senders);
                check_thread_start(&threads[THREADS + i], crowd_recv, &receivers);
        }
        for (size_t i = 0; i < array_length(threads); i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        for (size_t i = 0; i < array_length(taken); i++)
                assert_int_equal(atomic_load(&taken[i]), 1);
        assert_int_equal(brood_connection_poll(a, 0), 0);
        free_pair(a, b);
}

struct waiting {
        brood_connection *connection;
        atomic_int tid;
        ssize_t result;
};

static int wait_in_recv(void *arg)
{
        struct waiting *waiting = arg;
        char buf[8];
        atomic_store(&waiting->tid, gettid());
        waiting->result = brood_connection_recv(waiting->connection, buf, sizeof buf, BROOD_FOREVER);
        return 0;
}

static void start_waiting(struct check_thread *thread, struct waiting *waiting)
{
        check_thread_start(thread, wait_in_recv, waiting);
        assert_true(check_reaches(&waiting->tid, 1, CHECK_HANG_MS));
        assert_true(check_asleep(atomic_load(&waiting->tid)));
}

/* One thread waits for ever: others that want the same keep their own time limits, and other things are possible. */
static void test_another_waits(void **state)
{
        (void)state;
        brood_connection *a, *b;
        struct check_thread thread;
        char buf[8];
        make_pair(&a, &b, true);
        struct waiting waiting = { .connection = a };
        start_waiting(&thread, &waiting);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, 0), -EAGAIN);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(brood_connection_poll(a, 0), 0);
        assert_int_equal(brood_connection_poll(a, SHORT_MS), 0);
        assert_int_equal(send_text(a, "out"), 0);
        assert_text(b, "out");
        /* This is how a thread is woken. */
        assert_int_equal(shutdown(brood_connection_fileno(a), SHUT_RDWR), 0);
        assert_int_equal(check_thread_join(&thread), 0);
        assert_int_equal(waiting.result, -EPIPE);
        free_pair(a, b);
}

static int use_after_fork(void *arg)
{
        struct exchange *exchange = arg;
        char buf[8];
        void *data = NULL;
        /* A thread of the parent was receiving; nobody was sending. */
        for (int i = 0; i < 2; i++) {
                require_int(brood_connection_recv(exchange->mine, buf, sizeof buf, i ? BROOD_FOREVER : 0), -EPERM);
                require_int(brood_connection_recv_alloc(exchange->mine, &data, 0), -EPERM);
                require_int(brood_connection_next_size(exchange->mine, 0), -EPERM);
                require_int(brood_connection_poll(exchange->mine, 0), -EPERM);
        }
        require_int(send_text(exchange->mine, "child"), 0);
        require_int(brood_connection_recv(exchange->others, buf, sizeof buf, CHECK_HANG_MS), 5);
        brood_connection_free(exchange->mine);
        brood_connection_free(exchange->others);
        return 0;
}

static int free_after_fork(void *arg)
{
        struct exchange *exchange = arg;
        brood_connection_free(exchange->mine);
        brood_connection_free(exchange->others);
        return 0;
}

static void test_fork_while_another_waits(void **state)
{
        (void)state;
        struct exchange exchange;
        struct check_thread thread;
        make_pair(&exchange.mine, &exchange.others, true);
        struct waiting waiting = { .connection = exchange.mine };
        start_waiting(&thread, &waiting);
        check_in_child(use_after_fork, &exchange);
        check_in_child(free_after_fork, &exchange);
        /* The parent's thread knows nothing of all that. */
        assert_int_equal(send_text(exchange.others, "parent"), 0);
        assert_int_equal(check_thread_join(&thread), 0);
        assert_int_equal(waiting.result, 6);
        free_pair(exchange.mine, exchange.others);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_duplex),
                support_test(test_one_way),
                support_test(test_no_descriptors_left),
                support_test(test_adopted),
                support_test(test_bad_arguments),
                support_test(test_close),
                support_test(test_errno_is_left_alone),
                support_test(test_wire_format),
                support_test(test_long_length),
                support_test(test_bad_lengths),
                support_test(test_max_message),
                support_test(test_too_small),
                support_test(test_next_size),
                support_test(test_poll),
                support_test(test_alloc),
                support_test(test_a_byte_at_a_time),
                support_test(test_ends_inside),
                support_test(test_cut_off),
                support_test(test_memory_is_for_what_has_come),
                support_test(test_full),
                support_test(test_in_progress),
                support_test(test_no_sigpipe),
                support_test(test_nonblocking_descriptor),
                support_test(test_between_processes),
                support_test(test_killed),
                support_test(test_signals),
                support_test(test_threads),
                support_test(test_another_waits),
                support_test(test_fork_while_another_waits),
        };
        return support_main(argc, argv, "connection", tests, array_length(tests), 60);
}
