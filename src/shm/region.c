/* SPDX-License-Identifier: MIT */
#include "shm/region.h"
#include "os/descriptors.h"
#include "os/memfd.h"

#include <errno.h>

/* Map a new memfd (or hand on the error in its place), and write the head. */
static int begin(struct region *region, int fd, enum region_kind kind, uint64_t layout, size_t size)
{
        void *memory;

        if (fd < 0)
                return fd;
        int r = memory_map(fd, size, &memory);
        if (r < 0) {
                descriptor_close(&fd);
                return r;
        }
        *region = (struct region){ .fd = fd, .size = size, .head = memory };
        *region->head = (struct region_head){
                .magic = REGION_MAGIC,
                .version = REGION_VERSION,
                .kind = kind,
                .layout = layout,
                .size = size,
        };
        return 0;
}

int region_new(struct region *region, const char *name, enum region_kind kind, uint64_t layout, size_t size,
               size_t commit)
{
        size_t page = memory_page_size();

        if (size > SIZE_MAX / 2)
                return -E2BIG;
        size = round_up(size, page);
        return begin(region, memfd_new(name, size, round_up(commit, page)), kind, layout, size);
}

int region_new_huge(struct region *region, const char *name, enum region_kind kind, uint64_t layout, size_t size,
                    size_t commit)
{
        if (size > SIZE_MAX / 2)
                return -E2BIG;
        int fd = memfd_new_huge(name, &size, commit);
        return begin(region, fd, kind, layout, size);
}

int region_attach(struct region *region, int fd, enum region_kind kind)
{
        void *memory;
        size_t size;

        int r = memfd_check(fd, &size);
        if (r < 0)
                return r;
        if (size < sizeof(struct region_head) || size > SIZE_MAX / 2)
                return -EUCLEAN;
        int copy = descriptor_duplicate(fd);
        if (copy < 0)
                return copy;
        r = memory_map(copy, size, &memory);
        if (r < 0) {
                descriptor_close(&copy);
                return r;
        }
        *region = (struct region){ .fd = copy, .size = size, .head = memory };
        if (region->head->magic != REGION_MAGIC || region->head->kind != (uint32_t)kind || region->head->size != size)
                r = -EUCLEAN;
        else if (region->head->version != REGION_VERSION)
                r = -EPROTONOSUPPORT;
        if (r < 0)
                region_drop(region);
        return r;
}

void region_drop(struct region *region)
{
        if (region->head != NULL)
                memory_unmap(region->head, region->size);
        descriptor_close(&region->fd);
        *region = (struct region)REGION_NONE;
}

int region_check(const struct region *region, enum region_kind kind, uint64_t layout)
{
        const struct region_head *head = region->head;

        return head->magic == REGION_MAGIC && head->version == REGION_VERSION && head->kind == (uint32_t)kind &&
                       head->layout == layout && head->size == region->size
                   ? 0
                   : -EUCLEAN;
}

int region_commit(const struct region *region, size_t offset, size_t size)
{
        return memfd_commit(region->fd, offset, size);
}

void region_release(const struct region *region, size_t offset, size_t size)
{
        memfd_release(region->fd, offset, size);
}
