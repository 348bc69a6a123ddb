/* SPDX-License-Identifier: MIT
 *
 * tests/kill/acts.h: all that a victim can be doing with a queue.
 */
#ifndef BROOD_TESTS_ACTS_H
#define BROOD_TESTS_ACTS_H

#include "scene.h"

extern const struct act acts[];
extern const int acts_count;

#endif
