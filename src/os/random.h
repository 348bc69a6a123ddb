/* SPDX-License-Identifier: MIT
 *
 * os/random.h: bytes that nobody can guess, and memory that nobody can read afterwards.
 */
#ifndef BROOD_OS_RANDOM_H
#define BROOD_OS_RANDOM_H

#include <stddef.h>

/* Fill with up to 256 bytes from the kernel: 0, or a negative errno. */
int random_fill(void *bytes, size_t size);

/* Overwrite with zeros, also where the compiler sees that nobody will look. */
void memory_wipe(void *bytes, size_t size);

#endif
