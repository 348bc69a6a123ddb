/* SPDX-License-Identifier: MIT
 *
 * process/main.c: the call in main(): an ordinary start goes on there, a spawned process is born in it.
 */
#include "process/main.h"
#include "os/atomic.h"
#include "os/child.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/log.h"
#include "os/signals.h"
#include "process/letter.h"
#include "process/server.h"
#include "process/start.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static _Atomic(const char *const *) arguments;
static atomic_u32 default_method = BROOD_START_FORK;

const char *const *main_arguments(void)
{
        return load_acquire(&arguments);
}

brood_start_method start_method_of(brood_start_method method)
{
        return method == BROOD_START_DEFAULT ? (brood_start_method)load_relaxed(&default_method) : method;
}

int brood_set_start_method(brood_start_method method)
{
        if ((unsigned)method > BROOD_START_FORKSERVER)
                return -EINVAL;
        if (method > BROOD_START_FORK && main_arguments() == NULL)
                return -ENOTSUP;
        store_relaxed(&default_method, method == BROOD_START_DEFAULT ? BROOD_START_FORK : method);
        return 0;
}

brood_start_method brood_get_start_method(void)
{
        return start_method_of(BROOD_START_DEFAULT);
}

/* The descriptor that the variable names: -ENOENT (there is no variable), -EUCLEAN. */
static int letter_descriptor(void)
{
        KEEP_ERRNO;
        const char *text = getenv(LETTER_VARIABLE);
        char *end;

        if (text == NULL)
                return -ENOENT;
        errno = 0;
        long fd = strtol(text, &end, 10);
        bool good = errno == 0 && end != text && *end == '\0' && fd >= 0 && fd <= INT_MAX;
        unsetenv(LETTER_VARIABLE);
        return good ? (int)fd : -EUCLEAN;
}

/* What the parent has handed over is not for the programs that this process executes; and the parent is to be watched.  (It has not
 * ended: the lifeline is armed.) */
static int prepare(const struct contents *contents, const brood_process *process)
{
        int r = 0;

        for (size_t i = 0; i < contents->handed_count && r == 0; i++)
                r = descriptor_set_inherited(process->handed[i], false);
        if (r == 0)
                r = registry_in_child()->parent_sentinel = pidfd_of_marked(process->owner);
        return r < 0 ? r : 0;
}

/* The life of a spawned process, which has its setup on already, and all signals blocked. */
static _Noreturn void live(struct letter *letter)
{
        struct birth birth = { .gate = letter->gate, .ticket = 1, .fitted = true };
        static const brood_process_setup nothing;
        struct contents contents;
        brood_process *process;

        main_set_name();
        int r = letter_read(letter, &contents, &process);
        if (r < 0)
                birth_fail(&birth, OUTFIT_FUNCTION, r);
        r = prepare(&contents, process);
        if (r < 0)
                birth_fail(&birth, OUTFIT_DESCRIPTORS, r);
        descriptor_close(&letter->memfd);
        fitting_open(&birth.fitting, &nothing);
        birth.branch = contents.branch;
        birth.mask = contents.mask;
        birth.second_level = process->options.detached;
        brood_set_start_method(contents.start_method);
        log_take_over(contents.log_level);
        if (contents.is_server)
                server_live(&birth, process, contents.preload);
        birth_enter(&birth, process);
        process_run(process);
}

void main_set_name(void)
{
        const char *program = main_arguments()[0], *slash = program == NULL ? NULL : strrchr(program, '/');

        if (program != NULL)
                child_set_name(slash == NULL ? program : slash + 1);
}

int brood_main(int argc, char **argv)
{
        struct letter letter;

        if (argc < 0 || argv == NULL)
                return -EINVAL;
        /* Whoever runs a set-user-id program chooses its environment. */
        if (child_is_privileged())
                return 0;
        store_release(&arguments, (const char *const *)argv);
        int fd = letter_descriptor();
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        int r = letter_open(&letter, fd);
        if (r < 0)
                return -EUCLEAN;
        live(&letter);
}
