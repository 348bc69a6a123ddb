/* SPDX-License-Identifier: MIT
 *
 * tests/kill/births_children.c: a process that is being born is killed, at instructions before its target; or its parent is, while
 * it stands there; or the fork server, while it makes one.
 *
 * If it was the process: its parent's start and join end, with that signal or an error that says what happened; no descriptor and
 * no zombie is left, and the next start is as any.  If it was the parent: the process never reaches its target.
 *
 * To reach an instruction of a process that was executed, which comes by a hundred thousand in the dynamic linker, it is run from
 * system call to system call, and stepped from there.
 */
#include "births.h"
#include "trace.h"

#include <limits.h>

enum {
        KILLS = 10,         /* of each kind, by default */
        KILLS_BY_FORK = 40, /* which is the quickest */
        STEPS_AFTER = 300   /* a system call */
};

enum victim { CHILD, FIRST_LEVEL, SECOND_LEVEL, SERVER };
enum stretch {
        BIRTH_TO_TARGET,
        BIRTH_TO_EXEC,
        EXEC_TO_TARGET,
        LIFE, /* of the parent's process */
};

struct plan {
        struct kind kind;
        enum victim victim;
        enum stretch stretch;
        bool warm;     /* there is a server, and it is traced */
        bool by_calls; /* instructions are counted from a system call on */
        bool alone;    /* whoever has made it is held back until it is killed, or sleeps at the gate */
        bool parent_dies;
        bool outlives; /* it is detached, and goes on until its parent has ended */
};

static const char *const victim_names[] = { "child", "first-level child", "second-level child", "server" };
static const char *const stretch_names[] = { "birth to target", "birth to exec", "exec to target", "one life" };

#define FORK .name = "fork", .method = BROOD_START_FORK
#define SPAWN .name = "spawn", .method = BROOD_START_SPAWN
#define SERVED .name = "forkserver", .method = BROOD_START_FORKSERVER

static const struct plan plans[] = {
        { { FORK }, CHILD, BIRTH_TO_TARGET, .alone = false },
        { { FORK }, CHILD, BIRTH_TO_TARGET, .alone = true },
        { { FORK }, CHILD, BIRTH_TO_TARGET, .parent_dies = true },
        { { FORK }, CHILD, BIRTH_TO_TARGET, .parent_dies = true, .alone = true },
        { { FORK, .fitted = true }, CHILD, BIRTH_TO_TARGET, .alone = false },
        { { FORK, .fitted = true }, CHILD, BIRTH_TO_TARGET, .alone = true },
        { { FORK, .fitted = true }, CHILD, BIRTH_TO_TARGET, .parent_dies = true },
        { { FORK, .detached = true }, FIRST_LEVEL, BIRTH_TO_TARGET, .alone = false },
        { { FORK, .detached = true }, FIRST_LEVEL, BIRTH_TO_TARGET, .parent_dies = true },
        { { FORK, .detached = true }, SECOND_LEVEL, BIRTH_TO_TARGET, .alone = false },
        { { FORK, .detached = true }, SECOND_LEVEL, BIRTH_TO_TARGET, .alone = true },
        { { FORK, .detached = true }, SECOND_LEVEL, BIRTH_TO_TARGET, .parent_dies = true, .outlives = true },
        { { SPAWN }, CHILD, BIRTH_TO_EXEC, .alone = false },
        { { SPAWN }, CHILD, BIRTH_TO_EXEC, .parent_dies = true },
        { { SPAWN }, CHILD, EXEC_TO_TARGET, .by_calls = true },
        { { SPAWN }, CHILD, EXEC_TO_TARGET, .by_calls = true, .parent_dies = true },
        { { SPAWN, .fitted = true }, CHILD, BIRTH_TO_EXEC, .alone = false },
        { { SPAWN, .detached = true }, FIRST_LEVEL, EXEC_TO_TARGET, .by_calls = true },
        { { SPAWN, .detached = true }, SECOND_LEVEL, BIRTH_TO_TARGET, .alone = false },
        { { SPAWN, .detached = true }, SECOND_LEVEL, BIRTH_TO_TARGET, .parent_dies = true, .outlives = true },
        { { SERVED }, CHILD, BIRTH_TO_TARGET, .warm = true, .by_calls = true },
        { { SERVED }, CHILD, BIRTH_TO_TARGET, .warm = true, .by_calls = true, .parent_dies = true },
        { { SERVED }, SERVER, LIFE, .warm = true, .by_calls = true },
        { { SERVED }, SERVER, LIFE, .warm = true, .by_calls = true, .parent_dies = true },
        { { SERVED, .detached = true }, CHILD, BIRTH_TO_TARGET, .warm = true, .by_calls = true },
        { { SERVED, .detached = true },
          SERVER,
          LIFE,
          .warm = true,
          .by_calls = true,
          .parent_dies = true,
          .outlives = true },
        { { SERVED }, SERVER, EXEC_TO_TARGET, .by_calls = true },
        { { .name = "program", .program = true }, CHILD, BIRTH_TO_EXEC, .alone = false },
        { { .name = "program", .program = true }, CHILD, BIRTH_TO_EXEC, .parent_dies = true },
};

/* ---- the parent ---- */

static bool is_childless(void)
{
        siginfo_t info;
        return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 && errno == ECHILD;
}

/* What any start brings along is there before; so is the server, if it is to be. */
static int prepare(void *arg)
{
        const struct plan *plan = arg;
        require_int(support_warm_up(), 0);
        struct kind attached = plan->kind;
        attached.detached = false;
        if (plan->warm)
                require_int(births_live(&attached, NULL), 0);
        return 0;
}

/* It starts one, and ends when that one has arrived, and the server has done with it. */
static void call_and_end(const struct plan *plan)
{
        brood_process *process;
        pid_t server = atomic_load(&stage->its_parent);
        int r = births_begin(&plan->kind, ROLE_OUTLIVES, &process);
        if (r == 0)
                atomic_store(&stage->returned, brood_process_pid(process));
        else
                births_complain("the start returned %d", r);
        if (!check_reaches(&stage->arrived, 1, births_hang_ms) || (plan->victim == SERVER && !check_asleep(server)))
                births_complain("the detached process does not get to its target");
}

static void call(void *arg)
{
        const struct plan *plan = arg;
        int before = support_count_descriptors();
        if (plan->outlives) {
                call_and_end(plan);
                return;
        }
        for (int i = 0; i < 2; i++) {
                births_live(&plan->kind, &stage->lives[i]);
                atomic_store(&stage->lived, i + 1);
        }
        /* A server that was there before is there again, and one that was not goes. */
        if (plan->warm)
                stage->descriptors = support_count_descriptors() - before;
        if (brood_forkserver_stop() < 0)
                births_complain("the server is not stopped");
        if (!plan->warm)
                stage->descriptors = support_count_descriptors() - before;
        stage->children = !is_childless();
}

/* ---- what is true of it afterwards ---- */

/* As it is where nobody is killed.  Who is reaped by others, being detached or without a server, has a code that is not certain: it
 * is for the kernel to tell. */
static void check_whole(const struct life *life, bool certain)
{
        if (life->start != 0 || life->join != 0)
                births_complain("a start that nobody disturbs returned %d, its join %d", life->start, life->join);
        else if (!life->arrived)
                births_complain("a target has not run");
        else if (life->told != 0 ? certain || (life->told != -ENODATA && life->told != -EAGAIN)
                                 : life->code != BIRTHS_CODE)
                births_complain("a target's code is %d (%d)", life->code, life->told);
}

/* The first life of the parent, whose process was killed before its target. */
static void check_killed(const struct plan *plan, const struct life *life)
{
        bool second = plan->victim == SECOND_LEVEL;
        if (life->arrived)
                births_complain("a target has run that cannot have been reached");
        else if (life->start < 0 ? !second || life->start != -EAGAIN : life->join != 0)
                births_complain("the start returned %d, the join %d", life->start, life->join);
        else if (life->start == 0 && (life->told != 0 ? !second || (life->told != -ENODATA && life->told != -EAGAIN)
                                                      : life->code != -SIGKILL))
                births_complain("the killed one's code is %d (%d)", life->code, life->told);
}

/* The first life, in which who makes the process was killed: it is born all the same, or it is not. */
static void check_bereft(const struct plan *plan, const struct life *life)
{
        int refused = plan->victim == SERVER ? -EPIPE : -EAGAIN;
        if (life->start == 0)
                check_whole(life, false);
        else if (life->start != refused)
                births_complain("the start returned %d", life->start);
        else if (life->arrived)
                births_complain("a target has run, and its start has failed");
}

static void check_parent(const struct plan *plan, const struct trace *trace)
{
        bool certain = !plan->kind.detached;
        struct life first = stage->lives[0], second = stage->lives[1];
        if (plan->kind.program) /* which tells nothing */
                first.arrived = trace->killed ? 0 : 1, second.arrived = 1;
        if (!trace->killed)
                check_whole(&first, certain);
        else if (plan->victim == FIRST_LEVEL || plan->victim == SERVER)
                check_bereft(plan, &first);
        else
                check_killed(plan, &first);
        check_whole(&second, certain);
        if (stage->descriptors != 0)
                births_complain("the parent has %d descriptors more than before", stage->descriptors);
        if (stage->children)
                births_complain("the parent has a child left");
}

/* It was detached: if its start has returned, it has not been killed. */
static void check_detached(const struct trace *trace)
{
        pid_t pid = atomic_load(&stage->returned);
        for (int i = 0; i < trace->count; i++)
                if (trace->family[i].pid == pid && trace->family[i].code != BIRTHS_CODE)
                        births_complain("a detached process, whose start had returned, ended with %d",
                                        trace->family[i].code);
}

static void check(const struct plan *plan, const struct trace *trace)
{
        if (trace->hung)
                births_complain("they hang");
        else if (plan->outlives)
                check_detached(trace);
        else if (trace->killed && !plan->parent_dies && trace->victim_code != -SIGKILL)
                births_complain("the victim ended with %d", trace->victim_code);
        else if (!trace->killed || !plan->parent_dies)
                check_parent(plan, trace);
        else if (plan->victim == CHILD && !plan->kind.detached && atomic_load(&stage->arrived))
                births_complain("a target has run after the parent's end");
}

/* ---- the kills ---- */

static struct kills kills;

static bool run(const struct plan *plan, struct trace *trace)
{
        const struct step_victim parent = { prepare, call, (void *)(uintptr_t)plan, &stage->mark };
        births_clear();
        trace->parent = step_start(&parent);
        if (trace->parent < 0) {
                births_complain("the parent does not get to the call");
                return kills_note(&kills);
        }
        trace->mark = &stage->mark;
        trace->limit_ms = births_hang_ms;
        trace->nth = plan->victim == SECOND_LEVEL ? 2 : plan->victim == SERVER && plan->warm ? 0 : 1;
        trace->other = plan->warm ? atomic_load(&stage->its_parent) : 0;
        trace->from_exec = plan->stretch == EXEC_TO_TARGET;
        trace->until_exec = plan->stretch == BIRTH_TO_EXEC;
        trace->until = plan->stretch == LIFE ? &stage->lived : &stage->arrived; /* or to the parent's end */
        trace->alone = plan->alone;
        trace->parent_dies = plan->parent_dies;
        atomic_store(&stage->arrived, 0);
        trace_run(trace);
        step_kill(trace->parent);
        check(plan, trace);
        return kills_note(&kills);
}

static void describe(const struct plan *plan)
{
        const struct kind *kind = &plan->kind;
        printf("%s, %s%s%s%s: %s, ", victim_names[plan->victim], kind->name, kind->detached ? ", detached" : "",
               kind->fitted ? " with a setup" : "", plan->alone ? ", ahead of its parent" : "",
               stretch_names[plan->stretch]);
}

static void kill_everywhere(const struct plan *plan)
{
        int64_t start = support_now_ms();
        struct trace whole = { .calls = plan->by_calls ? LONG_MAX : 0, .steps = LONG_MAX }, one = { 0 };
        bool good = run(plan, &whole);
        if (good && whole.victim == 0) {
                births_complain("there is no victim");
                good = false;
        }
        long length = plan->by_calls ? whole.calls_done : whole.steps_done, done = 0, killed = 0;
        int most = support_rounds(plan->kind.method == BROOD_START_FORK ? KILLS_BY_FORK : KILLS);
        struct sweep sweep = births_sweep(length, most);
        for (; good && sweep.at < length; sweep.at += sweep.stride, done++) {
                one = (struct trace){ .steps = sweep.at };
                if (plan->by_calls)
                        one = (struct trace){ .calls = sweep.at, .steps = (long)support_random(STEPS_AFTER) };
                good = run(plan, &one);
                killed += one.killed;
        }
        kills.calls++;
        kills.failures += !good;
        describe(plan);
        printf("%s killed %ld times in %ld %s", plan->parent_dies ? "the parent" : "it", killed, length,
               plan->by_calls ? "stops at system calls" : "instructions");
        if (good)
                printf(" (%d ms)\n", (int)(support_now_ms() - start));
        else
                printf(": after %ld stops and %ld instructions: %s\n", one.calls_done, one.steps_done,
                       stage->verdict.complaint);
}

int births_kill_children(bool fast_to_fail)
{
        kills_set_up(&kills, &stage->verdict);
        for (size_t i = 0; i < array_length(plans) && !(fast_to_fail && kills.failures); i++)
                kill_everywhere(&plans[i]);
        kills_tear_down(&kills);
        printf("children: %d runs of %d plans, %d failures\n", kills.kills, kills.calls, kills.failures);
        return kills.failures;
}
