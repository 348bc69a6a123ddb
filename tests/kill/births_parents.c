/* SPDX-License-Identifier: MIT
 *
 * tests/kill/births_parents.c: the parent is killed, at instructions of what it does with a child.
 *
 * Then each process that it had begun must be gone: killed by the kernel, or ended at the gate.  A detached one is either gone,
 * too, or it has been let go, and goes on with its target; and if its start had returned, it must be there.
 */
#include "births.h"

enum {
        KILLS = 14,         /* of each call, by default */
        KILLS_BY_FORK = 30, /* which is the quickest */
        PROMISED_MS = 100,
        STATUS_GATE = 255,
        STATUS_UNBORN = 127 /* before the exec, where the parent is gone */
};

struct act {
        const char *name;
        enum role role;
        bool begun; /* the child is there before, and has reached its target */
        void (*call)(const struct kind *kind, brood_process **process);
};

static void start(const struct kind *kind, brood_process **process)
{
        if (births_begin(kind, ROLE_STAYS, process) == 0)
                atomic_store(&stage->returned, brood_process_pid(*process));
}

static void join(const struct kind *kind, brood_process **process)
{
        (void)kind;
        brood_process_join(*process, BROOD_FOREVER);
}

static void wait_for_any(const struct kind *kind, brood_process **process)
{
        (void)kind;
        (void)process;
        brood_wait(NULL, BROOD_FOREVER);
}

static void kill_and_join(const struct kind *kind, brood_process **process)
{
        brood_process_kill(*process);
        join(kind, process);
}

static void end(const struct kind *kind, brood_process **process)
{
        (void)kind;
        brood_process_end(*process, 1, 1);
}

static void free_it(const struct kind *kind, brood_process **process)
{
        (void)kind;
        brood_process_free(*process);
}

static const struct act acts[] = {
        { "start", ROLE_STAYS, false, start },
        { "join", ROLE_RETURNS, true, join },
        { "brood_wait", ROLE_RETURNS, true, wait_for_any },
        { "kill and join", ROLE_STAYS, true, kill_and_join },
        { "end", ROLE_INSISTS, true, end },
        { "free", ROLE_STAYS, true, free_it },
};
enum { START = 1, JOIN = 2, WAIT = 4, KILL = 8, END = 16, FREE = 32, ALL = 63 };

/* What is killed where. */
static const struct {
        struct kind kind;
        unsigned acts;
        bool cold; /* there has been no start before */
} scenes[] = {
        { { "fork", BROOD_START_FORK, .detached = false }, ALL, false },
        { { "fork", BROOD_START_FORK, .detached = false }, START, true },
        { { "fork with a setup", BROOD_START_FORK, .fitted = true }, START | FREE, false },
        { { "fork, detached", BROOD_START_FORK, .detached = true }, START, false },
        { { "spawn", BROOD_START_SPAWN, .detached = false }, START | JOIN | FREE, false },
        { { "spawn, detached", BROOD_START_SPAWN, .detached = true }, START, false },
        { { "forkserver", BROOD_START_FORKSERVER, .detached = false }, ALL, false },
        { { "forkserver", BROOD_START_FORKSERVER, .detached = false }, START, true },
        { { "forkserver, detached", BROOD_START_FORKSERVER, .detached = true }, START, false },
        { { "program", .program = true }, START | JOIN | END | FREE, false },
};

struct cast {
        const struct kind *kind;
        const struct act *act;
        bool cold;
        brood_process *process;
};

static int prepare(void *arg)
{
        struct cast *cast = arg;
        struct kind attached = *cast->kind;
        sigset_t signals;
        /* To the one who steps, a signal is a stop like any other. */
        sigemptyset(&signals);
        sigaddset(&signals, SIGCHLD);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        attached.detached = false;
        if (!cast->cold)
                require_int(births_live(&attached, NULL), 0);
        if (!cast->act->begun)
                return 0;
        require_int(births_begin(cast->kind, cast->act->role, &cast->process), 0);
        require(cast->kind->program || check_reaches(&stage->arrived, 1, CHECK_HANG_MS));
        return 0;
}

static void call(void *arg)
{
        struct cast *cast = arg;
        cast->act->call(cast->kind, &cast->process);
}

/* ---- afterwards ---- */

/* How one has ended who lost his parent, or the server. */
static void check_end(const struct cast *cast, int code)
{
        bool returns = cast->act->role == ROLE_RETURNS, spawned = cast->kind->method != BROOD_START_FORK;
        bool helper = cast->kind->detached || cast->kind->method == BROOD_START_FORKSERVER;
        if (code == -SIGKILL || code == STATUS_GATE || (code == BIRTHS_CODE && returns) ||
            (code == STATUS_UNBORN && spawned) || (code == 0 && helper))
                return;
        births_complain("somebody ended with %d", code);
}

/* Reap whoever comes.  Whether all are gone, or, unless that is NULL, the one that is to live on has arrived. */
static bool reap_all(const struct cast *cast, const atomic_int *arrived)
{
        int64_t limit = support_now_ms() + births_hang_ms;
        for (useconds_t pause = 20;; pause = pause < 1000 ? pause * 2 : pause) {
                int status;
                pid_t pid;
                while ((pid = waitpid(-1, &status, __WALL | WNOHANG)) > 0)
                        check_end(cast, check_code(status));
                if ((pid < 0 && errno == ECHILD) || (arrived && atomic_load(arrived)))
                        return true;
                if (support_now_ms() > limit)
                        return false;
                usleep(pause);
        }
}

static bool is_ours(void *pid)
{
        return support_parent_of(*(pid_t *)pid) == getpid();
}

/* It has been let go, and must not end but by the signal that it is sent. */
static void end_detached(const struct cast *cast, pid_t pid)
{
        int status;
        pid_t got = -1;
        if (support_until(is_ours, &pid, births_hang_ms)) { /* and not the server's any more */
                kill(pid, SIGTERM);
                while ((got = waitpid(pid, &status, __WALL)) < 0 && errno == EINTR)
                        ;
        }
        if (got != pid)
                births_complain("a detached process is gone");
        else if (check_code(status) != -SIGTERM)
                births_complain("a detached process ended with %d", check_code(status));
        if (!reap_all(cast, NULL))
                births_complain("processes are left beside a detached one");
}

static void settle(const struct cast *cast, int64_t start, long k)
{
        bool detached = cast->kind->detached;
        bool good = reap_all(cast, detached ? &stage->arrived : NULL);
        int64_t took = support_now_ms() - start;
        if (took > PROMISED_MS)
                printf("slow: %d ms after a kill at instruction %ld\n", (int)took, k);
        verdict_note_wait(&stage->verdict, start, 2 * births_hang_ms);
        pid_t arrived = atomic_load(&stage->arrived);
        if (!good)
                births_complain("processes are left after %d ms", births_hang_ms);
        else if (detached && arrived)
                end_detached(cast, arrived);
        else if (detached && atomic_load(&stage->returned))
                births_complain("a detached process is gone, whose start had returned");
        if (atomic_load(&stage->verdict.complaints) > 0)
                births_clean_up();
}

/* ---- the kills ---- */

static struct kills kills;

static bool kill_after(struct cast *cast, long k, bool is_first, long *ret_steps, enum step_end *ret_end)
{
        const struct step_victim victim = { prepare, call, cast, &stage->mark };
        births_clear();
        pid_t pid = step_start(&victim);
        int64_t start = support_now_ms();
        if (pid > 0) {
                struct kills_run run = { .pid = pid, .mark = &stage->mark };
                *ret_end = kills_step(&kills, &run, k, is_first, ret_steps);
                start = support_now_ms();
                step_kill(pid);
        } else {
                births_complain("the parent does not get to the call");
        }
        settle(cast, start, k);
        return kills_note(&kills);
}

static void kill_everywhere(const struct kind *kind, const struct act *act, bool cold)
{
        struct cast cast = { kind, act, cold, NULL };
        enum step_end ended = STEP_ENDED;
        int64_t start = support_now_ms();
        long steps = 0, k = KILLS_STEPS_MOST, strayed = 0, done = 0;
        atomic_store(&stage->verdict.longest_ms, 0);
        bool good = kill_after(&cast, k, true, &steps, &ended);
        long points = kills_find_points(&kills, steps), length = steps;
        int most = support_rounds(kind->method == BROOD_START_FORK ? KILLS_BY_FORK : KILLS);
        struct sweep sweep = births_sweep(points, most);
        for (; good && sweep.at < points; sweep.at += sweep.stride, done++) {
                k = kills.points[sweep.at];
                good = kill_after(&cast, k, false, &steps, &ended);
                strayed += ended == STEP_ENDED;
        }
        kills.calls++;
        kills.failures += !good;
        if (good)
                printf(
                    "parent, %s%s, %s: %ld kills in %ld instructions (%ld had ended), all gone after %d ms at most (%d "
                    "ms)\n",
                    kind->name, cold ? ", its first" : "", act->name, done, length, strayed,
                    atomic_load(&stage->verdict.longest_ms), (int)(support_now_ms() - start));
        else
                printf("parent, %s%s, %s: killed after %ld of %ld instructions: %s\n", kind->name,
                       cold ? ", its first" : "", act->name, k, length, stage->verdict.complaint);
}

int births_kill_parents(bool fast_to_fail)
{
        kills_set_up(&kills, &stage->verdict);
        for (size_t s = 0; s < array_length(scenes); s++)
                for (size_t a = 0; a < array_length(acts) && !(fast_to_fail && kills.failures); a++)
                        if (scenes[s].acts & 1u << a)
                                kill_everywhere(&scenes[s].kind, &acts[a], scenes[s].cold);
        kills_tear_down(&kills);
        printf("parents: %d kills in %d calls, all gone after %d ms at most, %d failures\n", kills.kills, kills.calls,
               kills.longest_ms, kills.failures);
        return kills.failures;
}
