/* SPDX-License-Identifier: MIT
 *
 * wordtable.h: a table of words and how often each was seen, for the example wordcount.
 *
 * A word is a run of ASCII letters, as long as possible, in lower case.  Text is fed in pieces of any size; a word
 * may span any number of them.  A table can be written as bytes and such bytes be added to another table, which is
 * how the counts of a task travel from a worker to the host.
 */
#ifndef WORDTABLE_H
#define WORDTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WORD_INLINE 16 /* letters that fit in a place of the table */

struct word {
        uint64_t key[2]; /* up to WORD_INLINE letters; of a longer word the first 8, and where in `text` it is */
        uint64_t count;  /* 0: the place is free */
        uint32_t hash;
        uint32_t length;
};

struct wordtable {
        struct word *words; /* 1 << bits places, open addressing */
        unsigned bits;
        size_t used;
        uint64_t total; /* words counted, repeated ones each time */
        char *text;     /* the letters of the long words, then those of a word of which a piece is missing */
        size_t text_used, text_room;
        size_t pending; /* letters of that word */
};

/* The functions return 0, or a negative errno: -ENOMEM, or what is said beside them. */

int wordtable_init(struct wordtable *table);
void wordtable_clear(struct wordtable *table); /* forgets the words, keeps the memory */
void wordtable_free(struct wordtable *table);

int wordtable_feed(struct wordtable *table, const unsigned char *text, size_t size);
int wordtable_end(struct wordtable *table); /* the text ends here, and with it a word of which a piece was missing */

/* Writes the table, at most `room` bytes: returns their number, or -EMSGSIZE.  WORDTABLE_BOUND is how many bytes
 * suffice for a text of `size` bytes: an entry takes 6 bytes and its letters while it was seen less than 128 times,
 * against its letters and one separator in the text, which is worst for the 26 words of one letter (7 for 2); the
 * slack is for the last word of each of many texts, which needs no separator. */
#define WORDTABLE_BOUND(size) (4 * (size_t)(size) + 4096)
ssize_t wordtable_write(const struct wordtable *table, void *buf, size_t room);

/* Adds what wordtable_write() wrote; -EBADMSG if it is no such thing. */
int wordtable_merge(struct wordtable *table, const void *buf, size_t size);

/* The words in a new array (to be freed), the most frequent first, those of one count in alphabetical order. */
int wordtable_sorted(const struct wordtable *table, struct word **ret_words);

/* The letters of a word, word->length of them; short ones are written into buf. */
const char *wordtable_letters(const struct wordtable *table, const struct word *word, char buf[WORD_INLINE]);

/* Whether two tables say the same. */
bool wordtable_equal(const struct wordtable *a, const struct wordtable *b);

/* How many letters there are from `text` on, at most to `end`. */
size_t wordtable_run(const unsigned char *text, const unsigned char *end);

#endif
