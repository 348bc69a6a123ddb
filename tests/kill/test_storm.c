/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_storm.c: four processes put and four take, in every way that there is, and somebody kills one of them every few
 * milliseconds.  Six seconds; --rounds N (or BROOD_TEST_ROUNDS) makes it N.
 *
 * The books are one word for each message, in shared memory, because those who keep them are killed:
 *
 *     BEGUN   before its put                           PUT     its put has returned 0
 *     TAKEN   counted after a get or a release         LEASED  counted after a lease
 *     LETTING before the acknowledge or the release    DONE    counted after the acknowledge
 *
 *     put, and TAKEN or DONE once        as it should be
 *     put, and neither, LETTING          its taker was killed in the call that let it go
 *     put, and neither, not LETTING      it had come out to a get whose process was killed before it could say so: at most
 *                                        once for each that was killed; a leased message is never lost
 *     TAKEN or DONE, and anything later  delivered twice
 */
#include "check.h"

#include <brood/queue.h>
#include <sched.h>

enum {
        PRODUCERS = 4,
        CONSUMERS = 4,
        USERS = PRODUCERS + CONSUMERS,
        MESSAGES = 1 << 25, /* that one storm's books have room for */
        AHEAD = 4000,       /* messages that may lie in a queue without a bound */
        BATCH = 4,
        SIZE_MAX_OF_ONE = 2000,
        HITS_WITHIN_US = 4000,
};

enum {
        BEGUN = 1 << 0,
        PUT = 1 << 1,
        LETTING = 1 << 2,
        TAKEN = 1 << 4, /* two bits of counts each */
        TAKEN_MASK = 3 << 4,
        DONE = 1 << 6,
        DONE_MASK = 3 << 6,
        LEASED = 1 << 8, /* the rest */
};

struct books {
        atomic_int stop;
        _Atomic uint32_t next; /* the first message that nobody has begun to put */
        atomic_int gone_count; /* messages taken or done */
        atomic_int torn, foreign, twice, failed, leases;
        _Atomic uint16_t of[MESSAGES];
};

struct record {
        uint32_t id, size;
        unsigned char body[SIZE_MAX_OF_ONE - 8];
};

struct user {
        brood_queue *queue;
        struct books *books;
        bool unbounded;
        bool leases; /* a consumer: leases, or gets */
        uint64_t chance;
};

/* Most messages fit beside their slot's state word, some do not; a few are large. */
static uint32_t size_of(uint32_t id)
{
        uint64_t hash = check_mix(id);
        return 8 + (uint32_t)((hash >> 8) % (hash % 64 == 0 ? SIZE_MAX_OF_ONE - 8 : 120));
}

static void make_record(struct record *record, uint32_t id)
{
        uint64_t hash = check_mix(id);
        record->id = id;
        record->size = size_of(id);
        for (uint32_t i = 0; i < record->size - 8; i++)
                record->body[i] = (unsigned char)((hash >> 8 * (i % 8)) + i / 8);
}

static int fail_in(struct user *user, const char *what, int r)
{
        fprintf(stderr, "%s: %s\n", what, brood_strerror(r));
        atomic_fetch_add(&user->books->failed, 1);
        return 1;
}

/* ---- putting ---- */

/* The number of a message to put; MESSAGES: there is none left, or the storm is over. */
static uint32_t begin(struct user *user)
{
        struct books *books = user->books;
        while (user->unbounded && !atomic_load(&books->stop) &&
               atomic_load(&books->next) > (uint32_t)atomic_load(&books->gone_count) + AHEAD)
                sched_yield();
        if (atomic_load(&books->stop) || atomic_load(&books->next) >= MESSAGES - USERS * BATCH)
                return MESSAGES;
        uint32_t id = atomic_fetch_add(&books->next, 1);
        atomic_fetch_or(&books->of[id], BEGUN);
        return id;
}

static int put_one(struct user *user)
{
        struct record record;
        uint32_t id = begin(user);
        if (id == MESSAGES)
                return 0;
        make_record(&record, id);
        int r = brood_queue_put(user->queue, &record, record.size, 2 * CHECK_HANG_MS);
        if (r < 0)
                return r;
        atomic_fetch_or(&user->books->of[id], PUT);
        return 0;
}

static int put_batch(struct user *user)
{
        struct record records[BATCH];
        struct iovec messages[BATCH];
        int count = 0;
        for (uint32_t id; count < BATCH && (id = begin(user)) != MESSAGES; count++) {
                make_record(&records[count], id);
                messages[count] = (struct iovec){ &records[count], records[count].size };
        }
        ssize_t n = brood_queue_put_many(user->queue, messages, (size_t)count, 2 * CHECK_HANG_MS);
        if (n < 0)
                return (int)n;
        if (n != count)
                return -ETIMEDOUT;
        for (int i = 0; i < count; i++)
                atomic_fetch_or(&user->books->of[records[i].id], PUT);
        return 0;
}

static int put_in_place(struct user *user)
{
        brood_reservation place;
        int r = brood_queue_reserve(user->queue, &place, SIZE_MAX_OF_ONE, 2 * CHECK_HANG_MS);
        if (r < 0)
                return r;
        if (check_random(&user->chance, 4) == 0)
                return brood_queue_cancel(user->queue, &place);
        /* Not begin(), which may wait: nobody can take what is behind this place. */
        uint32_t id = atomic_fetch_add(&user->books->next, 1);
        atomic_fetch_or(&user->books->of[id], BEGUN);
        make_record(place.data, id);
        r = brood_queue_commit(user->queue, &place, size_of(id));
        if (r == 0)
                atomic_fetch_or(&user->books->of[id], PUT);
        return r;
}

static int produce(void *arg)
{
        struct user *user = arg;
        struct books *books = user->books;
        while (!atomic_load(&books->stop)) {
                int r;
                if (atomic_load(&books->next) >= MESSAGES - USERS * BATCH)
                        return 0;
                switch (check_random(&user->chance, 8)) {
                case 0:
                        r = put_batch(user);
                        break;
                case 1:
                        r = put_in_place(user);
                        break;
                default:
                        r = put_one(user);
                        break;
                }
                if (r < 0)
                        return fail_in(user, "putting", r);
        }
        return 0;
}

/* ---- taking ---- */

/* A message has come out: whether it is what somebody has put. */
static bool look_at(struct user *user, const void *data, size_t size)
{
        struct books *books = user->books;
        const struct record *record = data;
        struct record wanted;
        if (size < 8 || record->id >= MESSAGES || !(atomic_load(&books->of[record->id]) & BEGUN)) {
                atomic_fetch_add(&books->foreign, 1);
                return false;
        }
        make_record(&wanted, record->id);
        if (size != wanted.size || memcmp(&wanted, record, size) != 0) {
                atomic_fetch_add(&books->torn, 1);
                return false;
        }
        return true;
}

/* What was gone before must not come again. */
static void count(struct user *user, uint32_t id, uint16_t what)
{
        struct books *books = user->books;
        uint16_t before = atomic_fetch_add(&books->of[id], what);
        if (before & (TAKEN_MASK | DONE_MASK))
                atomic_fetch_add(&books->twice, 1);
        if (what == LEASED)
                atomic_fetch_add(&books->leases, 1);
        else
                atomic_fetch_add(&books->gone_count, 1);
}

static int get_one(struct user *user)
{
        struct record record;
        ssize_t n = brood_queue_get(user->queue, &record, sizeof record, 2 * CHECK_HANG_MS);
        if (n < 0)
                return (int)n;
        if (look_at(user, &record, (size_t)n))
                count(user, record.id, TAKEN);
        return 0;
}

static int peek_at_one(struct user *user)
{
        brood_view view;
        int r = brood_queue_peek(user->queue, &view, 2 * CHECK_HANG_MS);
        if (r < 0)
                return r;
        if (!look_at(user, view.data, view.size) || check_random(&user->chance, 4) == 0)
                return brood_queue_unpeek(user->queue, &view);
        uint32_t id = ((const struct record *)view.data)->id;
        atomic_fetch_or(&user->books->of[id], LETTING);
        r = brood_queue_release(user->queue, &view);
        if (r == 0)
                count(user, id, TAKEN);
        return r;
}

/* A few leases at once, ended in any order, some of them by giving back or by death. */
static int lease_some(struct user *user)
{
        brood_lease leases[BATCH];
        int have = 0, wanted = 1 + (int)check_random(&user->chance, BATCH), r = 0;
        while (have < wanted) {
                r = brood_queue_lease(user->queue, &leases[have], have ? 0 : 2 * CHECK_HANG_MS);
                if (r < 0)
                        break;
                if (look_at(user, leases[have].data, leases[have].size))
                        count(user, ((const struct record *)leases[have].data)->id, LEASED);
                have++;
        }
        if (have == 0 || (r < 0 && r != -EAGAIN && r != -EPIPE))
                return r;
        while (have > 0) {
                int i = (int)check_random(&user->chance, (uint64_t)have);
                uint32_t id = ((const struct record *)leases[i].data)->id;
                uint64_t fate = check_random(&user->chance, 512);
                if (fate == 0) {
                        raise(SIGKILL);
                } else if (fate < 40) {
                        r = brood_queue_give_back(user->queue, &leases[i]);
                } else {
                        atomic_fetch_or(&user->books->of[id], LETTING);
                        r = brood_queue_acknowledge(user->queue, &leases[i]);
                        if (r == 0)
                                count(user, id, DONE);
                }
                if (r < 0)
                        return r;
                leases[i] = leases[--have];
        }
        return 0;
}

static int consume(void *arg)
{
        struct user *user = arg;
        for (;;) {
                int r;
                if (user->leases)
                        r = lease_some(user);
                else if (check_random(&user->chance, 4) == 0)
                        r = peek_at_one(user);
                else
                        r = get_one(user);
                if (r == -EPIPE)
                        return 0;
                if (r < 0)
                        return fail_in(user, "taking", r);
        }
}

/* ---- the storm ---- */

struct storm {
        struct user users[USERS]; /* the producers first */
        pid_t pids[USERS];
        int killed[USERS];
        int worst_ms;
};

static void start_one(struct storm *storm, int i)
{
        storm->users[i].chance = support_random(UINT64_MAX);
        storm->pids[i] = check_start(i < PRODUCERS ? produce : consume, &storm->users[i]);
}

/* Some kill themselves. */
static void restart_ended(struct storm *storm)
{
        for (int i = 0; i < USERS; i++) {
                int status;
                if (waitpid(storm->pids[i], &status, WNOHANG) != storm->pids[i])
                        continue;
                assert_int_equal(check_code(status), i < PRODUCERS ? 0 : -SIGKILL);
                storm->killed[i] += i >= PRODUCERS;
                start_one(storm, i);
        }
}

static void kill_for(struct storm *storm, struct books *books, int ms)
{
        int64_t end = support_now_ms() + ms, moved = support_now_ms();
        int gone = 0;
        while (support_now_ms() < end && atomic_load(&books->next) < MESSAGES - USERS * BATCH) {
                usleep((useconds_t)support_random(HITS_WITHIN_US));
                restart_ended(storm);
                int i = (int)support_random(USERS);
                storm->killed[i] += check_kill(storm->pids[i]) == -SIGKILL;
                start_one(storm, i);
                /* The others have gone on. */
                int now_gone = atomic_load(&books->gone_count);
                int64_t now = support_now_ms();
                if (now - moved > storm->worst_ms)
                        storm->worst_ms = (int)(now - moved);
                if (now_gone != gone)
                        moved = now;
                gone = now_gone;
                if (now - moved > CHECK_HANG_MS)
                        check_hang("no message moves");
                assert_int_equal(atomic_load(&books->failed), 0);
        }
}

/* One that has a lease may kill itself to the end. */
static void await_end(struct storm *storm, int i)
{
        for (int code; (code = check_wait_for(storm->pids[i], 3 * CHECK_HANG_MS)) != 0; start_one(storm, i)) {
                assert_true(i >= PRODUCERS);
                assert_int_equal(code, -SIGKILL);
                storm->killed[i]++;
        }
}

static void audit(struct storm *storm, struct books *books, size_t maxsize)
{
        int put = 0, gone_letting = 0, gone_with_getters = 0, twice = atomic_load(&books->twice), killed = 0,
            getters = 0;
        uint32_t begun = atomic_load(&books->next);
        for (uint32_t id = 0; id < begun; id++) {
                unsigned of = atomic_load_explicit(&books->of[id], memory_order_relaxed);
                unsigned times = (of & TAKEN_MASK) / TAKEN + (of & DONE_MASK) / DONE;
                put += (of & PUT) != 0;
                twice += times > 1;
                if (!(of & PUT) || times > 0)
                        continue;
                gone_letting += (of & LETTING) != 0;
                gone_with_getters += !(of & LETTING);
        }
        for (int i = 0; i < USERS; i++) {
                killed += storm->killed[i];
                /* Where nobody gets, nothing may be gone. */
                getters += i >= PRODUCERS && !storm->users[i].leases ? storm->killed[i] : 0;
        }
        printf(
            "maxsize %zu: %d kills, %d messages, %d leases, %d gone with a get and %d with an acknowledge, worst pause "
            "%d ms\n",
            maxsize, killed, put, atomic_load(&books->leases), gone_with_getters, gone_letting, storm->worst_ms);
        assert_int_equal(atomic_load(&books->torn), 0);
        assert_int_equal(atomic_load(&books->foreign), 0);
        assert_int_equal(atomic_load(&books->failed), 0);
        assert_int_equal(twice, 0);
        assert_true(gone_with_getters <= getters);
        assert_true(gone_letting <= BATCH * killed);
}

static void rage(size_t maxsize, int leasing, int ms)
{
        struct storm storm = { 0 };
        struct books *books = check_shared(sizeof *books);
        brood_queue *queue;
        assert_int_equal(
            brood_queue_new(&queue, &(brood_queue_options){ .maxsize = maxsize, .message_size = SIZE_MAX_OF_ONE }), 0);
        for (int i = 0; i < USERS; i++) {
                storm.users[i] = (struct user){
                        .queue = queue, .books = books, .unbounded = maxsize == 0, .leases = i >= USERS - leasing
                };
                start_one(&storm, i);
        }
        kill_for(&storm, books, ms);
        restart_ended(&storm);

        atomic_store(&books->stop, 1);
        for (int i = 0; i < PRODUCERS; i++)
                await_end(&storm, i);
        assert_int_equal(brood_queue_close(queue), 0);
        for (int i = PRODUCERS; i < USERS; i++)
                await_end(&storm, i);

        char byte;
        assert_int_equal(brood_queue_get(queue, &byte, 1, CHECK_HANG_MS), -EPIPE);
        assert_int_equal(brood_queue_qsize(queue), 0);
        assert_int_equal(brood_queue_join(queue, CHECK_HANG_MS), 0);
        brood_queue_statistics statistics;
        assert_int_equal(brood_queue_stats(queue, &statistics), 0);
        assert_int_equal(statistics.leased, 0);
        audit(&storm, books, maxsize);
        brood_queue_free(queue);
        munmap(books, sizeof *books);
}

static void test_storm(void **state)
{
        (void)state;
        enum { EACH_MS = 2000 }; /* the books have room for about twice as much */
        static const size_t maxsizes[] = { 1, 3, 16, 1000, 0 };
        int storms = support_rounds(6) * 1000 / EACH_MS;
        for (int i = 0; i < storms; i++) {
                int leasing = i % 2 ? CONSUMERS : CONSUMERS / 2;
                rage(maxsizes[(size_t)i % array_length(maxsizes)], leasing, EACH_MS);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { support_test(test_storm) };
        return support_main(argc, argv, "storm", tests, array_length(tests), 220);
}
