/* SPDX-License-Identifier: MIT */
#include "os/atfork.h"
#include "os/clock.h"
#include "os/errno.h"
#include "os/futex.h"
#include "os/syscall.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHILD_FUNCTIONS_MAX = 4 };

/* The lock: Ulrich Drepper's, "Futexes Are Tricky" (2011), mutex 2, made recursive.  Its owner is known by what does not change in
 * a fork, where a thread becomes another one by its number; so the child, whose fork it was, has it too. */
enum { FREE, HELD, AWAITED };
static atomic_u32 lock;
static _Atomic(const void *) owner; /* NULL: free */
static unsigned depth;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_result;
static atomic_u32 hooked; /* it went well */
static void (*child_functions[CHILD_FUNCTIONS_MAX])(void);
static size_t child_function_count;

/* Until the page is there, everybody reads a mark of 0, which no handle holds. */
static atomic_u64 no_mark;
_Atomic(atomic_u64 *) process_mark_page = &no_mark;
static uint64_t last_mark; /* guarded by the lock; inherited by children, so that theirs are new numbers */

static const void *this_thread(void)
{
#if __has_builtin(__builtin_thread_pointer)
        return __builtin_thread_pointer();
#else
        return (const void *)pthread_self();
#endif
}

static void take(void)
{
        const void *me = this_thread();

        /* Nobody but this thread ever writes its own name there. */
        if (load_relaxed(&owner) != me) {
                if (!cas_u32(&lock, FREE, HELD))
                        while (exchange_seq_cst(&lock, AWAITED) != FREE)
                                futex_wait(&lock, AWAITED, DEADLINE_NEVER);
                store_relaxed(&owner, me);
        }
        depth++;
}

CHILD_CODE static void give_back(void)
{
        if (--depth > 0)
                return;
        store_relaxed(&owner, NULL);
        if (exchange_seq_cst(&lock, FREE) == AWAITED)
                futex_wake(&lock, 1);
}

CHILD_CODE static void in_child(void)
{
        for (size_t i = 0; i < child_function_count; i++)
                child_functions[i]();
        /* Whatever the parent's thread was in the midst of, and whoever waited for it, is not here. */
        depth = 0;
        store_relaxed(&owner, NULL);
        store_relaxed(&lock, FREE);
}

static void once_init(void)
{
        once_result = -pthread_atfork(take, give_back, in_child);
        store_release(&hooked, once_result == 0); /* R6: pairs with A6 in process_lock */
}

int process_lock(void)
{
        /* A fresh child that enters the libc's function would pay for it with a page fault. */
        if (!load_acquire(&hooked)) { /* A6 */
                pthread_once(&once, once_init);
                if (once_result < 0)
                        return once_result;
        }
        take();
        return 0;
}

void process_unlock(void)
{
        give_back();
}

void atfork_add(void (*function)(void))
{
        child_functions[child_function_count++] = function;
}

static int make_page(void)
{
        KEEP_ERRNO;
        size_t size = (size_t)sysconf(_SC_PAGESIZE);
        void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (page == MAP_FAILED)
                return -errno;
        if (madvise(page, size, MADV_WIPEONFORK) < 0) {
                int r = -errno;
                munmap(page, size);
                return r;
        }
        store_release(&process_mark_page, page); /* R5: pairs with A5 in process_mark */
        return 0;
}

int process_mark_init(void)
{
        int r = process_lock();

        if (r < 0)
                return r;
        if (load_relaxed(&process_mark_page) == &no_mark)
                r = make_page();
        /* Not by looking first: in a fresh child the page would be made twice, to be read and to be written. */
        if (r == 0 && cas_u64(load_relaxed(&process_mark_page), 0, last_mark + 1))
                last_mark++;
        process_unlock();
        return r;
}
