/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_judge.c SCRIPTS: plays the scripts of judge.txt (which says what they are made of) with brood, and prints for
 * each line its number and what came out.  judge.py does the same with CPython, and compares.
 *
 * A script is played in a process group of its own, which is killed afterwards: calls may be left that never return.
 */
#include <brood/brood.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
        ACTORS = 3,
        WORDS_MAX = 12,
        LINE_BYTES = 256,
        LINES_MAX = 1000,
        NUMBERS_MAX = 64,
        MOMENT_MS = 50,
        LIMIT_MS = 60000
};

/* A line, taken apart.  Of a head, `who` is "threads" or "processes", `call` the kind of object. */
struct line {
        int number; /* in the file */
        bool head;
        const char *who, *call;
        const char *arguments[WORDS_MAX];
        int count;
        const char *outcome; /* brood's */
};

struct shared {
        atomic_int number, actions;
        bool failing;
};

struct stage {
        struct shared *shared;
        const char *kind;
        brood_lock *lock;
        brood_semaphore *semaphore;
        brood_condition *condition;
        brood_event *event;
        brood_barrier *barrier;
};

struct question {
        char call[16];
        int count, numbers[2];
};

struct answer {
        char outcome[16];
        int number; /* of a barrier; or -1 */
};

struct actor {
        struct stage *stage;
        int ends[2]; /* ours, the actor's */
        bool waiting;
};

static _Noreturn void die(const char *what)
{
        perror(what);
        exit(2);
}

/* ---- the calls ---- */

static int act(void *arg)
{
        struct shared *shared = arg;

        if (shared->failing)
                return -ERANGE;
        atomic_fetch_add(&shared->actions, 1);
        return 0;
}

struct sought {
        struct shared *shared;
        int least;
};

static bool is_so_much(void *arg)
{
        const struct sought *sought = arg;
        return atomic_load(&sought->shared->number) >= sought->least;
}

static const char *outcome_of(int r)
{
        if (r >= 0)
                return "ok";
        switch (-r) {
        case EAGAIN:
        case ETIMEDOUT:
                return "no";
        case EPIPE:
                return "broken";
        case ERANGE:
                return "failed";
        default:
                return "refused";
        }
}

static int acquire(struct stage *stage, int timeout_ms)
{
        return stage->lock        ? brood_lock_acquire(stage->lock, timeout_ms)
               : stage->semaphore ? brood_semaphore_acquire(stage->semaphore, timeout_ms)
                                  : brood_condition_acquire(stage->condition, timeout_ms);
}

static int release(struct stage *stage)
{
        return stage->lock        ? brood_lock_release(stage->lock)
               : stage->semaphore ? brood_semaphore_release(stage->semaphore)
                                  : brood_condition_release(stage->condition);
}

static int nap(struct stage *stage, int timeout_ms)
{
        int r = brood_condition_acquire(stage->condition, BROOD_FOREVER);

        if (r < 0)
                return r;
        r = brood_condition_wait(stage->condition, timeout_ms);
        return brood_condition_release(stage->condition) < 0 ? -EIO : r;
}

static struct answer ask(struct stage *stage, const struct question *question)
{
        const char *call = question->call;
        int first = question->count > 0 ? question->numbers[0] : BROOD_FOREVER,
            second = question->count > 1 ? question->numbers[1] : BROOD_FOREVER, r, told = -1;
        struct answer answer = { .number = -1 };

        if (strcmp(call, "acquire") == 0) {
                r = acquire(stage, first);
        } else if (strcmp(call, "release") == 0) {
                r = release(stage);
        } else if (strcmp(call, "value") == 0) {
                r = told = brood_semaphore_get_value(stage->semaphore);
        } else if (strcmp(call, "nap") == 0) {
                r = nap(stage, first);
        } else if (strcmp(call, "wait") == 0 && stage->barrier != NULL) {
                r = answer.number = brood_barrier_wait(stage->barrier, first);
        } else if (strcmp(call, "wait") == 0) {
                r = stage->event ? brood_event_wait(stage->event, first)
                                 : brood_condition_wait(stage->condition, first);
        } else if (strcmp(call, "wait_for") == 0) {
                struct sought sought = { stage->shared, first };
                r = brood_condition_wait_for(stage->condition, is_so_much, &sought, second);
        } else if (strcmp(call, "notify") == 0) {
                r = brood_condition_notify(stage->condition, first);
        } else if (strcmp(call, "notify_all") == 0) {
                r = brood_condition_notify_all(stage->condition);
        } else if (strcmp(call, "set_number") == 0) {
                atomic_store(&stage->shared->number, first);
                r = 0;
        } else if (strcmp(call, "set") == 0) {
                r = brood_event_set(stage->event);
        } else if (strcmp(call, "clear") == 0) {
                r = brood_event_clear(stage->event);
        } else if (strcmp(call, "reset") == 0) {
                r = brood_barrier_reset(stage->barrier);
        } else if (strcmp(call, "abort") == 0) {
                r = brood_barrier_abort(stage->barrier);
        } else if (strcmp(call, "parties") == 0) {
                r = told = brood_barrier_parties(stage->barrier);
        } else if (strcmp(call, "n_waiting") == 0) {
                r = told = brood_barrier_n_waiting(stage->barrier);
        } else if (strcmp(call, "actions") == 0) {
                r = told = atomic_load(&stage->shared->actions);
        } else if (strcmp(call, "is_set") == 0 || strcmp(call, "broken") == 0) {
                r = stage->event ? brood_event_is_set(stage->event) : brood_barrier_broken(stage->barrier);
                snprintf(answer.outcome, sizeof answer.outcome, "%s", r == 1 ? "true" : r == 0 ? "false" : "refused");
                return answer;
        } else {
                fprintf(stderr, "no such call: %s\n", call);
                exit(2);
        }
        if (told >= 0)
                snprintf(answer.outcome, sizeof answer.outcome, "%d", told);
        else
                snprintf(answer.outcome, sizeof answer.outcome, "%s", outcome_of(r));
        return answer;
}

static void *act_out(void *arg)
{
        struct actor *actor = arg;
        struct question question;

        while (read(actor->ends[1], &question, sizeof question) == sizeof question) {
                struct answer answer = ask(actor->stage, &question);
                if (write(actor->ends[1], &answer, sizeof answer) != sizeof answer)
                        break;
        }
        return NULL;
}

/* ---- the scripts ---- */

/* False: there is nothing in it. */
static bool take_apart(struct line *line, char *text, int number)
{
        char *comment = strchr(text, '#');
        const char *words[WORDS_MAX] = { NULL };
        int n = 0;

        if (comment != NULL)
                *comment = '\0';
        *line = (struct line){ .number = number, .head = *text == '[', .outcome = "ok" };
        if (line->head && strchr(text, ']') != NULL)
                text = strchr(text, ']') + 1;
        for (char *word = strtok(text, " \n"); word != NULL && n < WORDS_MAX; word = strtok(NULL, " \n"))
                words[n++] = word;
        if (n < 2)
                return false;
        line->who = words[0];
        line->call = words[1];
        for (int i = 2; i < n; i++)
                if (strcmp(words[i], "=") == 0 || strcmp(words[i], "|") == 0)
                        line->outcome = words[++i];
                else if (strcmp(words[1], ":") == 0)
                        line->outcome = words[i];
                else
                        line->arguments[line->count++] = words[i];
        return true;
}

static bool answered(struct actor *actor, int timeout_ms)
{
        return poll(&(struct pollfd){ .fd = actor->ends[0], .events = POLLIN }, 1, timeout_ms) == 1;
}

static struct answer hear(struct actor *actor, int numbers[NUMBERS_MAX])
{
        struct answer answer;

        if (read(actor->ends[0], &answer, sizeof answer) != sizeof answer)
                die("an actor has died");
        if (answer.number >= 0 && answer.number < NUMBERS_MAX)
                numbers[answer.number]++;
        actor->waiting = false;
        return answer;
}

/* How many of them return. */
static int count_returns(struct actor *actors, const struct line *line, int numbers[NUMBERS_MAX])
{
        int wanted = atoi(line->outcome), came = 0;

        for (int turn = 0; turn < LIMIT_MS && came < wanted; turn++)
                for (const char *who = line->who; *who != '\0'; who++)
                        if (actors[*who - 'A'].waiting && answered(&actors[*who - 'A'], 1))
                                came += strcmp(hear(&actors[*who - 'A'], numbers).outcome, "ok") == 0;
        poll(NULL, 0, MOMENT_MS);
        for (const char *who = line->who; *who != '\0'; who++)
                if (actors[*who - 'A'].waiting && answered(&actors[*who - 'A'], 0)) {
                        hear(&actors[*who - 'A'], numbers);
                        came++;
                }
        return came;
}

static int make(struct stage *stage, const struct line *head)
{
        int number = head->count > 0 ? atoi(head->arguments[0]) : 0;

        stage->kind = head->call;
        if (strcmp(head->call, "Lock") == 0)
                return brood_lock_new(&stage->lock);
        if (strcmp(head->call, "RLock") == 0)
                return brood_rlock_new(&stage->lock);
        if (strcmp(head->call, "Semaphore") == 0)
                return brood_semaphore_new(&stage->semaphore, number, NULL);
        if (strcmp(head->call, "BoundedSemaphore") == 0)
                return brood_bounded_semaphore_new(&stage->semaphore, number);
        if (strcmp(head->call, "Condition") == 0)
                return brood_condition_new(&stage->condition, NULL);
        if (strcmp(head->call, "Event") == 0)
                return brood_event_new(&stage->event);
        stage->shared->failing = head->count > 1 && strcmp(head->arguments[1], "failing") == 0;
        return brood_barrier_new(
            &stage->barrier, number,
            &(brood_barrier_options){ .action = head->count > 1 ? act : NULL, .arg = stage->shared });
}

static void start(struct actor *actor, struct stage *stage, bool thread)
{
        pthread_t id;
        pid_t pid;

        *actor = (struct actor){ .stage = stage };
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, actor->ends) < 0)
                die("socketpair");
        if (thread) {
                if (pthread_create(&id, NULL, act_out, actor) != 0)
                        die("pthread_create");
                return;
        }
        pid = fork();
        if (pid < 0)
                die("fork");
        if (pid == 0) {
                act_out(actor);
                _exit(0);
        }
}

static void print_numbers(int at, const int numbers[NUMBERS_MAX])
{
        const char *between = " ";

        printf("%d", at);
        for (int i = 0; i < NUMBERS_MAX; i++)
                for (int times = numbers[i]; times > 0; times--, between = ",")
                        printf("%s%d", between, i);
        printf("\n");
}

static void play(const struct line *lines, int count)
{
        struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct stage stage = { .shared = shared };
        struct actor actors[ACTORS];
        int numbers[NUMBERS_MAX] = { 0 };

        if (shared == MAP_FAILED)
                die("mmap");
        int r = make(&stage, &lines[0]);
        printf("%d %s\n", lines[0].number, outcome_of(r));
        fflush(stdout);
        for (int i = 0; r == 0 && i < ACTORS; i++)
                start(&actors[i], &stage, strcmp(lines[0].who, "threads") == 0);
        for (int i = 1; r == 0 && i < count; i++) {
                const struct line *line = &lines[i];
                struct actor *actor = &actors[line->who[0] - 'A'];
                if (strcmp(line->call, "numbers") == 0) {
                        print_numbers(line->number, numbers);
                        continue;
                }
                if (strlen(line->who) > 1) {
                        printf("%d %d\n", line->number, count_returns(actors, line, numbers));
                        continue;
                }
                if (line->call[0] != ':') {
                        struct question question = { .count = line->count };
                        snprintf(question.call, sizeof question.call, "%s", line->call);
                        for (int n = 0; n < line->count && n < 2; n++)
                                question.numbers[n] = atoi(line->arguments[n]);
                        if (write(actor->ends[0], &question, sizeof question) != sizeof question)
                                die("write");
                        actor->waiting = true;
                }
                bool back = answered(actor, strcmp(line->outcome, "...") == 0 ? MOMENT_MS : LIMIT_MS);
                printf("%d %s\n", line->number, back ? hear(actor, numbers).outcome : "...");
        }
        fflush(stdout);
}

int main(int argc, char **argv)
{
        static char texts[LINES_MAX][LINE_BYTES];
        static struct line lines[LINES_MAX];
        int count = 0, number = 0;
        FILE *file = argc == 2 ? fopen(argv[1], "re") : NULL;

        if (file == NULL)
                die("the scripts");
        while (count < LINES_MAX && fgets(texts[count], LINE_BYTES, file) != NULL)
                count += take_apart(&lines[count], texts[count], ++number);
        fclose(file);
        for (int next, first = 0; first < count; first = next) {
                for (next = first + 1; next < count && !lines[next].head;)
                        next++;
                pid_t pid = fork();
                if (pid < 0)
                        die("fork");
                if (pid == 0) {
                        setpgid(0, 0);
                        play(&lines[first], next - first);
                        kill(0, SIGKILL);
                }
                while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        return 0;
}
