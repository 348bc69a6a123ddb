/* SPDX-License-Identifier: MIT
 *
 * shared.c: what shared memory costs.
 *
 *     new-1MiB     1 MiB made, filled and freed, in us
 *     value-new    a value of 8 bytes made and freed, in us
 *     add          increments of one counter by two processes at once, each second
 *     grow-64KiB   growing by 64 KiB, in us; what is new is not touched
 *
 *     brood        brood_shared, brood_value, brood_atomic
 *     mremap       grow-64KiB: ftruncate, fallocate and mremap of a memfd by hand, of which no other process knows
 */
#include "bench_brood.h"

#include <brood/atomic.h>
#include <brood/shared.h>
#include <brood/value.h>

enum { SIZE = 1 << 20, STEP = 64 << 10, STEPS = 256 /* then from the beginning */ };

static void one_shared(void)
{
        brood_shared *s;

        brood_check("brood_shared_new", brood_shared_new(&s, SIZE, NULL));
        memset(brood_shared_data(s), 1, SIZE);
        brood_shared_free(s);
}

static void one_value(void)
{
        brood_value *v;

        brood_check("brood_value_new", brood_value_new(&v, sizeof(double), &(double){ 1.5 }, NULL));
        if (*brood_value_of(v, double) != 1.5)
                bench_die("the value is another");
        brood_value_free(v);
}

static uint64_t repeat(void (*one)(void), uint64_t count)
{
        uint64_t began = bench_now_ns();

        for (uint64_t i = 0; i < count; i++)
                one();
        return bench_now_ns() - began;
}

static uint64_t add(brood_value *v, struct bench_line *line, uint64_t count)
{
        uint64_t *counter = brood_value_of(v, uint64_t);

        bench_line_wait(line, 2);
        uint64_t began = bench_now_ns();
        for (uint64_t i = 0; i < count; i++)
                brood_atomic_fetch_add(counter, 1);
        return bench_now_ns() - began;
}

/* The time of the slower one. */
static uint64_t add_by_two(uint64_t count)
{
        struct shared {
                struct bench_line line;
                uint64_t took;
        } *shared = bench_shared(sizeof *shared);
        brood_value *v;

        brood_check("brood_value_new", brood_value_new(&v, sizeof(uint64_t), NULL, NULL));
        pid_t pid = bench_fork();
        if (pid == 0) {
                bench_pin(1);
                shared->took = add(v, &shared->line, count / 2);
                _exit(0);
        }
        bench_pin(0);
        uint64_t took = add(v, &shared->line, count - count / 2);
        bench_reap(pid);
        if (*brood_value_of(v, uint64_t) != count)
                bench_die("the count is %" PRIu64 " instead of %" PRIu64, *brood_value_of(v, uint64_t), count);
        brood_value_free(v);
        took = shared->took > took ? shared->took : took;
        munmap(shared, sizeof *shared);
        return took;
}

/* Only the growing is timed. */
static uint64_t grow_brood(uint64_t count)
{
        uint64_t took = 0;

        for (uint64_t done = 0; done < count;) {
                brood_shared *s;
                brood_check("brood_shared_new",
                            brood_shared_new(&s, STEP, &(brood_shared_options){ .limit = (STEPS + 1) * STEP }));
                uint64_t began = bench_now_ns();
                for (size_t i = 2; i <= STEPS + 1 && done < count; i++, done++)
                        brood_check("brood_shared_grow", brood_shared_grow(s, i * STEP));
                took += bench_now_ns() - began;
                brood_shared_free(s);
        }
        return took;
}

static uint64_t grow_by_hand(uint64_t count)
{
        uint64_t took = 0;

        for (uint64_t done = 0; done < count;) {
                size_t size = STEP;
                int fd = memfd_create("bench", MFD_CLOEXEC);
                void *memory = MAP_FAILED;
                if (fd >= 0 && ftruncate(fd, STEP) == 0)
                        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
                uint64_t began = bench_now_ns();
                for (; memory != MAP_FAILED && size < (STEPS + 1) * STEP && done < count; size += STEP, done++) {
                        if (ftruncate(fd, (off_t)size + STEP) < 0 || fallocate(fd, 0, (off_t)size, STEP) < 0)
                                bench_die("growing: %s", strerror(errno));
                        memory = mremap(memory, size, size + STEP, MREMAP_MAYMOVE);
                }
                took += bench_now_ns() - began;
                if (memory == MAP_FAILED)
                        bench_die("mapping: %s", strerror(errno));
                munmap(memory, size);
                close(fd);
        }
        return took;
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        bool brood = !strcmp(o.peer, "brood");

        if (brood && (!strcmp(o.figure, "new-1MiB") || !strcmp(o.figure, "value-new"))) {
                void (*one)(void) = o.figure[0] == 'n' ? one_shared : one_value;
                repeat(one, bench_warmup(o.count));
                bench_report("shared", &o, (double)repeat(one, o.count) / 1e3 / (double)o.count, "us");
        } else if (brood && !strcmp(o.figure, "add")) {
                add_by_two(bench_warmup(o.count));
                bench_report("shared", &o, (double)o.count * 1e9 / (double)add_by_two(o.count), "op/s");
        } else if ((brood || !strcmp(o.peer, "mremap")) && !strcmp(o.figure, "grow-64KiB")) {
                uint64_t (*grow)(uint64_t count) = brood ? grow_brood : grow_by_hand;
                grow(bench_warmup(o.count));
                bench_report("shared", &o, (double)grow(o.count) / 1e3 / (double)o.count, "us");
        } else {
                bench_options_unknown(&o, "new-1MiB, value-new, add of brood; grow-64KiB of brood, mremap");
        }
        return 0;
}
