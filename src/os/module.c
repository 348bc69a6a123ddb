/* SPDX-License-Identifier: MIT */
#include "os/module.h"
#include "os/errno.h"

#include <link.h>
#include <stdlib.h>

static int take_module(struct dl_phdr_info *info, size_t size, void *data)
{
        struct module_map *map = data;

        (void)size;
        for (int i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

                if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
                        continue;
                struct module_range *ranges = realloc(map->ranges, (map->count + 1) * sizeof *ranges);
                if (ranges == NULL)
                        return -ENOMEM;
                map->ranges = ranges;
                uintptr_t start = info->dlpi_addr + segment->p_vaddr;
                ranges[map->count++] = (struct module_range){ start, start + segment->p_memsz };
        }
        return 0;
}

int module_map_take(struct module_map *map)
{
        KEEP_ERRNO;
        *map = (struct module_map){ 0 };
        int r = dl_iterate_phdr(take_module, map);
        if (r < 0)
                module_map_drop(map);
        return r;
}

void module_map_drop(struct module_map *map)
{
        free(map->ranges);
        *map = (struct module_map){ 0 };
}

bool module_map_holds(const struct module_map *map, uintptr_t code)
{
        for (size_t i = 0; i < map->count; i++)
                if (code >= map->ranges[i].start && code < map->ranges[i].end)
                        return true;
        return false;
}
