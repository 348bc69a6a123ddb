/* SPDX-License-Identifier: MIT
 *
 * pipe/frame.h: the length before each message, in the wire format of multiprocessing.connection: four bytes, signed, the most
 * significant first; or -1 and then eight, unsigned.  Calculation only.
 */
#ifndef BROOD_PIPE_FRAME_H
#define BROOD_PIPE_FRAME_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

enum {
        FRAME_SHORT = 4,
        FRAME_LONG = 12,
        FRAME_SHORT_MOST = 0x7fffffff,
};

static inline void frame_put(unsigned char *bytes, uint64_t number, int count)
{
        for (int i = count - 1; i >= 0; i--, number >>= 8)
                bytes[i] = (unsigned char)number;
}

static inline uint64_t frame_get(const unsigned char *bytes, int count)
{
        uint64_t number = 0;

        for (int i = 0; i < count; i++)
                number = number << 8 | bytes[i];
        return number;
}

/* Write the head of a message: how many bytes it takes. */
static inline size_t frame_write(unsigned char head[FRAME_LONG], uint64_t size)
{
        if (size <= FRAME_SHORT_MOST) {
                frame_put(head, size, FRAME_SHORT);
                return FRAME_SHORT;
        }
        frame_put(head, UINT32_MAX, FRAME_SHORT);
        frame_put(head + FRAME_SHORT, size, FRAME_LONG - FRAME_SHORT);
        return FRAME_LONG;
}

/* Read one of which `have` bytes are here: how many more are needed; 0 and the size; -EPROTO (no size at all, or one beyond
 * `most`). */
static inline int frame_read(const unsigned char head[FRAME_LONG], size_t have, uint64_t most, uint64_t *ret_size)
{
        if (have < FRAME_SHORT)
                return FRAME_SHORT - (int)have;
        uint64_t size = frame_get(head, FRAME_SHORT);
        if (size == UINT32_MAX) {
                if (have < FRAME_LONG)
                        return FRAME_LONG - (int)have;
                size = frame_get(head + FRAME_SHORT, FRAME_LONG - FRAME_SHORT);
        } else if (size > FRAME_SHORT_MOST) {
                return -EPROTO;
        }
        if (size > most)
                return -EPROTO;
        *ret_size = size;
        return 0;
}

#endif
