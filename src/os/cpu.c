/* SPDX-License-Identifier: MIT */
#include "os/cpu.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int cpu_by_affinity(void)
{
        KEEP_ERRNO;
        /* The kernel refuses a set smaller than its own; grow until it fits. */
        for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
                size_t size = CPU_ALLOC_SIZE(cpus);
                cpu_set_t *set = CPU_ALLOC(cpus);
                if (set == NULL)
                        break;
                int r = sched_getaffinity(0, size, set);
                int count = r == 0 ? CPU_COUNT_S(size, set) : 0;
                int error = errno;
                CPU_FREE(set);
                if (r == 0)
                        return count;
                if (error != EINVAL)
                        break;
        }
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        return online > 0 ? (int)online : 1;
}

static int rounded_up(long long quota, long long period)
{
        if (quota <= 0 || period <= 0)
                return INT_MAX;
        long long cpus = (quota + period - 1) / period;
        return cpus > INT_MAX ? INT_MAX : (int)cpus;
}

/* The quota of one group: "cpu.max" of version 2 holds "QUOTA PERIOD" or "max PERIOD"; version 1 has a file for each. */
static int quota_of_group(const char *group, int version)
{
        char path[PATH_MAX + 32], text[64];
        long long quota, period;

        if (version == 2) {
                snprintf(path, sizeof path, "%s/cpu.max", group);
                if (file_read(path, text, sizeof text) < 0 || sscanf(text, "%lld %lld", &quota, &period) != 2)
                        return INT_MAX;
                return rounded_up(quota, period);
        }
        snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", group);
        if (file_read(path, text, sizeof text) < 0 || sscanf(text, "%lld", &quota) != 1)
                return INT_MAX;
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", group);
        if (file_read(path, text, sizeof text) < 0 || sscanf(text, "%lld", &period) != 1)
                return INT_MAX;
        return rounded_up(quota, period);
}

/* The smallest quota from the process's own group up to the root of the hierarchy. */
static int quota_of_hierarchy(const char *root, const char *group, int version)
{
        char path[PATH_MAX];
        int smallest = INT_MAX;
        size_t root_length = strlen(root);

        if ((size_t)snprintf(path, sizeof path, "%s%s", root, group) >= sizeof path)
                return INT_MAX;
        for (;;) {
                int quota = quota_of_group(path, version);
                if (quota < smallest)
                        smallest = quota;
                char *slash = strrchr(path, '/');
                if (slash == NULL || (size_t)(slash - path) < root_length)
                        return smallest;
                *slash = '\0';
        }
}

/* Whether a comma-separated list of controllers holds "cpu". */
static bool holds_cpu(const char *list, size_t length)
{
        for (const char *at = list; at < list + length;) {
                size_t word = strcspn(at, ",:");
                if (word == 3 && memcmp(at, "cpu", 3) == 0)
                        return true;
                at += word + 1;
        }
        return false;
}

static int cpu_by_quota(void)
{
        char text[4096];
        int smallest = INT_MAX;

        if (file_read("/proc/self/cgroup", text, sizeof text) < 0)
                return INT_MAX;
        /* Lines of "ID:CONTROLLERS:PATH"; version 2 is "0::PATH". */
        char *rest;
        for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
                char *controllers = strchr(line, ':');
                char *group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
                if (group == NULL)
                        continue;
                controllers++;
                size_t length = (size_t)(group - controllers);
                int quota = INT_MAX;
                if (length == 0)
                        quota = quota_of_hierarchy("/sys/fs/cgroup", group + 1, 2);
                else if (holds_cpu(controllers, length))
                        quota = quota_of_hierarchy("/sys/fs/cgroup/cpu", group + 1, 1);
                if (quota < smallest)
                        smallest = quota;
        }
        return smallest;
}

int cpu_usable(void)
{
        int affinity = cpu_by_affinity();
        int quota = cpu_by_quota();
        int usable = quota < affinity ? quota : affinity;

        return usable > 0 ? usable : 1;
}

void cpu_yield(void)
{
        sched_yield();
}
