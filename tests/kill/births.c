/* SPDX-License-Identifier: MIT
 *
 * tests/kill/births.c: see births.h.
 */
#include "births.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>

struct stage *stage;
int births_hang_ms = 6 * CHECK_HANG_MS;
static int stage_fd = -1;

static struct stage *map_stage(int fd)
{
        void *page = mmap(NULL, sizeof(struct stage), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return page == MAP_FAILED ? NULL : page;
}

void births_set_up(void)
{
        kills_skip_if_impossible();
        assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
        stage_fd = memfd_create("stage", MFD_CLOEXEC);
        assert_true(stage_fd > 2);
        assert_int_equal(ftruncate(stage_fd, sizeof *stage), 0);
        stage = map_stage(stage_fd);
        assert_non_null(stage);
}

void births_tear_down(void)
{
        munmap(stage, sizeof *stage);
        close(stage_fd);
        stage = NULL;
}

void births_clear(void)
{
        verdict_clear(&stage->verdict);
        atomic_store(&stage->arrived, 0);
        atomic_store(&stage->returned, 0);
        atomic_store(&stage->lived, 0);
        memset(stage->lives, 0, sizeof stage->lives);
        stage->descriptors = stage->children = 0;
}

void births_complain(const char *format, ...)
{
        va_list arguments;
        va_start(arguments, format);
        verdict_vcomplain(&stage->verdict, format, arguments);
        va_end(arguments);
}

/* ---- what is started ---- */

static void arrive(void)
{
        struct stage *at = stage ? stage : map_stage(brood_handed_descriptor(0));
        if (at == NULL)
                _exit(96);
        atomic_store(&at->its_parent, getppid());
        atomic_store(&at->arrived, getpid());
}

static int arrive_and_return(void *unused)
{
        (void)unused;
        arrive();
        return BIRTHS_CODE;
}

static int arrive_and_stay(void *unused)
{
        (void)unused;
        arrive();
        while (pause() < 0)
                ;
        return 0;
}

static int arrive_and_insist(void *unused)
{
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
        return arrive_and_stay(unused);
}

static int arrive_and_outlive(void *unused)
{
        struct pollfd parent = { .fd = brood_parent_sentinel(), .events = POLLIN };
        (void)unused;
        arrive();
        while (poll(&parent, 1, -1) < 0 && errno == EINTR)
                ;
        return BIRTHS_CODE;
}

static int (*const targets[ROLE_COUNT])(void *) = { arrive_and_return, arrive_and_stay, arrive_and_insist,
                                                    arrive_and_outlive };

static const char *const programs[ROLE_COUNT][4] = {
        { "sh", "-c", "exit 5", NULL },
        { "sleep", "1000", NULL },
        { "sh", "-c", "trap '' INT TERM; echo; exec sleep 1000", NULL },
};

static const brood_process_setup fitted = {
        .directory = "/",
        .output = { BROOD_STREAM_CAPTURE, 0 },
        .errors = { BROOD_STREAM_STDOUT, 0 },
        .file_limit = 100,
        .nice = 1,
        .new_group = true,
        .close_others = true,
};

static int run_program(const struct kind *kind, enum role role, brood_process **ret_process)
{
        brood_process_options options = { 0 };
        if (kind->fitted)
                options.setup = fitted;
        if (role == ROLE_INSISTS) /* it says so when it does not hear any more */
                options.setup.output.kind = BROOD_STREAM_CAPTURE;
        int r = brood_process_exec(ret_process, programs[role], &options, NULL);
        char c;
        if (r == 0 && role == ROLE_INSISTS && read(brood_process_stream(*ret_process, 1), &c, 1) != 1)
                births_complain("the program does not begin");
        return r;
}

int births_begin(const struct kind *kind, enum role role, brood_process **ret_process)
{
        if (kind->program)
                return run_program(kind, role, ret_process);
        brood_process_options options = { .target = targets[role],
                                          .detached = kind->detached,
                                          .start_method = kind->method };
        if (kind->method != BROOD_START_FORK) {
                options.hand_over = &stage_fd;
                options.hand_over_count = 1;
        }
        if (kind->fitted)
                options.setup = fitted;
        int r = brood_process_new(ret_process, &options);
        if (r < 0)
                return r;
        r = brood_process_start(*ret_process);
        if (r < 0)
                brood_process_free(*ret_process);
        return r;
}

int births_live(const struct kind *kind, struct life *ret_life)
{
        struct life life = { 0 };
        brood_process *process;
        life.start = births_begin(kind, ROLE_RETURNS, &process);
        if (life.start == 0) {
                life.join = brood_process_join(process, births_hang_ms);
                life.told = brood_process_exitcode(process, &life.code);
                brood_process_free(process);
        }
        life.arrived = atomic_exchange(&stage->arrived, 0);
        if (ret_life)
                *ret_life = life;
        return life.start < 0 ? life.start : life.join;
}

/* ---- the tester ---- */

static bool is_prime(long n)
{
        for (long i = 2; i * i <= n; i++)
                if (n % i == 0)
                        return false;
        return true;
}

struct sweep births_sweep(long total, long most)
{
        long stride = (total + most - 1) / most;
        while (stride > 1 && !is_prime(stride))
                stride++;
        stride = stride > 0 ? stride : 1;
        return (struct sweep){ (long)support_random((uint64_t)stride), stride, total };
}

void births_clean_up(void)
{
        pid_t children[64];
        int status;
        for (int n; (n = support_children(getpid(), children, 64)) > 0;) {
                for (int i = 0; i < n && i < 64; i++)
                        kill(children[i], SIGKILL);
                while (waitpid(-1, &status, __WALL | WNOHANG) > 0)
                        ;
        }
}
