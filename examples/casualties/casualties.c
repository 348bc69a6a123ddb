/* SPDX-License-Identifier: MIT
 *
 * casualties: decodes every PNG file below the given directories, with a library that may crash, hang, or want more memory than
 * there is, and tells in the end what became of each.
 *
 *     casualties [OPTION...] [PATH...]            the PATHs: /usr/share
 *
 * One task is one file.  Each has a soft and a hard time limit, a limit of CPU time and one of memory, and is tried again if its
 * worker dies.  Whatever a file does to its decoder, it costs that file: the worker is replaced, and the others go on.
 *
 * A few tasks for each worker are in the pool at a time, and come out of completions in the order in which they end; so memory
 * stays small however many files there are, and one that hangs holds up nobody.
 *
 * --sabotage N has each Nth file (in the order of their paths) meet with an accident, of all kinds in turn; --chaos N kills N
 * workers from outside.  Both are there to see that the books are right all the same.
 *
 * Exit codes: 0, all files were decoded; 1, some were not; 2, the run could not be made.
 */
#include "casualties.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define TASKS_PER_WORKER 8 /* in the pool at a time */

/* Room for an image, and for a message in its place. */
#define RESULT_SIZE (sizeof(struct image) > BROOD_TASK_MESSAGE_MAX ? sizeof(struct image) : BROOD_TASK_MESSAGE_MAX)

struct settings {
        int jobs, soft_ms, hard_ms, cpu_ms, memory_mib, retries, sabotage, chaos, seed;
        bool all_names;
};

struct run {
        struct settings settings;
        char **files; /* their paths, in order */
        size_t count, room, next;
        char ***again; /* those whose last try was killed by --chaos; as many as there can be in the pool */
        size_t n_again, in_pool;
        pid_t *killed; /* by --chaos */
        size_t n_killed;
        size_t unreadable; /* directories, and paths that do not exist */
        brood_array *sabotaged;
        brood_pool *pool;
        brood_completions *completions;
        struct books books;
};

static brood_progress *progress; /* NULL: nobody sees it */

_Noreturn static void fail(const char *what, int r)
{
        brood_progress_clear(progress);
        fprintf(stderr, "casualties: %s: %s\n", what, brood_strerror(r));
        exit(2);
}

static double now(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *allocate(size_t count, size_t size)
{
        void *memory = calloc(count > 0 ? count : 1, size);
        if (memory == NULL)
                fail("memory", -ENOMEM);
        return memory;
}

/* ---- the walk ---- */

static struct run *walking; /* nftw(3) hands nothing on to its callback */

static void add_file(struct run *run, const char *path)
{
        if (run->count == run->room) {
                run->room = run->room > 0 ? 2 * run->room : 256;
                run->files = realloc(run->files, run->room * sizeof *run->files);
        }
        char *copy = strdup(path);
        if (run->files == NULL || copy == NULL)
                fail("the walk", -ENOMEM);
        run->files[run->count++] = copy;
}

static bool is_wanted(const char *path, int level)
{
        size_t length = strlen(path);
        return walking->settings.all_names || level == 0 || (length > 4 && strcasecmp(path + length - 4, ".png") == 0);
}

static int visit(const char *path, const struct stat *status, int kind, struct FTW *where)
{
        if (kind == FTW_F && S_ISREG(status->st_mode) && is_wanted(path, where->level)) {
                add_file(walking, path);
        } else if (kind == FTW_DNR || kind == FTW_NS) {
                fprintf(stderr, "casualties: %s cannot be read\n", path);
                walking->unreadable++;
        }
        return 0;
}

static int compare_files(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Symbolic links are not followed. */
static void walk(struct run *run, char **paths)
{
        walking = run;
        for (; *paths != NULL; paths++) {
                if (nftw(*paths, visit, 64, FTW_PHYS) < 0) {
                        fprintf(stderr, "casualties: %s: %s\n", *paths, strerror(errno));
                        run->unreadable++;
                }
        }
        if (run->count > 0)
                qsort(run->files, run->count, sizeof *run->files, compare_files);
        run->books.files = run->count;
}

/* ---- what goes in ---- */

static enum sabotage planted(const struct run *run, size_t number)
{
        size_t every = (size_t)run->settings.sabotage;
        if (every == 0 || (number + 1) % every != 0)
                return SABOTAGE_NONE;
        return (enum sabotage)(1 + ((number + 1) / every - 1) % (SABOTAGES - 1));
}

/* Hands a file to the pool; false if that has no room now. */
static bool submit(struct run *run, char **file)
{
        const struct settings *settings = &run->settings;
        size_t number = (size_t)(file - run->files), path_size = strlen(*file) + 1;
        size_t size = sizeof(struct job) + path_size;
        struct job *job = allocate(1, size);
        job->number = (uint32_t)number;
        job->sabotage = planted(run, number);
        memcpy(job->path, *file, path_size);

        int r = brood_pool_submit(run->pool, NULL,
                                  &(brood_task_options){
                                      .function = decode_task,
                                      .arg = job, /* copied */
                                      .size = size,
                                      .callback_arg = file,
                                      .completions = run->completions,
                                      /* One try may be a kill's, and not the file's. */
                                      .retries = settings->retries + (settings->chaos > 0),
                                      .soft_timeout_ms = settings->soft_ms,
                                      .timeout_ms = settings->hard_ms,
                                      .cpu_ms = settings->cpu_ms,
                                      .memory_limit = (uint64_t)settings->memory_mib << 20,
                                      .measured = true,
                                  });
        free(job);
        if ((r == -ENOMEM || r == -ENOBUFS) && run->in_pool > 0)
                return false; /* there will be room when a task has ended */
        if (r < 0)
                fail(r == -EPIPE && brood_pool_reason(run->pool) ? brood_pool_reason(run->pool) : "submit", r);
        run->in_pool++;
        return true;
}

static void fill_pool(struct run *run, size_t window)
{
        while (run->in_pool < window && run->n_again > 0 && submit(run, run->again[run->n_again - 1]))
                run->n_again--;
        while (run->in_pool < window && run->next < run->count && submit(run, &run->files[run->next]))
                run->next++;
}

/* ---- chaos ---- */

static bool was_killed(const struct run *run, pid_t pid)
{
        for (size_t i = 0; i < run->n_killed; i++)
                if (run->killed[i] == pid)
                        return true;
        return false;
}

/* Kills a worker that was not killed before, whichever chance picks; none, if all are gone just now. */
static void kill_worker(struct run *run)
{
        pid_t pids[BROOD_POOL_PROCESSES_LIMIT];
        int n = brood_pool_workers(run->pool, pids, BROOD_POOL_PROCESSES_LIMIT);
        if (n <= 0)
                return;
        pid_t pid = pids[rand() % n];
        if (!was_killed(run, pid) && kill(pid, SIGKILL) == 0)
                run->killed[run->n_killed++] = pid;
}

/* The kills are spread over the run: so many are due when so many tasks have ended. */
static void strike(struct run *run, size_t ended)
{
        size_t chaos = (size_t)run->settings.chaos;
        if (run->n_killed < chaos && ended * (chaos + 1) >= (run->n_killed + 1) * run->count)
                kill_worker(run);
}

/* ---- what comes out ---- */

/* Whether a task has ended because of --chaos, and not by what is in its file. */
static bool is_chaos(const struct run *run, brood_result *result)
{
        pid_t worker;
        int exitcode;
        return brood_result_outcome(result) == BROOD_OUTCOME_SIGNALED &&
               brood_result_worker(result, &worker, &exitcode) == 0 && exitcode == -SIGKILL && was_killed(run, worker);
}

static void take_one(struct run *run)
{
        brood_result *result;
        int r = brood_completions_next(run->completions, &result, BROOD_FOREVER);
        if (r < 0)
                fail("next", r);
        run->in_pool--;
        char **file = brood_result_callback_arg(result);
        if (is_chaos(run, result)) {
                brood_result_free(result);
                run->again[run->n_again++] = file;
                return;
        }
        r = books_enter(&run->books, *file, result);
        if (r < 0)
                fail(brood_pool_reason(run->pool) ? brood_pool_reason(run->pool) : *file, r);
}

static void decode_all(struct run *run)
{
        size_t window = (size_t)brood_pool_processes(run->pool) * TASKS_PER_WORKER;
        run->again = allocate(window, sizeof(char **));
        /* If that fails, nobody sees it. */
        brood_progress_new(&progress, &(brood_progress_options){ .label = "files", .total = run->books.files });
        for (;;) {
                fill_pool(run, window);
                if (run->in_pool == 0)
                        break;
                take_one(run);
                size_t lost = run->books.failed + run->books.casualties;
                strike(run, run->books.decoded + lost);
                brood_progress_update(progress, run->books.decoded + lost, lost);
        }
        brood_progress_free(progress);
        progress = NULL;
}

/* ---- the run ---- */

static void open_pool(struct run *run)
{
        int r =
            brood_array_new(&run->sabotaged, run->count, sizeof(uint32_t), NULL, &(brood_array_options){ .raw = 1 });
        if (r == 0)
                r = brood_pool_new(&run->pool, &(brood_pool_options){ .processes = run->settings.jobs,
                                                                      .initializer = decode_begin,
                                                                      .initarg = run->sabotaged,
                                                                      .result_size = RESULT_SIZE });
        if (r == 0)
                r = brood_completions_new(&run->completions, run->pool);
        if (r < 0)
                fail("pool", r);
}

static void close_pool(struct run *run)
{
        int r = brood_pool_close(run->pool);
        if (r == 0)
                r = brood_pool_join(run->pool, BROOD_FOREVER);
        if (r < 0)
                fail(brood_pool_reason(run->pool) ? brood_pool_reason(run->pool) : "join", r);
        brood_completions_free(run->completions);
        brood_pool_free(run->pool);
        brood_array_free(run->sabotaged);
}

static void print_planted(const struct run *run)
{
        size_t counts[SABOTAGES] = { 0 };
        for (size_t i = 0; i < run->count; i++)
                counts[planted(run, i)]++;
        printf("sabotage:");
        for (int i = 1; i < SABOTAGES; i++)
                printf("%s %s %zu", i > 1 ? "," : "", sabotage_name((enum sabotage)i), counts[i]);
        putchar('\n');
}

static void free_run(struct run *run)
{
        for (size_t i = 0; i < run->count; i++)
                free(run->files[i]);
        free(run->files);
        free(run->again);
        free(run->killed);
        books_free(&run->books);
}

/* ---- the options ---- */

static const char usage[] =
    "usage: casualties [OPTION...] [PATH...]\n"
    "Decodes every PNG file below each PATH (/usr/share), one task each, and reports what became of them.\n"
    "\n"
    "  --jobs N       N workers (one for each CPU)\n"
    "  --soft MS      after so many milliseconds a decoder is told to give up (2000)\n"
    "  --hard MS      after so many it is killed (4000)\n"
    "  --cpu MS       after so many of CPU time it is killed (3000)\n"
    "  --memory MIB   a decoder gets no more memory than this (256)\n"
    "  --retries N    a file whose decoder dies is tried N times more (1)\n"
    "  --all          files of any name, not only *.png\n"
    "  --sabotage N   each Nth file meets with an accident\n"
    "  --chaos N      N workers are killed from outside; each file has a try more\n"
    "  --seed N       for --chaos: which (1)\n"
    "  --help         this text\n"
    "\n"
    "Exit codes: 0, all files were decoded; 1, some were not; 2, the run could not be made.\n";

static int number(const char *text, int lowest, int limit)
{
        char *end;
        long value = strtol(text, &end, 10);
        if (*text == 0 || *end != 0 || value < lowest || value > limit) {
                fprintf(stderr, "casualties: not a number from %d to %d: %s\n", lowest, limit, text);
                exit(2);
        }
        return (int)value;
}

static void read_options(struct settings *settings, int argc, char **argv)
{
        enum { HELP, ALL, FIRST_NUMBER };
        static const struct option options[] = {
                { "help", no_argument, NULL, HELP },
                { "all", no_argument, NULL, ALL },
                { "jobs", required_argument, NULL, FIRST_NUMBER },
                { "soft", required_argument, NULL, FIRST_NUMBER + 1 },
                { "hard", required_argument, NULL, FIRST_NUMBER + 2 },
                { "cpu", required_argument, NULL, FIRST_NUMBER + 3 },
                { "memory", required_argument, NULL, FIRST_NUMBER + 4 },
                { "retries", required_argument, NULL, FIRST_NUMBER + 5 },
                { "sabotage", required_argument, NULL, FIRST_NUMBER + 6 },
                { "chaos", required_argument, NULL, FIRST_NUMBER + 7 },
                { "seed", required_argument, NULL, FIRST_NUMBER + 8 },
                { 0 },
        };
        const struct {
                int *value, lowest, limit;
        } numbers[] = {
                { &settings->jobs, 1, BROOD_POOL_PROCESSES_LIMIT },
                { &settings->soft_ms, 1, 86400000 },
                { &settings->hard_ms, 1, 86400000 },
                { &settings->cpu_ms, 1, 86400000 },
                { &settings->memory_mib, 1, 1 << 30 },
                { &settings->retries, 0, 100 },
                { &settings->sabotage, 1, 1 << 30 },
                { &settings->chaos, 0, 1000000 },
                { &settings->seed, 0, 0x7fffffff },
        };
        int option;
        while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (option == HELP) {
                        fputs(usage, stdout);
                        exit(0);
                } else if (option == ALL) {
                        settings->all_names = true;
                } else if (option == '?') {
                        fputs(usage, stderr);
                        exit(2);
                } else {
                        size_t i = (size_t)(option - FIRST_NUMBER);
                        *numbers[i].value = number(optarg, numbers[i].lowest, numbers[i].limit);
                }
        }
}

int main(int argc, char **argv)
{
        static char share[] = "/usr/share";
        static char *defaults[] = { share, NULL };
        struct run run = { .settings = { .soft_ms = 2000,
                                         .hard_ms = 4000,
                                         .cpu_ms = 3000,
                                         .memory_mib = 256,
                                         .retries = 1,
                                         .seed = 1 } };
        read_options(&run.settings, argc, argv);
        srand((unsigned)run.settings.seed);
        run.killed = allocate((size_t)run.settings.chaos, sizeof(pid_t));
        walk(&run, optind < argc ? argv + optind : defaults);

        double start = now();
        open_pool(&run);
        int processes = brood_pool_processes(run.pool);
        decode_all(&run);
        close_pool(&run);

        books_print(&run.books, now() - start, processes);
        if (run.settings.sabotage > 0)
                print_planted(&run);
        if (run.settings.chaos > 0)
                printf("chaos: %zu workers killed, seed %d\n", run.n_killed, run.settings.seed);
        if (run.unreadable > 0)
                printf("unreadable: %zu\n", run.unreadable);
        bool all_well = run.unreadable == 0 && run.books.decoded == run.count;
        free_run(&run);
        if (fflush(stdout) != 0)
                fail("stdout", -errno);
        return all_well ? 0 : 1;
}
