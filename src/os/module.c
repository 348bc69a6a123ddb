/* SPDX-License-Identifier: MIT */
#include "os/module.h"
#include "os/errno.h"

#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* ---- places ---- */

struct search {
        uintptr_t address;          /* looked for, or found */
        struct module_place *place; /* found... */
        const struct module_place *wanted;
        bool code;
        int result;
};

static uintptr_t rounded_up(uintptr_t size, uintptr_t alignment)
{
        return (size + alignment - 1) & ~(alignment - 1);
}

/* The build-id among the notes of one segment, which are in memory as they are in the file. */
static const unsigned char *id_in_notes(uintptr_t at, uintptr_t end, uintptr_t alignment, uint32_t *ret_size)
{
        static const char owner[] = "GNU";

        while (end - at >= sizeof(ElfW(Nhdr))) {
                const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
                const char *name = (const char *)(note + 1);
                uintptr_t content = rounded_up(at + sizeof *note + note->n_namesz, alignment);
                uintptr_t next = rounded_up(content + note->n_descsz, alignment);

                if (content > end || end - content < note->n_descsz)
                        break;
                if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == sizeof owner &&
                    memcmp(name, owner, sizeof owner) == 0 && note->n_descsz > 0 && note->n_descsz <= MODULE_ID_MAX) {
                        *ret_size = note->n_descsz;
                        return (const unsigned char *)content;
                }
                if (next > end)
                        break;
                at = next;
        }
        return NULL;
}

static const unsigned char *id_of(const struct dl_phdr_info *info, uint32_t *ret_size)
{
        for (int i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
                uintptr_t start = info->dlpi_addr + segment->p_vaddr;

                if (segment->p_type != PT_NOTE)
                        continue;
                const unsigned char *id =
                    id_in_notes(start, start + segment->p_filesz, segment->p_align == 8 ? 8 : 4, ret_size);
                if (id != NULL)
                        return id;
        }
        return NULL;
}

static bool is_in_module(const struct dl_phdr_info *info, uintptr_t address, bool code)
{
        for (int i = 0; i < info->dlpi_phnum; i++) {
                const ElfW(Phdr) *segment = &info->dlpi_phdr[i];

                if (segment->p_type == PT_LOAD && (!code || (segment->p_flags & PF_X)) &&
                    address - (info->dlpi_addr + segment->p_vaddr) < segment->p_memsz)
                        return true;
        }
        return false;
}

static int look_for_address(struct dl_phdr_info *info, size_t size, void *data)
{
        struct search *search = data;

        (void)size;
        if (!is_in_module(info, search->address, false))
                return 0;
        uint32_t id_size;
        const unsigned char *id = id_of(info, &id_size);
        if (id == NULL)
                return 1;
        *search->place = (struct module_place){ .offset = search->address - info->dlpi_addr, .id_size = id_size };
        memcpy(search->place->id, id, id_size);
        search->result = 0;
        return 1;
}

int module_place_of(uintptr_t address, struct module_place *ret_place)
{
        KEEP_ERRNO;
        struct search search = { .address = address, .place = ret_place, .result = -ENOEXEC };

        dl_iterate_phdr(look_for_address, &search);
        return search.result;
}

static int look_for_module(struct dl_phdr_info *info, size_t size, void *data)
{
        struct search *search = data;
        uint32_t id_size;

        (void)size;
        const unsigned char *id = id_of(info, &id_size);
        if (id == NULL || id_size != search->wanted->id_size || memcmp(id, search->wanted->id, id_size) != 0)
                return 0;
        search->address = info->dlpi_addr + search->wanted->offset;
        search->result = is_in_module(info, search->address, search->code) ? 0 : -ENOEXEC;
        return 1;
}

int module_find(const struct module_place *place, bool code, uintptr_t *ret_address)
{
        KEEP_ERRNO;
        struct search search = { .wanted = place, .code = code, .result = -ELIBACC };

        dl_iterate_phdr(look_for_module, &search);
        if (search.result == 0)
                *ret_address = search.address;
        return search.result;
}

/* ---- for people ---- */

struct description {
        uintptr_t address;
        char *text;
        size_t room;
};

static int describe_if_there(struct dl_phdr_info *info, size_t size, void *data)
{
        struct description *description = data;

        (void)size;
        if (!is_in_module(info, description->address, false))
                return 0;
        const char *path =
            info->dlpi_name != NULL && *info->dlpi_name != '\0' ? info->dlpi_name : program_invocation_name;
        const char *slash = strrchr(path, '/');
        snprintf(description->text, description->room, "%s+0x%lx", slash != NULL ? slash + 1 : path,
                 (unsigned long)(description->address - info->dlpi_addr));
        return 1;
}

void module_describe(uintptr_t address, char *text, size_t room)
{
        KEEP_ERRNO;
        struct description description = { .address = address, .text = text, .room = room };

        if (dl_iterate_phdr(describe_if_there, &description) == 0)
                snprintf(text, room, "0x%lx", (unsigned long)address);
}
