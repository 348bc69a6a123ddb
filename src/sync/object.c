/* SPDX-License-Identifier: MIT */
#include "sync/object.h"

#include <errno.h>

static size_t owners_at(const struct object_kind *kind)
{
        return OBJECT_WORDS_AT + round_up(kind->words, 64);
}

static size_t tail_at(const struct object_kind *kind)
{
        return owners_at(kind) + sizeof(struct owners);
}

static uint64_t layout_of(const struct object_kind *kind)
{
        const uint64_t parts[] = { sizeof(struct user_shared), kind->words, owners_at(kind), tail_at(kind),
                                   kind->tail };
        uint64_t signature = LAYOUT_START;

        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
                signature = layout_fold(signature, parts[i]);
        return signature;
}

static void open_views(struct object *object, const struct object_kind *kind)
{
        const struct region *region = &object->region;

        object->words = region_at(region, OBJECT_WORDS_AT);
        object->tail = kind->tail > 0 ? region_at(region, tail_at(kind)) : NULL;
        user_init(&object->user, region_at(region, sizeof(struct region_head)), region_at(region, owners_at(kind)),
                  &kind->hooks, object);
}

int object_new(struct object *object, const struct object_kind *kind)
{
        size_t size = tail_at(kind) + kind->tail;
        int r = region_new(&object->region, kind->name, kind->kind, layout_of(kind), size, size);

        if (r == 0)
                open_views(object, kind);
        return r;
}

int object_attach(struct object *object, const struct object_kind *kind, int fd)
{
        int r = region_attach(&object->region, fd, kind->kind);

        if (r < 0)
                return r;
        if (object->region.head->layout != layout_of(kind))
                r = -EPROTONOSUPPORT;
        else if (object->region.size < tail_at(kind) + kind->tail)
                r = -EUCLEAN;
        if (r < 0)
                region_drop(&object->region);
        else
                open_views(object, kind);
        return r;
}

void object_drop(struct object *object)
{
        user_end(&object->user);
        region_drop(&object->region);
}
