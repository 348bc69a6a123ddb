/* SPDX-License-Identifier: MIT
 *
 * process.c: what one process costs from its start to its end, in us, from a small parent.
 *
 *     brood   new, start, join and free of a process with a trivial target
 *     fork    fork, _exit, waitid: what nobody can beat who forks
 */
#include "bench.h"

#include <brood/process.h>

static int target(void *arg)
{
        (void)arg;
        return 7;
}

static void one_brood(void)
{
        brood_process *p;
        int code, r;

        r = brood_process_new(&p, &(brood_process_options){ .target = target });
        if (r == 0)
                r = brood_process_start(p);
        if (r == 0)
                r = brood_process_join(p, BROOD_FOREVER);
        if (r == 0)
                r = brood_process_exitcode(p, &code);
        if (r < 0)
                bench_die("process: %s", brood_strerror(r));
        if (code != 7)
                bench_die("the exit code is %d instead of 7", code);
        brood_process_free(p);
}

static void one_fork(void)
{
        siginfo_t si;
        pid_t pid = fork();

        if (pid < 0)
                bench_die("fork: %s", strerror(errno));
        if (pid == 0)
                _exit(target(NULL));
        if (waitid(P_PID, (id_t)pid, &si, WEXITED) < 0)
                bench_die("waitid: %s", strerror(errno));
        if (si.si_code != CLD_EXITED || si.si_status != 7)
                bench_die("the exit code is %d instead of 7", si.si_status);
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        void (*one)(void) = NULL;
        uint64_t i, began;

        if (!strcmp(o.figure, "start-join") && !strcmp(o.peer, "brood"))
                one = one_brood;
        else if (!strcmp(o.figure, "start-join") && !strcmp(o.peer, "fork"))
                one = one_fork;
        else
                bench_options_unknown(&o, "start-join of brood, fork");

        for (i = 0; i < bench_warmup(o.count); i++)
                one();
        began = bench_now_ns();
        for (i = 0; i < o.count; i++)
                one();
        bench_report("process", &o, (double)(bench_now_ns() - began) / 1e3 / (double)o.count, "us");
        return 0;
}
