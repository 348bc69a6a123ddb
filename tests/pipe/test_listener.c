/* SPDX-License-Identifier: MIT
 *
 * tests/pipe/test_listener.c: what include/brood/listener.h says: addresses, keys, and peers that are silent, many, or wrong.
 * Python at the other end is in test_python_peer.c.
 */
#include "wire.h"

#include <brood/listener.h>

#include <netinet/in.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

#define KEY .key = "secret", .key_size = 6
#define WRONG_KEY .key = "Secret", .key_size = 6

static const brood_client_options right = { KEY }, wrong = { WRONG_KEY };

/* Whether brood was built with keys. */
static bool keys(void)
{
        brood_listener *l = NULL;
        int r = brood_listener_new(&l, &(brood_listener_options){ KEY });
        brood_listener_free(l);
        assert_true(r == 0 || r == -EOPNOTSUPP);
        return r == 0;
}

static brood_listener *listen_with(brood_listener_options options)
{
        brood_listener *l = NULL;
        int r = brood_listener_new(&l, &options);
        if (options.key != NULL && r == -EOPNOTSUPP)
                skip();
        assert_int_equal(r, 0);
        return l;
}

/* A name in the abstract name space that no other run of this test has. */
static const char *own_name(void)
{
        static char name[32];
        snprintf(name, sizeof name, "@brood-test-%d", (int)getpid());
        return name;
}

/* A directory of this test's own, and a path in it. */
static const char *path_in_a_directory(void)
{
        static char path[64];
        strcpy(path, "/tmp/brood-test-XXXXXX");
        assert_non_null(mkdtemp(path));
        strcat(path, "/socket");
        return path;
}

static void remove_directory(const char *path)
{
        char directory[64];
        strcpy(directory, path);
        *strrchr(directory, '/') = '\0';
        assert_int_equal(rmdir(directory), 0);
}

static bool path_exists(const char *path)
{
        struct stat status;
        return lstat(path, &status) == 0;
}

/* A bare socket that has connected. */
static int dial(const char *address)
{
        union {
                struct sockaddr any;
                struct sockaddr_un un;
                struct sockaddr_in in;
        } to = { 0 };
        socklen_t size;
        if (address[0] == '@') {
                to.un.sun_family = AF_UNIX;
                memcpy(to.un.sun_path + 1, address + 1, strlen(address + 1));
                size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(address));
        } else {
                to.in = (struct sockaddr_in){ .sin_family = AF_INET,
                                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                              .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1)) };
                size = sizeof to.in;
        }
        int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, &to.any, size) < 0) {
                perror("connect");
                exit(99);
        }
        return fd;
}

/* ---- clients in threads and processes ---- */

struct client {
        const char *address;
        const brood_client_options *options;
        int timeout_ms;
        int result;
};

/* Connect, and have a word sent back. */
static int be_client(void *arg)
{
        struct client *client = arg;
        brood_connection *c = NULL;
        char buf[16];
        client->result = brood_client(&c, client->address, client->options, client->timeout_ms);
        if (client->result < 0) {
                require(c == NULL);
                return 0;
        }
        require_int(brood_connection_send(c, "word", 4, CHECK_HANG_MS), 0);
        require_int(brood_connection_recv(c, buf, sizeof buf, CHECK_HANG_MS), 4);
        require(memcmp(buf, "word", 4) == 0);
        brood_connection_free(c);
        return 0;
}

static void start_client(struct check_thread *thread, struct client *client, const char *address,
                         const brood_client_options *options)
{
        *client = (struct client){ address, options, CHECK_HANG_MS, 1 };
        check_thread_start(thread, be_client, client);
}

static void send_back(brood_connection *c)
{
        char buf[16];
        ssize_t n = brood_connection_recv(c, buf, sizeof buf, CHECK_HANG_MS);
        assert_int_equal(n, 4);
        assert_int_equal(brood_connection_send(c, buf, 4, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_recv(c, buf, sizeof buf, CHECK_HANG_MS), -EPIPE);
        brood_connection_free(c);
}

/* One client of the right kind comes in and is served. */
static void serve_one(brood_listener *l, const brood_client_options *options)
{
        struct check_thread thread;
        struct client client;
        brood_connection *c = NULL;
        start_client(&thread, &client, brood_listener_address(l), options);
        assert_int_equal(brood_listener_accept(l, &c, CHECK_HANG_MS), 0);
        send_back(c);
        assert_int_equal(check_thread_join(&thread), 0);
        assert_int_equal(client.result, 0);
}

/* Wait until the other end of a bare socket is closed, throwing away what comes. */
static bool is_closed(int fd)
{
        char buf[256];
        while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, CHECK_HANG_MS) == 1)
                if (recv(fd, buf, sizeof buf, 0) <= 0)
                        return true;
        return false;
}

/* ---- addresses ---- */

static void test_addresses(void **state)
{
        (void)state;
        brood_listener *l;
        const char *path = path_in_a_directory();
        const char *const addresses[] = { "127.0.0.1:0", "[::1]:0", "localhost:0", own_name(), NULL, path };
        for (size_t i = 0; i < array_length(addresses); i++) {
                int r = brood_listener_new(&l, &(brood_listener_options){ .address = addresses[i] });
                if (i == 1 && (r == -EOPNOTSUPP || r == -EADDRNOTAVAIL))
                        continue; /* this machine has no IPv6 */
                assert_int_equal(r, 0);
                const char *address = brood_listener_address(l);
                switch (i) {
                case 0:
                case 2:
                        assert_memory_equal(address, "127.0.0.1:", 10);
                        assert_true(atoi(address + 10) > 0);
                        break;
                case 1:
                        assert_memory_equal(address, "[::1]:", 6);
                        assert_true(atoi(address + 6) > 0);
                        break;
                case 4:
                        assert_true(address[0] == '@' && address[1] != '\0');
                        break;
                default:
                        assert_string_equal(address, addresses[i]);
                }
                assert_true(wire_closes_on_exec(brood_listener_fileno(l)));
                serve_one(l, NULL);
                serve_one(l, NULL);
                assert_int_equal(brood_listener_refused(l), 0);
                brood_listener_free(l);
        }
        assert_false(path_exists(path));
        remove_directory(path);
}

static void test_no_addresses(void **state)
{
        (void)state;
        static const char *const bad[] = {
                "",
                "6000",
                ":6000",
                "127.0.0.1",
                "127.0.0.1:",
                "127.0.0.1:x",
                "127.0.0.1:-1",
                "127.0.0.1:65536",
                "127.0.0.1:99999999999999999999",
                "127.0.0.1: 1",
                "127.0.0.1:1x",
                "127.0.0:1",
                "256.0.0.1:1",
                "example.org:80",
                "::1:80",
                "[::1]",
                "[::1]80",
                "[::1:80",
                "[]:80",
                "[:80",
                "[127.0.0.1]:80",
                "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:80",
                "@",
                "relative/socket",
                "a.name",
        };
        brood_listener *l = NULL;
        brood_connection *c = NULL;
        char longest[120];
        for (size_t i = 0; i < array_length(bad); i++) {
                assert_int_equal(brood_listener_new(&l, &(brood_listener_options){ .address = bad[i] }), -EINVAL);
                assert_int_equal(brood_client(&c, bad[i], NULL, 0), -EINVAL);
        }
        /* A path has at most 107 bytes; so has a name. */
        memset(longest, 'x', sizeof longest);
        for (int first = 0; first < 2; first++) {
                longest[0] = first ? '/' : '@';
                longest[108] = '\0';
                assert_int_equal(brood_listener_new(&l, &(brood_listener_options){ .address = longest }), -EINVAL);
                assert_int_equal(brood_client(&c, longest, NULL, 0), -EINVAL);
        }
        memcpy(longest, own_name(), strlen(own_name()));
        longest[107] = '\0';
        l = listen_with((brood_listener_options){ .address = longest });
        assert_string_equal(brood_listener_address(l), longest);
        serve_one(l, NULL);
        brood_listener_free(l);
        assert_null(c);
}

static void test_nobody_there(void **state)
{
        (void)state;
        brood_connection *c = NULL;
        const char *path = path_in_a_directory();
        brood_listener *l = listen_with((brood_listener_options){ .address = "127.0.0.1:0" });
        char address[64];
        strcpy(address, brood_listener_address(l));
        brood_listener_free(l);
        assert_int_equal(brood_client(&c, address, NULL, CHECK_HANG_MS), -ECONNREFUSED);
        assert_int_equal(brood_client(&c, own_name(), NULL, CHECK_HANG_MS), -ECONNREFUSED);
        assert_int_equal(brood_client(&c, path, NULL, CHECK_HANG_MS), -ENOENT);
        assert_int_equal(brood_client(&c, "/dev/null/socket", NULL, CHECK_HANG_MS), -ENOTDIR);
        assert_int_equal(brood_client(&c, "/dev/null", NULL, CHECK_HANG_MS), -ECONNREFUSED);
        l = NULL;
        assert_int_equal(brood_listener_new(&l, &(brood_listener_options){ .address = "/dev/null/socket" }), -ENOTDIR);
        assert_int_equal(brood_listener_new(&l, &(brood_listener_options){ .address = "/no/such/directory" }), -ENOENT);
        assert_int_equal(brood_listener_new(&l, &(brood_listener_options){ .address = "192.0.2.1:0" }), -EADDRNOTAVAIL);
        assert_null(l);
        assert_null(c);
        remove_directory(path);
}

static void test_taken(void **state)
{
        (void)state;
        const char *const addresses[] = { "127.0.0.1:0", own_name(), NULL };
        const char *path = path_in_a_directory();
        for (size_t i = 0; i < array_length(addresses); i++) {
                brood_listener *l = listen_with((brood_listener_options){ .address = i == 2 ? path : addresses[i] }),
                               *other = NULL;
                assert_int_equal(
                    brood_listener_new(&other, &(brood_listener_options){ .address = brood_listener_address(l) }),
                    -EADDRINUSE);
                assert_null(other);
                serve_one(l, NULL);
                brood_listener_free(l);
        }
        /* What somebody else has put there meanwhile is not removed. */
        brood_listener *l = listen_with((brood_listener_options){ .address = path });
        assert_int_equal(unlink(path), 0);
        brood_listener *other = listen_with((brood_listener_options){ .address = path });
        brood_listener_free(l);
        assert_true(path_exists(path));
        serve_one(other, NULL);
        brood_listener_free(other);
        assert_false(path_exists(path));
        remove_directory(path);
}

static void test_bad_options(void **state)
{
        (void)state;
        static const char key[5000] = "k";
        static const brood_listener_options bad[] = {
                { .key = key, .key_size = 0 },
                { .key = NULL, .key_size = 1 },
                { .key = key, .key_size = BROOD_KEY_LIMIT + 1 },
                { .max_message = BROOD_CONNECTION_MESSAGE_LIMIT + (size_t)1 },
                { .auth_timeout_ms = -1 },
                { .max_pending = -1 },
                { .max_pending = BROOD_LISTENER_PENDING_LIMIT + 1 },
                { .backlog = -1 },
                { .backlog = BROOD_LISTENER_BACKLOG_LIMIT + 1 },
        };
        brood_listener *l = NULL;
        brood_connection *c = NULL;
        for (size_t i = 0; i < array_length(bad); i++)
                assert_int_equal(brood_listener_new(&l, &bad[i]), -EINVAL);
        assert_int_equal(brood_listener_new(NULL, NULL), -EINVAL);
        struct {
                brood_listener_options known;
                size_t unknown;
        } newer = { .unknown = 1 };
        assert_int_equal(brood_listener_new_sized(&l, &newer.known, sizeof newer), -E2BIG);
        assert_null(l);

        static const brood_client_options bad_client[] = {
                { .key = key, .key_size = 0 },
                { .key = NULL, .key_size = 1 },
                { .key = key, .key_size = BROOD_KEY_LIMIT + 1 },
                { .max_message = BROOD_CONNECTION_MESSAGE_LIMIT + (size_t)1 },
        };
        for (size_t i = 0; i < array_length(bad_client); i++)
                assert_int_equal(brood_client(&c, own_name(), &bad_client[i], 0), -EINVAL);
        assert_int_equal(brood_client(NULL, own_name(), NULL, 0), -EINVAL);
        assert_int_equal(brood_client(&c, NULL, NULL, 0), -EINVAL);
        assert_int_equal(brood_listener_accept(NULL, &c, 0), -EINVAL);
        assert_int_equal(brood_listener_fileno(NULL), -EINVAL);
        assert_int_equal(brood_listener_refused(NULL), 0);
        assert_null(brood_listener_address(NULL));
        brood_listener_free(NULL);

        l = listen_with((brood_listener_options){ .max_pending = 1, .backlog = 1 });
        assert_int_equal(brood_listener_accept(l, NULL, 0), -EINVAL);
        assert_int_equal(brood_listener_accept(l, &c, 0), -EAGAIN);
        assert_int_equal(brood_listener_accept(l, &c, SHORT_MS), -ETIMEDOUT);
        assert_null(c);
        brood_listener_free(l);

        if (!keys()) {
                assert_int_equal(brood_listener_new(&l, &(brood_listener_options){ KEY }), -EOPNOTSUPP);
                assert_int_equal(brood_client(&c, own_name(), &right, 0), -EOPNOTSUPP);
        }
}

static void test_errno_is_left_alone(void **state)
{
        (void)state;
        brood_listener *l = NULL;
        brood_connection *c = NULL;
        errno = 4711;
        l = listen_with((brood_listener_options){ 0 });
        assert_int_equal(brood_listener_accept(l, &c, 0), -EAGAIN);
        assert_int_equal(brood_listener_accept(l, &c, 1), -ETIMEDOUT);
        brood_listener_free(l);
        assert_int_equal(brood_client(&c, own_name(), NULL, 1), -ECONNREFUSED);
        assert_int_equal(errno, 4711);
}

/* The connections have the limits that were asked for. */
static void test_max_message(void **state)
{
        (void)state;
        brood_connection *a = NULL, *b = NULL;
        char bytes[11] = "";
        brood_listener *l = listen_with((brood_listener_options){ .max_message = 10 });
        assert_int_equal(
            brood_client(&a, brood_listener_address(l), &(brood_client_options){ .max_message = 10 }, CHECK_HANG_MS),
            0);
        assert_int_equal(brood_listener_accept(l, &b, CHECK_HANG_MS), 0);
        assert_int_equal(brood_connection_send(a, bytes, 11, 0), -EMSGSIZE);
        assert_int_equal(brood_connection_send(b, bytes, 11, 0), -EMSGSIZE);
        assert_int_equal(brood_connection_send(b, bytes, 10, 0), 0);
        assert_int_equal(brood_connection_recv(a, bytes, 10, CHECK_HANG_MS), 10);
        brood_connection_free(a);
        brood_connection_free(b);
        brood_listener_free(l);
}

/* ---- keys ---- */

static void test_right_and_wrong_keys(void **state)
{
        (void)state;
        static const char *const addresses[] = { "127.0.0.1:0", NULL };
        for (size_t i = 0; i < array_length(addresses); i++)
                for (int refuse = 0; refuse < 2; refuse++) {
                        brood_listener *l =
                            listen_with((brood_listener_options){ .address = addresses[i], .refuse_md5 = refuse, KEY });
                        brood_connection *c = NULL;
                        struct check_thread thread;
                        struct client client;
                        serve_one(l, &right);
                        serve_one(l, &(brood_client_options){ KEY, .refuse_md5 = 1 });
                        for (uint64_t refused = 1; refused < 3; refused++) {
                                start_client(&thread, &client, brood_listener_address(l), &wrong);
                                int r;
                                while ((r = brood_listener_accept(l, &c, SHORT_MS)) == -ETIMEDOUT &&
                                       brood_listener_refused(l) < refused)
                                        ;
                                assert_int_equal(r, -ETIMEDOUT);
                                assert_int_equal(check_thread_join(&thread), 0);
                                assert_int_equal(client.result, -EKEYREJECTED);
                                assert_int_equal(brood_listener_refused(l), refused);
                        }
                        serve_one(l, &right);
                        assert_null(c);
                        brood_listener_free(l);
                }
}

/* One side has a key and the other has none. */
static void test_one_key(void **state)
{
        (void)state;
        brood_connection *a = NULL, *b = NULL;
        char buf[100];
        brood_listener *l = listen_with((brood_listener_options){ KEY });
        assert_int_equal(brood_client(&a, brood_listener_address(l), NULL, CHECK_HANG_MS), 0);
        assert_int_equal(brood_listener_accept(l, &b, 0), -EAGAIN);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, CHECK_HANG_MS), 59);
        assert_memory_equal(buf, "#CHALLENGE#{sha256}", 19);
        assert_int_equal(brood_connection_send(a, "let me in", 9, CHECK_HANG_MS), 0);
        assert_int_equal(brood_listener_accept(l, &b, 0), -EAGAIN);
        assert_int_equal(brood_connection_recv(a, buf, sizeof buf, CHECK_HANG_MS), 9);
        assert_memory_equal(buf, "#FAILURE#", 9);
        ssize_t n = brood_connection_recv(a, buf, sizeof buf, CHECK_HANG_MS);
        assert_true(n == -EPIPE || n == -ECONNRESET);
        assert_int_equal(brood_listener_refused(l), 1);
        brood_connection_free(a);
        brood_listener_free(l);

        l = listen_with((brood_listener_options){ 0 });
        a = NULL;
        assert_int_equal(brood_client(&a, brood_listener_address(l), &right, SHORT_MS), -ETIMEDOUT);
        assert_int_equal(brood_client(&a, brood_listener_address(l), &right, 0), -EAGAIN);
        assert_null(a);
        assert_null(b);
        brood_listener_free(l);
}

/* What a client does when the listener is none. */
static int be_false_listener(void *arg)
{
        int *fds = arg;
        char buf[256];
        int fd = accept4(fds[0], NULL, NULL, SOCK_CLOEXEC);
        require(fd >= 0);
        switch (fds[1]) {
        case 0: /* it leaves at once */
                break;
        case 1: /* and after the question */
                wire_put_message(fd, "#CHALLENGE#01234567890123456789", 31);
                break;
        case 2:
                wire_put_message(fd, "HTTP/1.1 400 Bad Request", 24);
                break;
        case 3: /* a length without end */
                wire_put_length(fd, INT32_MAX);
                break;
        case 4: /* it welcomes everybody, but cannot prove that it knows the key */
        case 5:
                wire_put_message(fd, "#CHALLENGE#01234567890123456789", 31);
                require_int(recv(fd, buf, 20, MSG_WAITALL), 20);
                wire_put_message(fd, "#WELCOME#", 9);
                require_int(recv(fd, buf, 63, MSG_WAITALL), 63);
                /* Its own question back, or something of the right length. */
                if (fds[1] == 4)
                        wire_put_message(fd, buf + 4, 59);
                else
                        wire_put_message(fd, "0123456789abcdef", 16);
                require_int(recv(fd, buf, 13, MSG_WAITALL), 13);
                require(memcmp(buf, "\0\0\0\11#FAILURE#", 13) == 0);
                break;
        case 6: /* it rejects the answer */
                wire_put_message(fd, "#CHALLENGE#01234567890123456789", 31);
                require_int(recv(fd, buf, 20, MSG_WAITALL), 20);
                wire_put_message(fd, "#FAILURE#", 9);
                break;
        default:
                break;
        }
        /* So that what was said is not lost: the client closes first. */
        if (fds[1] > 1)
                while (recv(fd, buf, sizeof buf, 0) > 0)
                        ;
        close(fd);
        return 0;
}

static void test_false_listeners(void **state)
{
        (void)state;
        static const int results[] = {
                -ECONNRESET, -ECONNRESET, -EPROTO, -EPROTO, -EPROTO, -EKEYREJECTED, -EKEYREJECTED
        };
        if (!keys())
                skip();
        for (int i = 0; i < (int)array_length(results); i++) {
                struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
                socklen_t size = sizeof to;
                int fds[2] = { socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), i };
                char address[32];
                struct check_thread thread;
                brood_connection *c = NULL;
                assert_int_equal(bind(fds[0], (struct sockaddr *)&to, size), 0);
                assert_int_equal(listen(fds[0], 1), 0);
                assert_int_equal(getsockname(fds[0], (struct sockaddr *)&to, &size), 0);
                snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(to.sin_port));
                check_thread_start(&thread, be_false_listener, fds);
                assert_int_equal(brood_client(&c, address, &right, i % 2 ? BROOD_FOREVER : CHECK_HANG_MS), results[i]);
                assert_null(c);
                assert_int_equal(check_thread_join(&thread), 0);
                close(fds[0]);
        }
}

/* ---- peers of all kinds ---- */

/* Many say nothing; one that knows the key is served all the same, long before the others' time is over; then they are gone. */
static void test_silent_peers(void **state)
{
        (void)state;
        enum { SILENT = 20, LIMIT_MS = 3000 };
        static const char *const addresses[] = { "127.0.0.1:0", NULL };
        for (size_t i = 0; i < array_length(addresses); i++) {
                brood_listener *l =
                    listen_with((brood_listener_options){ .address = addresses[i], .auth_timeout_ms = LIMIT_MS, KEY });
                brood_connection *c = NULL;
                int silent[SILENT];
                for (int j = 0; j < SILENT; j++) {
                        silent[j] = dial(brood_listener_address(l));
                        if (j % 2) /* half a length */
                                wire_put(silent[j], "\0\0", 2);
                }
                serve_one(l, &right);
                /* Those who came first have had their chance, unless this machine was very slow. */
                int64_t began = support_now_ms();
                while (brood_listener_refused(l) < SILENT) {
                        assert_int_equal(brood_listener_accept(l, &c, 100), -ETIMEDOUT);
                        assert_true(support_now_ms() - began < LIMIT_MS + CHECK_HANG_MS);
                }
                for (int j = 0; j < SILENT; j++) {
                        assert_true(is_closed(silent[j]));
                        close(silent[j]);
                }
                assert_int_equal(brood_listener_refused(l), SILENT);
                serve_one(l, &right);
                brood_listener_free(l);
        }
}

/* With no time of its own, an accept that waits for ever ends nobody's time too late. */
static int accept_for_ever(void *arg)
{
        brood_connection *c = NULL;
        require_int(brood_listener_accept(arg, &c, BROOD_FOREVER), 0);
        brood_connection_free(c);
        return 0;
}

static void test_accept_for_ever(void **state)
{
        (void)state;
        struct check_thread thread;
        brood_listener *l = listen_with((brood_listener_options){ .auth_timeout_ms = 1000, KEY });
        brood_connection *c = NULL;
        check_thread_start(&thread, accept_for_ever, l);
        int silent = dial(brood_listener_address(l));
        assert_true(is_closed(silent));
        close(silent);
        assert_int_equal(brood_listener_refused(l), 1);
        assert_int_equal(brood_client(&c, brood_listener_address(l), &right, CHECK_HANG_MS), 0);
        assert_int_equal(check_thread_join(&thread), 0);
        brood_connection_free(c);
        brood_listener_free(l);
}

/* A host that serves one after the other, for longer than a peer's time: that time runs in accept only. */
static void test_busy_host(void **state)
{
        (void)state;
        enum { LIMIT_MS = 2000 };
        brood_listener *l = listen_with((brood_listener_options){ .auth_timeout_ms = LIMIT_MS, KEY });
        struct check_thread threads[3];
        struct client clients[3];
        brood_connection *c = NULL;
        int silent = dial(brood_listener_address(l));
        for (int i = 0; i < 3; i++)
                start_client(&threads[i], &clients[i], brood_listener_address(l), &right);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(brood_listener_accept(l, &c, CHECK_HANG_MS), 0);
                if (i == 0)
                        usleep((LIMIT_MS + 500) * 1000); /* busy */
                send_back(c);
        }
        for (int i = 0; i < 3; i++) {
                assert_int_equal(check_thread_join(&threads[i]), 0);
                assert_int_equal(clients[i].result, 0);
        }
        while (brood_listener_refused(l) == 0)
                assert_int_equal(brood_listener_accept(l, &c, SHORT_MS), -ETIMEDOUT);
        assert_true(is_closed(silent));
        close(silent);
        brood_listener_free(l);
}

/* One more than there is room for: the one that came first makes room. */
static void test_too_many_peers(void **state)
{
        (void)state;
        enum { ROOM = 3 };
        brood_listener *l = listen_with((brood_listener_options){ .max_pending = ROOM, .auth_timeout_ms = 60000, KEY });
        brood_connection *c = NULL;
        int peers[2 * ROOM];
        for (int i = 0; i < 2 * ROOM; i++) {
                peers[i] = dial(brood_listener_address(l));
                assert_int_equal(brood_listener_accept(l, &c, 5), -ETIMEDOUT); /* so that each has an age of its own */
                assert_int_equal(brood_listener_refused(l), i < ROOM ? 0 : i + 1 - ROOM);
                char challenge[63];
                wire_get(peers[i], challenge, sizeof challenge);
        }
        for (int i = 0; i < ROOM; i++)
                assert_true(is_closed(peers[i]));
        for (int i = ROOM; i < 2 * ROOM; i++)
                assert_false(wire_readable(peers[i]));
        serve_one(l, &right);
        assert_int_equal(brood_listener_refused(l), ROOM + 1);
        brood_listener_free(l);
        for (int i = 0; i < 2 * ROOM; i++) {
                assert_true(is_closed(peers[i]));
                close(peers[i]);
        }
        assert_null(c);
}

/* Whatever is said instead of an answer: the peer is dropped at once, and the next one is let in. */
static void test_garbage(void **state)
{
        (void)state;
        brood_listener *l = listen_with((brood_listener_options){ .auth_timeout_ms = 60000, KEY });
        brood_connection *c = NULL;
        const int rounds = support_rounds(300);
        for (int round = 0; round < rounds; round++) {
                unsigned char bytes[300];
                int fd = dial(brood_listener_address(l));
                size_t size = 1 + support_random(sizeof bytes);
                for (size_t i = 0; i < size; i++)
                        bytes[i] = (unsigned char)support_random(256);
                if (support_random(2)) /* a length that may be one */
                        memcpy(bytes, (unsigned char[]){ 0, 0, (unsigned char)support_random(2), (unsigned char)size },
                               size < 4 ? size : 4);
                (void)send(fd, bytes, size, MSG_NOSIGNAL);
                shutdown(fd, SHUT_WR);
                int r;
                while ((r = brood_listener_accept(l, &c, 0)) == -EAGAIN && brood_listener_refused(l) <= (uint64_t)round)
                        ;
                assert_int_equal(r, -EAGAIN);
                assert_true(is_closed(fd));
                close(fd);
        }
        assert_int_equal(brood_listener_refused(l), rounds);
        serve_one(l, &right);
        assert_null(c);
        brood_listener_free(l);
}

/* A crowd at the door, some with the wrong key. */
static void test_crowd(void **state)
{
        (void)state;
        enum { CROWD = 24 };
        static const char *const addresses[] = { "127.0.0.1:0", NULL };
        for (size_t i = 0; i < array_length(addresses); i++) {
                brood_listener *l = listen_with((brood_listener_options){ .address = addresses[i], KEY });
                struct check_thread threads[CROWD];
                struct client clients[CROWD];
                brood_connection *c = NULL;
                for (int j = 0; j < CROWD; j++)
                        start_client(&threads[j], &clients[j], brood_listener_address(l), j % 3 ? &right : &wrong);
                for (int j = 0; j < CROWD - CROWD / 3; j++) {
                        assert_int_equal(brood_listener_accept(l, &c, CHECK_HANG_MS), 0);
                        send_back(c);
                }
                while (brood_listener_refused(l) < CROWD / 3)
                        assert_int_equal(brood_listener_accept(l, &c, 10), -ETIMEDOUT);
                for (int j = 0; j < CROWD; j++) {
                        assert_int_equal(check_thread_join(&threads[j]), 0);
                        assert_int_equal(clients[j].result, j % 3 ? 0 : -EKEYREJECTED);
                }
                brood_listener_free(l);
        }
}

struct flood {
        const char *address;
        atomic_int stop, dialled;
};

static int flood(void *arg)
{
        struct flood *flood = arg;
        while (!atomic_load(&flood->stop)) {
                int fd = dial(flood->address);
                (void)send(fd, "x", 1, MSG_NOSIGNAL);
                close(fd);
                atomic_fetch_add(&flood->dialled, 1);
        }
        return 0;
}

/* Somebody connects and leaves without end: the time limits hold. */
static void test_flood(void **state)
{
        (void)state;
        brood_listener *l = listen_with((brood_listener_options){ .max_pending = 4, KEY });
        brood_connection *c = NULL;
        struct flood how = { .address = brood_listener_address(l) };
        struct check_thread thread;
        check_thread_start(&thread, flood, &how);
        assert_true(check_reaches(&how.dialled, 10, CHECK_HANG_MS));
        for (int i = 0; i < 20; i++) {
                assert_int_equal(brood_listener_accept(l, &c, 0), -EAGAIN);
                assert_int_equal(brood_listener_accept(l, &c, 10), -ETIMEDOUT);
        }
        assert_true(brood_listener_refused(l) > 10);
        atomic_store(&how.stop, 1);
        /* It may stand in front of a full backlog. */
        while (thread.result != 0 && brood_listener_accept(l, &c, 10) == -ETIMEDOUT)
                ;
        assert_int_equal(check_thread_join(&thread), 0);
        serve_one(l, &right);
        brood_listener_free(l);
}

/* ---- waiting ---- */

static void test_fileno(void **state)
{
        (void)state;
        for (int with_key = 0; with_key < 2; with_key++) {
                if (with_key && !keys())
                        break;
                brood_listener *l = with_key ? listen_with((brood_listener_options){ KEY })
                                             : listen_with((brood_listener_options){ 0 });
                struct check_thread thread;
                struct client client;
                brood_connection *c = NULL;
                int fd = brood_listener_fileno(l), r = -EAGAIN;
                assert_true(fd >= 0);
                assert_int_equal(brood_listener_fileno(l), fd);
                assert_false(wire_readable(fd));
                start_client(&thread, &client, brood_listener_address(l), with_key ? &right : NULL);
                for (int turns = 0; r == -EAGAIN; turns++) {
                        assert_true(turns < 20);
                        assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, CHECK_HANG_MS), 1);
                        r = brood_listener_accept(l, &c, 0);
                }
                assert_int_equal(r, 0);
                assert_false(wire_readable(fd));
                send_back(c);
                assert_int_equal(check_thread_join(&thread), 0);
                assert_int_equal(client.result, 0);
                brood_listener_free(l);
        }
}

/* The kernel's backlog is full: a client's time limit holds, and who waits gets in. */
static void test_backlog(void **state)
{
        (void)state;
        brood_listener *l = listen_with((brood_listener_options){ .backlog = 1 });
        brood_connection *connections[16] = { NULL }, *c = NULL, *late = NULL;
        int count = 0, r = 0;
        while (count < 16 && (r = brood_client(&connections[count], brood_listener_address(l), NULL, 0)) == 0)
                count++;
        assert_int_equal(r, -EAGAIN);
        assert_true(count > 0 && count < 16);
        int64_t began = support_now_ms();
        assert_int_equal(brood_client(&late, brood_listener_address(l), NULL, SHORT_MS), -ETIMEDOUT);
        assert_true(support_now_ms() - began >= SHORT_MS);
        struct check_thread thread;
        struct client client;
        start_client(&thread, &client, brood_listener_address(l), NULL);
        for (int i = 0; i < count; i++) {
                assert_int_equal(brood_listener_accept(l, &c, CHECK_HANG_MS), 0);
                brood_connection_free(c);
                brood_connection_free(connections[i]);
        }
        /* One that had connected in time and left again may still be there. */
        for (bool served = false; !served;) {
                char buf[8];
                assert_int_equal(brood_listener_accept(l, &c, CHECK_HANG_MS), 0);
                ssize_t n = brood_connection_recv(c, buf, sizeof buf, CHECK_HANG_MS);
                if (n == 4) {
                        assert_int_equal(brood_connection_send(c, buf, 4, CHECK_HANG_MS), 0);
                        served = true;
                }
                brood_connection_free(c);
        }
        assert_int_equal(check_thread_join(&thread), 0);
        assert_int_equal(client.result, 0);
        brood_listener_free(l);
}

static void test_no_descriptors_left(void **state)
{
        (void)state;
        brood_listener *l = NULL;
        brood_connection *c = NULL;
        struct rlimit before = check_descriptors_exhaust();
        assert_int_equal(brood_listener_new(&l, NULL), -EMFILE);
        assert_int_equal(brood_client(&c, "127.0.0.1:1", NULL, 0), -EMFILE);
        check_descriptors_restore(&before);
        assert_null(l);
        l = listen_with((brood_listener_options){ 0 });
        int peer = dial(brood_listener_address(l));
        before = check_descriptors_exhaust();
        assert_int_equal(brood_listener_accept(l, &c, BROOD_FOREVER), -EMFILE);
        check_descriptors_restore(&before);
        assert_null(c);
        assert_int_equal(brood_listener_accept(l, &c, 0), 0);
        brood_connection_free(c);
        close(peer);
        brood_listener_free(l);
}

/* ---- threads and processes ---- */

static int accept_and_send_back(void *arg)
{
        for (int i = 0; i < 5; i++) {
                brood_connection *c = NULL;
                char buf[16];
                require_int(brood_listener_accept(arg, &c, i % 2 ? BROOD_FOREVER : CHECK_HANG_MS), 0);
                require_int(brood_connection_recv(c, buf, sizeof buf, CHECK_HANG_MS), 4);
                require_int(brood_connection_send(c, buf, 4, CHECK_HANG_MS), 0);
                brood_connection_free(c);
        }
        return 0;
}

static void test_threads(void **state)
{
        (void)state;
        brood_listener *l = listen_with((brood_listener_options){ KEY });
        struct check_thread servers[2], threads[10];
        struct client clients[10];
        for (int i = 0; i < 2; i++)
                check_thread_start(&servers[i], accept_and_send_back, l);
        for (int i = 0; i < 10; i++)
                start_client(&threads[i], &clients[i], brood_listener_address(l), &right);
        for (int i = 0; i < 10; i++) {
                assert_int_equal(check_thread_join(&threads[i]), 0);
                assert_int_equal(clients[i].result, 0);
        }
        for (int i = 0; i < 2; i++)
                assert_int_equal(check_thread_join(&servers[i]), 0);
        brood_listener_free(l);
}

enum { CLIENTS = 15 };

struct servers {
        brood_listener *listener;
        atomic_int *served; /* by all of them */
};

/* Whichever process has taken a peer in comes back to accept for it. */
static int serve_until_done(void *arg)
{
        struct servers *servers = arg;
        while (atomic_load(servers->served) < CLIENTS) {
                brood_connection *c = NULL;
                char buf[16];
                int r = brood_listener_accept(servers->listener, &c, 20);
                if (r == -ETIMEDOUT)
                        continue;
                require_int(r, 0);
                require_int(brood_connection_recv(c, buf, sizeof buf, CHECK_HANG_MS), 4);
                require_int(brood_connection_send(c, buf, 4, CHECK_HANG_MS), 0);
                brood_connection_free(c);
                atomic_fetch_add(servers->served, 1);
        }
        return 0;
}

static int serve_in_child(void *arg)
{
        brood_listener *l = ((struct servers *)arg)->listener;
        int fd = brood_listener_fileno(l);
        require(fd >= 0);
        require_int(brood_listener_fileno(l), fd);
        require_int(serve_until_done(arg), 0);
        brood_listener_free(l);
        return 0;
}

/* A listener that was made before the fork serves in several processes, beside a thread of the parent that sits in accept. */
static void test_fork(void **state)
{
        (void)state;
        if (!keys())
                skip();
        const char *path = path_in_a_directory();
        struct servers servers = { listen_with((brood_listener_options){ .address = path, KEY }),
                                   check_shared(sizeof(atomic_int)) };
        struct check_thread thread, threads[CLIENTS];
        struct client clients[CLIENTS];
        brood_connection *c = NULL;
        check_thread_start(&thread, serve_until_done, &servers);
        pid_t pids[2];
        for (int i = 0; i < 2; i++)
                pids[i] = check_start(serve_in_child, &servers);
        for (int i = 0; i < CLIENTS; i++)
                start_client(&threads[i], &clients[i], path, &right);
        for (int i = 0; i < CLIENTS; i++) {
                assert_int_equal(check_thread_join(&threads[i]), 0);
                assert_int_equal(clients[i].result, 0);
        }
        for (int i = 0; i < 2; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        assert_int_equal(check_thread_join(&thread), 0);
        /* The children's free has not removed the parent's path. */
        assert_true(path_exists(path));
        serve_one(servers.listener, &right);
        assert_int_equal(brood_listener_accept(servers.listener, &c, 0), -EAGAIN);
        brood_listener_free(servers.listener);
        assert_false(path_exists(path));
        remove_directory(path);
        munmap(servers.served, sizeof(atomic_int));
}

static int leave_in_the_middle(void *arg)
{
        int fd = dial(arg);
        char challenge[63];
        require_int(recv(fd, challenge, sizeof challenge, MSG_WAITALL), sizeof challenge);
        wire_put_length(fd, 40);
        for (;;)
                pause();
}

static int listen_until_killed(void *arg)
{
        brood_connection *c = NULL;
        (void)brood_listener_accept(arg, &c, BROOD_FOREVER);
        return 1;
}

static void test_killed(void **state)
{
        (void)state;
        brood_listener *l = listen_with((brood_listener_options){ .auth_timeout_ms = 60000, KEY });
        brood_connection *c = NULL;
        pid_t pid = check_start(leave_in_the_middle, (void *)brood_listener_address(l));
        /* Until it has its question, and sleeps over it. */
        while (support_process_state(pid) != 'S' || brood_listener_accept(l, &c, 20) != -ETIMEDOUT)
                ;
        assert_int_equal(check_kill(pid), -SIGKILL);
        while (brood_listener_refused(l) == 0)
                assert_int_equal(brood_listener_accept(l, &c, 20), -ETIMEDOUT);
        serve_one(l, &right);
        brood_listener_free(l);

        /* The listener's process is killed while a client waits for it. */
        l = listen_with((brood_listener_options){ .address = own_name() });
        char name[32];
        strcpy(name, own_name()); /* the child has a pid of its own */
        pid = check_start(listen_until_killed, l);
        brood_listener_free(l);
        struct check_thread thread;
        struct client client;
        assert_true(check_asleep(pid));
        assert_int_equal(kill(pid, SIGSTOP), 0);
        start_client(&thread, &client, name, &right);
        assert_int_equal(check_kill(pid), -SIGKILL);
        assert_int_equal(check_thread_join(&thread), 0);
        assert_true(client.result == -ECONNRESET || client.result == -ECONNREFUSED);
        assert_null(c);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_addresses),    support_test(test_no_addresses),
                support_test(test_nobody_there), support_test(test_taken),
                support_test(test_bad_options),  support_test(test_errno_is_left_alone),
                support_test(test_max_message),  support_test(test_right_and_wrong_keys),
                support_test(test_one_key),      support_test(test_false_listeners),
                support_test(test_silent_peers), support_test(test_accept_for_ever),
                support_test(test_busy_host),    support_test(test_too_many_peers),
                support_test(test_garbage),      support_test(test_crowd),
                support_test(test_flood),        support_test(test_fileno),
                support_test(test_backlog),      support_test(test_no_descriptors_left),
                support_test(test_threads),      support_test(test_fork),
                support_test(test_killed),
        };
        return support_main(argc, argv, "listener", tests, array_length(tests), 60);
}
