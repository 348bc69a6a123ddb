/* SPDX-License-Identifier: MIT
 *
 * process/wait.c: waiting for any child.
 */
#include "os/clock.h"
#include "os/poller.h"
#include "process/registry.h"

#include <errno.h>

pid_t brood_wait(int *ret_exitcode, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);

        for (;;) {
                struct registry *registry;
                int r = registry_lock(&registry);

                if (r < 0)
                        return r;
                registry_sweep(registry);
                brood_process *process = registry->ended;
                if (process != NULL) {
                        registry_report(registry, process);
                        pid_t pid = process->pid;
                        int code = process->ending.exitcode;
                        registry_unlock();
                        if (ret_exitcode != NULL)
                                *ret_exitcode = code;
                        return pid;
                }
                bool none = registry->waitable == 0;
                r = none ? -ECHILD : registry_poll_all(registry);
                int poller = registry->poller; /* made by the line above, if not before */
                registry->sleepers += r == 0;
                registry_unlock();
                if (r < 0)
                        return r;
                /* Another thread may take what this wakes for, or start a child meanwhile: look again. */
                void *ready;
                int woken = poller_wait(poller, &ready, 1, deadline);
                r = registry_lock(&registry);
                if (r < 0)
                        return r;
                registry->sleepers--;
                registry_unlock();
                if (woken < 0)
                        return woken;
        }
}
