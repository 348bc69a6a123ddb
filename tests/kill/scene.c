/* SPDX-License-Identifier: MIT
 *
 * tests/kill/scene.c: see scene.h.
 */
#include "scene.h"

enum {
        FIRST_OF_SEATS = SCENE_GIVEN,
        IDS_OF_SEAT = 100,
        FIRST_CHECK = 3000,
        WARM = SCENE_IDS - 8,
        NOBODY = SCENE_IDS - 1
};

struct books *scene_books_new(void)
{
        return check_shared(sizeof(struct books));
}

void scene_books_free(struct books *books)
{
        munmap(books, sizeof *books);
}

void scene_complain(struct books *books, const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        verdict_vcomplain(&books->verdict, format, arguments);
        va_end(arguments);
}

/* ---- messages ---- */

static uint32_t size_of(const struct stage *stage, uint32_t id)
{
        return stage->size - id % 4;
}

static void make_message(const struct stage *stage, struct message *message, uint32_t id)
{
        uint64_t hash = check_mix(id);
        message->id = id;
        message->size = size_of(stage, id);
        for (uint32_t i = 0; i < message->size - 8; i++)
                message->body[i] = (unsigned char)((hash >> 8 * (i % 8)) + i / 8);
}

static bool is_whole(const struct stage *stage, const struct message *message, size_t size)
{
        struct message wanted;
        if (size < 8 || message->id >= SCENE_IDS || size != size_of(stage, message->id))
                return false;
        make_message(stage, &wanted, message->id);
        return memcmp(message, &wanted, size) == 0;
}

static bool is_in_hand(const struct stage *stage, const struct message *message)
{
        return is_whole(stage, message, message->size <= sizeof *message ? message->size : 0);
}

static void note_wait(struct books *books, int64_t start)
{
        verdict_note_wait(&books->verdict, start, SCENE_WAIT_MS);
}

/* A message has come out to one who lives. */
static void receive(struct scene *scene, const struct message *message, ssize_t size)
{
        if (!is_whole(scene->stage, message, (size_t)size))
                scene_complain(scene->books, "a message of %zd bytes is torn (id %u)", size,
                               size >= 4 ? message->id : 0);
        else
                atomic_fetch_add(&scene->books->delivered[message->id], 1);
        if (scene->joinable) {
                int r = brood_queue_task_done(scene->queue);
                if (r < 0)
                        scene_complain(scene->books, "task_done: %s", brood_strerror(r));
        }
}

static int put_one(struct scene *scene, uint32_t id, int timeout_ms)
{
        struct message message;
        make_message(scene->stage, &message, id);
        return brood_queue_put(scene->queue, &message, message.size, timeout_ms);
}

void scene_take_in_hand(struct seat *seat, int i, const void *data, size_t size)
{
        if (size <= sizeof seat->hands[i])
                memcpy(&seat->hands[i], data, size);
}

/* ---- before the deaths ---- */

void scene_open(struct scene *scene, const struct stage *stage, bool joinable, struct books *books, uint64_t chance)
{
        *scene = (struct scene){ .stage = stage, .joinable = joinable, .books = books, .chance = chance };
        for (int i = 0; i < SCENE_SEATS; i++) {
                struct seat *seat = &books->seats[i];
                seat->vacant = true;
                seat->act = NULL;
                for (int m = 0; m < SCENE_BATCH; m++) {
                        memset(&seat->hands[m], 0, stage->size);
                        seat->hands[m].id = NOBODY; /* not what a fresh message is */
                }
        }
        memset((void *)books->delivered, 0, sizeof books->delivered);
        atomic_store(&books->checks_got, 0);
        atomic_store(&books->received, 0);
        atomic_store(&books->first_id, -1);
        atomic_store(&books->inversions, 0);
        atomic_store(&books->checks_put, 0);
        atomic_store(&books->checks_refused, 0);
        verdict_clear(&books->verdict);
        assert_int_equal(brood_queue_new(&scene->queue, &(brood_queue_options){ .maxsize = stage->maxsize,
                                                                                .message_size = SCENE_ROOM,
                                                                                .joinable = joinable }),
                         0);
}

static void give(struct scene *scene)
{
        if (scene->given == SCENE_GIVEN)
                return;
        int r = put_one(scene, scene->given, 0);
        if (r == 0)
                scene->given++;
        else if (r != -EAGAIN && r != -EPIPE)
                scene_complain(scene->books, "a put beside the victim: %s", brood_strerror(r));
}

static void take(struct scene *scene)
{
        struct message message;
        ssize_t n = brood_queue_get(scene->queue, &message, sizeof message, 0);
        if (n >= 0) {
                scene->got++;
                receive(scene, &message, n);
        } else if (n != -EAGAIN && n != -EPIPE) {
                scene_complain(scene->books, "a get beside the victim: %s", brood_strerror((int)n));
        }
}

void scene_fill(struct scene *scene)
{
        const struct stage *stage = scene->stage;
        for (int i = 0; i < stage->laps; i++) {
                give(scene);
                take(scene);
        }
        for (int i = 0; i < stage->given; i++)
                give(scene);
        for (int i = 0; i < stage->taken; i++)
                take(scene);
        assert_int_equal(scene->given, stage->laps + stage->given);
        assert_int_equal(scene->got, stage->laps + stage->taken);
        if (!stage->held)
                return;
        /* Behind the messages that are there, a place in which somebody alive is writing; or the first of them being read. */
        if (stage->given == 0) {
                assert_int_equal(brood_queue_reserve(scene->queue, &scene->place, stage->size, 0), 0);
                scene->holds_place = true;
        } else {
                assert_int_equal(brood_queue_peek(scene->queue, &scene->view, 0), 0);
                scene->holds_message = true;
        }
}

/* What the test process holds, it lets go of: the message is there after all, or not; or is put back, or taken. */
static void let_go(struct scene *scene)
{
        int r = 0;
        if (scene->holds_place && check_random(&scene->chance, 2)) {
                r = brood_queue_cancel(scene->queue, &scene->place);
        } else if (scene->holds_place) {
                make_message(scene->stage, scene->place.data, scene->given);
                r = brood_queue_commit(scene->queue, &scene->place, size_of(scene->stage, scene->given));
                scene->given++;
        }
        if (scene->holds_message && check_random(&scene->chance, 2)) {
                r = brood_queue_unpeek(scene->queue, &scene->view);
        } else if (scene->holds_message) {
                scene->got++;
                receive(scene, scene->view.data, (ssize_t)scene->view.size);
                r = brood_queue_release(scene->queue, &scene->view);
        }
        if (r < 0)
                scene_complain(scene->books, "letting go: %s", brood_strerror(r));
        scene->holds_place = scene->holds_message = false;
}

void scene_act(struct scene *scene)
{
        if (check_random(&scene->chance, 2))
                give(scene);
        else
                take(scene);
}

/* Somebody else who waits for a message; he sleeps when the victim does already, so that it is the victim that is woken. */
static int be_a_sleeper(void *arg)
{
        struct scene *scene = arg;
        struct message message;
        ssize_t n = brood_queue_get(scene->queue, &message, sizeof message, 8 * SCENE_WAIT_MS);
        if (n >= 0) {
                receive(scene, &message, n);
                atomic_fetch_add(&scene->books->received, 1);
                atomic_fetch_add(&scene->books->checks_got, message.id >= FIRST_CHECK);
        } else if (n != -EPIPE) {
                scene_complain(scene->books, "a get beside the victim: %s", brood_strerror((int)n));
        }
        return 0;
}

void scene_wake(struct scene *scene)
{
        if (scene->stage->beside && scene->sleeper == 0) {
                scene->sleeper = check_start(be_a_sleeper, scene);
                if (!check_asleep(scene->sleeper))
                        scene_complain(scene->books, "nobody sleeps beside the victim");
        }
        if (scene->stage->given == 0)
                give(scene);
        else
                take(scene);
}

struct casting {
        struct scene *scene;
        struct seat *seat;
};

/* The victim makes its messages, and uses the queue once: it is known there then, and the libc's functions are bound. */
static int prepare_victim(void *arg)
{
        struct casting *casting = arg;
        struct scene *scene = casting->scene;
        struct seat *seat = casting->seat;
        if (seat->act->kind == ACT_PUTS)
                for (int i = 0; i < seat->act->count; i++)
                        make_message(scene->stage, &seat->hands[i],
                                     (uint32_t)(FIRST_OF_SEATS + IDS_OF_SEAT * seat->number + i));
        if (scene->stage->cold)
                return 0;
        struct message message;
        require_int(put_one(scene, WARM, 0), 0);
        require(brood_queue_get(scene->queue, &message, sizeof message, 0) > 0);
        if (scene->joinable)
                require_int(brood_queue_task_done(scene->queue), 0);
        return 0;
}

static void call_victim(void *arg)
{
        struct casting *casting = arg;
        casting->seat->act->call(casting->scene, casting->seat);
}

pid_t scene_seat(struct scene *scene, int number, const struct act *act)
{
        struct seat *seat = &scene->books->seats[number];
        seat->act = act;
        seat->number = number;
        seat->vacant = false;
        atomic_store(&seat->begun, 0);
        atomic_store(&seat->result, -EINPROGRESS);
        struct casting casting = { .scene = scene, .seat = seat };
        pid_t pid = step_start(&(struct step_victim){
            .prepare = prepare_victim, .call = call_victim, .arg = &casting, .mark = &seat->mark });
        if (pid < 0)
                scene_complain(scene->books, "a victim has not come to its call");
        return pid;
}

int scene_expected(const struct stage *stage, const struct act *act)
{
        int in = stage->given - stage->taken - (stage->held && stage->given > 0);
        int room = stage->maxsize == 0
                       ? act->count
                       : (int)stage->maxsize - (stage->given - stage->taken) - (stage->held && stage->given == 0);
        if (stage->woken) {
                in += stage->given == 0;
                room += stage->given != 0;
        }
        if (act->kind == ACT_CLOSES)
                return 0;
        int most = act->kind == ACT_PUTS ? room : in;
        if (most > 0)
                return most < act->count ? most : act->count;
        return stage->timeout_ms == 0 ? -EAGAIN : -ETIMEDOUT;
}

/* ---- after the deaths ---- */

static int be_fresh_putter(void *arg)
{
        struct scene *scene = arg;
        for (uint32_t i = 0; i < SCENE_CHECKS; i++) {
                int64_t start = support_now_ms();
                int r = put_one(scene, FIRST_CHECK + i, 2 * SCENE_WAIT_MS);
                note_wait(scene->books, start);
                if (r == 0)
                        atomic_fetch_add(&scene->books->checks_put, 1);
                else if (r == -EPIPE)
                        atomic_fetch_add(&scene->books->checks_refused, 1);
                else
                        scene_complain(scene->books, "a put by a fresh process: %s", brood_strerror(r));
        }
        return 0;
}

struct getter {
        struct scene *scene;
        int owed; /* at least so many messages must come */
};

static int be_fresh_getter(void *arg)
{
        struct getter *getter = arg;
        struct scene *scene = getter->scene;
        struct books *books = scene->books;
        uint32_t last[2 + SCENE_SEATS] = { 0 }; /* from each who puts */
        for (;;) {
                struct message message;
                int checks = atomic_load(&books->checks_got);
                bool done = checks == SCENE_CHECKS && atomic_load(&books->received) >= getter->owed;
                int64_t start = support_now_ms();
                ssize_t n = brood_queue_get(scene->queue, &message, sizeof message, done ? 0 : 2 * SCENE_WAIT_MS);
                note_wait(books, start);
                if (n == -EPIPE || (n == -EAGAIN && done))
                        return 0;
                if (n < 0) {
                        scene_complain(books, "a get by a fresh process after %d messages, %d of them fresh: %s",
                                       atomic_load(&books->received), checks, brood_strerror((int)n));
                        return 0;
                }
                receive(scene, &message, n);
                if (atomic_fetch_add(&books->received, 1) == 0)
                        atomic_store(&books->first_id, (int)message.id);
                uint32_t of = 0;
                if (message.id >= FIRST_CHECK)
                        of = 1;
                else if (message.id >= FIRST_OF_SEATS)
                        of = 2 + (message.id - FIRST_OF_SEATS) / IDS_OF_SEAT % SCENE_SEATS;
                atomic_fetch_add(&books->checks_got, of == 1);
                if (message.id < last[of])
                        atomic_fetch_add(&books->inversions, 1);
                else
                        last[of] = message.id;
        }
}

static bool has_ended(const struct seat *seat)
{
        return atomic_load(&seat->mark.ended) != 0;
}

/* How many messages a seat has taken for good, at most. */
static int taken_at_most(const struct seat *seat)
{
        if (seat->vacant || seat->act->kind != ACT_TAKES)
                return 0;
        int result = atomic_load(&seat->result);
        if (has_ended(seat))
                return result > 0 ? result : 0;
        return atomic_load(&seat->begun);
}

/* How many messages a seat has put, at least and at most. */
static int put_at_least(const struct seat *seat)
{
        int result = atomic_load(&seat->result);
        return !seat->vacant && seat->act->kind == ACT_PUTS && has_ended(seat) && result > 0 ? result : 0;
}

static int put_at_most(const struct seat *seat)
{
        if (seat->vacant || seat->act->kind != ACT_PUTS)
                return 0;
        return has_ended(seat) ? put_at_least(seat) : atomic_load(&seat->begun);
}

/* Whether a message has come out to a victim, which may have had it for good. */
static bool is_gone_with_victim(struct scene *scene, uint32_t id)
{
        for (int s = 0; s < SCENE_SEATS; s++) {
                const struct seat *seat = &scene->books->seats[s];
                for (int i = 0; i < taken_at_most(seat); i++)
                        if (seat->hands[i].id == id && is_in_hand(scene->stage, &seat->hands[i]))
                                return true;
        }
        return false;
}

static void audit_message(struct scene *scene, uint32_t id, bool must, bool may, int *ret_present, int *ret_gone)
{
        struct books *books = scene->books;
        int times = atomic_load(&books->delivered[id]);
        bool gone = times == 0 && is_gone_with_victim(scene, id);
        if (times > 1)
                scene_complain(books, "message %u is delivered %d times", id, times);
        if (times && !may)
                scene_complain(books, "message %u is delivered, and nobody has put it", id);
        if (must && !times && !gone)
                scene_complain(books, "message %u is lost", id);
        *ret_present += times || gone;
        *ret_gone += gone;
}

static void audit_seat(struct scene *scene, const struct seat *seat)
{
        struct books *books = scene->books;
        if (seat->vacant || !has_ended(seat))
                return;
        int result = atomic_load(&seat->result);
        if (seat->act->kind == ACT_TAKES) {
                for (int i = 0; i < result; i++) {
                        if (!is_in_hand(scene->stage, &seat->hands[i]))
                                scene_complain(books, "a victim has taken a torn message");
                        else if (atomic_load(&books->delivered[seat->hands[i].id]))
                                scene_complain(books, "message %u was taken, and is delivered again",
                                               seat->hands[i].id);
                }
        }
        if (seat->act->puts_back && result > 0 && !scene->stage->acting && !scene->stage->pairs &&
            !scene->stage->held && !scene->stage->beside && atomic_load(&books->first_id) != (int)seat->hands[0].id)
                scene_complain(books, "message %u was put back, and %d comes first", seat->hands[0].id,
                               atomic_load(&books->first_id));
}

static void audit(struct scene *scene, struct outcome *outcome)
{
        struct books *books = scene->books;
        int nothing = 0, looked_at = 0, may_close = 0, must_be_closed = 0;
        for (uint32_t id = 0; id < scene->given; id++)
                audit_message(scene, id, true, true, &nothing, &outcome->gone);
        for (int s = 0; s < SCENE_SEATS; s++) {
                const struct seat *seat = &books->seats[s];
                if (seat->vacant)
                        continue;
                bool before = true;
                for (int i = 0; seat->act->kind == ACT_PUTS && i < SCENE_BATCH; i++) {
                        int present = 0;
                        audit_message(scene, (uint32_t)(FIRST_OF_SEATS + IDS_OF_SEAT * s + i), i < put_at_least(seat),
                                      i < put_at_most(seat), &present, &outcome->gone);
                        if (present && !before)
                                scene_complain(books, "of a batch, message %d is there and the one before is not", i);
                        before = present;
                        outcome->present += present;
                }
                audit_seat(scene, seat);
                looked_at += seat->act->kind == ACT_TAKES || seat->act->kind == ACT_LOOKS ? seat->act->count : 0;
                may_close |= seat->act->kind == ACT_CLOSES;
                must_be_closed |= seat->act->kind == ACT_CLOSES && has_ended(seat);
        }
        int checks = atomic_load(&books->checks_put), refused = atomic_load(&books->checks_refused);
        for (uint32_t i = 0; i < SCENE_CHECKS; i++)
                audit_message(scene, FIRST_CHECK + i, (int)i < checks, (int)i < checks, &nothing, &nothing);
        outcome->closed = refused > 0;
        if (checks != SCENE_CHECKS && refused != SCENE_CHECKS)
                scene_complain(books, "%d puts went in, and %d were refused", checks, refused);
        if (refused && !may_close)
                scene_complain(books, "the queue is closed, and nobody has closed it");
        if (must_be_closed && !refused)
                scene_complain(books, "the queue was closed, and is open");
        /* What a dead process had looked at may come late; the others keep their order. */
        if (atomic_load(&books->inversions) > looked_at)
                scene_complain(books, "%d messages are out of order", atomic_load(&books->inversions));
}

/* Nothing is left, and what is left half done by the dead holds nobody up. */
static void close_and_drain(struct scene *scene)
{
        struct books *books = scene->books;
        int r = brood_queue_close(scene->queue);
        if (r < 0)
                scene_complain(books, "close: %s", brood_strerror(r));
        for (;;) {
                struct message message;
                int64_t start = support_now_ms();
                ssize_t n = brood_queue_get(scene->queue, &message, sizeof message, 2 * SCENE_WAIT_MS);
                note_wait(books, start);
                if (n == -EPIPE)
                        break;
                if (n < 0) {
                        scene_complain(books, "a get from the closed queue: %s", brood_strerror((int)n));
                        return;
                }
                receive(scene, &message, n);
        }
        ssize_t left = brood_queue_qsize(scene->queue);
        if (left != 0)
                scene_complain(books, "%zd messages in a queue that is drained", left);
        if (put_one(scene, WARM, 0) != -EPIPE)
                scene_complain(books, "a closed queue takes a message");
        int64_t start = support_now_ms();
        r = brood_queue_join(scene->queue, 2 * SCENE_WAIT_MS);
        note_wait(books, start);
        if (r < 0)
                scene_complain(books, "join: %s", brood_strerror(r));
}

/* Both are children of this process, and every call of theirs has a time limit; the watcher has one for all. */
static void reap(struct books *books, pid_t pid)
{
        int status;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return;
        if (status != 0)
                scene_complain(books, "a fresh process ended with %d", check_code(status));
}

/* If the victim was killed before the message came out to it, it was woken for nothing, and the other must have the message soon.
 * Else the other is waiting for a message of its own. */
static void await_sleeper(struct scene *scene)
{
        const struct seat *seat = &scene->books->seats[0];
        if (scene->sleeper == 0)
                return;
        if (has_ended(seat) || is_in_hand(scene->stage, &seat->hands[0]))
                give(scene);
        int64_t start = support_now_ms();
        if (!support_process_gone(scene->sleeper, 2 * SCENE_WAIT_MS))
                scene_complain(scene->books, "somebody sleeps beside a message");
        note_wait(scene->books, start);
}

bool scene_settle(struct scene *scene, struct outcome *outcome)
{
        struct books *books = scene->books;
        let_go(scene);
        await_sleeper(scene);
        struct getter getter = { .scene = scene, .owed = (int)(scene->given - scene->got) + SCENE_CHECKS };
        for (int s = 0; s < SCENE_SEATS; s++)
                getter.owed += put_at_least(&books->seats[s]) - taken_at_most(&books->seats[s]);
        pid_t putter = check_start(be_fresh_putter, scene);
        pid_t other = check_start(be_fresh_getter, &getter);
        reap(books, putter);
        reap(books, other);
        close_and_drain(scene);
        if (scene->sleeper)
                reap(books, scene->sleeper);
        outcome->present = outcome->gone = outcome->closed = 0;
        audit(scene, outcome);
        return atomic_load(&books->verdict.complaints) == 0;
}

void scene_end(struct scene *scene)
{
        brood_queue_free(scene->queue);
        scene->queue = NULL;
}
