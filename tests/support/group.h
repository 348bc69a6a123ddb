/* SPDX-License-Identifier: MIT
 *
 * tests/support/group.h: a control group with a limit of memory, of whichever version the machine has.
 */
#ifndef BROOD_TESTS_GROUP_H
#define BROOD_TESTS_GROUP_H

#include <stdbool.h>

enum { GROUP_MIB = 64, GROUP_PATH = 96 };

/* Make it: its directory; false, "" and a message where that is not possible. */
bool group_make(char path[GROUP_PATH]);

/* Write to one of its files; false if that fails. */
bool group_set(const char *path, const char *file, const char *value);

/* Remove it, for support_until(); true also if it is gone. */
bool group_remove(void *path);

/* Write to four times as much memory as the group has: 0, if that can be done. */
int group_touch_too_much(void);

#endif
