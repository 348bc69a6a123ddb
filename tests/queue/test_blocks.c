/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_blocks.c: a ring without a bound, driven by hand: which block a lap has, and what becomes of blocks whose
 * mapper or trimmer died at any step.
 *
 * The source is included, because two of the states need a step of a process that was stopped in the middle of one.
 */
#include "rig.h"

#include "queue/blocks.c"

static void make_rig(struct rig *rig)
{
        rig_make_planned(rig, &(struct rig_plan){ .slots = 0, .message_size = 8 });
}

static atomic_u64 *block_word(struct rig *rig, uint32_t block)
{
        return &rig->ring.blocks.tables->words[block];
}

static uint64_t first_lap(struct rig *rig)
{
        return load_relaxed(&rig->ring.blocks.shared->first);
}

/* The slot of a position; its lap is mapped. */
static struct ring_slot *slot_at(struct rig *rig, uint64_t lap, uint32_t index)
{
        int block = blocks_find(&rig->ring.blocks, lap);

        assert_true(block >= 0);
        return &blocks_slots(&rig->ring.blocks, (uint32_t)block)[index];
}

/* All messages of a mapped lap are done with. */
static void finish_lap(struct rig *rig, uint64_t lap)
{
        for (uint32_t i = 0; i < BLOCK_SLOTS; i++)
                store_relaxed(&slot_at(rig, lap, i)->state, word(lap + 1, EMPTY, 0));
}

/* ---- laps and blocks ---- */

static void test_laps_have_blocks(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig);
        struct blocks *blocks = &rig.ring.blocks;
        assert_int_equal(first_lap(&rig), 1);
        int one = blocks_find(blocks, 1);
        assert_true(one >= 0);
        assert_int_equal(blocks_find(blocks, 0), BLOCK_PAST);
        assert_int_equal(blocks_find(blocks, 2), BLOCK_FUTURE);
        assert_int_equal(blocks_find(blocks, BLOCKS_MOST + 1), BLOCK_FUTURE);
        assert_int_equal(blocks_map(blocks, 2), 0);
        int two = blocks_find(blocks, 2);
        assert_true(two >= 0 && two != one);
        assert_int_equal(load_relaxed(&blocks->tables->directory[2]), UINT64_C(2) << 27 | (uint64_t)two);
        assert_int_equal(load_relaxed(block_word(&rig, (uint32_t)two)), word(2, RESIDENT, 0));
        for (uint32_t i = 0; i < BLOCK_SLOTS; i++)
                assert_int_equal(load_relaxed(&slot_at(&rig, 2, i)->state), word(2, EMPTY, 0));
        /* Once more is nothing. */
        assert_int_equal(blocks_map(blocks, 2), 0);
        assert_int_equal(blocks_find(blocks, 2), two);
        assert_int_equal(load_relaxed(&blocks->shared->high), 2);
        rig_drop(&rig);
}

/* A lap is over when all its messages are done with and there is a lap behind it. */
static void test_retire(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig);
        struct blocks *blocks = &rig.ring.blocks;
        finish_lap(&rig, 1);
        blocks_retire(blocks);
        assert_int_equal(first_lap(&rig), 1);
        assert_int_equal(blocks_map(blocks, 2), 0);
        assert_int_equal(blocks_map(blocks, 3), 0);
        store_relaxed(&slot_at(&rig, 1, 7)->state, word(1, READING, STRANGER));
        finish_lap(&rig, 2);
        blocks_retire(blocks);
        assert_int_equal(first_lap(&rig), 1);
        store_relaxed(&slot_at(&rig, 1, 7)->state, word(2, EMPTY, 0));
        int one = blocks_find(blocks, 1);
        blocks_retire(blocks);
        assert_int_equal(first_lap(&rig), 3);
        assert_int_equal(blocks->retired, 2);
        assert_int_equal(blocks_find(blocks, 3) >= 0, 1);
        /* The newest of the free ones is used first: it is in the caches. */
        assert_int_equal(blocks_map(blocks, 4), 0);
        assert_int_not_equal(blocks_find(blocks, 4), one);
        assert_int_equal(blocks_map(blocks, 5), 0);
        assert_int_equal(blocks_find(blocks, 5), one);
        assert_int_equal(load_relaxed(&blocks->shared->high), 3);
        rig_drop(&rig);
}

/* Who goes through many laps with few messages needs few blocks. */
static void test_blocks_are_used_again(void **state)
{
        (void)state;
        enum { ROUNDS = 40 * BLOCK_SLOTS };
        struct rig rig;
        uint64_t next = 0;

        make_rig(&rig);
        for (uint64_t i = 0; i < ROUNDS; i++) {
                assert_int_equal(put(&rig, i, 0), 0);
                if (i % 1000 >= 100) /* up to 100 wait; then all are got */
                        while (next <= i)
                                assert_int_equal(get(&rig, 0), next++);
        }
        while (next < ROUNDS)
                assert_int_equal(get(&rig, 0), next++);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_true(load_relaxed(&rig.ring.blocks.shared->high) <= 3);
        assert_int_equal(ring_count(&rig.ring, SIZE_MAX), 0);
        assert_int_equal(ring_claimed(&rig.ring), ROUNDS);
        rig_drop(&rig);
}

static void test_all_blocks_in_use(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig);
        struct blocks *blocks = &rig.ring.blocks;
        /* The directory has an entry for so many laps. */
        assert_int_equal(blocks_map(blocks, first_lap(&rig) + BLOCKS_MOST), -EAGAIN);
        assert_int_equal(ring_is_full(&rig.ring), 0);
        store_relaxed(&rig.ring.shared->tail, place(1 + BLOCKS_MOST, 0));
        assert_int_equal(ring_is_full(&rig.ring), 1);
        store_relaxed(&rig.ring.shared->tail, place(1, 0));

        /* No free block: a put waits, until there is one. */
        for (uint32_t i = 1; i < BLOCKS_MOST; i++)
                store_relaxed(block_word(&rig, i), word(1, RESIDENT, 0));
        for (uint64_t i = 0; i < BLOCK_SLOTS; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        assert_int_equal(put(&rig, BLOCK_SLOTS, 0), -EAGAIN);
        assert_int_equal(put(&rig, BLOCK_SLOTS, BUSY_MS), -ETIMEDOUT);
        assert_int_equal(ring_count(&rig.ring, SIZE_MAX), BLOCK_SLOTS);
        store_relaxed(block_word(&rig, 9), word(0, HOLLOW, 0));
        assert_int_equal(put(&rig, BLOCK_SLOTS, 0), 0);
        assert_int_equal(blocks_find(blocks, 2), 9);
        for (int64_t i = 0; i <= BLOCK_SLOTS; i++)
                assert_int_equal(get(&rig, 0), i);
        rig_drop(&rig);
}

/* No memory for a lap's block, again and again: the block is not lost, and when there is memory all goes on. */
static void test_no_memory_for_a_block(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig);
        struct blocks *blocks = &rig.ring.blocks;
        for (uint64_t i = 0; i < BLOCK_SLOTS; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        struct region broken = rig.region;
        broken.fd = -1;
        blocks->region = &broken;
        for (int i = 0; i < 3; i++)
                assert_int_equal(put(&rig, BLOCK_SLOTS, BROOD_FOREVER), -EBADF);
        blocks->region = &rig.region;
        for (uint32_t i = 1; i < 9; i++)
                assert_true(laps_ahead(state_lap(load_relaxed(block_word(&rig, i))), first_lap(&rig)) < 0);
        assert_int_equal(put(&rig, BLOCK_SLOTS, 0), 0);
        for (int64_t i = 0; i <= BLOCK_SLOTS; i++)
                assert_int_equal(get(&rig, 0), i);
        rig_drop(&rig);
}

/* ---- mappers ---- */

enum { MAPPERS = 4, RACES = 200 };

struct mapper {
        struct rig *rig;
        atomic_int *started, *arrived;
};

static int map_with_others(void *arg)
{
        struct mapper *mapper = arg;
        struct blocks *blocks = &mapper->rig->ring.blocks;

        for (int race = 0; race < RACES; race++) {
                atomic_fetch_add(mapper->arrived, 1);
                for (int64_t end = support_now_ms() + CHECK_HANG_MS; atomic_load(mapper->started) <= race;
                     sched_yield())
                        require(support_now_ms() < end);
                require_int(blocks_map(blocks, 2 + (uint64_t)race), 0);
                require(blocks_find(blocks, 2 + (uint64_t)race) >= 0);
        }
        return 0;
}

/* Several give a lap its block at once: it has one, and the blocks of the others are free when it is over. */
static void test_mappers_at_once(void **state)
{
        (void)state;
        static struct rig rig; /* mappers go on after a failure */
        static atomic_int started, arrived;
        struct check_thread threads[MAPPERS];
        struct mapper mapper = { &rig, &started, &arrived };

        make_rig(&rig);
        struct blocks *blocks = &rig.ring.blocks;
        for (int i = 0; i < MAPPERS; i++)
                check_thread_start(&threads[i], map_with_others, &mapper);
        for (int race = 0; race < RACES; race++) {
                assert_true(check_reaches(&arrived, MAPPERS * (race + 1), CHECK_HANG_MS));
                /* All have mapped the lap before: no block may be in use but of the last two laps, and by those who came
                 * second for them. */
                uint64_t lap = 1 + (uint64_t)race;
                for (uint32_t i = 0; i < BLOCK_SLOTS; i++)
                        assert_int_equal(load_relaxed(&slot_at(&rig, lap, i)->state), word(lap, EMPTY, 0));
                if (race > 0) {
                        finish_lap(&rig, lap - 1);
                        blocks_retire(blocks);
                        assert_int_equal(first_lap(&rig), lap);
                }
                atomic_store(&started, race + 1);
        }
        for (int i = 0; i < MAPPERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        /* Also those that were taken in vain are free: only the last two laps, and who came second there, have any. */
        uint32_t used = 0, high = load_relaxed(&blocks->shared->high);
        assert_true(high <= 2 + MAPPERS * RACES);
        blocks_trim(blocks, rig.own, 0);
        for (uint32_t i = 0; i < high; i++)
                used += state_kind(load_relaxed(block_word(&rig, i))) == (enum kind)RESIDENT;
        assert_true(used <= 2 * MAPPERS);
        rig_drop(&rig);
}

/* A mapper died after it took a block and before the directory knew of it, with memory behind the block or without. */
static void test_dead_mapper(void **state)
{
        (void)state;
        static const unsigned kinds[] = { HOLLOW, RESIDENT };

        for (size_t k = 0; k < array_length(kinds); k++) {
                struct rig rig;

                make_rig(&rig);
                struct blocks *blocks = &rig.ring.blocks;
                store_relaxed(block_word(&rig, 1), word(2, kinds[k], 0));
                store_relaxed(&blocks->shared->high, k == 0 ? 1 : 2); /* the hint may be old */
                assert_int_equal(blocks_find(blocks, 2), BLOCK_FUTURE);
                assert_int_equal(blocks_map(blocks, 2), 0);
                assert_int_equal(blocks_find(blocks, 2), 2);
                assert_int_equal(blocks_map(blocks, 3), 0);
                assert_int_equal(blocks_find(blocks, 3), 3);
                /* The end of the lap frees what was taken for it. */
                finish_lap(&rig, 1);
                finish_lap(&rig, 2);
                blocks_retire(blocks);
                assert_int_equal(first_lap(&rig), 3);
                store_relaxed(&blocks->shared->high, BLOCKS_MOST); /* take a used one */
                int seen[3];
                for (uint32_t i = 0; i < 3; i++) {
                        assert_int_equal(blocks_map(blocks, 4 + i), 0);
                        seen[i] = blocks_find(blocks, 4 + i);
                }
                assert_int_equal(seen[0], 2); /* the latest, then any: block 0 and the lost one */
                assert_int_equal(seen[1] + seen[2], 0 + 1);
                assert_int_equal(load_relaxed(block_word(&rig, 1)) & ~(UINT64_C(0xffffffffff) << 27),
                                 (uint64_t)RESIDENT << 24);
                rig_drop(&rig);
        }
}

/* A mapper was stopped before it prepared the slots; meanwhile another mapped the lap, the lap ended, and the block was given to
 * a later one, which holds messages.  What the stopped one does then must not be seen. */
static void test_stale_mapper(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig);
        struct blocks *blocks = &rig.ring.blocks;
        assert_int_equal(blocks_map(blocks, 2), 0);
        uint32_t block = (uint32_t)blocks_find(blocks, 2);
        for (uint32_t i = 0; i < BLOCK_SLOTS; i++)
                store_relaxed(&slot_at(&rig, 2, i)->state,
                              word(2, i % 4, i % 4 == WRITING || i % 4 == READING ? STRANGER : 0));
        prepare_slots(blocks, block, 1);
        prepare_slots(blocks, block, 2);
        for (uint32_t i = 0; i < BLOCK_SLOTS; i++)
                assert_int_equal(state_kind(load_relaxed(&slot_at(&rig, 2, i)->state)), i % 4);
        prepare_slots(blocks, block, 1);
        rig_drop(&rig);

        /* The block is of nobody, and its memory was given back: what the stale one leaves there is of a lap before. */
        make_rig(&rig);
        for (uint64_t lap = 2; lap <= 4; lap++)
                assert_int_equal(blocks_map(blocks, lap), 0);
        for (uint64_t lap = 1; lap <= 3; lap++)
                finish_lap(&rig, lap);
        block = (uint32_t)blocks_find(blocks, 3);
        blocks_retire(blocks);
        blocks_trim(blocks, rig.own, 0);
        prepare_slots(blocks, block, 3);
        assert_int_equal(blocks_map(blocks, 5), 0);
        assert_int_equal(blocks_find(blocks, 5), block);
        for (uint32_t i = 0; i < BLOCK_SLOTS; i++)
                assert_int_equal(load_relaxed(&slot_at(&rig, 5, i)->state), word(5, EMPTY, 0));
        rig_drop(&rig);
}

/* ---- trimming ---- */

static void test_trim(void **state)
{
        (void)state;
        enum { MESSAGES = 100 * BLOCK_SLOTS, KEEP = 4 };
        struct rig rig;

        make_rig(&rig);
        struct blocks *blocks = &rig.ring.blocks;
        int64_t idle = rig_kib(&rig);
        for (int round = 0; round < 3; round++) {
                for (uint64_t i = 0; i < MESSAGES; i++)
                        assert_int_equal(put(&rig, i, 0), 0);
                int64_t full = rig_kib(&rig);
                blocks_trim(blocks, rig.own, 0);
                assert_true(rig_kib(&rig) >=
                            full - (int64_t)blocks->stride / 1024 * 8); /* what is in use is not touched */
                assert_true(full - idle >= 99 * (int64_t)blocks->stride / 1024);
                for (int64_t i = 0; i < MESSAGES; i++)
                        assert_int_equal(get(&rig, 0), i);
                blocks_retire(blocks);
                blocks_trim(blocks, rig.own, KEEP);
                assert_int_equal(blocks->retired, 0);
                uint32_t resident = 0;
                for (uint32_t i = 0; i < 110; i++) {
                        uint64_t seen = load_relaxed(block_word(&rig, i));
                        resident += state_kind(seen) == (enum kind)RESIDENT;
                        assert_int_not_equal(state_kind(seen), TRIMMING);
                }
                assert_true(resident <= KEEP + 1); /* and the block of the last lap */
                assert_true(rig_kib(&rig) - idle <= (int64_t)(KEEP + 1) * (int64_t)blocks->stride / 1024 + 8);
                assert_true(load_relaxed(&blocks->shared->high) <= 101 * (uint32_t)(round + 1));
        }
        rig_drop(&rig);
}

/* A trimmer died in the middle: the block is free, and is given memory anew.  A live one is left to its work. */
static void test_dead_trimmer(void **state)
{
        (void)state;
        static const uint32_t owners[] = { DEAD, STRANGER };

        for (size_t k = 0; k < array_length(owners); k++) {
                struct rig rig;

                make_rig(&rig);
                struct blocks *blocks = &rig.ring.blocks;
                for (uint64_t lap = 2; lap <= 3; lap++)
                        assert_int_equal(blocks_map(blocks, lap), 0);
                uint32_t block = (uint32_t)blocks_find(blocks, 2);
                finish_lap(&rig, 1);
                finish_lap(&rig, 2);
                blocks_retire(blocks);
                store_relaxed(block_word(&rig, block), word(2, TRIMMING, owners[k]));
                region_release(&rig.region, blocks->offset + block * blocks->stride, blocks->stride);
                assert_int_equal(blocks_map(blocks, 4), 0);
                if (owners[k] == DEAD) {
                        assert_int_equal(blocks_find(blocks, 4), block);
                        assert_int_equal(load_relaxed(block_word(&rig, block)), word(4, RESIDENT, 0));
                } else {
                        assert_int_not_equal(blocks_find(blocks, 4), block);
                        blocks_trim(blocks, rig.own, 0);
                        assert_int_equal(load_relaxed(block_word(&rig, block)), word(2, TRIMMING, STRANGER));
                }
                /* Another trimmer finishes what the dead one began. */
                store_relaxed(block_word(&rig, (uint32_t)blocks_find(blocks, 3)), word(2, TRIMMING, DEAD));
                blocks_trim(blocks, rig.own, 9);
                assert_int_equal(load_relaxed(block_word(&rig, (uint32_t)blocks_find(blocks, 3))), word(2, HOLLOW, 0));
                rig_drop(&rig);
        }
}

/* ---- a ring over them ---- */

/* Deaths in a lap that has others behind it. */
static void test_deaths_in_laps(void **state)
{
        (void)state;
        enum { MESSAGES = 3 * BLOCK_SLOTS };
        struct rig rig;

        make_rig(&rig);
        for (uint64_t i = 0; i < MESSAGES; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        store_relaxed(&slot_at(&rig, 1, 0)->state, word(1, READING, DEAD));
        store_relaxed(&slot_at(&rig, 1, 5)->state, word(1, WRITING, DEAD));
        store_relaxed(&slot_at(&rig, 2, 511)->state, word(2, READING, DEAD));
        store_relaxed(&rig.ring.shared->head, place(1, 1));
        for (int64_t i = 1; i < MESSAGES; i++)
                if (i != 5 && i != 2 * BLOCK_SLOTS - 1)
                        assert_int_equal(get(&rig, 0), i);
        assert_int_equal(first_lap(&rig), 1); /* the dead hold the laps */
        assert_int_equal(get(&rig, 0), 0);
        assert_int_equal(get(&rig, 0), 2 * BLOCK_SLOTS - 1);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        blocks_retire(&rig.ring.blocks);
        assert_int_equal(first_lap(&rig), 3);

        /* The same, undone by one who watches: then the oldest comes first. */
        for (uint64_t i = 0; i < MESSAGES; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        for (int64_t i = 0; i < BLOCK_SLOTS; i++)
                assert_int_equal(get(&rig, 0), i);
        store_relaxed(&slot_at(&rig, 4, 0)->state, word(4, READING, DEAD));
        store_relaxed(&slot_at(&rig, 4, 511)->state, word(4, READING, DEAD));
        ring_recover(&rig.ring, DEAD);
        assert_int_equal(ring_count(&rig.ring, SIZE_MAX), MESSAGES - BLOCK_SLOTS + 2);
        assert_int_equal(get(&rig, 0), 0);
        assert_int_equal(get(&rig, 0), 511);
        assert_int_equal(get(&rig, 0), 512);
        assert_int_equal(ring_count(&rig.ring, SIZE_MAX), MESSAGES - BLOCK_SLOTS - 1);
        rig_drop(&rig);
}

/* The end of a closed ring needs a place, and there may be none in the last block. */
static void test_seal_at_the_end_of_a_block(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig);
        for (uint64_t i = 0; i < BLOCK_SLOTS; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        ring_close(&rig.ring);
        for (int64_t i = 0; i < BLOCK_SLOTS; i++)
                assert_int_equal(get(&rig, BROOD_FOREVER), i);
        assert_int_equal(get(&rig, BROOD_FOREVER), -EPIPE);
        assert_int_equal(load_relaxed(&slot_at(&rig, 2, 0)->state), word(2, CLOSED, 0));
        store_relaxed(&rig.ring.shared->control, 0);
        assert_int_equal(put(&rig, 1, BROOD_FOREVER), -EPIPE);
        rig_drop(&rig);
}

/* Hints that are laps old, or whose laps are gone. */
static void test_old_hints(void **state)
{
        (void)state;
        enum { LAPS_PUT = 9 };
        struct rig rig;
        int64_t next = 0;

        make_rig(&rig);
        for (uint64_t i = 0; i < LAPS_PUT * BLOCK_SLOTS; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        for (int i = 0; i < LAPS_PUT - 2; i++) {
                while (next < (i + 1) * BLOCK_SLOTS + 7)
                        assert_int_equal(get(&rig, 0), next++);
                set_hints(&rig, place(1, 3), place(1, 500), place(1, 0));
                assert_int_equal(ring_count(&rig.ring, SIZE_MAX), LAPS_PUT * BLOCK_SLOTS - next);
                assert_int_equal(get(&rig, 0), next++);
                store_relaxed(&rig.ring.shared->tail, place(1, 3));
                blocks_trim(&rig.ring.blocks, rig.own, 0);
        }
        assert_int_equal(put(&rig, LAPS_PUT * BLOCK_SLOTS, 0), 0);
        store_relaxed(&rig.ring.shared->tail, place(1, 0));
        assert_int_equal(put(&rig, LAPS_PUT * BLOCK_SLOTS + 1, 0), 0);
        while (next <= LAPS_PUT * BLOCK_SLOTS + 1)
                assert_int_equal(get(&rig, 0), next++);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        rig_drop(&rig);
}

enum { CROWD_PUTTERS = 2, CROWD_GETTERS = 2 };

struct crowd {
        struct rig rig;
        uint64_t each;
        atomic_int done;
        atomic_int *seen;
};

struct member {
        struct crowd *crowd;
        uint64_t number;
};

static int put_all(void *arg)
{
        struct member *member = arg;

        for (uint64_t i = 0; i < member->crowd->each; i++)
                require_int(put(&member->crowd->rig, member->number * member->crowd->each + i, CHECK_HANG_MS), 0);
        return 0;
}

static int get_all(void *arg)
{
        struct member *member = arg;
        struct crowd *crowd = member->crowd;
        int64_t message;

        while ((message = get(&crowd->rig, CHECK_HANG_MS)) >= 0) {
                require((uint64_t)message < CROWD_PUTTERS * crowd->each);
                require_int(atomic_fetch_add(&crowd->seen[message], 1), 0);
        }
        require_int(message, -EPIPE);
        return 0;
}

static int trim_always(void *arg)
{
        struct member *member = arg;
        struct ring *ring = &member->crowd->rig.ring;

        while (atomic_load(&member->crowd->done) == 0) {
                blocks_retire(&ring->blocks);
                blocks_trim(&ring->blocks, ring->owner, 0);
        }
        return 0;
}

/* Under the hands of those who put and get, memory is given back as fast as it can be. */
static void test_trimmed_while_in_use(void **state)
{
        (void)state;
        static struct crowd crowd;
        struct check_thread threads[CROWD_PUTTERS + CROWD_GETTERS + 1];
        struct member members[array_length(threads)];

        make_rig(&crowd.rig);
        crowd.each = (uint64_t)support_rounds(20000);
        crowd.seen = calloc(CROWD_PUTTERS * crowd.each, sizeof *crowd.seen);
        assert_non_null(crowd.seen);
        for (size_t i = 0; i < array_length(threads); i++) {
                members[i] = (struct member){ &crowd, i };
                check_thread_start(&threads[i],
                                   i < CROWD_PUTTERS                   ? put_all
                                   : i < CROWD_PUTTERS + CROWD_GETTERS ? get_all
                                                                       : trim_always,
                                   &members[i]);
        }
        for (size_t i = 0; i < CROWD_PUTTERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        ring_close(&crowd.rig.ring);
        for (size_t i = CROWD_PUTTERS; i < CROWD_PUTTERS + CROWD_GETTERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        atomic_store(&crowd.done, 1);
        assert_int_equal(check_thread_join(&threads[CROWD_PUTTERS + CROWD_GETTERS]), 0);
        for (uint64_t i = 0; i < CROWD_PUTTERS * crowd.each; i++)
                assert_int_equal(crowd.seen[i], 1);
        free(crowd.seen);
        rig_drop(&crowd.rig);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_laps_have_blocks),
                support_test(test_retire),
                support_test(test_blocks_are_used_again),
                support_test(test_all_blocks_in_use),
                support_test(test_no_memory_for_a_block),
                support_test(test_mappers_at_once),
                support_test(test_dead_mapper),
                support_test(test_stale_mapper),
                support_test(test_trim),
                support_test(test_dead_trimmer),
                support_test(test_deaths_in_laps),
                support_test(test_seal_at_the_end_of_a_block),
                support_test(test_old_hints),
                support_test(test_trimmed_while_in_use),
        };
        return support_main(argc, argv, "blocks", tests, array_length(tests), 60);
}
