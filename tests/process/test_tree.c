/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_tree.c: what becomes of that which a child has started past brood, at each level of the tree.
 *
 * A family is a target and its strays: a child, a grandchild, a daemon that has left its session and closed all of its descriptors,
 * and one that halts itself.  All of them have a name by which they are found, since in a namespace their pids mean nothing here.
 */
#include "setting.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARRAY_LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define NOBODY 65534

static const brood_tree_level levels[] = { BROOD_TREE_WALK, BROOD_TREE_CGROUP, BROOD_TREE_NAMESPACE };

/* ---- who is there ---- */

struct search {
        char name[16];     /* of a family, as ps shows it; or, */
        char argument[24]; /* of a program, its second argument */
        int signal;        /* sent to whom is found */
};

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

/* How many there are, zombies included. */
static int count(const struct search *search)
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
        return count(search) == 0;
}

static void expect_none_soon(const struct search *search)
{
        assert_true(support_until(nobody_is_left, (void *)(uintptr_t)search, 20000));
}

/* The control groups that hosts with this pid have made for their children. */
static bool no_group_is_left(void *host)
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

static void expect_no_group(void)
{
        pid_t self = getpid();
        assert_true(no_group_is_left(&self));
}

/* What a host that was killed had, comes to the watcher, and has ended when that has as many children as before. */
static int watched_before;

static void note_watched(void)
{
        watched_before = support_count_children(getppid());
}

static bool no_orphan_is_left(void *unused)
{
        (void)unused;
        return support_count_children(getppid()) <= watched_before;
}

static void expect_no_orphans(void)
{
        assert_true(support_until(no_orphan_is_left, NULL, 20000));
}

/* ---- families ---- */

enum { STRAYS = 4, CODE = 5 };

struct family {
        struct search who;
        int ready[2], go[2];
        bool stays;
};

static void say(int fd)
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

static void family_make(struct family *family, bool stays)
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

static void family_free(struct family *family)
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

static int start_family(brood_process **ret_process, const struct family *family, brood_tree_level level)
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

/* Whether this level is to be had; if not, that is said as it should be. */
static bool possible(brood_tree_level level)
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

/* ---- the ends ---- */

static void check_end(brood_tree_level level, bool killed)
{
        struct family family;
        brood_process *process;
        brood_process_report report;
        int children = support_count_children(getpid()), descriptors = support_count_descriptors();
        family_make(&family, killed);
        assert_int_equal(start_family(&process, &family, level), 0);
        assert_int_equal(brood_process_tree(process), level);
        assert_int_equal(count(&family.who), STRAYS + 1);
        assert_int_equal(brood_process_join(process, 0), -EAGAIN);
        if (killed)
                assert_int_equal(brood_process_kill(process), 0);
        else
                say(family.go[1]);
        assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
        /* Not soon, but now. */
        assert_int_equal(count(&family.who), 0);
        expect_no_group();
        int code;
        assert_int_equal(brood_process_exitcode(process, &code), 0);
        assert_int_equal(code, killed ? -SIGKILL : CODE);
        assert_int_equal(brood_process_get_report(process, &report), 0);
        assert_true(report.measured);
        assert_int_equal(report.pid, brood_process_pid(process));
        assert_int_equal(brood_process_tree(process), level);
        assert_int_equal(support_count_children(getpid()), children);
        brood_process_free(process);
        family_free(&family);
        assert_int_equal(support_count_descriptors(), descriptors);
}

static void test_ends_by_itself(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++)
                if (possible(levels[i]))
                        check_end(levels[i], false);
}

static void test_is_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++)
                if (possible(levels[i]))
                        check_end(levels[i], true);
}

static void test_is_freed(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                struct family family;
                brood_process *process;
                if (!possible(levels[i]))
                        continue;
                family_make(&family, true);
                assert_int_equal(start_family(&process, &family, levels[i]), 0);
                brood_process_free(process);
                assert_int_equal(count(&family.who), 0);
                expect_no_group();
                family_free(&family);
        }
}

static void test_is_waited_for(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                struct family family;
                brood_process *process;
                int code = 1234;
                if (!possible(levels[i]))
                        continue;
                family_make(&family, false);
                assert_int_equal(start_family(&process, &family, levels[i]), 0);
                say(family.go[1]);
                assert_int_equal(brood_wait(&code, BROOD_FOREVER), brood_process_pid(process));
                assert_int_equal(code, CODE);
                assert_int_equal(count(&family.who), 0);
                assert_int_equal(brood_wait(NULL, 0), -ECHILD);
                brood_process_free(process);
                family_free(&family);
        }
}

/* Who asks for nothing gets what there was: the strays live on. */
static void test_without(void **state)
{
        (void)state;
        struct family family;
        brood_process *process;
        family_make(&family, true);
        assert_int_equal(start_family(&process, &family, BROOD_TREE_BROOD), 0);
        assert_int_equal(brood_process_tree(process), BROOD_TREE_BROOD);
        brood_process_free(process);
        assert_int_equal(count(&family.who), STRAYS);
        family.who.signal = SIGKILL;
        expect_none_soon(&family.who);
        family_free(&family);
}

/* ---- deaths of others ---- */

struct scene {
        struct family family;
        brood_tree_level level;
        bool kill_guardian;
        pid_t host;
};

static int host_dies(void *given)
{
        struct scene *scene = given;
        brood_process *process;
        pid_t self = getpid();
        ask(start_family(&process, &scene->family, scene->level) == 0);
        if (scene->kill_guardian) {
                pid_t guardian = support_parent_of(brood_process_pid(process));
                ask(guardian > 1 && guardian != self);
                ask(kill(guardian, SIGKILL) == 0);
                ask(support_process_gone(guardian, 20000));
        }
        if (write(scene->family.go[1], &self, sizeof self) != sizeof self)
                return __LINE__;
        raise(SIGKILL);
        return 0;
}

static void test_host_is_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                struct scene scene = { .level = levels[i] };
                if (!possible(levels[i]))
                        continue;
                family_make(&scene.family, true);
                note_watched();
                assert_int_equal(in_child(host_dies, &scene), HOST_DIED);
                assert_int_equal(read(scene.family.go[0], &scene.host, sizeof scene.host), sizeof scene.host);
                expect_none_soon(&scene.family.who);
                assert_true(support_until(no_group_is_left, &scene.host, 20000));
                expect_no_orphans();
                family_free(&scene.family);
        }
}

static bool is_alone(void *given)
{
        return count(given) <= STRAYS;
}

/* First the guardian, then the host: the target dies of its lifeline, and in a namespace all die. */
static void test_guardian_and_host_are_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                struct scene scene = { .level = levels[i], .kill_guardian = true };
                if (!possible(levels[i]) || levels[i] == BROOD_TREE_CGROUP) /* the group would be left to nobody */
                        continue;
                family_make(&scene.family, true);
                note_watched();
                assert_int_equal(in_child(host_dies, &scene), HOST_DIED);
                if (levels[i] == BROOD_TREE_NAMESPACE)
                        expect_none_soon(&scene.family.who);
                else
                        assert_true(support_until(is_alone, &scene.family.who, 20000));
                scene.family.who.signal = SIGKILL;
                expect_none_soon(&scene.family.who);
                expect_no_orphans();
                family_free(&scene.family);
        }
}

static void test_guardian_is_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                bool all_die = levels[i] == BROOD_TREE_NAMESPACE;
                struct family family;
                brood_process *process;
                if (!possible(levels[i]))
                        continue;
                int children = support_count_children(getpid());
                note_watched();
                family_make(&family, true);
                assert_int_equal(start_family(&process, &family, levels[i]), 0);
                pid_t guardian = support_parent_of(brood_process_pid(process));
                assert_int_equal(support_parent_of(guardian), getpid());
                assert_int_equal(kill(guardian, SIGKILL), 0);
                assert_true(support_process_gone(guardian, 20000));
                if (!all_die) {
                        assert_int_equal(brood_process_tree(process), BROOD_TREE_BROOD);
                        assert_int_equal(brood_process_is_alive(process), 1);
                        assert_int_equal(brood_process_join(process, 50), -ETIMEDOUT);
                        assert_int_equal(brood_wait(NULL, 50), -ETIMEDOUT);
                        assert_int_equal(count(&family.who), STRAYS + 1);
                        assert_int_equal(support_count_children(getpid()), children); /* it has been reaped */
                        assert_int_equal(brood_process_kill(process), 0);
                }
                assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
                expect_detached_exitcode(process, -SIGKILL);
                if (levels[i] != BROOD_TREE_WALK)
                        expect_none_soon(&family.who); /* of a group the host takes care itself */
                expect_no_group();
                brood_process_free(process);
                family.who.signal = SIGKILL;
                expect_none_soon(&family.who);
                expect_no_orphans();
                family_free(&family);
        }
}

/* ---- guardians below guardians ---- */

struct nest {
        struct family inner;
        brood_tree_level level;
};

static int live_in_nest(void *given)
{
        struct nest *nest = given;
        brood_process *process;
        ask(start_family(&process, &nest->inner, nest->level) == 0);
        say(nest->inner.go[1]);
        return wait_for_ever(NULL);
}

/* What the inner one has made is gone with the outer one, a group too; but for a namespace that is killed as a whole. */
static void test_nest(void **state)
{
        (void)state;
        static const brood_tree_level nests[][2] = {
                { BROOD_TREE_WALK, BROOD_TREE_WALK },      { BROOD_TREE_WALK, BROOD_TREE_CGROUP },
                { BROOD_TREE_WALK, BROOD_TREE_NAMESPACE }, { BROOD_TREE_CGROUP, BROOD_TREE_WALK },
                { BROOD_TREE_CGROUP, BROOD_TREE_CGROUP },  { BROOD_TREE_CGROUP, BROOD_TREE_NAMESPACE },
                { BROOD_TREE_NAMESPACE, BROOD_TREE_WALK }, { BROOD_TREE_NAMESPACE, BROOD_TREE_NAMESPACE },
        };
        for (size_t i = 0; i < ARRAY_LENGTH(nests); i++) {
                struct nest nest = { .level = nests[i][1] };
                char c;
                if (!possible(nests[i][0]) || !possible(nests[i][1]))
                        continue;
                family_make(&nest.inner, true);
                brood_process_options options = { .target = live_in_nest, GIVEN(&nest) };
                options.setup.tree = nests[i][0];
                brood_process *process = start_with(&options);
                pid_t pid = brood_process_pid(process);
                while (read(nest.inner.go[0], &c, 1) != 1)
                        assert_int_equal(errno, EINTR);
                assert_int_equal(count(&nest.inner.who), STRAYS + 1);
                assert_int_equal(brood_process_kill(process), 0);
                assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
                assert_int_equal(count(&nest.inner.who), 0);
                assert_true(no_group_is_left(&pid));
                expect_no_group();
                brood_process_free(process);
                family_free(&nest.inner);
        }
}

/* ---- who has children all the time ---- */

struct bomb {
        struct search who;
        _Atomic int born;
};

enum { BOMB_MOST = 400 };

static _Noreturn void multiply(struct bomb *bomb)
{
        while (atomic_fetch_add(&bomb->born, 1) < BOMB_MOST)
                if (fork() == 0 && fork() != 0)
                        _exit(0); /* so that the next is an orphan */
        for (;;)
                pause();
}

static int explode(void *bomb)
{
        struct bomb *shared = *(struct bomb **)bomb;
        struct rlimit few;
        signal(SIGCHLD, SIG_IGN);
        prctl(PR_SET_NAME, shared->who.name);
        if (getrlimit(RLIMIT_NPROC, &few) < 0)
                return 1;
        multiply(shared);
}

static bool has_begun(void *bomb)
{
        return atomic_load(&((struct bomb *)bomb)->born) > 100;
}

static void test_who_multiplies(void **state)
{
        (void)state;
        struct bomb *bomb = mmap(NULL, sizeof *bomb, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert_true(bomb != MAP_FAILED);
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                if (!possible(levels[i]))
                        continue;
                snprintf(bomb->who.name, sizeof bomb->who.name, "bomb%d-%zu", (int)getpid(), i);
                atomic_store(&bomb->born, 0);
                brood_process_options options = { .target = explode, GIVEN(&bomb) };
                options.setup.tree = levels[i];
                brood_process *process = start_with(&options);
                assert_true(support_until(has_begun, bomb, 20000));
                assert_int_equal(brood_process_kill(process), 0);
                assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
                int born = atomic_load(&bomb->born);
                assert_int_equal(count(&bomb->who), 0);
                assert_int_equal(atomic_load(&bomb->born), born);
                brood_process_free(process);
        }
        munmap(bomb, sizeof *bomb);
}

/* ---- programs ---- */

static void search_for(struct search *search, char command[512])
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

static void check_program(brood_tree_level level)
{
        char command[512], text[64];
        struct search search;
        brood_process *process;
        const char *step = NULL;
        search_for(&search, command);
        const char *const argv[] = { "/bin/sh", "-c", command, NULL };
        const brood_process_options options = {
                .setup = { .tree = level, .output = { .kind = BROOD_STREAM_CAPTURE } },
        };
        assert_int_equal(brood_process_exec(&process, argv, &options, &step), 0);
        assert_int_equal(brood_process_tree(process), level);
        size_t size = 0;
        ssize_t n;
        while (size < 6 &&
               ((n = read(brood_process_stream(process, 1), text + size, sizeof text - size)) > 0 || errno == EINTR))
                size += n > 0 ? (size_t)n : 0;
        assert_memory_equal(text, "ready\n", 6);
        assert_int_equal(brood_process_is_alive(process), 1);
        assert_int_equal(brood_process_end(process, 0, 20000), SIGTERM);
        /* What is left of the program has ended; so nobody has the other end of the stream, the guardian least of all. */
        assert_int_equal(count(&search), 0);
        assert_int_equal(read(brood_process_stream(process, 1), text, sizeof text), 0);
        int code;
        assert_int_equal(brood_process_exitcode(process, &code), 0);
        assert_int_equal(code, -SIGTERM);
        brood_process_free(process);
        expect_no_group();
}

static void test_program(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++)
                if (possible(levels[i]))
                        check_program(levels[i]);
}

/* While the program runs, nobody but it has the streams and other descriptors that it was given. */
static void test_guardian_has_no_descriptors(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                const char *const argv[] = { "/bin/sh", "-c", "exec sleep 1000 >/dev/null", NULL };
                int ends[2];
                char c;
                brood_process *process;
                if (!possible(levels[i]))
                        continue;
                const brood_process_options options = {
                        .setup = { .tree = levels[i], .output = { .kind = BROOD_STREAM_CAPTURE } },
                };
                assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
                assert_int_equal(brood_process_exec(&process, argv, &options, NULL), 0);
                close(ends[1]);
                assert_int_equal(read(ends[0], &c, 1), 0);
                assert_int_equal(read(brood_process_stream(process, 1), &c, 1), 0);
                assert_int_equal(brood_process_is_alive(process), 1);
                brood_process_free(process);
                close(ends[0]);
        }
}

struct shell {
        char command[512];
        brood_tree_level level;
};

static int host_of_program_dies(void *given)
{
        struct shell *shell = given;
        const char *const argv[] = { "/bin/sh", "-c", shell->command, NULL };
        const brood_process_options options = {
                .setup = { .tree = shell->level, .output = { .kind = BROOD_STREAM_CAPTURE } },
        };
        brood_process *process;
        char c;
        ask(brood_process_exec(&process, argv, &options, NULL) == 0);
        ask(read(brood_process_stream(process, 1), &c, 1) == 1);
        raise(SIGKILL);
        return 0;
}

static void test_host_of_program_is_killed(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                struct shell shell = { .level = levels[i] };
                struct search search;
                if (!possible(levels[i]))
                        continue;
                search_for(&search, shell.command);
                note_watched();
                assert_int_equal(in_child(host_of_program_dies, &shell), HOST_DIED);
                expect_none_soon(&search);
                expect_no_orphans();
        }
}

/* ---- what goes wrong ---- */

static void test_bad_input(void **state)
{
        (void)state;
        brood_process *process = NULL;
        brood_process_options options = { .target = return_number,
                                          .start_method = BROOD_START_FORK,
                                          .setup = { .tree = BROOD_TREE_BEST + 1 } };
        const char *const argv[] = { "true", NULL };
        assert_int_equal(brood_process_new(&process, &options), -EINVAL);
        assert_int_equal(brood_process_exec(&process, argv, &(brood_process_options){ .setup = { .tree = 99 } }, NULL),
                         -EINVAL);
        options.setup.tree = BROOD_TREE_WALK;
        options.detached = true;
        assert_int_equal(brood_process_new(&process, &options), -EINVAL);
        options.detached = false;
        options.start_method = BROOD_START_FORKSERVER;
        assert_int_equal(brood_process_new(&process, &options), -ENOTSUP);
        options.start_method = BROOD_START_SPAWN;
        options.setup.tree = BROOD_TREE_NAMESPACE;
        assert_int_equal(brood_process_new(&process, &options), -ENOTSUP);
        assert_null(process);
        assert_int_equal(brood_process_tree(NULL), -EINVAL);
        assert_int_equal(brood_tree_possible((brood_tree_level)99), -EINVAL);
        assert_int_equal(brood_tree_possible(BROOD_TREE_BROOD), BROOD_TREE_BROOD);
        assert_int_equal(brood_tree_possible(BROOD_TREE_WALK), BROOD_TREE_WALK);
        int best = brood_tree_possible(BROOD_TREE_BEST);
        assert_int_equal(best, brood_tree_possible(BROOD_TREE_CGROUP) == BROOD_TREE_CGROUP ? BROOD_TREE_CGROUP
                                                                                           : BROOD_TREE_WALK);
        options = (brood_process_options){ .target = wait_for_ever, METHOD };
        options.setup.tree = BROOD_TREE_BEST;
        assert_int_equal(brood_process_new(&process, &options), 0);
        assert_int_equal(brood_process_tree(process), BROOD_TREE_BROOD);
        assert_int_equal(brood_process_start(process), 0);
        assert_int_equal(brood_process_tree(process), best);
        brood_process_free(process);
}

static void test_start_fails(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LENGTH(levels); i++) {
                const char *const missing[] = { "/does/not/exist", NULL }, *const argv[] = { "true", NULL };
                const char *step = "";
                brood_process *process;
                if (!possible(levels[i]))
                        continue;
                int children = support_count_children(getpid());
                brood_process_options options = { .target = wait_for_ever, METHOD };
                options.setup.tree = levels[i];
                options.setup.directory = "/does/not/exist";
                assert_int_equal(brood_process_new(&process, &options), 0);
                assert_int_equal(brood_process_start(process), -ENOENT);
                assert_string_equal(brood_process_failed_step(process), "directory");
                brood_process_free(process);
                options = (brood_process_options){ .setup = { .tree = levels[i] } };
                assert_int_equal(brood_process_exec(&process, missing, &options, &step), -ENOENT);
                assert_string_equal(step, "program");
                options.setup.directory = "/does/not/exist";
                assert_int_equal(brood_process_exec(&process, argv, &options, &step), -ENOENT);
                assert_string_equal(step, "directory");
                options.setup.directory = NULL;
                options.setup.cgroup = "/does/not/exist";
                int r = brood_process_exec(&process, argv, &options, &step);
                assert_int_equal(r, levels[i] == BROOD_TREE_CGROUP ? -ENOTSUP : -ENOENT);
                assert_string_equal(step, levels[i] == BROOD_TREE_CGROUP ? "tree" : "control group");
                assert_int_equal(support_count_children(getpid()), children);
                expect_no_group();
        }
}

static int as_nobody(void *unused)
{
        (void)unused;
        if (getuid() == 0)
                ask(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0 &&
                    prctl(PR_SET_DUMPABLE, 1) == 0);
        ask(brood_tree_possible(BROOD_TREE_WALK) == BROOD_TREE_WALK);
        int r = brood_tree_possible(BROOD_TREE_NAMESPACE);
        ask(r == BROOD_TREE_NAMESPACE || r == -EPERM || r == -ENOTSUP);
        printf("a namespace for one who may little: %s\n", r < 0 ? brood_strerror(r) : "yes");
        r = brood_tree_possible(BROOD_TREE_CGROUP);
        ask(r == -EPERM || r == -ENOTSUP || r == BROOD_TREE_CGROUP);
        int best = brood_tree_possible(BROOD_TREE_BEST);
        ask(best == (r < 0 ? BROOD_TREE_WALK : BROOD_TREE_CGROUP));
        return 0;
}

static void test_who_may_little(void **state)
{
        (void)state;
        assert_int_equal(in_child(as_nobody, NULL), 0);
}

/* ---- in a namespace ---- */

static int in_namespace(void *unused)
{
        (void)unused;
        brood_process *process;
        char self[32];
        int seven = 7, code;
        ask(getppid() == 0);
        ssize_t n = readlink("/proc/self", self, sizeof self - 1);
        ask(n > 0);
        self[n] = '\0';
        ask(atoi(self) == getpid());
        brood_process_options options = { .target = return_number, .arg = &seven, .start_method = BROOD_START_FORK };
        ask(brood_process_new(&process, &options) == 0);
        ask(brood_process_start(process) == 0);
        ask(brood_process_join(process, BROOD_FOREVER) == 0);
        signal(SIGCHLD, SIG_DFL);
        ask(brood_process_exitcode(process, &code) == 0 || !kernel_tells());
        brood_process_free(process);
        signal(SIGTERM, SIG_DFL);
        raise(SIGTERM); /* which a first process would not hear */
        return 0;
}

static void test_in_namespace(void **state)
{
        (void)state;
        int code;
        if (!possible(BROOD_TREE_NAMESPACE))
                return;
        brood_process_options options = { .target = in_namespace, .start_method = BROOD_START_FORK };
        options.setup.tree = BROOD_TREE_NAMESPACE;
        brood_process *process = start_with(&options);
        assert_int_equal(brood_process_join(process, BROOD_FOREVER), 0);
        assert_int_equal(brood_process_exitcode(process, &code), 0);
        assert_int_equal(code, -SIGTERM);
        brood_process_free(process);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                process_test(test_ends_by_itself),
                process_test(test_is_killed),
                process_test(test_is_freed),
                process_test(test_is_waited_for),
                process_test(test_without),
                process_test(test_host_is_killed),
                process_test(test_guardian_and_host_are_killed),
                process_test(test_guardian_is_killed),
                fork_test(test_nest),
                fork_test(test_who_multiplies),
                fork_test(test_program),
                fork_test(test_guardian_has_no_descriptors),
                fork_test(test_host_of_program_is_killed),
                process_test(test_bad_input),
                process_test(test_start_fails),
                fork_test(test_who_may_little),
                fork_test(test_in_namespace),
        };

        return setting_main(argc, argv, "tree", tests, ARRAY_LENGTH(tests), 80);
}
