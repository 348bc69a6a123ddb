/* SPDX-License-Identifier: MIT */
#include "queue/spill.h"

#include <errno.h>

/* | kind 3 | 61 bits: a position; or generation 29, entry 12; or an owner | */
enum holder_kind {
        NOBODY = 0,
        POSITION = 1,
        LEASE = 2,
        TRIMMER = 3,
};

enum {
        HOLDER_BITS = 61,
        LEASE_ENTRY_BITS = 12,
        LEASE_GENERATION_BITS = 29,
        TABLE_PAGE = 4096 / sizeof(struct spill_buffer), /* buffers whose words share a page */
        LOOKS = 64,                                      /* buffers to look at behind the cursor */
};

static const size_t SPILL_MOST = SIZE_MAX >> 18; /* a mapping of 2^46 bytes fits into any 64-bit address space */

static uint64_t holder_make(enum holder_kind kind, uint64_t what)
{
        return (uint64_t)kind << HOLDER_BITS | what;
}

static enum holder_kind holder_kind(uint64_t holder)
{
        return (enum holder_kind)(holder >> HOLDER_BITS);
}

uint64_t spill_holder_position(struct position at)
{
        return holder_make(POSITION, position_word(at));
}

uint64_t spill_holder_lease(uint32_t entry, uint32_t generation)
{
        return holder_make(LEASE, (uint64_t)generation << LEASE_ENTRY_BITS | entry);
}

bool spill_holder_is_lease(uint64_t holder, uint32_t *ret_entry, uint32_t *ret_generation)
{
        if (holder_kind(holder) != LEASE)
                return false;
        *ret_entry = (uint32_t)(holder & ((1 << LEASE_ENTRY_BITS) - 1));
        *ret_generation = (uint32_t)(holder >> LEASE_ENTRY_BITS & ((UINT32_C(1) << LEASE_GENERATION_BITS) - 1));
        return true;
}

struct position spill_holder_at(uint64_t holder)
{
        return position_of(holder & ((UINT64_C(1) << HOLDER_BITS) - 1));
}

static size_t class_size(uint32_t class)
{
        return (size_t)SPILL_SMALLEST << 2 * (class - 1);
}

static uint32_t class_for(size_t size)
{
        uint32_t class = 1;

        while (class_size(class) < size)
                class ++;
        return class;
}

size_t spill_plan(struct spill_geometry *g, size_t offset, size_t message_size, size_t memory, size_t inline_room)
{
        *g = (struct spill_geometry){ 0 };
        if (message_size <= inline_room)
                return offset;
        g->classes = class_for(message_size);
        for (uint32_t class = 1; class <= g->classes; class ++) {
                size_t count = memory / class_size(class);

                if (count == 0)
                        count = 1;
                if (count > 1 << BUFFER_BITS)
                        count = 1 << BUFFER_BITS;
                g->count[class] = (uint32_t)count;
                g->table[class] = round_up(offset, 4096);
                g->data[class] = round_up(g->table[class] + count * sizeof(struct spill_buffer), 4096);
                offset = g->data[class] + count * class_size(class);
                if (offset > SPILL_MOST)
                        return 0;
        }
        return offset;
}

static struct spill_buffer *buffer_at(const struct spill *spill, uint32_t class, uint32_t buffer)
{
        return (struct spill_buffer *)region_at(spill->region, spill->geometry.table[class]) + buffer;
}

static size_t data_offset(const struct spill *spill, uint32_t class, uint32_t buffer)
{
        return spill->geometry.data[class] + buffer * class_size(class);
}

static bool is_free(const struct spill *spill, uint64_t word)
{
        switch (holder_kind(word)) {
        case NOBODY:
                return true;
        case TRIMMER:
                return !owners_alive(spill->owners, (uint32_t)(word & ((UINT32_C(1) << OWNER_BITS) - 1)));
        default:
                return !spill->held(spill->context, word);
        }
}

static bool buffer_is_free(const struct spill *spill, uint32_t class, uint32_t buffer)
{
        return is_free(spill, load_acquire(&buffer_at(spill, class, buffer)->word));
}

static int commit_table(const struct spill *spill, uint32_t class, uint32_t buffer)
{
        if (buffer % TABLE_PAGE != 0)
                return 0;
        return region_commit(spill->region, spill->geometry.table[class] + buffer * sizeof(struct spill_buffer), 4096);
}

int spill_find(struct spill *spill, size_t size, struct body *ret_body)
{
        uint32_t class = class_for(size), count = spill->geometry.count[class];
        uint32_t high = load_relaxed(&spill->shared->class[class].high);
        uint32_t cursor = load_relaxed(&spill->shared->class[class].cursor);

        if (high > count)
                high = count;
        *ret_body = (struct body){ .size = size, .class = class };
        /* Buffers are freed about in the order in which they were taken: the next free one is near the cursor. */
        for (uint32_t i = 0; i < LOOKS && i < high; i++) {
                uint32_t buffer = (uint32_t)(((uint64_t)cursor + i) % high);
                if (buffer_is_free(spill, class, buffer)) {
                        ret_body->buffer = buffer;
                        return 0;
                }
        }
        for (; high < count; high++) {
                int r = commit_table(spill, class, high);
                if (r < 0)
                        return r;
                if (buffer_is_free(spill, class, high)) {
                        ret_body->buffer = high;
                        return 0;
                }
        }
        for (uint32_t buffer = 0; buffer < count; buffer++)
                if (buffer_is_free(spill, class, buffer)) {
                        ret_body->buffer = buffer;
                        return 0;
                }
        return -EAGAIN;
}

/* Take the buffer that was found, unless another has. */
static bool take(struct spill *spill, struct body body, uint64_t holder)
{
        struct spill_buffer *at = buffer_at(spill, body.class, body.buffer);
        uint64_t seen = load_acquire(&at->word);

        if (!is_free(spill, seen) || !cas_u64(&at->word, seen, holder))
                return false;
        if (holder_kind(seen) == TRIMMER) /* it died, and may have given some of the memory back */
                store_relaxed(&at->committed, 0);
        return true;
}

int spill_take(struct spill *spill, struct body *body, uint64_t holder)
{
        while (!take(spill, *body, holder)) {
                int r = spill_find(spill, body->size, body);
                if (r < 0)
                        return r;
        }
        atomic_u32 *high = &spill->shared->class[body->class].high;
        uint32_t seen = load_relaxed(high);
        if (body->buffer >= seen)
                cas_u32(high, seen, body->buffer + 1);
        store_relaxed(&spill->shared->class[body->class].cursor, body->buffer + 1);

        struct spill_buffer *at = buffer_at(spill, body->class, body->buffer);
        uint64_t committed = load_relaxed(&at->committed);
        if (committed >= body->size)
                return 0;
        if (committed > class_size(body->class))
                committed = 0;
        size_t offset = data_offset(spill, body->class, body->buffer);
        int r = region_commit(spill->region, offset + committed, body->size - committed);
        if (r < 0) {
                cas_u64(&at->word, holder, holder_make(NOBODY, 0));
                return r;
        }
        store_relaxed(&at->committed, body->size);
        return 0;
}

void spill_pass(struct spill *spill, struct body body, uint64_t from, uint64_t to)
{
        cas_u64(&buffer_at(spill, body.class, body.buffer)->word, from, to);
}

bool spill_is_held_by(const struct spill *spill, struct body body, uint64_t holder)
{
        return load_acquire(&buffer_at(spill, body.class, body.buffer)->word) == holder;
}

void spill_freed(struct spill *spill, struct body body)
{
        store_relaxed(&spill->shared->class[body.class].cursor, body.buffer);
        fetch_add_relaxed(&spill->released, body.size);
}

bool spill_valid(const struct spill *spill, struct body body)
{
        return body.class >= 1 && body.class <= spill->geometry.classes &&
               body.buffer < spill->geometry.count[body.class] && body.size <= class_size(body.class);
}

unsigned char *spill_bytes(const struct spill *spill, struct body body)
{
        return region_at(spill->region, data_offset(spill, body.class, body.buffer));
}

size_t spill_used(struct spill *spill)
{
        size_t used = 0;

        for (uint32_t class = 1; class <= spill->geometry.classes; class ++)
                used += load_relaxed(&spill->shared->class[class].high) * class_size(class);
        if (used < load_relaxed(&spill->released))
                store_relaxed(&spill->released, 0);
        return used;
}

/* Trim the buffers [from, to) of a class, whose words share one page of the table.  Whether all of them were free. */
static bool trim_page(struct spill *spill, uint32_t class, uint32_t from, uint32_t to, uint32_t owner)
{
        uint64_t mine = holder_make(TRIMMER, owner);
        uint32_t taken = 0;

        for (uint32_t buffer = from; buffer < to; buffer++) {
                struct spill_buffer *at = buffer_at(spill, class, buffer);
                uint64_t seen = load_acquire(&at->word);

                if (is_free(spill, seen) && cas_u64(&at->word, seen, mine)) {
                        store_relaxed(&at->committed, 0);
                        taken++;
                }
        }
        if (taken == TABLE_PAGE) {
                /* All are ours, so that their data and the page of their words can go at once: a word of zeros says
                 * "nobody". */
                region_release(spill->region, data_offset(spill, class, from), TABLE_PAGE * class_size(class));
                region_release(spill->region, spill->geometry.table[class] + from * sizeof(struct spill_buffer), 4096);
                return true;
        }
        for (uint32_t buffer = from; taken > 0 && buffer < to; buffer++) {
                struct spill_buffer *at = buffer_at(spill, class, buffer);

                if (load_relaxed(&at->word) != mine)
                        continue;
                /* Neighbours of less than a page share their memory, which goes when the whole page of words does. */
                if (class_size(class) >= 4096)
                        region_release(spill->region, data_offset(spill, class, buffer), class_size(class));
                cas_u64(&at->word, mine, holder_make(NOBODY, 0));
        }
        return false;
}

void spill_trim(struct spill *spill, uint32_t owner, size_t keep)
{
        for (uint32_t class = spill->geometry.classes; class >= 1; class --) {
                atomic_u32 *hint = &spill->shared->class[class].high;
                uint32_t count = spill->geometry.count[class], high = load_relaxed(hint),
                         to = high < count ? high : count;
                uint32_t low = (uint32_t)(keep / class_size(class));
                bool top = true;

                while (to > low) {
                        uint32_t from = (to - 1) / TABLE_PAGE * TABLE_PAGE;
                        /* The words behind `high` on its page are taken too, so that the page can go as a whole. */
                        uint32_t end = from + TABLE_PAGE < count ? from + TABLE_PAGE : count;
                        bool all = trim_page(spill, class, from > low ? from : low, end, owner);

                        /* The hint comes down with it: to read the words of a page that was given back would give it memory
                         * again. */
                        top = top && all && cas_u32(hint, high, from);
                        high = top ? from : high;
                        to = from;
                }
        }
        store_relaxed(&spill->released, 0);
}
