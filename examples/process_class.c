/* SPDX-License-Identifier: MIT
 *
 * process_class: a kind of process with state and functions of its own.
 *
 * The Python original derives MyProcess from Process: __init__ keeps a value, and start() has run() called in the
 * child, which does fun1 and fun2 that many times.  In C the class is a brood_process_class: the size of its state,
 * init and run.
 */
#include "example.h"

struct my_process {
        int value;
};

static int my_init(brood_process *process, void *arg)
{
        struct my_process *self = brood_process_self(process);
        self->value = *(const int *)arg;
        return 0;
}

static void fun1(void)
{
        example_sleep(example_time(0.1, 1));
        printf("Step one\n");
}

static void fun2(void)
{
        example_sleep(example_time(0.08, 0.8));
        printf("Step two\n");
}

/* start() makes this run, in the child. */
static int my_run(brood_process *process)
{
        const struct my_process *self = brood_process_self(process);
        for (int i = 0; i < self->value; i++) {
                fun1();
                fun2();
        }
        return 0;
}

static const brood_process_class my_process_class = {
        .name = "MyProcess",
        .size = sizeof(struct my_process),
        .init = my_init,
        .run = my_run,
};

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        brood_process *p;
        int value = 2, exitcode;
        brood_process_options options = { .process_class = &my_process_class, .arg = &value };
        example_check(brood_process_new(&p, &options), "new");
        example_check(brood_process_start(p), "start");
        example_check(brood_process_join(p, BROOD_FOREVER), "join");
        example_check(brood_process_exitcode(p, &exitcode), "exitcode");
        printf("%s ended with %d\n", brood_process_name(p), exitcode);
        brood_process_free(p);
        return exitcode;
}
