/* SPDX-License-Identifier: MIT
 *
 * figures.c: what the workers of the example prefork tell: figures in shared memory, and lines of a log through a queue.
 */
#include "prefork.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define LOG_LINES 16384 /* in the queue */

typedef unsigned long long number; /* for printf(3) */

/* ---- figures ---- */

int figures_open(struct server *server)
{
        brood_array_options raw = { .raw = 1 }; /* each word has one writer at a time, or is only added to: no lock */
        struct board board = { .started_s = time(NULL) };
        int r = brood_array_new(&server->scores, (size_t)server->workers, sizeof(struct score), NULL, &raw);
        return r < 0 ? r : brood_value_new(&server->board, sizeof board, &board, &raw);
}

void figures_close(struct server *server)
{
        brood_array_free(server->scores);
        brood_value_free(server->board);
}

struct score *score_of(const struct server *server, int index)
{
        return brood_array_at(server->scores, (size_t)index);
}

struct board *board_of(const struct server *server)
{
        return brood_value_of(server->board, struct board);
}

/* The text and how much of it there is. */
struct writing {
        char *text;
        size_t size;
};

static void append(struct writing *writing, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void append(struct writing *writing, const char *format, ...)
{
        size_t room = FIGURES_MAX - writing->size;
        va_list arguments;
        va_start(arguments, format);
        int n = vsnprintf(writing->text + writing->size, room, format, arguments);
        va_end(arguments);
        if (n > 0)
                writing->size += (size_t)n < room ? (size_t)n : room - 1;
}

static void append_score(struct writing *writing, const struct score *score)
{
        append(writing, "{ \"pid\": %lld, \"connections\": %llu, \"open\": %llu, \"requests\": %llu, \"bytes\": %llu }",
               (long long)brood_atomic_load(&score->pid), (number)brood_atomic_load(&score->connections),
               (number)brood_atomic_load(&score->open), (number)brood_atomic_load(&score->requests),
               (number)brood_atomic_load(&score->bytes));
}

size_t figures_write(const struct server *server, int index, char text[FIGURES_MAX])
{
        const struct board *board = board_of(server);
        struct writing writing = { .text = text };
        append(&writing, "{\n  \"uptime_s\": %lld, \"answered_by\": %d,\n", (long long)(time(NULL) - board->started_s),
               index);
        append(&writing, "  \"births\": %llu, \"deaths\": %llu, \"lost_connections\": %llu,\n  \"workers\": [",
               (number)brood_atomic_load(&board->births), (number)brood_atomic_load(&board->deaths),
               (number)brood_atomic_load(&board->lost_connections));
        for (int i = 0; i < server->workers; i++) {
                append(&writing, "%s\n    ", i > 0 ? "," : "");
                append_score(&writing, score_of(server, i));
        }
        append(&writing, "\n  ]\n}\n");
        return writing.size;
}

void figures_print(const struct server *server, uint64_t cut)
{
        const struct board *board = board_of(server);
        struct score sum = { 0 };
        for (int i = 0; i < server->workers; i++) {
                const struct score *score = score_of(server, i);
                sum.connections += score->connections;
                sum.requests += score->requests;
                sum.bytes += score->bytes;
                sum.log_lost += score->log_lost;
        }
        fprintf(stderr, "prefork: %llu requests, %llu connections, %llu bytes\n", (number)sum.requests,
                (number)sum.connections, (number)sum.bytes);
        fprintf(stderr, "prefork: %llu workers, %llu died, and %llu connections with them\n", (number)board->births,
                (number)board->deaths, (number)board->lost_connections);
        fprintf(stderr, "prefork: %llu connections cut off in the end, %llu lines of the log lost\n", (number)cut,
                (number)sum.log_lost);
}

/* ---- the log ---- */

/* A line of it. */
struct hit {
        int64_t time_s;
        uint64_t bytes;
        int32_t worker, status;
        char method[8];
        char path[96]; /* as much of it */
};

int log_open(struct server *server, const char *path)
{
        server->log_file = strcmp(path, "-") == 0 ? stdout : fopen(path, "ae");
        if (server->log_file == NULL)
                return -errno;
        return brood_queue_new(&server->log,
                               &(brood_queue_options){ .maxsize = LOG_LINES, .message_size = sizeof(struct hit) });
}

void log_hit(const struct server *server, int index, const struct http_request *request, int status, size_t bytes)
{
        if (server->log == NULL)
                return;
        struct hit hit = { .time_s = time(NULL), .bytes = bytes, .worker = index, .status = status };
        bool known = request->path[0] != 0;
        snprintf(hit.method, sizeof hit.method, "%s", !known ? "-" : request->head ? "HEAD" : "GET");
        snprintf(hit.path, sizeof hit.path, "%.95s", known ? request->path : "-");
        /* The log is not worth waiting for. */
        if (brood_queue_put_nowait(server->log, &hit, sizeof hit) < 0)
                brood_atomic_fetch_add(&score_of(server, index)->log_lost, 1);
}

void log_write(struct server *server)
{
        struct hit hit;
        struct tm tm;
        char when[32];
        if (server->log == NULL)
                return;
        /* A queue full at most: there are workers to look after, too. */
        for (int i = 0; i < LOG_LINES && brood_queue_get_nowait(server->log, &hit, sizeof hit) == sizeof hit; i++) {
                time_t time_s = (time_t)hit.time_s;
                strftime(when, sizeof when, "%FT%TZ", gmtime_r(&time_s, &tm));
                fprintf(server->log_file, "%s worker %d \"%s %s\" %d %llu\n", when, hit.worker, hit.method, hit.path,
                        hit.status, (number)hit.bytes);
        }
        fflush(server->log_file);
}

int log_close(struct server *server)
{
        if (server->log == NULL)
                return 0;
        brood_queue_free(server->log);
        server->log = NULL;
        return ferror(server->log_file) || fclose(server->log_file) != 0 ? -EIO : 0;
}
