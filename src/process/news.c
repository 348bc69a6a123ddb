/* SPDX-License-Identifier: MIT */
#include "process/news.h"
#include "os/log.h"
#include "os/signals.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct news {
        struct news *next;
        brood_log_level level;
        char text[BROOD_PROCESS_NAME_MAX + 100];
};

__attribute__((format(printf, 3, 4))) static void keep(struct registry *registry, brood_log_level level,
                                                       const char *format, ...)
{
        struct news **end = &registry->news, *news = log_wants(level) ? malloc(sizeof *news) : NULL;
        va_list arguments;

        if (news == NULL)
                return;
        *news = (struct news){ .level = level };
        va_start(arguments, format);
        vsnprintf(news->text, sizeof news->text, format, arguments);
        va_end(arguments);
        while (*end != NULL)
                end = &(*end)->next;
        *end = news;
}

void news_started(struct registry *registry, const brood_process *process, const char *method)
{
        keep(registry, BROOD_LOG_INFO, "started %s, pid %d, by %s", process->name, (int)process->pid, method);
        if (process->warnings & BROOD_WARNING_THREADS)
                keep(registry, BROOD_LOG_WARNING, "%s, pid %d, was forked beside other threads", process->name,
                     (int)process->pid);
}

void news_ended(struct registry *registry, const brood_process *process)
{
        char name[SIGNAL_NAME_MAX];
        int code = process->ending.exitcode;

        if (code == BROOD_EXITCODE_UNKNOWN)
                keep(registry, BROOD_LOG_INFO, "%s, pid %d, ended, and nobody can tell how", process->name,
                     (int)process->pid);
        else if (code >= 0)
                keep(registry, BROOD_LOG_INFO, "%s, pid %d, ended with exit code %d", process->name, (int)process->pid,
                     code);
        else if (process->out_of_memory)
                keep(registry, BROOD_LOG_WARNING, "%s, pid %d, was ended by %s: out of memory", process->name,
                     (int)process->pid, signal_name(-code, name));
        else
                keep(registry, BROOD_LOG_INFO, "%s, pid %d, was ended by %s", process->name, (int)process->pid,
                     signal_name(-code, name));
}

static struct news *take(struct news **news)
{
        struct news *first = *news;

        *news = first->next;
        return first;
}

void news_tell(struct news *news)
{
        while (news != NULL) {
                struct news *first = take(&news);
                brood_log(first->level, "%s", first->text);
                free(first);
        }
}

void news_forget(struct news **news)
{
        while (*news != NULL)
                free(take(news));
}
