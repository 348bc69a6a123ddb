/* SPDX-License-Identifier: MIT
 *
 * pool/trace.c: the records of a pool as Chrome trace events.
 *
 * Only the shared memory is read, as in pool/stats.c.  What is in it is not believed to be text: names are made here.
 */
#include <brood/trace.h>

#include "os/clock.h"
#include "os/descriptors.h"
#include "os/module.h"
#include "pool/pool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
        BUFFER = 16 << 10,
        LINE_MAX_SIZE = 1024, /* an event is shorter */
        NAME_MAX_SIZE = 256,
};

struct output {
        const brood_pool *pool;
        int fd;
        int error; /* of the first write that failed */
        size_t used;
        uint64_t named; /* the function whose name this is: */
        char name[NAME_MAX_SIZE];
        char buffer[BUFFER];
};

static void output_flush(struct output *output)
{
        if (output->error == 0)
                output->error = descriptor_write(output->fd, output->buffer, output->used);
        output->used = 0;
}

__attribute__((format(printf, 2, 3))) static void output_print(struct output *output, const char *format, ...)
{
        va_list arguments;

        if (BUFFER - output->used < LINE_MAX_SIZE)
                output_flush(output);
        va_start(arguments, format);
        int n = vsnprintf(output->buffer + output->used, LINE_MAX_SIZE, format, arguments);
        va_end(arguments);
        assert(n >= 0 && n < LINE_MAX_SIZE);
        output->used += (size_t)n;
}

/* Neither a quote nor what JSON has no character for. */
static void make_plain(char *text)
{
        for (; *text != '\0'; text++)
                if (*text < ' ' || *text > '~' || *text == '"' || *text == '\\')
                        *text = '?';
}

static const char *function_name(struct output *output, uint64_t function)
{
        if (output->named != function || output->name[0] == '\0') {
                output->named = function;
                module_describe((uintptr_t)function, output->name, sizeof output->name);
                make_plain(output->name);
        }
        return output->name;
}

static const char *outcome_name(int outcome)
{
        static const char *const names[] = {
                [BROOD_OUTCOME_PENDING] = "running",
                [BROOD_OUTCOME_OK] = "ok",
                [BROOD_OUTCOME_ERROR] = "error",
                [BROOD_OUTCOME_EXITED] = "exited",
                [BROOD_OUTCOME_SIGNALED] = "signaled",
                [BROOD_OUTCOME_CANCELED] = "canceled",
                [BROOD_OUTCOME_BROKEN] = "broken",
                [BROOD_OUTCOME_TIME] = "time",
                [BROOD_OUTCOME_CPU] = "cpu",
                [BROOD_OUTCOME_MEMORY] = "memory",
                [BROOD_OUTCOME_OUT_OF_MEMORY] = "out of memory",
        };

        return outcome >= 0 && (size_t)outcome < sizeof names / sizeof *names ? names[outcome] : "other";
}

/* Nanoseconds as microseconds; a task that has run wild may have made them anything. */
#define TIME_FORMAT "%" PRIu64 ".%03u"
#define TIME_VALUES(ns) ((ns) > 0 ? (uint64_t)(ns) / 1000 : 0), ((ns) > 0 ? (unsigned)((uint64_t)(ns) % 1000) : 0)

static void print_try(struct output *output, uint32_t number, const struct try_record *try)
{
        output_print(output,
                     ",\n{\"ph\":\"X\",\"name\":\"%s\",\"cat\":\"task\",\"pid\":%d,\"tid\":%" PRIu32
                     ",\"ts\":" TIME_FORMAT ",\"dur\":" TIME_FORMAT,
                     function_name(output, try->function), (int)output->pool->owner, number + 1,
                     TIME_VALUES(try->started), TIME_VALUES(try->ended - try->started));
        output_print(output,
                     ",\"args\":{\"task\":\"%" PRIu32 ".%" PRIu32 "\",\"worker\":%" PRIu32 ",\"try\":%" PRIu32
                     ",\"outcome\":\"%s\",\"error\":%d,\"queued\":" TIME_FORMAT ",\"waited\":" TIME_FORMAT "}}",
                     ticket_index(try->ticket), ticket_generation(try->ticket), try->worker, try->retried + 1,
                     outcome_name(try->outcome), try->error, TIME_VALUES(try->queued),
                     TIME_VALUES(try->started - try->queued));
}

static void print_name(struct output *output, const char *what, unsigned tid, const char *name)
{
        output_print(output, "%s{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%d,\"tid\":%u,\"args\":{\"name\":\"%s\"}}",
                     tid == 0 ? "\n" : ",\n", what, (int)output->pool->owner, tid, name);
}

/* The task that runs now, if any; it may end while it is looked at. */
static void print_running(struct output *output, uint32_t number)
{
        const brood_pool *pool = output->pool;
        const struct worker_slot *slot = &pool->workers[number];
        uint64_t since = load_acquire(&slot->counts.since), ticket = load_acquire(&slot->task);
        const struct task *task = pool_running(pool, number);

        if (task == NULL || !(since & 1))
                return;
        struct try_record try = {
                .ticket = ticket,
                .function = task->function,
                .queued = insight_queued(pool, task),
                .started = (int64_t)since,
                .ended = clock_now(),
                .worker = load_relaxed(&slot->pid),
                .retried = task->retried,
        };
        if (pool_running(pool, number) == task && load_acquire(&slot->counts.since) == since)
                print_try(output, number, &try);
}

/* How many are lost. */
static uint64_t print_worker(struct output *output, uint32_t number)
{
        const brood_pool *pool = output->pool;
        uint64_t recorded = load_acquire(&insight_of(pool, number)->recorded);
        uint64_t first = recorded > pool->insight.records ? recorded - pool->insight.records : 0, lost = first;
        struct try_record try;
        char name[32];

        snprintf(name, sizeof name, "worker %" PRIu32, number);
        print_name(output, "thread_name", number + 1, name);
        for (uint64_t at = first; at < recorded && output->error == 0; at++) {
                if (insight_read(pool, number, at, &try))
                        print_try(output, number, &try);
                else
                        lost++;
        }
        print_running(output, number);
        return lost;
}

int brood_pool_write_trace(const brood_pool *pool, int fd)
{
        if (pool == NULL)
                return -EINVAL;
        if (!insight_on(pool) || pool->insight.records == 0)
                return -ENODATA;
        struct output output = { .pool = pool, .fd = fd };
        uint64_t lost = 0;
        output_print(&output, "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[");
        print_name(&output, "process_name", 0, "brood pool");
        for (uint32_t i = 0, count = pool_places(pool); i < count; i++)
                lost += print_worker(&output, i);
        output_print(&output, "\n],\"otherData\":{\"lost\":%" PRIu64 "}}\n", lost);
        output_flush(&output);
        return output.error;
}
