/* SPDX-License-Identifier: MIT
 *
 * tests/sync/atomic_in_cpp.cpp: shared memory, arrays and atomics, as a C++ program uses them.
 */
#include <brood/atomic.h>
#include <brood/shared.h>
#include <brood/value.h>

#include <cstdint>
#include <cstdio>
#include <sys/wait.h>
#include <unistd.h>

struct totals {
        std::uint64_t count;
        std::int32_t sign;
        std::uint32_t ready;
        double sum;
};

static int fail(const char *what)
{
        std::fprintf(stderr, "not so: %s\n", what);
        return 1;
}

static int work(totals *t, int *numbers)
{
        if (brood_atomic_wait(&t->ready, 0, 10000) != 0)
                return fail("it became ready");
        for (int i = 0; i < 1000; i++) {
                brood_atomic_fetch_add(&t->count, 1);
                brood_atomic_fetch_sub(&t->sign, 1);
                brood_atomic_fetch_add_double(&t->sum, 0.5);
                brood_atomic_fetch_add_relaxed(&numbers[i % 3], 1);
        }
        return 0;
}

int main()
{
        brood_shared *s = nullptr;
        brood_array *a = nullptr;
        const int initial[] = { 10, 20, 30 };

        if (brood_shared_new(&s, sizeof(totals), nullptr) < 0 ||
            brood_array_new(&a, 3, sizeof(int), initial, nullptr) < 0)
                return fail("there is memory");
        totals *t = static_cast<totals *>(brood_shared_data(s));
        int *numbers = brood_array_of(a, int);
        pid_t pid = fork();
        if (pid == 0)
                _exit(work(t, numbers));
        brood_atomic_store(&t->ready, 1u);
        brood_atomic_wake(&t->ready, BROOD_WAKE_ALL);
        int result = work(t, numbers), status = 1;
        if (waitpid(pid, &status, 0) != pid || status != 0 || result != 0)
                return fail("both did their work");
        std::uint64_t expected = 2000;
        if (!brood_atomic_compare_exchange(&t->count, &expected, std::uint64_t(7)) || brood_atomic_load(&t->count) != 7)
                return fail("the count");
        if (brood_atomic_exchange(&t->sign, 0) != -2000 || brood_atomic_load_double(&t->sum) != 1000)
                return fail("the sums");
        if (numbers[0] != 10 + 2 * 334 || numbers[1] != 20 + 2 * 333 || numbers[2] != 30 + 2 * 333)
                return fail("the numbers");
        brood_array_free(a);
        brood_shared_free(s);
        return 0;
}
