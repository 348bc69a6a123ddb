/* SPDX-License-Identifier: MIT
 *
 * os/options.h: reading an options struct of any version.
 */
#ifndef BROOD_OS_OPTIONS_H
#define BROOD_OS_OPTIONS_H

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Copy the caller's options of `size` bytes (NULL: all defaults) into ours of `known` bytes, which are zeroed first.  0, or
 * -E2BIG if a byte that we do not know is set. */
static inline int options_read(void *known_options, size_t known, const void *options, size_t size)
{
        const unsigned char *bytes = (const unsigned char *)options;

        memset(known_options, 0, known);
        if (options == NULL)
                return 0;
        for (size_t i = known; i < size; i++)
                if (bytes[i] != 0)
                        return -E2BIG;
        memcpy(known_options, options, size < known ? size : known);
        return 0;
}

#endif
