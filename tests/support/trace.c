/* SPDX-License-Identifier: MIT
 *
 * tests/support/trace.c: see trace.h.
 */
#include "trace.h"

#include <limits.h>
#include <sched.h>
#include <sys/ptrace.h>

enum { LOOKS_BEFORE_ASKING = 200 };

static const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
                            PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;

static struct trace_member *member_of(struct trace *trace, pid_t pid)
{
        for (int i = 0; i < trace->count; i++)
                if (trace->family[i].pid == pid)
                        return &trace->family[i];
        if (trace->count == TRACE_FAMILY)
                return NULL;
        trace->family[trace->count] = (struct trace_member){ .pid = pid };
        return &trace->family[trace->count++];
}

static void run_on(pid_t pid, int signal)
{
        ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)signal);
}

/* Whoever was held back goes on. */
static void release(pid_t *held)
{
        if (*held > 0)
                run_on(*held, 0);
        *held = 0;
}

/* The victim is where somebody is to die. */
static void strike(struct trace *trace)
{
        trace->stepping = false;
        if (trace->parent_dies && member_of(trace, trace->parent)->gone) {
                run_on(trace->victim, 0);
                return;
        }
        trace->killed = true;
        if (trace->parent_dies) {
                trace->waits = trace->victim;
                kill(trace->parent, SIGKILL);
        } else {
                kill(trace->victim, SIGKILL);
        }
}

/* So that others come before it which mostly come after. */
static void pause_now_and_then(const struct trace *trace)
{
        enum { SELDOM = 8 };
        if (trace->pause_us > 0 && support_random(SELDOM) == 0)
                usleep((useconds_t)support_random((uint64_t)trace->pause_us));
}

static void go_on(struct trace *trace, pid_t pid, int signal)
{
        if (pid != trace->victim || !trace->stepping) {
                run_on(pid, signal);
        } else if (trace->until && atomic_load(trace->until)) {
                trace->stepping = false;
                run_on(pid, signal);
        } else if (trace->calls_done < trace->calls) {
                trace->calls_done++;
                pause_now_and_then(trace);
                ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)signal);
        } else if (trace->steps_done < trace->steps) {
                trace->steps_done++;
                ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(intptr_t)signal);
        } else {
                strike(trace);
        }
}

/* It has had its first stop, and its number is known. */
static void begin(struct trace *trace, struct trace_member *member)
{
        if (trace->nth > 0 && member->number == trace->nth) {
                trace->victim = member->pid;
                trace->stepping = !trace->from_exec;
        }
        go_on(trace, member->pid, 0);
}

/* Somebody has made a process, which may be heard of before or after that. */
static void note_birth(struct trace *trace, pid_t pid)
{
        unsigned long child = 0;
        ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child);
        struct trace_member *member = member_of(trace, (pid_t)child);
        if (member) {
                member->number = ++trace->born;
                if (trace->alone && member->number == trace->nth)
                        trace->held = pid;
                if (member->stopped)
                        begin(trace, member);
        }
        if (trace->held != pid)
                go_on(trace, pid, 0);
}

static void note_exec(struct trace *trace, pid_t pid)
{
        if (pid == trace->victim) {
                if (trace->until_exec)
                        trace->stepping = false;
                else if (trace->from_exec)
                        trace->stepping = true;
        }
        go_on(trace, pid, 0);
}

/* The parent is through its call. */
static void end_parent(struct trace *trace)
{
        for (int i = 0; i < trace->count && trace->parent_last; i++)
                if (!trace->family[i].gone && trace->family[i].pid != trace->parent)
                        return;
        kill(trace->parent, SIGKILL);
}

static void note_stop(struct trace *trace, pid_t pid, int status)
{
        int signal = WSTOPSIG(status), event = status >> 16;
        struct trace_member *member = member_of(trace, pid);
        if (member && !member->stopped) {
                member->stopped = true;
                if (member->number > 0)
                        begin(trace, member);
        } else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
                note_birth(trace, pid);
        } else if (event == PTRACE_EVENT_EXEC) {
                note_exec(trace, pid);
        } else if (signal == SIGSTOP && pid == trace->parent && atomic_load(&trace->mark->ended)) {
                trace->parent_is_through = true;
                end_parent(trace);
        } else {
                go_on(trace, pid, (signal & 0x7f) == SIGTRAP ? 0 : signal);
        }
}

static void note_end(struct trace *trace, pid_t pid, int status)
{
        struct trace_member *member = member_of(trace, pid);
        if (member)
                *member = (struct trace_member){ pid, member->number, true, true, check_code(status) };
        if (pid == trace->held)
                trace->held = 0;
        if (pid == trace->victim) {
                trace->victim_code = check_code(status);
                trace->stepping = false;
                release(&trace->held);
        }
        if (pid == trace->parent) {
                trace->parent_code = check_code(status);
                release(&trace->held);
                release(&trace->waits);
        } else if (trace->parent_is_through) {
                end_parent(trace);
        }
}

static void end_all(struct trace *trace)
{
        int status;
        for (pid_t pid = 0; pid >= 0 || errno == EINTR; pid = waitpid(-1, &status, __WALL | WNOHANG)) {
                if (pid > 0 && !WIFSTOPPED(status))
                        note_end(trace, pid, status);
                for (int i = 0; i < trace->count && pid == 0; i++)
                        if (!trace->family[i].gone)
                                kill(trace->family[i].pid, SIGKILL);
                sched_yield();
        }
}

static void begin_to_trace(struct trace *trace)
{
        int status;
        member_of(trace, trace->parent)->stopped = true;
        ptrace(PTRACE_SETOPTIONS, trace->parent, NULL, (void *)options);
        if (trace->other > 0 && ptrace(PTRACE_ATTACH, trace->other, NULL, NULL) == 0 &&
            waitpid(trace->other, &status, __WALL) == trace->other && WIFSTOPPED(status)) {
                member_of(trace, trace->other)->stopped = true;
                ptrace(PTRACE_SETOPTIONS, trace->other, NULL, (void *)options);
                if (trace->nth == 0) {
                        trace->victim = trace->other;
                        trace->stepping = true;
                }
                go_on(trace, trace->other, 0);
        }
        run_on(trace->parent, 0);
}

void trace_run(struct trace *trace)
{
        int64_t limit = support_now_ms() + trace->limit_ms;
        begin_to_trace(trace);
        for (int looks = 0;;) {
                int status;
                pid_t pid = waitpid(-1, &status, __WALL | WNOHANG);
                if (pid < 0 && errno == ECHILD)
                        return;
                if (pid > 0) {
                        looks = 0;
                        limit = support_now_ms() + trace->limit_ms;
                        if (WIFSTOPPED(status))
                                note_stop(trace, pid, status);
                        else
                                note_end(trace, pid, status);
                } else if (++looks < LOOKS_BEFORE_ASKING) {
                        sched_yield();
                } else if (support_now_ms() > limit) {
                        trace->hung = true;
                        end_all(trace);
                        return;
                } else {
                        if (trace->victim > 0 && (!trace->stepping || support_process_state(trace->victim) == 'S'))
                                release(&trace->held);
                        usleep(50);
                }
        }
}
