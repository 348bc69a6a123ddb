/* SPDX-License-Identifier: MIT */
#include "process/exit.h"
#include "os/atfork.h"
#include "os/syscall.h"

#include <errno.h>
#include <stdlib.h>

struct exit_function {
        void (*function)(void *arg);
        void *arg;
        struct exit_function *next;
};

/* Guarded by the process-wide lock, but that `owner` is read without it. */
static struct {
        atomic_u64 owner; /* the mark of the process that has registered these; in a forked child it is not its own */
        struct exit_function *last;
        bool hooked; /* to atexit(3); a forked child inherits that, too */
} list;

/* Most processes have none, and a child is to find that out quickly. */
CHILD_CODE static bool list_is_ours(void)
{
        uint64_t owner = load_relaxed(&list.owner);

        return owner != 0 && owner == process_mark();
}

static struct exit_function *take_last(void)
{
        struct exit_function *last = list.last;

        if (last != NULL)
                list.last = last->next;
        return last;
}

CHILD_CODE void exit_functions_call(void)
{
        while (list_is_ours() && process_lock() == 0) {
                struct exit_function *entry = take_last();
                process_unlock();
                if (entry == NULL)
                        return;
                /* Gone before it is called: it may end in exit(3), which comes here again. */
                struct exit_function last = *entry;
                free(entry);
                last.function(last.arg);
        }
}

/* With the lock held: have the list be this process's, and called in the end. */
static int list_own(void)
{
        int r = process_mark_init();

        if (r < 0)
                return r;
        if (!list.hooked && atexit(exit_functions_call) != 0)
                return -ENOMEM;
        list.hooked = true;
        if (list_is_ours())
                return 0;
        for (struct exit_function *inherited; (inherited = take_last()) != NULL;)
                free(inherited);
        store_relaxed(&list.owner, process_mark());
        return 0;
}

int brood_at_exit(void (*function)(void *arg), void *arg)
{
        if (function == NULL)
                return -EINVAL;
        struct exit_function *entry = malloc(sizeof *entry);
        if (entry == NULL)
                return -ENOMEM;
        int r = process_lock();
        if (r < 0) {
                free(entry);
                return r;
        }
        r = list_own();
        if (r == 0) {
                *entry = (struct exit_function){ function, arg, list.last };
                list.last = entry;
        } else {
                free(entry);
        }
        process_unlock();
        return r;
}

int brood_at_exit_cancel(void (*function)(void *arg), void *arg)
{
        if (function == NULL)
                return -EINVAL;
        int r = process_lock();
        if (r < 0)
                return r;
        r = -ENOENT;
        for (struct exit_function **at = &list.last; list_is_ours() && *at != NULL; at = &(*at)->next) {
                struct exit_function *entry = *at;
                if (entry->function != function || entry->arg != arg)
                        continue;
                *at = entry->next;
                free(entry);
                r = 0;
                break;
        }
        process_unlock();
        return r;
}
