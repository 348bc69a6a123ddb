/* SPDX-License-Identifier: MIT */
#include "os/fence.h"
#include "os/syscall.h"

#include <stdatomic.h>

/* From <linux/membarrier.h>, which not every libc sees; both since Linux 4.16. */
enum { GLOBAL_EXPEDITED = 1 << 1, REGISTER_GLOBAL_EXPEDITED = 1 << 2 };

bool fence_register(void)
{
        return kernel_call(SYS_membarrier, REGISTER_GLOBAL_EXPEDITED) == 0;
}

bool fence_everybody(void)
{
        atomic_thread_fence(memory_order_seq_cst);
        return kernel_call(SYS_membarrier, GLOBAL_EXPEDITED) == 0;
}
