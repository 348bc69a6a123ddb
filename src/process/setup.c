/* SPDX-License-Identifier: MIT */
#include "process/setup.h"
#include "os/descriptors.h"

#include <errno.h>

static const brood_stream *stream_of(const brood_process_setup *setup, int i)
{
        return i == 0 ? &setup->input : i == 1 ? &setup->output : &setup->errors;
}

int setup_check(const brood_process_setup *setup)
{
        for (int i = 0; i < 3; i++) {
                const brood_stream *stream = stream_of(setup, i);

                if (stream->kind > BROOD_STREAM_STDOUT || (stream->kind == BROOD_STREAM_STDOUT && i != 2) ||
                    (stream->kind == BROOD_STREAM_DESCRIPTOR && stream->descriptor < 0))
                        return -EINVAL;
        }
        for (size_t i = 0; setup->keep != NULL && i < setup->keep_count; i++)
                if (setup->keep[i] < 0)
                        return -EINVAL;
        if ((setup->keep == NULL && setup->keep_count > 0) || (setup->cpus == NULL) != (setup->cpus_count == 0) ||
            (setup->new_session && setup->new_group) || (unsigned)setup->tree > BROOD_TREE_BEST)
                return -EINVAL;
        return 0;
}

bool setup_is_plain(const brood_process_setup *setup)
{
        for (int i = 0; i < 3; i++)
                if (stream_of(setup, i)->kind != BROOD_STREAM_INHERIT)
                        return false;
        return setup->directory == NULL && setup->environment == NULL && !setup->close_others && !setup->new_session &&
               !setup->new_group && setup->keep == NULL && setup->cpus == NULL && setup->memory_limit == 0 &&
               setup->cpu_seconds == 0 && setup->file_limit == 0 && setup->process_limit == 0 && setup->nice == 0 &&
               setup->cgroup == NULL;
}

static int open_stream(struct fitting *fitting, const brood_stream *stream, int i)
{
        int r;

        switch (stream->kind) {
        case BROOD_STREAM_NULL:
                fitting->outfit.streams[i] = r = fitting->childs[i] = null_open(i != 0);
                return r < 0 ? r : 0;
        case BROOD_STREAM_DESCRIPTOR:
                fitting->outfit.streams[i] = stream->descriptor;
                return 0;
        case BROOD_STREAM_CAPTURE:
                r = i == 0 ? stream_pipe(&fitting->childs[i], &fitting->parents[i])
                           : stream_pipe(&fitting->parents[i], &fitting->childs[i]);
                fitting->outfit.streams[i] = fitting->childs[i];
                return r;
        case BROOD_STREAM_STDOUT:
                fitting->outfit.streams[i] = fitting->outfit.streams[1] < 0 ? 1 : fitting->outfit.streams[1];
                return 0;
        default:
                return 0;
        }
}

int fitting_open(struct fitting *fitting, const brood_process_setup *setup)
{
        *fitting = (struct fitting){
                .outfit = {
                        .directory = setup->directory,
                        .streams = { OUTFIT_INHERIT, OUTFIT_INHERIT, OUTFIT_INHERIT },
                        .keep = setup->keep,
                        .keep_count = setup->keep_count,
                        .cpus = setup->cpus,
                        .cpus_count = setup->cpus_count,
                        .cgroup = setup->cgroup,
                        .memory_limit = setup->memory_limit,
                        .cpu_seconds = setup->cpu_seconds,
                        .file_limit = setup->file_limit,
                        .process_limit = setup->process_limit,
                        .nice = setup->nice,
                        .new_session = setup->new_session,
                        .new_group = setup->new_group,
                        .close_others = setup->close_others,
                },
                .childs = { -1, -1, -1 },
                .parents = { -1, -1, -1 },
        };
        for (int i = 0; i < 3; i++) {
                int r = open_stream(fitting, stream_of(setup, i), i);
                if (r < 0) {
                        fitting_close(fitting, NULL);
                        return r;
                }
        }
        return 0;
}

void fitting_close(struct fitting *fitting, int *ret_parents)
{
        for (int i = 0; i < 3; i++) {
                descriptor_close(&fitting->childs[i]);
                if (ret_parents != NULL)
                        ret_parents[i] = fitting->parents[i];
                else
                        descriptor_close(&fitting->parents[i]);
        }
}
