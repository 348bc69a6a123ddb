/* SPDX-License-Identifier: MIT */
#include "os/fence.h"
#include "os/errno.h"

#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From <linux/membarrier.h>, which not every libc sees; both since Linux 4.16. */
enum { GLOBAL_EXPEDITED = 1 << 1, REGISTER_GLOBAL_EXPEDITED = 1 << 2 };

bool fence_register(void)
{
        KEEP_ERRNO;
        return syscall(SYS_membarrier, REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool fence_everybody(void)
{
        KEEP_ERRNO;
        atomic_thread_fence(memory_order_seq_cst);
        return syscall(SYS_membarrier, GLOBAL_EXPEDITED, 0, 0) == 0;
}
