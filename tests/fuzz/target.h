/* SPDX-License-Identifier: MIT
 *
 * tests/fuzz/target.h: the way into a fuzz target, for libFuzzer, which gave the names, and for tests/fuzz/standalone.c.
 */
#ifndef BROOD_TESTS_FUZZ_TARGET_H
#define BROOD_TESTS_FUZZ_TARGET_H

#include <stddef.h>
#include <stdint.h>

extern const char target_name[];

/* Once, before the first input. */
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* One input: returns 0, or aborts with a line that says what was wrong. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
