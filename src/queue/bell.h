/* SPDX-License-Identifier: MIT
 *
 * queue/bell.h: the descriptor that is readable while there is a message.
 *
 * It is an eventfd, which counts.  The bell word says whether the next message must ring: | count 31 | ARMED 1 |. What must
 * never be is a message in the queue while the counter is 0 and nobody will ring; a counter that is too high only makes a
 * poller look in vain.  So who rings raises first and disarms then, and who rests arms first, looks, and lowers then:
 *
 *     putter                                  getter that found nothing, with the descriptor readable
 *     publish the message                     arm, or count up if armed          (CAS: one of several)
 *     armed? raise the counter                fence for everybody
 *            disarm (CAS)                     look again: a message?  disarm, and leave the counter as it is
 *            the counter is 0?  raise it
 *                                             lower the counter by one
 *                                             disarmed meanwhile, and the counter is 0?  raise it
 *
 * Either the putter sees the word armed, or the getter sees its message.  Two that rest at once may lower twice, the second
 * time what the putter has raised: then either that getter sees the word disarmed, or the putter, which has disarmed it, sees
 * the counter at 0.  Killed after any step, a process leaves the counter as it should be or one too high, which the next getter
 * that rests takes away.  (Two that rest at once, one putter, and a kill before the last line: that can leave it too low, until
 * the next message or the next get.)
 */
#ifndef BROOD_QUEUE_BELL_H
#define BROOD_QUEUE_BELL_H

#include "queue/ring.h"

enum { BELL_ARMED = 1, BELL_COUNT = 2 };

/* There is a message, or the end. */
void bell_ring(struct ring *ring);

/* Nothing was found: let the descriptor be quiet until there is something. */
void bell_rest(struct ring *ring);

#endif
