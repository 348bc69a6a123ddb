/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_value.c: values and arrays: their forms, who shares them, and what is refused.
 */
#include "handed.h"

#include <brood/atomic.h>
#include <brood/condition.h>
#include <brood/process.h>
#include <brood/value.h>

static const brood_array_options raw = { .raw = 1 };

static brood_array *make(size_t count, size_t item_size, const void *initial)
{
        brood_array *a = NULL;
        assert_int_equal(brood_array_new(&a, count, item_size, initial, support_random(2) ? &raw : NULL), 0);
        return a;
}

static int descriptor_of(const brood_array *a)
{
        int fds[BROOD_ARRAY_DESCRIPTORS] = { -1 };
        return brood_array_descriptors(a, fds) < 0 ? -1 : fds[0];
}

/* ---- forms ---- */

static void test_value(void **state)
{
        (void)state;
        brood_value *v = NULL;

        errno = 4711;
        assert_int_equal(brood_value_new(&v, sizeof(double), &(double){ 1.5 }, NULL), 0);
        assert_ptr_equal(brood_value_of(v, double), brood_value_data(v));
        assert_true(*brood_value_of(v, double) == 1.5);
        *brood_value_of(v, double) += 1;
        assert_true(*(double *)brood_value_data(v) == 2.5);
        assert_null(brood_value_of(v, float));
        assert_int_equal(brood_array_count(v), 1);
        assert_int_equal(brood_array_item_size(v), sizeof(double));
        assert_ptr_equal(brood_array_at(v, 0), brood_value_data(v));
        assert_null(brood_array_at(v, 1));
        brood_value_free(v);

        assert_int_equal(brood_value_new(&v, sizeof(long), NULL, &raw), 0);
        assert_int_equal(*brood_value_of(v, long), 0);
        brood_value_free(v);
        assert_int_equal(errno, 4711);
        brood_value_free(NULL);
        assert_null(brood_value_data(NULL));
        assert_null(brood_value_of(NULL, int));
}

struct pixel {
        uint8_t r, g, b;
};

static void test_array(void **state)
{
        (void)state;
        static const size_t counts[] = { 1, 2, 3, 1000, 4096, 100001 };

        for (size_t i = 0; i < array_length(counts); i++) {
                size_t count = counts[i];
                brood_array *a = make(count, sizeof(struct pixel), NULL);
                struct pixel *pixels = brood_array_of(a, struct pixel);
                assert_ptr_equal(pixels, brood_array_data(a));
                assert_int_equal((uintptr_t)pixels % 128, 0);
                assert_int_equal(brood_array_count(a), count);
                assert_int_equal(brood_array_item_size(a), 3);
                for (size_t n = 0; n < count; n++)
                        assert_int_equal(pixels[n].r | pixels[n].g | pixels[n].b, 0);
                memset(pixels, 9, count * sizeof *pixels);
                assert_ptr_equal(brood_array_at(a, count - 1), &pixels[count - 1]);
                assert_null(brood_array_at(a, count));
                assert_null(brood_array_at(a, SIZE_MAX));
                assert_null(brood_array_at(a, SIZE_MAX / 3));
                brood_array_free(a);
        }

        brood_array *a = make(3, sizeof(int), (int[]){ 1, 2, 3 });
        assert_memory_equal(brood_array_data(a), ((int[]){ 1, 2, 3 }), 3 * sizeof(int));
        assert_int_equal(*(int *)brood_array_at(a, 2), 3);
        brood_array_free(a);

        /* Nothing in it, and one large item. */
        a = make(0, sizeof(int), NULL);
        assert_int_equal(brood_array_count(a), 0);
        assert_null(brood_array_at(a, 0));
        brood_array_free(a);
        a = make(0, 4096 - 256, NULL);
        assert_non_null(brood_array_data(a));
        brood_array_free(a);
        a = make(1, 5 << 20, NULL);
        memset(brood_array_data(a), 1, 5 << 20);
        brood_array_free(a);
}

/* There is memory behind all of it, whatever is put beside the items. */
static void test_memory(void **state)
{
        (void)state;
        for (int is_raw = 0; is_raw < 2; is_raw++)
                for (int round = 0; round < 50; round++) {
                        size_t count = support_random(5000), size = 1 + support_random(50);
                        brood_array *a = NULL;
                        struct stat status;
                        assert_int_equal(brood_array_new(&a, count, size, NULL, is_raw ? &raw : NULL), 0);
                        assert_int_equal(fstat(descriptor_of(a), &status), 0);
                        assert_int_equal(status.st_blocks * 512, status.st_size);
                        assert_true((size_t)status.st_size >= 256 + count * size);
                        assert_true((size_t)status.st_size < 256 + count * size + (is_raw ? 4096 : 8256 + 4096));
                        memset(brood_array_data(a), 0xff, count * size);
                        brood_array_free(a);
                }
}

static void test_refused(void **state)
{
        (void)state;
        static const struct {
                size_t count, item_size;
                int error;
        } bad[] = {
                { 1, 0, -EINVAL },
                { 0, 0, -EINVAL },
                { SIZE_MAX, 1, -EINVAL },
                { 1, SIZE_MAX, -EINVAL },
                { (size_t)-1, (size_t)-1, -EINVAL },
                { SIZE_MAX / 2 + 1, 2, -EINVAL },
                { (size_t)1 << 32, (size_t)1 << 32, -EINVAL },
                { BROOD_ARRAY_SIZE_LIMIT, 2, -EINVAL },
                { BROOD_ARRAY_SIZE_LIMIT + 1, 1, -EINVAL },
                { BROOD_ARRAY_SIZE_LIMIT, 1, -ENOMEM }, /* allowed, and more than there is */
        };
        brood_array *untouched = (brood_array *)&bad, *a = untouched;
        int descriptors = support_count_descriptors(), mappings = support_count_shared_mappings();

        for (size_t i = 0; i < array_length(bad); i++)
                assert_int_equal(brood_array_new(&a, bad[i].count, bad[i].item_size, NULL, NULL), bad[i].error);
        assert_int_equal(brood_array_new(NULL, 1, 1, NULL, NULL), -EINVAL);
        assert_int_equal(brood_value_new(NULL, 1, NULL, NULL), -EINVAL);
        assert_int_equal(brood_value_new(&a, 0, NULL, NULL), -EINVAL);
        struct {
                brood_array_options known;
                int more[5];
        } newer = { .more = { 1 } };
        assert_int_equal(brood_array_new_sized(&a, 1, 1, NULL, &newer.known, sizeof newer), -E2BIG);
        struct rlimit before = check_descriptors_exhaust();
        int r = brood_array_new(&a, 1, 1, NULL, NULL);
        check_descriptors_restore(&before);
        assert_int_equal(r, -EMFILE);
        assert_ptr_equal(a, untouched);
        assert_int_equal(support_count_descriptors(), descriptors);
        assert_int_equal(support_count_shared_mappings(), mappings);

        brood_array_free(NULL);
        assert_null(brood_array_data(NULL));
        assert_null(brood_array_at(NULL, 0));
        assert_null(brood_array_of(NULL, char));
        assert_int_equal(brood_array_count(NULL), 0);
        assert_int_equal(brood_array_item_size(NULL), 0);
        int fds[1] = { 77 };
        assert_int_equal(brood_array_descriptors(NULL, fds), -EINVAL);
        assert_int_equal(fds[0], 77);
        assert_int_equal(brood_array_attach(NULL, fds, 0), -EINVAL);
        assert_int_equal(brood_array_attach(&a, NULL, 0), -EINVAL);
        a = make(1, 1, NULL);
        assert_int_equal(brood_array_descriptors(a, NULL), -EINVAL);
        brood_array_free(a);
}

static void test_many(void **state)
{
        (void)state;
        enum { MANY = 1000, OTHERS = 50 };
        struct rlimit before, raised;
        static brood_value *many[MANY];
        int descriptors = support_count_descriptors();

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        raised = before;
        if (raised.rlim_cur < MANY + OTHERS)
                raised.rlim_cur = MANY + OTHERS < before.rlim_max ? MANY + OTHERS : before.rlim_max;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &raised), 0);
        size_t count = raised.rlim_cur < MANY + OTHERS ? raised.rlim_cur - OTHERS : MANY;
        for (size_t i = 0; i < count; i++)
                many[i] = make(1, sizeof i, &i);
        for (size_t i = 0; i < count; i++)
                assert_int_equal(*brood_value_of(many[i], size_t), i);
        for (size_t i = 0; i < count; i++)
                brood_value_free(many[i]);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(support_count_descriptors(), descriptors);
}

/* ---- shared ---- */

struct work {
        brood_value *number;
        brood_array *array;
};

/* The example of multiprocessing's documentation. */
static int change_both(void *arg)
{
        struct work *work = arg;

        *brood_value_of(work->number, double) = 3.1415927;
        int *numbers = brood_array_of(work->array, int);
        for (size_t i = 0; i < brood_array_count(work->array); i++)
                numbers[i] = -numbers[i];
        brood_array_free(work->array); /* the child's own handle */
        return 0;
}

static void test_processes(void **state)
{
        (void)state;
        for (int forked = 0; forked < 2; forked++) {
                int numbers[10], negative[10];
                for (int i = 0; i < 10; i++)
                        negative[i] = -(numbers[i] = i);
                struct work work = { make(1, sizeof(double), NULL), make(10, sizeof(int), numbers) };
                if (forked) {
                        check_in_child(change_both, &work);
                } else {
                        brood_process *p = NULL;
                        brood_process_options options = { .target = change_both, .arg = &work };
                        int code = -1;
                        assert_int_equal(brood_process_new(&p, &options), 0);
                        assert_int_equal(brood_process_start(p), 0);
                        assert_int_equal(brood_process_join(p, CHECK_HANG_MS), 0);
                        assert_int_equal(brood_process_exitcode(p, &code), 0);
                        assert_int_equal(code, 0);
                        brood_process_free(p);
                }
                assert_true(*brood_value_of(work.number, double) == 3.1415927);
                assert_memory_equal(brood_array_data(work.array), negative, sizeof negative);
                brood_value_free(work.number);
                brood_array_free(work.array);
        }
}

enum { COUNTERS = 4, COUNTS = 50000 };

static int count(void *arg)
{
        for (int i = 0; i < COUNTS; i++) {
                brood_atomic_fetch_add(brood_value_of(arg, uint64_t), 1);
                brood_atomic_fetch_add(&brood_array_of(arg, uint64_t)[0], 2);
        }
        return 0;
}

static void test_counters_add_up(void **state)
{
        (void)state;
        brood_value *v = make(1, sizeof(uint64_t), NULL);
        pid_t pids[COUNTERS];

        for (int i = 0; i < COUNTERS; i++)
                pids[i] = check_start(count, v);
        for (int i = 0; i < COUNTERS; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        assert_int_equal(brood_atomic_load(brood_value_of(v, uint64_t)), 3 * COUNTERS * COUNTS);
        brood_value_free(v);
}

/* ---- descriptors ---- */

/* In a process that has only the descriptor. */
static int use_attached(int fd)
{
        brood_array *a = NULL;

        require_int(brood_array_attach(&a, &fd, sizeof(short)), -EINVAL);
        require(a == NULL);
        require_int(brood_array_attach(&a, &fd, 0), 0);
        require_int(brood_array_item_size(a), sizeof(int));
        brood_array_free(a);
        require_int(brood_array_attach(&a, &fd, sizeof(int)), 0);
        require_int(brood_array_count(a), 3);
        require(descriptor_of(a) != fd);
        require(fcntl(descriptor_of(a), F_GETFD) & FD_CLOEXEC);
        require_int(brood_array_of(a, int)[1], 2);
        brood_array_of(a, int)[1] = 20;
        return 0; /* without a free: as one that dies */
}

static void test_passed_on(void **state)
{
        (void)state;
        for (int how = 0; how < 2; how++) {
                brood_array *a = make(3, sizeof(int), (int[]){ 1, 2, 3 });
                int fd = descriptor_of(a);

                assert_int_equal(how == 0 ? handed_across_exec(fd) : handed_by_message(fd, use_attached), 0);
                assert_memory_equal(brood_array_data(a), ((int[]){ 1, 20, 3 }), 3 * sizeof(int));
                brood_array_free(a);
        }
}

/* ---- what is not ours ---- */

enum {
        HEAD_VERSION = 8,
        HEAD_KIND = 12,
        HEAD_LAYOUT = 16,
        HEAD_SIZE = 24,
        OWN_COUNT = 64,
        OWN_ITEM = 72,
        OWN_RAW = 80
};

/* Attach, and if that succeeds: whatever it says can be used. */
static int attach_to(int fd)
{
        brood_array *untouched = (brood_array *)&fd, *a = untouched;
        int before = support_count_descriptors();
        int r = brood_array_attach(&a, &fd, 0);

        if (r == 0) {
                size_t count = brood_array_count(a), size = brood_array_item_size(a);
                assert_true(size > 0);
                if (count > 0)
                        ((unsigned char *)brood_array_at(a, count - 1))[size - 1] ^= 1;
                brood_array_free(a);
        } else {
                assert_ptr_equal(a, untouched);
        }
        assert_int_equal(support_count_descriptors(), before);
        return r;
}

static void test_attach_refuses(void **state)
{
        (void)state;
        for (int is_raw = 0; is_raw < 2; is_raw++) {
                brood_array *a = NULL;
                assert_int_equal(brood_array_new(&a, 1000, 8, NULL, is_raw ? &raw : NULL), 0);
                int fd = descriptor_of(a), pipes[2];

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
                brood_array *other = NULL;
                int r = brood_array_attach(&other, &fd, 0);
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
                        { 0, ALL_SEALS | F_SEAL_WRITE, -EPERM },
                        { 4096, ALL_SEALS, -EUCLEAN },
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
                        { HEAD_KIND, 16, 4, -EUCLEAN },
                        { HEAD_LAYOUT, 7, 8, -EPROTONOSUPPORT },
                        { HEAD_SIZE, UINT64_MAX, 8, -EUCLEAN },
                        { OWN_COUNT, UINT64_MAX, 8, -EUCLEAN },
                        { OWN_COUNT, (uint64_t)1 << 61, 8, -EUCLEAN },
                        { OWN_COUNT, 1001, 8, -EPROTONOSUPPORT },
                        { OWN_ITEM, 0, 8, -EUCLEAN },
                        { OWN_ITEM, UINT64_MAX, 8, -EUCLEAN },
                        { OWN_ITEM, 9, 8, -EPROTONOSUPPORT },
                };
                for (size_t i = 0; i < array_length(patches); i++) {
                        int copy = handed_patched(fd, patches[i].at, patches[i].value, patches[i].bytes);
                        assert_int_equal(attach_to(copy), patches[i].error);
                        close(copy);
                }
                int copy = handed_patched(fd, OWN_RAW, !is_raw, 4);
                assert_int_equal(attach_to(copy), -EPROTONOSUPPORT);
                close(copy);
                brood_array_free(a);
        }
}

/* Zeros, noise, too little for a head; and noise within what is right. */
static void test_attach_to_noise(void **state)
{
        (void)state;
        static const off_t sizes[] = { 0, 1, 63, 64, 127, 128, 255, 256, 4096, 1 << 20 };
        brood_array *a = make(1000, 8, NULL);
        int refused = 0;

        for (size_t i = 0; i < array_length(sizes); i++)
                for (int noise = 0; noise < 2; noise++) {
                        int fd = handed_noise(sizes[i], noise);
                        assert_int_equal(attach_to(fd), -EUCLEAN);
                        close(fd);
                }
        for (int round = 0; round < support_rounds(2000); round++) {
                int copy = handed_copy(descriptor_of(a), 0, ALL_SEALS);
                handed_tamper(copy, support_random(2) ? 96 : 256);
                int r = attach_to(copy);
                assert_true(r == 0 || r == -EUCLEAN || r == -EPROTONOSUPPORT);
                refused += r != 0;
                close(copy);
        }
        assert_true(refused > 0);
        brood_array_free(a);
}

/* ---- the lock that goes with the items ---- */

struct sum {
        uint64_t a, b; /* always the same, while nobody holds the lock */
};

enum { ADDERS = 3, ADDED = 20000 };

static void add(brood_value *v)
{
        assert_int_equal(brood_lock_acquire(brood_value_lock(v), BROOD_FOREVER), 0);
        brood_value_of(v, struct sum)->a++;
        assert_int_equal(brood_lock_acquire(brood_value_lock(v), 0), 0); /* it is an RLock */
        brood_value_of(v, struct sum)->b++;
        assert_int_equal(brood_lock_release(brood_value_lock(v)), 0);
        assert_int_equal(brood_lock_release(brood_value_lock(v)), 0);
}

/* One forked child uses the handle that it has, the other attaches. */
static void test_lock(void **state)
{
        (void)state;
        brood_value *v = NULL;
        assert_int_equal(brood_value_new(&v, sizeof(struct sum), NULL, NULL), 0);
        pid_t pids[ADDERS];
        for (int i = 0; i < ADDERS; i++) {
                pids[i] = fork();
                if (pids[i] != 0)
                        continue;
                int fd = descriptor_of(v);
                brood_value *mine = v;
                if (i % 2 == 1)
                        assert_int_equal(brood_array_attach(&mine, &fd, sizeof(struct sum)), 0);
                for (int n = 0; n < ADDED; n++)
                        add(mine);
                _exit(0);
        }
        for (int i = 0; i < ADDERS; i++) {
                int status;
                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_int_equal(status, 0);
        }
        assert_int_equal(brood_value_of(v, struct sum)->a, ADDERS * ADDED);
        assert_int_equal(brood_value_of(v, struct sum)->b, ADDERS * ADDED);
        brood_value_free(v);
}

static void test_lock_of_the_dead(void **state)
{
        (void)state;
        brood_value *v = NULL;
        assert_int_equal(brood_value_new(&v, sizeof(struct sum), NULL, NULL), 0);
        pid_t pid = fork();
        if (pid == 0) {
                brood_lock_acquire(brood_value_lock(v), BROOD_FOREVER);
                brood_value_of(v, struct sum)->a++;
                kill(getpid(), SIGKILL);
        }
        brood_death death;
        while (brood_lock_locked(brood_value_lock(v)) == 0)
                sched_yield();
        assert_int_equal(brood_lock_acquire(brood_value_lock(v), 20000), BROOD_HOLDER_DIED);
        assert_int_equal(brood_lock_death(brood_value_lock(v), &death), 0);
        assert_int_equal(death.pid, pid);
        assert_int_equal(death.exitcode, -SIGKILL);
        brood_value_of(v, struct sum)->b = brood_value_of(v, struct sum)->a;
        assert_int_equal(brood_lock_consistent(brood_value_lock(v)), 0);
        assert_int_equal(brood_lock_release(brood_value_lock(v)), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        add(v);
        brood_value_free(v);
}

static void test_lock_is_the_arrays(void **state)
{
        (void)state;
        brood_value *v = NULL;
        brood_condition *condition = NULL;
        int fd = -1;
        assert_null(brood_array_lock(NULL));
        assert_int_equal(brood_value_new(&v, 1, NULL, &raw), 0);
        assert_null(brood_value_lock(v));
        brood_value_free(v);
        assert_int_equal(brood_value_new(&v, 1, NULL, NULL), 0);
        brood_lock_free(brood_value_lock(v)); /* does nothing */
        assert_int_equal(brood_lock_acquire(brood_value_lock(v), 0), 0);
        assert_int_equal(brood_lock_descriptors(brood_value_lock(v), &fd), -EINVAL);
        assert_int_equal(fd, -1);
        assert_int_equal(brood_condition_new(&condition, brood_value_lock(v)), -EINVAL);
        brood_value_free(v); /* with the lock in our hands */
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_value),
                support_test(test_array),
                support_test(test_memory),
                support_test(test_refused),
                support_test(test_many),
                support_test(test_processes),
                support_test(test_counters_add_up),
                support_test(test_passed_on),
                support_test(test_attach_refuses),
                support_test(test_attach_to_noise),
                support_test(test_lock),
                support_test(test_lock_of_the_dead),
                support_test(test_lock_is_the_arrays),
        };
        handed_main(argc, argv, use_attached);
        return support_main(argc, argv, "value", tests, array_length(tests), 60);
}
