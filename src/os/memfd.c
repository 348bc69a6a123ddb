/* SPDX-License-Identifier: MIT */
#include "os/memfd.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/syscall.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

static int make(const char *name, unsigned flags)
{
        flags |= MFD_CLOEXEC | MFD_ALLOW_SEALING;
        /* Some systems refuse memory that might be executed (vm.memfd_noexec, 6.3); older ones do not know the flag. */
        int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
        if (fd < 0 && errno == EINVAL)
                fd = memfd_create(name, flags);
        return fd < 0 ? -errno : fd;
}

/* Give it its size, its memory and its seals.  The descriptor, which is closed on failure, or a negative errno. */
static int finish(int fd, size_t size, size_t commit)
{
        struct rlimit longest;
        int r = -E2BIG;

        /* A memfd is a file to this limit too, and who passes it gets a signal that kills. */
        if (getrlimit(RLIMIT_FSIZE, &longest) == 0 && size > longest.rlim_cur)
                goto fail;
        if (ftruncate(fd, (off_t)size) < 0) {
                r = errno == EINVAL || errno == EFBIG ? -E2BIG : -errno;
                goto fail;
        }
        r = memfd_commit(fd, 0, commit);
        if (r < 0)
                goto fail;
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
                r = -errno;
                goto fail;
        }
        return fd;
fail:
        close(fd);
        return r;
}

int memfd_new(const char *name, size_t size, size_t commit)
{
        KEEP_ERRNO;
        int fd = make(name, 0);

        return fd < 0 ? fd : finish(fd, size, commit);
}

int memfd_new_huge(const char *name, size_t *size, size_t commit)
{
        KEEP_ERRNO;
        struct stat status;
        int fd = make(name, MFD_HUGETLB);

        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
                return fd;
        if (fd < 0)
                return -EOPNOTSUPP; /* -ENOSYS, -ENOENT, -ENODEV, -EINVAL: each kernel has its own way of saying so */
        if (fstat(fd, &status) < 0) {
                int r = -errno;
                close(fd);
                return r;
        }
        size_t page = (size_t)status.st_blksize;
        *size = (*size + page - 1) / page * page;
        return finish(fd, *size, commit);
}

int memfd_commit(int fd, size_t offset, size_t size)
{
        KEEP_ERRNO;
        enum { STEP_LEAST = 1 << 20 };
        size_t step = size;

        while (size > 0) {
                size_t part = step < size ? step : size;
                if (fallocate(fd, 0, (off_t)offset, (off_t)part) == 0) {
                        offset += part;
                        size -= part;
                } else if (errno != EINTR) {
                        return errno == ENOSPC ? -ENOMEM : -errno;
                } else if (step > STEP_LEAST) {
                        /* The kernel undoes what a signal has interrupted.  In a process with a timer the whole would begin
                         * again for ever; a part comes to its end. */
                        step /= 2;
                }
        }
        return 0;
}

int memory_ask(size_t size)
{
        enum { UNASKED = 16 << 20 }; /* asking takes longer than taking so much */
        static const char *const names[] = { "\nMemAvailable:", "\nSwapFree:" };
        char text[4096];
        uint64_t have = 0;

        if (size <= UNASKED || file_read("/proc/meminfo", text, sizeof text) < 0)
                return 0;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
                const char *at = strstr(text, names[i]);
                if (at == NULL)
                        return 0;
                have += strtoull(at + strlen(names[i]), NULL, 10) << 10;
        }
        return size <= have ? 0 : -ENOMEM;
}

int memfd_release(int fd, size_t offset, size_t size)
{
        KEEP_ERRNO;
        if (size == 0)
                return 0;
        while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

int memfd_check(int fd, size_t *ret_size)
{
        KEEP_ERRNO;
        struct stat status;
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0)
                return errno == EBADF ? -EBADF : -EINVAL;
        if (fstat(fd, &status) < 0)
                return -errno;
        if (!S_ISREG(status.st_mode) || status.st_size < 0)
                return -EINVAL;
        if (!(seals & F_SEAL_SHRINK))
                return -EPERM;
        *ret_size = (size_t)status.st_size;
        return 0;
}

int memory_map(int fd, size_t size, void **ret_memory)
{
        KEEP_ERRNO;
        int flags = MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

        if (memory == MAP_FAILED)
                return -errno;
        *ret_memory = memory;
        return 0;
}

int memory_reserve(size_t size, void **ret_memory)
{
        KEEP_ERRNO;
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (memory == MAP_FAILED)
                return -errno;
        madvise(memory, size, MADV_NOHUGEPAGE);
        *ret_memory = memory;
        return 0;
}

void memory_unmap(void *memory, size_t size)
{
        KEEP_ERRNO;
        munmap(memory, size);
}

CHILD_CODE void memory_leave(void *memory, size_t size)
{
        kernel_call(SYS_munmap, memory, size);
}

size_t memory_page_size(void)
{
        return (size_t)sysconf(_SC_PAGESIZE);
}
