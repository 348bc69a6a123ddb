/* SPDX-License-Identifier: MIT
 *
 * tests/kill/acts.c: what a victim does, from its first instruction to its last.  See acts.h.
 *
 * `begun` is raised before the call that may be the last one to have a message here: with it in the books, a message that is
 * nowhere else may have gone with the victim, or one that is put may be there.  As long as it is 0, neither may be.
 */
#include "acts.h"

#include <brood/wait.h>

static void put(struct scene *scene, struct seat *seat)
{
        atomic_store(&seat->begun, 1);
        int r = brood_queue_put(scene->queue, &seat->hands[0], seat->hands[0].size, scene->stage->timeout_ms);
        atomic_store(&seat->result, r == 0 ? 1 : r);
}

static void put_in_turn(struct scene *scene, struct seat *seat)
{
        int r = 0, done = 0;
        while (done < seat->act->count) {
                atomic_store(&seat->begun, done + 1);
                r = brood_queue_put(scene->queue, &seat->hands[done], seat->hands[done].size, scene->stage->timeout_ms);
                if (r < 0)
                        break;
                done++;
        }
        atomic_store(&seat->result, done ? done : r);
}

static void put_many(struct scene *scene, struct seat *seat)
{
        struct iovec messages[SCENE_BATCH];
        for (int i = 0; i < seat->act->count; i++)
                messages[i] = (struct iovec){ &seat->hands[i], seat->hands[i].size };
        atomic_store(&seat->begun, seat->act->count);
        ssize_t n = brood_queue_put_many(scene->queue, messages, (size_t)seat->act->count, scene->stage->timeout_ms);
        atomic_store(&seat->result, (int)n);
}

static void reserve_and_commit(struct scene *scene, struct seat *seat)
{
        brood_reservation place;
        /* More room than is needed: the size is the commit's. */
        int r = brood_queue_reserve(scene->queue, &place, scene->stage->size, scene->stage->timeout_ms);
        if (r == 0) {
                memcpy(place.data, &seat->hands[0], seat->hands[0].size);
                atomic_store(&seat->begun, 1);
                r = brood_queue_commit(scene->queue, &place, seat->hands[0].size);
        }
        atomic_store(&seat->result, r == 0 ? 1 : r);
}

static void reserve_and_cancel(struct scene *scene, struct seat *seat)
{
        brood_reservation place;
        int r = brood_queue_reserve(scene->queue, &place, scene->stage->size, scene->stage->timeout_ms);
        if (r == 0) {
                memcpy(place.data, &seat->hands[0], seat->hands[0].size);
                r = brood_queue_cancel(scene->queue, &place);
        }
        atomic_store(&seat->result, r);
}

static void get(struct scene *scene, struct seat *seat)
{
        atomic_store(&seat->begun, 1);
        ssize_t n = brood_queue_get(scene->queue, &seat->hands[0], sizeof seat->hands[0], scene->stage->timeout_ms);
        atomic_store(&seat->result, n >= 0 ? 1 : (int)n);
}

/* From then on, each message that is put rings the bell. */
static void wait_and_get(struct scene *scene, struct seat *seat)
{
        brood_waitable one = brood_waitable_queue(scene->queue);
        ssize_t n = brood_wait_many(&one, 1, scene->stage->timeout_ms);
        if (n == 1) {
                atomic_store(&seat->begun, 1);
                n = brood_queue_get_nowait(scene->queue, &seat->hands[0], sizeof seat->hands[0]);
                n = n >= 0 ? 1 : n;
        }
        atomic_store(&seat->result, (int)n);
}

static void get_in_turn(struct scene *scene, struct seat *seat)
{
        ssize_t n = 0;
        int done = 0;
        while (done < seat->act->count) {
                atomic_store(&seat->begun, done + 1);
                n = brood_queue_get(scene->queue, &seat->hands[done], sizeof seat->hands[done],
                                    scene->stage->timeout_ms);
                if (n < 0)
                        break;
                done++;
        }
        atomic_store(&seat->result, done ? done : (int)n);
}

static void get_many(struct scene *scene, struct seat *seat)
{
        struct iovec messages[SCENE_BATCH];
        for (int i = 0; i < seat->act->count; i++)
                messages[i] = (struct iovec){ &seat->hands[i], sizeof seat->hands[i] };
        atomic_store(&seat->begun, seat->act->count);
        ssize_t n = brood_queue_get_many(scene->queue, messages, (size_t)seat->act->count, scene->stage->timeout_ms);
        atomic_store(&seat->result, (int)n);
}

static void peek_and_end(struct scene *scene, struct seat *seat, bool release)
{
        brood_view view;
        int r = brood_queue_peek(scene->queue, &view, scene->stage->timeout_ms);
        if (r == 0) {
                scene_take_in_hand(seat, 0, view.data, view.size);
                atomic_store(&seat->begun, release);
                r = release ? brood_queue_release(scene->queue, &view) : brood_queue_unpeek(scene->queue, &view);
        }
        atomic_store(&seat->result, r == 0 ? 1 : r);
}

static void peek_and_release(struct scene *scene, struct seat *seat)
{
        peek_and_end(scene, seat, true);
}

static void peek_and_unpeek(struct scene *scene, struct seat *seat)
{
        peek_and_end(scene, seat, false);
}

static void lease_and_end(struct scene *scene, struct seat *seat, bool acknowledge)
{
        brood_lease lease;
        int r = brood_queue_lease(scene->queue, &lease, scene->stage->timeout_ms);
        if (r == 0) {
                scene_take_in_hand(seat, 0, lease.data, lease.size);
                atomic_store(&seat->begun, acknowledge);
                r = acknowledge ? brood_queue_acknowledge(scene->queue, &lease)
                                : brood_queue_give_back(scene->queue, &lease);
        }
        atomic_store(&seat->result, r == 0 ? 1 : r);
}

static void lease_and_acknowledge(struct scene *scene, struct seat *seat)
{
        lease_and_end(scene, seat, true);
}

static void lease_and_give_back(struct scene *scene, struct seat *seat)
{
        lease_and_end(scene, seat, false);
}

/* The later one goes back first; the oldest is the first again all the same. */
static void lease_two_and_give_back(struct scene *scene, struct seat *seat)
{
        brood_lease leases[2];
        int r = 0, have = 0;
        while (have < 2 && (r = brood_queue_lease(scene->queue, &leases[have], scene->stage->timeout_ms)) == 0) {
                scene_take_in_hand(seat, have, leases[have].data, leases[have].size);
                have++;
        }
        int leased = have;
        while (have > 0 && (r = brood_queue_give_back(scene->queue, &leases[have - 1])) == 0)
                have--;
        atomic_store(&seat->result, r == 0 ? leased : r);
}

/* Of a joinable queue.  A message that was got and is not done when its process dies is delivered again. */
static void get_and_task_done(struct scene *scene, struct seat *seat)
{
        ssize_t n = brood_queue_get(scene->queue, &seat->hands[0], sizeof seat->hands[0], scene->stage->timeout_ms);
        if (n >= 0) {
                atomic_store(&seat->begun, 1);
                n = brood_queue_task_done(scene->queue);
        }
        atomic_store(&seat->result, n == 0 ? 1 : (int)n);
}

static void get_and_leave_undone(struct scene *scene, struct seat *seat)
{
        ssize_t n = brood_queue_get(scene->queue, &seat->hands[0], sizeof seat->hands[0], scene->stage->timeout_ms);
        atomic_store(&seat->result, n >= 0 ? 1 : (int)n);
}

static void close_it(struct scene *scene, struct seat *seat)
{
        atomic_store(&seat->result, brood_queue_close(scene->queue));
}

/* What is held goes back when the handle is freed. */
static void lease_and_free(struct scene *scene, struct seat *seat)
{
        brood_lease lease;
        int r = brood_queue_lease(scene->queue, &lease, scene->stage->timeout_ms);
        if (r == 0)
                scene_take_in_hand(seat, 0, lease.data, lease.size);
        brood_queue_free(scene->queue);
        atomic_store(&seat->result, r == 0 ? 1 : r);
}

static void put_and_free(struct scene *scene, struct seat *seat)
{
        put(scene, seat);
        brood_queue_free(scene->queue);
}

static void attach_and_put(struct scene *scene, struct seat *seat)
{
        brood_queue *other;
        int descriptors[BROOD_QUEUE_DESCRIPTORS];
        int r = brood_queue_descriptors(scene->queue, descriptors);
        if (r == 0)
                r = brood_queue_attach(&other, descriptors);
        if (r == 0) {
                atomic_store(&seat->begun, 1);
                r = brood_queue_put(other, &seat->hands[0], seat->hands[0].size, scene->stage->timeout_ms);
        }
        atomic_store(&seat->result, r == 0 ? 1 : r);
}

const struct act acts[] = {
        { .name = "put", .kind = ACT_PUTS, .count = 1, .call = put },
        { .name = "put four in turn", .kind = ACT_PUTS, .count = 4, .call = put_in_turn, .long_one = true },
        { .name = "put_many", .kind = ACT_PUTS, .count = SCENE_BATCH, .call = put_many },
        { .name = "reserve, commit", .kind = ACT_PUTS, .count = 1, .call = reserve_and_commit },
        { .name = "reserve, cancel", .kind = ACT_PUTS, .count = 1, .call = reserve_and_cancel, .keeps_nothing = true },
        { .name = "get", .kind = ACT_TAKES, .count = 1, .call = get },
        { .name = "wait_many, get", .kind = ACT_TAKES, .count = 1, .call = wait_and_get, .long_one = true },
        { .name = "get four in turn", .kind = ACT_TAKES, .count = 4, .call = get_in_turn, .long_one = true },
        { .name = "get_many", .kind = ACT_TAKES, .count = SCENE_BATCH, .call = get_many },
        { .name = "peek, release", .kind = ACT_TAKES, .count = 1, .call = peek_and_release },
        { .name = "peek, unpeek", .kind = ACT_LOOKS, .count = 1, .call = peek_and_unpeek, .puts_back = true },
        { .name = "lease, acknowledge", .kind = ACT_TAKES, .count = 1, .call = lease_and_acknowledge },
        { .name = "lease, give_back", .kind = ACT_LOOKS, .count = 1, .call = lease_and_give_back, .puts_back = true },
        { .name = "two leases",
          .kind = ACT_LOOKS,
          .count = 2,
          .call = lease_two_and_give_back,
          .puts_back = true,
          .long_one = true },
        { .name = "lease, free",
          .kind = ACT_LOOKS,
          .count = 1,
          .call = lease_and_free,
          .puts_back = true,
          .long_one = true },
        { .name = "get, task_done", .kind = ACT_TAKES, .count = 1, .joinable = true, .call = get_and_task_done },
        { .name = "get, not done", .kind = ACT_LOOKS, .count = 1, .joinable = true, .call = get_and_leave_undone },
        { .name = "close", .kind = ACT_CLOSES, .call = close_it },
        { .name = "put, free", .kind = ACT_PUTS, .count = 1, .call = put_and_free, .long_one = true },
        { .name = "attach, put",
          .kind = ACT_PUTS,
          .count = 1,
          .call = attach_and_put,
          .registers = true,
          .long_one = true },
};
const int acts_count = (int)array_length(acts);
