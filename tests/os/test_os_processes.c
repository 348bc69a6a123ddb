/* SPDX-License-Identifier: MIT
 *
 * tests/os/test_os_processes.c: the files of the same room that are about processes: their descriptors, who is who, the lock and
 * the mark across forks, lifelines, robust words.
 */
#include "os.h"

#include "os/atfork.h"
#include "os/child.h"
#include "os/futex.h"
#include "os/identity.h"
#include "os/lifeline.h"
#include "os/robust.h"

#include <brood/process.h>

#include <fcntl.h>
#include <sys/syscall.h>

/* ---- processes by descriptor ---- */

static int wait_for_signal(void *arg)
{
        (void)arg;
        for (;;)
                pause();
        return 1;
}

static int exit_with(void *arg)
{
        return *(int *)arg;
}

static int abort_now(void *arg)
{
        (void)arg;
        struct rlimit none = { 0 };
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        kill(getpid(), SIGABRT);
        return 1;
}

static void expect_reaped(pid_t pid, int wanted)
{
        int code = 1234, pidfd = pidfd_of(pid);

        assert_true(pidfd >= 0);
        assert_int_equal(pidfd_wait(pidfd, DEADLINE_NEVER), 0);
        assert_int_equal(support_process_state(pid), 'Z');
        assert_int_equal(reap(pidfd, &code), 0);
        assert_int_equal(code, wanted);
        assert_int_equal(support_process_state(pid), 0);
        assert_int_equal(pidfd_signal(pidfd, 0), -ESRCH);
        assert_true(pidfd_ended(pidfd));

        /* Once more: only a kernel that remembers can tell; no answer is not a wrong one. */
        code = 1234;
        int r = reap(pidfd, &code);
        assert_true((r == 0 && code == wanted) || (r == -ENODATA && code == 1234));
        close(pidfd);
}

static void test_pidfd_reap(void **state)
{
        (void)state;
        need_pidfds();
        static int codes[] = { 0, 3, 255 };

        for (size_t i = 0; i < array_length(codes); i++)
                expect_reaped(check_start(exit_with, &codes[i]), codes[i]);
        pid_t pid = check_start(wait_for_signal, NULL);
        int code = 1234, pidfd = pidfd_of(pid);
        assert_true(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(reap(pidfd, &code), -EAGAIN);
        assert_int_equal(pidfd_wait(pidfd, DEADLINE_NOW), -EAGAIN);
        int64_t deadline = in_ms(35);
        interrupt_often(true);
        int r = pidfd_wait(pidfd, deadline);
        interrupt_often(false);
        assert_int_equal(r, -ETIMEDOUT);
        assert_true(clock_now() >= deadline);
        assert_false(pidfd_ended(pidfd));
        assert_int_equal(code, 1234);
        assert_int_equal(pidfd_signal(pidfd, SIGKILL), 0);
        expect_reaped(pid, -SIGKILL);
        close(pidfd);
        expect_reaped(check_start(abort_now, NULL), -SIGABRT);

        assert_int_equal(pidfd_of(pid), -ESRCH);
        assert_int_equal(pidfd_of(0), -EINVAL);
        assert_int_equal(pidfd_of(-1), -EINVAL);
}

static void test_pid_reap(void **state)
{
        (void)state;
        need_pidfds();
        int seven = 7, r;
        struct ending ending = { .exitcode = 1234 };
        pid_t pid = check_start(wait_for_signal, NULL);
        assert_int_equal(pid_reap(pid, &ending), -EAGAIN);
        assert_int_equal(ending.exitcode, 1234);
        assert_int_equal(kill(pid, SIGKILL), 0);
        int64_t end = support_now_ms() + CHECK_HANG_MS;
        while ((r = pid_reap(pid, &ending)) == -EAGAIN && support_now_ms() < end)
                ;
        assert_int_equal(r, 0);
        assert_int_equal(ending.exitcode, -SIGKILL);
        assert_true(ending.measured);
        assert_int_equal(pid_reap(pid, &ending), -ECHILD);
        pid = check_start(exit_with, &seven);
        while ((r = pid_reap(pid, &ending)) == -EAGAIN && support_now_ms() < end)
                ;
        assert_int_equal(r, 0);
        assert_int_equal(ending.exitcode, 7);
}

/* A handler, or a library, has reaped it first. */
static void test_pidfd_reaped_by_another(void **state)
{
        (void)state;
        need_pidfds();
        int seven = 7, code = 1234;
        pid_t pid = check_start(exit_with, &seven);
        int pidfd = pidfd_of(pid);

        assert_int_equal(check_wait(pid), 7);
        int64_t end = support_now_ms() + CHECK_HANG_MS;
        int r;
        while ((r = reap(pidfd, &code)) == -EAGAIN && support_now_ms() < end)
                assert_int_equal(pidfd_wait_reaped(pidfd), 0);
        assert_true((r == 0 && code == 7) || (r == -ENODATA && code == 1234));
        close(pidfd);
}

static int reap_where_ignored(void *arg)
{
        (void)arg;
        int three = 3, code = 1234, r;
        signal(SIGCHLD, SIG_IGN);
        pid_t pid = check_start(exit_with, &three);
        int pidfd = pidfd_of(pid);

        if (pidfd == -ESRCH)
                return 0; /* it has come and gone */
        require(pidfd >= 0);
        require_int(pidfd_wait(pidfd, in_ms(CHECK_HANG_MS)), 0);
        int64_t end = support_now_ms() + CHECK_HANG_MS;
        while ((r = reap(pidfd, &code)) == -EAGAIN && support_now_ms() < end)
                pidfd_wait_reaped(pidfd);
        require((r == 0 && code == 3) || (r == -ENODATA && code == 1234));
        return 0;
}

/* A grandchild is not ours to reap; that its parent has not yet done so is no reason to give up. */
static int keep_a_zombie(void *arg)
{
        atomic_int *shared = arg;
        static int four = 4;
        pid_t pid = check_start(exit_with, &four);

        atomic_store(&shared[0], pid);
        require(check_reaches(&shared[1], 1, CHECK_HANG_MS));
        return check_wait(pid) == 4 ? 0 : 1;
}

static void test_pidfd_reap_of_strangers(void **state)
{
        (void)state;
        need_pidfds();
        check_in_child(reap_where_ignored, NULL);

        atomic_int *shared = check_shared(4096);
        pid_t parent = check_start(keep_a_zombie, shared);
        assert_true(check_reaches(&shared[0], 1, CHECK_HANG_MS));
        int code = 1234, r, pidfd = pidfd_of(atomic_load(&shared[0]));
        assert_true(pidfd >= 0);
        assert_int_equal(pidfd_wait(pidfd, DEADLINE_NEVER), 0);
        r = reap(pidfd, &code);
        assert_true(r == -EAGAIN || r == -ENODATA);
        atomic_store(&shared[1], 1);
        assert_int_equal(check_wait(parent), 0);
        int64_t end = support_now_ms() + CHECK_HANG_MS;
        while ((r = reap(pidfd, &code)) == -EAGAIN && support_now_ms() < end)
                pidfd_wait_reaped(pidfd);
        assert_true((r == 0 && code == 4) || (r == -ENODATA && code == 1234));
        close(pidfd);
        munmap(shared, 4096);
}

/* ---- identity ---- */

static void *outlive_the_leader(void *arg)
{
        atomic_int *go_on = arg;

        if (!check_reaches(go_on, 1, CHECK_HANG_MS))
                _exit(1);
        _exit(0);
}

static int leave_a_thread(void *arg)
{
        pthread_t thread;

        require_int(pthread_create(&thread, NULL, outlive_the_leader, arg), 0);
        pthread_exit(NULL);
        return 1;
}

static void test_identity(void **state)
{
        (void)state;
        need_pidfds();
        struct identity self = identity_self();

        assert_int_equal(self.pid, getpid());
        assert_true(self.start != 0 && self.start < 1u << IDENTITY_START_BITS);
        assert_true(identity_is_alive(self));
        self.start ^= 1;
        assert_false(identity_is_alive(self)); /* another process, that had this pid before */
        self.start = 0;
        assert_true(identity_is_alive(self)); /* nobody knows: no proof */
        assert_false(identity_is_alive((struct identity){ .pid = 0 }));

        pid_t pid = check_start(wait_for_signal, NULL);
        struct identity child = { .pid = pid };
        assert_true(identity_is_alive(child));
        kill(pid, SIGSTOP);
        assert_true(identity_is_alive(child)); /* stopped is not dead */
        kill(pid, SIGKILL);
        siginfo_t info;
        assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
        assert_int_equal(support_process_state(pid), 'Z');
        assert_false(identity_is_alive(child));
        assert_int_equal(check_wait(pid), -SIGKILL);
        assert_false(identity_is_alive(child));
}

static void test_identity_of_threads(void **state)
{
        (void)state;
        need_pidfds();
        if (CHECK_TSAN)
                skip(); /* its threads do not outlive the first one */
        atomic_int *go_on = check_shared(4096);
        pid_t pid = check_start(leave_a_thread, go_on);

        for (int64_t end = support_now_ms() + CHECK_HANG_MS; support_process_state(pid) != 'Z'; usleep(200))
                assert_true(support_now_ms() < end);
        assert_true(identity_is_alive((struct identity){ .pid = pid }));
        atomic_store(go_on, 1);
        assert_int_equal(check_wait(pid), 0);
        munmap(go_on, 4096);
}

/* ---- the mark of a process ---- */

/* In a child that was made in whatever way. */
static int check_mark(uint64_t parents)
{
        require(process_mark() != parents);
        require_int(process_mark_init(), 0);
        uint64_t mark = process_mark();
        require(mark != 0 && mark != parents);
        require_int(process_mark_init(), 0);
        require(process_mark() == mark);
        return 0;
}

static int check_mark_in_grandchild(void *arg)
{
        uint64_t mark = *(uint64_t *)arg;

        if (check_mark(mark) != 0)
                return 1;
        uint64_t own = process_mark();
        pid_t pid = fork();
        if (pid == 0)
                _exit(check_mark(mark) || process_mark() == own);
        require_int(check_wait(pid), 0);
        require(process_mark() == own);
        return 0;
}

static void test_process_mark(void **state)
{
        (void)state;
        assert_int_equal(process_mark_init(), 0);
        uint64_t mark = process_mark();
        assert_true(mark != 0);
        check_in_child(check_mark_in_grandchild, &mark);

        fflush(NULL);
        if (!CHECK_TSAN) {
                pid_t pid = _Fork();
                if (pid == 0)
                        _exit(check_mark(mark));
                assert_int_equal(check_wait(pid), 0);
                pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
                if (pid == 0)
                        _exit(check_mark(mark));
                assert_true(pid > 0);
                assert_int_equal(check_wait(pid), 0);
        }
        assert_true(process_mark() == mark);
}

static int lock_in_thread(void *arg)
{
        atomic_int *step = arg;

        require_int(process_lock(), 0);
        atomic_store(step, 1);
        require(check_reaches(step, 2, CHECK_HANG_MS));
        usleep(1000);
        atomic_store(step, 3);
        process_unlock();
        return 0;
}

static int lock_twice(void *arg)
{
        (void)arg;
        require_int(process_lock(), 0);
        require_int(process_lock(), 0);
        process_unlock();
        process_unlock();
        return 0;
}

/* A fork waits for the lock's holder, and the child finds it free. */
static void test_process_lock(void **state)
{
        (void)state;
        atomic_int step = 0;
        struct check_thread holder;

        if (CHECK_TSAN)
                skip(); /* it takes the holder for a leak of the child's */
        assert_int_equal(lock_twice(NULL), 0);
        check_thread_start(&holder, lock_in_thread, &step);
        assert_true(check_reaches(&step, 1, CHECK_HANG_MS));
        atomic_store(&step, 2);
        pid_t pid = fork();
        if (pid == 0)
                _exit(atomic_load(&step) == 3 ? lock_twice(NULL) : 2);
        assert_int_equal(check_wait(pid), 0);
        assert_int_equal(check_thread_join(&holder), 0);
}

enum { CONTENDERS = 4, TURNS = 2000 };

static unsigned turns_taken; /* guarded by the lock */

/* Some turns are taken twice over, as a thread may that calls brood in a callback. */
static int take_turns(void *arg)
{
        (void)arg;
        for (int i = 0; i < TURNS; i++) {
                require_int(process_lock(), 0);
                unsigned seen = turns_taken;
                if (i % 3 == 0) {
                        require_int(process_lock(), 0);
                        process_unlock();
                }
                turns_taken = seen + 1;
                process_unlock();
        }
        return 0;
}

/* Threads exclude each other, while others fork. */
static void test_process_lock_of_threads(void **state)
{
        (void)state;
        struct check_thread threads[CONTENDERS];

        turns_taken = 0;
        for (int i = 0; i < CONTENDERS; i++)
                check_thread_start(&threads[i], take_turns, NULL);
        for (int i = 0; i < 20 && !CHECK_TSAN; i++) {
                pid_t pid = fork();
                if (pid == 0)
                        _exit(lock_twice(NULL));
                assert_int_equal(check_wait(pid), 0);
        }
        for (int i = 0; i < CONTENDERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        assert_int_equal(turns_taken, CONTENDERS * TURNS);
}

/* ---- lifelines ---- */

struct family {
        atomic_int armed, bystander, result; /* pids; a result + 1000 */
        atomic_int parent_gone;
        bool leave, late;
};

static int wait_armed(struct family *family, struct lifeline *line, int branch)
{
        if (family->late && !check_reaches(&family->parent_gone, 1, CHECK_HANG_MS))
                return 1;
        lifeline_leave(line);
        int r = lifeline_arm(branch);
        atomic_store(&family->result, r + 1000);
        if (r < 0)
                return 0;
        atomic_store(&family->armed, getpid());
        return wait_for_signal(NULL);
}

/* A parent with a child on its lifeline, and one that has let go of it. */
static int found_family(void *arg)
{
        struct family *family = arg;
        struct lifeline line = LIFELINE_NONE;

        require_int(lifeline_open(&line), 0);
        require(fcntl(line.write_end, F_GETFD) & FD_CLOEXEC);
        int branch = lifeline_branch(&line);
        require(branch >= 0);
        require(fcntl(branch, F_GETFD) & FD_CLOEXEC);
        if (fork() == 0)
                _exit(wait_armed(family, &line, branch));
        close(branch);
        if (fork() == 0) {
                lifeline_leave(&line);
                lifeline_leave(&line);
                atomic_store(&family->bystander, getpid());
                wait_for_signal(NULL);
        }
        require(check_reaches(&family->bystander, 1, CHECK_HANG_MS));
        return wait_for_signal(NULL);
}

static void test_lifeline(void **state)
{
        (void)state;
        struct family *family = check_shared(4096);
        pid_t parent = check_start(found_family, family);

        assert_true(check_reaches(&family->armed, 1, CHECK_HANG_MS));
        assert_true(check_reaches(&family->bystander, 1, CHECK_HANG_MS));
        assert_int_equal(atomic_load(&family->result), 1000);
        pid_t armed = atomic_load(&family->armed), bystander = atomic_load(&family->bystander);
        usleep(20000);
        assert_int_equal(support_process_state(armed), 'S'); /* the parent lives */
        assert_int_equal(check_kill(parent), -SIGKILL);
        assert_true(support_process_gone(armed, 1000));
        assert_int_equal(support_process_state(bystander), 'S');
        kill(bystander, SIGKILL);
        assert_true(support_process_gone(bystander, CHECK_HANG_MS));
        munmap(family, 4096);
}

static void test_lifeline_cut_before(void **state)
{
        (void)state;
        struct family *family = check_shared(4096);

        family->late = true;
        pid_t parent = check_start(found_family, family);
        assert_true(check_reaches(&family->bystander, 1, CHECK_HANG_MS));
        assert_int_equal(check_kill(parent), -SIGKILL);
        atomic_store(&family->parent_gone, 1);
        assert_true(check_reaches(&family->result, 1, CHECK_HANG_MS));
        assert_int_equal(atomic_load(&family->result), 1000 - ESRCH);
        kill(atomic_load(&family->bystander), SIGKILL);
        assert_true(support_process_gone(atomic_load(&family->bystander), CHECK_HANG_MS));
        munmap(family, 4096);
}

/* A child of a plain fork must not hold its parent's lifeline up: brood's fork hook lets go of it. */
static int host_with_strangers(void *arg)
{
        struct family *family = arg;
        brood_process *child;
        pid_t pid = brood_fork(&child);

        require(pid >= 0);
        if (pid == 0) {
                atomic_store(&family->armed, getpid());
                wait_for_signal(NULL);
        }
        if (fork() == 0) {
                atomic_store(&family->bystander, getpid());
                wait_for_signal(NULL);
        }
        return wait_for_signal(NULL);
}

static void test_lifeline_and_plain_forks(void **state)
{
        (void)state;
        need_pidfds();
        struct family *family = check_shared(4096);
        pid_t host = check_start(host_with_strangers, family);

        assert_true(check_reaches(&family->armed, 1, CHECK_HANG_MS));
        assert_true(check_reaches(&family->bystander, 1, CHECK_HANG_MS));
        pid_t armed = atomic_load(&family->armed), bystander = atomic_load(&family->bystander);
        assert_int_equal(check_kill(host), -SIGKILL);
        assert_true(support_process_gone(armed, 1000));
        assert_int_equal(support_process_state(bystander), 'S');
        kill(bystander, SIGKILL);
        assert_true(support_process_gone(bystander, CHECK_HANG_MS));
        munmap(family, 4096);
}

static int die_with_a_wrong_parent(void *arg)
{
        (void)arg;
        require_int(child_die_with_parent(getpid()), -ESRCH);
        require_int(child_die_with_parent(getppid()), 0);
        return 0;
}

static void test_die_with_parent(void **state)
{
        (void)state;
        check_in_child(die_with_a_wrong_parent, NULL);
}

/* ---- robust words ---- */

static int hold_word(void *arg)
{
        atomic_u32 *words = arg;

        require_int(robust_hold(&words[0]), 0);
        store_seq_cst(&words[1], 1);
        return wait_for_signal(NULL);
}

static int await_death(void *arg)
{
        atomic_u32 *words = arg;
        uint32_t now;

        while (robust_alive(now = load_seq_cst(&words[0])))
                futex_wait(&words[0], now, DEADLINE_NEVER);
        return 0;
}

static void test_robust(void **state)
{
        (void)state;
        atomic_u32 *words = check_shared(4096);

        assert_false(robust_alive(load_seq_cst(&words[0])));
        pid_t holder = check_start(hold_word, words);
        for (int64_t end = support_now_ms() + CHECK_HANG_MS; load_seq_cst(&words[1]) == 0; usleep(100))
                assert_true(support_now_ms() < end);
        assert_true(robust_alive(load_seq_cst(&words[0])));
        pid_t waiter = check_start(await_death, words);
        assert_true(check_asleep(waiter));
        assert_true(robust_alive(load_seq_cst(&words[0])));
        assert_int_equal(check_kill(holder), -SIGKILL);
        assert_false(robust_alive(load_seq_cst(&words[0])));
        assert_int_equal(check_wait_for(waiter, CHECK_HANG_MS), 0);
        munmap(words, 4096);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_pidfd_reap),
                support_test(test_pid_reap),
                support_test(test_pidfd_reaped_by_another),
                support_test(test_pidfd_reap_of_strangers),
                support_test(test_identity),
                support_test(test_identity_of_threads),
                support_test(test_process_mark),
                support_test(test_process_lock),
                support_test(test_process_lock_of_threads),
                support_test(test_lifeline),
                support_test(test_lifeline_cut_before),
                support_test(test_lifeline_and_plain_forks),
                support_test(test_die_with_parent),
                support_test(test_robust),
        };
        return support_main(argc, argv, "os-processes", tests, array_length(tests), 60);
}
