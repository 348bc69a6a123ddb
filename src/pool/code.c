/* SPDX-License-Identifier: MIT */
#include "pool/code.h"

#include <errno.h>
#include <stdlib.h>

void code_table_write(struct code_module *table, const struct module_map *modules)
{
        for (size_t i = 0; i < modules->count; i++) {
                const struct module_range *range = &modules->ranges[i];

                table[i] = (struct code_module){ .start = range->start, .end = range->end };
                module_place_of(range->start, &table[i].place); /* -ENOEXEC leaves it empty */
        }
}

void code_table_follow(const struct code_module *table, struct module_map *modules)
{
        size_t kept = 0;

        for (size_t i = 0; i < modules->count; i++)
                if (table[i].here != 0)
                        modules->ranges[kept++] = modules->ranges[i];
        modules->count = kept;
}

int code_map_make(struct code_map *map, struct code_module *table, size_t count)
{
        struct code_move *moves = calloc(count + 1, sizeof *moves); /* one at least, for `last` */

        if (moves == NULL)
                return -ENOMEM;
        *map = (struct code_map){ .moves = moves, .last = moves };
        for (size_t i = 0; i < count; i++) {
                uintptr_t address;

                if (table[i].place.id_size == 0 || module_find(&table[i].place, true, &address) < 0)
                        continue;
                moves[map->count++] = (struct code_move){
                        .start = (uintptr_t)table[i].start,
                        .end = (uintptr_t)table[i].end,
                        .distance = address - (uintptr_t)table[i].start,
                };
                table[i].here = 1;
        }
        return 0;
}

bool code_map_find(struct code_map *map, uint64_t function)
{
        for (size_t i = 0; i < map->count; i++)
                if (function >= map->moves[i].start && function < map->moves[i].end) {
                        map->last = &map->moves[i];
                        return true;
                }
        return false;
}

uint64_t code_there(const struct code_map *map, brood_task_function function)
{
        uint64_t here = (uintptr_t)function;

        if (map->moves == NULL)
                return here;
        for (size_t i = 0; i < map->count; i++) {
                uint64_t there = here - map->moves[i].distance;
                if (there >= map->moves[i].start && there < map->moves[i].end)
                        return there;
        }
        return 0;
}
