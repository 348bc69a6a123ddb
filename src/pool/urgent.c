/* SPDX-License-Identifier: MIT */
#include "pool/urgent.h"
#include "os/clock.h"
#include "os/syscall.h"

/* Of a level: struct ring_shared | struct owners | the ring's slots. */
enum {
        OWNERS_AT = sizeof(struct ring_shared),
        SLOTS_AT = OWNERS_AT + sizeof(struct owners),
        LEVELS = BROOD_TASK_PRIORITY_MOST,
};
static_assert(SLOTS_AT % 64 == 0, "the slots are aligned");

static size_t level_size(const struct ring_geometry *geometry)
{
        return round_up(SLOTS_AT + geometry->block_size, 4096);
}

size_t urgent_size(const struct ring_geometry *geometry)
{
        return LEVELS * level_size(geometry);
}

void urgent_attach(brood_pool *pool, const struct ring_geometry *geometry, size_t offset)
{
        for (int i = 0; i < LEVELS; i++, offset += level_size(geometry)) {
                struct urgent *urgent = &pool->urgent[i];
                urgent->offset = offset;
                ring_attach(&urgent->ring, geometry, &pool->region, offset, offset + OWNERS_AT, offset + SLOTS_AT);
                urgent->ring.watched = true;
        }
}

void urgent_detach(brood_pool *pool)
{
        for (int level = 1; level <= LEVELS; level++)
                ring_detach(&pool->urgent[level - 1].ring);
}

int urgent_commit(brood_pool *pool, int level, bool retried)
{
        struct urgent *urgent = &pool->urgent[level - 1];
        size_t slots = urgent->ring.geometry.slots;

        if (urgent->puts < slots)
                urgent->puts++;
        int r = pool_commit_upto(pool, urgent->offset, &urgent->committed,
                                 SLOTS_AT + (retried ? slots : urgent->puts) * sizeof(struct ring_slot));
        if (r < 0)
                return r;
        store_release(&pool->shared->urgent, load_relaxed(&pool->shared->urgent) | UINT32_C(1) << level);
        return 0;
}

void urgent_close(brood_pool *pool)
{
        struct ring *ring;

        for (int level = 1; level <= LEVELS; level++)
                if ((ring = urgent_ring(pool, level)) != NULL)
                        ring_close(ring);
}

int urgent_put(brood_pool *pool, int level, uint64_t ticket, int timeout_ms)
{
        struct ring *ring = level > 0 ? &pool->urgent[level - 1].ring : &pool->ring;

        int r = ring_put(ring, &ticket, sizeof ticket, timeout_ms);
        if (r == 0 && level > 0)
                ring_call(&pool->ring);
        return r;
}

bool urgent_is_empty(brood_pool *pool)
{
        struct ring *ring;

        for (int level = 1; level <= LEVELS; level++)
                if ((ring = urgent_ring(pool, level)) != NULL && ring_count(ring, 1) != 0)
                        return false;
        return true;
}

CHILD_CODE bool urgent_claim(brood_pool *pool, struct ring_claim *claim, struct ring **ret_ring)
{
        if (load_relaxed(&pool->shared->urgent) == 0)
                return false;
        for (int level = LEVELS; level > 0; level--) {
                struct ring *ring = urgent_ring(pool, level);
                if (ring != NULL && ring_claim(ring, claim, sizeof(uint64_t), DEADLINE_NOW) == 0) {
                        *ret_ring = ring;
                        return true;
                }
        }
        return false;
}

CHILD_CODE bool urgent_waits(brood_pool *pool)
{
        struct ring *ring;

        if (load_relaxed(&pool->shared->urgent) == 0)
                return false;
        for (int level = LEVELS; level > 0; level--)
                if ((ring = urgent_ring(pool, level)) != NULL && ring_has_message(ring))
                        return true;
        return false;
}
