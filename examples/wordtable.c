/* SPDX-License-Identifier: MIT
 *
 * wordtable.c: a table of words and how often each was seen, for the example wordcount.
 *
 * Open addressing with linear probing; the place of a word is given by the *upper* bits of its hash.  So a table
 * written place by place comes out in the order of the hashes, and adding it to another table, of whatever size,
 * goes through that one from beginning to end, in step, instead of jumping about in it: the memory is read ahead,
 * and merging costs a fraction of counting.  (The classical trap of that order is a table that grows on the way:
 * its first part would be crowded before it grows.  wordtable_merge() therefore makes room for all the words
 * first.)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "wordtable.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BITS_MIN 12
#define BITS_MAX 31
#define HASH_FACTOR_1 UINT64_C(0x9e3779b97f4a7c15)
#define HASH_FACTOR_2 UINT64_C(0xd6e8feb86659fd93)
#define EACH_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

/* ---- letters, eight at a time ---- */

static uint64_t load(const void *p)
{
        uint64_t x;
        memcpy(&x, p, sizeof x);
        return x;
}

static uint32_t load_half(const void *p)
{
        uint32_t x;
        memcpy(&x, p, sizeof x);
        return x;
}

/* The top bit of each byte that is a letter.  The sums stay within their bytes: the top bits are cut off first. */
static uint64_t letters_of(uint64_t x)
{
        uint64_t low = (x | EACH_BYTE(0x20)) & EACH_BYTE(0x7f);
        uint64_t from_a = low + EACH_BYTE(0x80 - 'a'), beyond_z = low + EACH_BYTE(0x7f - 'z');
        return from_a & ~beyond_z & ~x & EACH_BYTE(0x80);
}

/* How many bytes there are from `text` on that are letters, or that are none. */
static inline size_t run_of(const unsigned char *text, const unsigned char *end, bool letters)
{
        const unsigned char *p = text;
        for (; end - p >= 8; p += 8) {
                uint64_t found = letters_of(le64toh(load(p))), stop = letters ? found ^ EACH_BYTE(0x80) : found;
                if (stop)
                        return (size_t)(p - text) + (size_t)__builtin_ctzll(stop) / 8;
        }
        while (p < end && (letters_of(*p) != 0) == letters)
                p++;
        return (size_t)(p - text);
}

size_t wordtable_run(const unsigned char *text, const unsigned char *end)
{
        return run_of(text, end, true);
}

/* The key of a word, in lower case.  Two loads that overlap tell every length apart from its like without reading
 * beyond the word; the length itself is compared beside the key.  letters_from() is the inverse. */
static void make_key(uint64_t key[2], const char *letters, size_t length)
{
        const unsigned char *p = (const unsigned char *)letters;
        key[0] = key[1] = 0;
        if (length >= 8) {
                key[0] = load(p) | EACH_BYTE(0x20);
                key[1] = length <= WORD_INLINE ? load(p + length - 8) | EACH_BYTE(0x20) : 0;
        } else if (length >= 4) {
                key[0] = ((uint64_t)load_half(p + length - 4) << 32 | load_half(p)) | EACH_BYTE(0x20);
        } else if (length > 0) {
                key[0] = ((uint64_t)p[length - 1] << 16 | (uint64_t)p[length / 2] << 8 | p[0]) | EACH_BYTE(0x20);
        }
}

static void letters_from(const uint64_t key[2], size_t length, char *letters)
{
        uint32_t first = (uint32_t)key[0], last = (uint32_t)(key[0] >> 32);
        if (length >= 8) {
                memcpy(letters, &key[0], 8);
                memcpy(letters + length - 8, &key[1], 8);
        } else if (length >= 4) {
                memcpy(letters, &first, 4);
                memcpy(letters + length - 4, &last, 4);
        } else {
                letters[0] = (char)key[0];
                letters[length / 2] = (char)(key[0] >> 8);
                letters[length - 1] = (char)(key[0] >> 16);
        }
}

static uint32_t make_hash(const uint64_t key[2], const char *letters, size_t length)
{
        uint64_t hash = (key[0] + length) * HASH_FACTOR_1;
        if (length <= WORD_INLINE) {
                hash = (hash ^ hash >> 32 ^ key[1]) * HASH_FACTOR_2;
        } else {
                size_t at = 8;
                for (; length - at > 8; at += 8)
                        hash = (hash ^ hash >> 32 ^ (load(letters + at) | EACH_BYTE(0x20))) * HASH_FACTOR_2;
                hash = (hash ^ hash >> 32 ^ (load(letters + length - 8) | EACH_BYTE(0x20))) * HASH_FACTOR_2;
        }
        return (uint32_t)((hash ^ hash >> 29) * HASH_FACTOR_1 >> 32);
}

/* ---- the table ---- */

int wordtable_init(struct wordtable *table)
{
        *table = (struct wordtable){ .bits = BITS_MIN };
        table->words = calloc((size_t)1 << table->bits, sizeof *table->words);
        return table->words ? 0 : -ENOMEM;
}

void wordtable_clear(struct wordtable *table)
{
        memset(table->words, 0, sizeof *table->words << table->bits);
        table->used = table->text_used = table->pending = 0;
        table->total = 0;
}

void wordtable_free(struct wordtable *table)
{
        free(table->words);
        free(table->text);
        *table = (struct wordtable){ 0 };
}

static size_t home(const struct wordtable *table, uint32_t hash)
{
        return hash >> (32 - table->bits);
}

/* Makes room for so many words in all, at most three of four places taken. */
static int reserve_words(struct wordtable *table, size_t words)
{
        unsigned bits = table->bits;
        while (bits <= BITS_MAX && words > ((size_t)3 << bits) / 4)
                bits++;
        if (bits == table->bits)
                return 0;
        if (bits > BITS_MAX)
                return -ENOMEM;
        struct wordtable wider = { .bits = bits, .words = calloc((size_t)1 << bits, sizeof(struct word)) };
        if (!wider.words)
                return -ENOMEM;
        size_t mask = ((size_t)1 << bits) - 1;
        for (size_t i = 0; i < (size_t)1 << table->bits; i++) {
                if (!table->words[i].count)
                        continue;
                size_t at = home(&wider, table->words[i].hash);
                while (wider.words[at].count)
                        at = (at + 1) & mask;
                wider.words[at] = table->words[i];
        }
        free(table->words);
        table->words = wider.words;
        table->bits = bits;
        return 0;
}

/* Makes room for `more` letters after the text and the word that is not complete. */
static int reserve_text(struct wordtable *table, size_t more)
{
        size_t need = table->text_used + table->pending + more;
        if (need <= table->text_room)
                return 0;
        size_t room = need + need / 2 + 4096;
        char *text = realloc(table->text, room);
        if (!text)
                return -ENOMEM;
        table->text = text;
        table->text_room = room;
        return 0;
}

static void fold(char *to, const char *from, size_t length)
{
        for (size_t i = 0; i < length; i++)
                to[i] = (char)(from[i] | 0x20);
}

static bool same_letters(const char *folded, const char *letters, size_t length)
{
        size_t at = 0;
        for (; length - at > 8; at += 8) {
                if (load(folded + at) != (load(letters + at) | EACH_BYTE(0x20)))
                        return false;
        }
        return load(folded + length - 8) == (load(letters + length - 8) | EACH_BYTE(0x20));
}

/* The place of a word, or the free one where it belongs. */
static struct word *find(const struct wordtable *table, const uint64_t key[2], uint32_t hash, const char *letters,
                         size_t length)
{
        size_t mask = ((size_t)1 << table->bits) - 1;
        struct word *word;
        for (size_t at = home(table, hash); (word = &table->words[at])->count; at = (at + 1) & mask) {
                if (word->hash != hash || word->length != length || word->key[0] != key[0])
                        continue;
                if (length <= WORD_INLINE ? word->key[1] == key[1]
                                          : same_letters(table->text + word->key[1], letters, length))
                        break;
        }
        return word;
}

static int add(struct wordtable *table, const uint64_t key[2], uint32_t hash, const char *letters, size_t length,
               uint64_t count)
{
        struct word *word = find(table, key, hash, letters, length);
        table->total += count;
        if (word->count) {
                word->count += count;
                return 0;
        }
        *word = (struct word){ { key[0], key[1] }, count, hash, (uint32_t)length };
        if (length > WORD_INLINE) {
                fold(table->text + table->text_used, letters, length); /* room was made by the caller */
                word->key[1] = table->text_used;
                table->text_used += length;
        }
        table->used++;
        return reserve_words(table, table->used + 1);
}

static int count_word(struct wordtable *table, const char *letters, size_t length)
{
        uint64_t key[2];
        if (length > UINT32_MAX)
                return -EFBIG;
        make_key(key, letters, length);
        return add(table, key, make_hash(key, letters, length), letters, length, 1);
}

int wordtable_feed(struct wordtable *table, const unsigned char *text, size_t size)
{
        const unsigned char *end = text + size;
        int r = reserve_text(table, size);
        if (r < 0 || size == 0)
                return r;

        size_t n = run_of(text, end, true);
        if (table->pending > 0 && text + n < end) { /* the missing piece of a word, and its end */
                char *word = table->text + table->text_used;
                fold(word + table->pending, (const char *)text, n);
                n += table->pending;
                text += n - table->pending;
                table->pending = 0;
                r = count_word(table, word, n); /* it lies where it would be copied to, which does no harm */
                n = 0;
        }
        for (; r == 0 && text + n < end; n = run_of(text, end, true)) {
                if (n > 0)
                        r = count_word(table, (const char *)text, n);
                text += n;
                text += run_of(text, end, false);
        }
        if (r == 0 && text < end) { /* the text ends in a word, which may go on in the next piece */
                fold(table->text + table->text_used + table->pending, (const char *)text, (size_t)(end - text));
                table->pending += (size_t)(end - text);
        }
        return r;
}

int wordtable_end(struct wordtable *table)
{
        return wordtable_feed(table, (const unsigned char *)" ", 1);
}

/* Numbers are written seven bits a byte, the lowest first; the top bit says that more follow. */
static unsigned char *put_number(unsigned char *p, uint64_t value)
{
        for (; value >= 128; value >>= 7)
                *p++ = (unsigned char)(value | 128);
        *p++ = (unsigned char)value;
        return p;
}

static const unsigned char *get_number(const unsigned char *p, const unsigned char *end, uint64_t *ret_value)
{
        uint64_t value = 0;
        for (unsigned shift = 0; p < end && shift < 64; shift += 7) {
                value |= (uint64_t)(*p & 127) << shift;
                if (*p++ < 128) {
                        *ret_value = value;
                        return p;
                }
        }
        return NULL;
}

/* The number of words, then for each its hash, count, length and letters. */
ssize_t wordtable_write(const struct wordtable *table, void *buf, size_t room)
{
        unsigned char *p = buf, *end = p + room;
        if (room < 16)
                return -EMSGSIZE;
        p = put_number(p, table->used);
        for (size_t i = 0; i < (size_t)1 << table->bits; i++) {
                const struct word *word = &table->words[i];
                if (!word->count)
                        continue;
                char letters[WORD_INLINE];
                unsigned char head[4 + 10 + 10], *h = head;
                memcpy(h, &word->hash, 4);
                h = put_number(put_number(h + 4, word->count), word->length);
                size_t size = (size_t)(h - head);
                if ((size_t)(end - p) < size + word->length)
                        return -EMSGSIZE;
                memcpy(p, head, size);
                memcpy(p + size, wordtable_letters(table, word, letters), word->length);
                p += size + word->length;
        }
        return p - (unsigned char *)buf;
}

int wordtable_merge(struct wordtable *table, const void *buf, size_t size)
{
        const unsigned char *p = buf, *end = p + size;
        uint64_t words;
        p = get_number(p, end, &words);
        if (!p || words > size)
                return -EBADMSG;
        int r = reserve_words(table, table->used + words + 1);
        if (r == 0)
                r = reserve_text(table, size);
        while (r == 0 && words > 0) {
                /* The places of some words at once are fetched from the memory before the first is looked at. */
                struct {
                        const unsigned char *letters;
                        uint64_t count, length;
                        uint32_t hash;
                } batch[32];
                size_t n = 0;
                for (; n < 32 && words > 0; n++, words--) {
                        if (end - p < 4)
                                return -EBADMSG;
                        memcpy(&batch[n].hash, p, 4);
                        p = get_number(p + 4, end, &batch[n].count);
                        if (!p || batch[n].count == 0)
                                return -EBADMSG;
                        p = get_number(p, end, &batch[n].length);
                        if (!p || batch[n].length == 0 || batch[n].length > UINT32_MAX ||
                            batch[n].length > (size_t)(end - p))
                                return -EBADMSG;
                        batch[n].letters = p;
                        p += batch[n].length;
                        __builtin_prefetch(&table->words[home(table, batch[n].hash)], 1);
                }
                for (size_t i = 0; r == 0 && i < n; i++) {
                        const char *letters = (const char *)batch[i].letters;
                        uint64_t key[2];
                        make_key(key, letters, batch[i].length);
                        r = add(table, key, batch[i].hash, letters, batch[i].length, batch[i].count);
                }
        }
        if (r == 0 && p != end)
                r = -EBADMSG;
        return r;
}

const char *wordtable_letters(const struct wordtable *table, const struct word *word, char buf[WORD_INLINE])
{
        if (word->length > WORD_INLINE)
                return table->text + word->key[1];
        letters_from(word->key, word->length, buf);
        return buf;
}

static int compare(const void *a, const void *b, void *table)
{
        const struct word *x = a, *y = b;
        char x_buf[WORD_INLINE], y_buf[WORD_INLINE];
        if (x->count != y->count)
                return x->count > y->count ? -1 : 1;
        size_t length = x->length < y->length ? x->length : y->length;
        int order = memcmp(wordtable_letters(table, x, x_buf), wordtable_letters(table, y, y_buf), length);
        return order ? order : (x->length > y->length) - (x->length < y->length);
}

int wordtable_sorted(const struct wordtable *table, struct word **ret_words)
{
        struct word *words = malloc((table->used + 1) * sizeof *words);
        if (!words)
                return -ENOMEM;
        size_t n = 0;
        for (size_t i = 0; i < (size_t)1 << table->bits; i++) {
                if (table->words[i].count)
                        words[n++] = table->words[i];
        }
        qsort_r(words, n, sizeof *words, compare, (void *)table);
        *ret_words = words;
        return 0;
}

bool wordtable_equal(const struct wordtable *a, const struct wordtable *b)
{
        if (a->used != b->used || a->total != b->total)
                return false;
        for (size_t i = 0; i < (size_t)1 << a->bits; i++) {
                const struct word *word = &a->words[i];
                char buf[WORD_INLINE];
                if (!word->count)
                        continue;
                const char *letters = wordtable_letters(a, word, buf);
                if (find(b, word->key, word->hash, letters, word->length)->count != word->count)
                        return false;
        }
        return true;
}
