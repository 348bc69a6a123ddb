/* SPDX-License-Identifier: MIT
 *
 * brood/shared.h: a piece of memory that processes share.
 *
 *     struct state { uint64_t done; double grid[1000][1000]; };
 *     brood_shared *s;
 *     brood_shared_new(&s, sizeof(struct state), NULL);
 *     struct state *state = brood_shared_data(s);           // zeros
 *     ... fork, or start processes: they have the same memory under the same handle and the same pointer ...
 *
 * It is anonymous: it has no name in the file system or in /dev/shm, nobody has to unlink it, and it is gone with the last
 * process that uses it, however that process ends.  A process that was not forked from the maker attaches by a descriptor.
 *
 *     multiprocessing                          here
 *     SharedMemory(create=True, size=n)        brood_shared_new(&s, n, NULL)
 *     SharedMemory(name)                       brood_shared_attach(&s, descriptors)
 *     .buf, .size                              brood_shared_data(s), brood_shared_size(s)
 *     .close()                                 brood_shared_free(s)
 *     .unlink()                                there is no name to take away
 *
 * For single values and arrays of one type see <brood/value.h>, for counting and flagging without a lock <brood/atomic.h>.
 *
 * Growing.  The memory may grow up to the limit that it was made with, and it never moves: all of the limit is address space
 * from the beginning, so pointers and offsets stay what they are.  Whoever grows it does so for all; the others see the new size
 * at once.
 *
 *     brood_shared_new(&s, 1 << 20, &(brood_shared_options){ .limit = (size_t)1 << 30 });
 *     r = brood_shared_grow(s, 2 << 20);                   // -ENOMEM: nothing has changed
 *
 * Behind every byte below the size there is memory.  The bytes between the size and the limit are nobody's: a pointer there may
 * be formed and kept, but what is read there may be zeros or not, what is written there may be seen by others, and if
 * the machine is short of memory the process gets a SIGBUS.  Memory is never given back before the end; madvise(2) with
 * MADV_REMOVE does so for pages that you name, which are zeros afterwards.
 *
 * Pointers.  Forked processes have the memory at one address; those that attach have it at another.  Where both use it, keep
 * offsets in it instead of pointers: brood_shared_offset() and brood_shared_at() turn one into the other.
 *
 * Death.  Nothing here is held, so a process that is killed leaves nothing half done but what it was writing itself.  A
 * process that is killed in brood_shared_grow() has grown it or has not.
 */
#ifndef BROOD_SHARED_H
#define BROOD_SHARED_H

#include <brood/common.h>

#include <errno.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_shared brood_shared;

#define BROOD_SHARED_SIZE_LIMIT ((size_t)1 << 44)
#define BROOD_SHARED_DESCRIPTORS 1

/* For huge_pages. */
#define BROOD_HUGE_PAGES_WANTED 1
#define BROOD_HUGE_PAGES_REQUIRED 2

typedef struct brood_shared_options {
        /* Bytes that it may grow to, up to BROOD_SHARED_SIZE_LIMIT.  Address space in each process, no memory. 0: the size; it
         * does not grow. */
        size_t limit;

        /* 0: pages of the usual size.
         * BROOD_HUGE_PAGES_WANTED: huge ones where the kernel gives them (/sys/kernel/mm/transparent_hugepage/shmem_enabled must be
         *   "advise", "within_size" or "always"), usual ones elsewhere; brood_shared_in_huge_pages() tells.
         * BROOD_HUGE_PAGES_REQUIRED: from those that the administrator has set aside (/proc/sys/vm/nr_hugepages), or an error. */
        int huge_pages;
} brood_shared_options;

/* Make `size` bytes of shared memory, all zero.
 * Returns 0; -EINVAL (ret_shared NULL; size and limit 0; limit not 0 and below size; size or limit beyond
 *   BROOD_SHARED_SIZE_LIMIT; an unknown huge_pages); -E2BIG (options from a newer brood; a limit beyond RLIMIT_FSIZE); -ENOMEM
 *   (no memory for the size, no address space for the limit, or not enough huge pages set aside); -EOPNOTSUPP (huge pages
 *   required, and the kernel has none); -EMFILE, -ENFILE (no descriptor left).
 * Threads: any.  Signals: not async-signal-safe.
 * Memory: all of the size is taken at once, so that a shortage is an error here and not a SIGBUS later.  More than the machine
 * has left, swap included, is refused before it is tried; the limit of a control group is not asked, so who goes beyond
 * that one meets the kernel's out-of-memory killer. */
BROOD_API int brood_shared_new_sized(brood_shared **ret_shared, size_t size, const brood_shared_options *options,
                                     size_t options_size);

static inline int brood_shared_new(brood_shared **ret_shared, size_t size, const brood_shared_options *options)
{
        return brood_shared_new_sized(ret_shared, size, options, sizeof(brood_shared_options));
}

/* End this process's use of the memory: pointers into it are no longer valid here.  The others keep it; with the last one it is
 * gone.
 * Threads: none may use the memory or the handle meanwhile.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_shared_free(brood_shared *shared);

/* Where the memory begins in this process: at a page; the same for as long as the handle lives.  NULL for NULL.
 * Threads: any.  Fork: the same in the child. */
BROOD_API void *brood_shared_data(const brood_shared *shared);

/* Bytes that may be used, by now: others may grow it.  0 for NULL, and if the shared memory was damaged.
 * Threads: any.  Costs a load. */
BROOD_API size_t brood_shared_size(const brood_shared *shared);

/* Bytes that it may grow to; 0 for NULL. */
BROOD_API size_t brood_shared_limit(const brood_shared *shared);

/* Grow it to `size` bytes for all processes; the new ones are zero, unless somebody wrote beyond the size.
 * Returns 0 (it has that size, which it may have had before); -EALREADY (it is larger: others have grown it further; it never
 *   shrinks); -EINVAL (NULL; beyond the limit); -ENOMEM (as for new); -EUCLEAN (the shared memory was damaged).  On failure
 *   the size is what it was.
 * Threads: any.  Processes: any number at once; the largest size wins, and each call that asked for it, or more than there was,
 * returns 0 or -EALREADY.  Fork: usable in the child.  Signals: goes on after EINTR.
 * Death: killed here, it has the new size with memory behind it, or the old one; others can grow it. */
BROOD_API int brood_shared_grow(brood_shared *shared, size_t size);

/* How many bytes of it lie in huge pages in this process, of those that it has touched: what came of huge_pages.  Reads /proc,
 * which takes longer the more this process has mapped.
 * Returns the bytes; -EINVAL (NULL); -ENOENT (there is no /proc).  Threads: any. */
BROOD_API ssize_t brood_shared_in_huge_pages(const brood_shared *shared);

/* The address of `size` bytes at an offset; NULL unless all of them are below the size by now. */
static inline void *brood_shared_at(const brood_shared *shared, size_t offset, size_t size)
{
        size_t have = brood_shared_size(shared);

        return offset <= have && size <= have - offset ? (char *)brood_shared_data(shared) + offset : NULL;
}

/* The offset of an address in this process: -EINVAL if it is not between the beginning and the limit. */
static inline ssize_t brood_shared_offset(const brood_shared *shared, const void *address)
{
        uintptr_t begin = (uintptr_t)brood_shared_data(shared), at = (uintptr_t)address;

        return at < begin || at - begin >= brood_shared_limit(shared) ? -EINVAL : (ssize_t)(at - begin);
}

/* The descriptor that another process needs to attach.  Send it in an SCM_RIGHTS message, or let it be inherited across exec
 * (clear FD_CLOEXEC).  It belongs to the handle.  Returns 0; -EINVAL (NULL). */
BROOD_API int brood_shared_descriptors(const brood_shared *shared, int ret_descriptors[BROOD_SHARED_DESCRIPTORS]);

/* Use memory that another process has made.  Duplicates the descriptor; the caller keeps its own.
 * Whoever holds the descriptor can write into all of the memory, so what it says of itself is checked, here and in every call;
 * what is in it is for you to check.
 * Returns 0; -EINVAL (NULL; not a memfd); -EBADF; -EPERM (it is not sealed against shrinking, so that reading it could crash,
 *   or it is sealed against writing); -EUCLEAN (it is no brood_shared, is truncated, or contradicts itself); -EPROTONOSUPPORT
 *   (of another version or layout of brood); -ENOMEM; -EMFILE, -ENFILE. */
BROOD_API int brood_shared_attach(brood_shared **ret_shared, const int descriptors[BROOD_SHARED_DESCRIPTORS]);

#ifdef __cplusplus
}
#endif

#endif
