/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/fuzz_connection.c: a connection, a listener and a client whose peer says what it likes, in whatever pieces.
 *
 * An input is a script of what the peer sends and of what is called in between.  Three stagings:
 *
 *     frames      the peer of a connection: lengths of all kinds, true messages, bytes as they come, descriptors with them, the end
 *     listener    up to four peers of a listener with a key; some know the key, and are right for as long as the script wants
 *     client      a listener that the handshake of a client talks to
 *
 * What must hold, whatever comes: no crash and no endless loop; each result is one that the header names; nothing is written behind
 * a caller's buffer; no allocation is larger than what has come allows; nobody gets in without the key; in the end no descriptor is
 * left.  The allocations are counted by the linker's --wrap, see meson.build.
 *
 * No call here may wait: all time limits are 0.
 */
#include "script.h"
#include "target.h"

#include <brood/listener.h>

#include "pipe/handshake.h"

#include <fcntl.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

const char target_name[] = "fuzz_connection";

enum {
        STEPS_MAX = 80,
        ROOM_MAX = 5000,
        PEERS = 4,
        ALLOCATION_SLACK = 40000, /* handles, stdio, and the first piece of a stash */
};

#define KEY "fuzz"

/* ---- allocations ---- */

static size_t largest_allocation;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static void note_allocation(size_t size)
{
        if (size > largest_allocation)
                largest_allocation = size;
}

void *__wrap_malloc(size_t size)
{
        note_allocation(size);
        return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
        note_allocation(count * size);
        return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
        note_allocation(size);
        return __real_realloc(memory, size);
}

/* ---- the peer ---- */

static size_t peer_sent; /* bytes, of this input */

static void peer_send(int fd, const void *bytes, size_t size)
{
        ssize_t n = fd < 0 || size == 0 ? 0 : send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
                peer_sent += (size_t)n;
}

static void peer_send_with_descriptors(int fd, const void *bytes, size_t size, size_t count)
{
        alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(sizeof(int) * 20)] = { 0 };
        int fds[20] = { 0 };
        struct iovec part = { (void *)bytes, size };
        struct msghdr message = { .msg_iov = &part,
                                  .msg_iovlen = 1,
                                  .msg_control = control,
                                  .msg_controllen = CMSG_SPACE(sizeof(int) * count) };
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        if (fd < 0 || size == 0 || count == 0)
                return;
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * count); /* of what there is always one: our own input */
        if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
                peer_sent += size;
}

static size_t take_bytes(struct script *script, unsigned char *bytes, size_t room)
{
        size_t size = take_below(script, room + 1);
        for (size_t i = 0; i < size; i++)
                bytes[i] = take_byte(script);
        return size;
}

/* A length, mostly one that means something. */
static size_t take_length(struct script *script, unsigned char head[12])
{
        static const uint64_t lengths[] = { 0,
                                            1,
                                            4,
                                            15,
                                            16,
                                            17,
                                            59,
                                            255,
                                            256,
                                            257,
                                            4096,
                                            65536,
                                            0x7fffffff,
                                            0x80000000,
                                            0xfffffffe,
                                            0xffffffff,
                                            1ull << 62,
                                            1ull << 63,
                                            UINT64_MAX,
                                            100,
                                            1ull << 24,
                                            1ull << 32,
                                            0x100000001ull };
        uint64_t length = lengths[take_below(script, array_length(lengths))];
        uint8_t how = take_byte(script);
        if (how % 4 == 0) {
                frame_put(head, UINT32_MAX, 4);
                frame_put(head + 4, length, 8);
                return 12;
        }
        frame_put(head, length, 4);
        return how % 4 == 1 ? take_below(script, 5) : 4;
}

static void peer_step(struct script *script, int *fd)
{
        unsigned char bytes[12 + 200] = { 0 };
        size_t size;
        switch (take_byte(script) % 8) {
        case 0: /* as they come */
                peer_send(*fd, bytes, take_bytes(script, bytes, 64));
                break;
        case 1:
                peer_send(*fd, bytes, take_length(script, bytes));
                break;
        case 2: /* a message, or some of it */
                size = take_bytes(script, bytes + 4, 100);
                frame_put(bytes, size, 4);
                peer_send(*fd, bytes, take_below(script, 4) ? 4 + size : take_below(script, 4 + size));
                break;
        case 3: /* a descriptor or some, as if sent for themselves */
                bytes[0] = (unsigned char)(1 + take_below(script, 20));
                peer_send_with_descriptors(*fd, bytes, 1,
                                           take_byte(script) % 4 ? bytes[0] % 21 : take_below(script, 21));
                break;
        case 4: /* an object, nearly */
                memcpy(bytes, "\0\0\0\20brood\0\0\1\0\0\0\7\0\0\0\1", 20);
                if (take_byte(script) % 4 == 0)
                        bytes[take_below(script, 20)] = take_byte(script);
                peer_send_with_descriptors(*fd, bytes, take_byte(script) % 4 ? 20 : 1 + take_below(script, 20),
                                           take_byte(script) % 4 ? 1 : take_below(script, 18));
                break;
        case 5: /* many zeros */
                for (size = take_below(script, 200); size > 0; size--)
                        peer_send(*fd, bytes, sizeof bytes);
                break;
        case 6:
                if (*fd >= 0 && take_byte(script) % 4 == 0)
                        shutdown(*fd, SHUT_WR);
                break;
        default:
                if (*fd >= 0 && take_byte(script) % 8 == 0) {
                        close(*fd);
                        *fd = -1;
                }
        }
}

static void peer_drain(int fd)
{
        char bytes[4096];
        while (fd >= 0 && recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
                ;
}

/* ---- frames ---- */

#define RECV_ERRORS EAGAIN, EPIPE, ECONNRESET, EPROTO

static ssize_t largest_message; /* the connection's limit */

static void check_allocations(void)
{
        if (largest_allocation > ALLOCATION_SLACK + 2 * peer_sent)
                fail("%zu bytes allocated after %zu bytes had come", largest_allocation, peer_sent);
}

/* A block of exactly that size, so that a byte beyond is seen. */
static unsigned char *block_new(size_t size)
{
        unsigned char *block = __real_malloc(size ? size : 1);
        must(block != NULL);
        memset(block, 0xa5, size ? size : 1);
        return block;
}

static void call_recv(struct script *script, brood_connection *c)
{
        size_t room = take_below(script, ROOM_MAX);
        unsigned char *buf = block_new(room);
        ssize_t size = brood_connection_next_size(c, 0);
        ssize_t n = brood_connection_recv(c, buf, room, 0);
        expect("recv", n, EMSGSIZE, RECV_ERRORS);
        must(n <= (ssize_t)room);
        must(size <= largest_message);
        must(n < 0 || size == n);
        must((n == -EMSGSIZE) == (size > (ssize_t)room));
        free(buf);
}

static void call_receiver(struct script *script, brood_connection *c)
{
        int fds[20];
        void *data = NULL;
        size_t count;
        ssize_t n;
        switch (take_byte(script) % 8) {
        case 0:
        case 1:
                call_recv(script, c);
                break;
        case 2:
        case 3:
                n = brood_connection_recv_alloc(c, &data, 0);
                expect("recv_alloc", n, RECV_ERRORS);
                must((n >= 0) == (data != NULL));
                must(n <= (ssize_t)peer_sent && n <= largest_message);
                free(data);
                break;
        case 4:
                n = brood_connection_next_size(c, 0);
                expect("next_size", n, RECV_ERRORS);
                must(n <= largest_message);
                break;
        case 5:
                n = brood_connection_poll(c, 0);
                must(n == 0 || n == 1);
                break;
        case 6:
                count = 1 + take_below(script, 20);
                n = brood_connection_recv_descriptors(c, fds, count, 0);
                expect("recv_descriptors", n, ENOMSG, EBUSY, EMSGSIZE, EMFILE, RECV_ERRORS);
                must(n != 0 && n <= (ssize_t)count);
                for (ssize_t i = 0; i < n; i++)
                        must(close(fds[i]) == 0);
                break;
        default:
                count = 1 + take_below(script, 16);
                n = brood_connection_recv_object(c, 7, fds, count, 0);
                expect("recv_object", n, ENOMSG, EMFILE, RECV_ERRORS);
                must(n <= 0);
                for (size_t i = 0; n == 0 && i < count; i++)
                        must(close(fds[i]) == 0);
        }
}

static void call_sender(struct script *script, brood_connection *c)
{
        size_t size = take_byte(script) % 4 ? take_below(script, ROOM_MAX) : 100 * take_below(script, ROOM_MAX);
        unsigned char *data = block_new(size);
        int r, zero = 0;
        switch (take_byte(script) % 4) {
        case 0:
                r = brood_connection_flush(c, 0);
                expect("flush", r, EAGAIN, EPIPE);
                break;
        case 1:
                r = take_byte(script) % 2 ? brood_connection_send_object(c, 7, &zero, 1, 0)
                                          : brood_connection_send_descriptors(c, &zero, 1, 0);
                expect("send_descriptors", r, EAGAIN, EPIPE, ETOOMANYREFS);
                break;
        default:
                r = brood_connection_send(c, data, size, 0);
                expect("send", r, EAGAIN, EINPROGRESS, EPIPE, EMSGSIZE);
                if (r == -EINPROGRESS) /* the rest is the caller's own size, not the peer's */
                        largest_allocation = 0;
        }
        free(data);
}

static void stage_frames(struct script *script)
{
        static const size_t limits[] = { 0, 1, 16, 100, 65536, BROOD_CONNECTION_MESSAGE_LIMIT };
        brood_connection *c;
        int fds[2];
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        brood_connection_options options = { .max_message = limits[take_below(script, array_length(limits))] };
        must(brood_connection_new(&c, fds[0], &options) == 0);
        largest_message = (ssize_t)(options.max_message ? options.max_message : BROOD_CONNECTION_MESSAGE_DEFAULT);
        for (int i = 0; i < STEPS_MAX && script->at < script->end; i++) {
                switch (take_byte(script) % 4) {
                case 0:
                case 1:
                        peer_step(script, &fds[1]);
                        break;
                case 2:
                        call_receiver(script, c);
                        break;
                default:
                        if (take_byte(script) % 4)
                                call_receiver(script, c);
                        else
                                call_sender(script, c);
                        if (take_byte(script) % 4 == 0)
                                peer_drain(fds[1]);
                }
                check_allocations();
        }
        if (fds[1] >= 0)
                close(fds[1]);
        brood_connection_free(c);
}

/* ---- those who want to get in ---- */

struct wooer {
        int fd;
        bool answered; /* rightly */
        unsigned char said[63];
        size_t heard; /* bytes of what the other side has said first */
};

/* Say something of the protocol, right or nearly. */
static void woo(struct script *script, struct wooer *wooer, const struct secret *key)
{
        unsigned char bytes[4 + 200] = { 0 }, signature[DIGEST_SIZE_MOST];
        enum digest digest = (enum digest)take_below(script, DIGEST_COUNT);
        size_t size = 4;
        const char *text = "";

        switch (take_byte(script) % 6) {
        case 0:
                peer_step(script, &wooer->fd);
                return;
        case 1:
                text = "#WELCOME#";
                break;
        case 2:
                text = "#FAILURE#";
                break;
        case 3: /* a question */
                text = "#CHALLENGE#";
                memcpy(bytes + size, text, 11);
                size += 11;
                text = take_byte(script) % 2 ? digest_name(digest) : "";
                if (*text != '\0')
                        size += (size_t)sprintf((char *)bytes + size, "{%s}", text);
                size += take_byte(script) % 2 ? 20 : take_below(script, 100);
                text = "";
                break;
        default: /* an answer */
                if (wooer->heard < sizeof wooer->said && wooer->fd >= 0) {
                        ssize_t n = recv(wooer->fd, wooer->said + wooer->heard, sizeof wooer->said - wooer->heard,
                                         MSG_DONTWAIT);
                        wooer->heard += n > 0 ? (size_t)n : 0;
                }
                if (wooer->heard < sizeof wooer->said)
                        return;
                secret_sign(key, digest, wooer->said + 15, 48, signature);
                if (digest != DIGEST_MD5 || take_byte(script) % 2)
                        size += (size_t)sprintf((char *)bytes + size, "{%s}", digest_name(digest));
                memcpy(bytes + size, signature, digest_size(digest));
                size += digest_size(digest);
                if (take_byte(script) % 4 == 0)
                        bytes[4 + take_below(script, size - 4)] ^= (unsigned char)(1 + take_below(script, 255));
                else
                        wooer->answered = true;
        }
        memcpy(bytes + size, text, strlen(text));
        size += strlen(text);
        frame_put(bytes, size - 4, 4);
        /* In one piece or in two. */
        size_t first = take_byte(script) % 2 ? size : take_below(script, size);
        peer_send(wooer->fd, bytes, first);
        if (take_byte(script) % 4)
                peer_send(wooer->fd, bytes + first, size - first);
}

static int dial(const char *address)
{
        struct sockaddr_un to = { .sun_family = AF_UNIX };
        size_t length = strlen(address);
        memcpy(to.sun_path, address, length);
        to.sun_path[0] = '\0';
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        must(fd >= 0);
        must(connect(fd, (struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == 0);
        return fd;
}

static void stage_listener(struct script *script, const struct secret *key)
{
        brood_listener *l;
        struct wooer wooers[PEERS] = { 0 };
        brood_listener_options options = {
                .key = KEY,
                .key_size = sizeof KEY - 1,
                .max_pending = 1 + (int)take_below(script, PEERS),
                .refuse_md5 = take_byte(script) % 2,
        };
        int let_in = 0, in_order = 0;
        must(brood_listener_new(&l, &options) == 0);
        for (int i = 0; i < PEERS; i++)
                wooers[i].fd = dial(brood_listener_address(l));
        for (int i = 0; i < STEPS_MAX && script->at < script->end; i++) {
                brood_connection *c = NULL;
                woo(script, &wooers[take_below(script, PEERS)], key);
                int r = brood_listener_accept(l, &c, 0);
                expect("accept", r, EAGAIN);
                must((r == 0) == (c != NULL));
                let_in += r == 0;
                brood_connection_free(c);
                check_allocations();
        }
        for (int i = 0; i < PEERS; i++) {
                in_order += wooers[i].answered;
                if (wooers[i].fd >= 0)
                        close(wooers[i].fd);
        }
        if (let_in > in_order)
                fail("%d were let in, and %d had the right answer", let_in, in_order);
        must(brood_listener_refused(l) <= PEERS);
        brood_listener_free(l);
}

static void stage_client(struct script *script, const struct secret *key)
{
        struct handshake handshake;
        struct wooer wooer = { 0 };
        int fds[2], r = -EAGAIN;
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        struct stream stream = { .fd = fds[0], .kind = STREAM_UNIX };
        wooer.fd = fds[1];
        must(handshake_begin(&handshake, key, false, take_byte(script) % 2) == 0);
        for (int i = 0; i < STEPS_MAX && script->at < script->end && r == -EAGAIN; i++) {
                if (handshake.step != HANDSHAKE_ANSWER)
                        peer_drain(wooer.fd); /* the client's answer; what the wooer hears is the question */
                woo(script, &wooer, key);
                r = handshake_drive(&handshake, &stream, INT64_MIN);
                expect("drive", r, EAGAIN, ECONNRESET, EPROTO, EKEYREJECTED);
                must(r < 0 || wooer.answered);
                must((r == 0) == (handshake.step == HANDSHAKE_DONE));
        }
        if (wooer.fd >= 0)
                close(wooer.fd);
        close(fds[0]);
}

static void run_script(const uint8_t *data, size_t size)
{
        struct script script = { data, data + size };
        struct secret *key = NULL;
        uint8_t how = take_byte(&script) % 8;
        bool keys = secret_new(&key, KEY, sizeof KEY - 1) == 0; /* else built without them */

        largest_allocation = peer_sent = 0;
        if (how < 4 || !keys)
                stage_frames(&script);
        else if (how < 6)
                stage_listener(&script, key);
        else
                stage_client(&script, key);
        secret_free(key);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc;
        (void)argv;
        /* A descriptor that can be sent, whatever the caller has done with it; and what is set up once. */
        if (fcntl(0, F_GETFD) < 0)
                must(open("/dev/null", O_RDONLY | O_CLOEXEC) == 0);
        run_script((const uint8_t *)"", 0);
        run_script((const uint8_t *)"\4", 1);
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        int before = count_descriptors();
        run_script(data, size);
        int after = count_descriptors();
        if (after != before)
                fail("%d descriptors before, %d after", before, after);
        return 0;
}
