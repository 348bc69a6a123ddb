/* SPDX-License-Identifier: MIT
 *
 * tests/process/family.c: see family.h.
 */
#include "family.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const brood_tree_level levels[LEVELS] = { BROOD_TREE_WALK, BROOD_TREE_CGROUP, BROOD_TREE_NAMESPACE };

/* ---- who is there ---- */

/* A file of /proc of a few bytes; of a process that is gone, none. */
static size_t read_of(const char *pid, const char *name, char *text, size_t size)
{
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
        text[0] = '\0';
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return 0;
        ssize_t n = read(fd, text, size - 1);
        close(fd);
        text[n < 0 ? 0 : n] = '\0';
        return n < 0 ? 0 : (size_t)n;
}

static bool is_one(const char *pid, const struct search *search)
{
        char text[256];
        if (search->name[0] != '\0') {
                read_of(pid, "comm", text, sizeof text);
                text[strcspn(text, "\n")] = '\0';
                return strcmp(text, search->name) == 0;
        }
        size_t size = read_of(pid, "cmdline", text, sizeof text), first = strlen(text) + 1;
        return size > first && strcmp(text + first, search->argument) == 0;
}

int count_found(const struct search *search)
{
        DIR *proc = opendir("/proc");
        int found = 0;
        if (proc == NULL)
                return -1;
        for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
                if (atoi(entry->d_name) <= 0 || !is_one(entry->d_name, search))
                        continue;
                found++;
                if (search->signal != 0)
                        kill(atoi(entry->d_name), search->signal);
        }
        closedir(proc);
        return found;
}

static bool nobody_is_left(void *search)
{
        reap_adopted();
        return count_found(search) == 0;
}

void expect_none_soon(const struct search *search)
{
        assert_true(support_until(nobody_is_left, (void *)(uintptr_t)search, 20000));
}

bool no_group_is_left(void *host)
{
        char prefix[32], line[4096], mount[4096], group[4096] = "", path[8400];
        int left = 0;
        bool found = false;
        snprintf(prefix, sizeof prefix, "brood-%d-", *(pid_t *)host);
        FILE *file = fopen("/proc/self/cgroup", "re");
        while (file != NULL && fgets(line, sizeof line, file) != NULL)
                if (sscanf(line, "0::%4095s", group) == 1)
                        break;
        if (file != NULL)
                fclose(file);
        file = fopen("/proc/self/mountinfo", "re");
        while (file != NULL && !found && fgets(line, sizeof line, file) != NULL)
                found = strstr(line, " - cgroup2 ") != NULL && sscanf(line, "%*s %*s %*s %*s %4095s", mount) == 1;
        if (file != NULL)
                fclose(file);
        if (!found)
                return true;
        snprintf(path, sizeof path, "%s%s", mount, group);
        DIR *directory = opendir(path);
        for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
                left += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
        if (directory != NULL)
                closedir(directory);
        return left == 0;
}

void expect_no_group(void)
{
        pid_t self = getpid();
        assert_true(no_group_is_left(&self));
}

static int adopted_before;

static int count_adopted(void)
{
        return support_count_children(host_is_init() ? getpid() : getppid());
}

void note_adopted(void)
{
        adopted_before = count_adopted();
}

static bool no_orphan_is_left(void *unused)
{
        (void)unused;
        reap_adopted();
        return count_adopted() <= adopted_before;
}

void expect_no_orphans(void)
{
        assert_true(support_until(no_orphan_is_left, NULL, 20000));
}

/* ---- families ---- */

void say(int fd)
{
        if (write(fd, "", 1) != 1)
                _exit(111);
}

static _Noreturn void stray(int ready)
{
        say(ready);
        for (;;)
                pause();
}

static void make_strays(int ready)
{
        if (fork() == 0) {
                if (fork() == 0)
                        stray(ready);
                stray(ready);
        }
        pid_t leaver = fork();
        if (leaver == 0) {
                setsid();
                if (fork() != 0)
                        _exit(0);
                say(ready);
                if (chdir("/") < 0)
                        _exit(112);
                syscall(SYS_close_range, 0, ~0U, 0);
                for (;;)
                        pause();
        }
        while (waitpid(leaver, NULL, 0) < 0 && errno == EINTR)
                ;
        if (fork() == 0) {
                say(ready);
                raise(SIGSTOP);
                _exit(0);
        }
}

/* Target. */
static int live(void *given)
{
        const struct family *family = given;
        char c;
        signal(SIGCHLD, SIG_DFL);
        prctl(PR_SET_NAME, family->who.name);
        make_strays(family->ready[1]);
        say(family->ready[1]);
        while (family->stays)
                pause();
        return read(family->go[0], &c, 1) == 1 ? CODE : 1;
}

void family_make(struct family *family, bool stays)
{
        static int number;
        memset(family, 0, sizeof *family);
        snprintf(family->who.name, sizeof family->who.name, "kin%d-%d", (int)getpid() % 1000000, ++number % 1000);
        family->stays = stays;
        if (pipe2(family->ready, O_CLOEXEC) < 0 || pipe2(family->go, O_CLOEXEC) < 0)
                abort();
        for (int i = 0; i < 2; i++) {
                keep_descriptor(family->ready[i]);
                keep_descriptor(family->go[i]);
        }
}

void family_free(struct family *family)
{
        for (int i = 0; i < 2; i++) {
                forget_descriptor(family->ready[i]);
                forget_descriptor(family->go[i]);
                close(family->ready[i]);
                close(family->go[i]);
        }
}

static void await_all(const struct family *family)
{
        char c;
        for (int i = 0; i < STRAYS + 1; i++)
                while (read(family->ready[0], &c, 1) != 1)
                        if (errno != EINTR)
                                abort();
}

int start_family(brood_process **ret_process, const struct family *family, brood_tree_level level)
{
        brood_process_options options = { .target = live, GIVEN(family) };
        options.setup.tree = level;
        int r = brood_process_new(ret_process, &options);
        if (r == 0) {
                r = brood_process_start(*ret_process);
                if (r < 0)
                        brood_process_free(*ret_process);
                else
                        await_all(family);
        }
        return r;
}

bool level_possible(brood_tree_level level)
{
        if (level == BROOD_TREE_NAMESPACE && method == BROOD_START_SPAWN)
                return false;
        int r = brood_tree_possible(level);
        if (r == (int)level)
                return true;
        assert_true(r == -EPERM || r == -ENOTSUP);
        brood_process *process;
        const brood_process_options options = { .target = return_number,
                                                .start_method = BROOD_START_FORK,
                                                .setup = { .tree = level } };
        assert_int_equal(brood_process_new(&process, &options), 0);
        assert_int_equal(brood_process_start(process), r);
        assert_string_equal(brood_process_failed_step(process), "tree");
        brood_process_free(process);
        print_message("level %d is not possible here: %s\n", (int)level, brood_strerror(r));
        return false;
}

void search_for(struct search *search, char command[512])
{
        static int number;
        memset(search, 0, sizeof *search);
        snprintf(search->argument, sizeof search->argument, "%d%04d", 100000 + (int)getpid(), ++number);
        const char *s = search->argument;
        snprintf(command, 512,
                 "sleep %s & (setsid sleep %s >/dev/null 2>&1 </dev/null &) ; (sleep %s | cat) & echo ready; exec >&- "
                 "; exec sleep %s",
                 s, s, s, s);
}
