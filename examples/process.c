/* SPDX-License-Identifier: MIT
 *
 * process: a function runs in a process of its own, with a memory of its own.
 *
 * The Python original starts Process(target=fun); fun sets the global `a` to 10000.  The parent does something else
 * meanwhile, joins the child, and prints `a`, which is still 1: the child had a copy.
 */
#include "example.h"

static int a = 1;

static int fun(void *arg)
{
        (void)arg;
        printf("A process begins\n");
        example_sleep(example_time(0.2, 2));
        printf("a = %d\n", a);
        a = 10000;
        printf("The child's function: a = %d\n", a);
        return 0;
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        brood_process *p;
        example_check(brood_process_new(&p, &(brood_process_options){ .target = fun }), "new");
        example_check(brood_process_start(p), "start");

        example_sleep(example_time(0.4, 3));
        printf("The parent's own business\n");

        int exitcode;
        example_check(brood_process_join(p, BROOD_FOREVER), "join");
        example_check(brood_process_exitcode(p, &exitcode), "exitcode");
        printf("a: %d\n", a);
        brood_process_free(p);
        return exitcode;
}
