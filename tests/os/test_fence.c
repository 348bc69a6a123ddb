/* SPDX-License-Identifier: MIT
 *
 * tests/os/test_fence.c: a fence that one process executes for others, and what is left of it where that is refused.
 */
#include "check.h"

#include "os/atomic.h"
#include "os/fence.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* The question that sleepers and wakers ask each other, many times:
 *
 *     fast: x = 1;  compiler barrier;  read y         slow: y = 1;  fence for everybody;  read x
 *
 * At least one of the two must see the other's store. */
enum { ROUNDS = 20000 };

struct litmus {
        _Alignas(64) atomic_u32 x;
        _Alignas(64) atomic_u32 y;
        _Alignas(64) atomic_u32 fast_saw;
        _Alignas(64) atomic_u32 round, fast_done; /* what the slow side has begun, and the fast side ended */
        uint32_t rounds;
};

static int run_fast(void *arg)
{
        struct litmus *litmus = arg;

        require(fence_register());
        for (uint32_t round = 1; round <= litmus->rounds; round++) {
                int64_t end = support_now_ms() + CHECK_HANG_MS;
                for (uint32_t i = 1; load_acquire(&litmus->round) < round; i++)
                        if (i % 1024 == 0) {
                                require(support_now_ms() < end);
                                sched_yield();
                        }
                store_release(&litmus->x, 1);
                fence_light();
                store_relaxed(&litmus->fast_saw, load_relaxed(&litmus->y));
                store_release(&litmus->fast_done, round);
        }
        return 0;
}

static int run_slow(struct litmus *litmus)
{
        for (uint32_t round = 1; round <= litmus->rounds; round++) {
                store_relaxed(&litmus->x, 0);
                store_relaxed(&litmus->y, 0);
                store_release(&litmus->round, round);
                for (uint64_t pause = support_random(300); pause > 0; pause--)
                        cpu_relax();
                store_relaxed(&litmus->y, 1);
                require(fence_everybody());
                uint32_t saw = load_relaxed(&litmus->x);
                int64_t end = support_now_ms() + CHECK_HANG_MS;
                for (uint32_t i = 1; load_acquire(&litmus->fast_done) < round; i++)
                        if (i % 1024 == 0) {
                                require(support_now_ms() < end);
                                sched_yield();
                        }
                require(saw == 1 || load_relaxed(&litmus->fast_saw) == 1);
        }
        return 0;
}

static void test_one_fences_for_another(void **state)
{
        (void)state;
        if (!fence_register()) {
                skip(); /* no membarrier here: see the next test */
                return;
        }
        assert_true(fence_register()); /* again is fine */
        struct litmus *litmus = check_shared(sizeof *litmus);
        struct check_thread thread;

        litmus->rounds = (uint32_t)support_rounds(ROUNDS);
        pid_t pid = check_start(run_fast, litmus); /* another process */
        int r = run_slow(litmus);
        assert_int_equal(check_wait(pid), 0);
        assert_int_equal(r, 0);

        store_seq_cst(&litmus->round, 0);
        store_seq_cst(&litmus->fast_done, 0);
        check_thread_start(&thread, run_fast, litmus); /* and another thread */
        r = run_slow(litmus);
        assert_int_equal(check_thread_join(&thread), 0);
        assert_int_equal(r, 0);
        munmap(litmus, sizeof *litmus);
}

/* A sandbox that knows no membarrier(2). */
static int fence_where_refused(void *arg)
{
        (void)arg;
        struct sock_filter refuse[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { (unsigned short)array_length(refuse), refuse };

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                return 77; /* no filters here */
        errno = 4711;
        require(!fence_register());
        require(!fence_everybody());
        require_int(errno, 4711);
        return 0;
}

static void test_refused(void **state)
{
        (void)state;
        int code = check_wait(check_start(fence_where_refused, NULL));

        if (code == 77)
                skip();
        assert_int_equal(code, 0);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_one_fences_for_another),
                support_test(test_refused),
        };
        return support_main(argc, argv, "fence", tests, array_length(tests), 60);
}
