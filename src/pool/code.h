/* SPDX-License-Identifier: MIT
 *
 * pool/code.h: where a function of the host's lies in a worker that is no copy of the host.
 *
 * A task names its function by its address in the host.  A keeper that was spawned, and the workers that it forks, have the same
 * modules (the program, its shared libraries) elsewhere.  So the host writes into the region where the code of each of its
 * modules begins and ends, and by what it is known in any process (os/module.h); the keeper looks each up, says which ones it has,
 * and notes in its own memory how far each has moved.
 *
 *   struct code_module      written by                        read by           when it freezes
 *   start, end, place       the host, before the keeper's     keeper            at once
 *                           start
 *   here                    the keeper, while the pool is     host              when the pool is RUNNING
 *                           STARTING
 */
#ifndef BROOD_POOL_CODE_H
#define BROOD_POOL_CODE_H

#include <brood/pool.h>

#include "os/module.h"

#include <assert.h>

struct code_module {
        uint64_t start, end;
        struct module_place place; /* of `start`; its id has no bytes: nobody else can find it */
        uint32_t here;
        uint32_t reserved;
};
static_assert(sizeof(struct code_module) == 104, "layout");

/* A process's own view.  No moves: all is where it is in the host. */
struct code_map {
        struct code_move {
                uintptr_t start, end; /* in the host */
                uintptr_t distance;   /* from there to here */
        } * moves, *last;             /* `last`: where the last function was found */
        size_t count;
};

/* In the host: write the table, one entry for each of its modules; and forget, after the keeper's answer, those modules that the
 * workers have not. */
void code_table_write(struct code_module *table, const struct module_map *modules);
void code_table_follow(const struct code_module *table, struct module_map *modules);

/* In the keeper: look up what is in the table, and say there what is here: 0 or -ENOMEM.  The map stays until the process ends. */
int code_map_make(struct code_map *map, struct code_module *table, size_t count);

/* Have `last` be the move of a function: whether there is one. */
bool code_map_find(struct code_map *map, uint64_t function);

/* In a worker: the host's function; NULL: it is not here. */
static inline brood_task_function code_here(struct code_map *map, uint64_t function)
{
        if (map->moves == NULL)
                return (brood_task_function)(uintptr_t)function;
        if ((function < map->last->start || function >= map->last->end) && !code_map_find(map, function))
                return NULL;
        return (brood_task_function)((uintptr_t)function + map->last->distance);
}

/* And back: what the host knows a worker's function by; 0: by nothing. */
uint64_t code_there(const struct code_map *map, brood_task_function function);

#endif
