/* SPDX-License-Identifier: MIT
 *
 * tests/process/late_module.c: a function in a module that a process may load while it runs.
 */
int late_function(void *unused);

int late_function(void *unused)
{
        (void)unused;
        return 77;
}
