/* SPDX-License-Identifier: MIT
 *
 * tests/support/step.c: see step.h.
 */
#include "step.h"

#include <elf.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#if defined(__x86_64__) || defined(__aarch64__)
#define STEP_MACHINE 1
#else
#define STEP_MACHINE 0
#endif

/* A step returns within microseconds; only after this many looks in vain is it worth asking whether the victim sleeps. */
enum { LOOKS_BEFORE_ASKING = 200 };

static void be_traced(void)
{
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
                _exit(98);
}

/* Wait for a stop of a traced child: its signal; minus its exit code or signal (or 1000), if it has ended. */
static int await_stop(pid_t pid, int *ret_ended)
{
        int status;
        pid_t got;
        do
                got = waitpid(pid, &status, __WALL);
        while (got < 0 && errno == EINTR);
        *ret_ended = got != pid || !WIFSTOPPED(status);
        if (got != pid)
                return 1000;
        return WIFSTOPPED(status) ? WSTOPSIG(status) : check_code(status);
}

/* ---- where it is ---- */

static bool read_registers(pid_t pid, struct user_regs_struct *registers)
{
        struct iovec io = { registers, sizeof *registers };
        return ptrace(PTRACE_GETREGSET, pid, (void *)(intptr_t)NT_PRSTATUS, &io) == 0;
}

static uintptr_t *program_counter(struct user_regs_struct *registers)
{
#if defined(__x86_64__)
        return (uintptr_t *)&registers->rip;
#elif defined(__aarch64__)
        return (uintptr_t *)&registers->pc;
#else
        (void)registers;
        abort();
#endif
}

/* Whether its next instruction is a system call that makes a process. */
static bool is_about_to_fork(pid_t pid, struct user_regs_struct *registers)
{
#if defined(__aarch64__)
        enum { CALL = 0xd4000001 }; /* svc #0 */
        uint64_t mask = UINT32_MAX, number = registers->regs[8];
#elif defined(__x86_64__)
        enum { CALL = 0x050f }; /* syscall */
        uint64_t mask = UINT16_MAX, number = registers->rax;
#else
        enum { CALL = 0 };
        uint64_t mask = 0, number = 0;
#endif
        bool makes = number == SYS_clone || number == SYS_clone3;
#ifdef SYS_fork
        makes = makes || number == SYS_fork || number == SYS_vfork;
#endif
        if (!makes)
                return false;
        errno = 0;
        long next = ptrace(PTRACE_PEEKTEXT, pid, (void *)*program_counter(registers), NULL);
        return errno == 0 && ((uint64_t)next & mask) == (uint64_t)CALL;
}

void step_note(pid_t pid, struct step_path *path)
{
        struct user_regs_struct registers;
        if (!path || path->count >= path->room || !read_registers(pid, &registers))
                return;
        if (path->forks_count < (int)array_length(path->forks) && is_about_to_fork(pid, &registers))
                path->forks[path->forks_count++] = path->count;
        path->at[path->count++] = *program_counter(&registers);
}

#if defined(__aarch64__)
enum { TRAP_BITS = 32, TRAP_SKIPS = 0 };
#define TRAP UINT64_C(0xd4200000) /* brk #0 */
#else
enum { TRAP_BITS = 8, TRAP_SKIPS = 1 };
#define TRAP UINT64_C(0xcc) /* int3 */
#endif

/* Put a breakpoint into the victim's own copy of the text: what was there, for taking it out again. */
static bool set_trap(pid_t pid, uintptr_t at, long *ret_before)
{
        errno = 0;
        long before = ptrace(PTRACE_PEEKTEXT, pid, (void *)at, NULL);
        if (errno)
                return false;
        uint64_t mask = (UINT64_C(1) << TRAP_BITS) - 1;
        long with = (long)(((uint64_t)before & ~mask) | TRAP);
        *ret_before = before;
        return ptrace(PTRACE_POKETEXT, pid, (void *)at, (void *)with) == 0;
}

/* ---- one CPU ---- */

/* A step is a switch to the victim and back, which takes half the time if both are on one CPU. */
static cpu_set_t cpus_before;
static bool pinned;

static void pin(void)
{
        cpu_set_t one;
        int cpu = sched_getcpu();
        if (pinned || cpu < 0 || sched_getaffinity(0, sizeof cpus_before, &cpus_before) != 0)
                return;
        CPU_ZERO(&one);
        CPU_SET((size_t)cpu, &one);
        pinned = sched_setaffinity(0, sizeof one, &one) == 0;
}

static void unpin(void)
{
        if (pinned)
                sched_setaffinity(0, sizeof cpus_before, &cpus_before);
        pinned = false;
}

/* ---- */

static void do_nothing(void *arg)
{
        (void)arg;
}

bool step_possible(const char **ret_why)
{
#if CHECK_ASAN || CHECK_TSAN
        *ret_why = "most of the instructions would be the sanitizer's";
        return false;
#endif
        if (!STEP_MACHINE) {
                *ret_why = "not tried on this machine";
                return false;
        }
#if defined(__aarch64__)
        /* A step between a load-exclusive and its store loses the reservation, so that a loop of them never ends. */
        enum { HAS_ATOMICS = 1 << 8 };
        if (!(getauxval(AT_HWCAP) & HAS_ATOMICS)) {
                *ret_why = "this machine has no atomic instructions, only exclusive loads and stores";
                return false;
        }
#endif
        struct step_mark *mark = check_shared(sizeof *mark);
        struct step_victim victim = { .call = do_nothing, .mark = mark };
        pid_t pid = step_start(&victim);
        bool possible = false;
        if (pid > 0) {
                long count;
                possible = step_run(pid, mark, 1, true, NULL, &count) == STEP_THERE && count == 1;
                step_kill(pid);
        }
        munmap(mark, sizeof *mark);
        if (!possible)
                *ret_why = "the kernel does not let us trace a child";
        return possible;
}

pid_t step_start(const struct step_victim *victim)
{
        fflush(NULL);
        pin();
        atomic_store(&victim->mark->begun, 0);
        atomic_store(&victim->mark->ended, 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                be_traced();
                if (victim->prepare && victim->prepare(victim->arg) != 0) {
                        fflush(NULL);
                        _exit(97);
                }
                raise(SIGSTOP); /* the marker */
                atomic_store(&victim->mark->begun, 1);
                victim->call(victim->arg);
                atomic_store(&victim->mark->ended, 1);
                for (;;)
                        raise(SIGSTOP);
        }

        int ended, signal = await_stop(pid, &ended);
        while (!ended && signal != SIGSTOP) { /* of its preparation's own */
                ptrace(PTRACE_CONT, pid, NULL, (void *)(intptr_t)signal);
                signal = await_stop(pid, &ended);
        }
        if (ended) {
                unpin();
                return -1;
        }
        ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(intptr_t)PTRACE_O_EXITKILL);

        /* Out of raise(), which is not the call's. */
        for (int i = 0; i < 10000 && !atomic_load(&victim->mark->begun); i++) {
                if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || await_stop(pid, &ended) != SIGTRAP || ended)
                        break;
        }
        if (!atomic_load(&victim->mark->begun)) {
                if (!ended)
                        step_kill(pid);
                unpin();
                return -1;
        }
        return pid;
}

bool step_attach(pid_t pid)
{
        cpu_set_t here;
        int ended;
        pin();
        if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) != 0 || await_stop(pid, &ended) != SIGSTOP || ended) {
                unpin();
                return false;
        }
        if (pinned && sched_getaffinity(0, sizeof here, &here) == 0)
                sched_setaffinity(pid, sizeof here, &here);
        ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(intptr_t)PTRACE_O_EXITKILL);
        return true;
}

void step_detach(pid_t pid)
{
        if (pinned)
                sched_setaffinity(pid, sizeof cpus_before, &cpus_before);
        unpin();
        if (ptrace(PTRACE_DETACH, pid, NULL, NULL) == 0)
                return;
        /* It does not stand, because it sleeps in the last step; or it has been killed. */
        int ended;
        kill(pid, SIGSTOP);
        while (await_stop(pid, &ended) != SIGSTOP && !ended)
                ptrace(PTRACE_CONT, pid, NULL, NULL);
        ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

/* The stop after a step, unless the victim sleeps in a system call. */
static int await_stop_or_sleep(pid_t pid, int *ret_ended, bool *ret_asleep)
{
        int status;
        for (int looks = 0;; looks++) {
                pid_t got = waitpid(pid, &status, __WALL | WNOHANG);
                if (got == pid) {
                        *ret_ended = !WIFSTOPPED(status);
                        return *ret_ended ? check_code(status) : WSTOPSIG(status);
                }
                if (got < 0 && errno != EINTR) {
                        *ret_ended = 1;
                        return 1000;
                }
                if (looks > LOOKS_BEFORE_ASKING && support_process_state(pid) == 'S') {
                        *ret_asleep = true;
                        *ret_ended = 0;
                        return 0;
                }
                sched_yield();
        }
}

enum step_end step_run(pid_t pid, const struct step_mark *mark, long count, bool patient, struct step_path *path,
                       long *ret_count)
{
        enum step_end end = STEP_THERE;
        long i = 0;
        if (path && path->count == 0)
                step_note(pid, path);
        while (i < count) {
                int ended = 0, signal;
                bool asleep = false;
                if (atomic_load_explicit(&mark->ended, memory_order_relaxed)) {
                        end = STEP_ENDED;
                        break;
                }
                if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0) {
                        end = STEP_CRASHED;
                        break;
                }
                signal = patient ? await_stop(pid, &ended) : await_stop_or_sleep(pid, &ended, &asleep);
                i++;
                if (asleep) {
                        end = STEP_ASLEEP;
                        break;
                }
                if (ended || signal != SIGTRAP) {
                        fprintf(stderr, "step: the victim %s with %d\n", ended ? "ended" : "stopped", signal);
                        end = STEP_CRASHED;
                        break;
                }
                step_note(pid, path);
        }
        *ret_count = i;
        return end;
}

/* The last place between `from` and `to` where the path had not been since `from`. */
static long first_visit(const struct step_path *path, long from, long to)
{
        for (long j = to; j > from; j--) {
                long i = from;
                while (i < j && path->at[i] != path->at[j])
                        i++;
                if (i == j)
                        return j;
        }
        return from;
}

/* Have it run to the breakpoint. */
static enum step_end run_to(pid_t pid, const struct step_mark *mark, uintptr_t at, long before, void (*wake)(void *arg),
                            void *arg)
{
        int ended = 0, signal = 0;
        bool asleep = false;
        if (ptrace(PTRACE_CONT, pid, NULL, NULL) != 0)
                return STEP_CRASHED;
        if (wake)
                signal = await_stop_or_sleep(pid, &ended, &asleep);
        if (asleep)
                wake(arg);
        if (asleep || !wake)
                signal = await_stop(pid, &ended);
        if (!ended && signal == SIGSTOP && atomic_load(&mark->ended))
                return STEP_ENDED;
        struct user_regs_struct registers;
        if (ended || signal != SIGTRAP || !read_registers(pid, &registers) ||
            *program_counter(&registers) != at + TRAP_SKIPS) {
                fprintf(stderr, "step: the victim %s with %d\n", ended ? "ended" : "stopped", signal);
                return STEP_CRASHED;
        }
        *program_counter(&registers) = at;
        struct iovec io = { &registers, sizeof registers };
        if (ptrace(PTRACE_POKETEXT, pid, (void *)at, (void *)before) != 0 ||
            ptrace(PTRACE_SETREGSET, pid, (void *)(intptr_t)NT_PRSTATUS, &io) != 0)
                return STEP_CRASHED;
        return STEP_THERE;
}

static enum step_end go_straight(pid_t pid, const struct step_mark *mark, const struct step_path *path, long from,
                                 long to, void (*wake)(void *arg), void *arg)
{
        enum { WORTH_IT = 4, WAKE_MS = 1000 }; /* steps that take as long as a breakpoint */
        /* If it may sleep, the last instruction is stepped: behind a breakpoint it would have slept already. */
        long last = wake ? to - 1 : to, at, before, count;
        enum step_end end = STEP_THERE;
        /* From each such place on, what was visited before does not count: so it is one breakpoint for each round of a loop. */
        while (end == STEP_THERE && (at = first_visit(path, from, last)) - from > WORTH_IT &&
               set_trap(pid, path->at[at], &before)) {
                end = run_to(pid, mark, path->at[at], before, wake, arg);
                from = at;
        }
        while (end == STEP_THERE && from < to) {
                end = step_run(pid, mark, to - from, wake == NULL, NULL, &count);
                from += count;
                if (end == STEP_ASLEEP && from < to) {
                        wake(arg);
                        end = step_await(pid, WAKE_MS) ? STEP_THERE : STEP_ASLEEP;
                        if (end == STEP_ASLEEP)
                                break;
                }
        }
        return end;
}

enum step_end step_go(pid_t pid, const struct step_mark *mark, const struct step_path *path, long from, long to,
                      void (*wake)(void *arg), void *arg)
{
        enum step_end end = STEP_THERE;
        for (int i = 0; i < path->forks_count && end == STEP_THERE; i++) {
                long at = path->forks[i], count;
                if (at < from || at >= to)
                        continue;
                end = go_straight(pid, mark, path, from, at, wake, arg);
                if (end == STEP_THERE)
                        end = step_run(pid, mark, 1, true, NULL, &count);
                from = at + 1;
        }
        return end == STEP_THERE ? go_straight(pid, mark, path, from, to, wake, arg) : end;
}

bool step_await(pid_t pid, int limit_ms)
{
        int64_t end = support_now_ms() + limit_ms;
        for (int status;;) {
                pid_t got = waitpid(pid, &status, __WALL | WNOHANG);
                if (got == pid)
                        return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
                if ((got < 0 && errno != EINTR) || support_now_ms() > end)
                        return false;
                sched_yield();
        }
}

void step_kill_unreaped(pid_t pid)
{
        siginfo_t info;
        unpin();
        kill(pid, SIGKILL);
        while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | __WALL) < 0 && errno == EINTR)
                ;
}

void step_reap(pid_t pid)
{
        int status;
        for (;;) {
                pid_t got = waitpid(pid, &status, __WALL);
                if (got < 0 ? errno != EINTR : !WIFSTOPPED(status))
                        return;
        }
}

void step_kill(pid_t pid)
{
        unpin();
        kill(pid, SIGKILL);
        step_reap(pid);
}

bool step_finish(pid_t pid, const struct step_mark *mark, int limit_ms)
{
        int64_t end = support_now_ms() + limit_ms;
        unpin();
        if (ptrace(PTRACE_CONT, pid, NULL, NULL) != 0)
                return false;
        for (int status; support_now_ms() < end; usleep(100)) {
                pid_t got = waitpid(pid, &status, __WALL | WNOHANG);
                if (got == pid)
                        return WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP && atomic_load(&mark->ended);
        }
        return false;
}
