/* SPDX-License-Identifier: MIT
 *
 * tests/shm/test_shared.c: shared memory: its forms, its growth, who attaches to it, and what is refused.
 */
#include "handed.h"

#include <brood/atomic.h>
#include <brood/shared.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define KiB ((size_t)1 << 10)
#define MiB ((size_t)1 << 20)
#define GiB ((size_t)1 << 30)
#define TiB ((size_t)1 << 40)

static brood_shared *make(size_t size, size_t limit)
{
        brood_shared *s = NULL;
        assert_int_equal(brood_shared_new(&s, size, &(brood_shared_options){ .limit = limit }), 0);
        return s;
}

static int descriptor_of(const brood_shared *s)
{
        int fds[BROOD_SHARED_DESCRIPTORS] = { -1 };
        return brood_shared_descriptors(s, fds) < 0 ? -1 : fds[0];
}

static brood_shared *attach(const brood_shared *to)
{
        brood_shared *s = NULL;
        assert_int_equal(brood_shared_attach(&s, (int[]){ descriptor_of(to) }), 0);
        return s;
}

/* Bytes of memory that there are behind it, its head among them. */
static size_t memory_behind(const brood_shared *s)
{
        struct stat status;
        return fstat(descriptor_of(s), &status) < 0 ? 0 : (size_t)status.st_blocks * 512;
}

static bool is_zero(const unsigned char *bytes, size_t size)
{
        for (size_t i = 0; i < size; i++)
                if (bytes[i] != 0)
                        return false;
        return true;
}

/* ---- forms ---- */

static void test_forms(void **state)
{
        (void)state;
        static const size_t sizes[] = { 1, 7, 4096, 4097, MiB, 3 * MiB + 5 };
        size_t page = (size_t)sysconf(_SC_PAGESIZE);

        for (size_t i = 0; i < array_length(sizes); i++)
                for (int grows = 0; grows < 2; grows++) {
                        size_t limit = grows ? 2 * sizes[i] + 1 : sizes[i];
                        errno = 4711;
                        brood_shared *s = make(sizes[i], grows ? limit : 0);
                        unsigned char *bytes = brood_shared_data(s);
                        assert_int_equal(brood_shared_size(s), sizes[i]);
                        assert_int_equal(brood_shared_limit(s), limit);
                        assert_int_equal((uintptr_t)bytes % page, 0);
                        assert_true(memory_behind(s) >= sizes[i]);
                        assert_true(is_zero(bytes, sizes[i]));
                        memset(bytes, 0xa5, sizes[i]);
                        brood_shared_free(s);
                        assert_int_equal(errno, 4711);
                }

        brood_shared *s = NULL;
        assert_int_equal(brood_shared_new(&s, 100, NULL), 0);
        assert_int_equal(brood_shared_limit(s), 100);
        brood_shared_free(s);
        s = make(0, 100);
        assert_int_equal(brood_shared_size(s), 0);
        assert_int_equal(brood_shared_grow(s, 100), 0);
        brood_shared_free(s);
}

/* A limit is address space, and no memory. */
static void test_large_limit(void **state)
{
        (void)state;
        brood_shared *s = make(MiB, 8 * GiB), *again = attach(s);

        assert_true(memory_behind(s) < 2 * MiB);
        assert_int_equal(brood_shared_limit(again), 8 * GiB);
        brood_shared_free(again);
        brood_shared_free(s);
}

static void test_offsets(void **state)
{
        (void)state;
        brood_shared *s = make(1000, 5000), *other = attach(s);
        char *data = brood_shared_data(s);

        assert_ptr_not_equal(data, brood_shared_data(other));
        assert_ptr_equal(brood_shared_at(s, 0, 1000), data);
        assert_ptr_equal(brood_shared_at(s, 10, 990), data + 10);
        assert_ptr_equal(brood_shared_at(s, 1000, 0), data + 1000);
        assert_null(brood_shared_at(s, 10, 991));
        assert_null(brood_shared_at(s, 1001, 0));
        assert_null(brood_shared_at(s, SIZE_MAX, 2));
        assert_null(brood_shared_at(s, 2, SIZE_MAX));
        assert_null(brood_shared_at(NULL, 0, 1));
        assert_int_equal(brood_shared_offset(s, data), 0);
        assert_int_equal(brood_shared_offset(s, data + 999), 999);
        assert_int_equal(brood_shared_offset(s, data + 4999), 4999);
        assert_int_equal(brood_shared_offset(s, data + 5000), -EINVAL);
        assert_int_equal(brood_shared_offset(s, data - 1), -EINVAL);
        assert_int_equal(brood_shared_offset(s, NULL), -EINVAL);
        assert_int_equal(brood_shared_offset(NULL, data), -EINVAL);

        /* What is written at an offset here is at that offset there. */
        strcpy(brood_shared_at(s, 500, 10), "here");
        assert_string_equal(brood_shared_at(other, 500, 10), "here");
        brood_shared_free(other);
        brood_shared_free(s);
}

static void test_refused(void **state)
{
        (void)state;
        static const struct {
                size_t size;
                brood_shared_options options;
                int error;
        } bad[] = {
                { 0, { 0 }, -EINVAL },
                { 2, { .limit = 1 }, -EINVAL },
                { BROOD_SHARED_SIZE_LIMIT + 1, { 0 }, -EINVAL },
                { (size_t)-1, { 0 }, -EINVAL },
                { (size_t)-4096, { 0 }, -EINVAL },
                { SIZE_MAX / 2, { 0 }, -EINVAL },
                { 1, { .limit = BROOD_SHARED_SIZE_LIMIT + 1 }, -EINVAL },
                { 1, { .limit = SIZE_MAX }, -EINVAL },
                { 1, { .huge_pages = -1 }, -EINVAL },
                { 1, { .huge_pages = 3 }, -EINVAL },
                { 1, { .huge_pages = INT32_MIN }, -EINVAL },
        };
        brood_shared *untouched = (brood_shared *)&bad, *s = untouched;
        int descriptors = support_count_descriptors(), mappings = support_count_shared_mappings();

        for (size_t i = 0; i < array_length(bad); i++)
                assert_int_equal(brood_shared_new(&s, bad[i].size, &bad[i].options), bad[i].error);
        assert_int_equal(brood_shared_new(NULL, 1, NULL), -EINVAL);

        /* A newer program's options: known if they are zero. */
        struct {
                brood_shared_options known;
                uint64_t more;
        } newer = { .more = 1 };
        assert_int_equal(brood_shared_new_sized(&s, 1, &newer.known, sizeof newer), -E2BIG);
        assert_ptr_equal(s, untouched);
        newer.more = 0;
        assert_int_equal(brood_shared_new_sized(&s, 1, &newer.known, sizeof newer), 0);
        brood_shared_free(s);

        s = untouched;
        struct rlimit before = check_descriptors_exhaust();
        int r = brood_shared_new(&s, 1, NULL);
        check_descriptors_restore(&before);
        assert_int_equal(r, -EMFILE);
        assert_ptr_equal(s, untouched);
        assert_int_equal(support_count_descriptors(), descriptors);
        assert_int_equal(support_count_shared_mappings(), mappings);

        brood_shared_free(NULL);
        assert_null(brood_shared_data(NULL));
        assert_int_equal(brood_shared_size(NULL), 0);
        assert_int_equal(brood_shared_limit(NULL), 0);
        assert_int_equal(brood_shared_grow(NULL, 1), -EINVAL);
        assert_int_equal(brood_shared_in_huge_pages(NULL), -EINVAL);
        int fds[1] = { 77 };
        assert_int_equal(brood_shared_descriptors(NULL, fds), -EINVAL);
        assert_int_equal(fds[0], 77);
        s = make(1, 0);
        assert_int_equal(brood_shared_descriptors(s, NULL), -EINVAL);
        assert_int_equal(brood_shared_attach(NULL, fds), -EINVAL);
        assert_int_equal(brood_shared_attach(&s, NULL), -EINVAL);
        brood_shared_free(s);
}

/* ---- growing ---- */

static void test_grow(void **state)
{
        (void)state;
        enum { LIMIT = 300000 };
        brood_shared *s = make(1, LIMIT);
        unsigned char *data = brood_shared_data(s);
        size_t size = 1;

        data[0] = 1;
        errno = 4711;
        while (size < LIMIT) {
                size_t more = 1 + support_random(20000), to = size + more < LIMIT ? size + more : LIMIT;
                assert_int_equal(brood_shared_grow(s, to), 0);
                assert_int_equal(brood_shared_size(s), to);
                assert_ptr_equal(brood_shared_data(s), data);
                assert_true(memory_behind(s) >= to);
                assert_true(is_zero(data + size, to - size));
                memset(data + size, (int)(size % 251 + 1), to - size);
                assert_int_equal(brood_shared_grow(s, to), 0); /* nothing to be done */
                assert_int_equal(brood_shared_grow(s, to - 1), -EALREADY);
                assert_int_equal(brood_shared_grow(s, 0), -EALREADY);
                assert_int_equal(brood_shared_grow(s, LIMIT + 1), -EINVAL);
                assert_int_equal(brood_shared_grow(s, (size_t)-1), -EINVAL);
                assert_int_equal(brood_shared_size(s), to);
                size = to;
        }
        assert_int_equal(errno, 4711);
        assert_int_equal(data[0], 1);
        brood_shared_free(s);

        s = make(100, 0);
        assert_int_equal(brood_shared_grow(s, 101), -EINVAL);
        assert_int_equal(brood_shared_grow(s, 100), 0);
        brood_shared_free(s);
}

static bool has_grown(void *arg)
{
        return brood_shared_size(arg) >= 2 * MiB;
}

/* See the growth of the other side, use it, and grow it for the other side. */
static int grow_in_turn(void *arg)
{
        brood_shared *s = arg;
        unsigned char *data = brood_shared_data(s);

        require(support_until(has_grown, s, CHECK_HANG_MS));
        data[2 * MiB - 1] = 7;
        require_int(brood_shared_grow(s, 3 * MiB), 0);
        data[3 * MiB - 1] = 8;
        brood_shared_free(s);
        return 0;
}

/* The same memory, by the descriptor alone. */
static int attach_and_grow_in_turn(void *arg)
{
        brood_shared *s = NULL;
        int fd = descriptor_of(arg);

        require_int(brood_shared_attach(&s, &fd), 0);
        require(brood_shared_data(s) != brood_shared_data(arg));
        brood_shared_free(arg);
        return grow_in_turn(s);
}

static void test_growth_is_seen(void **state)
{
        (void)state;
        for (int attached = 0; attached < 2; attached++) {
                brood_shared *s = make(MiB, 4 * MiB), *view = attach(s);
                pid_t pid = check_start(attached ? attach_and_grow_in_turn : grow_in_turn, s);
                assert_int_equal(brood_shared_grow(s, 2 * MiB), 0);
                assert_int_equal(check_wait(pid), 0);
                assert_int_equal(brood_shared_size(s), 3 * MiB);
                assert_int_equal(brood_shared_size(view), 3 * MiB);
                unsigned char *data = brood_shared_data(view);
                assert_int_equal(data[2 * MiB - 1], 7);
                assert_int_equal(data[3 * MiB - 1], 8);
                brood_shared_free(s); /* the maker's end is not the memory's */
                assert_int_equal(data[3 * MiB - 1], 8);
                assert_int_equal(brood_shared_grow(view, 4 * MiB), 0);
                brood_shared_free(view);
        }
}

enum { GROWERS = 4, RACE_LIMIT = 4 << 20 };

struct race {
        brood_shared *shared;
        uint64_t seed;
        atomic_int *grown;
};

static int race_to_the_limit(void *arg)
{
        struct race *race = arg;
        size_t before = 0;

        for (size_t size; (size = brood_shared_size(race->shared)) < RACE_LIMIT;) {
                require(size >= before);
                before = size;
                size_t to = size + 1 + check_random(&race->seed, 30000);
                int r = brood_shared_grow(race->shared, to < RACE_LIMIT ? to : RACE_LIMIT);
                require(r == 0 || r == -EALREADY);
                require(brood_shared_size(race->shared) >= (to < RACE_LIMIT ? to : RACE_LIMIT));
                if (r == 0)
                        atomic_fetch_add(race->grown, 1);
        }
        return 0;
}

static void test_growers_at_once(void **state)
{
        (void)state;
        atomic_int *grown = check_shared(sizeof *grown);

        for (int threads = 0; threads < 2; threads++) {
                brood_shared *s = make(1, RACE_LIMIT);
                struct race races[GROWERS];
                struct check_thread runners[GROWERS];
                pid_t pids[GROWERS];

                atomic_store(grown, 0);
                for (int i = 0; i < GROWERS; i++) {
                        races[i] = (struct race){ s, support_random(UINT64_MAX), grown };
                        if (threads)
                                check_thread_start(&runners[i], race_to_the_limit, &races[i]);
                        else
                                pids[i] = check_start(race_to_the_limit, &races[i]);
                }
                for (int i = 0; i < GROWERS; i++)
                        assert_int_equal(threads ? check_thread_join(&runners[i]) : check_wait(pids[i]), 0);
                assert_true(atomic_load(grown) > 0);
                assert_int_equal(brood_shared_size(s), RACE_LIMIT);
                assert_true(memory_behind(s) >= RACE_LIMIT);
                assert_true(is_zero(brood_shared_data(s), RACE_LIMIT));
                brood_shared_free(s);
        }
        munmap(grown, sizeof *grown);
}

/* What a grower is about to do, and has done, for those who find it killed. */
struct intent {
        _Atomic(size_t) from, to;
};

struct grower {
        brood_shared *shared;
        struct intent *intent;
        uint64_t seed;
};

static int grow_for_ever(void *arg)
{
        struct grower *grower = arg;

        for (;;) {
                size_t size = brood_shared_size(grower->shared);
                size_t to = size + 1 + check_random(&grower->seed, 100000);
                atomic_store(&grower->intent->from, size);
                atomic_store(&grower->intent->to, to);
                require_int(brood_shared_grow(grower->shared, to), 0);
                memset((char *)brood_shared_data(grower->shared) + size, 1, to - size);
        }
}

static void test_killed_growers(void **state)
{
        (void)state;
        struct intent *intent = check_shared(sizeof *intent);

        for (int round = 0; round < support_rounds(60); round++) {
                brood_shared *s = make(1, 16 * GiB);
                struct grower grower = { s, intent, support_random(UINT64_MAX) };
                atomic_store(&intent->to, 0);
                pid_t pid = check_start(grow_for_ever, &grower);
                while (atomic_load(&intent->to) == 0)
                        sched_yield();
                for (uint64_t i = support_random(20000); i > 0; i--)
                        __asm__ volatile("" ::: "memory");
                assert_int_equal(check_kill(pid), -SIGKILL);
                size_t size = brood_shared_size(s);
                assert_true(size == atomic_load(&intent->from) || size == atomic_load(&intent->to));
                assert_true(memory_behind(s) >= size);
                size_t more = support_random(MiB);
                assert_int_equal(brood_shared_grow(s, size + more), 0);
                assert_true(memory_behind(s) >= size + more);
                memset(brood_shared_data(s), 2, size + more);
                brood_shared_free(s);
        }
        munmap(intent, sizeof *intent);
}

static int commit_much(void *arg)
{
        struct grower *grower = arg;
        brood_shared *s = grower->shared;

        atomic_store(&grower->intent->to, 1);
        require_int(fallocate(descriptor_of(s), 0, 0, (off_t)brood_shared_limit(s)), 0);
        return 0;
}

/* Of two growers at once, the later one may commit what the earlier one has grown, and be killed over it: then the kernel takes
 * back what it has added, and not what the earlier one has, even if nobody has touched it. */
static void test_commit_undone(void **state)
{
        (void)state;
        struct intent *intent = check_shared(sizeof *intent);
        int undone = 0;

        for (int round = 0; round < support_rounds(20); round++) {
                brood_shared *s = make(MiB, 256 * MiB);
                struct grower grower = { .shared = s, .intent = intent };
                atomic_store(&intent->to, 0);
                pid_t pid = check_start(commit_much, &grower);
                while (atomic_load(&intent->to) == 0)
                        sched_yield();
                while (memory_behind(s) < 2 * MiB)
                        sched_yield();
                undone += check_kill(pid) == -SIGKILL;
                assert_true(memory_behind(s) >= MiB + 4096);
                brood_shared_free(s);
        }
        printf("%d of %d commits were cut off\n", undone, support_rounds(20));
        munmap(intent, sizeof *intent);
}

/* ---- short of memory ---- */

/* More than any machine has: refused, and not tried until the kernel kills for it. */
static void test_too_much(void **state)
{
        (void)state;
        brood_shared *s = NULL;

        assert_int_equal(brood_shared_new(&s, 8 * TiB, NULL), -ENOMEM);
        assert_null(s);
        s = make(MiB, 8 * TiB);
        assert_int_equal(brood_shared_grow(s, 8 * TiB), -ENOMEM);
        assert_int_equal(brood_shared_size(s), MiB);
        assert_true(memory_behind(s) < 2 * MiB);
        assert_int_equal(brood_shared_grow(s, 2 * MiB), 0);
        memset(brood_shared_data(s), 1, 2 * MiB);
        brood_shared_free(s);
}

/* From here on the kernel answers this process's fallocate(2) with an error if it asks for more than `most` bytes (below 4 GiB). */
static int answer_fallocate(uint32_t most, uint32_t error)
{
        struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fallocate, 0, 3),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])), /* little-endian */
                BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, most, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog filter = { .len = array_length(code), .filter = code };

        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) < 0;
}

enum { NO_SECCOMP = 77 };

static int grow_without_memory(void *arg)
{
        brood_shared *s = arg, *other = NULL;

        if (answer_fallocate(0, ENOSPC))
                return NO_SECCOMP;
        for (int i = 0; i < 3; i++) {
                require_int(brood_shared_grow(s, 2 * MiB), -ENOMEM);
                require_int(brood_shared_size(s), MiB);
        }
        require_int(brood_shared_grow(s, MiB), 0);
        require_int(brood_shared_new(&other, MiB, NULL), -ENOMEM);
        require(other == NULL);
        memset(brood_shared_data(s), 1, MiB);
        return 0;
}

static void test_shortage(void **state)
{
        (void)state;
        brood_shared *s = make(MiB, 4 * MiB);
        int result = check_wait(check_start(grow_without_memory, s));

        assert_true(result == 0 || result == NO_SECCOMP);
        assert_int_equal(brood_shared_size(s), MiB);
        assert_int_equal(brood_shared_grow(s, 2 * MiB), 0); /* there is some again */
        brood_shared_free(s);
        if (result == NO_SECCOMP)
                skip();
}

static int make_without_address_space(void *arg)
{
        brood_shared *s = arg, *other = NULL;
        int fd = descriptor_of(s), descriptors = support_count_descriptors();

        require_int(setrlimit(RLIMIT_AS, &(struct rlimit){ 64 * MiB, 64 * MiB }), 0);
        require_int(brood_shared_new(&other, 1, &(brood_shared_options){ .limit = 4 * GiB }), -ENOMEM);
        require_int(brood_shared_attach(&other, &fd), -ENOMEM);
        require(other == NULL);
        require_int(support_count_descriptors(), descriptors);
        require_int(brood_shared_grow(s, 8 * GiB / 1024), 0); /* what is mapped is mapped */
        return 0;
}

static void test_no_address_space(void **state)
{
        (void)state;
        if (CHECK_ASAN)
                skip(); /* the sanitizer itself needs more */
        brood_shared *s = make(1, 8 * GiB);
        check_in_child(make_without_address_space, s);
        brood_shared_free(s);
}

/* To the kernel it is a file. */
static int make_too_long_a_file(void *arg)
{
        brood_shared *s = arg, *other = NULL;

        require_int(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ MiB, MiB }), 0);
        require_int(brood_shared_new(&other, MiB + 1, NULL), -E2BIG);
        require_int(brood_shared_new(&other, 1, &(brood_shared_options){ .limit = GiB }), -E2BIG);
        require(other == NULL);
        require_int(brood_shared_new(&other, MiB / 2, NULL), 0);
        brood_shared_free(other);
        require_int(brood_shared_grow(s, 4 * MiB), 0); /* what is long is long */
        return 0;
}

static void test_no_long_files(void **state)
{
        (void)state;
        brood_shared *s = make(1, 4 * MiB);
        check_in_child(make_too_long_a_file, s);
        brood_shared_free(s);
}

/* Where signals come faster than the kernel gathers the memory, which older ones then begin anew. */
static int grow_among_signals(void *arg)
{
        brood_shared *s = arg;

        if (answer_fallocate(3 * MiB, EINTR))
                return NO_SECCOMP;
        require_int(brood_shared_grow(s, 100 * MiB - 1), 0);
        require(memory_behind(s) >= 100 * MiB - 1);
        return 0;
}

static void test_among_signals(void **state)
{
        (void)state;
        brood_shared *s = make(1, 128 * MiB);
        int result = check_wait(check_start(grow_among_signals, s));

        assert_true(result == 0 || result == NO_SECCOMP);
        brood_shared_free(s);
        if (result == NO_SECCOMP)
                skip();
}

/* ---- descriptors ---- */

enum { PASSED_SIZE = 10000, PASSED_LIMIT = 50000, PASSED_GROWN = 20000 };

/* In a process that has only the descriptor. */
static int use_attached(int fd)
{
        brood_shared *s = NULL;

        require_int(brood_shared_attach(&s, &fd), 0);
        require_int(brood_shared_size(s), PASSED_SIZE);
        require_int(brood_shared_limit(s), PASSED_LIMIT);
        require(strcmp(brood_shared_data(s), "from the maker") == 0);
        require_int(brood_shared_grow(s, PASSED_GROWN), 0);
        strcpy((char *)brood_shared_data(s) + PASSED_GROWN - 20, "from the other");
        require(descriptor_of(s) != fd);
        require(fcntl(descriptor_of(s), F_GETFD) & FD_CLOEXEC);
        return 0; /* without a free: as one that dies */
}

static void test_passed_on(void **state)
{
        (void)state;
        for (int how = 0; how < 2; how++) {
                brood_shared *s = make(PASSED_SIZE, PASSED_LIMIT);
                int fd = descriptor_of(s);

                strcpy(brood_shared_data(s), "from the maker");
                assert_int_equal(how == 0 ? handed_across_exec(fd) : handed_by_message(fd, use_attached), 0);
                assert_int_equal(brood_shared_size(s), PASSED_GROWN);
                assert_string_equal((char *)brood_shared_data(s) + PASSED_GROWN - 20, "from the other");
                brood_shared_free(s);
        }
}

/* The memory is a memfd, and nothing else is there. */
static void test_no_name(void **state)
{
        (void)state;
        brood_shared *s = make(MiB, 2 * MiB);
        char path[64], target[128], line[512];
        bool found = false;

        snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor_of(s));
        ssize_t n = readlink(path, target, sizeof target - 1);
        assert_true(n > 0);
        target[n] = '\0';
        assert_string_equal(target, "/memfd:brood-shared (deleted)");
        assert_true(fcntl(descriptor_of(s), F_GETFD) & FD_CLOEXEC);
        assert_int_equal(fcntl(descriptor_of(s), F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW),
                         F_SEAL_SHRINK | F_SEAL_GROW);

        FILE *maps = fopen("/proc/self/maps", "re");
        assert_non_null(maps);
        while (fgets(line, sizeof line, maps)) {
                unsigned long begin, end;
                assert_int_equal(sscanf(line, "%lx-%lx", &begin, &end), 2);
                if ((uintptr_t)brood_shared_data(s) - begin < end - begin) {
                        assert_non_null(strstr(line, "/memfd:brood-shared (deleted)"));
                        assert_non_null(strstr(line, "rw-s"));
                        found = true;
                }
        }
        fclose(maps);
        assert_true(found);
        brood_shared_free(s);
}

static void test_many(void **state)
{
        (void)state;
        enum { MANY = 1000, OTHERS = 50 };
        struct rlimit before, raised;
        static brood_shared *many[MANY];
        int descriptors = support_count_descriptors(), mappings = support_count_shared_mappings();

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        raised = before;
        if (raised.rlim_cur < MANY + OTHERS)
                raised.rlim_cur = MANY + OTHERS < before.rlim_max ? MANY + OTHERS : before.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &raised), 0);
        size_t count = raised.rlim_cur < MANY + OTHERS ? raised.rlim_cur - OTHERS : MANY;
        for (size_t i = 0; i < count; i++) {
                many[i] = make(100, 5000);
                *(size_t *)brood_shared_data(many[i]) = i;
        }
        for (size_t i = 0; i < count; i++)
                assert_int_equal(*(size_t *)brood_shared_data(many[i]), i);
        for (size_t i = 0; i < count; i++)
                brood_shared_free(many[i]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(support_count_descriptors(), descriptors);
        assert_int_equal(support_count_shared_mappings(), mappings);
}

static int count_to(void *arg)
{
        for (int i = 0; i < 10000; i++)
                brood_atomic_fetch_add((uint64_t *)brood_shared_data(arg), 1);
        brood_shared_free(arg);
        return 0;
}

static void test_fork(void **state)
{
        (void)state;
        brood_shared *s = make(8, 0);
        pid_t pids[4];

        for (int i = 0; i < 4; i++)
                pids[i] = check_start(count_to, s);
        for (int i = 0; i < 4; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        assert_int_equal(*(uint64_t *)brood_shared_data(s), 40000);
        brood_shared_free(s);
}

/* ---- what is not ours ---- */

enum {
        HEAD_VERSION = 8,
        HEAD_KIND = 12,
        HEAD_LAYOUT = 16,
        HEAD_SIZE = 24,
        OWN_LIMIT = 64,
        OWN_HUGE = 72,
        OWN_SIZE = 80
};

/* Attach, and if that succeeds: whatever it says can be used. */
static int attach_to(int fd)
{
        brood_shared *untouched = (brood_shared *)&fd, *s = untouched;
        int before = support_count_descriptors();
        int r = brood_shared_attach(&s, &fd);

        if (r == 0) {
                size_t size = brood_shared_size(s), limit = brood_shared_limit(s);
                unsigned char *data = brood_shared_data(s);
                assert_true(size <= limit && limit > 0);
                data[limit - 1] ^= data[0];
                brood_shared_free(s);
        } else {
                assert_ptr_equal(s, untouched);
        }
        assert_int_equal(support_count_descriptors(), before);
        return r;
}

static void test_attach_refuses(void **state)
{
        (void)state;
        brood_shared *s = make(5000, 20000);
        int fd = descriptor_of(s), pipes[2];

        assert_int_equal(attach_to(fd), 0);
        errno = 4711;
        assert_int_equal(attach_to(-1), -EBADF);
        assert_int_equal(attach_to(1 << 20), -EBADF);
        assert_int_equal(errno, 4711);
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        assert_int_equal(attach_to(pipes[0]), -EINVAL);
        close(pipes[0]);
        close(pipes[1]);
        struct rlimit before = check_descriptors_exhaust();
        brood_shared *other = NULL;
        int r = brood_shared_attach(&other, &fd);
        check_descriptors_restore(&before);
        assert_int_equal(r, -EMFILE);
        assert_null(other);

        static const struct {
                off_t more;
                unsigned seals;
                int error;
        } copies[] = {
                { 0, ALL_SEALS, 0 },
                { 0, F_SEAL_SHRINK, 0 },
                { 0, 0, -EPERM },
                { 0, F_SEAL_GROW | F_SEAL_SEAL, -EPERM },
                { 0, ALL_SEALS | F_SEAL_WRITE, -EPERM },
                { 4096, ALL_SEALS, -EUCLEAN },
                { 1, ALL_SEALS, -EUCLEAN },
                { -1, ALL_SEALS, -EUCLEAN },
                { -4096, ALL_SEALS, -EUCLEAN },
        };
        for (size_t i = 0; i < array_length(copies); i++) {
                int copy = handed_copy(fd, copies[i].more, copies[i].seals);
                assert_int_equal(attach_to(copy), copies[i].error);
                close(copy);
        }

        static const struct {
                off_t at;
                uint64_t value;
                size_t bytes;
                int error;
        } patches[] = {
                { 0, 0, 8, -EUCLEAN },
                { HEAD_VERSION, 2, 4, -EPROTONOSUPPORT },
                { HEAD_VERSION, 0, 4, -EPROTONOSUPPORT },
                { HEAD_KIND, 1, 4, -EUCLEAN },
                { HEAD_KIND, UINT32_MAX, 4, -EUCLEAN },
                { HEAD_LAYOUT, 7, 8, -EPROTONOSUPPORT },
                { HEAD_SIZE, 4096, 8, -EUCLEAN },
                { HEAD_SIZE, UINT64_MAX, 8, -EUCLEAN },
                { OWN_LIMIT, 0, 8, -EUCLEAN },
                { OWN_LIMIT, 4999, 8, -EUCLEAN },
                { OWN_LIMIT, 1 << 20, 8, -EUCLEAN },
                { OWN_LIMIT, UINT64_MAX, 8, -EUCLEAN },
                { OWN_LIMIT, UINT64_MAX - 4095, 8, -EUCLEAN },
                { OWN_HUGE, 3, 4, -EUCLEAN },
                { OWN_HUGE, UINT32_MAX, 4, -EUCLEAN },
                { OWN_SIZE, 20001, 8, -EUCLEAN },
                { OWN_SIZE, UINT64_MAX, 8, -EUCLEAN },
                { OWN_SIZE, 20000, 8, 0 },
                { OWN_SIZE, 0, 8, 0 },
        };
        for (size_t i = 0; i < array_length(patches); i++) {
                int copy = handed_patched(fd, patches[i].at, patches[i].value, patches[i].bytes);
                assert_int_equal(attach_to(copy), patches[i].error);
                close(copy);
        }
        brood_shared_free(s);
}

/* Zeros, noise, too little for a head; and noise within what is right. */
static void test_attach_to_noise(void **state)
{
        (void)state;
        static const off_t sizes[] = { 0, 1, 63, 64, 127, 128, 4096, 8192, 1 << 20 };
        brood_shared *s = make(5000, 20000);
        int refused = 0;

        for (size_t i = 0; i < array_length(sizes); i++)
                for (int noise = 0; noise < 2; noise++) {
                        int fd = handed_noise(sizes[i], noise);
                        assert_int_equal(attach_to(fd), -EUCLEAN);
                        close(fd);
                }
        for (int round = 0; round < support_rounds(2000); round++) {
                int copy = handed_copy(descriptor_of(s), 0, ALL_SEALS);
                handed_tamper(copy, support_random(2) ? 96 : 128);
                int r = attach_to(copy);
                assert_true(r == 0 || r == -EUCLEAN || r == -EPROTONOSUPPORT);
                refused += r != 0;
                close(copy);
        }
        assert_true(refused > 0);
        brood_shared_free(s);
}

/* Whoever has the descriptor can write the size, too. */
static void test_damaged(void **state)
{
        (void)state;
        brood_shared *s = make(5000, 20000);
        static const uint64_t bad[] = { 20001, UINT64_MAX, (uint64_t)1 << 63 };

        for (size_t i = 0; i < array_length(bad); i++) {
                assert_int_equal(pwrite(descriptor_of(s), &bad[i], 8, OWN_SIZE), 8);
                assert_int_equal(brood_shared_size(s), 0);
                assert_null(brood_shared_at(s, 0, 1));
                assert_int_equal(brood_shared_grow(s, 6000), -EUCLEAN);
                assert_int_equal(brood_shared_limit(s), 20000);
        }
        assert_int_equal(pwrite(descriptor_of(s), &(uint64_t){ 5000 }, 8, OWN_SIZE), 8);
        assert_int_equal(brood_shared_grow(s, 6000), 0);
        brood_shared_free(s);
}

/* ---- huge pages ---- */

static size_t number_in(const char *path, const char *name)
{
        char text[8192];
        FILE *file = fopen(path, "re");
        size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;

        if (file)
                fclose(file);
        text[n] = '\0';
        const char *at = strstr(text, name);
        return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

static bool advice_counts(void)
{
        char text[256] = "";
        FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "re");

        if (file) {
                bool read = fgets(text, sizeof text, file) != NULL;
                fclose(file);
                return read && !strstr(text, "[never]") && !strstr(text, "[deny]");
        }
        return false;
}

/* Whatever the machine has, it is memory; and what it has is told. */
static void test_huge_pages_wanted(void **state)
{
        (void)state;
        brood_shared *s = NULL;
        brood_shared_options options = { .limit = 32 * MiB, .huge_pages = BROOD_HUGE_PAGES_WANTED };

        assert_int_equal(brood_shared_new(&s, 8 * MiB, &options), 0);
        assert_true(memory_behind(s) >= 8 * MiB);
        assert_int_equal(brood_shared_grow(s, 16 * MiB), 0);
        assert_true(memory_behind(s) >= 16 * MiB);
        assert_true(is_zero(brood_shared_data(s), 16 * MiB));
        memset(brood_shared_data(s), 1, 16 * MiB);
        ssize_t huge = brood_shared_in_huge_pages(s);
        printf("huge pages wanted, and got for %zd bytes of 16 MiB (advice %s)\n", huge,
               advice_counts() ? "counts" : "does not count");
        assert_true(huge >= 0);
        if (!advice_counts())
                assert_int_equal(huge, 0);
        brood_shared *view = attach(s);
        assert_int_equal(((unsigned char *)brood_shared_data(view))[16 * MiB - 1], 1);
        brood_shared_free(view);
        brood_shared_free(s);

        s = make(MiB, 0);
        memset(brood_shared_data(s), 1, MiB);
        assert_int_equal(brood_shared_in_huge_pages(s), 0);
        brood_shared_free(s);
}

static void test_huge_pages_required(void **state)
{
        (void)state;
        size_t page = number_in("/proc/meminfo", "Hugepagesize:") * KiB;
        size_t spare = number_in("/proc/meminfo", "HugePages_Free:") - number_in("/proc/meminfo", "HugePages_Rsvd:");
        brood_shared_options options = { .limit = (spare + 8) * (page + 1), .huge_pages = BROOD_HUGE_PAGES_REQUIRED };
        brood_shared *untouched = (brood_shared *)&options, *s = untouched;
        int r = brood_shared_new(&s, page, &options);

        printf("huge pages required: %zu of %zu bytes are free: %s\n", spare, page, brood_strerror(r));
        if (page == 0 || spare < 4) {
                assert_true(r == -EOPNOTSUPP || r == -ENOMEM);
                assert_ptr_equal(s, untouched);
                skip();
        }
        assert_int_equal(r, 0);
        assert_int_equal(brood_shared_grow(s, 2 * page), 0);
        assert_int_equal(brood_shared_grow(s, (spare + 8) * page), -ENOMEM);
        assert_int_equal(brood_shared_size(s), 2 * page);
        assert_true(is_zero(brood_shared_data(s), 2 * page));
        memset(brood_shared_data(s), 1, 2 * page);
        assert_true((size_t)brood_shared_in_huge_pages(s) >= 2 * page);
        brood_shared *view = attach(s);
        assert_int_equal(((unsigned char *)brood_shared_data(view))[2 * page - 1], 1);
        brood_shared_free(view);
        brood_shared_free(s);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_forms),
                support_test(test_large_limit),
                support_test(test_offsets),
                support_test(test_refused),
                support_test(test_grow),
                support_test(test_growth_is_seen),
                support_test(test_growers_at_once),
                support_test(test_killed_growers),
                support_test(test_commit_undone),
                support_test(test_too_much),
                support_test(test_shortage),
                support_test(test_no_address_space),
                support_test(test_no_long_files),
                support_test(test_among_signals),
                support_test(test_passed_on),
                support_test(test_no_name),
                support_test(test_many),
                support_test(test_fork),
                support_test(test_attach_refuses),
                support_test(test_attach_to_noise),
                support_test(test_damaged),
                support_test(test_huge_pages_wanted),
                support_test(test_huge_pages_required),
        };
        handed_main(argc, argv, use_attached);
        return support_main(argc, argv, "shared", tests, array_length(tests), 60);
}
