/* SPDX-License-Identifier: MIT
 *
 * process/main.h: what the one call in main() makes possible, and which start method is the default.
 */
#ifndef BROOD_PROCESS_MAIN_H
#define BROOD_PROCESS_MAIN_H

#include <brood/process.h>

/* The method that is meant: the default one for BROOD_START_DEFAULT. */
brood_start_method start_method_of(brood_start_method method);

/* The arguments of this program, which are also those of a spawned process; NULL: main() has not called brood_main(). */
const char *const *main_arguments(void);

/* Have ps show the name of the program, and not that of the link by which it was executed. */
void main_set_name(void);

#endif
