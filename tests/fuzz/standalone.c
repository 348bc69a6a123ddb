/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/standalone.c: a fuzz target without libFuzzer, as a test of the normal suite and to replay what libFuzzer found.
 *
 *     test_fuzz_queue [--seed N] [--rounds N]   that many inputs drawn from the seed (test_fuzz_sync: the same)
 *     test_fuzz_queue FILE...                   these inputs
 *
 * The seeded inputs run in a child, which says in shared memory where it is: if it dies or stands still, the parent writes
 * the input at fault to a file, to be replayed, or given to libFuzzer as a seed.
 */
#include "check.h"

#include "target.h"

#include <fcntl.h>
#include <sys/stat.h>

enum {
        INPUT_MAX = 640,
        INPUT_LIMIT_MS = 10000 * (CHECK_ASAN ? 4 : 1),
        ROUNDS = 3000,
};

struct progress {
        atomic_int at; /* the round that runs */
        uint64_t seed;
        int rounds;
};

/* The n-th input of a seed.  Half of the bytes are small: most choices of the script are between few things. */
static size_t draw_input(uint64_t seed, int round, uint8_t *bytes)
{
        uint64_t state = check_mix(seed + ((uint64_t)round << 32));
        size_t size = 16 + (size_t)check_random(&state, INPUT_MAX - 16);
        for (size_t i = 0; i < size; i++) {
                uint64_t number = check_random(&state, 1 << 16);
                bytes[i] = (uint8_t)(number & 0x100 ? number & 15 : number & 255);
        }
        return size;
}

static int run_rounds(void *arg)
{
        struct progress *progress = arg;
        uint8_t bytes[INPUT_MAX];
        LLVMFuzzerInitialize(NULL, NULL);
        for (int round = 0; round < progress->rounds; round++) {
                atomic_store(&progress->at, round);
                LLVMFuzzerTestOneInput(bytes, draw_input(progress->seed, round, bytes));
        }
        atomic_store(&progress->at, progress->rounds);
        return 0;
}

static void write_input(const struct progress *progress, int round)
{
        uint8_t bytes[INPUT_MAX];
        char name[64];
        size_t size = draw_input(progress->seed, round, bytes);
        snprintf(name, sizeof name, "%s-%llu-%d", target_name, (unsigned long long)progress->seed, round);
        FILE *file = fopen(name, "we");
        if (file == NULL || fwrite(bytes, 1, size, file) != size || fclose(file) != 0)
                perror(name);
        else
                fprintf(stderr, "the input of round %d is in %s\n", round, name);
}

static void test_seeded_inputs(void **state)
{
        (void)state;
        struct progress *progress = check_shared(sizeof *progress);
        progress->rounds = support_rounds(ROUNDS);
        progress->seed = support_random((uint64_t)1 << 32);
        pid_t pid = check_start(run_rounds, progress);
        int status, last = -1;
        int64_t since = support_now_ms();
        while (waitpid(pid, &status, WNOHANG) == 0) {
                int at = atomic_load(&progress->at);
                if (at != last) {
                        last = at;
                        since = support_now_ms();
                } else if (support_now_ms() - since > INPUT_LIMIT_MS) {
                        write_input(progress, at);
                        check_hang("an input does not come to its end");
                }
                usleep(1000);
        }
        if (check_code(status) != 0)
                write_input(progress, atomic_load(&progress->at));
        assert_int_equal(check_code(status), 0);
        assert_int_equal(atomic_load(&progress->at), progress->rounds);
        munmap(progress, sizeof *progress);
}

static int replay(const char *name)
{
        FILE *file = fopen(name, "re");
        struct stat status;
        if (file == NULL || fstat(fileno(file), &status) < 0) {
                perror(name);
                return 1;
        }
        size_t size = (size_t)status.st_size;
        uint8_t *bytes = malloc(size + 1);
        if (bytes == NULL || fread(bytes, 1, size, file) != size) {
                perror(name);
                return 1;
        }
        fclose(file);
        printf("%s\n", name);
        fflush(stdout);
        alarm(INPUT_LIMIT_MS / 1000);
        LLVMFuzzerTestOneInput(bytes, size);
        alarm(0);
        free(bytes);
        return 0;
}

int main(int argc, char **argv)
{
        if (argc > 1 && argv[1][0] != '-') {
                int failed = 0;
                LLVMFuzzerInitialize(NULL, NULL);
                for (int i = 1; i < argc; i++)
                        failed |= replay(argv[i]);
                return failed;
        }
        static const struct CMUnitTest tests[] = { support_test(test_seeded_inputs) };
        return support_main(argc, argv, target_name, tests, array_length(tests), 60);
}
