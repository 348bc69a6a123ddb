/* SPDX-License-Identifier: MIT
 *
 * process/exit.h: the functions that a process calls when it ends.
 */
#ifndef BROOD_PROCESS_EXIT_H
#define BROOD_PROCESS_EXIT_H

#include <brood/exit.h>

/* Call what this process has registered, the last one first, until nothing is left. */
void exit_functions_call(void);

#endif
