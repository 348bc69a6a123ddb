/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/fuzz_queue.c: a queue whose shared memory says what no brood wrote.
 *
 * An input is a script.  Its first bytes choose a queue, the next ones bring it into some state, then bytes of the input are
 * written over its shared memory, and then every function of include/brood/queue.h is called, in an order that the input draws,
 * through the handle of the maker and through one that attached.  Four stagings:
 *
 *     damage    the memory of a living queue is overwritten, before the calls and between them
 *     copy      a new memfd holds what a queue's did, or its first bytes and then others; cut off, grown, sealed or not; and is
 *               attached to
 *     race      a thread keeps changing words while the calls run: what was checked once and read twice shows here
 *     healthy   nothing is overwritten; then what damage excuses is an error
 *
 * What must hold, whatever the bytes say: no crash and no endless loop; each result is one that the header names; what peek, lease
 * and reserve return lies inside the mapping, and can be read and written; nothing is written beyond a caller's buffer; time
 * limits are respected, though a slot may claim to belong to a process that lives; in the end no descriptor and no mapping is left.
 *
 * An input that is at its end reads as zeros, so that every string of bytes is a script.  Nothing here is random but the race.
 * The functions with the names that libFuzzer knows are its entry; tests/fuzz/standalone.c is another way in.
 */
#include "scene.h"
#include "target.h"

#include "shm/region.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum {
        STEPS_MAX = 96,       /* calls of one input, beyond the one of each function */
        ROOM_MAX = 70000,     /* a little beyond the largest message */
        COPY_MAX = 1 << 24,   /* bytes that a copied region carries over */
        FILL_MAX = 1 << 20,   /* the largest memory that is filled with other bytes */
        CALL_LIMIT_MS = 5000, /* no call takes so long, on however busy a machine */
        MANY_MAX = 6,
};

const char target_name[] = "fuzz_queue";

static int64_t now_ms(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the calls ---- */

enum call {
        PUT,
        PUT_NOWAIT,
        PUT_MANY,
        RESERVE,
        COMMIT,
        LEASE,
        PEEK,
        GET,
        GET_NOWAIT,
        GET_MANY,
        CANCEL,
        RELEASE,
        UNPEEK,
        ACKNOWLEDGE,
        GIVE_BACK,
        TASK_DONE,
        JOIN,
        CLOSE,
        QSIZE,
        EMPTY,
        FULL,
        SIZES,
        STATS,
        FILENO,
        DESCRIPTORS,
        ATTACH,
        CALLS,
        PREPARING = CLOSE, /* the calls before this one bring a queue into some state */
};

static struct held *free_entry(struct held *held)
{
        for (int i = 0; i < HELD_MAX; i++)
                if (!held[i].there)
                        return &held[i];
        return NULL;
}

/* One that is held; or, so that this is tried too, one that is no longer.  NULL if there is none. */
static struct held *take_entry(struct scene *scene, struct held *held)
{
        size_t first = take_below(&scene->script, HELD_MAX);
        for (size_t i = 0; i < HELD_MAX; i++)
                if (held[(first + i) % HELD_MAX].there)
                        return &held[(first + i) % HELD_MAX];
        return NULL;
}

static void keep(struct held *entry, int handle)
{
        entry->there = true;
        entry->done = entry->crossed = false;
        entry->handle = handle;
}

/* The result of a call that ends the holding of something. */
static void end_holding(struct scene *scene, const char *call, struct held *entry, int handle, int r, bool back)
{
        bool plain = handle == entry->handle && !entry->crossed && !scene->damaged;
        expect(call, r, EINVAL, EPERM, if_damaged(scene, EUCLEAN));
        if (plain && r != (entry->done ? -EINVAL : 0))
                fail("%s returned %d for something that is %s", call, r, entry->done ? "done with" : "held");
        /* Twice is enough.  What went back may be held by us once more, and then its old description names what is held now. */
        if (entry->done || back)
                entry->there = false;
        entry->done = true;
        entry->crossed |= handle != entry->handle;
}

static size_t take_size(struct scene *scene)
{
        static const size_t sizes[] = { 0, 1, 8, 15, 16, 17, 24, 48, 100, 112, 113, 127, 128, 129, 200, 512 };
        struct script *script = &scene->script;
        uint8_t how = take_byte(script);
        if (how < 200)
                return sizes[how % array_length(sizes)];
        if (how < 240)
                return take_below(script, scene->options.message_size + 2);
        return how % 2 ? scene->options.message_size : take_below(script, ROOM_MAX);
}

/* A block of exactly that size, so that a byte beyond is seen. */
static unsigned char *block_new(size_t size, int filling)
{
        unsigned char *block = malloc(size ? size : 1);
        must(block != NULL);
        memset(block, filling, size ? size : 1);
        return block;
}

static void check_put(struct scene *scene, const char *call, int handle, size_t size, ssize_t r, int timeout)
{
        size_t limit = brood_queue_message_size(scene->handles[handle]);
        expect(call, r, size > limit ? EMSGSIZE : 0, PUT_ERRORS(scene, timeout));
        if (size > limit && r >= 0)
                fail("%s took %zu bytes though the limit is %zu", call, size, limit);
        if (!scene->damaged && scene->closed && r != -EPIPE && r != -EMSGSIZE)
                fail("%s returned %zd though the queue is closed", call, r);
}

static void call_put(struct scene *scene, enum call which, int handle, int timeout)
{
        size_t size = take_size(scene);
        unsigned char *data = block_new(size, (int)size);
        int r = which == PUT ? brood_queue_put(scene->handles[handle], data, size, timeout)
                             : brood_queue_put_nowait(scene->handles[handle], data, size);
        check_put(scene, "put", handle, size, r, which == PUT ? timeout : 0);
        must(r <= 0);
        free(data);
}

static void call_put_many(struct scene *scene, int handle, int timeout)
{
        struct iovec messages[MANY_MAX];
        size_t count = take_below(&scene->script, MANY_MAX + 1),
               limit = brood_queue_message_size(scene->handles[handle]);
        bool too_large = false;
        for (size_t i = 0; i < count; i++) {
                size_t size = take_size(scene);
                messages[i] = (struct iovec){ .iov_base = block_new(size, (int)i), .iov_len = size };
                too_large |= size > limit;
        }
        ssize_t r = brood_queue_put_many(scene->handles[handle], messages, count, timeout);
        expect("put_many", r, too_large ? EMSGSIZE : 0, PUT_ERRORS(scene, timeout));
        must(r <= (ssize_t)count);
        must(!too_large || r < (ssize_t)count);
        if (!scene->damaged && count == 0)
                must(r == 0 || r == -EPIPE);
        for (size_t i = 0; i < count; i++)
                free(messages[i].iov_base);
}

static int no_room(const struct scene *scene)
{
        return scene->options.joinable || scene->damaged ? ENOBUFS : 0;
}

static void call_get(struct scene *scene, enum call which, int handle, int timeout)
{
        size_t room = take_byte(&scene->script) % 2 ? ROOM_MAX : take_size(scene);
        unsigned char *buf = block_new(room, 0xa5);
        ssize_t r = which == GET ? brood_queue_get(scene->handles[handle], buf, room, timeout)
                                 : brood_queue_get_nowait(scene->handles[handle], buf, room);
        expect("get", r, EMSGSIZE, no_room(scene), TAKE_ERRORS(scene, which == GET ? timeout : 0));
        must(r <= (ssize_t)room);
        if (!scene->damaged && room >= scene->options.message_size)
                must(r != -EMSGSIZE);
        for (size_t i = 0; r < 0 && i < room; i++)
                must(buf[i] == 0xa5);
        free(buf);
}

static void call_get_many(struct scene *scene, int handle, int timeout)
{
        struct iovec messages[MANY_MAX];
        size_t count = take_below(&scene->script, MANY_MAX + 1), rooms[MANY_MAX];
        for (size_t i = 0; i < count; i++) {
                rooms[i] = take_size(scene);
                messages[i] = (struct iovec){ .iov_base = block_new(rooms[i], 0xa5), .iov_len = rooms[i] };
        }
        ssize_t r = brood_queue_get_many(scene->handles[handle], messages, count, timeout);
        expect("get_many", r, EMSGSIZE, no_room(scene), TAKE_ERRORS(scene, timeout));
        must(r <= (ssize_t)count);
        must(count > 0 || r == 0);
        for (size_t i = 0; i < count; i++) {
                if ((ssize_t)i < r)
                        must(messages[i].iov_len <= rooms[i]);
                else
                        must(messages[i].iov_len == rooms[i]);
                free(messages[i].iov_base);
        }
}

static void call_reserve(struct scene *scene, int handle, int timeout)
{
        struct held *entry = free_entry(scene->reservations);
        size_t size = take_size(scene);
        if (entry == NULL)
                return;
        int r = brood_queue_reserve(scene->handles[handle], &entry->reservation, size, timeout);
        check_put(scene, "reserve", handle, size, r, timeout);
        must(r <= 0);
        if (r < 0)
                return;
        must(entry->reservation.size >= size);
        check_place(scene, "reserve", entry->reservation.data, entry->reservation.size);
        if (size > 0)
                memset(entry->reservation.data, (int)size, size);
        read_bytes(entry->reservation.data, entry->reservation.size);
        keep(entry, handle);
}

static void call_commit(struct scene *scene, enum call which, int handle)
{
        struct held *entry = take_entry(scene, scene->reservations);
        if (entry == NULL)
                return;
        if (which == CANCEL) {
                int r = brood_queue_cancel(scene->handles[handle], &entry->reservation);
                end_holding(scene, "cancel", entry, handle, r, false);
                return;
        }
        size_t size = entry->reservation.size;
        uint8_t how = take_byte(&scene->script);
        if (how == 255) { /* more than was reserved: refused, and it can still be committed */
                int r = brood_queue_commit(scene->handles[handle], &entry->reservation, size + 1);
                must(r == -EINVAL || r == -EPERM || (scene->damaged && r == -EUCLEAN));
        }
        int r = brood_queue_commit(scene->handles[handle], &entry->reservation, how % 2 ? size : size / 2);
        end_holding(scene, "commit", entry, handle, r, false);
}

static void call_peek(struct scene *scene, int handle, int timeout)
{
        struct held *entry = free_entry(scene->views);
        if (entry == NULL)
                return;
        int r = brood_queue_peek(scene->handles[handle], &entry->view, timeout);
        bool may_refuse = scene->options.joinable || scene->damaged;
        expect("peek", r, may_refuse ? EINVAL : 0, TAKE_ERRORS(scene, timeout));
        must(r <= 0);
        if (r < 0)
                return;
        must(scene->damaged || !scene->options.joinable);
        check_place(scene, "peek", entry->view.data, entry->view.size);
        read_bytes(entry->view.data, entry->view.size);
        keep(entry, handle);
}

static void call_lease(struct scene *scene, int handle, int timeout)
{
        struct held *entry = free_entry(scene->leases);
        if (entry == NULL)
                return;
        int r = brood_queue_lease(scene->handles[handle], &entry->lease, timeout);
        bool may_refuse = scene->options.joinable || scene->damaged;
        expect("lease", r, may_refuse ? EINVAL : 0, if_damaged(scene, ENOBUFS), TAKE_ERRORS(scene, timeout));
        must(r <= 0);
        if (r < 0)
                return;
        must(scene->damaged || !scene->options.joinable);
        check_place(scene, "lease", entry->lease.data, entry->lease.size);
        read_bytes(entry->lease.data, entry->lease.size);
        int most = scene->options.max_deliveries;
        must(scene->damaged ||
             (entry->lease.deliveries >= 1 && (most == 0 || entry->lease.deliveries <= (unsigned)most)));
        keep(entry, handle);
}

static void call_end(struct scene *scene, enum call which, int handle)
{
        bool view = which == RELEASE || which == UNPEEK;
        struct held *entry = take_entry(scene, view ? scene->views : scene->leases);
        brood_queue *q = scene->handles[handle];
        if (entry == NULL)
                return;
        /* What is still ours can still be read, whatever happened to the shared words about it. */
        if (!entry->done && !scene->damaged) {
                if (view)
                        read_bytes(entry->view.data, entry->view.size);
                else
                        read_bytes(entry->lease.data, entry->lease.size);
        }
        if (which == RELEASE)
                end_holding(scene, "release", entry, handle, brood_queue_release(q, &entry->view), false);
        else if (which == UNPEEK)
                end_holding(scene, "unpeek", entry, handle, brood_queue_unpeek(q, &entry->view), true);
        else if (which == ACKNOWLEDGE)
                end_holding(scene, "acknowledge", entry, handle, brood_queue_acknowledge(q, &entry->lease), false);
        else
                end_holding(scene, "give_back", entry, handle, brood_queue_give_back(q, &entry->lease), true);
}

static void call_stats(struct scene *scene, int handle)
{
        struct {
                brood_queue_statistics known;
                uint64_t unknown;
        } statistics;
        uint8_t how = take_byte(&scene->script);
        size_t size = sizeof statistics.known;
        if (how == 1)
                size = sizeof statistics; /* a newer struct: refused, and not written beyond */
        else if (how == 2)
                size = offsetof(brood_queue_statistics, waits);
        memset(&statistics, 0xa5, sizeof statistics);
        int r = brood_queue_stats_sized(scene->handles[handle], &statistics.known, size);
        expect("stats", r, how == 1 ? E2BIG : 0, if_damaged(scene, EUCLEAN));
        must(r <= 0);
        if (how == 2)
                must(statistics.known.waits == UINT64_C(0xa5a5a5a5a5a5a5a5));
        must(how == 1 || statistics.unknown == UINT64_C(0xa5a5a5a5a5a5a5a5));
}

static void forget_held(struct scene *scene, int handle)
{
        for (int i = 0; i < HELD_MAX; i++) {
                if (scene->reservations[i].handle == handle)
                        scene->reservations[i].there = false;
                if (scene->views[i].handle == handle)
                        scene->views[i].there = false;
                if (scene->leases[i].handle == handle)
                        scene->leases[i].there = false;
        }
}

static int attach(struct scene *scene, brood_queue **ret_queue, const int descriptors[BROOD_QUEUE_DESCRIPTORS])
{
        brood_queue *untouched = (brood_queue *)scene, *q = untouched;
        int r = brood_queue_attach(&q, descriptors);
        expect("attach", r, EINVAL, EBADF, EPERM, EUCLEAN, EPROTONOSUPPORT, ENOMEM, EMFILE, ENFILE);
        must(r <= 0);
        if (r < 0) {
                must(q == untouched);
                return r;
        }
        scene->range_count = 0;
        *ret_queue = q;
        return 0;
}

/* What the second handle holds goes back to the queue; then another comes, if the memory is still one that can be attached to. */
static void call_attach(struct scene *scene)
{
        forget_held(scene, 1);
        brood_queue_free(scene->handles[1]);
        scene->handles[1] = NULL;
        scene->range_count = 0;
        int r = attach(scene, &scene->handles[1], scene->descriptors);
        must(r == 0 || scene->damaged);
}

static void do_call(struct scene *scene, enum call which)
{
        uint8_t how = take_byte(&scene->script);
        int handle = how & 1, timeout = how % 8 == 7, r;
        if (scene->handles[handle] == NULL)
                handle = 0;
        brood_queue *q = scene->handles[handle];
        int64_t start = now_ms();
        if (q == NULL && which != ATTACH)
                return;

        switch (which) {
        case PUT:
        case PUT_NOWAIT:
                call_put(scene, which, handle, timeout);
                break;
        case PUT_MANY:
                call_put_many(scene, handle, timeout);
                break;
        case RESERVE:
                call_reserve(scene, handle, timeout);
                break;
        case COMMIT:
        case CANCEL:
                call_commit(scene, which, handle);
                break;
        case LEASE:
                call_lease(scene, handle, timeout);
                break;
        case PEEK:
                call_peek(scene, handle, timeout);
                break;
        case GET:
        case GET_NOWAIT:
                call_get(scene, which, handle, timeout);
                break;
        case GET_MANY:
                call_get_many(scene, handle, timeout);
                break;
        case RELEASE:
        case UNPEEK:
        case ACKNOWLEDGE:
        case GIVE_BACK:
                call_end(scene, which, handle);
                break;
        case TASK_DONE:
                expect("task_done", brood_queue_task_done(q), EINVAL, if_damaged(scene, EUCLEAN));
                break;
        case JOIN:
                r = brood_queue_join(q, timeout);
                expect("join", r, in_vain(timeout), if_damaged(scene, EUSERS), if_damaged(scene, EUCLEAN));
                must(r <= 0);
                break;
        case CLOSE:
                r = brood_queue_close(q);
                expect("close", r, if_damaged(scene, EUCLEAN));
                must(r <= 0);
                scene->closed = true;
                break;
        case QSIZE: {
                ssize_t n = brood_queue_qsize(q);
                size_t most = brood_queue_maxsize(q) ? brood_queue_maxsize(q) : BROOD_QUEUE_UNBOUNDED_MESSAGES;
                expect("qsize", n, if_damaged(scene, EUCLEAN));
                must(n <= (ssize_t)(most + BROOD_QUEUE_LEASES));
                break;
        }
        case EMPTY:
                r = brood_queue_empty(q);
                expect("empty", r, if_damaged(scene, EUCLEAN));
                must(r <= 1);
                break;
        case FULL:
                r = brood_queue_full(q);
                expect("full", r, if_damaged(scene, EUCLEAN));
                must(r <= 1);
                break;
        case SIZES: {
                size_t maxsize = brood_queue_maxsize(q), message_size = brood_queue_message_size(q);
                must(maxsize <= BROOD_QUEUE_MAXSIZE_LIMIT && message_size <= BROOD_QUEUE_MESSAGE_SIZE_LIMIT);
                /* A handle's own knowledge is its own: what somebody writes into the memory later does not change it. */
                if ((handle == 0 && scene->made) || !scene->damaged)
                        must(maxsize == scene->options.maxsize && message_size == scene->options.message_size);
                break;
        }
        case STATS:
                call_stats(scene, handle);
                break;
        case FILENO:
                r = brood_queue_fileno(q);
                expect("fileno", r, if_damaged(scene, EUCLEAN));
                must(r < 0 || fcntl(r, F_GETFD) >= 0);
                break;
        case DESCRIPTORS: {
                int descriptors[BROOD_QUEUE_DESCRIPTORS] = { -1, -1 };
                must(brood_queue_descriptors(q, descriptors) == 0);
                must(fcntl(descriptors[0], F_GETFD) == FD_CLOEXEC && fcntl(descriptors[1], F_GETFD) == FD_CLOEXEC);
                break;
        }
        case ATTACH:
                call_attach(scene);
                break;
        default:
                break;
        }
        int64_t took = now_ms() - start;
        if (took > CALL_LIMIT_MS)
                fail("call %d took %lld ms", (int)which, (long long)took);
}

/* ---- staging ---- */

static void take_options(struct scene *scene)
{
        static const size_t maxsizes[] = { 0, 1, 2, 3, 4, 7, 8, 33, 0, 100 };
        static const size_t message_sizes[] = { 1, 16, 24, 48, 112, 128, 129, 512, 4096, 65536 };
        struct script *script = &scene->script;
        scene->options.maxsize = maxsizes[take_below(script, array_length(maxsizes))];
        scene->options.message_size = message_sizes[take_below(script, array_length(message_sizes))];
        uint8_t how = take_byte(script);
        scene->options.memory = scene->options.message_size << (2 * (how % 3));
        scene->options.joinable = how / 4 % 4 == 3;
        scene->options.max_deliveries = how / 16 % 4;
}

/* Our own view of the memory behind `fd`, which we take over. */
static void look_at_memory(struct scene *scene, int fd)
{
        struct stat status;
        must(fstat(fd, &status) == 0);
        scene->descriptors[0] = fd;
        scene->inode = status.st_ino;
        scene->size = (size_t)status.st_size;
        scene->memory = NULL;
        if (scene->size > 0) {
                scene->memory = mmap(NULL, scene->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
                must(scene->memory != MAP_FAILED);
        }
}

static void make(struct scene *scene)
{
        int descriptors[BROOD_QUEUE_DESCRIPTORS];
        must(brood_queue_new(&scene->handles[0], &scene->options) == 0);
        must(brood_queue_descriptors(scene->handles[0], descriptors) == 0);
        for (int i = 0; i < BROOD_QUEUE_DESCRIPTORS; i++) {
                scene->descriptors[i] = fcntl(descriptors[i], F_DUPFD_CLOEXEC, 0);
                must(scene->descriptors[i] >= 0);
        }
        look_at_memory(scene, scene->descriptors[0]);
        scene->made = true;
}

static void prepare(struct scene *scene)
{
        size_t count = take_below(&scene->script, 16);
        for (size_t i = 0; i < count; i++)
                do_call(scene, (enum call)take_below(&scene->script, PREPARING));
}

static void damage(struct scene *scene)
{
        size_t count = 1 + take_below(&scene->script, 6);
        for (size_t i = 0; i < count; i++)
                do_damage(scene);
}

/* Carry what one memfd holds over to another, page by page where there is something, up to `most` bytes of it. */
static void copy_memory(const struct scene *from, int to, size_t size, size_t most)
{
        off_t at = 0;
        size_t copied = 0;
        while (copied < most && (at = lseek(from->descriptors[0], at, SEEK_DATA)) >= 0 && (size_t)at < size) {
                off_t end = lseek(from->descriptors[0], at, SEEK_HOLE);
                size_t length = (size_t)(end < 0 ? (off_t)from->size - at : end - at);
                length = length < size - (size_t)at ? length : size - (size_t)at;
                length = length < most - copied ? length : most - copied;
                must(pwrite(to, from->memory + at, length, at) == (ssize_t)length);
                copied += length;
                at += (off_t)length;
        }
}

/* Exchange the memory for another that holds something like it, sealed as the script says, and attach to that. */
static void stage_copy(struct scene *scene)
{
        static const size_t keeps[] = { COPY_MAX, COPY_MAX, COPY_MAX, 0, 8, 64, 256, 1024, 4096, 16384 };
        struct script *script = &scene->script;
        struct scene before = *scene;
        size_t size = before.size, keep = keeps[take_below(script, array_length(keeps))];
        bool whole = keep == COPY_MAX, sealed = true;

        switch (take_byte(script) % 8) {
        case 0: /* cut off within the first pages */
                size = take_below(script, 5 * 4096);
                break;
        case 1: /* cut off anywhere */
                size = take_below(script, before.size);
                break;
        case 2:
                size = before.size + 1 + take_below(script, 8192);
                break;
        default:
                break;
        }
        if (!whole && size > FILL_MAX)
                size = 4096 + take_below(script, FILL_MAX); /* small enough to be filled with other bytes */
        whole = whole && size == before.size;

        int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        must(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
        copy_memory(&before, fd, size, keep < size ? keep : size);
        look_at_memory(scene, fd);
        scene->damaged = !whole;
        scene->made = false;
        if (keep < size && keep < COPY_MAX) {
                uint64_t pattern = take_number(script, 8);
                for (size_t at = keep; at + 8 <= size; at += 8)
                        memcpy(scene->memory + at, &pattern, 8);
        }
        uint8_t how = take_byte(script);
        if (how % 2 && size >= sizeof(struct region_head)) {
                /* Let it agree with itself about its size, so that what comes behind is looked at. */
                struct region_head head;
                memcpy(&head, scene->memory, sizeof head);
                head.size = size;
                memcpy(scene->memory, &head, sizeof head);
        }
        if (how / 2 % 4 && size > 0)
                damage(scene);
        switch (how / 8 % 8) {
        case 0:
                sealed = false;
                break;
        case 1:
                must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0);
                break;
        case 2: /* nobody may map it for writing from now on */
                must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE) == 0);
                whole = false;
                break;
        default:
                must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
                break;
        }

        /* The maker goes; what it held is still in the copy, with a living owner. */
        memset(scene->reservations, 0, sizeof scene->reservations);
        memset(scene->views, 0, sizeof scene->views);
        memset(scene->leases, 0, sizeof scene->leases);
        brood_queue_free(before.handles[1]);
        brood_queue_free(before.handles[0]);
        scene->handles[0] = scene->handles[1] = NULL;
        scene->range_count = 0;
        must(munmap(before.memory, before.size) == 0);
        must(close(before.descriptors[0]) == 0);

        int given[BROOD_QUEUE_DESCRIPTORS] = { scene->descriptors[0], scene->descriptors[1] };
        bool right = true;
        int other = -1;
        switch (take_byte(script) % 16) {
        case 1:
                given[0] = scene->descriptors[1];
                given[1] = scene->descriptors[0];
                right = false;
                break;
        case 2:
                given[1] = other = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                right = false;
                break;
        case 3:
                given[0] = other = open("/dev/zero", O_RDWR | O_CLOEXEC);
                right = false;
                break;
        case 4:
                given[0] = -1;
                right = false;
                break;
        case 5:
                given[1] = 1 << 20;
                right = false;
                break;
        default:
                break;
        }
        int r = attach(scene, &scene->handles[0], given);
        if (r == 0 && (!right || !sealed))
                fail("attach took %s", right ? "memory that can shrink" : "a descriptor that is not the queue's");
        if (r < 0 && right && sealed && whole && !scene->damaged)
                fail("attach returned %d for a true copy", r);
        /* The words of a copy name an owner that lives and is not here: there is no more to expect than of a damaged one. */
        scene->damaged = true;
        if (other >= 0)
                close(other);
}

/* Each function once, in an order that the script draws; then more, for as long as there is script. */
static void perform(struct scene *scene, bool damaging)
{
        enum call order[CALLS];
        for (int i = 0; i < CALLS; i++)
                order[i] = (enum call)i;
        for (size_t i = CALLS; i > 1; i--) {
                size_t j = take_below(&scene->script, i);
                enum call other = order[j];
                order[j] = order[i - 1];
                order[i - 1] = other;
        }
        for (int i = 0; i < CALLS; i++)
                do_call(scene, order[i]);
        for (int i = 0; i < STEPS_MAX && scene->script.at < scene->script.end; i++) {
                size_t which = take_below(&scene->script, CALLS + 4);
                if (which < CALLS)
                        do_call(scene, (enum call)which);
                else if (damaging)
                        do_damage(scene);
        }
}

static void leave(struct scene *scene)
{
        int first = take_byte(&scene->script) % 2;
        /* Whatever is still held goes back with the handle. */
        brood_queue_free(scene->handles[first]);
        brood_queue_free(scene->handles[!first]);
        read_ranges(scene);
        must(scene->range_count == 0);
        if (scene->memory != NULL)
                must(munmap(scene->memory, scene->size) == 0);
        for (int i = 0; i < BROOD_QUEUE_DESCRIPTORS; i++)
                must(close(scene->descriptors[i]) == 0);
}

static void run_script(const uint8_t *data, size_t size)
{
        struct scene scene = { .script = { data, data + size } };
        struct race race;
        uint8_t how = take_byte(&scene.script) % 16;

        take_options(&scene);
        make(&scene);
        if (take_byte(&scene.script) % 4)
                call_attach(&scene);
        prepare(&scene);
        if (how < 2) {
                perform(&scene, false);
        } else if (how < 9) {
                damage(&scene);
                perform(&scene, true);
        } else if (how < 13) {
                stage_copy(&scene);
                perform(&scene, true);
        } else {
                struct ground ground = ground_of(&scene);
                bool racing = race_start(&race, &ground);
                perform(&scene, true);
                if (racing)
                        race_stop(&race);
        }
        leave(&scene);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc;
        (void)argv;
        /* What the library and libc set up once and keep is not a leak of an input. */
        run_script((const uint8_t *)"", 0);
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
