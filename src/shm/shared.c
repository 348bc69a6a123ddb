/* SPDX-License-Identifier: MIT
 *
 * shm/shared.c: the public shared memory: a region that holds a size, and from the next page on the user's bytes.
 *
 * The memfd is as long as the limit from the start, sealed against shrinking and growing, and mapped whole by everybody: so
 * nothing ever moves, and nobody has to be told to map more.  Growing puts memory behind more of it and then raises the size.
 *
 *   shared_head member    written by                          read by               frozen
 *   limit, huge_pages     brood_shared_new, once              attach                before anybody else can see it
 *   size                  brood_shared_grow, by CAS; only up  anybody               never
 *
 * Killed before the CAS, a grower leaves memory behind bytes beyond the size, which the next one takes for its own; killed
 * after it, it has grown.  There is nothing in between.
 */
#include <brood/shared.h>

#include "os/atomic.h"
#include "os/hugepages.h"
#include "os/memfd.h"
#include "os/options.h"
#include "shm/region.h"

#include <stdlib.h>
#include <string.h>

struct shared_head {
        uint64_t limit;
        uint32_t huge_pages;
        uint32_t reserved;
        atomic_u64 size;
        uint64_t reserved_too[5];
};
static_assert(sizeof(struct shared_head) == 64 && offsetof(struct shared_head, size) == 16, "shared");

struct brood_shared {
        struct region region;
        struct shared_head *head;
        unsigned char *data;
        size_t limit;
        int huge_pages;
};

/* Where the user's bytes are in the region. */
static size_t data_offset(void)
{
        return round_up(sizeof(struct region_head) + sizeof(struct shared_head), memory_page_size());
}

static uint64_t layout(void)
{
        uint64_t signature = layout_fold(LAYOUT_START, sizeof(struct shared_head));

        signature = layout_fold(signature, offsetof(struct shared_head, size));
        return layout_fold(signature, data_offset());
}

static int check_options(size_t size, brood_shared_options *options)
{
        if (options->limit == 0)
                options->limit = size;
        return options->limit == 0 || options->limit < size || options->limit > BROOD_SHARED_SIZE_LIMIT ||
                       options->huge_pages < 0 || options->huge_pages > BROOD_HUGE_PAGES_REQUIRED
                   ? -EINVAL
                   : 0;
}

static void open_view(brood_shared *shared, size_t limit, int huge_pages)
{
        shared->head = region_at(&shared->region, sizeof(struct region_head));
        shared->data = region_at(&shared->region, data_offset());
        shared->limit = limit;
        shared->huge_pages = huge_pages;
        if (huge_pages == BROOD_HUGE_PAGES_WANTED)
                hugepages_advise(shared->region.head, shared->region.size);
}

/* Put memory behind the user's bytes from `begin` to `end`. */
static int commit(brood_shared *shared, size_t begin, size_t end)
{
        if (shared->huge_pages != BROOD_HUGE_PAGES_REQUIRED && memory_ask(end - begin) < 0)
                return -ENOMEM;
        if (shared->huge_pages == BROOD_HUGE_PAGES_WANTED)
                hugepages_touch(shared->data + begin, end - begin);
        return region_commit(&shared->region, data_offset() + begin, end - begin);
}

static int make_region(brood_shared *shared, size_t size, const brood_shared_options *options)
{
        bool set_aside = options->huge_pages == BROOD_HUGE_PAGES_REQUIRED;
        size_t data = data_offset();
        int r = (set_aside ? region_new_huge : region_new)(&shared->region, "brood-shared", REGION_SHARED, layout(),
                                                           data + options->limit, data);

        if (r < 0)
                return r;
        open_view(shared, options->limit, options->huge_pages);
        *shared->head = (struct shared_head){
                .limit = options->limit,
                .huge_pages = (uint32_t)options->huge_pages,
                .size = size,
        };
        return commit(shared, 0, size);
}

int brood_shared_new_sized(brood_shared **ret_shared, size_t size, const brood_shared_options *options,
                           size_t options_size)
{
        brood_shared_options known;

        if (ret_shared == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        r = check_options(size, &known);
        if (r < 0)
                return r;
        brood_shared *shared = calloc(1, sizeof *shared);
        if (shared == NULL)
                return -ENOMEM;
        shared->region = (struct region)REGION_NONE;
        r = make_region(shared, size, &known);
        if (r < 0) {
                brood_shared_free(shared);
                return r;
        }
        *ret_shared = shared;
        return 0;
}

/* The region says that it is shared memory: is it as this brood would have made it? */
static int check_region(const struct region *region, brood_shared_options *ret_options)
{
        if (region->size < data_offset())
                return -EUCLEAN;
        if (region->head->layout != layout())
                return -EPROTONOSUPPORT;
        /* One copy, so that what is checked is what is used. */
        struct shared_head head;
        memcpy(&head, region_at(region, sizeof(struct region_head)), sizeof head);
        *ret_options = (brood_shared_options){ .limit = head.limit, .huge_pages = (int)head.huge_pages };
        if (head.limit == 0 || check_options(load_relaxed(&head.size), ret_options) < 0 ||
            head.limit > region->size - data_offset())
                return -EUCLEAN;
        return 0;
}

int brood_shared_attach(brood_shared **ret_shared, const int descriptors[BROOD_SHARED_DESCRIPTORS])
{
        brood_shared_options options;

        if (ret_shared == NULL || descriptors == NULL)
                return -EINVAL;
        brood_shared *shared = calloc(1, sizeof *shared);
        if (shared == NULL)
                return -ENOMEM;
        shared->region = (struct region)REGION_NONE;
        int r = region_attach(&shared->region, descriptors[0], REGION_SHARED);
        if (r >= 0)
                r = check_region(&shared->region, &options);
        if (r < 0) {
                brood_shared_free(shared);
                return r;
        }
        open_view(shared, options.limit, options.huge_pages);
        *ret_shared = shared;
        return 0;
}

void brood_shared_free(brood_shared *shared)
{
        if (shared == NULL)
                return;
        region_drop(&shared->region);
        free(shared);
}

void *brood_shared_data(const brood_shared *shared)
{
        return shared == NULL ? NULL : shared->data;
}

size_t brood_shared_size(const brood_shared *shared)
{
        if (shared == NULL)
                return 0;
        size_t size = load_acquire(&shared->head->size); /* A1: pairs with R1 in brood_shared_grow */
        return size <= shared->limit ? size : 0;
}

size_t brood_shared_limit(const brood_shared *shared)
{
        return shared == NULL ? 0 : shared->limit;
}

int brood_shared_grow(brood_shared *shared, size_t size)
{
        if (shared == NULL || size > shared->limit)
                return -EINVAL;
        for (;;) {
                size_t now = load_acquire(&shared->head->size);
                if (now > shared->limit)
                        return -EUCLEAN;
                if (now >= size)
                        return now == size ? 0 : -EALREADY;
                int r = commit(shared, now, size);
                if (r < 0)
                        return r;
                /* R1: pairs with A1 in brood_shared_size: who sees the size has memory behind it.  Two growers at once may both
                 * have put memory there, which comes to the same. */
                if (cas_u64(&shared->head->size, now, size))
                        return 0;
        }
}

ssize_t brood_shared_in_huge_pages(const brood_shared *shared)
{
        return shared == NULL ? -EINVAL : hugepages_mapped(shared->region.head, shared->region.size);
}

int brood_shared_descriptors(const brood_shared *shared, int ret_descriptors[BROOD_SHARED_DESCRIPTORS])
{
        if (shared == NULL || ret_descriptors == NULL)
                return -EINVAL;
        ret_descriptors[0] = shared->region.fd;
        return 0;
}
