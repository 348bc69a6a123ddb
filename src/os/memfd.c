/* SPDX-License-Identifier: MIT */
#include "os/memfd.h"
#include "os/errno.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif

int memfd_new(const char *name, size_t size, size_t commit)
{
        KEEP_ERRNO;
        int r;

        /* Some systems refuse memory that might be executed (vm.memfd_noexec, 6.3); older ones do not know the flag. */
        int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
        if (fd < 0 && errno == EINVAL)
                fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
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

int memfd_commit(int fd, size_t offset, size_t size)
{
        KEEP_ERRNO;
        if (size == 0)
                return 0;
        while (fallocate(fd, 0, (off_t)offset, (off_t)size) < 0)
                if (errno != EINTR)
                        return errno == ENOSPC ? -ENOMEM : -errno;
        return 0;
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

void memory_unmap(void *memory, size_t size)
{
        KEEP_ERRNO;
        munmap(memory, size);
}

size_t memory_page_size(void)
{
        return (size_t)sysconf(_SC_PAGESIZE);
}
