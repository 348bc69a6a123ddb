/* SPDX-License-Identifier: MIT */
#include "os/atfork.h"
#include "os/errno.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHILD_FUNCTIONS_MAX = 4 };

static pthread_mutex_t lock;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int once_result;
static void (*child_functions[CHILD_FUNCTIONS_MAX])(void);
static size_t child_function_count;

/* Until the page is there, everybody reads a mark of 0, which no handle holds. */
static atomic_u64 no_mark;
_Atomic(atomic_u64 *) process_mark_page = &no_mark;
static uint64_t last_mark; /* guarded by the lock; inherited by children, so that theirs are new numbers */

static void lock_init(void)
{
        pthread_mutexattr_t attributes;

        pthread_mutexattr_init(&attributes);
        pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init(&lock, &attributes);
        pthread_mutexattr_destroy(&attributes);
}

static void before_fork(void)
{
        pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
        pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
        /* The thread that held the lock in the parent is this one, under another thread id. */
        lock_init();
        pthread_mutex_lock(&lock);
        for (size_t i = 0; i < child_function_count; i++)
                child_functions[i]();
        pthread_mutex_unlock(&lock);
}

static void once_init(void)
{
        lock_init();
        once_result = -pthread_atfork(before_fork, in_parent, in_child);
}

int process_lock(void)
{
        pthread_once(&once, once_init);
        if (once_result < 0)
                return once_result;
        pthread_mutex_lock(&lock);
        return 0;
}

void process_unlock(void)
{
        pthread_mutex_unlock(&lock);
}

void atfork_add(void (*function)(void))
{
        child_functions[child_function_count++] = function;
}

int process_mark_init(void)
{
        KEEP_ERRNO;
        int r = process_lock();

        if (r < 0)
                return r;
        if (load_relaxed(&process_mark_page) == &no_mark) {
                size_t size = (size_t)sysconf(_SC_PAGESIZE);
                void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

                if (page == MAP_FAILED || madvise(page, size, MADV_WIPEONFORK) < 0)
                        r = -errno;
                else
                        store_release(&process_mark_page, page); /* R5: pairs with A5 in process_mark */
                if (r < 0 && page != MAP_FAILED)
                        munmap(page, size);
        }
        if (r == 0 && process_mark() == 0)
                store_relaxed(load_relaxed(&process_mark_page), ++last_mark);
        process_unlock();
        return r;
}
