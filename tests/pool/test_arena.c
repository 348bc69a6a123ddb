/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_arena.c: the memory of arguments and results, beside a model of it.
 */
#include "check.h"

#include "pool/arena.h"

enum { START = 4096, END = START + (1 << 20) };

static void make(struct region *region, struct arena *arena)
{
        assert_int_equal(region_new(region, "test-arena", REGION_POOL, 1, END + 4096, START), 0);
        arena_init(arena, region, START, END);
}

static void drop(struct region *region, struct arena *arena)
{
        arena_drop(arena);
        region_drop(region);
}

static void test_sizes(void **state)
{
        (void)state;
        size_t last = 0;

        for (size_t size = 1; size < 70000; size++) {
                size_t block = arena_block_size(size);
                assert_true(block >= size && block >= last && block % 64 == 0);
                assert_true(size <= 256 ? block - size < 64
                                        : block <= size + size / 4); /* a quarter is the most lost */
                assert_int_equal(arena_block_size(block), block);
                last = block;
        }
        for (int bits = 16; bits < 47; bits++) {
                size_t power = (size_t)1 << bits;
                assert_int_equal(arena_block_size(power), power);
                assert_int_equal(arena_block_size(power - 1), power);
                assert_int_equal(arena_block_size(power + 1), power + power / 4);
        }
}

/* A freed block is given out again, the last one first, and only for what fits. */
static void test_reuse(void **state)
{
        (void)state;
        struct region region;
        struct arena arena;
        struct arena_block a, b, c, d;

        make(&region, &arena);
        assert_int_equal(arena_alloc(&arena, 300, &a), 0);
        assert_int_equal(arena_alloc(&arena, 300, &b), 0);
        assert_int_equal(arena_alloc(&arena, 64, &c), 0);
        assert_int_equal(a.offset, START);
        assert_int_equal(b.offset, START + 320);
        assert_int_equal(a.class, b.class);
        assert_int_not_equal(a.class, c.class);
        arena_free(&arena, a);
        arena_free(&arena, b);
        size_t used = arena.used;
        assert_int_equal(arena_alloc(&arena, 257, &d), 0);
        assert_int_equal(d.offset, b.offset);
        assert_int_equal(arena_alloc(&arena, 320, &d), 0);
        assert_int_equal(d.offset, a.offset);
        assert_int_equal(arena.used, used);
        arena_free(&arena, d);
        assert_int_equal(arena_alloc(&arena, 321, &d), 0);
        assert_int_equal(d.offset, used);
        drop(&region, &arena);
}

static void test_exhaustion(void **state)
{
        (void)state;
        struct region region;
        struct arena arena;
        struct arena_block blocks[16], untouched = { 123, 45 };

        make(&region, &arena);
        assert_int_equal(arena_alloc(&arena, END - START + 1, &untouched), -ENOMEM);
        assert_int_equal(arena_alloc(&arena, (size_t)1 << 46, &untouched), -ENOMEM);
        assert_int_equal(untouched.offset, 123);
        for (int i = 0; i < 16; i++) /* to the last byte */
                assert_int_equal(arena_alloc(&arena, 65536, &blocks[i]), 0);
        assert_int_equal(arena.used, END);
        assert_int_equal(arena.committed, END);
        memset(region_at(&region, START), 1, END - START);
        assert_int_equal(arena_alloc(&arena, 1, &untouched), -ENOMEM);
        assert_int_equal(arena_alloc(&arena, 65536, &untouched), -ENOMEM);
        assert_int_equal(untouched.offset, 123);
        /* A larger one will do, and goes back to its own. */
        struct arena_block small;
        arena_free(&arena, blocks[3]);
        assert_int_equal(arena_alloc(&arena, 1, &small), 0);
        assert_int_equal(small.offset, blocks[3].offset);
        assert_int_equal(small.class, blocks[3].class);
        assert_int_equal(arena_alloc(&arena, 1, &untouched), -ENOMEM);
        arena_free(&arena, small);
        assert_int_equal(arena_alloc(&arena, 65536, &small), 0);
        assert_int_equal(arena_alloc(&arena, 65537, &untouched), -ENOMEM);
        drop(&region, &arena);
}

static void test_no_memory_behind_it(void **state)
{
        (void)state;
        struct region region, broken;
        struct arena arena;
        struct arena_block block;

        make(&region, &arena);
        broken = region;
        broken.fd = -1;
        arena.region = &broken;
        assert_int_equal(arena_alloc(&arena, 100, &block), -ENOMEM);
        assert_int_equal(arena.used, START);
        arena.region = &region;
        assert_int_equal(arena_alloc(&arena, 100, &block), 0);
        assert_int_equal(block.offset, START);
        drop(&region, &arena);
}

/* Blocks of random sizes, each filled with its own byte: none ever lies on another. */
static void test_against_a_model(void **state)
{
        (void)state;
        enum { MOST = 200 };
        struct {
                struct arena_block block;
                size_t size;
                unsigned char mark;
        } held[MOST];
        struct region region;
        struct arena arena;
        size_t count = 0;

        make(&region, &arena);
        for (int step = 0; step < support_rounds(6000); step++) {
                if (count < MOST && support_random(5) > 1) {
                        size_t size = 1 + support_random((size_t)1 << support_random(15));
                        if (arena_alloc(&arena, size, &held[count].block) < 0)
                                continue;
                        size_t offset = held[count].block.offset;
                        assert_true(offset >= START && offset + arena_block_size(size) <= END && offset % 64 == 0);
                        assert_true(offset + size <= arena.committed);
                        for (size_t i = 0; i < count; i++)
                                assert_true(held[i].block.offset + held[i].size <= offset ||
                                            offset + size <= held[i].block.offset);
                        held[count].size = size;
                        held[count].mark = (unsigned char)step;
                        memset(region_at(&region, offset), (unsigned char)step, size);
                        count++;
                } else if (count > 0) {
                        size_t i = support_random(count);
                        const unsigned char *bytes = region_at(&region, held[i].block.offset);
                        assert_true(bytes[0] == held[i].mark && bytes[held[i].size - 1] == held[i].mark);
                        arena_free(&arena, held[i].block);
                        held[i] = held[--count];
                }
        }
        /* All freed: nothing has been lost. */
        while (count > 0)
                arena_free(&arena, held[--count].block);
        for (unsigned i = 0; i < ARENA_CLASSES; i++)
                assert_int_equal(arena.bins[i].count, arena.bins[i].made);
        drop(&region, &arena);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_sizes),           support_test(test_reuse),
                support_test(test_exhaustion),      support_test(test_no_memory_behind_it),
                support_test(test_against_a_model),
        };
        return support_main(argc, argv, "arena", tests, array_length(tests), 60);
}
