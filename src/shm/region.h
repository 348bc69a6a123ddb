/* SPDX-License-Identifier: MIT
 *
 * shm/region.h: a piece of anonymous shared memory with a head that says what it is.
 *
 * A region is a sealed memfd, mapped shared.  It begins with struct region_head: magic, the version of the format, the
 * signature of the layout (a hash over the sizes and offsets of the structs in it, so that two builds that would disagree
 * never meet), its kind and its size.  Nothing in a region is a pointer; what another process may have written is checked
 * before it is believed.
 *
 *   region_head member   written by            read by         frozen
 *   all                  region_new, once      region_check    before anybody else can see it
 */
#ifndef BROOD_SHM_REGION_H
#define BROOD_SHM_REGION_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define REGION_MAGIC UINT64_C(0x31646f6f72620a1a) /* "\x1a\nbrood1" */
#define REGION_VERSION 1

struct region_head {
        uint64_t magic;
        uint32_t version;
        uint32_t kind;
        uint64_t layout;
        uint64_t size;
        uint64_t reserved[4];
};
static_assert(sizeof(struct region_head) == 64, "one cache line");

enum region_kind {
        REGION_QUEUE = 1,
        REGION_POOL = 2,
        REGION_INSIGHT = 3,
        REGION_LOCK = 16,
        REGION_SEMAPHORE,
        REGION_CONDITION,
        REGION_EVENT,
        REGION_BARRIER,
        REGION_RWLOCK,
        REGION_SHARED = 32,
        REGION_ARRAY = 33,
};

/* This process's view of a region. */
struct region {
        int fd;
        size_t size;
        struct region_head *head; /* the start of the mapping */
};

#define REGION_NONE                                                                                                    \
        {                                                                                                              \
                -1, 0, NULL                                                                                            \
        }

/* Make a region of `size` bytes (rounded up to pages) whose first `commit` bytes have memory behind them. 0; -ENOMEM,
 * -EMFILE, -ENFILE, -E2BIG. */
int region_new(struct region *region, const char *name, enum region_kind kind, uint64_t layout, size_t size,
               size_t commit);

/* The same of the huge pages that the administrator has set aside, and rounded up to those.  Also -EOPNOTSUPP: there are none. */
int region_new_huge(struct region *region, const char *name, enum region_kind kind, uint64_t layout, size_t size,
                    size_t commit);

/* A view of a region that another process has made; duplicates `fd`.  0; the errors of memfd_check(); -EUCLEAN (no region of
 * that kind);
 * -EPROTONOSUPPORT (of another version); -ENOMEM; -EMFILE. */
int region_attach(struct region *region, int fd, enum region_kind kind);

/* End this process's view. */
void region_drop(struct region *region);

/* Whether the head still says what region_new wrote: 0 or -EUCLEAN. */
int region_check(const struct region *region, enum region_kind kind, uint64_t layout);

/* Put memory behind `size` bytes at `offset`: 0, or -ENOMEM instead of a SIGBUS later. */
int region_commit(const struct region *region, size_t offset, size_t size);

/* Give the memory behind `size` bytes at `offset` back to the kernel: whole pages; a failure only leaves it where it is. */
void region_release(const struct region *region, size_t offset, size_t size);

static inline void *region_at(const struct region *region, size_t offset)
{
        assert(offset < region->size);
        return (unsigned char *)region->head + offset;
}

/* Fold a number into a layout signature (FNV-1a, by Fowler, Noll and Vo, on 64-bit words). */
static inline uint64_t layout_fold(uint64_t signature, uint64_t number)
{
        return (signature ^ number) * UINT64_C(0x100000001b3);
}
#define LAYOUT_START UINT64_C(0xcbf29ce484222325)

/* Round up to a multiple of a power of two. */
static inline size_t round_up(size_t value, size_t multiple)
{
        return (value + multiple - 1) & ~(multiple - 1);
}

#endif
