/* SPDX-License-Identifier: MIT
 *
 * fork: one program goes on as two processes.
 *
 * The Python original calls os.fork() and branches on what it returns: negative, it failed; 0, this is the child;
 * else this is the parent and the number is the child's pid.  Both sides then reach the last line, which is printed
 * twice.
 *
 * brood_fork() keeps that idiom.  What it adds is a handle for the parent, so that the child cannot be forgotten.
 */
#include "example.h"

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        brood_process *child;
        pid_t pid = brood_fork(&child);
        if (pid < 0) {
                printf("Create process failed: %s\n", brood_strerror((int)pid));
                return 1;
        } else if (pid == 0) {
                example_sleep(example_time(0.2, 3));
                printf("The new process\n");
        } else {
                example_sleep(example_time(0.4, 4));
                printf("The old process\n");
                example_check(brood_process_join(child, BROOD_FOREVER), "join");
        }

        /* In the child the handle is NULL, which free takes. */
        brood_process_free(child);
        printf("Fork test over\n");
        return 0;
}
