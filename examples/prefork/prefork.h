/* SPDX-License-Identifier: MIT
 *
 * prefork.h: what the parent and the workers of the example prefork share.
 *
 *     prefork.c   the parent: options, the socket that listens, and a worker in each of its slots
 *     worker.c    a worker: a process class, whose processes accept connections and answer requests
 *     figures.c   what the workers tell: figures for /stats, and the log
 *     http.c      what a request is, and what it is answered with
 *
 * Three ways lead from a worker to its parent, and each has a thing of brood's:
 *
 *     figures     shared memory, one score for each slot, which all workers read for /stats
 *     log lines   one queue, from all workers
 *     control     a connection for each worker: "ready", "stop", "bye"
 *
 * Each of them outlives the worker: what it had written when it crashed is there.
 */
#ifndef PREFORK_H
#define PREFORK_H

#include "http.h"

#include <brood/brood.h>

#include <stdio.h>

#define WORKERS_MAX 64

/* What a slot's workers have done, one after the other.  Written by the worker (but `open` and `pid`, which its parent clears when
 * it has died), read by everybody. */
struct score {
        uint64_t connections, requests, bytes;
        uint64_t open;     /* connections now */
        uint64_t log_lost; /* lines that found the queue full */
        int64_t pid;       /* 0: none is ready */
};

/* What the parent has seen. */
struct board {
        int64_t started_s;
        uint64_t births;           /* of workers */
        uint64_t deaths;           /* of those that were not told to end */
        uint64_t lost_connections; /* that were open then */
};

enum word { WORD_READY = 1, WORD_STOP, WORD_BYE };

struct control {
        uint32_t word;
        uint32_t cut; /* WORD_BYE: connections that had to be cut off */
};

struct slot {
        brood_process *process;    /* NULL: none just now */
        brood_connection *control; /* the parent's end */
        bool ready;
};

struct server {
        int workers, timeout_ms, grace_ms;
        bool allow_crash;
        int listener;
        struct slot slots[WORKERS_MAX];
        brood_array *scores; /* of struct score */
        brood_value *board;  /* struct board */
        brood_queue *log;    /* of struct hit (figures.c); NULL: none is wanted */
        FILE *log_file;      /* the parent's */
};

/* The class's argument. */
struct worker_place {
        struct server *server;
        int index;                 /* of the slot */
        brood_connection *control; /* the worker's end */
};

extern const brood_process_class worker_class;

/* ---- figures.c ---- */

#define FIGURES_MAX 16384 /* bytes of them */

int figures_open(struct server *server);
void figures_close(struct server *server);
struct score *score_of(const struct server *server, int index);
struct board *board_of(const struct server *server);

/* In any process: all figures as JSON, as the worker of that slot tells them.  Returns how many bytes. */
size_t figures_write(const struct server *server, int index, char text[FIGURES_MAX]);

/* In the parent: the sums, on stderr. */
void figures_print(const struct server *server, uint64_t cut);

/* In the parent: have a log, at the end of a file, or on stdout ("-"); write what has come; close it. */
int log_open(struct server *server, const char *path);
void log_write(struct server *server);
int log_close(struct server *server);

/* In a worker: a line for the log. */
void log_hit(const struct server *server, int index, const struct http_request *request, int status, size_t bytes);

#endif
