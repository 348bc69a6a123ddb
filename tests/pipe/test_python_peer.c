/* SPDX-License-Identifier: MIT
 *
 * tests/pipe/test_python_peer.c: a stock Python at the other end, in both roles: what include/brood/connection.h and listener.h say
 * of it.  Each Python that is found here plays: the system's, and those of 3.11, 3.12 and 3.13 in the PATH.
 */
#include "wire.h"

#include <brood/listener.h>

#include <limits.h>

enum { START_MS = 6 * CHECK_HANG_MS, LARGEST = 64 << 20 };

/* ---- Pythons ---- */

struct python {
        char path[PATH_MAX];
        bool modern; /* knows more than MD5 */
};

static struct python pythons[4];
static int python_count;

struct peer {
        pid_t pid;
        int out; /* what it prints */
};

/* Run peer.py, whose arguments end with NULL. */
static struct peer start_peer(const struct python *python, const char *const *arguments)
{
        int fds[2];
        const char *argv[10] = { python->path, PEER_PY };
        for (int i = 0; arguments[i] != NULL; i++)
                argv[i + 2] = arguments[i];
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        fflush(NULL);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(fds[1], STDOUT_FILENO);
                execv(python->path, (char *const *)argv);
                _exit(127);
        }
        close(fds[1]);
        return (struct peer){ pid, fds[0] };
}

#define peer_start(python, ...) start_peer((python), (const char *const[]){ __VA_ARGS__, NULL })

/* Its next line, without the end. */
static bool peer_says(const struct peer *peer, char *line, size_t room)
{
        for (size_t n = 0; n < room; n++) {
                if (poll(&(struct pollfd){ .fd = peer->out, .events = POLLIN }, 1, START_MS) != 1 ||
                    read(peer->out, line + n, 1) != 1)
                        return false;
                if (line[n] == '\n') {
                        line[n] = '\0';
                        return true;
                }
        }
        return false;
}

/* Its exit status. */
static int peer_end(const struct peer *peer)
{
        close(peer->out);
        return check_wait_for(peer->pid, START_MS);
}

static void try_python(const char *path)
{
        struct python *python = &pythons[python_count];
        char line[32], resolved[PATH_MAX];
        if (python_count == (int)array_length(pythons) || realpath(path, resolved) == NULL || access(path, X_OK) < 0)
                return;
        snprintf(python->path, sizeof python->path, "%s", path);
        /* A name in the PATH may lead to something that only complains. */
        int complaints = dup(STDERR_FILENO), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(nowhere, STDERR_FILENO);
        struct peer peer = peer_start(python, "works");
        dup2(complaints, STDERR_FILENO);
        close(complaints);
        close(nowhere);
        bool said = peer_says(&peer, line, sizeof line);
        if (peer_end(&peer) != 0 || !said)
                return; /* not one of them */
        python->modern = strcmp(line, "modern") == 0;
        python_count++;
        printf("python: %s (%s)\n", path, line);
}

/* The first of that name in the PATH. */
static void look_for(const char *name)
{
        char list[8192], path[PATH_MAX], *rest = list;
        const char *all = getenv("PATH");
        snprintf(list, sizeof list, "%s", all == NULL ? "" : all);
        for (char *directory = strsep(&rest, ":"); directory != NULL; directory = strsep(&rest, ":")) {
                snprintf(path, sizeof path, "%.2000s/%s", directory, name);
                if (access(path, X_OK) == 0) {
                        try_python(path);
                        return;
                }
        }
}

static void find_pythons(void)
{
        if (python_count > 0)
                return;
        try_python(SYSTEM_PYTHON);
        look_for("python3.11");
        look_for("python3.12");
        look_for("python3.13");
        fflush(NULL);
        assert_true(python_count > 0);
}

/* ---- brood's side ---- */

enum { TCP, ABSTRACT, PATH, ADDRESSES };

/* Another run of this test may be under way on this machine. */
static const char *address_for(int form, char room[64])
{
        if (form == TCP)
                strcpy(room, "127.0.0.1:0");
        else
                snprintf(room, 64, form == ABSTRACT ? "@brood-test-python-%d" : "/tmp/brood-test-python-%d",
                         (int)getpid());
        return room;
}

static bool is_tcp(const char *address)
{
        return strchr("@/", address[0]) == NULL;
}

static const void *key_of(const char *text)
{
        return strcmp(text, "-") == 0 ? NULL : text;
}

/* Whether brood was built with keys. */
static bool keys(void)
{
        brood_listener *l = NULL;
        int r = brood_listener_new(&l, &(brood_listener_options){ .key = "k", .key_size = 1 });
        brood_listener_free(l);
        return r != -EOPNOTSUPP;
}

static brood_listener *listen_at(const char *address, const char *key, int refuse_md5)
{
        brood_listener *l = NULL;
        int r = brood_listener_new(&l, &(brood_listener_options){ .address = address,
                                                                  .key = key_of(key),
                                                                  .key_size = key_of(key) == NULL ? 0 : strlen(key),
                                                                  .auth_timeout_ms = START_MS,
                                                                  .refuse_md5 = refuse_md5 });
        assert_int_equal(r, 0);
        return l;
}

static int client_to(brood_connection **ret, const char *address, const char *key, int refuse_md5)
{
        return brood_client(ret, address,
                            &(brood_client_options){ .key = key_of(key),
                                                     .key_size = key_of(key) == NULL ? 0 : strlen(key),
                                                     .refuse_md5 = refuse_md5 },
                            START_MS);
}

/* The peer gives us the end of a pipe, and reads what we write into it. */
static void take_descriptor(brood_connection *c)
{
        int fd = -1;
        assert_int_equal(brood_connection_recv_descriptors(c, &fd, 1, START_MS), 1);
        assert_true(wire_closes_on_exec(fd));
        assert_int_equal(write(fd, "through the descriptor", 22), 22);
        close(fd);
}

static void give_descriptor(brood_connection *c, char *buf, size_t room)
{
        int fds[2];
        ssize_t n, size = 0;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(brood_connection_send_descriptors(c, &fds[1], 1, START_MS), 0);
        close(fds[1]);
        while ((n = read(fds[0], buf + size, room - (size_t)size)) > 0)
                size += n;
        close(fds[0]);
        assert_int_equal(size, 22);
        assert_memory_equal(buf, "through the descriptor", 22);
}

/* Be the echo for peer.py's have_echoed(). */
static void echo(brood_connection *c)
{
        for (;;) {
                void *data = NULL;
                char buf[64];
                ssize_t n = brood_connection_recv_alloc(c, &data, START_MS);
                if (n == -EPIPE)
                        return;
                assert_true(n >= 0);
                if (n == 10 && memcmp(data, "descriptor", 10) == 0) {
                        take_descriptor(c);
                        give_descriptor(c, buf, sizeof buf);
                }
                assert_int_equal(brood_connection_send(c, data, (size_t)n, START_MS), 0);
                free(data);
        }
}

static void have_echoed(brood_connection *source, brood_connection *target, size_t largest)
{
        static const size_t sizes[] = { 0, 1, 100, 16384, 16385, 65536, 1000003, LARGEST };
        unsigned char *bytes = malloc(LARGEST), *back = malloc(LARGEST);
        for (size_t i = 0; i < array_length(sizes) && sizes[i] <= largest; i++) {
                wire_fill(bytes, sizes[i], i);
                assert_int_equal(brood_connection_send(target, bytes, sizes[i], START_MS), 0);
                if (sizes[i] > 10 && i % 2)
                        assert_int_equal(brood_connection_recv(source, back, 10, START_MS), -EMSGSIZE);
                assert_int_equal(brood_connection_recv(source, back, LARGEST, START_MS), sizes[i]);
                assert_int_equal(memcmp(bytes, back, sizes[i]), 0);
        }
        free(bytes);
        free(back);
}

static void swap_descriptors(brood_connection *c)
{
        char buf[64];
        assert_int_equal(brood_connection_send(c, "descriptor", 10, START_MS), 0);
        give_descriptor(c, buf, sizeof buf);
        take_descriptor(c);
        assert_int_equal(brood_connection_recv(c, buf, sizeof buf, START_MS), 22);
}

/* ---- Python connects to us ---- */

static void serve_python(const struct python *python, const char *role, const char *address, const char *key,
                         const char *digest)
{
        brood_listener *l = listen_at(address, key, 0);
        brood_connection *c = NULL;
        struct peer peer = peer_start(python, role, brood_listener_address(l), key, digest);
        assert_int_equal(brood_listener_accept(l, &c, START_MS), 0);
        echo(c);
        assert_int_equal(peer_end(&peer), 0);
        brood_connection_free(c);
        brood_listener_free(l);
}

static void test_python_connects(void **state)
{
        (void)state;
        char address[64];
        find_pythons();
        for (int p = 0; p < python_count; p++)
                for (int i = 0; i < ADDRESSES; i++) {
                        if (keys())
                                serve_python(&pythons[p], "connect", address_for(i, address), "the key", NULL);
                        if (i < PATH)
                                serve_python(&pythons[p], "connect", address_for(i, address), "-", NULL);
                }
}

static void test_python_connects_with_a_wrong_key(void **state)
{
        (void)state;
        if (!keys())
                skip();
        find_pythons();
        for (int p = 0; p < python_count; p++)
                for (int i = 0; i < PATH; i++)
                        for (int refuse = 0; refuse < 2; refuse++) {
                                char address[64];
                                brood_listener *l = listen_at(address_for(i, address), "the key", refuse);
                                brood_connection *c = NULL;
                                struct peer peer =
                                    peer_start(&pythons[p], "connect", brood_listener_address(l), "another key");
                                int64_t began = support_now_ms();
                                while (brood_listener_refused(l) == 0) {
                                        assert_int_equal(brood_listener_accept(l, &c, 50), -ETIMEDOUT);
                                        assert_true(support_now_ms() - began < START_MS);
                                }
                                assert_int_equal(peer_end(&peer), 3);
                                brood_listener_free(l);
                        }
}

/* Who knows MD5 only is not let in where that is refused, with whatever key. */
static void test_refuse_md5(void **state)
{
        (void)state;
        if (!keys())
                skip();
        find_pythons();
        for (int p = 0; p < python_count; p++) {
                char address[64];
                brood_listener *l = listen_at("127.0.0.1:0", "the key", 1);
                brood_connection *c = NULL;
                struct peer peer = peer_start(&pythons[p], "connect", brood_listener_address(l), "the key");
                int r;
                while ((r = brood_listener_accept(l, &c, 50)) == -ETIMEDOUT && brood_listener_refused(l) == 0)
                        ;
                assert_int_equal(r, pythons[p].modern ? 0 : -ETIMEDOUT);
                if (r == 0)
                        echo(c);
                brood_connection_free(c);
                assert_int_equal(peer_end(&peer), pythons[p].modern ? 0 : 3);
                brood_listener_free(l);

                c = NULL;
                peer = peer_start(&pythons[p], "listen", "127.0.0.1:0", "the key");
                assert_true(peer_says(&peer, address, sizeof address));
                assert_int_equal(client_to(&c, address, "the key", 1), pythons[p].modern ? 0 : -EPROTO);
                brood_connection_free(c);
                assert_int_equal(peer_end(&peer), pythons[p].modern ? 0 : 4);
        }
}

/* ---- we connect to Python ---- */

static void use_python(const struct python *python, const char *role, const char *address, const char *key,
                       const char *digest)
{
        char line[128];
        brood_connection *c = NULL;
        struct peer peer = peer_start(python, role, address, key, digest);
        assert_true(peer_says(&peer, line, sizeof line));
        assert_int_equal(client_to(&c, line, key, 0), 0);
        /* The largest ones once for each family. */
        have_echoed(c, c, digest != NULL ? 65536 : address[0] == '/' || key_of(key) == NULL ? 1000003 : LARGEST);
        if (!is_tcp(line))
                swap_descriptors(c);
        brood_connection_free(c);
        assert_int_equal(peer_end(&peer), 0);
}

static void test_python_listens(void **state)
{
        (void)state;
        char address[64];
        find_pythons();
        for (int p = 0; p < python_count; p++)
                for (int i = 0; i < ADDRESSES; i++) {
                        if (keys())
                                use_python(&pythons[p], "listen", address_for(i, address), "the key", NULL);
                        if (i < PATH)
                                use_python(&pythons[p], "listen", address_for(i, address), "-", NULL);
                }
}

static void test_python_listens_with_another_key(void **state)
{
        (void)state;
        if (!keys())
                skip();
        find_pythons();
        for (int p = 0; p < python_count; p++)
                for (int i = 0; i < PATH; i++) {
                        char address[64], line[128];
                        brood_connection *c = NULL;
                        struct peer peer = peer_start(&pythons[p], "listen", address_for(i, address), "another key");
                        assert_true(peer_says(&peer, line, sizeof line));
                        assert_int_equal(client_to(&c, line, "the key", 0), -EKEYREJECTED);
                        assert_null(c);
                        assert_true(peer_says(&peer, line, sizeof line));
                        assert_string_equal(line, "refused");
                        assert_int_equal(peer_end(&peer), 3);
                }
}

/* ---- what a Python since 3.12 may ask for or answer with ---- */

static void test_digests(void **state)
{
        (void)state;
        char address[64];
        static const char *const digests[] = { "sha256", "sha384", "sha3_256", "sha3_384", "md5" };
        if (!keys())
                skip();
        find_pythons();
        for (int p = 0; p < python_count; p++)
                for (size_t i = 0; i < array_length(digests); i++) {
                        serve_python(&pythons[p], "answer", address_for(ABSTRACT, address), "the key", digests[i]);
                        use_python(&pythons[p], "digest", address_for(ABSTRACT, address), "the key", digests[i]);
                }
}

/* ---- descriptors that Python inherits ---- */

static void test_inherited(void **state)
{
        (void)state;
        find_pythons();
        for (int p = 0; p < python_count; p++)
                for (int form = 0; form < 2; form++) {
                        brood_connection *source, *target;
                        int there[2], back[2];
                        char numbers[2][16];
                        if (form == 0) { /* pipes, as Pipe(duplex=False) makes them */
                                assert_int_equal(pipe(there), 0);
                                assert_int_equal(pipe(back), 0);
                        } else {
                                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, there), 0);
                                assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, back), 0);
                        }
                        /* Ours are close-on-exec from here on. */
                        assert_int_equal(brood_connection_new(&source, back[0], NULL), 0);
                        assert_int_equal(brood_connection_new(&target, there[1], NULL), 0);
                        snprintf(numbers[0], sizeof numbers[0], "%d", there[0]);
                        snprintf(numbers[1], sizeof numbers[1], "%d", back[1]);
                        struct peer peer = peer_start(&pythons[p], "inherit", numbers[0], numbers[1]);
                        close(there[0]);
                        close(back[1]);
                        have_echoed(source, target, 65536);
                        brood_connection_free(target);
                        assert_int_equal(brood_connection_recv(source, numbers, 1, START_MS), -EPIPE);
                        brood_connection_free(source);
                        assert_int_equal(peer_end(&peer), 0);
                }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_python_connects),
                support_test(test_python_connects_with_a_wrong_key),
                support_test(test_refuse_md5),
                support_test(test_python_listens),
                support_test(test_python_listens_with_another_key),
                support_test(test_digests),
                support_test(test_inherited),
        };
        return support_main(argc, argv, "python peer", tests, array_length(tests), 240);
}
