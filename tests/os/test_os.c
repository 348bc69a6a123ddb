/* SPDX-License-Identifier: MIT
 *
 * tests/os/test_os.c: the small files of the room that make system calls: each does what its header says, also
 * where the kernel says no, and none of them touches errno.
 */
#include "os.h"

#include "os/child.h"
#include "os/cpu.h"
#include "os/futex.h"
#include "os/hugepages.h"
#include "os/identity.h"
#include "os/lifeline.h"
#include "os/memfd.h"
#include "os/module.h"
#include "os/options.h"
#include "os/poller.h"
#include "os/signals.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* ---- clock ---- */

static void test_deadlines(void **state)
{
        (void)state;
        assert_true(deadline_after_ms(-1) == DEADLINE_NEVER);
        assert_true(deadline_after_ms(INT_MIN) == DEADLINE_NEVER);
        assert_true(deadline_after_ms(0) == DEADLINE_NOW);
        int64_t before = clock_now(), deadline = deadline_after_ms(1000), after = clock_now();
        assert_true(deadline >= before + 1000 * NS_PER_MS && deadline <= after + 1000 * NS_PER_MS);
        assert_true(deadline_after_ms(INT_MAX) > clock_now());

        assert_int_equal(deadline_left_ms(DEADLINE_NEVER), -1);
        assert_int_equal(deadline_left_ms(DEADLINE_NOW), 0);
        assert_int_equal(deadline_left_ms(clock_now() - 1), 0);
        assert_int_equal(deadline_left_ms(clock_now() + (int64_t)INT_MAX * NS_PER_S), INT_MAX);
        /* Rounded up: a poll of 0 ms before the deadline would be a loop that burns a CPU. */
        int64_t near = clock_now() + 100 * NS_PER_MS;
        int left = deadline_left_ms(near);
        assert_in_range(left, 1, 100);
        assert_true(clock_now() + left * NS_PER_MS >= near);

        assert_true(deadline_slice(DEADLINE_NOW, NS_PER_MS) == DEADLINE_NOW);
        assert_true(deadline_slice(near, 1000 * NS_PER_S) == near);
        int64_t slice = deadline_slice(DEADLINE_NEVER, NS_PER_S);
        assert_true(slice > clock_now() && slice <= clock_now() + NS_PER_S);

        assert_int_equal(deadline_timespec(DEADLINE_NOW).tv_sec, 0);
        assert_int_equal(deadline_timespec(DEADLINE_NOW).tv_nsec, 0);
        assert_int_equal(deadline_timespec(5 * NS_PER_S + 7).tv_sec, 5);
        assert_int_equal(deadline_timespec(5 * NS_PER_S + 7).tv_nsec, 7);
}

/* ---- futex ---- */

static atomic_u32 word_a, word_b;

static void test_futex_wait(void **state)
{
        (void)state;
        store_seq_cst(&word_a, 5);
        assert_int_equal(futex_wait(&word_a, 6, DEADLINE_NEVER), -EAGAIN);
        assert_int_equal(futex_wait(&word_a, 5, DEADLINE_NOW), -ETIMEDOUT);
        assert_int_equal(futex_wait(&word_a, 5, clock_now() - 1), -ETIMEDOUT);
        int64_t deadline = in_ms(30);
        assert_int_equal(futex_wait(&word_a, 5, deadline), -ETIMEDOUT);
        assert_true(clock_now() >= deadline);
        assert_int_equal(futex_wake(&word_a, INT_MAX), 0);

        interrupt_often(true);
        int r = futex_wait(&word_a, 5, in_ms(CHECK_HANG_MS));
        interrupt_often(false);
        assert_int_equal(r, -EINTR);
}

struct waiter {
        atomic_u32 *a, *b; /* b NULL: futex_wait */
        int64_t deadline;
};

/* Waits until one of the words is not 0. */
static int wait_for_change(void *arg)
{
        struct waiter *waiter = arg;

        while (load_seq_cst(waiter->a) == 0 && (waiter->b == NULL || load_seq_cst(waiter->b) == 0)) {
                int r = waiter->b == NULL ? futex_wait(waiter->a, 0, waiter->deadline)
                                          : futex_wait_either(waiter->a, 0, waiter->b, 0, waiter->deadline);
                require(r == 0 || r == -EAGAIN || r == -EINTR);
        }
        return 0;
}

/* Wake until as many sleepers as there are have been met. */
static bool wake_until(atomic_u32 *word, int wanted, int at_once)
{
        int woken = 0;

        for (int64_t end = support_now_ms() + CHECK_HANG_MS; woken < wanted && support_now_ms() < end; usleep(200)) {
                int n = futex_wake(word, at_once);
                if (n < 0 || n > at_once)
                        return false;
                woken += n;
        }
        return woken == wanted;
}

static int sleep_once(void *arg)
{
        (void)arg;
        int r;

        do
                r = futex_wait(&word_a, 0, in_ms(CHECK_HANG_MS));
        while (r == -EINTR);
        return -r;
}

static void test_futex_wake_counts(void **state)
{
        (void)state;
        struct check_thread threads[3];

        store_seq_cst(&word_a, 0);
        for (int i = 0; i < 3; i++)
                check_thread_start(&threads[i], sleep_once, NULL);
        assert_true(wake_until(&word_a, 3, 1));
        for (int i = 0; i < 3; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
}

/* Waking reaches other processes, where the word is mapped elsewhere. */
static void test_futex_between_processes(void **state)
{
        (void)state;
        atomic_u32 *word = check_shared(4096);
        struct waiter waiter = { word, NULL, DEADLINE_NEVER };

        pid_t pid = check_start(wait_for_change, &waiter);
        assert_true(check_asleep(pid));
        store_seq_cst(word, 1);
        assert_true(wake_until(word, 1, INT_MAX));
        assert_int_equal(check_wait(pid), 0);
        munmap(word, 4096);
}

static void wait_either_all_ways(void)
{
        store_seq_cst(&word_a, 1);
        store_seq_cst(&word_b, 2);
        assert_int_equal(futex_wait_either(&word_a, 0, &word_b, 2, DEADLINE_NEVER), -EAGAIN);
        assert_int_equal(futex_wait_either(&word_a, 1, &word_b, 0, DEADLINE_NEVER), -EAGAIN);
        assert_int_equal(futex_wait_either(&word_a, 1, &word_b, 2, DEADLINE_NOW), -ETIMEDOUT);

        /* Shorter and longer than a slice of the fallback. */
        for (int ms = 5; ms <= 65; ms += 60) {
                int64_t deadline = in_ms(ms);
                int r, looks = 0;
                while ((r = futex_wait_either(&word_a, 1, &word_b, 2, deadline)) == 0)
                        assert_in_range(++looks, 1, 20);
                assert_int_equal(r, -ETIMEDOUT);
                assert_true(clock_now() >= deadline);
        }

        /* A change of either ends a wait. */
        for (int i = 0; i < 2; i++) {
                atomic_u32 *words = check_shared(4096), *changed = &words[i];
                struct waiter waiter = { &words[0], &words[1], DEADLINE_NEVER };
                pid_t pid = check_start(wait_for_change, &waiter);

                assert_true(check_asleep(pid));
                store_seq_cst(changed, 1);
                futex_wake(changed, INT_MAX);
                assert_int_equal(check_wait_for(pid, CHECK_HANG_MS), 0);
                munmap(words, 4096);
        }
}

static void test_futex_wait_either(void **state)
{
        (void)state;
        wait_either_all_ways();
        futex_force_fallback(true);
        int64_t start = clock_now();
        /* The fallback sees only one word: it must not sleep for long. */
        assert_int_equal(futex_wait_either(&word_a, 1, &word_b, 2, DEADLINE_NEVER), 0);
        assert_true(clock_now() - start >= FUTEX_FALLBACK_SLICE - NS_PER_MS);
        wait_either_all_ways();
        futex_force_fallback(false);
}

/* A kernel that does not know futex_waitv, or a sandbox that refuses what it does not know: sleep all the same. */
static int wait_where_refused(void *arg)
{
        int error = *(int *)arg;
        struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 449, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { .len = array_length(code), .filter = code };

        require_int(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                return 77;
        int64_t deadline = in_ms(100);
        int r, looks = 0;
        while ((r = futex_wait_either(&word_a, 1, &word_b, 2, deadline)) == 0)
                require(++looks < 20);
        require_int(r, -ETIMEDOUT);
        require(clock_now() >= deadline);
        require_int(futex_wait_either(&word_a, 1, &word_b, 0, DEADLINE_NEVER), -EAGAIN);
        return 0;
}

static void test_futex_waitv_refused(void **state)
{
        (void)state;
        static int errors[] = { ENOSYS, EPERM };

        store_seq_cst(&word_a, 1);
        store_seq_cst(&word_b, 2);
        for (size_t i = 0; i < array_length(errors); i++) {
                int code = check_wait(check_start(wait_where_refused, &errors[i]));
                if (code == 77)
                        skip();
                assert_int_equal(code, 0);
        }
}

/* ---- memory ---- */

static void test_memfd(void **state)
{
        (void)state;
        size_t page = memory_page_size(), size = 64 * page;
        struct stat status;

        int fd = memfd_new("test", size, 4 * page);
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(fstat(fd, &status), 0);
        assert_int_equal(status.st_size, size);
        assert_true((size_t)status.st_blocks * 512 >= 4 * page);
        assert_true((size_t)status.st_blocks * 512 < size);

        assert_int_equal(memfd_commit(fd, 8 * page, 0), 0);
        assert_int_equal(memfd_commit(fd, 8 * page, 8 * page), 0);
        assert_int_equal(fstat(fd, &status), 0);
        assert_true((size_t)status.st_blocks * 512 >= 12 * page);

        /* Whoever gets hold of it can neither cut it from under us nor blow it up, nor take that back. */
        assert_int_equal(ftruncate(fd, (off_t)page), -1);
        assert_int_equal(errno, EPERM);
        assert_int_equal(ftruncate(fd, (off_t)(2 * size)), -1);
        assert_int_equal(errno, EPERM);
        int seals = fcntl(fd, F_GET_SEALS);
        assert_int_equal(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
                         F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);

        /* Two mappings show one memory. */
        void *one, *two;
        assert_int_equal(memory_map(fd, size, &one), 0);
        assert_int_equal(memory_map(fd, size, &two), 0);
        assert_ptr_not_equal(one, two);
        memset(one, 7, size);
        assert_memory_equal(one, two, size);
        memory_unmap(one, size);
        memory_unmap(two, size);

        assert_int_equal(memfd_commit(fd, 2 * size, page), -EPERM); /* it would grow */
        close(fd);
        assert_int_equal(memfd_commit(-1, 0, page), -EBADF);
        void *untouched = &fd;
        assert_true(memory_map(1 << 20, page, &untouched) < 0);
        assert_ptr_equal(untouched, &fd);
}

static void test_memfd_refused(void **state)
{
        (void)state;
        need_pidfds();
        assert_int_equal(memfd_new("test", SIZE_MAX, 0), -E2BIG);
        int descriptors = support_count_descriptors();
        struct rlimit before = check_descriptors_exhaust();
        int r[] = { memfd_new("test", 4096, 4096), eventfd_new(), poller_new(), pidfd_of(getpid()) };
        struct lifeline line = LIFELINE_NONE;
        int opened = lifeline_open(&line);
        bool alive = identity_is_alive((struct identity){ .pid = getpid() });
        check_descriptors_restore(&before);
        for (size_t i = 0; i < array_length(r); i++)
                assert_int_equal(r[i], -EMFILE);
        assert_int_equal(opened, -EMFILE);
        assert_int_equal(line.read_end, -1);
        assert_true(alive); /* no proof of death */
        assert_int_equal(support_count_descriptors(), descriptors);
}

/* What no machine has is refused at once; what any machine has is not. */
static void test_memory_ask(void **state)
{
        (void)state;
        assert_int_equal(memory_ask(0), 0);
        assert_int_equal(memory_ask(20 << 20), 0);
        assert_int_equal(memory_ask((size_t)1 << 46), -ENOMEM);
        assert_int_equal(memory_ask(SIZE_MAX), -ENOMEM);
        assert_int_equal(memory_ask((size_t)sysconf(_SC_PHYS_PAGES) * memory_page_size() / 100), 0);
}

static void test_huge_pages(void **state)
{
        (void)state;
        size_t size = 1, page = memory_page_size();
        void *memory;

        /* Most machines have none set aside. */
        int fd = memfd_new_huge("test", &size, 1);
        assert_true(fd >= 0 || fd == -ENOMEM || fd == -EOPNOTSUPP);
        if (fd >= 0) {
                assert_true(size > page);
                assert_int_equal(memory_map(fd, size, &memory), 0);
                memset(memory, 1, size);
                assert_int_equal(hugepages_mapped(memory, size), size);
                memory_unmap(memory, size);
                close(fd);
        }

        /* Advice changes nothing but the pages, and needs no address at the beginning of one. */
        fd = memfd_new("test", 8 * page, 0);
        assert_int_equal(memory_map(fd, 8 * page, &memory), 0);
        hugepages_advise(memory, 8 * page);
        *(char *)memory = 7;
        hugepages_touch((char *)memory + 1, 3 * page);
        hugepages_touch(memory, 0);
        assert_int_equal(*(char *)memory, 7);
        struct stat status;
        assert_int_equal(fstat(fd, &status), 0);
        assert_true((size_t)status.st_blocks * 512 >= 4 * page);
        assert_int_equal(hugepages_mapped(memory, 8 * page), 0); /* too small for one */
        memory_unmap(memory, 8 * page);
        close(fd);
}

/* Memory that goes back to the kernel: whole pages of it, and for everybody. */
static void test_memfd_release(void **state)
{
        (void)state;
        size_t page = memory_page_size(), size = 8 * page;
        struct stat status;
        unsigned char *bytes;
        void *memory;

        int fd = memfd_new("test", size, size);
        assert_true(fd >= 0);
        assert_int_equal(memory_map(fd, size, &memory), 0);
        bytes = memory;
        memset(bytes, 7, size);
        assert_int_equal(memfd_release(fd, 0, 0), 0);
        assert_int_equal(memfd_release(fd, 2 * page, 3 * page), 0);
        assert_int_equal(fstat(fd, &status), 0);
        assert_int_equal((size_t)status.st_blocks * 512, 5 * page);
        assert_int_equal(status.st_size, size);
        for (size_t i = 0; i < size; i++)
                assert_int_equal(bytes[i], i / page >= 2 && i / page < 5 ? 0 : 7);
        /* It can have memory again. */
        assert_int_equal(memfd_commit(fd, 2 * page, page), 0);
        bytes[2 * page] = 1;
        assert_int_equal(memfd_release(-1, 0, page), -EBADF);
        memory_unmap(memory, size);
        close(fd);
}

static void test_memfd_check(void **state)
{
        (void)state;
        size_t size = 4711;
        int pipes[2];

        int fd = memfd_new("test", 3 * memory_page_size(), 0);
        assert_int_equal(memfd_check(fd, &size), 0);
        assert_int_equal(size, 3 * memory_page_size());
        close(fd);
        size = 4711;
        assert_int_equal(memfd_check(-1, &size), -EBADF);
        assert_int_equal(memfd_check(fd, &size), -EBADF);
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        assert_int_equal(memfd_check(pipes[0], &size), -EINVAL);
        close(pipes[0]);
        close(pipes[1]);
        fd = eventfd_new();
        assert_int_equal(memfd_check(fd, &size), -EINVAL);
        close(fd);
        fd = memfd_create("test", MFD_CLOEXEC);
        assert_int_equal(memfd_check(fd, &size), -EPERM); /* it cannot be sealed at all */
        close(fd);
        fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
        assert_int_equal(memfd_check(fd, &size), -EPERM);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
        assert_int_equal(size, 4711);
        assert_int_equal(memfd_check(fd, &size), 0);
        assert_int_equal(size, 0);
        close(fd);
}

static int write_a_byte(void *arg)
{
        *(unsigned char *)arg = 9;
        return 0;
}

static void test_anonymous_memory(void **state)
{
        (void)state;
        void *memory;

        assert_int_equal(memory_map(-1, 4096, &memory), 0);
        check_in_child(write_a_byte, memory);
        assert_int_equal(*(unsigned char *)memory, 9);
        memory_unmap(memory, 4096);
}

/* ---- descriptors ---- */

static int same_id(void *arg)
{
        const int64_t *known = arg;
        require(eventfd_id((int)known[0]) == known[1]);
        return 0;
}

static void test_counting_eventfds(void **state)
{
        (void)state;
        int fd = eventfd_new_counting(), other = eventfd_new(), copy = descriptor_duplicate(fd);

        assert_true(fd >= 0 && other >= 0 && copy >= 0 && copy != fd);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(copy, F_GETFD) & FD_CLOEXEC);
        assert_false(descriptor_readable(fd));
        eventfd_lower(fd); /* does not wait */
        for (int i = 0; i < 3; i++)
                eventfd_raise(i == 1 ? copy : fd);
        for (int i = 0; i < 3; i++) {
                assert_true(descriptor_readable(copy));
                eventfd_lower(fd);
        }
        assert_false(descriptor_readable(fd));

        /* One event has one number, under all its descriptors and in every process. */
        int64_t known[2] = { fd, eventfd_id(fd) };
        assert_true(known[1] >= 0);
        assert_int_equal(eventfd_id(copy), known[1]);
        assert_int_not_equal(eventfd_id(other), known[1]);
        check_in_child(same_id, known);
        close(other);
        assert_int_equal(eventfd_id(other), -EBADF);
        assert_int_equal(eventfd_id(-1), -EBADF);
        assert_int_equal(descriptor_duplicate(-1), -EBADF);
        assert_false(descriptor_readable(-1));
        int memory = memfd_new("test", 4096, 0);
        assert_int_equal(eventfd_id(memory), -EINVAL);
        close(memory);
        close(copy);
        close(fd);
}

static void test_descriptors(void **state)
{
        (void)state;
        char text[64];

        int fd = eventfd_new();
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        assert_int_equal(poll(&p, 1, 0), 0);
        eventfd_lower(fd); /* does not wait */
        eventfd_raise(fd);
        eventfd_raise(fd);
        assert_int_equal(poll(&p, 1, 0), 1);
        eventfd_lower(fd);
        assert_int_equal(poll(&p, 1, 0), 0);
        descriptor_close(&fd);
        assert_int_equal(fd, -1);
        descriptor_close(&fd);

        assert_int_equal(file_read("/proc/self/nothing", text, sizeof text), -ENOENT);
        assert_int_equal(file_read("/proc/self", text, sizeof text), -EISDIR);
        assert_int_equal(file_read("/proc/self/stat", text, 5), 4);
        assert_int_equal(strlen(text), 4);
        ssize_t n = file_read("/proc/self/comm", text, sizeof text);
        assert_true(n > 0 && (size_t)n == strlen(text));
}

/* In a child: closed are those of the set, and no other. */
static void test_descriptor_set(void **state)
{
        (void)state;
        enum { COUNT = 150 };
        struct descriptor_set set = { 0 };
        int fds[COUNT];
        bool in[COUNT];

        descriptor_set_close(&set);
        descriptor_set_remove(&set, -1);
        descriptor_set_remove(&set, 3);
        for (int i = 0; i < COUNT; i++) {
                fds[i] = eventfd_new();
                assert_true(fds[i] >= 0);
                in[i] = i < 100 ? i % 32 != 0 : support_random(2) == 0;
                assert_int_equal(descriptor_set_add(&set, fds[i]), 0);
                if (!in[i])
                        descriptor_set_remove(&set, fds[i]);
        }
        pid_t pid = fork();
        if (pid == 0) {
                descriptor_set_close(&set);
                for (int i = 0; i < COUNT; i++)
                        if (descriptor_is_open(fds[i]) == in[i])
                                _exit(1);
                _exit(descriptor_is_open(STDERR_FILENO) ? 0 : 2);
        }
        int status = -1;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);

        /* One becomes another under its own number. */
        int number = fds[0], other = fds[1];
        int64_t id = eventfd_id(other);
        assert_int_equal(descriptor_become(number, &fds[1]), 0);
        assert_int_equal(fds[1], -1);
        assert_false(descriptor_is_open(other));
        assert_int_equal(eventfd_id(number), id);
        assert_true(fcntl(number, F_GETFD) & FD_CLOEXEC);
        int bad = -1;
        assert_int_equal(descriptor_become(number, &bad), -EBADF);
        assert_int_equal(eventfd_id(number), id);
        for (int i = 0; i < COUNT; i++)
                descriptor_close(&fds[i]);
        free(set.words);
}

static void test_poller(void **state)
{
        (void)state;
        void *ready[4];
        int one = eventfd_new(), two = eventfd_new(), poller = poller_new();

        assert_true(one >= 0 && two >= 0 && poller >= 0);
        assert_true(fcntl(poller, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(poller_add(poller, one, &one), 0);
        assert_int_equal(poller_add(poller, one, &one), -EEXIST);
        assert_int_equal(poller_add(poller, two, &two), 0);
        assert_int_equal(poller_wait(poller, ready, 4, DEADLINE_NOW), -EAGAIN);
        int64_t deadline = in_ms(35);
        interrupt_often(true);
        int r = poller_wait(poller, ready, 4, deadline);
        interrupt_often(false);
        assert_int_equal(r, -ETIMEDOUT);
        assert_true(clock_now() >= deadline);

        eventfd_raise(two);
        assert_int_equal(poller_wait(poller, ready, 4, DEADLINE_NEVER), 1);
        assert_ptr_equal(ready[0], &two);
        eventfd_raise(one);
        assert_int_equal(poller_wait(poller, ready, 1, DEADLINE_NEVER), 1);
        assert_int_equal(poller_wait(poller, ready, 4, DEADLINE_NEVER), 2);
        assert_true((ready[0] == &one && ready[1] == &two) || (ready[0] == &two && ready[1] == &one));
        poller_remove(poller, two);
        poller_remove(poller, two);
        assert_int_equal(poller_wait(poller, ready, 4, DEADLINE_NEVER), 1);
        assert_ptr_equal(ready[0], &one);
        poller_remove(poller, one);

        /* Once, though this descriptor is closed meanwhile; and no more when all copies are. */
        for (int copies = 1; copies >= 0; copies--) {
                int fd = eventfd_new(), copy = copies > 0 ? descriptor_duplicate(fd) : -1;
                assert_int_equal(poller_add_once(poller, fd, &copy), 0);
                if (copies == 0)
                        eventfd_raise(fd);
                descriptor_close(&fd);
                assert_int_equal(poller_wait(poller, ready, 4, DEADLINE_NOW), -EAGAIN);
                if (copies > 0) {
                        eventfd_raise(copy);
                        assert_int_equal(poller_wait(poller, ready, 4, DEADLINE_NEVER), 1);
                        assert_ptr_equal(ready[0], &copy);
                }
                assert_int_equal(poller_wait(poller, ready, 4, DEADLINE_NOW), -EAGAIN);
                descriptor_close(&copy);
        }
        close(poller);
        close(one);
        close(two);
}

static void test_poll_readable(void **state)
{
        (void)state;
        int fds[40];
        unsigned char ready[40];

        for (int i = 0; i < 40; i++)
                fds[i] = i % 3 == 0 ? -1 : eventfd_new();
        static const size_t counts[] = { 4, 16, 17, 40 }; /* on the stack and on the heap */
        for (size_t c = 0; c < array_length(counts); c++) {
                size_t count = counts[c];
                int64_t deadline = in_ms(25);
                memset(ready, 9, sizeof ready);
                assert_int_equal(poll_readable(fds, count, ready, DEADLINE_NOW), 0);
                interrupt_often(true);
                int r = poll_readable(fds, count, ready, deadline);
                interrupt_often(false);
                assert_int_equal(r, 0);
                assert_true(clock_now() >= deadline);
                eventfd_raise(fds[1]);
                eventfd_raise(fds[count - 1 - (fds[count - 1] < 0)]);
                assert_int_equal(poll_readable(fds, count, ready, DEADLINE_NEVER), 2);
                for (size_t i = 0; i < count; i++)
                        assert_int_equal(ready[i], i == 1 || i == count - 1 - (fds[count - 1] < 0));
                if (count < array_length(ready))
                        assert_int_equal(ready[count], 9);
                for (size_t i = 0; i < count; i++)
                        if (fds[i] >= 0)
                                eventfd_lower(fds[i]);
        }
        for (int i = 0; i < 40; i++)
                descriptor_close(&fds[i]);
}

/* ---- options ---- */

static void test_options_read(void **state)
{
        (void)state;
        unsigned char known[8], given[16] = { 1, 2, 3, 4, 5, 6, 7, 8 };

        memset(known, 9, sizeof known);
        assert_int_equal(options_read(known, 8, NULL, 16), 0);
        assert_memory_equal(known, ((unsigned char[8]){ 0 }), 8);
        assert_int_equal(options_read(known, 8, given, 3), 0);
        assert_memory_equal(known, ((unsigned char[8]){ 1, 2, 3 }), 8);
        assert_int_equal(options_read(known, 8, given, 16), 0);
        assert_memory_equal(known, given, 8);
        given[15] = 1;
        assert_int_equal(options_read(known, 8, given, 16), -E2BIG);
        assert_int_equal(options_read(known, 8, given, 15), 0);
}

/* ---- modules, signals, CPUs, errno ---- */

static void test_modules(void **state)
{
        (void)state;
        static int data;
        struct module_map map;
        void *heap = malloc(16);

        assert_int_equal(module_map_take(&map), 0);
        assert_true(map.count >= 2);
        assert_true(module_map_holds(&map, (uintptr_t)test_modules));
        assert_true(module_map_holds(&map, (uintptr_t)module_map_take));
        /* Not strlen and its like, whose address may be a stub of a sanitizer's or of the linker's. */
        assert_true(module_map_holds(&map, (uintptr_t)_cmocka_run_group_tests));
        assert_false(module_map_holds(&map, 0));
        assert_false(module_map_holds(&map, (uintptr_t)&data));
        assert_false(module_map_holds(&map, (uintptr_t)&map));
        assert_false(module_map_holds(&map, (uintptr_t)heap));
        assert_false(module_map_holds(&map, UINTPTR_MAX));
        module_map_drop(&map);
        assert_false(module_map_holds(&map, (uintptr_t)test_modules));
        module_map_drop(&map);
        free(heap);
}

static void test_signals(void **state)
{
        (void)state;
        char buffer[SIGNAL_NAME_MAX], wanted[SIGNAL_NAME_MAX + 8];

        for (int signal = 1; signal < 64; signal++) {
                const char *name = signal_name(signal, buffer);
#ifdef __GLIBC__ /* has a list to compare with */
                if (sigabbrev_np(signal) != NULL && signal != SIGIO)
                        snprintf(wanted, sizeof wanted, "SIG%s", sigabbrev_np(signal));
                else
                        snprintf(wanted, sizeof wanted, "signal %d", signal);
#else
                snprintf(wanted, sizeof wanted, "%s", name);
#endif
                if (signal == SIGIO) /* also known as SIGPOLL */
                        assert_string_equal(name, "SIGIO");
                else if (strncmp(name, "signal", 6) == 0)
                        assert_int_equal(atoi(name + 7), signal); /* those that do not kill need no name */
                else
                        assert_string_equal(name, wanted);
        }
        assert_string_equal(signal_name(SIGKILL, buffer), "SIGKILL");
        assert_string_equal(signal_name(SIGSEGV, buffer), "SIGSEGV");
        assert_string_equal(signal_name(40, buffer), "signal 40");
        assert_string_equal(signal_name(INT_MIN, buffer), "signal -2147483648");

        sigset_t before, during, after;
        pthread_sigmask(SIG_SETMASK, NULL, &before);
        sigset_t kept;
        signals_block_all(&kept);
        pthread_sigmask(SIG_SETMASK, NULL, &during);
        signals_restore(&kept);
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        for (int signal = 1; signal < 32; signal++) {
                assert_int_equal(sigismember(&during, signal), signal != SIGKILL && signal != SIGSTOP);
                assert_int_equal(sigismember(&after, signal), sigismember(&before, signal));
        }

        struct sigaction old;
        signal(SIGCHLD, SIG_IGN);
        signals_default_sigchld(&old);
        assert_ptr_equal(signal(SIGCHLD, SIG_DFL), SIG_DFL);
        signals_restore_sigchld(&old);
        assert_ptr_equal(signal(SIGCHLD, SIG_DFL), SIG_IGN);
}

static int one_cpu(void *arg)
{
        (void)arg;
        cpu_set_t all, one;

        require_int(sched_getaffinity(0, sizeof all, &all), 0);
        require(cpu_usable() >= 1 && cpu_usable() <= CPU_COUNT(&all));
        CPU_ZERO(&one);
        for (int i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
                if (CPU_ISSET(i, &all))
                        CPU_SET(i, &one);
        require_int(sched_setaffinity(0, sizeof one, &one), 0);
        require_int(cpu_usable(), 1);
        return 0;
}

static void test_cpus(void **state)
{
        (void)state;
        check_in_child(one_cpu, NULL);
}

static void test_errno_is_kept(void **state)
{
        (void)state;
        enum { MINE = 123 };
        char text[8];
        void *memory = NULL, *ready[1];
        unsigned char readable[1];
        int code, bad = 1 << 20, closed = bad;
        struct lifeline none = LIFELINE_NONE;
        struct rlimit before = check_descriptors_exhaust();

        store_seq_cst(&word_a, 1);
#define keeps(call)                                                                                                    \
        do {                                                                                                           \
                errno = MINE;                                                                                          \
                (void)(call);                                                                                          \
                int keeps_errno = errno;                                                                               \
                if (keeps_errno != MINE)                                                                               \
                        check_descriptors_restore(&before);                                                            \
                assert_int_equal(keeps_errno, MINE);                                                                   \
        } while (0)
        keeps(futex_wait(&word_a, 0, DEADLINE_NEVER));
        keeps(futex_wait(&word_a, 1, DEADLINE_NOW));
        keeps(futex_wait_either(&word_a, 0, &word_a, 1, DEADLINE_NEVER));
        keeps(memfd_new("test", 4096, 4096));
        keeps(memfd_commit(bad, 0, 4096));
        size_t size;
        keeps(memfd_release(bad, 0, 4096));
        keeps(memfd_check(bad, &size));
        keeps(eventfd_id(bad));
        keeps(eventfd_new_counting());
        keeps(descriptor_duplicate(bad));
        keeps(descriptor_readable(bad));
        keeps(memory_map(bad, 4096, &memory));
        keeps((memory_unmap((void *)1, 4096), 0));
        keeps(pidfd_of(-1));
        keeps(pidfd_signal(bad, 0));
        keeps(reap(bad, &code));
        keeps(pidfd_wait(bad, DEADLINE_NOW));
        keeps(pidfd_wait_reaped(bad));
        keeps(poller_new());
        keeps(poller_add(bad, bad, NULL));
        keeps((poller_remove(bad, bad), 0));
        keeps(poller_wait(bad, ready, 1, DEADLINE_NOW));
        keeps(poll_readable(&bad, 1, readable, DEADLINE_NOW));
        keeps(file_read("/proc/self/nothing", text, sizeof text));
        keeps(file_read("/proc/self", text, sizeof text));
        keeps((descriptor_close(&closed), 0));
        keeps(eventfd_new());
        keeps((eventfd_raise(bad), 0));
        keeps((eventfd_lower(bad), 0));
        keeps(lifeline_open(&none));
        keeps(lifeline_branch(&none));
        keeps(lifeline_arm(bad));
        keeps((child_reap(getpid()), 0));
        keeps(identity_is_alive(identity_self()));
        keeps(cpu_usable());
        keeps((child_flush(), 0));
#undef keeps
        check_descriptors_restore(&before);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_deadlines),
                support_test(test_futex_wait),
                support_test(test_futex_wake_counts),
                support_test(test_futex_between_processes),
                support_test(test_futex_wait_either),
                support_test(test_futex_waitv_refused),
                support_test(test_memfd),
                support_test(test_memfd_refused),
                support_test(test_memory_ask),
                support_test(test_huge_pages),
                support_test(test_memfd_release),
                support_test(test_memfd_check),
                support_test(test_anonymous_memory),
                support_test(test_counting_eventfds),
                support_test(test_descriptors),
                support_test(test_descriptor_set),
                support_test(test_poller),
                support_test(test_poll_readable),
                support_test(test_options_read),
                support_test(test_modules),
                support_test(test_signals),
                support_test(test_cpus),
                support_test(test_errno_is_kept),
        };
        return support_main(argc, argv, "os", tests, array_length(tests), 60);
}
