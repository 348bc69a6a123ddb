/* SPDX-License-Identifier: MIT
 *
 * tests/process/company.h: threads that a host has besides the one that uses brood, and that are busy: some allocate, some print,
 * some sleep.  Whatever lock of the libc's there is, one of them is about to hold it when the host forks.
 */
#ifndef BROOD_TESTS_COMPANY_H
#define BROOD_TESTS_COMPANY_H

#include <stdbool.h>

enum { COMPANY_THREADS = 8 };

/* Before and after each test; true if all threads are there. */
bool company_begin(void);
void company_end(void);

#endif
