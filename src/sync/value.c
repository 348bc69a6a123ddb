/* SPDX-License-Identifier: MIT
 *
 * sync/value.c: values and arrays: a region that holds items, and has room for the lock that goes with them.
 *
 *     struct region_head
 *     struct array_head
 *     struct lock_place                   whether or not there is one, so that the items are always at the same place
 *     the items                           from byte 256 on
 *     unless raw: struct owners           who may hold the lock
 *
 *   array_head member         written by                    read by    frozen
 *   count, item_size, raw     brood_array_new, once         attach     before anybody else can see it
 */
#include <brood/value.h>

#include "os/memfd.h"
#include "os/options.h"
#include "sync/lock.h"

#include <stdlib.h>
#include <string.h>

struct array_head {
        uint64_t count;
        uint64_t item_size;
        uint32_t raw;
        uint32_t reserved;
        uint64_t reserved_too[5];
};
static_assert(sizeof(struct array_head) == 64, "shared");

enum {
        ARRAY_HEAD = sizeof(struct region_head),
        ARRAY_LOCK = ARRAY_HEAD + sizeof(struct array_head),
        ARRAY_ITEMS = 256,
        ARRAY_ALIGN = 128, /* of the items: x86 fetches cache lines in pairs */
};
static_assert(ARRAY_LOCK + sizeof(struct lock_place) <= ARRAY_ITEMS && ARRAY_ITEMS % ARRAY_ALIGN == 0, "room for all");

struct brood_array {
        struct region region;
        struct brood_lock *lock; /* an RLock; NULL: raw */
        unsigned char *items;
        size_t count, item_size;
};

struct plan {
        size_t items; /* bytes of all */
        size_t owners, end;
};

/* -EINVAL, unless there is an array of this form. */
static int make_plan(struct plan *plan, size_t count, size_t item_size, bool raw)
{
        if (item_size == 0 || count > BROOD_ARRAY_SIZE_LIMIT / item_size)
                return -EINVAL;
        plan->items = count * item_size;
        plan->owners = round_up(ARRAY_ITEMS + plan->items, 64);
        plan->end = raw ? ARRAY_ITEMS + plan->items : plan->owners + sizeof(struct owners);
        return 0;
}

static uint64_t layout(const struct plan *plan)
{
        const size_t parts[] = { sizeof(struct array_head), ARRAY_LOCK,   ARRAY_ITEMS,
                                 sizeof(struct owners),     plan->owners, plan->end };
        uint64_t signature = LAYOUT_START;

        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
                signature = layout_fold(signature, parts[i]);
        return signature;
}

/* 0 or -ENOMEM. */
static int open_view(brood_array *array, const struct plan *plan, size_t count, size_t item_size, bool raw)
{
        array->items = (unsigned char *)array->region.head + ARRAY_ITEMS; /* of no items there may be no first one */
        array->count = count;
        array->item_size = item_size;
        if (raw)
                return 0;
        return lock_open(&array->lock, region_at(&array->region, ARRAY_LOCK), region_at(&array->region, plan->owners));
}

int brood_array_new_sized(brood_array **ret_array, size_t count, size_t item_size, const void *initial,
                          const brood_array_options *options, size_t options_size)
{
        brood_array_options known;
        struct plan plan;

        if (ret_array == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        r = make_plan(&plan, count, item_size, known.raw != 0);
        if (r < 0)
                return r;
        r = memory_ask(plan.end);
        if (r < 0)
                return r;
        brood_array *array = calloc(1, sizeof *array);
        if (array == NULL)
                return -ENOMEM;
        r = region_new(&array->region, "brood-array", REGION_ARRAY, layout(&plan), plan.end, plan.end);
        if (r < 0) {
                free(array);
                return r;
        }
        *(struct array_head *)region_at(&array->region, ARRAY_HEAD) = (struct array_head){
                .count = count,
                .item_size = item_size,
                .raw = known.raw != 0,
        };
        ((struct lock_place *)region_at(&array->region, ARRAY_LOCK))->lock.recursive = 1;
        r = open_view(array, &plan, count, item_size, known.raw != 0);
        if (r < 0) {
                brood_array_free(array);
                return r;
        }
        if (initial != NULL && plan.items > 0)
                memcpy(array->items, initial, plan.items);
        *ret_array = array;
        return 0;
}

/* The region says that it is an array: is it one that this brood would have made? */
static int check_region(const struct region *region, struct array_head *ret_head, struct plan *ret_plan)
{
        if (region->size < ARRAY_ITEMS)
                return -EUCLEAN;
        /* One copy, so that what is checked is what is used. */
        memcpy(ret_head, region_at(region, ARRAY_HEAD), sizeof *ret_head);
        if (make_plan(ret_plan, ret_head->count, ret_head->item_size, ret_head->raw != 0) < 0)
                return -EUCLEAN;
        if (region->head->layout != layout(ret_plan))
                return -EPROTONOSUPPORT;
        return region->size == round_up(ret_plan->end, memory_page_size()) ? 0 : -EUCLEAN;
}

int brood_array_attach(brood_array **ret_array, const int descriptors[BROOD_ARRAY_DESCRIPTORS], size_t item_size)
{
        struct array_head head;
        struct plan plan;

        if (ret_array == NULL || descriptors == NULL)
                return -EINVAL;
        brood_array *array = calloc(1, sizeof *array);
        if (array == NULL)
                return -ENOMEM;
        array->region = (struct region)REGION_NONE;
        int r = region_attach(&array->region, descriptors[0], REGION_ARRAY);
        if (r >= 0)
                r = check_region(&array->region, &head, &plan);
        if (r >= 0 && item_size != 0 && item_size != head.item_size)
                r = -EINVAL;
        if (r >= 0)
                r = open_view(array, &plan, head.count, head.item_size, head.raw != 0);
        if (r < 0) {
                brood_array_free(array);
                return r;
        }
        *ret_array = array;
        return 0;
}

void brood_array_free(brood_array *array)
{
        if (array == NULL)
                return;
        lock_close(array->lock);
        region_drop(&array->region);
        free(array);
}

void *brood_array_data(const brood_array *array)
{
        return array == NULL ? NULL : array->items;
}

void *brood_array_at(const brood_array *array, size_t index)
{
        return array == NULL || index >= array->count ? NULL : array->items + index * array->item_size;
}

size_t brood_array_count(const brood_array *array)
{
        return array == NULL ? 0 : array->count;
}

size_t brood_array_item_size(const brood_array *array)
{
        return array == NULL ? 0 : array->item_size;
}

brood_lock *brood_array_lock(const brood_array *array)
{
        return array == NULL ? NULL : array->lock;
}

int brood_array_descriptors(const brood_array *array, int ret_descriptors[BROOD_ARRAY_DESCRIPTORS])
{
        if (array == NULL || ret_descriptors == NULL)
                return -EINVAL;
        ret_descriptors[0] = array->region.fd;
        return 0;
}
