/* SPDX-License-Identifier: MIT
 *
 * tests/pool/late_module.c: a task function in a shared object of its own, to be loaded before a pool is made or after it.
 */
#include <string.h>
#include <sys/types.h>

ssize_t late_task(const void *arg, size_t size, void *out, size_t room);

ssize_t late_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg;
        (void)size;
        (void)room;
        memcpy(out, "late", 5);
        return 5;
}
