/* SPDX-License-Identifier: MIT
 *
 * brood/value.h: a value, or an array of values of one type, that processes share.
 *
 *     brood_value *v;
 *     brood_value_new(&v, sizeof(double), &(double){ 1.5 }, NULL);
 *     *brood_value_of(v, double) += 1;
 *
 *     struct pixel { uint8_t r, g, b, a; };
 *     brood_array *image;
 *     brood_array_new(&image, width * height, sizeof(struct pixel), NULL, NULL);        // zeros
 *     struct pixel *pixels = brood_array_of(image, struct pixel);
 *     ... fork, or start processes: they have the same pixels under the same handle and the same pointer ...
 *
 * The items are plain C: what they hold is between the program and its compiler.  They must hold no pointers, but for those into
 * memory that all the processes have at one address.  A value is an array of one item: the two types are one type, and each
 * function of one takes the other.
 *
 *     multiprocessing                          here
 *     Value('d', 1.5)                          brood_value_new(&v, sizeof(double), &(double){ 1.5 }, NULL)
 *     RawValue('d', 1.5)                       the same with .raw = 1
 *     v.value                                  *brood_value_of(v, double)
 *     v.get_lock()                             brood_value_lock(v)
 *     Array('i', 100), RawArray('i', 100)      brood_array_new(&a, 100, sizeof(int), NULL, NULL), with .raw = 1
 *     Array('i', [1, 2, 3])                    brood_array_new(&a, 3, sizeof(int), (int[]){ 1, 2, 3 }, NULL)
 *     a[i], len(a)                             brood_array_of(a, int)[i], brood_array_count(a)
 *     a[i], checked                            brood_array_at(a, i): NULL beyond the end
 *
 * Reading and writing an item takes no lock (Python's `v.value += 1` does not either, as a whole): if several processes write to
 * one at once, or one reads what another writes, take the lock that goes with it, an RLock (<brood/lock.h>), or use
 * <brood/atomic.h>.
 *
 *     if (brood_lock_acquire(brood_value_lock(v), BROOD_FOREVER) >= 0) {
 *             *brood_value_of(v, double) *= 2;
 *             brood_lock_release(brood_value_lock(v));
 *     }
 *     brood_atomic_fetch_add(brood_value_of(n, uint64_t), 1);
 *
 * The memory is anonymous: nothing has a name in the file system, and it is gone with the last process that uses it.  An array
 * has the size that it was made with; for memory that grows see <brood/shared.h>.
 *
 * Death.  A process that is killed leaves nothing half done but what it was writing itself: an item of up to 8 bytes that is
 * written at once (brood_atomic_store(), and every plain assignment to such an aligned item as compilers do it) is there as a
 * whole or not at all, a larger one may be torn.  If it held the lock, the next one is told so.
 */
#ifndef BROOD_VALUE_H
#define BROOD_VALUE_H

#include <brood/lock.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_array brood_array;
typedef struct brood_array brood_value;

#define BROOD_ARRAY_SIZE_LIMIT ((size_t)1 << 44) /* bytes of all items together */
#define BROOD_ARRAY_DESCRIPTORS 1

typedef struct brood_array_options {
        /* Not 0: without a lock, as RawValue and RawArray: 8 KiB less. */
        int raw;
} brood_array_options;

/* Make an array of `count` items of `item_size` bytes: a copy of those at `initial`, or zeros if that is NULL.
 * Returns 0; -EINVAL (ret_array NULL; item_size 0; count * item_size beyond BROOD_ARRAY_SIZE_LIMIT); -E2BIG (options from a newer
 *   brood; more than RLIMIT_FSIZE); -ENOMEM; -EMFILE, -ENFILE (no descriptor left).  A count of 0 is allowed: an array with
 *   nothing in it.
 * Threads: any.  Signals: not async-signal-safe.  Memory: all of it is taken at once, so that a shortage is an error here and not
 * a SIGBUS later; a page at least, and a descriptor: many small things are better the members of one struct. */
BROOD_API int brood_array_new_sized(brood_array **ret_array, size_t count, size_t item_size, const void *initial,
                                    const brood_array_options *options, size_t options_size);

static inline int brood_array_new(brood_array **ret_array, size_t count, size_t item_size, const void *initial,
                                  const brood_array_options *options)
{
        return brood_array_new_sized(ret_array, count, item_size, initial, options, sizeof(brood_array_options));
}

/* End this process's use of the array: pointers into it are no longer valid here.  The others keep it; with the last one it is
 * gone.
 * Threads: none may use the items or the handle meanwhile.  Fork: the child's and the parent's handles are freed apart. */
BROOD_API void brood_array_free(brood_array *array);

/* Where the items begin in this process: aligned to 128 bytes; the same for as long as the handle lives.  NULL for NULL.
 * Threads: any.  Fork: the same in the child. */
BROOD_API void *brood_array_data(const brood_array *array);

/* The address of item `index`; NULL if there is none, or for NULL.  Threads: any. */
BROOD_API void *brood_array_at(const brood_array *array, size_t index);

/* The number of items, and the bytes of one; 0 for NULL. */
BROOD_API size_t brood_array_count(const brood_array *array);
BROOD_API size_t brood_array_item_size(const brood_array *array);

/* The same as brood_array_data() if the items have this size; otherwise NULL. */
static inline void *brood_array_data_as(const brood_array *array, size_t item_size)
{
        return brood_array_item_size(array) == item_size ? brood_array_data(array) : NULL;
}

/* The items as the array of C that they are: brood_array_of(image, struct pixel)[7].r.  NULL if an item has another size. */
#define brood_array_of(array, type) ((type *)brood_array_data_as((array), sizeof(type)))

/* The lock that goes with the items, an RLock; NULL if they are raw, or for NULL.  It belongs to the array: brood_lock_free() does
 * nothing to it, and it is passed on with the array. */
BROOD_API brood_lock *brood_array_lock(const brood_array *array);

/* The descriptor that another process needs to attach.  Send it in an SCM_RIGHTS message, or let it be inherited across exec
 * (clear FD_CLOEXEC).  It belongs to the handle.  Returns 0; -EINVAL (NULL). */
BROOD_API int brood_array_descriptors(const brood_array *array, int ret_descriptors[BROOD_ARRAY_DESCRIPTORS]);

/* Use an array that another process has made.  Duplicates the descriptor; the caller keeps its own.  `item_size` is what the
 * caller takes an item for: an array of other items is refused, unless it is 0.
 * Whoever holds the descriptor can write into all of the memory, so what it says of itself is checked once, here; what the items
 * hold is for you to check.
 * Returns 0; -EINVAL (NULL; not a memfd; items of another size); -EBADF; -EPERM (it is not sealed against shrinking, so that
 *   reading it could crash, or it is sealed against writing); -EUCLEAN (it is no array, is truncated, or contradicts itself);
 *   -EPROTONOSUPPORT (of another version or layout of brood); -ENOMEM; -EMFILE, -ENFILE. */
BROOD_API int brood_array_attach(brood_array **ret_array, const int descriptors[BROOD_ARRAY_DESCRIPTORS],
                                 size_t item_size);

/* ---- a value: an array of one ---- */

/* Make a value of `size` bytes: a copy of the one at `initial`, or zeros if that is NULL.  The errors of brood_array_new(). */
static inline int brood_value_new(brood_value **ret_value, size_t size, const void *initial,
                                  const brood_array_options *options)
{
        return brood_array_new(ret_value, 1, size, initial, options);
}

/* End this process's use of the value. */
static inline void brood_value_free(brood_value *value)
{
        brood_array_free(value);
}

/* The lock that goes with it; NULL if it is raw. */
static inline brood_lock *brood_value_lock(const brood_value *value)
{
        return brood_array_lock(value);
}

/* Where it is in this process; NULL for NULL. */
static inline void *brood_value_data(const brood_value *value)
{
        return brood_array_data(value);
}

/* The value itself: *brood_value_of(v, double) = 2.5.  A null pointer if it has another size than the type. */
#define brood_value_of(value, type) ((type *)brood_array_data_as((value), sizeof(type)))

#ifdef __cplusplus
}
#endif

#endif
