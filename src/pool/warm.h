/* SPDX-License-Identifier: MIT
 *
 * pool/warm.h: a warm pool: its initializer has run once, in a template, and the workers are born from that.
 *
 * The template is a child of the keeper.  On the keeper's order it bears a worker by brood's own detached start, which is a
 * double fork: the worker's parent has ended before it runs anything, and the keeper, which adopts orphans, is its parent from then
 * on.  So the keeper reaps it, learns how it ended, kills it by a pidfd, and its death signal kills it when the keeper ends; and it
 * outlives the template.
 *
 *     keeper                            template                        newborn
 *     birth = | n | 0 |, asked = n
 *     (goes on with other things)       starts a newborn
 *                                                                       dies with the keeper from here on
 *                                                                       birth: | n | 0 | -> | n | pid | (CAS)
 *     finds the pid, opens a pidfd      it ended before that?
 *     slot.pid = pid                    | n | 0 | -> | n | failed |     slot.pid is its own?  it is a worker
 *
 * As long as a birth is awaited, the keeper reaps nobody whom it does not know, so that the pid is the newborn's.  If the template
 * ends meanwhile, the keeper counts the birth on: a newborn that comes too late fails to announce itself, or finds that it is not
 * wanted, and ends.
 */
#ifndef BROOD_POOL_WARM_H
#define BROOD_POOL_WARM_H

#include "pool/keeper.h"

/* Get ready: 0; or a negative errno. */
int warm_begin(struct keeper *keeper);
void warm_end(struct keeper *keeper);

/* Have workers where they are missing, one after the other; 0, or why it cannot be done now. */
int warm_start_missing(struct keeper *keeper, bool closed, bool drained);

/* See what has happened, after each sleep: a birth, the template's end, strangers' ends. */
void warm_look(struct keeper *keeper);

/* Whether this post is that of the birth that is awaited; whether there is no template, though one is wanted. */
bool warm_awaits(const struct keeper *keeper, const struct post *post);
bool warm_lacks_template(const struct keeper *keeper);

/* When to look at the latest: whoever should ring may have lost the doorbell. */
int64_t warm_next(const struct keeper *keeper);

#endif
