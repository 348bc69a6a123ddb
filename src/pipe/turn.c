/* SPDX-License-Identifier: MIT */
#include "pipe/turn.h"
#include "os/atfork.h"
#include "os/futex.h"

#include <errno.h>

enum { TURN_SLEEPERS = 1 };

/* This process's value of the word, which is not 0.  Marks count up from 1, and a process inherits a handle from an ancestor: that
 * two of them are 2^31 apart does not happen. */
static int own_value(uint32_t *ret_value)
{
        int r = process_mark() != 0 ? 0 : process_mark_init();

        *ret_value = (uint32_t)process_mark() << 1;
        return r;
}

int turn_take(struct turn *turn, int64_t deadline)
{
        uint32_t own;
        int r = own_value(&own);

        if (r < 0)
                return r;
        if (cas_u32(&turn->word, 0, own))
                return 0;
        for (;;) {
                uint32_t word = load_acquire(&turn->word);

                if (word == 0) {
                        /* Others may be asleep, too. */
                        if (cas_u32(&turn->word, 0, own | TURN_SLEEPERS))
                                return 0;
                } else if ((word & ~(uint32_t)TURN_SLEEPERS) != own) {
                        if (cas_u32(&turn->word, word, own))
                                return 1;
                } else if (deadline == INT64_MIN) {
                        return -EAGAIN;
                } else if (word & TURN_SLEEPERS || cas_u32(&turn->word, word, word | TURN_SLEEPERS)) {
                        if (futex_wait(&turn->word, word | TURN_SLEEPERS, deadline) == -ETIMEDOUT)
                                return -ETIMEDOUT;
                }
        }
}

void turn_give(struct turn *turn)
{
        if (exchange_seq_cst(&turn->word, 0) & TURN_SLEEPERS)
                futex_wake(&turn->word, 1);
}

bool turn_is_foreign(struct turn *turn)
{
        uint32_t word = load_acquire(&turn->word) & ~(uint32_t)TURN_SLEEPERS;

        return word != 0 && word != (uint32_t)process_mark() << 1;
}
