/* SPDX-License-Identifier: MIT */
#include "pool/start.h"
#include "os/descriptors.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* What a keeper is told that is no copy of the host: this, and behind it what `initarg` points to, and what the names of its
 * workers' control groups begin with.  It goes from a program to the same program. */
struct brief {
        brood_pool_options options;                 /* its pointers are the host's */
        struct module_place initializer, finalizer; /* its id has no bytes: there is none */
        size_t modules;                             /* in the region's table */
        bool measures;                              /* there is a region of measures, too */
        size_t groups_size;                         /* of the names, with a zero at the end; 0: there are no groups */
        alignas(BROOD_BYTES_ALIGNMENT) unsigned char initarg[];
};

enum { HANDED_REGION, HANDED_DOORBELL, HANDED_BELL, HANDED_MEASURES, HANDED };

int start_check(brood_pool_options *options)
{
        if (options->start_method == BROOD_START_DEFAULT)
                options->start_method = (int)brood_get_start_method();
        if (options->start_method < BROOD_START_FORK || options->start_method > BROOD_START_FORKSERVER)
                return -EINVAL;
        if (options->initarg_size > BROOD_PROCESS_BYTES_MAX - sizeof(struct brief) - PATH_MAX ||
            (options->initarg == NULL && options->initarg_size > 0))
                return -EINVAL;
        if (!start_is_apart(options))
                return 0;
        return options->initarg != NULL && options->initarg_size == 0 ? -EINVAL : 0;
}

/* ---- the keeper ---- */

static int find_function(const struct module_place *place, uintptr_t *ret_address)
{
        return place->id_size == 0 ? 0 : module_find(place, true, ret_address);
}

static int find_functions(brood_pool_options *options, struct brief *brief)
{
        uintptr_t initializer = 0, finalizer = 0;

        int r = find_function(&brief->initializer, &initializer);
        if (r == 0)
                r = find_function(&brief->finalizer, &finalizer);
        if (r < 0)
                return r;
        options->initializer = (int (*)(void *))initializer;
        options->finalizer = (void (*)(void *))finalizer;
        options->initarg = options->initarg_size > 0 ? brief->initarg : NULL;
        return 0;
}

/* The handle is for this process and its workers, which only read it: it has no arena and no results. */
static int take_up(brood_pool *pool, struct brief *brief)
{
        struct code_module *table;

        pool->options = brief->options;
        if (brief->groups_size > 0)
                pool->groups = (char *)brief->initarg + brief->options.initarg_size;
        pool->keeper = brood_current_process();
        pool->doorbell = brood_handed_descriptor(HANDED_DOORBELL);
        pool->bell = brood_handed_descriptor(HANDED_BELL);
        int region = brood_handed_descriptor(HANDED_REGION);
        int r = pool_attach(pool, region, brief->modules, &table);
        if (r < 0)
                return r;
        descriptor_close(&region); /* there is a duplicate */
        pool->insight.region = (struct region)REGION_NONE;
        if (brief->measures) {
                int measures = brood_handed_descriptor(HANDED_MEASURES);
                r = insight_attach(pool, measures);
                descriptor_close(&measures);
        }
        if (r == 0)
                r = process_mark_init();
        if (r == 0)
                r = find_functions(&pool->options, brief);
        if (r == 0)
                r = code_map_make(&pool->code, table, brief->modules);
        return r;
}

/* The whole life of such a keeper. */
static int run_apart(void *bytes)
{
        brood_pool *pool = calloc(1, sizeof *pool);

        if (pool == NULL)
                return 1;
        int r = take_up(pool, bytes);
        if (r == 0)
                return keeper_run(pool);
        return pool->shared == NULL ? 1 : keeper_fail(pool, r);
}

/* ---- the host ---- */

static int place_function(uintptr_t function, struct module_place *ret_place)
{
        return function == 0 ? 0 : module_place_of(function, ret_place);
}

/* The keeper that is told so; `brief` is copied. */
static int new_apart(brood_pool *pool, const struct brief *brief, size_t size)
{
        int *const handed[] = { &pool->region.fd, &pool->doorbell, &pool->bell, &pool->insight.region.fd };
        int numbers[HANDED], count = brief->measures ? HANDED : HANDED_MEASURES;

        /* A host may have closed its streams, whose numbers are then free to be anything's. */
        for (int i = 0; i < count; i++) {
                int fd = *handed[i] = descriptor_above_streams(*handed[i]);
                if (fd < 0)
                        return fd;
                numbers[i] = fd;
        }
        return brood_process_new(&pool->keeper, &(brood_process_options){
                                                    .target = run_apart,
                                                    .bytes = brief,
                                                    .size = size,
                                                    .hand_over = numbers,
                                                    .hand_over_count = (size_t)count,
                                                    .name = "brood-keeper",
                                                    .start_method = (brood_start_method)pool->options.start_method,
                                                });
}

static int prepare_apart(brood_pool *pool)
{
        const brood_pool_options *options = &pool->options;
        size_t groups_size = pool->groups != NULL ? strlen(pool->groups) + 1 : 0;
        size_t size = sizeof(struct brief) + options->initarg_size + groups_size;
        struct brief *brief = aligned_alloc(alignof(struct brief), round_up(size, alignof(struct brief)));

        if (brief == NULL)
                return -ENOMEM;
        *brief = (struct brief){
                .options = *options,
                .modules = pool->modules.count,
                .measures = insight_on(pool),
                .groups_size = groups_size,
        };
        if (options->initarg_size > 0)
                memcpy(brief->initarg, options->initarg, options->initarg_size);
        if (groups_size > 0)
                memcpy(brief->initarg + options->initarg_size, pool->groups, groups_size);
        int r = place_function((uintptr_t)options->initializer, &brief->initializer);
        if (r == 0)
                r = place_function((uintptr_t)options->finalizer, &brief->finalizer);
        if (r == 0)
                r = new_apart(pool, brief, size);
        free(brief);
        return r;
}

int start_keeper(brood_pool *pool)
{
        int r = start_is_apart(&pool->options) ? prepare_apart(pool)
                                               : brood_process_new(&pool->keeper, &(brood_process_options){
                                                                                      .target = keeper_run,
                                                                                      .arg = pool,
                                                                                      .name = "brood-keeper",
                                                                                      .start_method = BROOD_START_FORK,
                                                                                  });
        if (r < 0)
                return r;
        process_make_helper(pool->keeper);
        return brood_process_start(pool->keeper);
}
