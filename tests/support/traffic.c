/* SPDX-License-Identifier: MIT
 *
 * tests/support/traffic.c: producers, consumers, and whoever kills them.  See traffic.h.
 */
#include "traffic.h"

struct record {
        uint32_t producer, sequence, size, zero;
        unsigned char body[TRAFFIC_SIZE_MAX - 16];
};

/* Most messages fit beside their slot's state word, some do not; a few are large. */
static uint32_t record_make(struct record *record, uint32_t producer, uint32_t sequence)
{
        uint64_t hash = check_mix(((uint64_t)producer << 32) | sequence);
        uint32_t body = hash % 64 == 0 ? (uint32_t)(hash >> 8) % sizeof record->body : (uint32_t)(hash >> 8) % 120;
        record->producer = producer;
        record->sequence = sequence;
        record->size = 16 + body;
        record->zero = 0;
        for (uint32_t i = 0; i < body; i++)
                record->body[i] = (unsigned char)((hash >> (8 * (i % 8))) + i / 8);
        return record->size;
}

int traffic_produce(void *arg)
{
        struct traffic_user *user = arg;
        struct traffic_books *books = user->books;
        struct record record;
        uint32_t end = user->messages ? user->messages : TRAFFIC_MESSAGES;
        for (uint32_t i = 0; i < end && !atomic_load_explicit(&books->stop, memory_order_relaxed); i++) {
                uint32_t size = record_make(&record, user->id, i);
                atomic_store(&books->begun[user->id], i + 1);
                int r = brood_queue_put(user->queue, &record, size, 2 * CHECK_HANG_MS);
                if (r < 0) {
                        fprintf(stderr, "producer %u: put of message %u: %s\n", user->id, i, brood_strerror(r));
                        atomic_fetch_add(&books->failed, 1);
                        return 1;
                }
                atomic_store(&books->done[user->id], i + 1);
        }
        return 0;
}

int traffic_consume(void *arg)
{
        struct traffic_user *user = arg;
        struct traffic_books *books = user->books;
        struct record record, wanted;
        uint32_t next[TRAFFIC_PRODUCERS] = { 0 };
        for (;;) {
                ssize_t n = brood_queue_get(user->queue, &record, sizeof record, 2 * CHECK_HANG_MS);
                if (n == -EPIPE)
                        return 0;
                if (n < 0) {
                        fprintf(stderr, "consumer: get: %s\n", brood_strerror((int)n));
                        atomic_fetch_add(&books->failed, 1);
                        return 1;
                }
                if (n < 16 || record.producer >= TRAFFIC_PRODUCERS || record.sequence >= TRAFFIC_MESSAGES) {
                        atomic_fetch_add(&books->foreign, 1);
                        continue;
                }
                if (atomic_fetch_add(&books->taken[record.producer][record.sequence], 1))
                        atomic_fetch_add(&books->twice, 1);
                uint32_t size = record_make(&wanted, record.producer, record.sequence);
                if ((size_t)n != size || memcmp(&wanted, &record, size) != 0)
                        atomic_fetch_add(&books->torn, 1);
                if (record.sequence < next[record.producer])
                        atomic_fetch_add(&books->out_of_order, 1);
                else
                        next[record.producer] = record.sequence + 1;
                atomic_fetch_add(&books->taken_count, 1);
        }
}

/* How many puts returned 0 and came out nowhere; and what came out that nobody put. */
static void count_up(struct traffic_books *books, int *ret_lost, int *ret_invented)
{
        int lost = 0, invented = 0;
        for (uint32_t p = 0; p < TRAFFIC_PRODUCERS; p++) {
                uint32_t begun = atomic_load(&books->begun[p]), done = atomic_load(&books->done[p]);
                for (uint32_t i = 0; i < begun; i++)
                        lost += i < done && !atomic_load(&books->taken[p][i]);
                for (uint32_t i = begun; begun && i < TRAFFIC_MESSAGES && i < begun + 64; i++)
                        invented += atomic_load(&books->taken[p][i]) != 0;
        }
        *ret_lost = lost;
        *ret_invented = invented;
}

void traffic_balance(struct traffic_books *books, int lost, const char *what)
{
        int is_lost, invented;
        count_up(books, &is_lost, &invented);
        int out_of_order = atomic_load(&books->out_of_order);
        if (is_lost > lost || invented || out_of_order > lost || books->torn || books->twice || books->foreign ||
            books->failed)
                fprintf(stderr,
                        "%s: %d taken, %d lost and %d out of order (%d allowed), %d invented, %d torn, %d twice, %d "
                        "foreign, %d calls failed\n",
                        what, atomic_load(&books->taken_count), is_lost, out_of_order, lost, invented,
                        atomic_load(&books->torn), atomic_load(&books->twice), atomic_load(&books->foreign),
                        atomic_load(&books->failed));
        assert_int_equal(atomic_load(&books->torn), 0);
        assert_int_equal(atomic_load(&books->twice), 0);
        assert_int_equal(atomic_load(&books->foreign), 0);
        assert_int_equal(atomic_load(&books->failed), 0);
        assert_int_equal(invented, 0);
        assert_true(is_lost <= lost);
        assert_true(out_of_order <= lost);
}

#define USERS_MAX 16

struct storm {
        const struct traffic_plan *plan;
        struct traffic_books *books;
        struct traffic_user users[USERS_MAX]; /* the producers first */
        pid_t pids[USERS_MAX];
        uint32_t next_id;
};

static bool start_one(struct storm *storm, int i)
{
        if (i < storm->plan->producers) {
                if (storm->next_id == TRAFFIC_PRODUCERS)
                        return false;
                storm->users[i].id = storm->next_id++;
        }
        storm->pids[i] = check_start(i < storm->plan->producers ? traffic_produce : traffic_consume, &storm->users[i]);
        return true;
}

/* A producer that has sent all that the books have room for ends; another takes its place. */
static bool replace_finished(struct storm *storm)
{
        for (int i = 0; i < storm->plan->producers; i++) {
                int status;
                if (!storm->pids[i] || waitpid(storm->pids[i], &status, WNOHANG) != storm->pids[i])
                        continue;
                storm->pids[i] = 0;
                assert_int_equal(check_code(status), 0);
                if (!start_one(storm, i))
                        return false;
        }
        return true;
}

/* The others go on: messages are taken again.  As many as the queue holds, and more, so that they are not old ones only. */
static bool await_progress(struct storm *storm, int *worst_ms)
{
        int wanted = atomic_load(&storm->books->taken_count) + (int)storm->plan->maxsize + 8;
        int64_t start = support_now_ms();
        while (atomic_load(&storm->books->taken_count) < wanted) {
                assert_int_equal(atomic_load(&storm->books->failed), 0);
                if (!replace_finished(storm))
                        return false;
                if (support_now_ms() - start > CHECK_HANG_MS)
                        check_hang("no message moves after a process was hit");
                usleep(100);
        }
        if (support_now_ms() - start > *worst_ms)
                *worst_ms = (int)(support_now_ms() - start);
        return true;
}

void traffic_storm(const struct traffic_plan *plan, struct traffic_tally *tally)
{
        struct storm storm = { .plan = plan };
        int users = plan->producers + plan->consumers;
        assert_true(users <= USERS_MAX && plan->hits <= 200);
        brood_queue *queue;
        assert_int_equal(brood_queue_new(&queue, &(brood_queue_options){ .maxsize = plan->maxsize,
                                                                         .message_size = TRAFFIC_SIZE_MAX }),
                         0);
        storm.books = check_shared(sizeof *storm.books);
        for (int i = 0; i < users; i++) {
                storm.users[i] = (struct traffic_user){ .queue = queue, .books = storm.books };
                start_one(&storm, i);
        }

        int first = plan->hit_producers ? 0 : plan->producers;
        int last = plan->hit_consumers ? users : plan->producers;
        int killed_consumers = 0;
        for (int hit = 0; hit < plan->hits; hit++) {
                if (!await_progress(&storm, &tally->worst_ms))
                        break;
                usleep((useconds_t)support_random((uint64_t)plan->within_us + 1));
                int i = first + (int)support_random((uint64_t)(last - first));
                if (plan->aim == TRAFFIC_FREEZE) {
                        kill(storm.pids[i], SIGSTOP);
                        usleep((useconds_t)support_random(2000));
                        kill(storm.pids[i], SIGCONT);
                } else {
                        int code = check_kill(storm.pids[i]);
                        storm.pids[i] = 0;
                        if (code != -SIGKILL) /* it had just sent its last message */
                                assert_int_equal(code, 0);
                        if (i >= plan->producers && code == -SIGKILL)
                                killed_consumers++;
                        /* With others left to do its work, let them go on without it for a while. */
                        bool alone = i < plan->producers ? plan->producers == 1 : plan->consumers == 1;
                        if (!alone && !await_progress(&storm, &tally->worst_ms))
                                break;
                        if (!storm.pids[i] && !start_one(&storm, i))
                                break;
                }
                if (i < plan->producers)
                        tally->producers_hit++;
                else
                        tally->consumers_hit++;
        }
        await_progress(&storm, &tally->worst_ms);

        atomic_store(&storm.books->stop, 1);
        for (int i = 0; i < plan->producers; i++)
                if (storm.pids[i])
                        assert_int_equal(check_wait_for(storm.pids[i], CHECK_HANG_MS), 0);
        assert_int_equal(brood_queue_close(queue), 0);
        for (int i = plan->producers; i < users; i++)
                if (storm.pids[i])
                        assert_int_equal(check_wait_for(storm.pids[i], CHECK_HANG_MS), 0);
        assert_int_equal(brood_queue_qsize(queue), 0);
        char byte;
        assert_int_equal(brood_queue_get_nowait(queue, &byte, 1), -EPIPE);

        traffic_balance(storm.books, killed_consumers, "storm");
        int lost, invented;
        count_up(storm.books, &lost, &invented);
        tally->lost += lost;
        tally->messages += atomic_load(&storm.books->taken_count);
        brood_queue_free(queue);
        munmap(storm.books, sizeof *storm.books);
}
