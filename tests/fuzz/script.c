/* SPDX-License-Identifier: MIT */
#include "script.h"
#include "target.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void fail(const char *format, ...)
{
        va_list list;
        va_start(list, format);
        fprintf(stderr, "%s: ", target_name);
        vfprintf(stderr, format, list);
        fputc('\n', stderr);
        va_end(list);
        fflush(NULL);
        abort();
}

void check_result(const char *call, ssize_t result, const int *errors, size_t count)
{
        if (result >= 0)
                return;
        for (size_t i = 0; i < count; i++)
                if (errors[i] != 0 && result == -errors[i])
                        return;
        fail("%s returned %zd (%s), which the header does not say", call, result, strerror((int)-result));
}

int count_descriptors(void)
{
        DIR *dir = opendir("/proc/self/fd");
        int count = 0;
        must(dir != NULL);
        while (readdir(dir) != NULL)
                count++;
        closedir(dir);
        return count;
}
