/* SPDX-License-Identifier: MIT */
#include "damage.h"

#include "shm/region.h"

#include <string.h>
#include <unistd.h>

#define SCAN_WORDS 2048 /* how far to look for a word that is not zero */

/* Some place of the memory: mostly one where a word lies that means something, because it is not zero. */
static size_t take_place(struct ground *ground)
{
        struct script *script = ground->script;
        size_t near = ground->size < 16384 ? ground->size : 16384, at;
        uint8_t how = take_byte(script) % 8;
        if (ground->size < 64)
                return 0;
        switch (how) {
        case 0:
                return take_below(script, sizeof(struct region_head) / 8) * 8;
        case 1:
                return take_below(script, (near < 4096 ? near : 4096) / 8) * 8;
        case 2:
                return take_below(script, near);
        case 3:
        case 4:
                at = take_below(script, near / 8) * 8;
                break;
        case 5:
                at = take_below(script, (ground->size < 262144 ? ground->size : 262144) / 8) * 8;
                break;
        default: {
                /* Anywhere, but in a page that has memory behind it. */
                at = take_below(script, ground->size);
                off_t page = lseek(ground->fd, (off_t)at, SEEK_DATA);
                if (page > (off_t)at && (size_t)page + 4096 <= ground->size)
                        at = (size_t)page + at % 4096;
                at &= ~(size_t)7;
                if (how == 7)
                        return at;
        }
        }
        for (size_t i = 0; i < SCAN_WORDS && at + 8 * (i + 1) <= ground->size; i++) {
                uint64_t word;
                memcpy(&word, ground->memory + at + 8 * i, 8);
                if (word != 0)
                        return at + 8 * i;
        }
        return at;
}

void damage_ground(struct ground *ground)
{
        struct script *script = ground->script;
        uint8_t how = take_byte(script) % 8;
        size_t at = take_place(ground), left = ground->size - at, length;
        uint64_t word = 0;

        if (ground->size < 64)
                return;
        unsigned char *to = ground->memory + at;
        switch (how) {
        case 0: /* bytes as they come */
        case 1:
                length = 1 + take_below(script, 32);
                for (size_t i = 0; i < length && i < left; i++)
                        to[i] = take_byte(script);
                return;
        case 2: /* a little more or less: the next lap, another owner, one byte beyond */
                if (left < 8)
                        return;
                memcpy(&word, to, 8);
                word += (uint64_t)(int64_t)(int8_t)take_byte(script) << take_below(script, 64);
                memcpy(to, &word, 8);
                return;
        case 3: /* one bit */
                to[0] ^= (unsigned char)(1u << take_below(script, 8));
                return;
        case 4: { /* what another place holds: right words at wrong places */
                size_t from = take_place(ground), most = ground->size - from;
                length = 8 * (1 + take_below(script, 24));
                length = length < left ? length : left;
                memmove(to, ground->memory + from, length < most ? length : most);
                return;
        }
        case 5: /* the same word again and again */
                word = take_number(script, 8);
                length = take_below(script, 64);
                for (size_t i = 0; i <= length && 8 * (i + 1) <= left; i++)
                        memcpy(to + 8 * i, &word, 8);
                return;
        case 6: { /* numbers at which sums and products overflow */
                static const uint64_t edges[] = {
                        0,         1,          UINT64_MAX, INT64_MAX,        (uint64_t)INT64_MIN,
                        INT32_MAX, UINT32_MAX, 0xffffff,   UINT64_C(1) << 40
                };
                word = edges[take_below(script, array_length(edges))];
                length = take_byte(script) % 2 ? 4 : 8;
                memcpy(to, &word, length < left ? length : left);
                return;
        }
        default: { /* the event: quiet though it should not be, loud, and as loud as it can be */
                static const uint64_t counts[] = { 1, 7, UINT64_MAX - 1 };
                size_t which = take_below(script, array_length(counts) + 1);
                if (which == array_length(counts))
                        for (int i = 0; i < 1000 && read(ground->event_fd, &word, 8) == 8; i++)
                                ;
                else if (write(ground->event_fd, &counts[which], 8) != 8)
                        return;
                return;
        }
        }
}

static void *race_main(void *arg)
{
        struct race *race = arg;
        for (size_t i = 0; !atomic_load_explicit(&race->stop, memory_order_relaxed); i++)
                for (size_t w = 0; w < race->count; w++)
                        atomic_store_explicit(race->words[w].word, race->words[w].values[(i + w) % 3],
                                              memory_order_relaxed);
        return NULL;
}

bool race_start(struct race *race, struct ground *ground)
{
        *race = (struct race){ .count = 1 + take_below(ground->script, RACE_WORDS) };
        for (size_t w = 0; w < race->count; w++) {
                size_t at = take_place(ground) & ~(size_t)7;
                race->words[w].word = (_Atomic uint64_t *)(void *)(ground->memory + at);
                uint64_t was = atomic_load(race->words[w].word);
                race->words[w].values[0] = was;
                race->words[w].values[1] =
                    was + ((uint64_t)take_byte(ground->script) << take_below(ground->script, 64));
                race->words[w].values[2] = take_byte(ground->script) % 2 ? take_number(ground->script, 8) : was ^ 1;
        }
        return pthread_create(&race->thread, NULL, race_main, race) == 0;
}

void race_stop(struct race *race)
{
        atomic_store(&race->stop, true);
        must(pthread_join(race->thread, NULL) == 0);
}
