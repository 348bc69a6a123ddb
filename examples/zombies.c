/* SPDX-License-Identifier: MIT
 *
 * zombies: three ways to leave no zombie behind.
 *
 * A zombie is a child that has ended and whose exit status nobody has taken.  The Python original makes one (the
 * parent loops for ever beside an ended child) and names three remedies: wait for it; have the work done by a
 * second-level child, which is not one's own; or ignore SIGCHLD, upon which the kernel keeps no status.  This
 * program makes a zombie, then tries each remedy, and counts after each, in /proc, the children of this process
 * that are in state Z.
 */
#include "example.h"

#include <dirent.h>
#include <poll.h>

static int zombies(void)
{
        int count = 0;
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; proc && (entry = readdir(proc));) {
                char path[300], state, name[64];
                int pid, parent;
                snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
                FILE *stat = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "r") : NULL;
                if (!stat)
                        continue;
                if (fscanf(stat, "%d (%63[^)]) %c %d", &pid, name, &state, &parent) == 4 && parent == getpid())
                        count += state == 'Z';
                fclose(stat);
        }
        if (proc)
                closedir(proc);
        return count;
}

static int work(void *arg)
{
        example_sleep(example_time(0.2, 4));
        printf("Child PID: %d (%s)\n", (int)getpid(), (const char *)arg);
        return 2;
}

static brood_process *start(const char *what, bool detached)
{
        brood_process *child;
        brood_process_options options = { .target = work, .arg = (void *)what, .detached = detached };
        example_check(brood_process_new(&child, &options), "new");
        example_check(brood_process_start(child), "start");
        return child;
}

/* Waits until the child has ended, and takes nothing from it: its descriptor becomes readable. */
static void watch(brood_process *child)
{
        struct pollfd end = { .fd = (int)example_check(brood_process_sentinel(child), "sentinel"), .events = POLLIN };
        while (poll(&end, 1, -1) < 0 && errno == EINTR)
                ;
}

int main(int argc, char **argv)
{
        example_begin(argc, argv);

        brood_process *child = start("nobody waits for it yet", false);
        watch(child);
        printf("Ended, not waited for: zombies: %d\n", zombies());

        int exitcode;
        pid_t pid = (pid_t)example_check(brood_wait(&exitcode, BROOD_FOREVER), "wait");
        printf("1. Waited for: PID: %d STATUS: %d zombies: %d\n", (int)pid, exitcode, zombies());
        brood_process_free(child);

        child = start("second level, detached", true);
        watch(child);
        printf("2. Second-level child: PID: %d zombies: %d\n", (int)brood_process_pid(child), zombies());
        brood_process_free(child);

        signal(SIGCHLD, SIG_IGN);
        child = start("SIGCHLD is ignored", false);
        watch(child);
        example_sleep(0.05); /* The descriptor may tell of the end a moment before the kernel has buried the child. */
        printf("3. SIGCHLD ignored: PID: %d zombies: %d\n", (int)brood_process_pid(child), zombies());
        brood_process_free(child);
        return 0;
}
