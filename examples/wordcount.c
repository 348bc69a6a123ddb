/* SPDX-License-Identifier: MIT
 *
 * wordcount: counts the words of all regular files below the given paths, with a pool of processes.
 *
 *     wordcount [--jobs N] [--chaos N] [--all] [--compare | --no-compare] [--repeat N] [--seed N] [PATH...]
 *
 * A word is a run of ASCII letters, as long as possible, in lower case: what
 *
 *     export LC_ALL=C; cat FILES | tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | sort | uniq -c | sort -rn
 *
 * counts (if every file ends with a newline).  Symbolic links are followed where they are given as a PATH and
 * nowhere below; other things than regular files are passed over in silence.  What cannot be read is reported on
 * stderr and counted.
 *
 * First the tree is walked and a plan made (wordplan.h): tasks of about two megabytes, each many small files or one
 * range of a large one.  A task's bytes say all that is to be done, its result's bytes all that was found: no task
 * depends on what its worker did before, and one whose worker was killed is simply run again, by another.  --chaos
 * N kills N workers on the way, to show that the totals do not change.
 *
 * The host keeps a few tasks for each worker in flight, which bounds the memory, and adds up the oldest result
 * while the workers count on.  With --compare one process alone does the same, for the speed-up; what is timed in
 * both is reading, counting and adding up, and in the pool's case also its start and end.  The walk is timed for
 * itself.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "wordplan.h"

#include <brood/brood.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TASKS_PER_WORKER 4 /* in flight */
#define REPEAT_MOST 1000

/* The room of a result.  Text takes a tenth of its size, mostly; random letters could take four times it, and what does not fit
 * is counted by the host: see run_pool().  Room for the worst case would be memory that the pool gets ready for nothing. */
#define RESULT_SIZE (sizeof(struct tally) + TASK_BYTES / 2)

struct run {
        struct wordtable words;
        uint64_t bytes;
        double seconds;
        unsigned killed, again;
};

static double now(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void add_tally(struct plan *plan, struct run *run, const struct tally *tally)
{
        run->bytes += tally->bytes;
        for (size_t i = 0; i < tally->failed; i++)
                plan_note_failure(plan, tally->failures[i].file, tally->failures[i].error);
}

/* The task that the workers run: pieces in; out, a tally cut to what is used of it, and a table. */
static ssize_t count_task(const void *arg, size_t size, void *out, size_t room)
{
        static struct wordtable table; /* kept for the memory only */
        static struct tally tally;

        int r = 0;
        if (table.words)
                wordtable_clear(&table);
        else
                r = wordtable_init(&table);
        if (r == 0)
                r = plan_count(&table, &tally, arg, size);
        if (r < 0)
                return r;
        size_t head = offsetof(struct tally, failures) + tally.failed * sizeof tally.failures[0];
        if (room < head)
                return -EMSGSIZE;
        memcpy(out, &tally, head);
        ssize_t n = wordtable_write(&table, (char *)out + head, room - head);
        return n < 0 ? n : (ssize_t)head + n;
}

/* ---- one process alone ---- */

static void count_here(struct plan *plan, struct run *run, const struct task *task)
{
        static struct tally tally;
        int r = plan_count(&run->words, &tally, task->bytes, task->size);
        if (r < 0)
                fail("count", r);
        add_tally(plan, run, &tally);
}

static void begin_run(struct run *run)
{
        wordtable_free(&run->words);
        *run = (struct run){ 0 };
        int r = wordtable_init(&run->words);
        if (r < 0)
                fail("count", r);
}

static void run_alone(struct plan *plan, struct run *run)
{
        begin_run(run);
        double start = now();
        for (size_t i = 0; i < plan->n_tasks; i++)
                count_here(plan, run, &plan->tasks[i]);
        run->seconds = now() - start;
}

/* Reads every file once, so that neither of the runs to be compared pays for the disk. */
static void warm_up(const struct plan *plan)
{
        static char buffer[256 << 10];
        for (size_t i = 0; i < plan->n_files; i++) {
                if (plan->files[i].error)
                        continue;
                int fd = open(plan->files[i].path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                while (fd >= 0 && read(fd, buffer, sizeof buffer) > 0)
                        ;
                if (fd >= 0)
                        close(fd);
        }
}

/* ---- the pool ---- */

/* Kills one worker, whichever chance picks; with several tasks for each in flight, it is almost surely busy. */
static bool kill_worker(brood_pool *pool)
{
        static pid_t last;
        for (int tries = 0; tries < 1000; tries++) {
                pid_t pids[BROOD_POOL_PROCESSES_LIMIT];
                int n = brood_pool_workers(pool, pids, BROOD_POOL_PROCESSES_LIMIT);
                if (n < 0)
                        return false;
                pid_t pid = n > 0 ? pids[rand() % n] : 0;
                /* The one that was killed just now may still be listed, and must not count twice. */
                if (pid > 0 && pid != last && kill(pid, SIGKILL) == 0) {
                        last = pid;
                        return true;
                }
                nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        }
        return false;
}

static void run_pool(struct plan *plan, struct run *run, int jobs, unsigned chaos)
{
        brood_pool *pool;
        size_t done = 0, next = 0, in_flight = 0, first = 0, n_again = 0;
        unsigned struck = 0;

        begin_run(run);
        char *buf = malloc(RESULT_SIZE);
        if (!buf)
                fail("pool", -ENOMEM);
        double start = now();
        int r = brood_pool_new(&pool, &(brood_pool_options){ .processes = jobs, .result_size = RESULT_SIZE });
        if (r < 0)
                fail("pool", r);
        size_t window = (size_t)brood_pool_processes(pool) * TASKS_PER_WORKER;
        struct task **flying = malloc(window * sizeof(struct task *)); /* a ring, the oldest at `first` */
        struct task **again = malloc(window * sizeof(struct task *));  /* those whose workers died */
        if (!flying || !again)
                fail("pool", -ENOMEM);

        while (done < plan->n_tasks) {
                while (in_flight < window && (n_again > 0 || next < plan->n_tasks)) {
                        struct task *task = n_again > 0 ? again[n_again - 1] : &plan->tasks[next];
                        r = brood_pool_apply_async(pool, &task->result, count_task, task->bytes, task->size);
                        if ((r == -ENOMEM || r == -ENOBUFS) && in_flight > 0)
                                break; /* there will be room when a result has been taken */
                        if (r < 0)
                                fail(r == -EPIPE && brood_pool_reason(pool) ? brood_pool_reason(pool) : "submit", r);
                        if (n_again > 0)
                                n_again--;
                        else
                                next++;
                        task->attempts++;
                        flying[(first + in_flight++) % window] = task;
                }

                /* Spread over the run; those that are left strike while the last task is awaited. */
                for (; struck < chaos; struck++) {
                        if (done * (chaos + 1) < (struck + 1) * plan->n_tasks && done + 1 < plan->n_tasks)
                                break;
                        run->killed += kill_worker(pool);
                }

                struct task *task = flying[first];
                ssize_t n = brood_result_get(task->result, buf, RESULT_SIZE, BROOD_FOREVER);
                first = (first + 1) % window;
                in_flight--;
                if (n == -EOWNERDEAD && task->attempts < chaos + 3) {
                        fprintf(stderr, "wordcount: %s; its task is run again\n", brood_result_reason(task->result));
                        again[n_again++] = task;
                        run->again++;
                } else if (n == -EMSGSIZE) {
                        /* Hardly a text: nearly every word is a new one. */
                        count_here(plan, run, task);
                        done++;
                } else if (n < 0) {
                        fail(brood_result_reason(task->result), (int)n);
                } else {
                        const struct tally *tally = (const struct tally *)buf;
                        size_t head = offsetof(struct tally, failures) + tally->failed * sizeof tally->failures[0];
                        add_tally(plan, run, tally);
                        r = wordtable_merge(&run->words, buf + head, (size_t)n - head);
                        if (r < 0)
                                fail("merge", r);
                        done++;
                }
                brood_result_free(task->result);
                task->result = NULL;
        }

        r = brood_pool_close(pool);
        if (r == 0)
                r = brood_pool_join(pool, BROOD_FOREVER);
        if (r < 0)
                fail("join", r);
        brood_pool_free(pool);
        run->seconds = now() - start;
        for (size_t i = 0; i < plan->n_tasks; i++)
                plan->tasks[i].attempts = 0;
        free(flying);
        free(again);
        free(buf);
}

/* ---- what is told in the end ---- */

static int compare_doubles(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;
        return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
        qsort(values, count, sizeof *values, compare_doubles);
        return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static void print_words(const struct run *run, size_t limit)
{
        struct word *words;
        int r = wordtable_sorted(&run->words, &words);
        if (r < 0)
                fail("sort", r);
        for (size_t i = 0; i < run->words.used && i < limit; i++) {
                char buf[WORD_INLINE];
                printf("%7llu ", (unsigned long long)words[i].count);
                fwrite(wordtable_letters(&run->words, &words[i], buf), 1, words[i].length, stdout);
                putchar('\n');
        }
        free(words);
}

static void print_time(FILE *out, int processes, const struct run *run)
{
        fprintf(out, "%d process%s: %.3f s, %.0f MB/s\n", processes, processes == 1 ? "" : "es", run->seconds,
                (double)run->bytes / 1e6 / run->seconds);
}

static int number(const char *text, int limit)
{
        char *end;
        long value = strtol(text, &end, 10);
        if (*text == 0 || *end != 0 || value < 0 || value > limit) {
                fprintf(stderr, "wordcount: not a number from 0 to %d: %s\n", limit, text);
                exit(2);
        }
        return (int)value;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                { "jobs", required_argument, NULL, 'j' }, { "chaos", required_argument, NULL, 'c' },
                { "all", no_argument, NULL, 'a' },        { "compare", no_argument, NULL, 'y' },
                { "no-compare", no_argument, NULL, 'n' }, { "repeat", required_argument, NULL, 'r' },
                { "seed", required_argument, NULL, 's' }, { 0 },
        };
        static char headers[] = "/usr/include", licences[] = "/usr/share/common-licenses";
        static char *defaults[] = { headers, licences, NULL };
        int jobs = 0, chaos = 0, repeat = 0, compare = -1, option;
        int seed = (int)(((unsigned)time(NULL) ^ (unsigned)getpid() << 16) & 0x7fffffff);
        bool all = false;
        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                switch (option) {
                case 'j':
                        jobs = number(optarg, BROOD_POOL_PROCESSES_LIMIT);
                        break;
                case 'c':
                        chaos = number(optarg, 1000000);
                        break;
                case 'r':
                        repeat = number(optarg, REPEAT_MOST);
                        break;
                case 's':
                        seed = number(optarg, 0x7fffffff);
                        break;
                case 'a':
                        all = true;
                        break;
                case 'y':
                case 'n':
                        compare = option == 'y';
                        break;
                default:
                        fprintf(stderr, "usage: wordcount [--jobs N] [--chaos N] [--all] [--compare | --no-compare] "
                                        "[--repeat N] [--seed N] [PATH...]\n");
                        return 2;
                }
        }
        if (compare < 0)
                compare = !all;
        if (repeat == 0)
                repeat = compare && chaos == 0 ? 5 : 1;
        srand((unsigned)seed);
        setvbuf(stdout, NULL, _IOFBF, 1 << 16);

        struct plan plan = { 0 };
        double start = now();
        plan_make(&plan, optind < argc ? argv + optind : defaults);
        double walk = now() - start;

        /* The runs alternate, and the median of the pairs' ratios is the speed-up: a machine that is busy for a while is busy
         * for both runs of a pair. */
        struct run alone = { 0 }, pool = { 0 };
        double alone_seconds[REPEAT_MOST], pool_seconds[REPEAT_MOST], ratios[REPEAT_MOST];
        unsigned killed = 0, again = 0;
        bool same = true;
        if (compare)
                warm_up(&plan);
        for (int i = 0; i < repeat; i++) {
                if (compare)
                        run_alone(&plan, &alone);
                run_pool(&plan, &pool, jobs, (unsigned)chaos);
                alone_seconds[i] = alone.seconds;
                pool_seconds[i] = pool.seconds;
                ratios[i] = alone.seconds / pool.seconds;
                killed += pool.killed;
                again += pool.again;
                same = same && (!compare || wordtable_equal(&alone.words, &pool.words));
        }
        alone.seconds = median(alone_seconds, (size_t)repeat);
        pool.seconds = median(pool_seconds, (size_t)repeat);

        size_t unreadable = 0;
        for (size_t i = 0; i < plan.n_files; i++)
                unreadable += plan.files[i].error != 0;

        /* With --all the words are the output, and all else is said beside it. */
        FILE *out = all ? stderr : stdout;
        print_words(&pool, all ? SIZE_MAX : 20);
        fprintf(out, "files: %zu, unreadable: %zu, tasks: %zu, found in %.3f s\n", plan.n_files - unreadable,
                unreadable, plan.n_tasks, walk);
        fprintf(out, "bytes: %llu, words: %llu, different: %zu\n", (unsigned long long)pool.bytes,
                (unsigned long long)pool.words.total, pool.words.used);
        if (chaos > 0)
                fprintf(out, "chaos: %u workers killed, %u tasks run again, seed %d\n", killed, again, seed);
        if (compare)
                print_time(out, 1, &alone);
        print_time(out, jobs > 0 ? jobs : brood_cpu_count(), &pool);
        if (compare) {
                fprintf(out, "speed-up: %.2f\n", median(ratios, (size_t)repeat));
                fprintf(out, "totals: %s\n", same ? "the same" : "they differ (did the files change?)");
        }

        wordtable_free(&alone.words);
        wordtable_free(&pool.words);
        plan_free(&plan);
        if (fflush(stdout) != 0)
                fail("stdout", -errno);
        return same ? 0 : 1;
}
