/* SPDX-License-Identifier: MIT
 *
 * os/hugepages.h: huge pages by advice.  (Those that are set aside come by memfd_new_huge().)
 */
#ifndef BROOD_OS_HUGEPAGES_H
#define BROOD_OS_HUGEPAGES_H

#include <stddef.h>
#include <sys/types.h>

/* Ask for huge pages in a mapping.  No result: it is a wish. */
void hugepages_advise(void *memory, size_t size);

/* Touch memory for the first time, for whoever looks for huge pages in it: fallocate(2) has no mapping to read the advice from, and
 * takes usual ones.  No result: it saves nobody the memfd_commit(). */
void hugepages_touch(void *memory, size_t size);

/* How many bytes of a mapping lie in huge pages that this process has touched, or a negative errno. */
ssize_t hugepages_mapped(const void *memory, size_t size);

#endif
