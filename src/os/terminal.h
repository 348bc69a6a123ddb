/* SPDX-License-Identifier: MIT
 *
 * os/terminal.h: stderr as a terminal.
 */
#ifndef BROOD_OS_TERMINAL_H
#define BROOD_OS_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

/* Whether stderr is one. */
bool terminal_there(void);

/* Its columns; 0: nobody knows. */
size_t terminal_width(void);

/* Write to stderr; or not, if that would have to wait. */
void terminal_write(const char *text, size_t size);

#endif
