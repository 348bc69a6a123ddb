/* SPDX-License-Identifier: MIT
 *
 * os/module.h: which code a process has loaded, and where in it something lies.
 *
 * A function pointer means the same in a forked child only if its code was there before the fork.  In a process that has executed
 * the program anew it means nothing, for everything lies elsewhere; but the module that holds it (the program or a shared
 * library) is known by its build-id, which the linker has computed from its content, and the distance from the module's
 * beginning stays the same.
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

enum { MODULE_ID_MAX = 64 };

/* A function, or an object with static storage, in any process that has loaded its module. */
struct module_place {
        uint64_t offset; /* from where the module is loaded */
        uint32_t id_size;
        unsigned char id[MODULE_ID_MAX]; /* its build-id */
        uint32_t reserved;
};

/* What lies at an address of this process: 0; -ENOEXEC (no module holds it, or one without a build-id). */
int module_place_of(uintptr_t address, struct module_place *ret_place);

/* Where it lies in this process: 0; -ELIBACC (its module is not loaded here); -ENOEXEC (it is no place of that module, or, if
 * `code` is wanted, not in its code). */
int module_find(const struct module_place *place, bool code, uintptr_t *ret_address);

/* What lies at an address, for people: the module's name and the distance from where it is loaded, "program+0x11f9". */
void module_describe(uintptr_t address, char *text, size_t room);

#endif
