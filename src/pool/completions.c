/* SPDX-License-Identifier: MIT
 *
 * pool/completions.c: which of many results is there next.
 *
 * Their tasks are listed (pool/ended.h): whoever takes the list finds each result by the index of its task, and puts it
 * behind the ended ones of the completions that it belongs to, whichever that are.  So each end costs the same, however many
 * are waited for.
 *
 * The descriptor is an epoll.  The bell in it (see pool/result.c) tells that the list is no longer empty, but only those who
 * look take the list; when it is another thread that has looked, an event of the completions' own tells that there are ended
 * ones.
 */
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/poller.h"
#include "pool/ended.h"
#include "pool/subtasks.h"

#include <errno.h>
#include <stdlib.h>

/* ---- for the room ---- */

void completions_init(struct brood_completions *completions, brood_pool *pool)
{
        *completions = (struct brood_completions){ .pool = pool, .poller = -1, .event = -1 };
        link_init(&completions->pending);
        link_init(&completions->ended);
}

void completions_put(struct brood_completions *completions, brood_result *result)
{
        struct result_extra *extra = result->extra;

        completions->count++;
        extra->completions = completions;
        extra->pending = true;
        link_append(&completions->pending, &extra->link);
        link_append(&completions->pool->completions, &extra->waiting);
        parent_joins(result);
}

/* One whose end may have come already. */
static void put_late(struct brood_completions *completions, brood_result *result)
{
        completions_put(completions, result);
        ended_list(result);
        if (result_settle_locked(result))
                completions_deliver(result);
}

void completions_deliver(brood_result *result)
{
        struct result_extra *extra = result->extra;
        struct brood_completions *completions = extra->completions;

        extra->pending = false;
        link_remove(&extra->waiting);
        link_remove(&extra->link);
        link_append(&completions->ended, &extra->link);
        if (completions->ended_count++ == 0 && completions->event >= 0)
                eventfd_raise(completions->event);
        parent_leaves(result);
}

void completions_forget(brood_result *result)
{
        struct result_extra *extra = result->extra;
        struct brood_completions *completions = result_completions(result);

        if (completions == NULL)
                return;
        bool pending = extra->pending;
        extra->completions = NULL;
        extra->pending = false;
        link_remove(&extra->link);
        completions->count--;
        if (pending) {
                link_remove(&extra->waiting);
                parent_leaves(result);
        } else if (--completions->ended_count == 0 && completions->event >= 0) {
                eventfd_lower(completions->event);
        }
        /* Whoever waits for the next one may have waited for this. */
        if (completions->count == 0)
                ended_wake(completions->pool);
}

brood_result *completions_take(struct brood_completions *completions)
{
        struct link *link = link_first(&completions->ended);

        if (link == NULL)
                return NULL;
        brood_result *result = link_of(link, struct result_extra, link)->result;
        completions_forget(result);
        return result;
}

void completions_drop(struct brood_completions *completions)
{
        brood_pool *pool = completions->pool;
        struct link *lists[] = { &completions->pending, &completions->ended };

        for (int i = 0; i < 2; i++) {
                for (;;) {
                        pthread_mutex_lock(&pool->mutex);
                        struct link *link = link_first(lists[i]);
                        brood_result *result = link == NULL ? NULL : link_of(link, struct result_extra, link)->result;
                        if (result != NULL)
                                completions_forget(result);
                        pthread_mutex_unlock(&pool->mutex);
                        if (result == NULL)
                                break;
                        if (result->extra->owned)
                                brood_result_free(result);
                }
        }
}

void completions_quiet(struct brood_completions *completions)
{
        brood_pool *pool = completions->pool;

        pthread_mutex_lock(&pool->mutex);
        if (completions->poller >= 0) {
                poller_clear(completions->poller);
                /* After the pool's end there will be no other news. */
                if (completions->end_watched && pool_usable(pool, false) < 0) {
                        poller_remove(completions->poller, brood_process_sentinel(pool->keeper));
                        completions->end_watched = false;
                }
        }
        pthread_mutex_unlock(&pool->mutex);
}

/* ---- the public calls ---- */

static int check(const brood_completions *completions)
{
        return completions == NULL ? -EINVAL : pool_check(completions->pool);
}

int brood_completions_new(brood_completions **ret_completions, brood_pool *pool)
{
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (ret_completions == NULL)
                return -EINVAL;
        brood_completions *completions = malloc(sizeof *completions);
        if (completions == NULL)
                return -ENOMEM;
        completions_init(completions, pool);
        pool_hold(pool);
        *ret_completions = completions;
        return 0;
}

int brood_completions_add(brood_completions *completions, brood_result *result)
{
        int r = check(completions);

        if (r < 0)
                return r;
        if (result == NULL || result->pool != completions->pool)
                return -EINVAL;
        pthread_mutex_lock(&completions->pool->mutex);
        r = result_completions(result) != NULL ? -EBUSY : result_extend(result);
        if (r == 0)
                put_late(completions, result);
        pthread_mutex_unlock(&completions->pool->mutex);
        return r;
}

struct next {
        brood_completions *completions;
        brood_result *result;
        bool none;
};

static bool take_next(void *arg)
{
        struct next *next = arg;

        next->none = next->completions->count == 0;
        next->result = completions_take(next->completions);
        return next->result != NULL || next->none;
}

int brood_completions_next(brood_completions *completions, brood_result **ret_result, int timeout_ms)
{
        struct next next = { .completions = completions };
        int r = check(completions);

        if (r < 0)
                return r;
        if (ret_result == NULL)
                return -EINVAL;
        completions_quiet(completions);
        r = ended_await(completions->pool, take_next, &next, deadline_after_ms(timeout_ms));
        if (r < 0)
                return r;
        if (next.result == NULL)
                return -ENODATA;
        next.result->extra->owned = false;
        *ret_result = next.result;
        return 0;
}

ssize_t brood_completions_count(brood_completions *completions)
{
        int r = check(completions);

        if (r < 0)
                return r;
        pthread_mutex_lock(&completions->pool->mutex);
        ssize_t count = (ssize_t)completions->count;
        pthread_mutex_unlock(&completions->pool->mutex);
        return count;
}

/* Make the poller; the mutex is held. */
static int make_poller(brood_completions *completions)
{
        brood_pool *pool = completions->pool;
        int poller = poller_new(), event = eventfd_new();

        int r = poller < 0 ? poller : event;
        if (r >= 0)
                r = poller_add(poller, event, NULL);
        if (r >= 0)
                r = poller_add_edge(poller, pool->bell, NULL);
        if (r >= 0)
                r = poller_add(poller, brood_process_sentinel(pool->keeper), NULL);
        if (r < 0) {
                descriptor_close(&poller);
                descriptor_close(&event);
                return r;
        }
        if (completions->ended_count > 0)
                eventfd_raise(event);
        completions->poller = poller;
        completions->event = event;
        completions->end_watched = true;
        /* The bell has been raised since the pool was made, so that the first look comes after this. */
        store_seq_cst(&pool->shared->ended_watched, 1);
        return 0;
}

int completions_fileno(struct brood_completions *completions)
{
        pthread_mutex_lock(&completions->pool->mutex);
        int r = completions->poller >= 0 ? 0 : make_poller(completions);
        int poller = completions->poller;
        pthread_mutex_unlock(&completions->pool->mutex);
        return r < 0 ? r : poller;
}

int brood_completions_fileno(brood_completions *completions)
{
        int r = check(completions);

        return r < 0 ? r : completions_fileno(completions);
}

void completions_close(struct brood_completions *completions)
{
        descriptor_close(&completions->poller);
        descriptor_close(&completions->event);
}

void brood_completions_free(brood_completions *completions)
{
        if (completions == NULL)
                return;
        brood_pool *pool = completions->pool;
        /* In a forked child the lists may be those of a thread in the middle of a change. */
        if (pool_is_ours(pool))
                completions_drop(completions);
        completions_close(completions);
        pool_release(pool);
        free(completions);
}
