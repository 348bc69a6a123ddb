/* SPDX-License-Identifier: MIT
 *
 * os/module.h: which code a process has loaded.  A function pointer means the same in a forked child only if its code was there
 * before the fork.
 */
#ifndef BROOD_OS_MODULE_H
#define BROOD_OS_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct module_map {
        struct module_range {
                uintptr_t start, end;
        } * ranges;
        size_t count;
};

/* The executable segments of the program and its shared libraries, as they are loaded now.  0 or -ENOMEM. */
int module_map_take(struct module_map *map);
void module_map_drop(struct module_map *map);

bool module_map_holds(const struct module_map *map, uintptr_t code);

#endif
