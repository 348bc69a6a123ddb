/* SPDX-License-Identifier: MIT
 *
 * tests/shm/test_shm.c: regions, and the table of who is alive in one.
 */
#include "check.h"

#include "os/descriptors.h"
#include "os/identity.h"
#include "os/memfd.h"
#include "os/pidfd.h"
#include "shm/owners.h"
#include "shm/region.h"

#include <sys/stat.h>

/* ---- regions ---- */

static void test_region(void **state)
{
        (void)state;
        struct region region = REGION_NONE;
        size_t page = memory_page_size();
        struct stat status;

        region_drop(&region); /* half-built */
        assert_int_equal(region_new(&region, "test", REGION_QUEUE, 99, 10 * page + 1, page + 1), 0);
        assert_int_equal(region.size, 11 * page);
        assert_int_equal(fstat(region.fd, &status), 0);
        assert_int_equal(status.st_size, 11 * page);
        assert_true((size_t)status.st_blocks * 512 >= 2 * page);
        assert_int_equal(region_check(&region, REGION_QUEUE, 99), 0);
        assert_memory_equal(region.head, "\x1a\nbrood1", 8);
        assert_int_equal(region.head->version, 1);
        assert_int_equal(region.head->kind, 1);
        assert_int_equal(region.head->layout, 99);
        assert_int_equal(region.head->size, 11 * page);

        assert_ptr_equal(region_at(&region, 0), region.head);
        assert_ptr_equal(region_at(&region, 100), (unsigned char *)region.head + 100);
        unsigned char *bytes = region_at(&region, sizeof(struct region_head));
        for (size_t i = 0; i < region.size - sizeof(struct region_head); i++)
                if (bytes[i] != 0)
                        fail(); /* all users rely on zeros */
        assert_int_equal(region_commit(&region, 4 * page, 3 * page), 0);
        memset(region_at(&region, 4 * page), 1, 3 * page);
        assert_int_equal(region_commit(&region, 11 * page, page), -EPERM);
        region_drop(&region);
        assert_int_equal(region.fd, -1);
        assert_null(region.head);
        region_drop(&region);
}

static void test_region_check(void **state)
{
        (void)state;
        struct region region;

        assert_int_equal(region_new(&region, "test", REGION_POOL, 7, 1, 1), 0);
        assert_int_equal(region_check(&region, REGION_POOL, 7), 0);
        assert_int_equal(region_check(&region, REGION_QUEUE, 7), -EUCLEAN);
        assert_int_equal(region_check(&region, REGION_POOL, 8), -EUCLEAN);
        /* Whatever is damaged in what it says, is noticed. */
        unsigned char *bytes = (unsigned char *)region.head;
        for (size_t i = 0; i < offsetof(struct region_head, reserved); i++) {
                bytes[i] ^= 0x10;
                assert_int_equal(region_check(&region, REGION_POOL, 7), -EUCLEAN);
                bytes[i] ^= 0x10;
        }
        assert_int_equal(region_check(&region, REGION_POOL, 7), 0);
        region_drop(&region);
}

static void test_region_refused(void **state)
{
        (void)state;
        struct region region = { .fd = 77 };

        assert_int_equal(region_new(&region, "test", REGION_QUEUE, 0, SIZE_MAX, 0), -E2BIG);
        assert_int_equal(region_new(&region, "test", REGION_QUEUE, 0, SIZE_MAX / 2 + 1, 0), -E2BIG);
        /* What the file system grants and no address space holds; -ENOMEM, but under valgrind. */
        assert_true(region_new(&region, "test", REGION_QUEUE, 0, (size_t)1 << 60, 0) < 0);
        struct rlimit before = check_descriptors_exhaust();
        int r = region_new(&region, "test", REGION_QUEUE, 0, 4096, 4096);
        check_descriptors_restore(&before);
        assert_int_equal(r, -EMFILE);
        assert_int_equal(region.fd, 77); /* untouched */
}

static void test_region_attach(void **state)
{
        (void)state;
        struct region region, view = { .fd = 77 };
        int descriptors = support_count_descriptors();

        assert_int_equal(region_new(&region, "test", REGION_POOL, 7, 3 * memory_page_size(), 1), 0);
        assert_int_equal(region_attach(&view, region.fd, REGION_POOL), 0);
        assert_int_not_equal(view.fd, region.fd);
        assert_int_equal(view.size, region.size);
        assert_ptr_not_equal(view.head, region.head);
        assert_int_equal(region_check(&view, REGION_POOL, 7), 0);
        memset(region_at(&region, 100), 9, 100);
        assert_memory_equal(region_at(&view, 100), region_at(&region, 100), 100);
        region_drop(&region); /* the memory stays, for those who have a view */
        assert_int_equal(*(unsigned char *)region_at(&view, 100), 9);

        /* Not what it says, or not what is wanted. */
        struct region other = { .fd = 77 };
        assert_int_equal(region_attach(&other, view.fd, REGION_QUEUE), -EUCLEAN);
        assert_int_equal(region_attach(&other, -1, REGION_POOL), -EBADF);
        int event = eventfd_new();
        assert_int_equal(region_attach(&other, event, REGION_POOL), -EINVAL);
        close(event);
        view.head->version++;
        assert_int_equal(region_attach(&other, view.fd, REGION_POOL), -EPROTONOSUPPORT);
        view.head->version--;
        view.head->magic ^= 1;
        assert_int_equal(region_attach(&other, view.fd, REGION_POOL), -EUCLEAN);
        view.head->magic ^= 1;
        view.head->size += memory_page_size();
        assert_int_equal(region_attach(&other, view.fd, REGION_POOL), -EUCLEAN);
        view.head->size -= memory_page_size();
        int small = memfd_new("test", sizeof(struct region_head) - 1, 0);
        assert_int_equal(region_attach(&other, small, REGION_POOL), -EUCLEAN);
        close(small);
        int unsealed = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(region_attach(&other, unsealed, REGION_POOL), -EPERM);
        close(unsealed);
        struct rlimit before = check_descriptors_exhaust();
        int r = region_attach(&other, view.fd, REGION_POOL);
        check_descriptors_restore(&before);
        assert_int_equal(r, -EMFILE);
        assert_int_equal(region_attach(&other, view.fd, REGION_POOL), 0);
        region_drop(&other);

        region_release(&view, memory_page_size(), memory_page_size());
        region_drop(&view);
        assert_int_equal(support_count_descriptors(), descriptors);
}

static void test_signature(void **state)
{
        (void)state;
        uint64_t ab = layout_fold(layout_fold(LAYOUT_START, 1), 2), ba = layout_fold(layout_fold(LAYOUT_START, 2), 1);

        assert_true(ab != ba && ab != layout_fold(LAYOUT_START, 1));
        assert_int_equal(round_up(0, 64), 0);
        assert_int_equal(round_up(1, 64), 64);
        assert_int_equal(round_up(64, 64), 64);
        assert_int_equal(round_up(65, 64), 128);
}

/* ---- owners ---- */

static struct owners *owners_new(void)
{
        return check_shared(sizeof(struct owners));
}

static uint64_t entry(pid_t pid, uint32_t generation, uint32_t start)
{
        return (uint64_t)pid << 42 | (uint64_t)generation << 28 | start;
}

static void test_register(void **state)
{
        (void)state;
        struct owners *owners = owners_new();

        uint32_t one = owners_register(owners, identity_self()), two = owners_register(owners, identity_self());
        assert_true(one != OWNER_NONE && two != OWNER_NONE && one != two);
        assert_true(one >> OWNER_BITS == 0 && two >> OWNER_BITS == 0);
        assert_true(one & (OWNERS_COUNT - 1)); /* entry 0 is nobody's */
        assert_true(owners_alive(owners, one) && owners_alive(owners, two));
        assert_false(owners_alive(owners, OWNER_NONE));
        struct identity self = identity_self();
        assert_int_equal(load_relaxed(&owners->entries[one & (OWNERS_COUNT - 1)]),
                         entry(self.pid, one >> OWNERS_INDEX_BITS, self.start));

        /* A number that was given up is dead for ever, though the entry is used again. */
        owners_release(owners, one);
        assert_false(owners_alive(owners, one));
        uint32_t again = owners_register(owners, identity_self());
        assert_int_equal(again & (OWNERS_COUNT - 1), one & (OWNERS_COUNT - 1));
        assert_int_not_equal(again, one);
        assert_false(owners_alive(owners, one));
        assert_true(owners_alive(owners, again));
        owners_release(owners, one); /* somebody else who has proved it dead, and comes late */
        assert_true(owners_alive(owners, again));
        owners_release(owners, OWNER_NONE);
        assert_int_equal(load_relaxed(&owners->entries[0]), 0);
        munmap(owners, sizeof *owners);
}

static void test_generations_wrap(void **state)
{
        (void)state;
        struct owners *owners = owners_new();
        uint32_t first = owners_register(owners, identity_self()), last = first;

        owners_release(owners, first);
        /* Not by 16,384 registrations, each of which reads /proc. */
        uint64_t largest = (1u << OWNERS_GENERATION_BITS) - 1;
        store_relaxed(&owners->entries[first & (OWNERS_COUNT - 1)], entry(0, (uint32_t)largest, 0));
        last = owners_register(owners, identity_self());
        assert_int_equal(last, first & (OWNERS_COUNT - 1)); /* generation 0 */
        assert_true(owners_alive(owners, last));
        munmap(owners, sizeof *owners);
}

static void test_table_full(void **state)
{
        (void)state;
        struct owners *owners = owners_new();

        for (uint32_t i = 1; i < OWNERS_COUNT; i++)
                if (i != 700)
                        store_relaxed(&owners->entries[i], entry(getppid(), 5, 0));
        uint32_t last = owners_register(owners, identity_self());
        assert_int_equal(last, 1u << OWNERS_INDEX_BITS | 700);
        assert_int_equal(owners_register(owners, identity_self()), OWNER_NONE);
        owners_release(owners, last);
        assert_int_equal(owners_register(owners, identity_self()), 2u << OWNERS_INDEX_BITS | 700);
        munmap(owners, sizeof *owners);
}

static void test_walk(void **state)
{
        (void)state;
        struct owners *owners = owners_new();
        uint32_t at = 0;

        assert_int_equal(owners_next(owners, &at), OWNER_NONE);
        at = 0;
        assert_int_equal(owners_find(owners, 17, &at), OWNER_NONE);
        static const struct {
                uint32_t index, generation;
                pid_t pid;
        } given[] = { { 1, 3, 17 }, { 2, 0, 18 }, { 9, 16383, 17 }, { 1023, 1, 4194303 } };
        for (size_t i = 0; i < array_length(given); i++)
                store_relaxed(&owners->entries[given[i].index], entry(given[i].pid, given[i].generation, 12345));
        store_relaxed(&owners->entries[5], entry(0, 8, 0)); /* free, but used before */
        at = 0;
        for (size_t i = 0; i < array_length(given); i++)
                assert_int_equal(owners_next(owners, &at), given[i].generation << OWNERS_INDEX_BITS | given[i].index);
        assert_int_equal(owners_next(owners, &at), OWNER_NONE);
        at = 0;
        assert_int_equal(owners_find(owners, 17, &at), 3u << OWNERS_INDEX_BITS | 1);
        assert_int_equal(owners_find(owners, 17, &at), 16383u << OWNERS_INDEX_BITS | 9);
        assert_int_equal(owners_find(owners, 17, &at), OWNER_NONE);
        at = 0;
        assert_int_equal(owners_find(owners, 4194303, &at), 1u << OWNERS_INDEX_BITS | 1023);
        munmap(owners, sizeof *owners);
}

static int register_and_tell(void *arg)
{
        struct owners *owners = arg;
        uint32_t owner = owners_register(owners, identity_self());

        require(owner != OWNER_NONE);
        require(owners_alive(owners, owner));
        for (;;)
                pause();
        return 0;
}

static void test_dead_owners(void **state)
{
        (void)state;
        int probe = pidfd_of(getpid());
        if (probe == -ENOSYS)
                skip(); /* valgrind */
        close(probe);
        struct owners *owners = owners_new();
        uint32_t own = owners_register(owners, identity_self()), other, at = 0;

        pid_t pid = check_start(register_and_tell, owners);
        int64_t end = support_now_ms() + CHECK_HANG_MS;
        while ((other = owners_find(owners, pid, &at)) == OWNER_NONE && support_now_ms() < end)
                at = 0;
        assert_int_not_equal(other, OWNER_NONE);
        assert_int_not_equal(other, own);
        assert_true(owners_alive(owners, other));
        kill(pid, SIGSTOP);
        assert_true(owners_alive(owners, other)); /* slow is not dead */
        kill(pid, SIGKILL);
        siginfo_t info;
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        assert_false(owners_alive(owners, other)); /* not yet reaped */
        assert_int_equal(check_wait(pid), -SIGKILL);
        assert_false(owners_alive(owners, other));
        assert_true(owners_alive(owners, own));

        /* The same pid, given to another process. */
        store_relaxed(&owners->entries[50], entry(getpid(), 4, identity_self().start ^ 1));
        assert_false(owners_alive(owners, 4u << OWNERS_INDEX_BITS | 50));
        store_relaxed(&owners->entries[50], entry(getpid(), 4, identity_self().start));
        assert_true(owners_alive(owners, 4u << OWNERS_INDEX_BITS | 50));
        munmap(owners, sizeof *owners);
}

/* Those who register at once get numbers of their own. */
static int register_some(void *arg)
{
        uint32_t *numbers = arg;
        struct owners *owners = *(struct owners **)(void *)&numbers[30];

        for (int i = 0; i < 30; i++) {
                numbers[i] = owners_register(owners, identity_self());
                if (i % 3 == 0) {
                        owners_release(owners, numbers[i]);
                        numbers[i] = OWNER_NONE;
                }
        }
        return 0;
}

static void test_register_at_once(void **state)
{
        (void)state;
        struct owners *owners = owners_new();
        struct check_thread threads[4];
        static _Alignas(8) uint32_t numbers[4][32];

        for (int i = 0; i < 4; i++) {
                memcpy(&numbers[i][30], &owners, sizeof owners);
                check_thread_start(&threads[i], register_some, numbers[i]);
        }
        for (int i = 0; i < 4; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        int held = 0;
        bool taken[OWNERS_COUNT] = { false };
        for (int i = 0; i < 120; i++) {
                uint32_t number = numbers[i / 30][i % 30];
                if (number == OWNER_NONE)
                        continue;
                assert_false(taken[number & (OWNERS_COUNT - 1)]);
                taken[number & (OWNERS_COUNT - 1)] = true;
                assert_true(owners_alive(owners, number));
                held++;
        }
        assert_int_equal(held, 80);
        uint32_t at = 0;
        for (int i = 0; i < held; i++)
                assert_int_not_equal(owners_next(owners, &at), OWNER_NONE);
        assert_int_equal(owners_next(owners, &at), OWNER_NONE);
        munmap(owners, sizeof *owners);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_region),
                support_test(test_region_check),
                support_test(test_region_refused),
                support_test(test_region_attach),
                support_test(test_signature),
                support_test(test_register),
                support_test(test_generations_wrap),
                support_test(test_table_full),
                support_test(test_walk),
                support_test(test_dead_owners),
                support_test(test_register_at_once),
        };
        return support_main(argc, argv, "shm", tests, array_length(tests), 60);
}
